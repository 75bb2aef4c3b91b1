//! io_uring_register(2) for the ring itself, its threads, and what becomes of requests at exit.

use crate::prelude::*;
use crate::uring::*;

tests![
    eventfds,
    probe_knows_operations,
    personalities,
    restrictions,
    disabled_rings,
    single_issuer,
    deferred_work,
    taskrun_flag,
    sqpoll,
    registered_rings,
    messages_between_rings,
    sysctl_disables,
    fdinfo_shows,
    exit_with_requests,
    exec_with_requests,
    fork_leaves_requests_to_the_parent,
    close_cancels,
    workers_are_limited,
];

const MSG_RING: u8 = 40;
const R_DISABLED: u32 = 64;
const SINGLE_ISSUER: u32 = 1 << 12;

fn eventfds() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let event = sys!(SYS_eventfd2, 0, EFD_NONBLOCK)? as i32;
    let ends = pipe(0)?;
    check_err!(register(ring.fd, 5, 0, 0), ENXIO);
    check_err!(register(ring.fd, 4, addr(&ends[0]), 1), EINVAL);
    check_err!(register(ring.fd, 4, addr(&9999), 1), EBADF);
    check_eq!(register(ring.fd, 4, addr(&event), 1)?, 0);
    check_err!(register(ring.fd, 4, addr(&event), 1), EBUSY);
    check_eq!(ring.res(nop(1))?, 0);
    check_eq!(read_vec(event, 8)?.len(), 8);
    ring.set_cq_flags(1);
    check_eq!(ring.res(nop(1))?, 0);
    check_err!(read_vec(event, 8), EAGAIN);
    ring.set_cq_flags(0);
    check_eq!(register(ring.fd, 5, 0, 0)?, 0);
    check_eq!(ring.res(nop(1))?, 0);
    check_err!(read_vec(event, 8), EAGAIN);
    // Only completions of workers.
    check_eq!(register(ring.fd, 7, addr(&event), 1)?, 0);
    check_eq!(ring.res(nop(1))?, 0);
    check_err!(read_vec(event, 8), EAGAIN);
    let fd = create(c"synced", b"x")?;
    check_eq!(ring.res(sqe(3, fd, 0, 0, 0))?, 0);
    check!(eventually(|| read_vec(event, 8).is_ok()));
    Ok(())
}

fn probe_knows_operations() -> Outcome {
    let ring = Ring::new(8, 0)?;
    let mut probe = [0_u64; 2 + 256];
    check_eq!(register(ring.fd, 8, addr_mut(&mut probe), 256)?, 0);
    let last = (probe[0] & 0xff) as usize;
    check!(last >= 57);
    check_eq!(probe[0] >> 8 & 0xff, last as u64 + 1);
    for op in (0..=57).filter(|op| *op != 46) {
        check_eq!((op, probe[2 + op] & 0xff, probe[2 + op] >> 16 & 1), (op, op as u64, 1));
    }
    // It must come cleared.
    check_err!(register(ring.fd, 8, addr_mut(&mut probe), 256), EINVAL);
    check_err!(register(ring.fd, 8, addr_mut(&mut probe), 257), EINVAL);
    check_err!(register(ring.fd, 8, 0, 1), EINVAL);
    Ok(())
}

fn personalities() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let name = c"secret";
    close(create(name, b"x")?)?;
    sys!(SYS_fchmodat, CWD, name.as_ptr(), 0o600)?;
    sys!(SYS_fchmodat, CWD, c".".as_ptr(), 0o777)?;
    let root = register(ring.fd, 9, 0, 0)? as u16;
    check!(root > 0);
    sys!(SYS_setresuid, 1000, 1000, 1000)?;
    let openat = sqe(18, CWD, name.as_ptr() as usize, 0, 0);
    check_eq!(ring.res(openat)?, -EACCES);
    let fd = ring.res(Sqe { personality: root, ..openat })?;
    check!(fd >= 0);
    check_eq!(ring.res(Sqe { personality: root + 5, ..openat })?, -EINVAL);
    // The caller's own credentials are as before.
    check_err!(open(name, O_RDONLY, 0), EACCES);
    check_err!(register(ring.fd, 10, 0, u32::from(root) + 5), EINVAL);
    check_eq!(register(ring.fd, 10, 0, u32::from(root))?, 0);
    check_eq!(ring.res(Sqe { personality: root, ..openat })?, -EINVAL);
    check_err!(register(ring.fd, 9, 1, 0), EINVAL);
    Ok(())
}

