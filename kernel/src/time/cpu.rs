//! CPU time: clocks that follow it, `ITIMER_VIRTUAL`, `ITIMER_PROF`, `RLIMIT_CPU`.
//!
//! CPU timers are looked at by the tick of a thread that runs, so they are as exact as the tick. A process without
//! any costs that tick one relaxed load.

use super::clock::ClockId;
use crate::process::{Process, Resource, Thread, Usage};
use crate::signal::{Signal, send};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sched::Deadline;

/// One interval timer over CPU time; 0: not set.
#[derive(Default)]
pub(crate) struct CpuTimer {
    expires_ns: AtomicU64,
    interval_ns: AtomicU64,
}

/// The CPU timers of a process.
pub(crate) struct CpuTimers {
    /// Any of them is set.
    armed: AtomicBool,
    /// User time.
    pub(crate) virt: CpuTimer,
    /// User and system time.
    pub(crate) prof: CpuTimer,
    /// Seconds of CPU time at which the next `SIGXCPU` is due; 0: at the soft limit.
    xcpu_seconds: AtomicU64,
}

impl CpuTimers {
    pub(crate) fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            virt: CpuTimer::default(),
            prof: CpuTimer::default(),
            xcpu_seconds: AtomicU64::new(0),
        }
    }

    /// The tick has to look from now on.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }
}

impl CpuTimer {
    /// Time left and interval.
    pub(crate) fn get(&self, now: u64) -> (u64, u64) {
        let expires = self.expires_ns.load(Ordering::Relaxed);
        // A timer that is due and waits for the tick is not "off".
        let left = if expires == 0 { 0 } else { expires.saturating_sub(now).max(1000) };
        (left, self.interval_ns.load(Ordering::Relaxed))
    }

    /// Sets time left and interval; 0 stops it.
    pub(crate) fn set(&self, now: u64, left: u64, interval: u64) {
        let expires = if left == 0 { 0 } else { now.saturating_add(left) };
        self.interval_ns.store(interval, Ordering::Relaxed);
        self.expires_ns.store(expires, Ordering::Relaxed);
    }

    fn check(&self, process: &Arc<Process>, now: u64, signal: Signal) {
        let expires = self.expires_ns.load(Ordering::Relaxed);
        if expires == 0 || now < expires {
            return;
        }
        let interval = self.interval_ns.load(Ordering::Relaxed);
        let next = if interval == 0 { 0 } else { expires.saturating_add(interval) };
        if self.expires_ns.compare_exchange(expires, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            send::kernel_signal(process, signal);
        }
    }
}

/// CPU time of all threads, dead and alive.
pub fn process_ns(process: &Process) -> u64 {
    let dead = process.accounts.lock().dead;
    let mut sum = dead.utime_ns + dead.stime_ns;
    process.sig.lock().for_each(|task, _| sum += task.exec_runtime_ns());
    sum
}

/// User time of all threads, dead and alive.
pub fn process_user_ns(process: &Process) -> u64 {
    let mut sum = process.accounts.lock().dead.utime_ns;
    process.sig.lock().for_each(|task, _| sum += Usage::of(task).utime_ns);
    sum
}

/// On the way to user mode after a tick: expired timers and the CPU limit.
pub fn check(thread: &Thread) {
    let process = &thread.process;
    let timers = &process.timers.cpu;
    let limit = process.limits.cur(Resource::Cpu);
    if !timers.armed.load(Ordering::Relaxed) && limit == u64::MAX {
        return;
    }
    let now = process_ns(process);
    timers.virt.check(process, process_user_ns(process), Signal::SIGVTALRM);
    timers.prof.check(process, now, Signal::SIGPROF);
    if limit != u64::MAX {
        check_limit(process, now / abi::time::NSEC_PER_SEC, limit);
    }
}

fn check_limit(process: &Arc<Process>, seconds: u64, soft: u64) {
    if seconds >= process.limits.get(Resource::Cpu).max {
        send::kill_process(process);
        return;
    }
    let due = process.timers.cpu.xcpu_seconds.load(Ordering::Relaxed).max(soft);
    if seconds >= due {
        // Once a second from the soft limit on.
        process.timers.cpu.xcpu_seconds.store(seconds + 1, Ordering::Relaxed);
        send::kernel_signal(process, Signal::SIGXCPU);
    }
}

/// `clock_nanosleep` on a CPU-time clock: looks every few milliseconds.
///
/// # Errors
/// `ERESTARTNOHAND` when a signal came.
pub fn sleep(clock: &ClockId, ns: u64, absolute: bool) -> Result<()> {
    let until = if absolute { ns } else { clock.now_ns().saturating_add(ns) };
    while clock.now_ns() < until {
        let step = Deadline::after_ns((until - clock.now_ns().min(until)).clamp(1_000_000, 10_000_000));
        if !super::sleep::wait_until(Some(step), || false) {
            return Err(if absolute { Errno::ERESTARTNOHAND } else { Errno::EINTR });
        }
    }
    Ok(())
}
