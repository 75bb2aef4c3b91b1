//! The operations of `io_uring(7)`, and what can be registered for them.

use crate::prelude::*;
use crate::uring::*;

tests![
    read_and_write,
    vectors,
    current_position,
    reads_wait_for_pipes,
    nonblocking_pipes,
    append_and_flags,
    fixed_buffers,
    buffer_updates,
    buffer_limits,
    cloned_buffers,
    fixed_files,
    file_updates_and_tags,
    file_slots_are_allocated,
    direct_descriptors,
    install_fixed_file,
    provided_buffers,
    buffer_rings,
    mapped_buffer_ring,
    multishot_reads,
    sync_and_space,
    advice,
    opening,
    names,
    status,
    xattrs,
    splices,
    epolls,
    futex_wait_and_wake,
    futex_vectors,
    children,
    socket_transfers,
    socket_messages,
    socket_multishot,
    socket_connections,
    zero_copy_is_refused,
    accounts_of_workers,
];

const READV: u8 = 1;
const WRITEV: u8 = 2;
const FSYNC: u8 = 3;
const READ_FIXED: u8 = 4;
const WRITE_FIXED: u8 = 5;
const SYNC_FILE_RANGE: u8 = 8;
const SENDMSG: u8 = 9;
const RECVMSG: u8 = 10;
const ACCEPT: u8 = 13;
const CONNECT: u8 = 16;
const FALLOCATE: u8 = 17;
const OPENAT: u8 = 18;
const CLOSE: u8 = 19;
const FILES_UPDATE: u8 = 20;
const STATX: u8 = 21;
const READ: u8 = 22;
const WRITE: u8 = 23;
const FADVISE: u8 = 24;
const MADVISE: u8 = 25;
const SEND: u8 = 26;
const RECV: u8 = 27;
const OPENAT2: u8 = 28;
const EPOLL_CTL: u8 = 29;
const SPLICE: u8 = 30;
const PROVIDE: u8 = 31;
const REMOVE: u8 = 32;
const TEE: u8 = 33;
const SHUTDOWN: u8 = 34;
const RENAMEAT: u8 = 35;
const UNLINKAT: u8 = 36;
const MKDIRAT: u8 = 37;
const SYMLINKAT: u8 = 38;
const LINKAT: u8 = 39;
const FSETXATTR: u8 = 41;
const SETXATTR: u8 = 42;
const FGETXATTR: u8 = 43;
const GETXATTR: u8 = 44;
const SOCKET: u8 = 45;
const SEND_ZC: u8 = 47;
const READ_MULTISHOT: u8 = 49;
const WAITID: u8 = 50;
const FUTEX_WAIT: u8 = 51;
const FUTEX_WAKE: u8 = 52;
const FUTEX_WAITV: u8 = 53;
const FD_INSTALL: u8 = 54;
const FTRUNCATE: u8 = 55;
const BIND: u8 = 56;
const LISTEN: u8 = 57;

const POS: u64 = u64::MAX;

fn read(fd: i32, buffer: &mut [u8], off: u64) -> Sqe {
    sqe(READ, fd, buffer.as_mut_ptr() as usize, buffer.len(), off)
}

fn write_at(fd: i32, data: &[u8], off: u64) -> Sqe {
    sqe(WRITE, fd, data.as_ptr() as usize, data.len(), off)
}

fn tagged(user_data: u64, entry: Sqe) -> Sqe {
    Sqe { user_data, ..entry }
}

fn read_and_write() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"")?;
    check_eq!(ring.res(write_at(fd, b"hello world", 0))?, 11);
    let mut buffer = [0; 5];
    check_eq!(ring.res(read(fd, &mut buffer, 6))?, 5);
    check_eq!(&buffer, b"world");
    check_eq!(ring.res(read(fd, &mut buffer, 9))?, 2);
    check_eq!(ring.res(read(fd, &mut buffer, 100))?, 0);
    check_eq!(ring.res(Sqe { flags: ASYNC, ..read(fd, &mut buffer, 0) })?, 5);
    check_eq!(&buffer, b"hello");
    let only = open(c"f", O_RDONLY, 0)?;
    check_eq!(ring.res(write_at(only, b"x", 0))?, -EBADF);
    let only = open(c"f", O_WRONLY, 0)?;
    check_eq!(ring.res(read(only, &mut buffer, 0))?, -EBADF);
    check_eq!(ring.res(sqe(READ, fd, 16, 5, 0))?, -EFAULT);
    check_eq!(ring.res(sqe(READ, fd, usize::MAX - 4095, 5, 0))?, -EFAULT);
    let path = open(c"f", O_PATH, 0)?;
    check_eq!(ring.res(read(path, &mut buffer, 0))?, -EBADF);
    let dir = open(c".", O_RDONLY, 0)?;
    check_eq!(ring.res(read(dir, &mut buffer, 0))?, -EISDIR);
    Ok(())
}

