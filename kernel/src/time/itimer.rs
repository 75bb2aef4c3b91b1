//! Interval timers: setitimer(2), getitimer(2), alarm(2).

use super::alive;
use crate::process::{Process, current};
use crate::signal::{Signal, send};
use crate::syscall::Syscall;
use abi::time::{Itimerval, NSEC_PER_SEC, Timeval};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::user::UserPtr;
use sched::hrtimer::{HrTimer, Restart};
use sched::{Clock, Deadline};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SETITIMER, GETITIMER, ALARM];

/// `ITIMER_REAL`.
pub(crate) struct RealTimer {
    timer: HrTimer,
    interval_ns: Arc<AtomicU64>,
}

impl RealTimer {
    fn new(process: &Arc<Process>) -> Self {
        let interval_ns = Arc::new(AtomicU64::new(0));
        let (owner, interval) = (Arc::downgrade(process), interval_ns.clone());
        let timer = HrTimer::new(move |now| {
            let Some(process) = alive(&owner) else { return Restart::No };
            send::kernel_signal(&process, Signal::SIGALRM);
            match interval.load(Ordering::Relaxed) {
                0 => Restart::No,
                step => Restart::At(now.saturating_add(step)),
            }
        });
        Self { timer, interval_ns }
    }

    fn get(&self) -> (u64, u64) {
        let left = self.timer.deadline().map_or(0, |d| d.remaining_ns().max(1000));
        (left, self.interval_ns.load(Ordering::Relaxed))
    }

    fn set(&self, left: u64, interval: u64) {
        self.timer.cancel();
        self.interval_ns.store(interval, Ordering::Relaxed);
        if left != 0 {
            let ns = sched::time::monotonic_ns().saturating_add(left);
            self.timer.start(Deadline::at(Clock::Monotonic, ns));
        }
    }

    pub(crate) fn stop(&self) {
        self.timer.cancel();
    }
}

fn real(process: &Arc<Process>) -> &RealTimer {
    process.timers.real.call_once(|| RealTimer::new(process))
}

/// Time left and interval of timer `which`.
fn get(process: &Arc<Process>, which: u32) -> Result<(u64, u64)> {
    let cpu = &process.timers.cpu;
    match which {
        raw::ITIMER_REAL => Ok(process.timers.real.get().map_or((0, 0), RealTimer::get)),
        raw::ITIMER_VIRTUAL => Ok(cpu.virt.get(super::cpu::process_user_ns(process))),
        raw::ITIMER_PROF => Ok(cpu.prof.get(super::cpu::process_ns(process))),
        _ => Err(Errno::EINVAL),
    }
}

fn set(process: &Arc<Process>, which: u32, left: u64, interval: u64) -> Result<()> {
    let cpu = &process.timers.cpu;
    match which {
        raw::ITIMER_REAL if left == 0 && process.timers.real.get().is_none() => return Ok(()),
        raw::ITIMER_REAL => {
            real(process).set(left, interval);
            return Ok(());
        }
        raw::ITIMER_VIRTUAL => cpu.virt.set(super::cpu::process_user_ns(process), left, interval),
        raw::ITIMER_PROF => cpu.prof.set(super::cpu::process_ns(process), left, interval),
        _ => return Err(Errno::EINVAL),
    }
    cpu.arm();
    Ok(())
}

fn shown((left, interval): (u64, u64)) -> Itimerval {
    Itimerval { interval: Timeval::from_ns(interval), value: Timeval::from_ns(left) }
}

#[macros::syscall(getitimer)]
fn sys_getitimer(which: i32, value: UserPtr<Itimerval>) -> Result<()> {
    value.write(&shown(get(&current().process, which as u32)?))
}

#[macros::syscall(setitimer)]
fn sys_setitimer(which: i32, new: UserPtr<Itimerval>, old: UserPtr<Itimerval>) -> Result<()> {
    let new = new.read_opt()?.unwrap_or_default();
    let (left, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let process = current().process.clone();
    let before = get(&process, which as u32)?;
    set(&process, which as u32, left, interval)?;
    old.write_opt(&shown(before))
}

#[macros::syscall(alarm)]
fn sys_alarm(seconds: u32) -> Result<u64> {
    let process = current().process.clone();
    let (left, _) = get(&process, raw::ITIMER_REAL)?;
    set(&process, raw::ITIMER_REAL, u64::from(seconds) * NSEC_PER_SEC, 0)?;
    // Rounded to seconds, but a timer that was set is never reported as none.
    let rounded = (left + NSEC_PER_SEC / 2) / NSEC_PER_SEC;
    Ok(if left != 0 { rounded.max(1) } else { 0 })
}