fn restrictions() -> Outcome {
    let mut ring = Ring::new(8, R_DISABLED)?;
    let entry = |opcode: u64, value: u64| [opcode | value << 16, 0];
    // Enabling the ring; NOP; links allowed; ASYNC required.
    let list = [entry(0, 12), entry(1, 0), entry(2, u64::from(LINK)), entry(3, u64::from(ASYNC))];
    check_err!(register(ring.fd, 11, addr(&[entry(9, 0)]), 1), EINVAL);
    check_eq!(register(ring.fd, 11, addr(&list), 4)?, 0);
    check_err!(register(ring.fd, 11, addr(&list), 4), EBUSY);
    check_err!(enter(ring.fd, 1, 0, 0), EBADFD);
    check_eq!(register(ring.fd, 12, 0, 0)?, 0);
    check_eq!(ring.res(Sqe { flags: ASYNC, ..nop(1) })?, 0);
    check_eq!(ring.res(Sqe { flags: ASYNC | LINK, ..nop(1) })?, 0);
    check_eq!(ring.res(nop(1))?, -EACCES);
    check_eq!(ring.res(Sqe { flags: ASYNC | HARDLINK, ..nop(1) })?, -EACCES);
    check_eq!(ring.res(Sqe { flags: ASYNC, ..timeout(&span(1), 0, 0) })?, -EACCES);
    check_err!(register(ring.fd, 9, 0, 0), EACCES);
    let open_ring = Ring::new(8, 0)?;
    check_err!(register(open_ring.fd, 11, addr(&list), 4), EBADFD);
    Ok(())
}

fn disabled_rings() -> Outcome {
    let mut ring = Ring::new(8, R_DISABLED)?;
    ring.push(nop(1));
    check_err!(ring.submit(), EBADFD);
    check_eq!(register(ring.fd, 12, 0, 0)?, 0);
    check_err!(register(ring.fd, 12, 0, 0), EBADFD);
    check_eq!(ring.submit()?, 1);
    check_eq!(ring.wait()?.res, 0);
    Ok(())
}

fn single_issuer() -> Outcome {
    let mut ring = Ring::new(8, SINGLE_ISSUER)?;
    check_eq!(ring.res(nop(1))?, 0);
    ring.push(nop(2));
    let fd = ring.fd;
    let other = std::thread::spawn(move || (enter(fd, 1, 0, 0), register(fd, 9, 0, 0)));
    let (entered, registered) = other.join().map_err(|_| Failure::new("the thread panicked"))?;
    check_err!(entered, EEXIST);
    check_err!(registered, EEXIST);
    check_eq!(ring.submit()?, 1);
    Ok(())
}

fn deferred_work() -> Outcome {
    let mut ring = Ring::new(8, SINGLE_ISSUER | DEFER)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    ring.push(tagged(1, read_next(ends[0], &mut buffer)));
    ring.submit()?;
    write(ends[1], b"abcd")?;
    sleep_ms(20);
    // Only entering the ring for events completes it.
    check_eq!(ring.ready(), 0);
    check_eq!(poll_fd(ring.fd, POLLIN, 0)?, POLLIN);
    enter(ring.fd, 0, 0, ENTER_GETEVENTS)?;
    check_eq!(ring.pop().map(|c| c.res), Some(4));
    let fd = ring.fd;
    let other = std::thread::spawn(move || enter(fd, 0, 1, ENTER_GETEVENTS));
    let entered = other.join().map_err(|_| Failure::new("the thread panicked"))?;
    check_err!(entered, EEXIST);
    Ok(())
}

fn taskrun_flag() -> Outcome {
    let mut ring = Ring::new(8, SINGLE_ISSUER | DEFER | TASKRUN_FLAG)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    ring.push(tagged(1, read_next(ends[0], &mut buffer)));
    ring.submit()?;
    check_eq!(ring.sq_flags() & 4, 0);
    write(ends[1], b"abcd")?;
    check_eq!(ring.sq_flags() & 4, 4);
    check_eq!(ring.wait()?.res, 4);
    check_eq!(ring.sq_flags() & 4, 0);
    let mut coop = Ring::new(8, COOP | TASKRUN_FLAG)?;
    coop.push(tagged(2, read_next(ends[0], &mut buffer)));
    coop.submit()?;
    write(ends[1], b"abcd")?;
    check_eq!(coop.wait()?.res, 4);
    Ok(())
}