fn iov(parts: &[(usize, usize)]) -> Vec<[usize; 2]> {
    parts.iter().map(|(at, len)| [*at, *len]).collect()
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
        check_eq!(ring.res(read(fd, &mut buffer, POS))?, 3);
        check_eq!(&buffer, expected);
    }
    check_eq!(seek(fd, 0, SEEK_CUR)?, 6);
    check_eq!(ring.res(read(fd, &mut buffer, 0))?, 3);
    check_eq!(seek(fd, 0, SEEK_CUR)?, 6);
    check_eq!(ring.res(write_at(fd, b"xy", POS))?, 2);
    check_eq!(seek(fd, 0, SEEK_CUR)?, 8);
    check_eq!(ring.res(read(fd, &mut buffer, POS - 1))?, -EINVAL);
    Ok(())
}

fn reads_wait_for_pipes() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffers = [[0_u8; 2]; 3];
    for (i, buffer) in buffers.iter_mut().enumerate() {
        ring.push(tagged(i as u64, read(ends[0], buffer, POS)));
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
    ring.push(read(ends[0], &mut buffer, POS));
    ring.submit()?;
    close(ends[1])?;
    check_eq!(ring.wait()?.res, 0);
    Ok(())
}

fn nonblocking_pipes() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(O_NONBLOCK)?;
    let mut buffer = [0; 4];
    ring.push(read(ends[0], &mut buffer, POS));
    ring.submit()?;
    sleep_ms(10);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"abcd")?;
    check_eq!(ring.wait()?.res, 4);
    // The transfer's own flag does not wait.
    const RWF_NOWAIT: u32 = 8;
    check_eq!(ring.res(Sqe { op_flags: RWF_NOWAIT, ..read(ends[0], &mut buffer, POS) })?, -EAGAIN);
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

const REGISTER_BUFFERS: u32 = 0;
const UNREGISTER_BUFFERS: u32 = 1;
const REGISTER_FILES: u32 = 2;
const UNREGISTER_FILES: u32 = 3;
const FILES_UPDATE_OLD: u32 = 6;

fn fixed_buffers() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"0123456789")?;
    let memory = map_anon(16384)?;
    let list = iov(&[(memory, 8192), (memory + 10000, 100)]);
    let fixed = |op, at: usize, len, index| Sqe { buf_index: index, ..sqe(op, fd, at, len, 0) };
    check_eq!(ring.res(fixed(READ_FIXED, memory, 10, 0))?, -EFAULT);
    check_err!(register(ring.fd, UNREGISTER_BUFFERS, 0, 0), ENXIO);
    check_eq!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 2)?, 0);
    check_err!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 2), EBUSY);
    check_eq!(ring.res(fixed(READ_FIXED, memory + 4090, 10, 0))?, 10);
    check_eq!((peek(memory + 4090), peek(memory + 4099)), (b'0', b'9'));
    check_eq!(ring.res(fixed(READ_FIXED, memory + 10002, 5, 1))?, 5);
    check_eq!(peek(memory + 10006), b'4');
    poke(memory + 1, b'X');
    check_eq!(ring.res(fixed(WRITE_FIXED, memory + 1, 1, 0))?, 1);
    check_eq!(slurp(c"f")?, "X123456789");
    // Outside of the buffer; no such buffer.
    check_eq!(ring.res(fixed(READ_FIXED, memory + 8190, 10, 0))?, -EFAULT);
    check_eq!(ring.res(fixed(READ_FIXED, memory + 9000, 10, 1))?, -EFAULT);
    check_eq!(ring.res(fixed(READ_FIXED, memory, 10, 2))?, -EFAULT);
    // The pages stay although the mapping goes.
    munmap(memory, 8192)?;
    check_eq!(ring.res(fixed(READ_FIXED, memory, 10, 0))?, 10);
    // A pipe, which waits.
    let ends = pipe(0)?;
    ring.push(Sqe { fd: ends[0], ..fixed(READ_FIXED, memory + 10000, 4, 1) });
    ring.submit()?;
    write(ends[1], b"pipe")?;
    check_eq!(ring.wait()?.res, 4);
    check_eq!(peek(memory + 10000), b'p');
    check_eq!(register(ring.fd, UNREGISTER_BUFFERS, 0, 0)?, 0);
    check_err!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 0), EINVAL);
    check_err!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1 << 15), EINVAL);
    check_err!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1), EFAULT);
    let constant = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)?;
    let list = iov(&[(constant, 100)]);
    check_err!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1), EFAULT);
    Ok(())
}

fn buffer_updates() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"0123456789")?;
    let memory = map_anon(8192)?;
    // Three empty slots.
    let sparse = [3 | 1_u64 << 32, 0, 0, 0];
    check_eq!(register(ring.fd, 15, addr(&sparse), 32)?, 0);
    let fixed = |index| Sqe { buf_index: index, ..sqe(READ_FIXED, fd, memory, 4, 0) };
    check_eq!(ring.res(fixed(1))?, -EFAULT);
    let list = iov(&[(memory, 4096)]);
    let tag = 0x77_u64;
    let update = [1, list.as_ptr() as u64, addr(&tag) as u64, 1];
    check_eq!(register(ring.fd, 16, addr(&update), 32)?, 1);
    check_eq!(ring.res(fixed(1))?, 4);
    // The tag comes back when the buffer is not used any more.
    let none = iov(&[(0, 0)]);
    let update = [1, none.as_ptr() as u64, 0, 1];
    check_eq!(register(ring.fd, 16, addr(&update), 32)?, 1);
    check_eq!(ring.wait()?, Cqe { user_data: 0x77, res: 0, flags: 0 });
    check_eq!(ring.res(fixed(1))?, -EFAULT);
    let update = [3, none.as_ptr() as u64, 0, 1];
    check_err!(register(ring.fd, 16, addr(&update), 32), EINVAL);
    check_err!(register(ring.fd, 16, addr(&update), 16), EINVAL);
    check_err!(register(ring.fd, 15, addr(&sparse), 24), EINVAL);
    Ok(())
}

