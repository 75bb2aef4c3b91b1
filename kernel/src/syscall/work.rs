//! System calls of threads with something to do around them: the long way of [`super::dispatch`].

use super::table;
use crate::ptrace;
use abi::Errno;
use arch::thread::ThreadFlags;
use arch::trap::{SyscallStop, TrapFrame};
use core::hint::black_box;

/// Flags at this moment; a tracer changes them while the thread stands in a stop.
fn flags() -> ThreadFlags {
    arch::thread::current_ref().flags().load()
}

/// As [`super::dispatch`], with stops for a tracer before and after.
#[cold]
pub(super) fn dispatch(frame: &mut TrapFrame) {
    if frame.syscall_nr() == -1 {
        // The result, unless somebody sets another one.
        frame.set_return(Errno::ENOSYS.to_return());
    }
    if !enter(frame) {
        leave(frame);
        return;
    }
    // -1: a tracer has made no call of it, and set the result itself.
    if frame.syscall_nr() != -1 {
        let result = match table::ENTRIES.get(frame.syscall_nr() as u32 as usize) {
            Some(enter) => enter(frame),
            None => Errno::ENOSYS.to_return(),
        };
        // An event in the middle of the call may have stopped the thread.
        black_box(&mut *frame).set_return(result);
    }
    leave(frame);
}

/// Before the call; says whether to make it.
fn enter(frame: &mut TrapFrame) -> bool {
    let flags = flags();
    if flags.contains(ThreadFlags::USER_DISPATCH) && !super::user_dispatch::enter(frame) {
        return false;
    }
    if flags.intersects(ThreadFlags::SYSCALL_TRACE | ThreadFlags::SYSCALL_EMU) {
        let killed = ptrace::stop::syscall(frame, SyscallStop::Entry);
        if killed || flags.contains(ThreadFlags::SYSCALL_EMU) {
            return false;
        }
    }
    // Filters see the call as the tracer left it.
    !flags.contains(ThreadFlags::SECCOMP) || crate::seccomp::enter(frame)
}

/// After it.
fn leave(frame: &mut TrapFrame) {
    let flags = flags();
    let step = flags.contains(ThreadFlags::SYSCALL_STEP) && !flags.contains(ThreadFlags::SYSCALL_EMU);
    if step {
        // The way out must restore the trap flag with everything else.
        sched::current().with_thread(|machine| machine.set_tracer_step(frame, true));
        ptrace::stop::step_over_syscall(frame);
    } else if flags.contains(ThreadFlags::SYSCALL_TRACE) {
        ptrace::stop::syscall(frame, SyscallStop::Exit);
    }
}
