//! io_uring_setup(2), io_uring_enter(2), io_uring_register(2): rings, submission, completion, waiting.

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
    timeouts,
    timeout_counts_completions,
    timeout_multishot,
    timeout_remove_and_update,
    link_timeout_cancels,
    link_timeout_is_cancelled,
    poll_once,
    poll_multishot,
    poll_update,
    ring_is_pollable,
    cancel_by_user_data,
    cancel_variants,
    cancel_a_worker,
    sync_cancel,
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
    signal_interrupts_waiting,
    iopoll_refuses,
    workers_are_limited,
];

const NOP: u8 = 0;
const READ: u8 = 22;
const WRITE: u8 = 23;
const POLL_ADD: u8 = 6;
const POLL_REMOVE: u8 = 7;
const TIMEOUT: u8 = 11;
const TIMEOUT_REMOVE: u8 = 12;
const CANCEL: u8 = 14;
const LINK_TIMEOUT: u8 = 15;
const MSG_RING: u8 = 40;

const SQPOLL: u32 = 2;
const CQSIZE: u32 = 8;
const CLAMP: u32 = 16;
const R_DISABLED: u32 = 64;
const SUBMIT_ALL: u32 = 128;
const COOP: u32 = 256;
const TASKRUN_FLAG: u32 = 512;
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER: u32 = 1 << 13;
const NO_MMAP: u32 = 1 << 14;
const FD_ONLY: u32 = 1 << 15;
const NO_SQARRAY: u32 = 1 << 16;

fn nop(user_data: u64) -> Sqe {
    Sqe { user_data, ..sqe(NOP, -1, 0, 0, 0) }
}

fn tagged(user_data: u64, entry: Sqe) -> Sqe {
    Sqe { user_data, ..entry }
}

fn read(fd: i32, buffer: &mut [u8]) -> Sqe {
    sqe(READ, fd, buffer.as_mut_ptr() as usize, buffer.len(), u64::MAX)
}

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
    check_eq!(ring.res(read(9999, &mut buffer))?, -EBADF);
    check_eq!(ring.res(Sqe { flags: FIXED, ..read(0, &mut buffer) })?, -EBADF);
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
    ring.push(Sqe { flags: LINK, ..tagged(2, read(ends[0], &mut buffer)) });
    ring.push(nop(3));
    ring.push(nop(4));
    check_eq!(ring.submit_wait(4)?, 4);
    check_eq!(ring.collect(4)?.iter().map(|c| c.res).collect::<Vec<_>>(), [4, 4, 0, 0]);
    check_eq!(buffer, text);
    // A chain goes on when its head waits.
    ring.push(Sqe { flags: LINK, ..tagged(1, read(ends[0], &mut buffer)) });
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
    ring.push(Sqe { flags: LINK, ..tagged(1, read(9999, &mut buffer)) });
    ring.push(Sqe { flags: LINK, ..nop(2) });
    ring.push(nop(3));
    check_eq!(ring.submit_wait(3)?, 3);
    check_eq!(ring.collect(3)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-EBADF, -ECANCELED, -ECANCELED]);
    // A short transfer breaks it too.
    let fd = create(c"short", b"abc")?;
    ring.push(Sqe { flags: LINK, ..tagged(1, read(fd, &mut buffer)) });
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
    ring.push(Sqe { flags: HARDLINK, ..tagged(1, read(9999, &mut buffer)) });
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
    ring.push(tagged(1, read(ends[0], &mut buffer)));
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
    ring.push(Sqe { flags: SKIP, ..tagged(3, read(9999, &mut buffer)) });
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.user_data).collect::<Vec<_>>(), [2, 3]);
    check_eq!(ring.ready(), 0);
    // Drains cannot count completions that are not posted.
    check_eq!(ring.res(Sqe { flags: DRAIN, ..nop(4) })?, -EOPNOTSUPP);
    Ok(())
}

fn time(ms: i64) -> [i64; 2] {
    [ms / 1000, ms % 1000 * 1_000_000]
}

fn timeout(time: &[i64; 2], count: u64, flags: u32) -> Sqe {
    Sqe { op_flags: flags, ..sqe(TIMEOUT, -1, addr(time), 1, count) }
}

