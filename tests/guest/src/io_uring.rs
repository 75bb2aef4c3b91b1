//! io_uring_setup(2), io_uring_enter(2): rings, submission, links, drains, waiting.

use crate::prelude::*;
use crate::uring::*;
use std::time::{Duration, Instant};

tests![
    setup_errors,
    setup_sizes,
    offsets_and_features,
    nops_complete,
    nop_injects_result,
    unknown_operations_and_flags,
    submission_stops_at_an_error,
    dropped_index,
    no_sq_array,
    big_entries,
    user_memory_rings,
    overflow_is_kept,
    enter_errors,
    enter_waits_with_timeout,
    links_run_in_order,
    links_break,
    links_with_errors_at_preparation,
    hard_links_go_on,
    drains_wait,
    skip_success,
    ring_is_pollable,
    signal_interrupts_waiting,
    iopoll_refuses,
];

const CQSIZE: u32 = 8;
const CLAMP: u32 = 16;
const NO_MMAP: u32 = 1 << 14;
const FD_ONLY: u32 = 1 << 15;
const NO_SQARRAY: u32 = 1 << 16;

fn setup_errors() -> Outcome {
    let bad = |entries: u32, params: Params| setup(entries, &mut params.clone());
    let flags = |flags: u32| Params { flags, ..Params::default() };
    check_err!(bad(0, flags(0)), EINVAL);
    check_err!(bad(32769, flags(0)), EINVAL);
    check_err!(bad(8, flags(1 << 31)), EINVAL);
    check_err!(bad(8, Params { resv: [0, 1, 0], ..Params::default() }), EINVAL);
    check_err!(bad(8, flags(CQSIZE)), EINVAL);
    check_err!(bad(8, Params { flags: CQSIZE, cq_entries: 4, ..Params::default() }), EINVAL);
    check_err!(bad(8, Params { flags: CQSIZE, cq_entries: 70000, ..Params::default() }), EINVAL);
    check_err!(bad(8, flags(4)), EINVAL);
    check_err!(bad(8, flags(DEFER)), EINVAL);
    check_err!(bad(8, flags(TASKRUN_FLAG)), EINVAL);
    check_err!(bad(8, flags(SQPOLL | COOP)), EINVAL);
    check_err!(bad(8, flags(FD_ONLY)), EINVAL);
    check_err!(bad(8, flags(NO_MMAP)), EFAULT);
    check_err!(bad(8, Params { flags: 32, wq_fd: 9999, ..Params::default() }), ENXIO);
    let null = open(c"/dev/null", O_RDONLY, 0)?;
    check_err!(bad(8, Params { flags: 32, wq_fd: null as u32, ..Params::default() }), EINVAL);
    check_err!(sys!(SYS_io_uring_setup, 8, 0), EFAULT);
    check_err!(sys!(SYS_io_uring_setup, 8, 16), EFAULT);
    Ok(())
}

fn setup_sizes() -> Outcome {
    let ring = Ring::new(5, 0)?;
    check_eq!((ring.params.sq_entries, ring.params.cq_entries), (8, 16));
    let clamped =
        Ring::with(100_000, Params { flags: CLAMP | CQSIZE, cq_entries: 1 << 20, ..Params::default() })?;
    check_eq!((clamped.params.sq_entries, clamped.params.cq_entries), (32768, 65536));
    let wide = Ring::with(8, Params { flags: CQSIZE, cq_entries: 100, ..Params::default() })?;
    check_eq!(wide.params.cq_entries, 128);
    check_eq!(fcntl(ring.fd, F_GETFD, 0)?, FD_CLOEXEC as usize);
    check_eq!(fcntl(ring.fd, F_GETFL, 0)? as i32 & O_ACCMODE, O_RDWR);
    check_err!(mmap(0, 4096, PROT_READ, MAP_SHARED, ring.fd, 0x2000_0000), ENOMEM);
    Ok(())
}

