//! The operations of `io_uring(7)` on files and names.

use crate::prelude::*;
use crate::uring::*;

tests![
    read_and_write,
    vectors,
    current_position,
    reads_wait_for_pipes,
    nonblocking_pipes,
    append_and_flags,
    sync_and_space,
    advice,
    opening,
    names,
    status,
    xattrs,
    splices,
    epolls,
    accounts_of_workers,
];

const READV: u8 = 1;
const WRITEV: u8 = 2;
const FSYNC: u8 = 3;
const SYNC_FILE_RANGE: u8 = 8;
const FALLOCATE: u8 = 17;
const STATX: u8 = 21;
const FADVISE: u8 = 24;
const MADVISE: u8 = 25;
const OPENAT2: u8 = 28;
const EPOLL_CTL: u8 = 29;
const SPLICE: u8 = 30;
const TEE: u8 = 33;
const RENAMEAT: u8 = 35;
const UNLINKAT: u8 = 36;
const MKDIRAT: u8 = 37;
const SYMLINKAT: u8 = 38;
const LINKAT: u8 = 39;
const FSETXATTR: u8 = 41;
const SETXATTR: u8 = 42;
const FGETXATTR: u8 = 43;
const GETXATTR: u8 = 44;
const FTRUNCATE: u8 = 55;

fn write_at(fd: i32, data: &[u8], off: u64) -> Sqe {
    sqe(WRITE, fd, data.as_ptr() as usize, data.len(), off)
}

fn read_and_write() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"")?;
    check_eq!(ring.res(write_at(fd, b"hello world", 0))?, 11);
    let mut buffer = [0; 5];
    check_eq!(ring.res(read_at(fd, &mut buffer, 6))?, 5);
    check_eq!(&buffer, b"world");
    check_eq!(ring.res(read_at(fd, &mut buffer, 9))?, 2);
    check_eq!(ring.res(read_at(fd, &mut buffer, 100))?, 0);
    check_eq!(ring.res(Sqe { flags: ASYNC, ..read_at(fd, &mut buffer, 0) })?, 5);
    check_eq!(&buffer, b"hello");
    let only = open(c"f", O_RDONLY, 0)?;
    check_eq!(ring.res(write_at(only, b"x", 0))?, -EBADF);
    let only = open(c"f", O_WRONLY, 0)?;
    check_eq!(ring.res(read_at(only, &mut buffer, 0))?, -EBADF);
    check_eq!(ring.res(sqe(READ, fd, 16, 5, 0))?, -EFAULT);
    check_eq!(ring.res(sqe(READ, fd, usize::MAX - 4095, 5, 0))?, -EFAULT);
    let path = open(c"f", O_PATH, 0)?;
    check_eq!(ring.res(read_at(path, &mut buffer, 0))?, -EBADF);
    let dir = open(c".", O_RDONLY, 0)?;
    check_eq!(ring.res(read_at(dir, &mut buffer, 0))?, -EISDIR);
    Ok(())
}

fn vectors() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"")?;
    let list = iov(&[(b"abc".as_ptr() as usize, 3), (b"defg".as_ptr() as usize, 4)]);
    check_eq!(ring.res(sqe(WRITEV, fd, list.as_ptr() as usize, 2, 0))?, 7);
    let (mut a, mut b) = ([0_u8; 2], [0_u8; 9]);
    let list = iov(&[(addr_mut(&mut a), 2), (addr_mut(&mut b), 9)]);
    check_eq!(ring.res(sqe(READV, fd, list.as_ptr() as usize, 2, 0))?, 7);
    check_eq!((&a, &b[..5]), (b"ab", &b"cdefg"[..]));
    check_eq!(ring.res(sqe(READV, fd, list.as_ptr() as usize, 1025, 0))?, -EINVAL);
    check_eq!(ring.res(sqe(READV, fd, 16, 2, 0))?, -EFAULT);
    let bad = iov(&[(addr_mut(&mut a), usize::MAX)]);
    check_eq!(ring.res(sqe(READV, fd, bad.as_ptr() as usize, 1, 0))?, -EINVAL);
    // The list may change once the submission was taken.
    let ends = pipe(0)?;
    let mut list = iov(&[(addr_mut(&mut a), 2)]);
    ring.push(sqe(READV, ends[0], list.as_ptr() as usize, 1, POS));
    ring.submit()?;
    list[0] = [0, 0];
    write(ends[1], b"zy")?;
    check_eq!(ring.wait()?.res, 2);
    check_eq!(&a, b"zy");
    Ok(())
}