fn now(clock: i32) -> Result<i64, Errno> {
    let mut time = [0_i64; 2];
    sys!(SYS_clock_gettime, clock, addr_mut(&mut time))?;
    Ok(time[0] * 1_000_000_000 + time[1])
}

fn timeouts() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let short = time(30);
    for flags in [0, 4, 8, 32] {
        let start = Instant::now();
        check_eq!(ring.res(timeout(&short, 0, flags))?, -ETIME);
        check!(start.elapsed() >= Duration::from_millis(29), "flags {flags}: {:?}", start.elapsed());
    }
    for (flags, clock) in [(0, CLOCK_MONOTONIC), (4, CLOCK_BOOTTIME), (8, CLOCK_REALTIME)] {
        let at = now(clock)? + 30_000_000;
        check_eq!(ring.res(timeout(&[at / 1_000_000_000, at % 1_000_000_000], 0, flags | 1))?, -ETIME);
        check!(now(clock)? >= at);
    }
    // A link goes on only if the timeout counts as success.
    ring.push(Sqe { flags: LINK, ..tagged(1, timeout(&short, 0, 0)) });
    ring.push(nop(2));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-ETIME, -ECANCELED]);
    ring.push(Sqe { flags: LINK, ..tagged(1, timeout(&short, 0, 32)) });
    ring.push(nop(2));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-ETIME, 0]);
    check_eq!(ring.res(timeout(&short, 0, 12))?, -EINVAL);
    check_eq!(ring.res(timeout(&short, 0, 1 << 10))?, -EINVAL);
    check_eq!(ring.res(timeout(&short, 0, 64 | 1))?, -EINVAL);
    check_eq!(ring.res(Sqe { len: 2, ..timeout(&short, 0, 0) })?, -EINVAL);
    check_eq!(ring.res(timeout(&[-1, 0], 0, 0))?, -EINVAL);
    check_eq!(ring.res(sqe(TIMEOUT, -1, 16, 1, 0))?, -EFAULT);
    Ok(())
}

fn timeout_counts_completions() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let long = time(60_000);
    ring.push(tagged(1, timeout(&long, 2, 0)));
    ring.push(nop(2));
    ring.submit()?;
    check_eq!(ring.wait()?.user_data, 2);
    check_eq!(ring.ready(), 0);
    ring.push(nop(3));
    ring.submit_wait(2)?;
    let all = ring.collect(2)?;
    check_eq!(all[0], Cqe { user_data: 1, res: 0, flags: 0 });
    check_eq!(all[1].user_data, 3);
    Ok(())
}

fn timeout_multishot() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let short = time(10);
    ring.push(tagged(1, timeout(&short, 3, 64)));
    ring.submit()?;
    for i in 0..3 {
        let cqe = ring.wait()?;
        check_eq!((cqe.user_data, cqe.res), (1, -ETIME));
        check_eq!(cqe.flags & 2 != 0, i < 2);
    }
    ring.push(tagged(2, timeout(&short, 0, 64)));
    ring.submit()?;
    for _ in 0..4 {
        check_eq!(ring.wait()?.flags & 2, 2);
    }
    ring.push(tagged(3, sqe(TIMEOUT_REMOVE, -1, 2, 0, 0)));
    ring.submit()?;
    let (mut removed, mut ended) = (None, None);
    while removed.is_none() || ended.is_none() {
        match ring.wait()? {
            cqe if cqe.user_data == 3 => removed = Some(cqe.res),
            cqe if cqe.flags & 2 == 0 => ended = Some(cqe.res),
            _ => {}
        }
    }
    check_eq!((removed, ended), (Some(0), Some(-ECANCELED)));
    Ok(())
}