fn buffer_limits() -> Outcome {
    let ring = Ring::new(8, 0)?;
    let memory = map_anon(1 << 20)?;
    let limit = [65536_u64, 65536];
    sys!(SYS_prlimit64, 0, RLIMIT_MEMLOCK, addr(&limit), 0)?;
    let list = iov(&[(memory, 1 << 20)]);
    // The administrator is not limited.
    check_eq!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1)?, 0);
    check_eq!(register(ring.fd, UNREGISTER_BUFFERS, 0, 0)?, 0);
    sys!(SYS_setresuid, 1000, 1000, 1000)?;
    let ring = Ring::new(8, 0)?;
    check_err!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1), ENOMEM);
    let list = iov(&[(memory, 40960)]);
    check_eq!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1)?, 0);
    let second = Ring::new(8, 0)?;
    check_err!(register(second.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1), ENOMEM);
    check_eq!(register(ring.fd, UNREGISTER_BUFFERS, 0, 0)?, 0);
    check!(eventually(|| register(second.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1).is_ok()));
    Ok(())
}

fn cloned_buffers() -> Outcome {
    let (ring, mut copy) = (Ring::new(8, 0)?, Ring::new(8, 0)?);
    let fd = create(c"f", b"0123456789")?;
    let memory = map_anon(4096)?;
    let list = iov(&[(memory, 4096)]);
    let request = [ring.fd as u32, 0, 0, 0, 0, 0, 0, 0];
    check_err!(register(copy.fd, 30, addr(&request), 1), ENXIO);
    check_eq!(register(ring.fd, REGISTER_BUFFERS, list.as_ptr() as usize, 1)?, 0);
    check_eq!(register(copy.fd, 30, addr(&request), 1)?, 0);
    check_err!(register(copy.fd, 30, addr(&request), 1), EBUSY);
    drop(ring);
    check_eq!(copy.res(Sqe { buf_index: 0, ..sqe(READ_FIXED, fd, memory, 4, 0) })?, 4);
    Ok(())
}

fn fixed_files() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"content")?;
    let mut buffer = [0; 7];
    check_err!(register(ring.fd, UNREGISTER_FILES, 0, 0), ENXIO);
    check_err!(register(ring.fd, REGISTER_FILES, addr(&9999), 1), EBADF);
    check_err!(register(ring.fd, REGISTER_FILES, addr(&ring.fd), 1), EBADF);
    check_err!(register(ring.fd, REGISTER_FILES, addr(&fd), 0), EINVAL);
    check_err!(register(ring.fd, REGISTER_FILES, 0, 1), EFAULT);
    let fds = [fd, -1];
    check_eq!(register(ring.fd, REGISTER_FILES, addr(&fds), 2)?, 0);
    check_err!(register(ring.fd, REGISTER_FILES, addr(&fds), 2), EBUSY);
    close(fd)?;
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(0, &mut buffer, 0) })?, 7);
    check_eq!(&buffer, b"content");
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(1, &mut buffer, 0) })?, -EBADF);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(2, &mut buffer, 0) })?, -EBADF);
    check_eq!(register(ring.fd, UNREGISTER_FILES, 0, 0)?, 0);
    Ok(())
}

fn file_updates_and_tags() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let (a, b) = (create(c"a", b"aaa")?, create(c"b", b"bbb")?);
    let mut buffer = [0; 3];
    check_err!(register(ring.fd, FILES_UPDATE_OLD, addr(&[0_u64, addr(&a) as u64]), 1), ENXIO);
    let (fds, tags) = ([a, b], [0x11_u64, 0]);
    let reg = [2_u64, 0, addr(&fds) as u64, addr(&tags) as u64];
    check_eq!(register(ring.fd, 13, addr(&reg), 32)?, 0);
    // Out of range, and of nothing.
    check_err!(register(ring.fd, FILES_UPDATE_OLD, addr(&[2_u64, addr(&b) as u64]), 1), EINVAL);
    check_err!(register(ring.fd, FILES_UPDATE_OLD, addr(&[0_u64, addr(&b) as u64]), 0), EINVAL);
    check_eq!(register(ring.fd, FILES_UPDATE_OLD, addr(&[0_u64, addr(&b) as u64]), 1)?, 1);
    check_eq!(ring.wait()?, Cqe { user_data: 0x11, res: 0, flags: 0 });
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(0, &mut buffer, 0) })?, 3);
    check_eq!(&buffer, b"bbb");
    // Skip the first, remove the second.
    let change = [-2_i32, -1];
    let update = [0, addr(&change) as u64, 0, 2];
    check_eq!(register(ring.fd, 14, addr(&update), 32)?, 2);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(1, &mut buffer, 0) })?, -EBADF);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(0, &mut buffer, 0) })?, 3);
    // As an operation.
    check_eq!(ring.res(sqe(FILES_UPDATE, -1, addr(&a), 1, 1))?, 1);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(1, &mut buffer, 0) })?, 3);
    check_eq!(&buffer, b"aaa");
    check_eq!(ring.res(sqe(FILES_UPDATE, -1, addr(&a), 0, 1))?, -EINVAL);
    Ok(())
}

