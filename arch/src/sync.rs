//! The kernel's locks: `lib/sync`'s, with what they switch off filled in.
//!
//! [`SpinLock`] switches preemption off and may not be taken in interrupt handlers; [`SpinLockIrq`] switches
//! interrupts off and is the only kind that a handler may take. They are different types on purpose.

use sync::Context;

use crate::{irq, preempt};

/// Preemption off while the lock is held.
#[derive(Debug, Clone, Copy)]
pub struct Preempt;

impl Context for Preempt {
    type Saved = ();

    #[inline]
    fn enter() {
        preempt::disable();
    }

    #[inline]
    fn leave((): ()) {
        preempt::enable();
    }
}

/// Interrupts off while the lock is held.
#[derive(Debug, Clone, Copy)]
pub struct Irq;

impl Context for Irq {
    type Saved = irq::Flags;
    const IRQS_OFF: bool = true;

    #[inline]
    fn enter() -> irq::Flags {
        irq::local_save()
    }

    #[inline]
    fn leave(saved: irq::Flags) {
        irq::local_restore(saved);
        // Whoever was woken under the lock may have to run now.
        preempt::check();
    }
}

/// A spin lock for task context.
pub type SpinLock<T> = sync::SpinLock<T, Preempt>;
/// A spin lock that interrupt handlers may take too.
pub type SpinLockIrq<T> = sync::SpinLock<T, Irq>;
/// A reader-writer spin lock for task context.
pub type RwSpinLock<T> = sync::RwSpinLock<T, Preempt>;
/// A reader-writer spin lock that interrupt handlers may take too.
pub type RwSpinLockIrq<T> = sync::RwSpinLock<T, Irq>;
/// A sequence lock: readers never wait for each other and retry after a writer.
pub type SeqLock<T> = sync::SeqLock<T, Preempt>;