fn current_position() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"0123456789")?;
    let mut buffer = [0; 3];
    for expected in [b"012", b"345"] {
        check_eq!(ring.res(read_at(fd, &mut buffer, POS))?, 3);
        check_eq!(&buffer, expected);
    }
    check_eq!(seek(fd, 0, SEEK_CUR)?, 6);
    check_eq!(ring.res(read_at(fd, &mut buffer, 0))?, 3);
    check_eq!(seek(fd, 0, SEEK_CUR)?, 6);
    check_eq!(ring.res(write_at(fd, b"xy", POS))?, 2);
    check_eq!(seek(fd, 0, SEEK_CUR)?, 8);
    check_eq!(ring.res(read_at(fd, &mut buffer, POS - 1))?, -EINVAL);
    Ok(())
}

fn reads_wait_for_pipes() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffers = [[0_u8; 2]; 3];
    for (i, buffer) in buffers.iter_mut().enumerate() {
        ring.push(tagged(i as u64, read_at(ends[0], buffer, POS)));
    }
    check_eq!(ring.submit()?, 3);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"aabbcc")?;
    check!(ring.collect(3)?.iter().all(|c| c.res == 2));
    let mut all = buffers.concat();
    all.sort_unstable();
    check_eq!(all, b"aabbcc");
    // A full pipe makes a writer wait.
    let block = vec![7_u8; 65536];
    check_eq!(ring.res(write_at(ends[1], &block, 0))?, 65536);
    ring.push(write_at(ends[1], b"last", 0));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    read_vec(ends[0], 65536)?;
    check_eq!(ring.wait()?.res, 4);
    // Nobody reads.
    c!(signal(SIGPIPE, SIG_IGN))?;
    close(ends[0])?;
    check_eq!(ring.res(write_at(ends[1], b"x", 0))?, -EPIPE);
    // The end.
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    ring.push(read_at(ends[0], &mut buffer, POS));
    ring.submit()?;
    close(ends[1])?;
    check_eq!(ring.wait()?.res, 0);
    Ok(())
}

fn nonblocking_pipes() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(O_NONBLOCK)?;
    let mut buffer = [0; 4];
    ring.push(read_at(ends[0], &mut buffer, POS));
    ring.submit()?;
    sleep_ms(10);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"abcd")?;
    check_eq!(ring.wait()?.res, 4);
    // The transfer's own flag does not wait.
    const RWF_NOWAIT: u32 = 8;
    check_eq!(ring.res(Sqe { op_flags: RWF_NOWAIT, ..read_at(ends[0], &mut buffer, POS) })?, -EAGAIN);
    Ok(())
}

fn append_and_flags() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"abc")?;
    const RWF_APPEND: u32 = 16;
    check_eq!(ring.res(Sqe { op_flags: RWF_APPEND, ..write_at(fd, b"def", 0) })?, 3);
    check_eq!(slurp(c"f")?, "abcdef");
    check_eq!(ring.res(Sqe { op_flags: 1 << 30, ..write_at(fd, b"def", 0) })?, -EOPNOTSUPP);
    // I/O priorities: idle is fine, there is no class 5.
    check_eq!(ring.res(Sqe { ioprio: 3 << 13, ..write_at(fd, b"A", 0) })?, 1);
    check_eq!(ring.res(Sqe { ioprio: 5 << 13, ..write_at(fd, b"A", 0) })?, -EINVAL);
    Ok(())
}