fn offsets_and_features() -> Outcome {
    let ring = Ring::new(8, 0)?;
    // Single mapping, no drops, stable submissions, current position, extended arguments …
    check_eq!(ring.params.features & 0xbfff, 0xbfff);
    let (sq, cq) = (ring.params.sq_off, ring.params.cq_off);
    check!(sq[0] != sq[1] && cq[0] != cq[1]);
    check_eq!(sq[7] | cq[7], 0);
    Ok(())
}

fn nops_complete() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    for round in 0..10 {
        for i in 0..8 {
            ring.push(nop(round * 8 + i));
        }
        check_eq!(ring.submit()?, 8);
        for i in 0..8 {
            check_eq!(ring.wait()?, Cqe { user_data: round * 8 + i, res: 0, flags: 0 });
        }
    }
    check_eq!(ring.ready(), 0);
    check_eq!(ring.sq_head(), 80);
    check_eq!(enter(ring.fd, 5, 0, 0)?, 0);
    Ok(())
}

fn nop_injects_result() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    check_eq!(ring.res(Sqe { op_flags: 1, len: 77, ..nop(1) })?, 77);
    check_eq!(ring.res(Sqe { op_flags: 1, len: -5_i32 as u32, ..nop(1) })?, -5);
    check_eq!(ring.res(Sqe { op_flags: 1 << 20, ..nop(1) })?, -EINVAL);
    Ok(())
}

fn unknown_operations_and_flags() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    check_eq!(ring.run(tagged(3, sqe(200, -1, 0, 0, 0)))?, Cqe { user_data: 3, res: -EINVAL, flags: 0 });
    check_eq!(ring.res(Sqe { flags: 128, ..nop(1) })?, -EINVAL);
    check_eq!(ring.res(Sqe { flags: SELECT, ..nop(1) })?, -EOPNOTSUPP);
    check_eq!(ring.res(Sqe { ioprio: 1, ..nop(1) })?, -EINVAL);
    check_eq!(ring.res(Sqe { personality: 9, ..nop(1) })?, -EINVAL);
    let mut buffer = [0; 8];
    check_eq!(ring.res(read_next(9999, &mut buffer))?, -EBADF);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read_next(0, &mut buffer) })?, -EBADF);
    Ok(())
}

fn submission_stops_at_an_error() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    for entry in [nop(1), tagged(2, sqe(200, -1, 0, 0, 0)), nop(3)] {
        ring.push(entry);
    }
    // The failed one was taken too.
    check_eq!(ring.submit()?, 2);
    check_eq!(ring.ready(), 2);
    check_eq!(ring.submit()?, 1);
    check_eq!(ring.collect(3)?.iter().map(|c| c.res).collect::<Vec<_>>(), [0, -EINVAL, 0]);
    let mut all = Ring::new(8, SUBMIT_ALL)?;
    for entry in [nop(1), tagged(2, sqe(200, -1, 0, 0, 0)), nop(3)] {
        all.push(entry);
    }
    check_eq!(all.submit()?, 3);
    check_eq!(all.ready(), 3);
    Ok(())
}

fn dropped_index() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    ring.push(nop(1));
    ring.push_index(1000);
    ring.push(nop(2));
    check_eq!(ring.submit()?, 1);
    check_eq!(ring.dropped(), 1);
    check_eq!(ring.submit()?, 1);
    check_eq!(ring.ready(), 2);
    Ok(())
}

fn no_sq_array() -> Outcome {
    let mut ring = Ring::new(4, NO_SQARRAY)?;
    for round in 0..3 {
        for i in 0..4 {
            ring.push(nop(round * 4 + i));
        }
        check_eq!(ring.submit()?, 4);
        check_eq!(ring.collect(4)?.iter().map(|c| c.user_data).sum::<u64>(), round * 16 + 6);
    }
    Ok(())
}

fn big_entries() -> Outcome {
    let mut ring = Ring::new(4, 1 << 10 | 1 << 11)?;
    for round in 0..5 {
        for i in 0..4 {
            ring.push(nop(round * 4 + i));
        }
        check_eq!(ring.submit()?, 4);
        for i in 0..4 {
            check_eq!(ring.wait()?.user_data, round * 4 + i);
        }
    }
    Ok(())
}

