//! Floating point and vector registers: saved on context switch, never on system calls.

use crate::trap::Fault;

/// There are no state components with numbers here.
pub fn user_components() -> u64 {
    0
}

/// The saved registers of one thread.
pub struct FpuState {}

impl FpuState {
    /// Registers as a fresh program has them. Allocates; `None` without memory.
    pub fn new() -> Option<Self> {
        Some(Self {})
    }

    /// The state as ptrace's `NT_PRFPREG` / core dumps show it.
    pub fn write_fpregs(&self, _out: &mut [u8]) -> usize {
        0
    }

    /// Takes a state over from ptrace.
    pub fn read_fpregs(&mut self, _data: &[u8]) -> Result<(), Fault> {
        Ok(())
    }
}

/// Kernel code may use vector registers while this lives (preemption is off).
pub struct KernelFpu {
    _preempt: crate::preempt::PreemptGuard,
}

impl KernelFpu {
    /// Saves the user's registers if they are live.
    pub fn begin() -> Self {
        Self { _preempt: crate::preempt::PreemptGuard::new() }
    }
}
