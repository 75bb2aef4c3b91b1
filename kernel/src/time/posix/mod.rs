//! POSIX timers: timer_create(2) and relatives.
//!
//! [`state`] has a timer's state and what an expiry does, [`Timer`] sets and stops it, and [`table`] finds it by its id. It follows a system clock by an `HrTimer`, or CPU time by
//! an entry in that clock's [queue](super::cpu::queue).
//!
//! # One signal at a time
//!
//! An expiry queues one signal and stops the timer. When the signal is taken ([`delivered`]), a repeating timer goes on: the
//! expiries that passed meanwhile are its overruns, which the signal reports and timer_getoverrun(2) repeats. So a short
//! interval costs no interrupts that nobody sees. The siginfo carries the timer's generation, which every change of
//! the timer moves on; the signal of an earlier setting starts nothing.
//!
//! The signal's place on the user's account (`RLIMIT_SIGPENDING`) is taken when the timer is made, and travels with the
//! signal.
//!
//! Locks: `setting` (one change at a time, stops the running callback) → `state` (interrupts off) → siglock, timer base,
//! CPU-time queue.

mod state;
pub(crate) mod syscalls;
pub(crate) mod table;

use super::cpu::CpuClock;
use super::cpu::queue::Waiter;
use crate::process::user::{SignalCharge, UserCounts};
use crate::process::{Process, Thread};
use crate::signal::Siginfo;
use abi::signal::SI_TIMER;
use abi::time::{Itimerspec, Timespec};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::sync::SpinLock;
use core::sync::atomic::Ordering;
use sched::hrtimer::{HrTimer, Restart};
use sched::{Clock, Deadline};
use sync::Once;

use state::{Core, Notify, Source, State};
pub(crate) use table::Table;

/// One timer.
pub(crate) struct Timer {
    core: Arc<Core>,
    hr: Once<HrTimer>,
    setting: SpinLock<()>,
}

impl Timer {
    /// A timer on CPU time begins to stand in its clock's queue.
    fn attach(&self, clock: &CpuClock) -> Result<()> {
        clock.queue().ok_or(Errno::EINVAL)?.add(self.core.queue_entry())
    }

    /// Stops it for good.
    fn detach(&self) {
        let _one = self.setting.lock();
        self.stop();
        if let Source::Cpu(clock, _) = &self.core.source
            && let Some(clock) = clock.upgrade()
            && let Some(queue) = clock.queue()
        {
            queue.remove(&self.core.queue_entry());
        }
    }

    /// Nothing fires after this, and no signal that is queued starts it again. Under `setting`.
    fn stop(&self) {
        {
            let mut state = self.core.state.lock();
            state.armed = false;
            state.pending = false;
            state.next_generation();
            self.core.due_ns.store(u64::MAX, Ordering::Relaxed);
        }
        if let Some(hr) = self.hr.get() {
            hr.cancel();
        }
    }

    /// Lets it expire at the time in `state`, which is locked.
    fn arm(&self, state: &mut State) {
        state.armed = true;
        match &self.core.source {
            Source::System(..) => {
                if let Some(hr) = self.hr.get() {
                    hr.start(Deadline::at(state.clock, state.expires_ns));
                }
            }
            Source::Cpu(clock, kind) => {
                self.core.due_ns.store(state.expires_ns, Ordering::Relaxed);
                if let Some(clock) = clock.upgrade()
                    && let Some(queue) = clock.queue()
                {
                    queue.arm(*kind, state.expires_ns);
                    clock.arm();
                }
            }
        }
    }

    /// Makes what the first setting will need.
    fn prepare(&self) -> Result<()> {
        if matches!(self.core.source, Source::System(..)) {
            let core = self.core.clone();
            let hr = HrTimer::new(move |_| {
                // The time of this interrupt may be that of its beginning.
                let clock = core.state.lock().clock;
                core.expired(sched::time::clock_ns(clock)).map_or(Restart::No, Restart::At)
            })?;
            let _ = self.hr.set(hr);
        }
        Ok(())
    }

