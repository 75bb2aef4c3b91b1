//! What futexes owe to those who come at a bad moment: hand-over, requeue, restart (futex(2), futex_waitv(2)).

use crate::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

tests![
    pi_waiter_behind_an_heir_is_seen,
    requeued_waitv_leaves_nothing_behind,
    requeued_waitv_is_woken_at_its_new_place,
    waits_with_a_deadline_are_not_restarted,
];

/// `FUTEX2_SIZE_U32`.
const SIZE_32: u32 = 2;

/// `struct futex_waitv`.
#[repr(C)]
struct Waited {
    value: u64,
    at: u64,
    flags: u32,
    reserved: u32,
}

fn futex(at: usize, op: i32, value: u32, time: usize, at2: usize, v3: u32) -> crate::sys::Result<usize> {
    sys!(SYS_futex, at, op, value, time, at2, v3)
}

fn tid() -> u32 {
    sys!(SYS_gettid).unwrap_or(0) as u32
}

fn asleep(pid: i32) -> bool {
    eventually(|| state(pid) == Some('S'))
}

fn ended(pid: i32) -> bool {
    eventually(|| state(pid) == Some('Z'))
}

/// The running thread runs on the first CPU only, with this real-time priority.
fn on_first_cpu(priority: i32) -> bool {
    let mask = 1_u64;
    sys!(SYS_sched_setaffinity, 0, 8, addr(&mask)).is_ok()
        && sys!(SYS_sched_setscheduler, 0, SCHED_FIFO, addr(&priority)).is_ok()
}

/// The clock's time in `ms` milliseconds.
fn later(clock: clockid_t, ms: i64) -> timespec {
    let mut time: timespec = zeroed();
    let _ = c!(clock_gettime(clock, &raw mut time));
    time.tv_sec += ms / 1000;
    time.tv_nsec += ms % 1000 * 1_000_000;
    time.tv_sec += time.tv_nsec / 1_000_000_000;
    time.tv_nsec %= 1_000_000_000;
    time
}

/// As the C library does: in user space if nobody waits, else in the kernel.
fn unlock_pi(at: usize) -> bool {
    atomic(at).compare_exchange(tid(), 0, SeqCst, SeqCst).is_ok()
        || futex(at, FUTEX_UNLOCK_PI, 0, 0, 0, 0).is_ok()
}

/// Who comes when the lock has been handed over, and its heir has not run yet, must be seen by the heir's unlock.
fn pi_waiter_behind_an_heir_is_seen() -> Outcome {
    let page = map_shared(4096)?;
    let (lock, ready) = (page, page + 64);
    let first = fork(|| {
        let good = on_first_cpu(20) && futex(lock, FUTEX_LOCK_PI, 0, 0, 0, 0).is_ok();
        atomic(ready).store(1, SeqCst);
        if !good || !eventually(|| atomic(ready).load(SeqCst) == 2) {
            return 1;
        }
        // The heir is less important and shares the CPU: it runs when this thread sleeps again.
        let deadline = later(CLOCK_REALTIME, 5000);
        let unlocked = unlock_pi(lock);
        match futex(lock, FUTEX_LOCK_PI, 0, addr(&deadline), 0, 0) {
            Ok(_) if unlocked && unlock_pi(lock) => 0,
            Ok(_) => 2,
            Err(_) => 3,
        }
    })?;
    check!(eventually(|| atomic(ready).load(SeqCst) == 1));
    let heir = fork(|| {
        let good = on_first_cpu(10) && futex(lock, FUTEX_LOCK_PI, 0, 0, 0, 0).is_ok() && unlock_pi(lock);
        // The locks of those who end are given away: this one stays until all is over.
        i32::from(!(good && eventually(|| atomic(ready).load(SeqCst) == 3)))
    })?;
    check!(eventually(|| atomic(lock).load(SeqCst) & FUTEX_WAITERS != 0) && asleep(heir));
    atomic(ready).store(2, SeqCst);
    check_eq!(wait_exit(first)?, 0);
    atomic(ready).store(3, SeqCst);
    check_eq!(wait_exit(heir)?, 0);
    check_eq!(atomic(lock).load(SeqCst), 0);
    Ok(())
}

/// A child that waits for the word at `at` (and another one) for `ms`: 0 if the first was woken, 1 if the time was up.
fn wait_for_any(at: usize, ms: i64) -> crate::sys::Result<i32> {
    fork(|| {
        let of = |at: usize| Waited { value: 0, at: at as u64, flags: SIZE_32, reserved: 0 };
        let words = [of(at), of(at + 1024)];
        let until = later(CLOCK_MONOTONIC, ms);
        match sys!(SYS_futex_waitv, addr(&words), 2, 0, addr(&until), CLOCK_MONOTONIC) {
            Ok(0) => 0,
            Err(Errno(ETIMEDOUT)) => 1,
            _ => 2,
        }
    })
}

/// Moves one waiter from the first word to the second.
fn requeue(from: usize, to: usize) -> crate::sys::Result<usize> {
    futex(from, FUTEX_CMP_REQUEUE, 0, 1, to, 0)
}

fn requeued_waitv_leaves_nothing_behind() -> Outcome {
    let page = map_shared(4096)?;
    let (from, to) = (page, page + 512);
    let child = wait_for_any(from, 1500)?;
    check!(asleep(child));
    check_eq!(requeue(from, to)?, 1);
    check_eq!(wait_exit(child)?, 1);
    check_eq!(futex(to, FUTEX_WAKE, 9, 0, 0, 0)?, 0);
    check_eq!(futex(from, FUTEX_WAKE, 9, 0, 0, 0)?, 0);
    Ok(())
}

fn requeued_waitv_is_woken_at_its_new_place() -> Outcome {
    let page = map_shared(4096)?;
    let (from, to) = (page, page + 512);
    let child = wait_for_any(from, 20_000)?;
    check!(asleep(child));
    check_eq!(requeue(from, to)?, 1);
    check_eq!(futex(from, FUTEX_WAKE, 9, 0, 0, 0)?, 0);
    check_eq!(futex(to, FUTEX_WAKE, 9, 0, 0, 0)?, 1);
    check!(ended(child));
    check_eq!(wait_exit(child)?, 0);
    Ok(())
}

/// signal(7): "interfaces … never restarted", whichever clock the deadline is on; without a deadline `SA_RESTART` counts.
fn waits_with_a_deadline_are_not_restarted() -> Outcome {
    extern "C" fn handler(_: i32) {}
    let page = map_shared(4096)?;
    for (clock, flag) in [(CLOCK_MONOTONIC, 0), (CLOCK_REALTIME, FUTEX_CLOCK_REALTIME)] {
        atomic(page + 64).store(0, SeqCst);
        let child = fork(|| {
            let mut action: sigaction = zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = SA_RESTART;
            let _ = c!(sigaction(SIGUSR1, &raw const action, std::ptr::null_mut()));
            let until = later(clock, 20_000);
            atomic(page + 64).store(1, SeqCst);
            let result = futex(page, FUTEX_WAIT_BITSET | flag, 0, addr(&until), 0, !0);
            i32::from(result != Err(Errno(EINTR)))
        })?;
        check!(eventually(|| atomic(page + 64).load(SeqCst) == 1) && asleep(child));
        kill(child, SIGUSR1)?;
        check!(ended(child), "clock {clock}");
        check_eq!(wait_exit(child)?, 0);
    }
    Ok(())
}