fn file_slots_are_allocated() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let sparse = [4 | 1_u64 << 32, 0, 0, 0];
    check_eq!(register(ring.fd, 13, addr(&sparse), 32)?, 0);
    let fd = create(c"f", b"x")?;
    let mut fds = [fd, fd];
    check_eq!(ring.res(sqe(FILES_UPDATE, -1, addr_mut(&mut fds), 2, u64::from(u32::MAX)))?, 2);
    check_eq!(fds, [0, 1]);
    let range = [3 | 1_u64 << 32, 0];
    check_eq!(register(ring.fd, 25, addr(&range), 0)?, 0);
    let mut one = [fd];
    check_eq!(ring.res(sqe(FILES_UPDATE, -1, addr_mut(&mut one), 1, u64::from(u32::MAX)))?, 1);
    check_eq!(one, [3]);
    let mut one = [fd];
    check_eq!(ring.res(sqe(FILES_UPDATE, -1, addr_mut(&mut one), 1, u64::from(u32::MAX)))?, -ENFILE);
    check_err!(register(ring.fd, 25, addr(&[3 | 2_u64 << 32, 0]), 0), EINVAL);
    Ok(())
}

fn direct_descriptors() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    close(create(c"f", b"direct")?)?;
    let openat = |slot: u32| Sqe { file_index: slot, ..sqe(OPENAT, CWD, c"f".as_ptr() as usize, 0, 0) };
    check_eq!(ring.res(openat(1))?, -ENXIO);
    let sparse = [2 | 1_u64 << 32, 0, 0, 0];
    check_eq!(register(ring.fd, 13, addr(&sparse), 32)?, 0);
    check_eq!(ring.res(openat(2))?, 0);
    let mut buffer = [0; 6];
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(1, &mut buffer, 0) })?, 6);
    check_eq!(&buffer, b"direct");
    check_eq!(ring.res(openat(u32::MAX))?, 0);
    check_eq!(ring.res(openat(u32::MAX))?, -ENFILE);
    check_eq!(ring.res(openat(3))?, -EINVAL);
    check_eq!(ring.res(Sqe { op_flags: O_CLOEXEC as u32, ..openat(1) })?, -EINVAL);
    // Opened by the request before it in the chain.
    let closing = |slot: u32| Sqe { file_index: slot, ..sqe(CLOSE, 0, 0, 0, 0) };
    check_eq!(ring.res(closing(1))?, 0);
    check_eq!(ring.res(closing(1))?, -EBADF);
    check_eq!(ring.res(closing(9))?, -EINVAL);
    ring.push(Sqe { flags: LINK, ..tagged(1, openat(1)) });
    ring.push(Sqe { flags: LINK | FIXED, ..tagged(2, read(0, &mut buffer, 0)) });
    ring.push(tagged(3, closing(1)));
    ring.submit_wait(3)?;
    check_eq!(ring.collect(3)?.iter().map(|c| c.res).collect::<Vec<_>>(), [0, 6, 0]);
    Ok(())
}

