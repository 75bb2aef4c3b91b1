//! Signal frames on the user stack.

use crate::signal::{SigFrameInfo, SigReturn};
use crate::thread::Thread;
use crate::trap::TrapFrame;
use crate::uaccess::UserFault;

/// Pushes an `rt_sigframe` and points the frame at the handler. On failure nothing is changed (and the kernel sends
/// SIGSEGV).
pub fn setup_rt_frame(
    _frame: &mut TrapFrame,
    _thread: &mut Thread,
    _sig: &SigFrameInfo<'_>,
) -> Result<(), UserFault> {
    todo!()
}

/// Undoes [`setup_rt_frame`] for `rt_sigreturn`: registers and FPU state come from the user stack, sanitised.
pub fn restore_rt_frame(_frame: &mut TrapFrame, _thread: &mut Thread) -> Result<SigReturn, UserFault> {
    todo!()
}
pub(super) const FRAME_SIZE: usize = 440;
