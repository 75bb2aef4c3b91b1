//! Interval timers: setitimer(2), getitimer(2), alarm(2).

use super::alive;
use super::cpu::{Kind, process_time};
use crate::process::{Process, current};
use crate::signal::{Signal, send};
use crate::syscall::Syscall;
use abi::time::{Itimerval, NSEC_PER_SEC, Timeval};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::user::UserPtr;
use sched::hrtimer::{HrTimer, Restart};
use sched::{Clock, Deadline};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SETITIMER, GETITIMER, ALARM];

/// `ITIMER_REAL`.
pub(crate) struct RealTimer {
    timer: HrTimer,
    /// When it expires next, or expired last.
    expired_ns: AtomicU64,
    interval_ns: AtomicU64,
    /// One change at a time.
    setting: SpinLock<()>,
}

impl RealTimer {
    fn new(process: &Arc<Process>) -> Result<Self> {
        let owner = Arc::downgrade(process);
        let timer = HrTimer::new(move |_| {
            if let Some(process) = alive(&owner) {
                send::kernel_signal(&process, Signal::SIGALRM);
            }
            Restart::No
        })?;
        Ok(Self {
            timer,
            expired_ns: AtomicU64::new(0),
            interval_ns: AtomicU64::new(0),
            setting: SpinLock::new(()),
        })
    }

    /// Its signal is taken (or another `SIGALRM`): a repeating timer that has expired goes on, in rhythm. A signal that nobody
    /// takes does not repeat, so that a short interval costs nothing.
    pub(crate) fn taken(&self) {
        let step = self.interval_ns.load(Ordering::Relaxed);
        if step == 0 {
            return;
        }
        let _one = self.setting.lock();
        let step = self.interval_ns.load(Ordering::Relaxed);
        let expired = self.expired_ns.load(Ordering::Relaxed);
        if step == 0 || expired == 0 || self.timer.is_queued() {
            return;
        }
        let late = sched::time::monotonic_ns().saturating_sub(expired);
        self.start(expired.saturating_add((late / step + 1).saturating_mul(step)));
    }

    fn start(&self, ns: u64) {
        self.expired_ns.store(ns, Ordering::Relaxed);
        self.timer.start(Deadline::at(Clock::Monotonic, ns));
    }

    fn get(&self) -> (u64, u64) {
        let left = self.timer.deadline().map_or(0, |d| d.remaining_ns().max(1000));
        (left, self.interval_ns.load(Ordering::Relaxed))
    }

    fn set(&self, left: u64, interval: u64) {
        let _one = self.setting.lock();
        self.timer.cancel();
        self.interval_ns.store(interval, Ordering::Relaxed);
        self.expired_ns.store(0, Ordering::Relaxed);
        if left != 0 {
            self.start(sched::time::monotonic_ns().saturating_add(left));
        }
    }

    pub(crate) fn stop(&self) {
        self.set(0, 0);
    }
}

fn real(process: &Arc<Process>) -> Result<&RealTimer> {
    if let Some(timer) = process.timers.real.get() {
        return Ok(timer);
    }
    let fresh = RealTimer::new(process)?;
    Ok(process.timers.real.call_once(|| fresh))
}

/// Time left and interval of timer `which`.
fn get(process: &Arc<Process>, which: u32) -> Result<(u64, u64)> {
    let cpu = &process.timers.cpu;
    match which {
        raw::ITIMER_REAL => Ok(process.timers.real.get().map_or((0, 0), RealTimer::get)),
        raw::ITIMER_VIRTUAL => Ok(cpu.virt.get(process_time(process, Kind::Virt))),
        raw::ITIMER_PROF => Ok(cpu.prof.get(process_time(process, Kind::Prof))),
        _ => Err(Errno::EINVAL),
    }
}

fn set(process: &Arc<Process>, which: u32, left: u64, interval: u64) -> Result<()> {
    let cpu = &process.timers.cpu;
    match which {
        raw::ITIMER_REAL if left == 0 && process.timers.real.get().is_none() => return Ok(()),
        raw::ITIMER_REAL => {
            real(process)?.set(left, interval);
            return Ok(());
        }
        raw::ITIMER_VIRTUAL => cpu.virt.set(process_time(process, Kind::Virt), left, interval),
        raw::ITIMER_PROF => cpu.prof.set(process_time(process, Kind::Prof), left, interval),
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
