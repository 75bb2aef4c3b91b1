//! Time as programs see it: clocks, sleeping, timers, CPU time.
//!
//! The clocks themselves are [`sched::time`]'s. This module owns what belongs to a process: the namespaces' offsets, interval
//! and POSIX timers ([`ProcessTimers`]), CPU-time clocks, and the system calls. time(7).

pub mod adjust;
pub mod clock;
pub mod cpu;
pub mod itimer;
pub mod posix;
pub mod sleep;
pub mod usage;

use crate::process::Process;
use crate::signal::{Siginfo, Signal};
use alloc::sync::{Arc, Weak};
use sync::Once;

/// The timers of a process.
pub struct ProcessTimers {
    /// `ITIMER_REAL`; made when it is first set.
    pub(crate) real: Once<itimer::RealTimer>,
    /// What waits for CPU time.
    pub(crate) cpu: cpu::CpuTimers,
    /// `timer_create`.
    pub(crate) posix: posix::Table,
}

impl ProcessTimers {
    /// No timer.
    pub fn new() -> Self {
        Self { real: Once::new(), cpu: cpu::CpuTimers::new(), posix: posix::Table::new() }
    }

    /// exec: POSIX timers go, interval timers stay.
    pub fn exec(&self) {
        self.posix.clear();
    }

    /// The last thread exits: nothing fires any more.
    pub fn exit(&self) {
        self.posix.clear();
        if let Some(real) = self.real.get() {
            real.stop();
        }
    }
}

impl Default for ProcessTimers {
    fn default() -> Self {
        Self::new()
    }
}

/// A signal of `process` is being taken: timers that wait for that go on.
pub fn delivered(process: &Process, info: &mut Siginfo) {
    posix::delivered(process, info);
    if info.signo == Signal::SIGALRM.number()
        && let Some(real) = process.timers.real.get()
    {
        real.taken();
    }
}

/// The process behind a weak reference that a timer's callback keeps.
pub(crate) fn alive(process: &Weak<Process>) -> Option<Arc<Process>> {
    process.upgrade()
}
