//! Requests of `io_uring(7)` that wait: timeouts, polls, and cancelling.

use crate::prelude::*;
use crate::uring::*;
use std::time::{Duration, Instant};

tests![
    timeouts,
    timeout_counts_completions,
    timeout_multishot,
    timeout_remove_and_update,
    link_timeout_cancels,
    link_timeout_is_cancelled,
    poll_once,
    poll_multishot,
    poll_update,
    cancel_by_user_data,
    cancel_variants,
    cancel_a_worker,
    sync_cancel,
];

fn timeouts() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let short = span(30);
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
    let long = span(60_000);
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
    let short = span(10);
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
    let (long, short) = (span(60_000), span(20));
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

fn link_timeout_cancels() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    let short = span(20);
    ring.push(Sqe { flags: LINK, ..tagged(1, read_next(ends[0], &mut buffer)) });
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
    let long = span(60_000);
    ring.push(Sqe { flags: LINK, ..nop(1) });
    ring.push(tagged(2, link_timeout(&long)));
    ring.submit_wait(2)?;
    check_eq!(ring.collect(2)?.iter().map(|c| c.res).collect::<Vec<_>>(), [0, -ECANCELED]);
    ring.push(Sqe { flags: LINK, ..tagged(1, read_next(ends[0], &mut buffer)) });
    ring.push(Sqe { flags: LINK, ..tagged(2, link_timeout(&long)) });
    ring.push(nop(3));
    check_eq!(ring.submit()?, 3);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"data")?;
    check_eq!(ring.collect(3)?.iter().map(|c| c.res).collect::<Vec<_>>(), [4, -ECANCELED, 0]);
    Ok(())
}

fn poll_once() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    check_eq!(ring.res(poll_add(ends[1], POLLOUT, 0))?, i32::from(POLLOUT));
    ring.push(tagged(1, poll_add(ends[0], POLLIN, 0)));
    check_eq!(ring.submit()?, 1);
    check_eq!(ring.ready(), 0);
    write(ends[1], b"x")?;
    check_eq!(ring.wait()?, Cqe { user_data: 1, res: i32::from(POLLIN), flags: 0 });
    read_vec(ends[0], 1)?;
    ring.push(tagged(2, poll_add(ends[0], POLLIN, 0)));
    ring.submit()?;
    close(ends[1])?;
    check_eq!(ring.wait()?, Cqe { user_data: 2, res: i32::from(POLLHUP), flags: 0 });
    check_eq!(ring.res(poll_add(9999, POLLIN, 0))?, -EBADF);
    check_eq!(ring.res(Sqe { off: 1, ..poll_add(ends[0], POLLIN, 0) })?, -EINVAL);
    check_eq!(ring.res(poll_add(ends[0], POLLIN, 1 << 10))?, -EINVAL);
    Ok(())
}

fn poll_multishot() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    ring.push(tagged(1, poll_add(ends[0], POLLIN, 1)));
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
    ring.push(tagged(1, poll_add(ends[0], POLLPRI, 0)));
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

fn cancel(user_data: u64, flags: u32) -> Sqe {
    Sqe { op_flags: flags, ..tagged(100, sqe(CANCEL, -1, user_data as usize, 0, 0)) }
}

fn cancel_by_user_data() -> Outcome {
    let mut ring = Ring::new(8, 0)?;
    let ends = pipe(0)?;
    let mut buffer = [0; 4];
    check_eq!(ring.res(cancel(1, 0))?, -ENOENT);
    for entry in [read_next(ends[0], &mut buffer), poll_add(ends[0], POLLIN, 0), timeout(&span(60_000), 0, 0)]
    {
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
            ring.push(tagged(1 + i as u64 % 3, read_next(fd, buffer)));
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
    ring.push(tagged(1, read_next(ends[0], &mut buffer)));
    ring.submit()?;
    check_eq!(register(ring.fd, 24, addr(&reg), 1)?, 0);
    check_eq!(ring.wait()?.res, -ECANCELED);
    check_err!(register(ring.fd, 24, addr(&reg), 2), EINVAL);
    check_err!(register(ring.fd, 24, 0, 1), EINVAL);
    Ok(())
}
