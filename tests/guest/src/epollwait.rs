//! Waiting with nanoseconds and a signal mask: epoll_pwait2(2).

use crate::prelude::*;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Instant;

tests![epoll_waits_in_nanoseconds, epoll_waits_with_a_mask, epoll_pwait2_errors];

/// `struct epoll_event` as the kernel lays it out: packed on x86_64 only.
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
#[derive(Clone, Copy, Default)]
struct Event {
    events: u32,
    data: u64,
}

/// An epoll instance that watches `fd` for reading.
fn watching(fd: i32) -> Result<i32, Errno> {
    let ep = sys!(SYS_epoll_create1, EPOLL_CLOEXEC)? as i32;
    let event = Event { events: EPOLLIN as u32, data: 7 };
    sys!(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, addr(&event))?;
    Ok(ep)
}

fn pwait2(ep: i32, timeout: Option<timespec>, mask: Option<u64>) -> Result<Vec<u64>, Errno> {
    let mut events = [Event::default(); 4];
    let timeout = timeout.as_ref().map_or(0, addr);
    let mask = mask.as_ref().map_or(0, addr);
    let count = sys!(SYS_epoll_pwait2, ep, events.as_mut_ptr(), events.len(), timeout, mask, 8)?;
    Ok(events[..count].iter().map(|event| event.data).collect())
}

fn spec(sec: i64, nsec: i64) -> Option<timespec> {
    Some(timespec { tv_sec: sec, tv_nsec: nsec })
}

fn epoll_waits_in_nanoseconds() -> Outcome {
    let [r, w] = pipe(0)?;
    let ep = watching(r)?;
    check_eq!(pwait2(ep, spec(0, 0), None)?, []);
    let start = Instant::now();
    check_eq!(pwait2(ep, spec(0, 30_500_000), None)?, []);
    check!(start.elapsed().as_micros() >= 30_500, "{:?}", start.elapsed());
    // A nanosecond is a wait, too, and a short one.
    let start = Instant::now();
    check_eq!(pwait2(ep, spec(0, 1), None)?, []);
    check!(start.elapsed().as_millis() < 1000);
    let child = fork(|| {
        sleep_ms(30);
        i32::from(write(w, b"x").is_err())
    })?;
    // Without a time it waits for ever.
    check_eq!(pwait2(ep, None, None)?, [7]);
    check_eq!(wait_exit(child)?, 0);
    check_eq!(pwait2(ep, spec(1000, 0), None)?, [7]);
    Ok(())
}

static SEEN: AtomicI32 = AtomicI32::new(0);

extern "C" fn notes(signal: i32) {
    SEEN.store(signal, SeqCst);
}

fn epoll_waits_with_a_mask() -> Outcome {
    let [r, w] = pipe(0)?;
    let ep = watching(r)?;
    let mut action: sigaction = zeroed();
    action.sa_sigaction = notes as *const () as usize;
    c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()))?;
    let usr1 = 1_u64 << (SIGUSR1 - 1);
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, addr(&usr1), 0, 8)?;
    kill(getpid(), SIGUSR1)?;
    check_eq!(pwait2(ep, spec(0, 1_000_000), None)?, []);
    check_eq!(pwait2(ep, spec(0, 1_000_000), Some(usr1))?, []);
    check_eq!(SEEN.load(SeqCst), 0);
    check_err!(pwait2(ep, spec(5, 0), Some(0)), EINTR);
    check_eq!(SEEN.load(SeqCst), SIGUSR1);
    // It is blocked again.
    SEEN.store(0, SeqCst);
    kill(getpid(), SIGUSR1)?;
    check_eq!(SEEN.load(SeqCst), 0);
    // What is ready is reported; the signal stays for later.
    write(w, b"x")?;
    check_eq!(pwait2(ep, None, Some(0))?, [7]);
    Ok(())
}

fn epoll_pwait2_errors() -> Outcome {
    let [r, _w] = pipe(0)?;
    let ep = watching(r)?;
    let mut event = Event::default();
    check_err!(pwait2(ep, spec(0, 1_000_000_000), None), EINVAL);
    check_err!(pwait2(ep, spec(0, -1), None), EINVAL);
    check_err!(pwait2(ep, spec(-1, 0), None), EINVAL);
    check_err!(pwait2(-1, spec(0, 0), None), EBADF);
    check_err!(pwait2(r, spec(0, 0), None), EINVAL);
    check_err!(sys!(SYS_epoll_pwait2, ep, addr_mut(&mut event), 0, 0, 0, 8), EINVAL);
    check_err!(sys!(SYS_epoll_pwait2, ep, addr_mut(&mut event), -1_i32, 0, 0, 8), EINVAL);
    check_err!(sys!(SYS_epoll_pwait2, ep, addr_mut(&mut event), i32::MAX, 0, 0, 8), EINVAL);
    check_err!(sys!(SYS_epoll_pwait2, ep, addr_mut(&mut event), 1, 8, 0, 8), EFAULT);
    check_err!(sys!(SYS_epoll_pwait2, ep, addr_mut(&mut event), 1, 0, 8, 8), EFAULT);
    check_err!(sys!(SYS_epoll_pwait2, ep, addr_mut(&mut event), 1, 0, addr(&0_u64), 4), EINVAL);
    check_err!(sys!(SYS_epoll_pwait2, ep, !0xfff_usize, 1, 0, 0, 8), EFAULT);
    Ok(())
}