fn install_fixed_file() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let fd = create(c"f", b"installed")?;
    check_eq!(register(ring.fd, REGISTER_FILES, addr(&fd), 1)?, 0);
    close(fd)?;
    let new = ring.res(Sqe { flags: FIXED, ..sqe(FD_INSTALL, 0, 0, 0, 0) })?;
    check!(new >= 0);
    check_eq!(fcntl(new, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(read_vec(new, 20)?, b"installed");
    let new = ring.res(Sqe { flags: FIXED, op_flags: 1, ..sqe(FD_INSTALL, 0, 0, 0, 0) })?;
    check_eq!(fcntl(new, F_GETFD, 0)?, 0);
    check_eq!(ring.res(sqe(FD_INSTALL, new, 0, 0, 0))?, -EBADF);
    check_eq!(ring.res(Sqe { flags: FIXED, op_flags: 2, ..sqe(FD_INSTALL, 0, 0, 0, 0) })?, -EINVAL);
    Ok(())
}

fn provide(at: usize, len: usize, count: i32, group: u16, bid: u64) -> Sqe {
    Sqe { buf_index: group, ..sqe(PROVIDE, count, at, len, bid) }
}

fn provided_buffers() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let memory = map_anon(4096)?;
    let ends = pipe(0)?;
    let select = |len| Sqe { flags: SELECT, buf_index: 7, ..sqe(READ, ends[0], 0, len, POS) };
    write(ends[1], b"abcdef")?;
    check_eq!(ring.res(select(2))?, -ENOBUFS);
    check_eq!(ring.res(provide(memory, 64, 3, 7, 10))?, 0);
    let first = ring.run(select(2))?;
    check_eq!((first.res, first.flags), (2, 1 | 10 << 16));
    check_eq!(peek(memory), b'a');
    let second = ring.run(select(2))?;
    check_eq!((second.res, second.flags), (2, 1 | 11 << 16));
    check_eq!(peek(memory + 64), b'c');
    // A buffer that was not used is still there.
    read_vec(ends[0], 10)?;
    ring.push(select(8));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    write(ends[1], b"wait")?;
    let third = ring.wait()?;
    check_eq!((third.res, third.flags), (4, 1 | 12 << 16));
    check_eq!(ring.res(provide(memory, 64, 3, 8, 0))?, 0);
    let remove = |count, group| Sqe { buf_index: group, ..sqe(REMOVE, count, 0, 0, 0) };
    check_eq!(ring.res(remove(2, 8))?, 2);
    check_eq!(ring.res(remove(5, 8))?, 1);
    check_eq!(ring.res(remove(1, 99))?, -ENOENT);
    check_eq!(ring.res(remove(0, 8))?, -EINVAL);
    check_eq!(ring.res(provide(memory, 64, 0, 8, 0))?, -E2BIG);
    check_eq!(ring.res(provide(memory, 64, 1, 8, 1 << 16))?, -E2BIG);
    check_eq!(ring.res(provide(usize::MAX - 100, 64, 3, 8, 0))?, -EOVERFLOW);
    Ok(())
}

/// Adds a buffer to a ring of buffers.
fn add(at: usize, mask: u16, tail: &mut u16, buf: (usize, u32, u16)) {
    let entry = at + 16 * usize::from(*tail & mask);
    for (i, byte) in (buf.0 as u64).to_ne_bytes().iter().enumerate() {
        poke(entry + i, *byte);
    }
    for (i, byte) in buf.1.to_ne_bytes().iter().enumerate() {
        poke(entry + 8 + i, *byte);
    }
    for (i, byte) in buf.2.to_ne_bytes().iter().enumerate() {
        poke(entry + 12 + i, *byte);
    }
    *tail = tail.wrapping_add(1);
    let [low, high] = tail.to_ne_bytes();
    poke(at + 14, low);
    poke(at + 15, high);
}

fn reg(at: usize, entries: u32, group: u16, flags: u16) -> [u64; 5] {
    [at as u64, u64::from(entries) | u64::from(group) << 32 | u64::from(flags) << 48, 0, 0, 0]
}

fn buffer_rings() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let (buffers, memory) = (map_anon(4096)?, map_anon(4096)?);
    let (good, mut tail) = (reg(buffers, 4, 3, 0), 0);
    check_eq!(register(ring.fd, 22, addr(&good), 1)?, 0);
    check_err!(register(ring.fd, 22, addr(&good), 1), EEXIST);
    check_err!(register(ring.fd, 22, addr(&reg(buffers, 3, 4, 0)), 1), EINVAL);
    check_err!(register(ring.fd, 22, addr(&reg(buffers + 8, 4, 4, 0)), 1), EINVAL);
    check_err!(register(ring.fd, 22, addr(&reg(buffers, 4, 4, 8)), 1), EINVAL);
    check_err!(register(ring.fd, 22, addr(&reg(0, 4, 4, 0)), 1), EFAULT);
    let ends = pipe(0)?;
    write(ends[1], b"0123456789")?;
    let select = |len| Sqe { flags: SELECT, buf_index: 3, ..sqe(READ, ends[0], 0, len, POS) };
    check_eq!(ring.res(select(2))?, -ENOBUFS);
    for bid in 0..4 {
        add(buffers, 3, &mut tail, (memory + 100 * usize::from(bid), 100, 20 + bid));
    }
    for bid in 0..4 {
        let cqe = ring.run(select(2))?;
        check_eq!((cqe.res, cqe.flags), (2, 1 | (20 + bid) << 16));
    }
    check_eq!(peek(memory + 300), b'6');
    check_eq!(ring.res(select(2))?, -ENOBUFS);
    let mut status = [3_u32, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check_eq!(register(ring.fd, 26, addr_mut(&mut status), 1)?, 0);
    check_eq!(status[1], 4);
    check_eq!(ring.res(provide(memory, 64, 1, 3, 0))?, -EINVAL);
    check_eq!(register(ring.fd, 23, addr(&reg(0, 0, 3, 0)), 1)?, 0);
    check_err!(register(ring.fd, 23, addr(&reg(0, 0, 3, 0)), 1), ENOENT);
    check_eq!(ring.res(select(2))?, -ENOBUFS);
    Ok(())
}

