//! The part of a timer that its callbacks use: its state, and what an expiry does.

use crate::process::Process;
use crate::process::user::{SignalCharge, UserCounts};
use crate::signal::send::{self, Posted};
use crate::signal::{Siginfo, Signal};
use crate::time::alive;
use crate::time::cpu::queue::Waiter;
use crate::time::cpu::{Kind, WeakClock};
use alloc::sync::{Arc, Weak};
use arch::sync::SpinLockIrq;
use core::sync::atomic::{AtomicU64, Ordering};
use sched::time::TICK_NS;
use sched::{Clock, Task};

/// What an expiry does.
pub(super) enum Notify {
    Nothing,
    Process(Weak<Process>),
    Thread(Weak<Task>),
}

/// Which clock a timer follows.
pub(super) enum Source {
    /// `CLOCK_*`, and the clock behind it.
    System(i32, Clock),
    Cpu(WeakClock, Kind),
}

pub(super) struct State {
    /// 0: once.
    pub(super) interval_ns: u64,
    /// On `clock` or the CPU-time clock; 0: not set.
    pub(super) expires_ns: u64,
    /// What `expires_ns` is on, for a system clock: relative times do not follow changes of the wall clock.
    pub(super) clock: Clock,
    /// Will expire by itself.
    pub(super) armed: bool,
    /// The signal of an expiry is queued.
    pub(super) pending: bool,
    /// Which setting and expiry this is; never 0.
    pub(super) generation: i32,
    /// Intervals that passed since that expiry.
    pub(super) passed: u64,
    /// Overruns of the signal that was taken last.
    pub(super) overrun: i32,
    /// Room for the signal, when it is not queued.
    pub(super) charge: Option<SignalCharge>,
}

impl State {
    /// Moves the expiry beyond `now` in whole intervals; how many.
    pub(super) fn forward(&mut self, now: u64) -> u64 {
        if self.interval_ns == 0 || now < self.expires_ns {
            return 0;
        }
        let steps = (now - self.expires_ns) / self.interval_ns + 1;
        self.expires_ns = self.expires_ns.saturating_add(steps.saturating_mul(self.interval_ns));
        steps
    }

    pub(super) fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1).max(1);
    }
}

/// What a timer is, and where it stands.
pub(crate) struct Core {
    pub(super) id: i32,
    pub(super) notify: Notify,
    pub(super) signal: Signal,
    pub(super) value: u64,
    pub(super) source: Source,
    pub(super) user: Option<Arc<UserCounts>>,
    pub(super) state: SpinLockIrq<State>,
    /// When it is due, for the queue of a CPU-time clock; `u64::MAX`: not set. Written under `state`.
    pub(super) due_ns: AtomicU64,
}

impl Core {
    /// What the timer's clock shows, and which clock that is; `None`: whose CPU time it was is gone. Not under `state`:
    /// CPU time has locks of its own.
    pub(super) fn now(&self) -> Option<(Clock, u64)> {
        let clock = self.state.lock().clock;
        match &self.source {
            Source::System(..) => Some((clock, sched::time::clock_ns(clock))),
            Source::Cpu(source, _) => source.upgrade().map(|source| (clock, source.now_ns())),
        }
    }

    /// It is due. Returns when it is due again, if it goes on without its signal being taken.
    pub(super) fn expired(&self, now: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let next = self.expire_locked(&mut state, now);
        // Under the lock, so that who sets the timer at the same time comes before or after all of this.
        self.due_ns.store(next.unwrap_or(u64::MAX), Ordering::Relaxed);
        next
    }

    fn expire_locked(&self, state: &mut State, now: u64) -> Option<u64> {
        if !state.armed {
            return None;
        }
        if now < state.expires_ns {
            // Set anew, or the clock, since somebody saw that it was due.
            return Some(state.expires_ns);
        }
        state.armed = false;
        state.passed = 0;
        state.next_generation();
        let mut info = Siginfo::from_timer(self.signal.number(), self.id, 0, self.value);
        info.pad = state.generation;
        let posted = match &self.notify {
            Notify::Nothing => Posted::Ignored,
            Notify::Process(process) => alive(process).map_or(Posted::Ignored, |process| {
                send::timer_to_process(&process, self.signal, &info, &mut state.charge)
            }),
            Notify::Thread(task) => task.upgrade().map_or(Posted::Ignored, |task| {
                send::timer_to_thread(&task, self.signal, &info, &mut state.charge)
            }),
        };
        state.pending = posted == Posted::Queued;
        if state.pending || state.interval_ns == 0 {
            return None;
        }
        // Nobody hears of it now; the action may change. Not more often than the tick.
        let floor = if state.interval_ns < TICK_NS { TICK_NS } else { 0 };
        state.forward(now.saturating_add(floor));
        state.armed = true;
        Some(state.expires_ns)
    }

    pub(super) fn queue_entry(self: &Arc<Self>) -> Arc<dyn Waiter> {
        self.clone()
    }

    pub(super) fn never_signals(&self) -> bool {
        matches!(self.notify, Notify::Nothing)
    }
}

impl Waiter for Core {
    fn kind(&self) -> Kind {
        match self.source {
            Source::Cpu(_, kind) => kind,
            Source::System(..) => Kind::Sched,
        }
    }

    fn due_ns(&self) -> u64 {
        self.due_ns.load(Ordering::Relaxed)
    }

    fn expire(&self, now: u64) {
        self.expired(now);
    }
}