    /// Time left and interval, for timer_gettime(2).
    fn get(&self) -> Itimerspec {
        let Some((clock, now)) = self.core.now() else { return Itimerspec::default() };
        let mut state = self.core.state.lock();
        let none = self.core.never_signals();
        let interval = Timespec::from_ns(state.interval_ns);
        let idle = Itimerspec { interval, value: Timespec::default() };
        if state.expires_ns == 0 || !state.armed && !none && state.interval_ns == 0 {
            return idle;
        }
        // Another thread may have set it anew since.
        if !state.armed && state.clock == clock {
            let steps = state.forward(now);
            state.passed = state.passed.saturating_add(steps);
        }
        let left = match state.expires_ns.saturating_sub(now) {
            0 if none => 0,
            left => left.max(1),
        };
        Itimerspec { interval, value: Timespec::from_ns(left) }
    }

    /// Sets it; returns what [`Self::get`] told before.
    ///
    /// # Errors
    /// `ESRCH`: whose CPU time it follows is gone.
    fn set(&self, value_ns: u64, interval_ns: u64, absolute: bool) -> Result<Itimerspec> {
        let _one = self.setting.lock();
        let before = self.get();
        if let Source::Cpu(clock, _) = &self.core.source
            && clock.upgrade().is_none()
        {
            return Err(Errno::ESRCH);
        }
        self.stop();
        let used = self.core.now().map_or(0, |(_, now)| now);
        let mut state = self.core.state.lock();
        state.interval_ns = if value_ns == 0 { 0 } else { interval_ns };
        state.expires_ns = 0;
        state.passed = 0;
        state.overrun = 0;
        if state.charge.is_none() {
            state.charge = self.core.user.as_ref().and_then(|user| SignalCharge::new(user, u64::MAX));
        }
        if value_ns == 0 {
            return Ok(before);
        }
        state.expires_ns = match self.core.source {
            Source::System(id, clock) if absolute => {
                state.clock = clock;
                super::clock::from_namespace(id, value_ns).max(1)
            }
            Source::System(_, clock) => {
                state.clock = if clock == Clock::Realtime { Clock::Monotonic } else { clock };
                sched::time::clock_ns(state.clock).saturating_add(value_ns)
            }
            Source::Cpu(..) if absolute => value_ns,
            Source::Cpu(..) => used.saturating_add(value_ns),
        };
        if self.core.never_signals() {
            return Ok(before);
        }
        self.arm(&mut state);
        drop(state);
        self.fire_if_due();
        Ok(before)
    }

    /// A CPU-time timer that is due when it is set does not wait for a tick.
    fn fire_if_due(&self) {
        if let Source::Cpu(clock, _) = &self.core.source
            && let Some(clock) = clock.upgrade()
        {
            let now = clock.now_ns();
            if now >= self.core.due_ns() {
                self.core.expire(now);
            }
        }
    }

    /// Its signal is taken: tells the overruns, and goes on.
    fn taken(&self, info: &mut Siginfo) {
        let now = self.core.now();
        let mut state = self.core.state.lock();
        if !state.pending || state.generation != info.pad {
            return;
        }
        state.pending = false;
        if state.charge.is_none() {
            state.charge = self.core.user.as_ref().and_then(|user| SignalCharge::new(user, u64::MAX));
        }
        if state.interval_ns == 0 {
            return;
        }
        let Some((_, now)) = now else { return };
        let passed = state.forward(now).saturating_add(state.passed);
        state.overrun = i32::try_from(passed.saturating_sub(1)).unwrap_or(i32::MAX);
        info.put(4, &state.overrun.to_ne_bytes());
        state.next_generation();
        self.arm(&mut state);
    }
}

/// A signal that was queued by a timer is being taken, by a handler, `sigwaitinfo` or a signalfd.
pub(super) fn delivered(process: &Process, info: &mut Siginfo) {
    if info.code != SI_TIMER || info.pad == 0 {
        return;
    }
    if let Ok(timer) = process.timers.posix.find(info.pid()) {
        timer.taken(info);
    }
    info.pad = 0;
}

/// The account of the running thread's user.
fn account(thread: &Thread) -> Option<Arc<UserCounts>> {
    thread.charge.lock().as_ref().map(|charge| charge.user().clone())
}
