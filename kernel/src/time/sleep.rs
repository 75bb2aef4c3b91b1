//! Sleeping: nanosleep(2), clock_nanosleep(2), and the waits of other calls.

use super::clock::{ClockId, may_wake_machine, to_sched};
use crate::process::current;
use crate::process::thread::Restart;
use crate::syscall::Syscall;
use abi::time::Timespec;
use abi::{Errno, Result, raw};
use core::sync::atomic::Ordering;
use mm::user::UserPtr;
use sched::wait::{Wait, WaitQueue};
use sched::{Clock, Deadline, WaitError};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[NANOSLEEP, CLOCK_NANOSLEEP];

/// A deadline on one of the clocks that can be slept on, with the running thread's slack.
pub fn deadline(clock: i32, ns: u64) -> Deadline {
    let clock = to_sched(clock).unwrap_or(Clock::Monotonic);
    Deadline::at(clock, ns).with_slack(current().timer_slack_ns.load(Ordering::Relaxed))
}

/// Sleeps interruptibly until `done`, a signal or `deadline`; whether it was the deadline.
pub fn wait_until(deadline: Option<Deadline>, mut done: impl FnMut() -> bool) -> bool {
    let nobody = WaitQueue::new();
    let how = Wait::INTERRUPTIBLE.until(deadline);
    matches!(nobody.wait(how, || done().then_some(())), Err(WaitError::TimedOut))
}

/// Sleeps until a signal or `deadline_ns` on the monotonic clock; whether it was the deadline.
pub fn interruptible_until(deadline_ns: Option<u64>) -> bool {
    wait_until(deadline_ns.map(|ns| Deadline::at(Clock::Monotonic, ns)), || false)
}

/// Sleeps until `ns` on `clock`.
///
/// # Errors
/// `ERESTARTNOHAND` for absolute sleeps that a signal ends, `ERESTART_RESTARTBLOCK` for relative ones.
fn sleep(clock: i32, ns: u64, absolute: bool, rem: usize) -> Result<()> {
    let until = deadline(clock, ns);
    if wait_until(Some(until), || false) {
        return Ok(());
    }
    if absolute {
        return Err(Errno::ERESTARTNOHAND);
    }
    let left = until.remaining_ns();
    if left == 0 {
        return Ok(());
    }
    if rem != 0 {
        UserPtr::<Timespec>::new(rem).write(&Timespec::from_ns(left))?;
    }
    *current().restart.lock() = Restart::Nanosleep { clock, deadline_ns: ns, rem };
    Err(Errno::ERESTART_RESTARTBLOCK)
}

/// `restart_syscall(2)` of a relative sleep.
pub fn resume(clock: i32, deadline_ns: u64, rem: usize) -> Result<isize> {
    if let ClockId::Cpu(cpu) = ClockId::new(clock)? {
        return super::cpu::sleep::resume(&cpu, clock, deadline_ns, rem).map(|()| 0);
    }
    sleep(clock, deadline_ns, false, rem).map(|()| 0)
}

#[macros::syscall(nanosleep)]
fn sys_nanosleep(duration: UserPtr<Timespec>, rem: usize) -> Result<()> {
    let ns = duration.read()?.to_ns()?;
    sleep(raw::CLOCK_MONOTONIC as i32, sched::time::monotonic_ns().saturating_add(ns), false, rem)
}

#[macros::syscall(clock_nanosleep)]
fn sys_clock_nanosleep(clockid: i32, flags: i32, t: UserPtr<Timespec>, rem: usize) -> Result<()> {
    let clock = ClockId::new(clockid)?;
    let ns = t.read()?.to_ns()?;
    let absolute = flags as u32 & raw::TIMER_ABSTIME != 0;
    match clock {
        ClockId::System(raw_clock) => {
            let Some(sched_clock) = to_sched(raw_clock) else { return Err(Errno::EOPNOTSUPP) };
            may_wake_machine(raw_clock)?;
            if absolute {
                sleep(raw_clock, super::clock::from_namespace(raw_clock, ns), true, 0)
            } else {
                // Setting the wall clock must not change how long a relative sleep takes.
                let base =
                    if sched_clock == Clock::Realtime { raw::CLOCK_MONOTONIC as i32 } else { raw_clock };
                let now = sched::time::clock_ns(to_sched(base).unwrap_or(Clock::Monotonic));
                sleep(base, now.saturating_add(ns), false, rem)
            }
        }
        // The fixed number has no sleep at all.
        ClockId::Cpu(_) if clockid as u32 == raw::CLOCK_THREAD_CPUTIME_ID => Err(Errno::EOPNOTSUPP),
        ClockId::Cpu(clock) => super::cpu::sleep::nanosleep(&clock, clockid, ns, absolute, rem),
    }
}
