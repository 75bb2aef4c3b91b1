//! Address space identities and the switch between address spaces.

use crate::addr::PhysAddr;
use crate::cpu::CpuMask;

/// What the processor knows of an address space: its page table root, its TLB identity and who runs it.
pub struct MmContext {
    root: PhysAddr,
}

impl MmContext {
    /// For a root table made by [`crate::paging::init_user_root`].
    pub fn new(root: PhysAddr) -> Self {
        Self { root }
    }

    /// The root table.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// CPUs whose TLB may hold translations of it.
    pub fn cpumask(&self) -> CpuMask {
        CpuMask::EMPTY
    }
}

/// Switches this CPU to `next`; interrupts off.
///
/// # Safety
/// The tables of `next` map the kernel, and stay alive until this CPU switches away *and* `forget` was called.
pub unsafe fn switch_mm(_next: &MmContext) {}

/// This CPU goes on with the tables of the last user space but runs a kernel thread: it need not be interrupted for
/// flushes as long as it does.
pub fn enter_lazy() {}

/// The address space dies: no CPU may keep its tables loaded (lazy ones are kicked onto the kernel's own).
/// Interrupts on.
pub fn forget(_mm: &MmContext) {}