fn sync_and_space() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"0123456789")?;
    check_eq!(ring.res(sqe(FSYNC, fd, 0, 0, 0))?, 0);
    check_eq!(ring.res(Sqe { op_flags: 1, ..sqe(FSYNC, fd, 0, 5, 2) })?, 0);
    check_eq!(ring.res(Sqe { op_flags: 2, ..sqe(FSYNC, fd, 0, 0, 0) })?, -EINVAL);
    check_eq!(ring.res(sqe(FSYNC, fd, 8, 0, 0))?, -EINVAL);
    let ends = pipe(0)?;
    check_eq!(ring.res(sqe(FSYNC, ends[0], 0, 0, 0))?, -EINVAL);
    check_eq!(ring.res(Sqe { op_flags: 2, ..sqe(SYNC_FILE_RANGE, fd, 0, 5, 0) })?, 0);
    check_eq!(ring.res(Sqe { op_flags: 99, ..sqe(SYNC_FILE_RANGE, fd, 0, 5, 0) })?, -EINVAL);
    check_eq!(ring.res(sqe(FALLOCATE, fd, 100, 0, 0))?, 0);
    check_eq!(fstat(fd)?.st_size, 100);
    check_eq!(ring.res(sqe(FALLOCATE, fd, 0, 0, 0))?, -EINVAL);
    check_eq!(ring.res(sqe(FTRUNCATE, fd, 0, 0, 7))?, 0);
    check_eq!(slurp(c"f")?, "0123456");
    check_eq!(ring.res(sqe(FTRUNCATE, fd, 0, 0, u64::MAX))?, -EINVAL);
    check_eq!(ring.res(sqe(FTRUNCATE, fd, 1, 0, 7))?, -EINVAL);
    check_eq!(ring.res(sqe(FTRUNCATE, 9999, 0, 0, 7))?, -EBADF);
    Ok(())
}

fn advice() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"0123456789")?;
    check_eq!(ring.res(Sqe { op_flags: POSIX_FADV_WILLNEED as u32, ..sqe(FADVISE, fd, 0, 10, 0) })?, 0);
    check_eq!(ring.res(Sqe { op_flags: 99, ..sqe(FADVISE, fd, 0, 10, 0) })?, -EINVAL);
    let memory = map_anon(8192)?;
    poke(memory, 5);
    check_eq!(ring.res(Sqe { op_flags: MADV_DONTNEED as u32, ..sqe(MADVISE, -1, memory, 4096, 0) })?, 0);
    check_eq!(peek(memory), 0);
    check_eq!(ring.res(Sqe { op_flags: 9999, ..sqe(MADVISE, -1, memory, 4096, 0) })?, -EINVAL);
    check_eq!(ring.res(Sqe { op_flags: 4, ..sqe(MADVISE, -1, memory + 1, 4096, 0) })?, -EINVAL);
    Ok(())
}

fn opening() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let openat = |name: &std::ffi::CStr, flags: i32, mode: u32| Sqe {
        op_flags: flags as u32,
        ..sqe(OPENAT, CWD, name.as_ptr() as usize, mode as usize, 0)
    };
    let fd = ring.res(openat(c"new", O_CREAT | O_RDWR | O_CLOEXEC, 0o640))?;
    check!(fd >= 0);
    check_eq!(fcntl(fd, F_GETFD, 0)?, 1);
    check_eq!(fcntl(fd, F_GETFL, 0)? as i32 & (O_ACCMODE | O_NONBLOCK), O_RDWR);
    check_eq!(fstat(fd)?.st_mode & 0o777, 0o640);
    check_eq!(ring.res(openat(c"new", O_CREAT | O_EXCL, 0))?, -EEXIST);
    check_eq!(ring.res(openat(c"absent", O_RDONLY, 0))?, -ENOENT);
    let again = ring.res(openat(c"new", O_RDONLY, 0))?;
    check_eq!(fcntl(again, F_GETFL, 0)? as i32 & O_NONBLOCK, 0);
    let waits = ring.res(openat(c"new", O_RDONLY | O_NONBLOCK, 0))?;
    check_eq!(fcntl(waits, F_GETFL, 0)? as i32 & O_NONBLOCK, O_NONBLOCK);
    check_eq!(ring.res(Sqe { fd: 9999, ..openat(c"new", O_RDONLY, 0) })?, -EBADF);
    check_eq!(ring.res(Sqe { addr: 16, ..openat(c"new", O_RDONLY, 0) })?, -EFAULT);
    check_eq!(ring.res(Sqe { flags: FIXED, ..openat(c"new", O_RDONLY, 0) })?, -EBADF);
    let how = [O_RDONLY as u64, 0, 0];
    let openat2 = |how: &[u64; 3], size| sqe(OPENAT2, CWD, c"new".as_ptr() as usize, size, addr(how) as u64);
    check!(ring.res(openat2(&how, 24))? >= 0);
    check_eq!(ring.res(openat2(&how, 16))?, -EINVAL);
    check_eq!(ring.res(openat2(&[0, 0o777, 0], 24))?, -EINVAL);
    let close_it = |fd| sqe(CLOSE, fd, 0, 0, 0);
    check_eq!(ring.res(close_it(fd))?, 0);
    check_eq!(ring.res(close_it(fd))?, -EBADF);
    check_eq!(ring.res(close_it(ring.fd))?, -EBADF);
    check_eq!(ring.res(sqe(CLOSE, fd, 0, 1, 0))?, -EINVAL);
    // A FIFO is waited for by a worker.
    c!(mkfifo(c"fifo".as_ptr(), 0o600))?;
    ring.push(openat(c"fifo", O_RDONLY, 0));
    ring.submit()?;
    let writer = open(c"fifo", O_RDWR, 0)?;
    check!(ring.wait()?.res >= 0);
    close(writer)?;
    Ok(())
}

