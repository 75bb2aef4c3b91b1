//! What can be registered with a ring for its operations: buffers, files, provided buffers.

use crate::prelude::*;
use crate::uring::*;

tests![
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
];

const READ_FIXED: u8 = 4;
const WRITE_FIXED: u8 = 5;
const FILES_UPDATE: u8 = 20;
const REMOVE: u8 = 32;
const READ_MULTISHOT: u8 = 49;
const FD_INSTALL: u8 = 54;
const REGISTER_BUFFERS: u32 = 0;
const UNREGISTER_BUFFERS: u32 = 1;
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
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_at(0, &mut buffer, 0) })?, 7);
    check_eq!(&buffer, b"content");
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_at(1, &mut buffer, 0) })?, -EBADF);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_at(2, &mut buffer, 0) })?, -EBADF);
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
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_at(0, &mut buffer, 0) })?, 3);
    check_eq!(&buffer, b"bbb");
    // Skip the first, remove the second.
    let change = [-2_i32, -1];
    let update = [0, addr(&change) as u64, 0, 2];
    check_eq!(register(ring.fd, 14, addr(&update), 32)?, 2);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_at(1, &mut buffer, 0) })?, -EBADF);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_at(0, &mut buffer, 0) })?, 3);
    // As an operation.
    check_eq!(ring.res(sqe(FILES_UPDATE, -1, addr(&a), 1, 1))?, 1);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_at(1, &mut buffer, 0) })?, 3);
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
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_at(1, &mut buffer, 0) })?, 6);
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
    ring.push(Sqe { flags: LINK | FIXED, ..tagged(2, read_at(0, &mut buffer, 0)) });
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
