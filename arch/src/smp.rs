//! Several processors: starting them, and signalling between them.

pub use crate::imp::smp::*;

/// Why one CPU interrupts another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ipi {
    /// Look at the run queue: [`crate::preempt::fold_need_resched`], then the kernel's handler.
    Reschedule = 0,
    /// Run the functions queued for this CPU by `call_on`.
    Call = 1,
    /// Flush TLB entries.
    TlbShootdown = 2,
    /// Stop for good (panic, reboot).
    Stop = 3,
    /// Print a backtrace (sysrq-l), NMI where the machine has it.
    Backtrace = 4,
    /// The kernel's own deferred work on this CPU.
    Work = 5,
}