fn names() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let p = |name: &std::ffi::CStr| name.as_ptr() as usize;
    let cwd = CWD as u32 as usize;
    check_eq!(ring.res(sqe(MKDIRAT, CWD, p(c"d"), 0o750, 0))?, 0);
    check_eq!(stat(c"d")?.st_mode & 0o777, 0o750);
    check_eq!(ring.res(sqe(MKDIRAT, CWD, p(c"d"), 0o750, 0))?, -EEXIST);
    close(create(c"d/f", b"x")?)?;
    check_eq!(ring.res(sqe(RENAMEAT, CWD, p(c"d/f"), cwd, p(c"g") as u64))?, 0);
    check_eq!(ring.res(sqe(RENAMEAT, CWD, p(c"d/f"), cwd, p(c"g") as u64))?, -ENOENT);
    check_eq!(ring.res(sqe(LINKAT, CWD, p(c"g"), cwd, p(c"h") as u64))?, 0);
    check_eq!(stat(c"h")?.st_nlink, 2);
    check_eq!(
        ring.res(Sqe { op_flags: 1 << 10, ..sqe(RENAMEAT, CWD, p(c"g"), cwd, p(c"h") as u64) })?,
        -EINVAL
    );
    check_eq!(ring.res(sqe(SYMLINKAT, CWD, p(c"g"), 0, p(c"s") as u64))?, 0);
    check_eq!(slurp(c"s")?, "x");
    check_eq!(ring.res(sqe(UNLINKAT, CWD, p(c"h"), 0, 0))?, 0);
    check_eq!(ring.res(sqe(UNLINKAT, CWD, p(c"h"), 0, 0))?, -ENOENT);
    check_eq!(ring.res(sqe(UNLINKAT, CWD, p(c"d"), 0, 0))?, -EISDIR);
    check_eq!(ring.res(Sqe { op_flags: AT_REMOVEDIR as u32, ..sqe(UNLINKAT, CWD, p(c"d"), 0, 0) })?, 0);
    check_eq!(ring.res(Sqe { op_flags: 1, ..sqe(UNLINKAT, CWD, p(c"g"), 0, 0) })?, -EINVAL);
    check_eq!(ring.res(Sqe { flags: FIXED, ..sqe(UNLINKAT, CWD, p(c"g"), 0, 0) })?, -EBADF);
    check_eq!(ring.res(sqe(MKDIRAT, CWD, 16, 0o750, 0))?, -EFAULT);
    Ok(())
}

fn status() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"0123456789")?;
    let mut buffer = [0_u64; 32];
    let at = addr_mut(&mut buffer) as u64;
    check_eq!(ring.res(sqe(STATX, CWD, c"f".as_ptr() as usize, 0x7ff, at))?, 0);
    check_eq!(buffer[5], 10);
    let empty = Sqe { op_flags: AT_EMPTY_PATH as u32, ..sqe(STATX, fd, c"".as_ptr() as usize, 0x7ff, at) };
    check_eq!(ring.res(empty)?, 0);
    check_eq!(ring.res(sqe(STATX, CWD, c"absent".as_ptr() as usize, 0x7ff, at))?, -ENOENT);
    check_eq!(
        ring.res(Sqe { op_flags: 1 << 20, ..sqe(STATX, CWD, c"f".as_ptr() as usize, 0x7ff, at) })?,
        -EINVAL
    );
    check_eq!(ring.res(sqe(STATX, CWD, c"f".as_ptr() as usize, 0x7ff, 16))?, -EFAULT);
    Ok(())
}