fn user_memory_rings() -> Outcome {
    let rings = map_anon(4096)?;
    let sqes = map_anon(4096)?;
    let mut params = Params { flags: NO_MMAP | NO_SQARRAY, ..Params::default() };
    (params.sq_off[8], params.cq_off[8]) = (sqes as u32, rings as u32);
    (params.sq_off[9], params.cq_off[9]) = ((sqes >> 32) as u32, (rings >> 32) as u32);
    let fd = setup(8, &mut params)?;
    check_err!(mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0), ENOMEM);
    let entry = nop(42);
    for (i, byte) in bytes_of(&entry).iter().enumerate() {
        poke(sqes + i, *byte);
    }
    atomic(rings + params.sq_off[1] as usize).store(1, std::sync::atomic::Ordering::SeqCst);
    check_eq!(enter(fd, 1, 1, ENTER_GETEVENTS)?, 1);
    check_eq!(atomic(rings + params.cq_off[1] as usize).load(std::sync::atomic::Ordering::SeqCst), 1);
    check_eq!(peek(rings + params.cq_off[5] as usize), 42);
    // Registered only: an index comes back instead of a descriptor.
    let mut only = Params { flags: params.flags | FD_ONLY, ..params };
    only.sq_off = [0; 10];
    only.cq_off = [0; 10];
    let (rings, sqes) = (map_anon(4096)?, map_anon(4096)?);
    (only.sq_off[8], only.cq_off[8]) = (sqes as u32, rings as u32);
    (only.sq_off[9], only.cq_off[9]) = ((sqes >> 32) as u32, (rings >> 32) as u32);
    let index = setup(8, &mut only)?;
    check_eq!(index, 0);
    check_eq!(sys!(SYS_io_uring_enter, index, 0, 0, 16, 0, 0)?, 0);
    Ok(())
}

fn bytes_of(entry: &Sqe) -> Vec<u8> {
    // SAFETY: a structure of integers without padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(entry).cast::<u8>(), size_of::<Sqe>()) }.to_vec()
}

fn overflow_is_kept() -> Outcome {
    let mut ring = Ring::new(4, 0)?;
    for round in 0..4 {
        for i in 0..4 {
            ring.push(nop(round * 4 + i));
        }
        check_eq!(ring.submit()?, 4);
    }
    check_eq!(ring.ready(), 8);
    check_eq!(ring.sq_flags() & 2, 2);
    for i in 0..8 {
        check_eq!(ring.pop().map(|c| c.user_data), Some(i));
    }
    // Making room is not enough: the kernel moves them when it is called.
    check_eq!(ring.ready(), 0);
    enter(ring.fd, 0, 0, ENTER_GETEVENTS)?;
    for i in 8..16 {
        check_eq!(ring.pop().map(|c| c.user_data), Some(i));
    }
    check_eq!(ring.sq_flags() & 2, 0);
    Ok(())
}