fn sqpoll() -> Outcome {
    let mut ring = Ring::with(8, Params { flags: SQPOLL, sq_thread_idle: 50, ..Params::default() })?;
    ring.push(nop(1));
    if ring.sq_flags() & 1 != 0 {
        enter(ring.fd, 0, 0, 2)?;
    }
    check!(eventually(|| ring.ready() == 1));
    check_eq!(ring.pop().map(|c| c.user_data), Some(1));
    // It falls asleep, and is woken.
    check!(eventually(|| ring.sq_flags() & 1 == 1));
    let fd = create(c"polled", b"hello")?;
    let mut buffer = [0_u8; 5];
    ring.push(tagged(2, read_next(fd, &mut buffer)));
    check_eq!(enter(ring.fd, 1, 1, 1 | 2)?, 1);
    check_eq!(ring.wait()?.res, 5);
    check_eq!(&buffer, b"hello");
    // What waits goes on in the thread.
    let ends = pipe(0)?;
    let mut small = [0_u8; 3];
    ring.push(tagged(3, read_next(ends[0], &mut small)));
    enter(ring.fd, 1, 0, 2)?;
    sleep_ms(20);
    write(ends[1], b"abc")?;
    check_eq!(ring.wait()?.res, 3);
    check_eq!(&small, b"abc");
    check_eq!(enter(ring.fd, 0, 0, 4)?, 0);
    // Another ring shares the thread.
    let shared = Params { flags: SQPOLL | 32, wq_fd: ring.fd as u32, ..Params::default() };
    let mut second = Ring::with(8, shared)?;
    second.push(nop(7));
    enter(second.fd, 1, 0, 2)?;
    check!(eventually(|| second.ready() == 1));
    drop(ring);
    second.push(nop(8));
    enter(second.fd, 1, 0, 2)?;
    check!(eventually(|| second.ready() == 2));
    check_err!(setup(8, &mut Params { flags: SQPOLL | 4, sq_thread_cpu: 4000, ..Params::default() }), EINVAL);
    Ring::with(8, Params { flags: SQPOLL | 4, sq_thread_cpu: 0, ..Params::default() })?;
    Ok(())
}

fn registered_rings() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let mut update = [u64::from(u32::MAX), ring.fd as u64];
    check_eq!(register(ring.fd, 20, addr_mut(&mut update), 1)?, 1);
    let index = update[0] as u32;
    check!(index < 16);
    ring.push(nop(1));
    check_eq!(sys!(SYS_io_uring_enter, index, 1, 1, 1 | 16, 0, 0)?, 1);
    check_eq!(ring.wait()?.user_data, 1);
    check_eq!(register(index as i32, 9 | 1 << 31, 0, 0)?, 1);
    let mut taken = [u64::from(index), ring.fd as u64];
    check_err!(register(ring.fd, 20, addr_mut(&mut taken), 1), EBUSY);
    let mut far = [99, ring.fd as u64];
    check_err!(register(ring.fd, 20, addr_mut(&mut far), 1), EINVAL);
    check_err!(register(ring.fd, 20, addr_mut(&mut far), 17), EINVAL);
    let mut remove = [u64::from(index), 0];
    check_eq!(register(ring.fd, 21, addr_mut(&mut remove), 1)?, 1);
    check_err!(sys!(SYS_io_uring_enter, index, 0, 0, 16, 0, 0), EBADF);
    check_err!(sys!(SYS_io_uring_enter, 99, 0, 0, 16, 0, 0), EINVAL);
    Ok(())
}

