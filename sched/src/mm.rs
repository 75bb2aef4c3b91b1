//! What the scheduler knows of address spaces: how to switch to one.

use alloc::sync::Arc;

/// An address space that a CPU can run on; implemented by the memory manager.
pub trait AddressSpaceSwitch: Send + Sync {
    /// Loads this address space on the current CPU. Called by the context switch with interrupts
    /// off, on the stack of the old task. Must be cheap if it is loaded already, and must see to it
    /// that the tables are not freed while a CPU still has them loaded (lazily).
    fn activate(&self);
}

/// A task's hold on its address space.
pub type Mm = Arc<dyn AddressSpaceSwitch>;

impl crate::Current {
    /// Changes the address space of the running task: exec, exit (`None`), and kernel threads that
    /// work on a user's behalf. Returns the previous one; drop it outside of locks.
    pub fn replace_mm(&self, mm: Option<Mm>) -> Option<Mm> {
        let _irqs_off = arch::irq::IrqGuard::new();
        match &mm {
            Some(mm) => mm.activate(),
            None => arch::asid::enter_lazy(),
        }
        // SAFETY: only the running task changes its own slot, and the switch, which reads it,
        // cannot happen with interrupts off.
        unsafe { core::mem::replace(&mut *self.mm.get(), mm) }
    }

    /// Whether the task has an address space of its own.
    pub fn has_mm(&self) -> bool {
        // SAFETY: only the running task changes its own slot.
        unsafe { (*self.mm.get()).is_some() }
    }
}