fn timeout_remove_and_update() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let (long, short) = (time(60_000), time(20));
    check_eq!(ring.res(tagged(9, sqe(TIMEOUT_REMOVE, -1, 1, 0, 0)))?, -ENOENT);
    ring.push(tagged(1, timeout(&long, 0, 0)));
    ring.push(tagged(2, sqe(TIMEOUT_REMOVE, -1, 1, 0, 0)));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-ECANCELED, 0]);
    ring.push(tagged(1, timeout(&long, 0, 0)));
    ring.push(Sqe { op_flags: 2, ..tagged(2, sqe(TIMEOUT_REMOVE, -1, 1, 0, addr(&short) as u64)) });
    let start = Instant::now();
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-ETIME, 0]);
    check!(start.elapsed() < Duration::from_secs(10));
    check_eq!(ring.res(Sqe { op_flags: 1, ..sqe(TIMEOUT_REMOVE, -1, 1, 0, 0) })?, -EINVAL);
    check_eq!(ring.res(Sqe { len: 1, ..sqe(TIMEOUT_REMOVE, -1, 1, 0, 0) })?, -EINVAL);
    Ok(())
}

fn link_timeout(time: &[i64; 2]) -> Sqe {
    sqe(LINK_TIMEOUT, -1, addr(time), 1, 0)
}

fn link_timeout_cancels() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    let short = time(20);
    ring.push(Sqe { flags: LINK, ..tagged(1, read(ends[0], &mut buffer)) });
    ring.push(Sqe { flags: LINK, ..tagged(2, link_timeout(&short)) });
    ring.push(nop(3));
    check_eq!(ring.submit_wait(3)?, 3);
    let all = ring.collect(3)?;
    check_eq!(all.iter().map(|c| c.res).collect::<Vec<_>>(), [-ECANCELED, -ETIME, -ECANCELED]);
    // A timeout that limits nothing.
    check_eq!(ring.res(link_timeout(&short))?, -EINVAL);
    Ok(())
}

fn link_timeout_is_cancelled() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    let long = time(60_000);
    ring.push(Sqe { flags: LINK, ..nop(1) });
    ring.push(tagged(2, link_timeout(&long)));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [0, -ECANCELED]);
    ring.push(Sqe { flags: LINK, ..tagged(1, read(ends[0], &mut buffer)) });
    ring.push(Sqe { flags: LINK, ..tagged(2, link_timeout(&long)) });
    ring.push(nop(3));
    check_eq!(ring.submit()?, 3);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"data")?;
    check_eq!(ring.collect(3)?.iter().map(|c| c.res).collect::<Vec<_>>(), [4, -ECANCELED, 0]);
    Ok(())
}

fn poll(fd: i32, events: i16, flags: u32) -> Sqe {
    Sqe { op_flags: u32::from(events as u16), ..sqe(POLL_ADD, fd, 0, flags as usize, 0) }
}

fn poll_once() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    check_eq!(ring.res(poll(ends[1], POLLOUT, 0))?, i32::from(POLLOUT));
    ring.push(tagged(1, poll(ends[0], POLLIN, 0)));
    check_eq!(ring.submit()?, 1);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"x")?;
    check_eq!(ring.wait()?, Cqe { user_data: 1, res: i32::from(POLLIN), flags: 0 });
    read_vec(ends[0], 1)?;
    ring.push(tagged(2, poll(ends[0], POLLIN, 0)));
    ring.submit()?;
    close(ends[1])?;
    check_eq!(ring.wait()?, Cqe { user_data: 2, res: i32::from(POLLHUP), flags: 0 });
    check_eq!(ring.res(poll(9999, POLLIN, 0))?, -EBADF);
    check_eq!(ring.res(Sqe { off: 1, ..poll(ends[0], POLLIN, 0) })?, -EINVAL);
    check_eq!(ring.res(poll(ends[0], POLLIN, 1 << 10))?, -EINVAL);
    Ok(())
}

fn poll_multishot() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    ring.push(tagged(1, poll(ends[0], POLLIN, 1)));
    ring.submit()?;
    for _ in 0..3 {
        write(ends[1], b"x")?;
        let cqe = ring.wait()?;
        check_eq!((cqe.user_data, cqe.res, cqe.flags), (1, i32::from(POLLIN), 2));
        read_vec(ends[0], 1)?;
        while ring.pop().is_some() {}
    }
    ring.push(tagged(2, sqe(POLL_REMOVE, -1, 1, 0, 0)));
    ring.submit_wait(2)?;
    let all = ring.collect(2)?;
    check_eq!((all[0].res, all[0].flags), (-ECANCELED, 0));
    check_eq!(all[1].res, 0);
    Ok(())
}