fn messages_between_rings() -> Outcome {
    let (mut from, to) = (Ring::new(8, 0)?, Ring::new(8, 0)?);
    let message = Sqe { len: 77, off: 0xabcd, ..tagged(1, sqe(MSG_RING, to.fd, 0, 0, 0)) };
    check_eq!(from.res(Sqe { len: 77, off: 0xabcd, ..message })?, 0);
    check_eq!(to.pop(), Some(Cqe { user_data: 0xabcd, res: 77, flags: 0 }));
    check_eq!(from.res(Sqe { op_flags: 2, file_index: 0x100, ..message })?, 0);
    check_eq!(to.pop(), Some(Cqe { user_data: 0xabcd, res: 77, flags: 0x100 }));
    let null = open(c"/dev/null", O_RDONLY, 0)?;
    check_eq!(from.res(Sqe { fd: null, ..message })?, -EBADFD);
    check_eq!(from.res(Sqe { op_flags: 1 << 10, ..message })?, -EINVAL);
    check_eq!(from.res(Sqe { addr: 9, ..message })?, -EINVAL);
    let off = Ring::new(8, R_DISABLED)?;
    check_eq!(from.res(Sqe { fd: off.fd, ..message })?, -EBADFD);
    // To itself.
    from.push(Sqe { fd: from.fd, ..message });
    from.submit_wait(2)?;
    check_eq!(from.collect(2)?.len(), 2);
    // A registered file.
    let fd = create(c"passed", b"content")?;
    check_eq!(register(from.fd, 2, addr(&fd), 1)?, 0);
    check_eq!(register(to.fd, 2, addr(&[-1_i32, -1]), 2)?, 0);
    let send = Sqe { addr: 1, len: 0, addr3: 0, file_index: 2, ..message };
    check_eq!(from.res(send)?, 0);
    check_eq!(to.pop(), Some(Cqe { user_data: 0xabcd, res: 0, flags: 0 }));
    let mut to = to;
    let mut buffer = [0; 7];
    check_eq!(to.res(Sqe { flags: FIXED, ..read_next(1, &mut buffer) })?, 7);
    check_eq!(from.res(Sqe { addr3: 5, ..send })?, -EBADF);
    check_eq!(from.res(Sqe { op_flags: 1, file_index: u32::MAX, ..send })?, 0);
    check_eq!(to.pop(), None);
    Ok(())
}

fn sysctl_disables() -> Outcome {
    let path = c"/proc/sys/kernel/io_uring_disabled";
    check_eq!(slurp(path)?, "0\n");
    check_eq!(slurp(c"/proc/sys/kernel/io_uring_group")?, "-1\n");
    check_err!(spew(path, "3"), EINVAL);
    let user = || {
        in_child(|| {
            let _ = sys!(SYS_setresuid, 1000, 1000, 1000);
            match setup(8, &mut Params::default()) {
                Ok(_) => 0,
                Err(Errno(errno)) => errno,
            }
        })
    };
    check_eq!(user()?, 0);
    spew(path, "1")?;
    let (as_user, as_root) = (user(), Ring::new(8, 0).map(drop));
    spew(c"/proc/sys/kernel/io_uring_group", "0")?;
    let as_member = user();
    spew(c"/proc/sys/kernel/io_uring_group", "-1")?;
    spew(path, "2")?;
    let off = Ring::new(8, 0).map(drop);
    spew(path, "0")?;
    check_eq!(as_user?, EPERM);
    check!(as_root.is_ok());
    check_eq!(as_member?, 0);
    check_err!(off, EPERM);
    Ok(())
}

fn fdinfo_shows() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    ring.push(nop(1));
    ring.submit()?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", ring.fd))?;
    for part in [
        "SqMask:\t0x7",
        "SqTail:\t1",
        "CqMask:\t0xf",
        "CqTail:\t1",
        "CQEs:\t1",
        "SqThread:\t-1",
        "UserFiles:\t0",
    ] {
        check!(text.contains(part), "{part} in {text}");
    }
    let link = std::fs::read_link(format!("/proc/self/fd/{}", ring.fd))?;
    check_eq!(link.to_string_lossy(), "anon_inode:[io_uring]");
    Ok(())
}

