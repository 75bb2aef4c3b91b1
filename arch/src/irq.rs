//! Interrupts on and off on this CPU.

use core::marker::PhantomData;

pub use crate::imp::irq::*;

/// Interrupts are off on this CPU while this lives; then as they were before.
#[must_use]
pub struct IrqGuard {
    flags: Flags,
    _not_send: PhantomData<*mut ()>,
}

impl IrqGuard {
    /// Switches interrupts off.
    #[inline]
    pub fn new() -> Self {
        Self { flags: local_save(), _not_send: PhantomData }
    }
}

impl Default for IrqGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        local_restore(self.flags);
    }
}

/// Whether this CPU runs a hard interrupt handler (or an NMI).
#[inline]
pub fn in_interrupt() -> bool {
    crate::preempt::count() & (crate::preempt::HARDIRQ_MASK | crate::preempt::NMI_MASK) != 0
}