fn poll_update() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    check_eq!(ring.res(sqe(POLL_REMOVE, -1, 77, 0, 0))?, -ENOENT);
    ring.push(tagged(1, poll(ends[0], POLLPRI, 0)));
    ring.submit()?;
    // Another name, other events.
    check_eq!(ring.run(Sqe { len: 4, ..tagged(5, sqe(POLL_REMOVE, -1, 1, 0, 2)) })?.res, 0);
    write(ends[1], b"x")?;
    check_eq!(ring.ready(), 0);
    ring.push(Sqe { op_flags: POLLIN as u32, ..tagged(6, sqe(POLL_REMOVE, -1, 2, 2, 0)) });
    ring.submit_wait(2)?;
    let all = ring.collect(2)?;
    check_eq!(all[0], Cqe { user_data: 2, res: i32::from(POLLIN), flags: 0 });
    check_eq!(all[1].res, 0);
    check_eq!(ring.res(sqe(POLL_REMOVE, -1, 2, 1, 0))?, -EINVAL);
    check_eq!(ring.res(Sqe { off: 7, ..sqe(POLL_REMOVE, -1, 2, 0, 0) })?, -EINVAL);
    Ok(())
}

fn poll_fd(fd: i32, events: i16, ms: i32) -> Result<i16, Errno> {
    let mut one = pollfd { fd, events, revents: 0 };
    c!(poll(&raw mut one, 1, ms))?;
    Ok(one.revents)
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
    check_eq!(outer.res(poll(ring.fd, POLLIN, 0))?, i32::from(POLLIN));
    ring.collect(2)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    ring.push(tagged(3, read(ends[0], &mut buffer)));
    ring.submit()?;
    outer.push(tagged(9, poll(ring.fd, POLLIN, 0)));
    outer.submit()?;
    check_eq!(outer.ready(), 0);
    write(ends[1], b"abcd")?;
    check_eq!(outer.wait()?.user_data, 9);
    check_eq!(ring.wait()?.res, 4);
    Ok(())
}

fn cancel(user_data: u64, flags: u32) -> Sqe {
    Sqe { op_flags: flags, ..tagged(100, sqe(CANCEL, -1, user_data as usize, 0, 0)) }
}

fn cancel_by_user_data() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    check_eq!(ring.res(cancel(1, 0))?, -ENOENT);
    for entry in [read(ends[0], &mut buffer), poll(ends[0], POLLIN, 0), timeout(&time(60_000), 0, 0)] {
        ring.push(tagged(1, entry));
        ring.submit()?;
        check_eq!(ring.ready(), 0);
        ring.push(cancel(1, 0));
        ring.submit_wait(2)?;
        check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [-ECANCELED, 0]);
    }
    check_eq!(ring.res(cancel(1, 1 << 20))?, -EINVAL);
    check_eq!(ring.res(cancel(1, 2 | 4))?, -EINVAL);
    check_eq!(ring.res(Sqe { off: 1, ..cancel(1, 0) })?, -EINVAL);
    Ok(())
}

fn cancel_variants() -> Outcome {
    let mut ring = Ring::new(16, 0)?;
    let (one, two) = (pipe(0)?, pipe(0)?);
    let mut buffers = [[0_u8; 4]; 6];
    let fill = |ring: &mut Ring, buffers: &mut [[u8; 4]; 6]| -> Result<(), Errno> {
        for (i, buffer) in buffers.iter_mut().enumerate() {
            let fd = if i < 3 { one[0] } else { two[0] };
            ring.push(tagged(1 + i as u64 % 3, read(fd, buffer)));
        }
        ring.submit()?;
        Ok(())
    };
    // All with one name; all of one file; all of one operation; everything.
    for (entry, expected) in [
        (cancel(1, 1), 2),
        (Sqe { fd: one[0], ..cancel(0, 1 | 2) }, 3),
        (Sqe { fd: two[0], ..cancel(3, 1 | 2 | 16) }, 1),
        (Sqe { len: u32::from(READ), ..cancel(0, 1 | 32) }, 6),
        (cancel(0, 4), 6),
    ] {
        fill(&mut ring, &mut buffers)?;
        ring.push(entry);
        ring.submit_wait(expected + 1)?;
        let all = ring.collect(expected as usize + 1)?;
        check_eq!(all.last().map(|c| c.res), Some(expected as i32));
        check!(all.iter().filter(|c| c.user_data < 100).all(|c| c.res == -ECANCELED));
        // The rest.
        ring.push(cancel(0, 4));
        ring.submit_wait(6 - expected + 1)?;
        ring.collect((6 - expected) as usize + 1)?;
    }
    check_eq!(ring.res(Sqe { fd: 9999, ..cancel(0, 2) })?, -EBADF);
    check_eq!(ring.res(Sqe { fd: one[0], ..cancel(0, 2) })?, -ENOENT);
    Ok(())
}