fn mapped_buffer_ring() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let memory = map_anon(4096)?;
    check_eq!(register(ring.fd, 22, addr(&reg(0, 8, 5, 1)), 1)?, 0);
    let offset = 0x8000_0000 | 5 << 16;
    let buffers = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, offset)?;
    check_err!(mmap(0, 4096, PROT_READ, MAP_SHARED, ring.fd, 0x8000_0000 | 6 << 16), ENOMEM);
    let mut tail = 0;
    add(buffers, 7, &mut tail, (memory, 100, 9));
    let ends = pipe(0)?;
    write(ends[1], b"mapped")?;
    let cqe = ring.run(Sqe { flags: SELECT, buf_index: 5, ..sqe(READ, ends[0], 0, 10, POS) })?;
    check_eq!((cqe.res, cqe.flags), (6, 1 | 9 << 16));
    // The mapping outlives the registration.
    check_eq!(register(ring.fd, 23, addr(&reg(0, 0, 5, 0)), 1)?, 0);
    check_eq!(peek(buffers + 14), 1);
    // Piece by piece.
    let buffers = map_anon(4096)?;
    check_eq!(register(ring.fd, 22, addr(&reg(buffers, 8, 6, 2)), 1)?, 0);
    let mut tail = 0;
    add(buffers, 7, &mut tail, (memory, 10, 4));
    write(ends[1], b"0123456789")?;
    let cqe = ring.run(Sqe { flags: SELECT, buf_index: 6, ..sqe(READ, ends[0], 0, 4, POS) })?;
    check_eq!((cqe.res, cqe.flags), (4, 1 | 16 | 4 << 16));
    let cqe = ring.run(Sqe { flags: SELECT, buf_index: 6, ..sqe(READ, ends[0], 0, 6, POS) })?;
    check_eq!((cqe.res, cqe.flags), (6, 1 | 4 << 16));
    check_eq!(peek(memory + 9), b'9');
    Ok(())
}

fn multishot_reads() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let memory = map_anon(4096)?;
    let ends = pipe(0)?;
    check_eq!(ring.res(provide(memory, 64, 4, 1, 0))?, 0);
    let shot = Sqe { flags: SELECT, buf_index: 1, ..sqe(READ_MULTISHOT, ends[0], 0, 0, POS) };
    check_eq!(ring.res(Sqe { flags: 0, ..shot })?, -EINVAL);
    let file = create(c"f", b"x")?;
    check_eq!(ring.res(Sqe { fd: file, ..shot })?, -EBADFD);
    ring.push(tagged(1, shot));
    ring.submit()?;
    for i in 0..3 {
        write(ends[1], b"abc")?;
        let cqe = ring.wait()?;
        check_eq!((cqe.user_data, cqe.res, cqe.flags), (1, 3, 3 | i << 16));
    }
    close(ends[1])?;
    let last = ring.wait()?;
    check_eq!((last.res, last.flags & 2), (0, 0));
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

const FUTEX2_U32: i32 = 2;
const FUTEX2_PRIVATE: i32 = 128;
/// `FUTEX_WAKE` of the ordinary call.
const WAKE_PRIVATE: i32 = 1 | 128;

fn futex_wait(at: usize, val: u64) -> Sqe {
    Sqe { addr3: u64::from(u32::MAX), ..sqe(FUTEX_WAIT, FUTEX2_U32 | FUTEX2_PRIVATE, at, 0, val) }
}

fn futex_wake(at: usize, count: u64) -> Sqe {
    Sqe { addr3: u64::from(u32::MAX), ..sqe(FUTEX_WAKE, FUTEX2_U32 | FUTEX2_PRIVATE, at, 0, count) }
}

fn futex_wait_and_wake() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let at = map_anon(4096)?;
    check_eq!(ring.res(futex_wait(at, 5))?, -EAGAIN);
    check_eq!(ring.res(futex_wake(at, 1))?, 0);
    for i in 1..=3 {
        ring.push(tagged(i, futex_wait(at, 0)));
    }
    check_eq!(ring.submit()?, 3);
    check_eq!(ring.ready(), 0);
    ring.push(tagged(9, futex_wake(at, 2)));
    ring.submit_wait(3)?;
    let woken = ring.collect(3)?;
    check_eq!(woken.iter().map(|c| (c.user_data, c.res)).collect::<Vec<_>>(), [(1, 0), (2, 0), (9, 2)]);
    // By the ordinary call.
    check_eq!(sys!(SYS_futex, at, WAKE_PRIVATE, 10, 0)?, 1);
    check_eq!(ring.wait()?.user_data, 3);
    ring.push(tagged(4, futex_wait(at, 0)));
    ring.push(Sqe { user_data: 5, ..sqe(14, -1, 4, 0, 0) });
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-ECANCELED, 1]);
    check_eq!(ring.res(futex_wake(at, 1))?, 0);
    check_eq!(ring.res(Sqe { addr3: 0, ..futex_wait(at, 0) })?, -EINVAL);
    check_eq!(ring.res(Sqe { fd: 64, ..futex_wait(at, 0) })?, -EINVAL);
    check_eq!(ring.res(Sqe { op_flags: 1, ..futex_wait(at, 0) })?, -EINVAL);
    check_eq!(ring.res(futex_wait(at + 1, 0))?, -EINVAL);
    check_eq!(ring.res(futex_wait(16, 0))?, -EFAULT);
    Ok(())
}