fn enter_errors() -> Outcome {
    let ring = Ring::new(8, 0)?;
    check_err!(enter(-1, 0, 0, 0), EBADF);
    check_err!(enter(ring.fd, 0, 0, 1 << 20), EINVAL);
    let null = open(c"/dev/null", O_RDONLY, 0)?;
    check_err!(enter(null, 0, 0, 0), EOPNOTSUPP);
    check_err!(register(null, 8, 0, 0), EOPNOTSUPP);
    check_err!(register(ring.fd, 1000, 0, 0), EINVAL);
    check_err!(register(-1, 8, 0, 0), EBADF);
    // Extended arguments have one size.
    check_err!(sys!(SYS_io_uring_enter, ring.fd, 0, 1, 9, 0, 8), EINVAL);
    check_err!(sys!(SYS_io_uring_enter, ring.fd, 0, 1, 9, 16, 24), EFAULT);
    check_err!(sys!(SYS_io_uring_enter, 3, 0, 0, 16, 0, 0), EBADF);
    check_err!(sys!(SYS_io_uring_enter, 16, 0, 0, 16, 0, 0), EINVAL);
    Ok(())
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct Arg {
    sigmask: u64,
    sigmask_sz: u32,
    min_wait_usec: u32,
    ts: u64,
}

fn wait_for(ring: &Ring, count: u32, ms: i64, min_wait_ms: u32) -> Result<usize, Errno> {
    let time = [ms / 1000, ms % 1000 * 1_000_000];
    let arg = Arg { sigmask: 0, sigmask_sz: 0, min_wait_usec: min_wait_ms * 1000, ts: addr(&time) as u64 };
    sys!(SYS_io_uring_enter, ring.fd, 0, count, 1 | 8, addr(&arg), size_of::<Arg>())
}

fn enter_waits_with_timeout() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let start = Instant::now();
    check_err!(wait_for(&ring, 1, 50, 0), ETIME);
    check!(start.elapsed() >= Duration::from_millis(50));
    // What is there is reported, although it is less than was waited for.
    ring.push(nop(1));
    ring.submit()?;
    check_eq!(wait_for(&ring, 2, 20, 0)?, 0);
    // After the minimal wait one is enough.
    let start = Instant::now();
    check_eq!(wait_for(&ring, 2, 10_000, 30)?, 0);
    check!(start.elapsed() < Duration::from_secs(5));
    check_eq!(ring.ready(), 1);
    Ok(())
}

fn links_run_in_order() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0_u8; 4];
    let text = *b"abcd";
    ring.push(Sqe { flags: LINK, ..tagged(1, sqe(WRITE, ends[1], addr(&text), 4, u64::MAX)) });
    ring.push(Sqe { flags: LINK, ..tagged(2, read_next(ends[0], &mut buffer)) });
    ring.push(nop(3));
    ring.push(nop(4));
    check_eq!(ring.submit_wait(4)?, 4);
    check_eq!(ring.collect(4)?.iter().map(|c| c.res).collect::<Vec<_>>(), [4, 4, 0, 0]);
    check_eq!(buffer, text);
    // A chain goes on when its head waits.
    ring.push(Sqe { flags: LINK, ..tagged(1, read_next(ends[0], &mut buffer)) });
    ring.push(nop(2));
    check_eq!(ring.submit()?, 2);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"wxyz")?;
    check_eq!(ring.wait()?.user_data, 1);
    check_eq!(ring.wait()?.user_data, 2);
    Ok(())
}

fn links_break() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let mut buffer = [0; 8];
    ring.push(Sqe { flags: LINK, ..tagged(1, read_next(9999, &mut buffer)) });
    ring.push(Sqe { flags: LINK, ..nop(2) });
    ring.push(nop(3));
    check_eq!(ring.submit_wait(3)?, 3);
    check_eq!(ring.collect(3)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-EBADF, -ECANCELED, -ECANCELED]);
    // A short transfer breaks it too.
    let fd = create(c"short", b"abc")?;
    ring.push(Sqe { flags: LINK, ..tagged(1, read_next(fd, &mut buffer)) });
    ring.push(nop(2));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [3, -ECANCELED]);
    Ok(())
}

fn links_with_errors_at_preparation() -> Outcome {
    let mut ring = Ring::new(8, SUBMIT_ALL)?;
    ring.push(Sqe { flags: LINK, ..nop(1) });
    ring.push(Sqe { flags: LINK, ..tagged(2, sqe(200, -1, 0, 0, 0)) });
    ring.push(nop(3));
    ring.push(nop(4));
    check_eq!(ring.submit_wait(4)?, 4);
    let all = ring.collect(4)?;
    check_eq!(all.iter().map(|c| c.res).collect::<Vec<_>>(), [-ECANCELED, -EINVAL, -ECANCELED, 0]);
    Ok(())
}