fn cancel_a_worker() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let out = pipe(0)?;
    // A splice that waits for data holds a worker.
    let splice = Sqe { off: u64::MAX, file_index: ends[0] as u32, ..sqe(30, out[1], usize::MAX, 4, 0) };
    ring.push(tagged(1, Sqe { off: u64::MAX, addr: u64::MAX, ..splice }));
    ring.submit()?;
    sleep_ms(50);
    ring.push(cancel(1, 0));
    ring.submit_wait(2)?;
    let all = ring.collect(2)?;
    check!(matches!(all[0].res, r if r == -ECANCELED || r == -EINTR), "{all:?}");
    check!(matches!(all[1].res, r if r == -EALREADY || r == 0), "{all:?}");
    Ok(())
}

/// `struct io_uring_sync_cancel_reg`.
#[repr(C)]
#[derive(Default)]
struct SyncCancel {
    addr: u64,
    fd: i32,
    flags: u32,
    timeout: [i64; 2],
    opcode: u8,
    pad: [u8; 7],
    pad2: [u64; 3],
}

fn sync_cancel() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    let reg = SyncCancel { addr: 1, timeout: [-1, -1], ..SyncCancel::default() };
    check_err!(register(ring.fd, 24, addr(&reg), 1), ENOENT);
    ring.push(tagged(1, read(ends[0], &mut buffer)));
    ring.submit()?;
    check_eq!(register(ring.fd, 24, addr(&reg), 1)?, 0);
    check_eq!(ring.wait()?.res, -ECANCELED);
    check_err!(register(ring.fd, 24, addr(&reg), 2), EINVAL);
    check_err!(register(ring.fd, 24, 0, 1), EINVAL);
    Ok(())
}

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
    check_eq!(ring.res(Sqe { flags: ASYNC, ..timeout(&time(1), 0, 0) })?, -EACCES);
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
    ring.push(tagged(1, read(ends[0], &mut buffer)));
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
    ring.push(tagged(1, read(ends[0], &mut buffer)));
    ring.submit()?;
    check_eq!(ring.sq_flags() & 4, 0);
    write(ends[1], b"abcd")?;
    check_eq!(ring.sq_flags() & 4, 4);
    check_eq!(ring.wait()?.res, 4);
    check_eq!(ring.sq_flags() & 4, 0);
    let mut coop = Ring::new(8, COOP | TASKRUN_FLAG)?;
    coop.push(tagged(2, read(ends[0], &mut buffer)));
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
    ring.push(tagged(2, read(fd, &mut buffer)));
    check_eq!(enter(ring.fd, 1, 1, 1 | 2)?, 1);
    check_eq!(ring.wait()?.res, 5);
    check_eq!(&buffer, b"hello");
    // What waits goes on in the thread.
    let ends = pipe(0)?;
    let mut small = [0_u8; 3];
    ring.push(tagged(3, read(ends[0], &mut small)));
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
    check_eq!(to.res(Sqe { flags: FIXED, ..read(1, &mut buffer) })?, 7);
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
    let times = Box::leak(Box::new(time(60_000)));
    ring.push(tagged(1, sqe(READ, ends[0], buffer, 8, u64::MAX)));
    ring.push(tagged(2, poll(ends[0], POLLIN, 1)));
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
    ring.push(tagged(1, read(ends[0], &mut buffer)));
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
    ring.push(read(fd, &mut buffer));
    ring.submit()?;
    check_eq!(ring.pop().map(|c| c.res), Some(-EOPNOTSUPP));
    ring.push(timeout(&time(1), 0, 0));
    ring.submit()?;
    check_eq!(ring.pop().map(|c| c.res), Some(-EINVAL));
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