fn xattrs() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"")?;
    let key = c"trusted.k".as_ptr() as usize;
    let value = *b"value";
    let set = sqe(FSETXATTR, fd, key, 5, addr(&value) as u64);
    check_eq!(ring.res(set)?, 0);
    check_eq!(ring.res(Sqe { op_flags: 1, ..set })?, -EEXIST);
    let mut back = [0_u8; 8];
    let get = sqe(FGETXATTR, fd, key, 8, addr_mut(&mut back) as u64);
    check_eq!(ring.res(get)?, 5);
    check_eq!(&back[..5], b"value");
    check_eq!(ring.res(Sqe { len: 0, ..get })?, 5);
    check_eq!(ring.res(Sqe { len: 2, ..get })?, -ERANGE);
    let path = c"f".as_ptr() as u64;
    check_eq!(ring.res(Sqe { addr3: path, opcode: SETXATTR, op_flags: 2, ..set })?, 0);
    check_eq!(ring.res(Sqe { addr3: path, opcode: GETXATTR, ..get })?, 5);
    check_eq!(ring.res(Sqe { addr3: c"absent".as_ptr() as u64, opcode: GETXATTR, ..get })?, -ENOENT);
    check_eq!(ring.res(Sqe { op_flags: 1, ..get })?, -EINVAL);
    check_eq!(ring.res(Sqe { op_flags: 8, ..set })?, -EINVAL);
    check_eq!(ring.res(Sqe { addr: c"trusted.none".as_ptr() as u64, ..get })?, -ENODATA);
    Ok(())
}

fn splices() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"0123456789")?;
    let (one, two) = (pipe(0)?, pipe(0)?);
    let splice = |from: i32, off_in: u64, to: i32, off_out: u64, len| Sqe {
        addr: off_in,
        file_index: from as u32,
        ..sqe(SPLICE, to, 0, len, off_out)
    };
    check_eq!(ring.res(splice(fd, 2, one[1], POS, 5))?, 5);
    check_eq!(ring.res(Sqe { file_index: one[0] as u32, ..sqe(TEE, two[1], 0, 3, 0) })?, 3);
    check_eq!(read_vec(two[0], 10)?, b"234");
    let to = create(c"to", b"0123456789")?;
    check_eq!(ring.res(splice(one[0], POS, to, 0, 5))?, 5);
    check_eq!(slurp(c"to")?, "2345656789");
    check_eq!(ring.res(splice(fd, 0, fd, 0, 5))?, -EINVAL);
    check_eq!(ring.res(splice(9999, POS, one[1], POS, 5))?, -EBADF);
    check_eq!(ring.res(Sqe { op_flags: 1 << 10, ..splice(fd, 0, one[1], POS, 5) })?, -EINVAL);
    check_eq!(register(ring.fd, REGISTER_FILES, addr(&fd), 1)?, 0);
    check_eq!(ring.res(Sqe { op_flags: 1 << 31, ..splice(0, 0, one[1], POS, 5) })?, 5);
    Ok(())
}

fn epolls() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let epoll = sys!(SYS_epoll_create1, 0)? as i32;
    let ends = pipe(0)?;
    let mut event = epoll_event { events: EPOLLIN as u32, u64: 42 };
    let ctl = |op: i32, at: usize| sqe(EPOLL_CTL, epoll, at, op as usize, ends[0] as u64);
    check_eq!(ring.res(ctl(EPOLL_CTL_ADD, addr(&event)))?, 0);
    check_eq!(ring.res(ctl(EPOLL_CTL_ADD, addr(&event)))?, -EEXIST);
    write(ends[1], b"x")?;
    event.u64 = 0;
    check_eq!(sys!(SYS_epoll_pwait, epoll, addr_mut(&mut event), 1, 0, 0, 0)?, 1);
    check_eq!({ event.u64 }, 42);
    check_eq!(ring.res(ctl(EPOLL_CTL_DEL, 0))?, 0);
    check_eq!(ring.res(ctl(EPOLL_CTL_DEL, 0))?, -ENOENT);
    check_eq!(ring.res(ctl(EPOLL_CTL_ADD, 16))?, -EFAULT);
    Ok(())
}

fn accounts_of_workers() -> Outcome {
    // Workers are not waited for, and do not keep the process from being alone.
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"x")?;
    check_eq!(ring.res(sqe(FSYNC, fd, 0, 0, 0))?, 0);
    check_eq!(in_child(|| 0)?, 0);
    check_err!(wait_options(-1, WNOHANG), ECHILD);
    Ok(())
}