fn futex_vectors() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let at = map_anon(4096)?;
    let flags = (FUTEX2_U32 | FUTEX2_PRIVATE) as u64;
    let words = [[0, at as u64, flags], [0, at as u64 + 4, flags], [0, at as u64 + 8, flags]];
    ring.push(tagged(1, sqe(FUTEX_WAITV, 0, addr(&words), 3, 0)));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    check_eq!(sys!(SYS_futex, at + 4, WAKE_PRIVATE, 10, 0)?, 1);
    check_eq!(ring.wait()?.res, 1);
    // It is gone from the others.
    check_eq!(sys!(SYS_futex, at + 8, WAKE_PRIVATE, 10, 0)?, 0);
    let other = [[7, at as u64, flags]];
    check_eq!(ring.res(sqe(FUTEX_WAITV, 0, addr(&other), 1, 0))?, -EAGAIN);
    check_eq!(ring.res(sqe(FUTEX_WAITV, 0, addr(&other), 0, 0))?, -EINVAL);
    check_eq!(ring.res(sqe(FUTEX_WAITV, 0, addr(&other), 129, 0))?, -EINVAL);
    check_eq!(ring.res(sqe(FUTEX_WAITV, 0, 16, 1, 0))?, -EFAULT);
    Ok(())
}

fn waitid(pid: i32, info: usize, options: i32) -> Sqe {
    Sqe { file_index: options as u32, ..sqe(WAITID, pid, 0, P_PID as usize, info as u64) }
}

fn children() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let mut info = [0_i32; 32];
    check_eq!(ring.res(waitid(getpid(), addr_mut(&mut info), WEXITED))?, -ECHILD);
    let child = fork(|| 7)?;
    check_eq!(ring.res(waitid(child, addr_mut(&mut info), WEXITED))?, 0);
    check_eq!((info[0], info[2], info[4], info[6]), (SIGCHLD, CLD_EXITED, child, 7));
    let ends = pipe(0)?;
    let child = fork(|| {
        let _ = read_vec(ends[0], 1);
        3
    })?;
    check_eq!(ring.res(waitid(child, addr_mut(&mut info), WEXITED | WNOHANG))?, 0);
    ring.push(waitid(child, addr_mut(&mut info), WEXITED));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    write(ends[1], b"x")?;
    check_eq!(ring.wait()?.res, 0);
    check_eq!((info[2], info[4], info[6]), (CLD_EXITED, child, 3));
    check_err!(wait(child), ECHILD);
    check_eq!(ring.res(waitid(1, addr_mut(&mut info), 0))?, -EINVAL);
    Ok(())
}

fn pair(kind: i32) -> Result<[i32; 2], Errno> {
    let mut pair = [0_i32; 2];
    sys!(SYS_socketpair, AF_UNIX, kind, 0, addr_mut(&mut pair))?;
    Ok(pair)
}

fn socket_transfers() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let [a, b] = pair(SOCK_STREAM)?;
    let mut buffer = [0_u8; 8];
    let recv = sqe(RECV, b, addr_mut(&mut buffer), 8, 0);
    ring.push(tagged(1, recv));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    ring.push(tagged(2, sqe(SEND, a, b"hello".as_ptr() as usize, 5, 0)));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [5, 5]);
    check_eq!(&buffer[..5], b"hello");
    check_eq!(ring.res(Sqe { op_flags: MSG_DONTWAIT as u32, ..recv })?, -EAGAIN);
    // Polling first.
    ring.push(Sqe { ioprio: 1, ..recv });
    ring.submit()?;
    write(a, b"later")?;
    check_eq!(ring.wait()?.res, 5);
    let ends = pipe(0)?;
    check_eq!(ring.res(Sqe { fd: ends[0], ..recv })?, -ENOTSOCK);
    check_eq!(ring.res(Sqe { ioprio: 1 << 14, ..recv })?, -EINVAL);
    // The end is told without a signal.
    check_eq!(ring.res(sqe(SHUTDOWN, b, 0, SHUT_WR as usize, 0))?, 0);
    check_eq!(ring.res(sqe(RECV, a, addr_mut(&mut buffer), 8, 0))?, 0);
    close(b)?;
    check_eq!(ring.res(sqe(SEND, a, b"x".as_ptr() as usize, 1, 0))?, -EPIPE);
    check_eq!(ring.res(sqe(SHUTDOWN, a, 0, 9, 0))?, -EINVAL);
    Ok(())
}

fn socket_messages() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let [a, b] = pair(SOCK_DGRAM)?;
    let mut parts = iov(&[(b"one".as_ptr() as usize, 3), (b"two".as_ptr() as usize, 3)]);
    let mut message: msghdr = zeroed();
    message.msg_iov = parts.as_mut_ptr().cast();
    message.msg_iovlen = 2;
    check_eq!(ring.res(sqe(SENDMSG, a, addr(&message), 1, 0))?, 6);
    let mut buffer = [0_u8; 4];
    let mut parts = iov(&[(addr_mut(&mut buffer), 4)]);
    let mut message: msghdr = zeroed();
    message.msg_iov = parts.as_mut_ptr().cast();
    message.msg_iovlen = 1;
    check_eq!(ring.res(sqe(RECVMSG, b, addr_mut(&mut message), 1, 0))?, 4);
    check_eq!(&buffer, b"onet");
    check_eq!(message.msg_flags & MSG_TRUNC, MSG_TRUNC);
    ring.push(sqe(RECVMSG, b, addr_mut(&mut message), 1, 0));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    write(a, b"wake")?;
    check_eq!(ring.wait()?.res, 4);
    check_eq!(ring.res(sqe(RECVMSG, b, 16, 1, 0))?, -EFAULT);
    Ok(())
}