/// A ring with everything that can be under way.
fn busy_ring() -> Result<(Ring, [i32; 2]), Errno> {
    let mut ring = Ring::new(16, 0)?;
    let ends = pipe(0)?;
    let out = pipe(0)?;
    let buffer = map_anon(4096)?;
    let times = Box::leak(Box::new(span(60_000)));
    ring.push(tagged(1, sqe(READ, ends[0], buffer, 8, u64::MAX)));
    ring.push(tagged(2, poll_add(ends[0], POLLIN, 1)));
    ring.push(tagged(3, timeout(times, 0, 0)));
    ring.push(Sqe {
        addr: u64::MAX,
        file_index: ends[0] as u32,
        ..tagged(4, sqe(30, out[1], 0, 8, u64::MAX))
    });
    ring.push(Sqe { flags: LINK, ..tagged(5, sqe(READ, ends[0], buffer, 8, u64::MAX)) });
    ring.push(Sqe { flags: LINK, ..tagged(6, link_timeout(times)) });
    ring.push(nop(7));
    ring.push(Sqe { flags: DRAIN, ..nop(8) });
    ring.submit()?;
    sleep_ms(10);
    Ok((ring, ends))
}

fn exit_with_requests() -> Outcome {
    for _ in 0..5 {
        let status = in_child(|| match busy_ring() {
            Ok((ring, _)) => {
                std::mem::forget(ring);
                0
            }
            Err(_) => 1,
        })?;
        check_eq!(status, 0);
    }
    // Killed in the middle.
    let child = fork(|| {
        let _busy = busy_ring();
        sleep_ms(60_000);
        0
    })?;
    sleep_ms(100);
    kill(child, SIGKILL)?;
    let status = wait(child)?;
    check!(WIFSIGNALED(status));
    // A thread that leaves.
    let ring = Ring::new(8, 0)?;
    let fd = ring.fd;
    let ends = pipe(0)?;
    let other = std::thread::spawn(move || busy_ring().map(|(ring, _)| ring.ready()));
    let ready = other.join().map_err(|_| Failure::new("the thread panicked"))?;
    check_eq!(ready?, 0);
    check_eq!(enter(fd, 0, 0, 0)?, 0);
    let _ = ends;
    Ok(())
}

fn exec_with_requests() -> Outcome {
    let child = fork(|| {
        let Ok((ring, _)) = busy_ring() else { return 1 };
        std::mem::forget(ring);
        let argv = [c"/proc/self/exe".as_ptr(), c"helper:pid".as_ptr(), std::ptr::null()];
        let _ = sys!(SYS_execve, argv[0], argv.as_ptr(), addr(&[0_usize]));
        2
    })?;
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

fn fork_leaves_requests_to_the_parent() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0_u8; 4];
    ring.push(tagged(1, read_next(ends[0], &mut buffer)));
    ring.submit()?;
    check_eq!(in_child(|| 0)?, 0);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"abcd")?;
    check_eq!(ring.wait()?.res, 4);
    check_eq!(&buffer, b"abcd");
    Ok(())
}

fn close_cancels() -> Outcome {
    let (ring, ends) = busy_ring()?;
    drop(ring);
    // Nobody reads the pipe any more but us.
    sleep_ms(50);
    write(ends[1], b"12345678")?;
    sleep_ms(20);
    check_eq!(read_vec(ends[0], 8)?, b"12345678");
    Ok(())
}

fn workers_are_limited() -> Outcome {
    let mut ring = Ring::new(16, 0)?;
    let mut limits = [2_u32, 3];
    check_eq!(register(ring.fd, 19, addr_mut(&mut limits), 2)?, 0);
    check!(limits[0] > 0 && limits[1] > 0);
    let mut look = [0_u32; 2];
    check_eq!(register(ring.fd, 19, addr_mut(&mut look), 2)?, 0);
    check_eq!(look, [2, 3]);
    check_err!(register(ring.fd, 19, addr_mut(&mut look), 1), EINVAL);
    let fd = create(c"synced", b"x")?;
    for i in 0..16 {
        ring.push(tagged(i, sqe(3, fd, 0, 0, 0)));
    }
    check_eq!(ring.submit_wait(16)?, 16);
    check!(ring.collect(16)?.iter().all(|c| c.res == 0));
    let mask = 1_u64;
    check_eq!(register(ring.fd, 17, addr(&mask), 8)?, 0);
    check_eq!(ring.res(sqe(3, fd, 0, 0, 0))?, 0);
    check_eq!(register(ring.fd, 18, 0, 0)?, 0);
    check_err!(register(ring.fd, 17, 0, 0), EINVAL);
    Ok(())
}
