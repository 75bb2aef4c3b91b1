//! What a process does with each signal: the table behind sigaction(2).
//!
//! Shared by the threads of a process and, with `CLONE_SIGHAND`, by processes. The table has its
//! own lock, taken inside a process's `siglock`. Senders need only one fact, whether a signal is
//! ignored; that is kept as a bit set that is read without the lock.

use super::set::{Default, NSIG, SigSet, Signal, default_action};
use abi::raw;
use abi::signal::Sigaction;
use arch::sync::SpinLockIrq;
use core::sync::atomic::{AtomicU64, Ordering};

/// `SIG_DFL`.
pub const SIG_DFL: usize = 0;
/// `SIG_IGN`.
pub const SIG_IGN: usize = 1;

/// What a signal does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// `SIG_IGN`.
    Ignore,
    /// `SIG_DFL`.
    Default(Default),
    /// A handler.
    Handler(Sigaction),
}

/// The table of actions (Linux: `sighand_struct`).
pub struct SigHand {
    actions: SpinLockIrq<[Sigaction; NSIG as usize]>,
    /// Bit per signal: its action is to do nothing.
    ignored: AtomicU64,
    /// Bit per signal: it has a handler.
    handled: AtomicU64,
}

impl core::default::Default for SigHand {
    fn default() -> Self {
        Self::new()
    }
}

impl SigHand {
    /// Every signal at its default.
    pub const fn new() -> Self {
        let default = Sigaction { handler: SIG_DFL, flags: 0, restorer: 0, mask: 0 };
        Self {
            actions: SpinLockIrq::new([default; NSIG as usize]),
            ignored: AtomicU64::new(SigSet::DEFAULT_IGNORED.0),
            handled: AtomicU64::new(0),
        }
    }

    /// A copy for a new process.
    pub fn duplicate(&self) -> Self {
        let actions = self.actions.lock();
        Self {
            actions: SpinLockIrq::new(*actions),
            ignored: AtomicU64::new(self.ignored.load(Ordering::Relaxed)),
            handled: AtomicU64::new(self.handled.load(Ordering::Relaxed)),
        }
    }

    /// The action for `signal`.
    pub fn get(&self, signal: Signal) -> Sigaction {
        self.actions.lock().get(signal.index()).copied().unwrap_or_default()
    }

    /// Sets the action for `signal` and returns the old one.
    pub fn set(&self, signal: Signal, action: Sigaction) -> Sigaction {
        let mut actions = self.actions.lock();
        let Some(slot) = actions.get_mut(signal.index()) else { return Sigaction::default() };
        let old = core::mem::replace(slot, action);
        self.note(signal, action.handler);
        old
    }

    fn note(&self, signal: Signal, handler: usize) {
        let bit = signal.bit().0;
        let ignored = handler == SIG_IGN || handler == SIG_DFL && SigSet::DEFAULT_IGNORED.has(signal);
        let handled = handler != SIG_IGN && handler != SIG_DFL;
        for (word, on) in [(&self.ignored, ignored), (&self.handled, handled)] {
            if on {
                word.fetch_or(bit, Ordering::Relaxed);
            } else {
                word.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }

    /// Signals whose arrival changes nothing (`SIGCONT` continues even so).
    pub fn ignored(&self) -> SigSet {
        SigSet(self.ignored.load(Ordering::Relaxed))
    }

    /// Signals with a handler (`SigCgt` of `/proc/<pid>/status`).
    pub fn handled(&self) -> SigSet {
        SigSet(self.handled.load(Ordering::Relaxed))
    }

    /// Signals whose action is `SIG_IGN` (`SigIgn` of `/proc/<pid>/status`).
    pub fn explicitly_ignored(&self) -> SigSet {
        let actions = self.actions.lock();
        let mut set = SigSet::EMPTY;
        for (bit, action) in actions.iter().enumerate() {
            if action.handler == SIG_IGN {
                set.0 |= 1 << bit;
            }
        }
        set
    }

    /// What `signal` does, and forgets a `SA_RESETHAND` handler in the same step.
    pub fn take_for_delivery(&self, signal: Signal) -> Disposition {
        let mut actions = self.actions.lock();
        let Some(slot) = actions.get_mut(signal.index()) else { return Disposition::Ignore };
        let action = *slot;
        match action.handler {
            SIG_IGN => Disposition::Ignore,
            SIG_DFL => Disposition::Default(default_action(signal)),
            _ => {
                if action.flags & u64::from(raw::SA_RESETHAND) != 0 {
                    slot.handler = SIG_DFL;
                    self.note(signal, SIG_DFL);
                }
                Disposition::Handler(action)
            }
        }
    }

    /// Puts one signal back to its default.
    pub fn reset(&self, signal: Signal) {
        self.set(signal, Sigaction::default());
    }

    /// execve(2): handlers go back to the default, ignored signals stay ignored.
    pub fn flush_handlers(&self) {
        let mut actions = self.actions.lock();
        for (index, slot) in actions.iter_mut().enumerate() {
            let handler = if slot.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *slot = Sigaction { handler, ..Sigaction::default() };
            if let Some(signal) = Signal::new(index as i32 + 1) {
                self.note(signal, handler);
            }
        }
    }

    /// Whether the action of `SIGCHLD` makes children vanish without `wait`:
    /// ignored, or `SA_NOCLDWAIT`.
    pub fn reaps_children(&self) -> bool {
        let action = self.get(Signal::SIGCHLD);
        action.handler == SIG_IGN || action.flags & u64::from(raw::SA_NOCLDWAIT) != 0
    }
}
