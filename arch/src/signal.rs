//! Signal frames: the layout on the user stack is the architecture's, what goes in is the kernel's.

pub use crate::imp::signal::*;

/// `stack_t` of the thread, in native form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AltStack {
    /// `ss_sp`.
    pub sp: usize,
    /// `ss_flags` as the frame shall show it.
    pub flags: i32,
    /// `ss_size`.
    pub size: usize,
}

impl AltStack {
    /// Whether a stack pointer is on it. A user may name any address and size: the sum may wrap.
    #[inline]
    pub fn holds(&self, sp: usize) -> bool {
        sp > self.sp && sp - self.sp <= self.size
    }
}

/// What to put into a signal frame.
#[derive(Clone, Copy, Debug)]
pub struct SigFrameInfo<'a> {
    /// The signal number: the handler's first argument.
    pub signo: i32,
    /// `sa_handler`.
    pub handler: usize,
    /// `sa_flags`.
    pub flags: usize,
    /// `sa_restorer` (x86; arm64 falls back to `sigreturn_trampoline`).
    pub restorer: usize,
    /// Address of the vDSO's `rt_sigreturn` trampoline (arm64, where there is no restorer).
    pub sigreturn_trampoline: usize,
    /// Blocked signals before the handler: put back by `rt_sigreturn`.
    pub mask_before: u64,
    /// The 128 bytes of `siginfo_t`.
    pub siginfo: &'a [u8; 128],
    /// The alternate stack, for `uc_stack`.
    pub altstack: AltStack,
    /// Where the frame goes: top of the alternate stack if the handler runs there and is not on it yet, else `None`
    /// (below the current stack pointer).
    pub on_stack: Option<usize>,
    /// For `sigcontext`: trap number, error code and fault address of the last exception (`cr2`, `fault_address`).
    pub trap_nr: u32,
    /// See `trap_nr`.
    pub error_code: u64,
    /// See `trap_nr`.
    pub fault_addr: usize,
    /// What the thread may do with the pages of protection keys, for the frame to say.
    pub key_rights: crate::pkey::KeyRights,
}

/// What `rt_sigreturn` found in the frame.
#[derive(Clone, Copy, Debug)]
pub struct SigReturn {
    /// Signals to block from now on.
    pub mask: u64,
    /// `uc_stack`, to be applied as by `sigaltstack`, errors ignored.
    pub altstack: AltStack,
}