fn hard_links_go_on() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let mut buffer = [0; 8];
    ring.push(Sqe { flags: HARDLINK, ..tagged(1, read_next(9999, &mut buffer)) });
    ring.push(Sqe { flags: LINK, ..nop(2) });
    ring.push(nop(3));
    ring.submit_wait(3)?;
    check_eq!(ring.collect(3)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-EBADF, 0, 0]);
    Ok(())
}

fn drains_wait() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0_u8; 2];
    ring.push(tagged(1, read_next(ends[0], &mut buffer)));
    ring.push(Sqe { flags: DRAIN, ..nop(2) });
    ring.push(nop(3));
    check_eq!(ring.submit()?, 3);
    sleep_ms(20);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"ab")?;
    check_eq!(ring.wait()?.user_data, 1);
    check_eq!(ring.wait()?.user_data, 2);
    check_eq!(ring.wait()?.user_data, 3);
    ring.push(Sqe { flags: DRAIN, ..nop(4) });
    ring.submit()?;
    check_eq!(ring.wait()?.user_data, 4);
    Ok(())
}

fn skip_success() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let mut buffer = [0; 8];
    ring.push(Sqe { flags: SKIP, ..nop(1) });
    ring.push(nop(2));
    ring.push(Sqe { flags: SKIP, ..tagged(3, read_next(9999, &mut buffer)) });
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.user_data).collect::<Vec<_>>(), [2, 3]);
    check_eq!(ring.ready(), 0);
    // Drains cannot count completions that are not posted.
    check_eq!(ring.res(Sqe { flags: DRAIN, ..nop(4) })?, -EOPNOTSUPP);
    Ok(())
}

fn ring_is_pollable() -> Outcome {
    let mut ring = Ring::new(2, 0)?;
    check_eq!(poll_fd(ring.fd, POLLIN | POLLOUT, 0)?, POLLOUT);
    ring.push(nop(1));
    ring.push(nop(2));
    check_eq!(poll_fd(ring.fd, POLLIN | POLLOUT, 0)?, 0);
    ring.submit()?;
    check_eq!(poll_fd(ring.fd, POLLIN | POLLOUT, 0)?, POLLIN | POLLOUT);
    let mut outer = Ring::new(8, 0)?;
    check_eq!(outer.res(poll_add(ring.fd, POLLIN, 0))?, i32::from(POLLIN));
    ring.collect(2)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    ring.push(tagged(3, read_next(ends[0], &mut buffer)));
    ring.submit()?;
    outer.push(tagged(9, poll_add(ring.fd, POLLIN, 0)));
    outer.submit()?;
    check_eq!(outer.ready(), 0);
    write(ends[1], b"abcd")?;
    check_eq!(outer.wait()?.user_data, 9);
    check_eq!(ring.wait()?.res, 4);
    Ok(())
}

fn signal_interrupts_waiting() -> Outcome {
    extern "C" fn handler(_: i32) {}
    let mut action: sigaction = zeroed();
    action.sa_sigaction = handler as *const () as usize;
    c!(sigaction(SIGALRM, &raw const action, std::ptr::null_mut()))?;
    let ring = Ring::new(8, 0)?;
    let timer = [0_i64, 0, 0, 50_000];
    sys!(SYS_setitimer, ITIMER_REAL, addr(&timer), 0)?;
    check_err!(enter(ring.fd, 0, 1, ENTER_GETEVENTS), EINTR);
    Ok(())
}

fn iopoll_refuses() -> Outcome {
    let mut ring = Ring::new(8, 1)?;
    let fd = create(c"file", b"content")?;
    let mut buffer = [0; 4];
    ring.push(read_next(fd, &mut buffer));
    ring.submit()?;
    check_eq!(ring.pop().map(|c| c.res), Some(-EOPNOTSUPP));
    ring.push(timeout(&span(1), 0, 0));
    ring.submit()?;
    check_eq!(ring.pop().map(|c| c.res), Some(-EINVAL));
    Ok(())
}