fn socket_multishot() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let memory = map_anon(4096)?;
    let [a, b] = pair(SOCK_DGRAM)?;
    check_eq!(ring.res(provide(memory, 256, 8, 1, 0))?, 0);
    let recv = Sqe { flags: SELECT, buf_index: 1, ioprio: 2, ..sqe(RECV, b, 0, 0, 0) };
    check_eq!(ring.res(Sqe { flags: 0, ..recv })?, -EINVAL);
    check_eq!(ring.res(Sqe { len: 5, ..recv })?, -EINVAL);
    ring.push(tagged(1, recv));
    ring.submit()?;
    for i in 0..3 {
        write(a, b"data")?;
        let cqe = ring.wait()?;
        check_eq!((cqe.user_data, cqe.res, cqe.flags & !4), (1, 4, 3 | i << 16));
    }
    ring.push(tagged(9, sqe(14, -1, 1, 0, 0)));
    ring.submit_wait(2)?;
    check_eq!(
        ring.collect(2)?.iter().map(|c| (c.res, c.flags & 2)).collect::<Vec<_>>(),
        [(-ECANCELED, 0), (0, 0)]
    );
    // With a header in the buffer.
    let mut message: msghdr = zeroed();
    message.msg_namelen = 8;
    let recvmsg = Sqe { flags: SELECT, buf_index: 1, ioprio: 2, ..sqe(RECVMSG, b, addr(&message), 1, 0) };
    ring.push(tagged(2, recvmsg));
    ring.submit()?;
    write(a, b"message")?;
    let cqe = ring.wait()?;
    check_eq!((cqe.user_data, cqe.res, cqe.flags & !4), (2, 16 + 8 + 7, 3 | 3 << 16));
    check_eq!((peek(memory + 3 * 256 + 8), peek(memory + 3 * 256 + 24)), (7, b'm'));
    Ok(())
}

fn socket_connections() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let mut name = [0_u8; 16];
    name[0] = AF_UNIX as u8;
    name[2..8].copy_from_slice(b"./sock");
    let socket = |kind: i32| sqe(SOCKET, AF_UNIX, 0, 0, kind as u64);
    let listener = ring.res(socket(SOCK_STREAM | SOCK_CLOEXEC))?;
    check!(listener >= 0);
    check_eq!(fcntl(listener, F_GETFD, 0)?, 1);
    check_eq!(ring.res(sqe(BIND, listener, addr(&name), 0, 9))?, 0);
    check_eq!(ring.res(sqe(LISTEN, listener, 0, 8, 0))?, 0);
    let accept = sqe(ACCEPT, listener, 0, 0, 0);
    ring.push(tagged(1, accept));
    ring.submit()?;
    check_eq!(ring.ready(), 0);
    let client = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)? as i32;
    let connect = sqe(CONNECT, client, addr(&name), 0, 9);
    ring.push(tagged(2, connect));
    ring.submit_wait(2)?;
    let both = ring.collect(2)?;
    check!(both[0].res >= 0);
    check_eq!(both[1].res, 0);
    write(client, b"hi")?;
    check_eq!(read_vec(both[0].res, 4)?, b"hi");
    check_eq!(ring.res(connect)?, -EISCONN);
    // Every connection, until it is cancelled.
    ring.push(tagged(3, Sqe { ioprio: 1, ..accept }));
    ring.submit()?;
    for _ in 0..2 {
        let client = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)? as i32;
        sys!(SYS_connect, client, addr(&name), 9)?;
        let cqe = ring.wait()?;
        check_eq!((cqe.user_data, cqe.flags), (3, 2));
        check!(cqe.res >= 0);
    }
    ring.push(tagged(9, sqe(14, -1, 3, 0, 0)));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?[0].res, -ECANCELED);
    check_eq!(ring.res(Sqe { ioprio: 2, ..accept })?, -EAGAIN);
    check_eq!(ring.res(Sqe { len: 1, ..accept })?, -EINVAL);
    check_eq!(ring.res(Sqe { op_flags: 1, ..accept })?, -EINVAL);
    check_eq!(ring.res(Sqe { addr: 16, ..connect })?, -EFAULT);
    check_eq!(ring.res(sqe(SOCKET, 99, 0, 0, SOCK_STREAM as u64))?, -EAFNOSUPPORT);
    Ok(())
}

fn zero_copy_is_refused() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let [a, _b] = pair(SOCK_STREAM)?;
    check_eq!(ring.res(sqe(SEND_ZC, a, b"x".as_ptr() as usize, 1, 0))?, -EOPNOTSUPP);
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
