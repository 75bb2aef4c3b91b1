//! The tracer lets a thread go on, or asks it to stop: "Restarting", "PTRACE_INTERRUPT" and "PTRACE_LISTEN" of ptrace(2).

use super::registers;
use crate::process::Thread;
use crate::signal::{Signal, stop as group};
use abi::ptrace::{event, request};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::thread::ThreadFlags;
use core::sync::atomic::Ordering;
use sched::{State, Task};

/// The signal number of a request's data; 0: none.
///
/// # Errors
/// `EIO` if it is none.
pub fn signal_number(data: usize) -> Result<i32> {
    if data > crate::signal::set::NSIG as usize { Err(Errno::EIO) } else { Ok(data as i32) }
}

/// Whether `request` lets the thread go on.
pub fn resumes(request: u32) -> bool {
    matches!(
        request,
        request::CONT | request::SYSCALL | request::SINGLESTEP | request::SYSEMU | request::SYSEMU_SINGLESTEP
    )
}

/// Lets a stopped thread go on with `data` as its signal.
///
/// # Errors
/// `EIO`: no signal. `ESRCH`: it was killed meanwhile.
pub fn resume(task: &Arc<Task>, thread: &Thread, request: u32, data: usize) -> Result<()> {
    let signal = signal_number(data)?;
    let step = matches!(request, request::SINGLESTEP | request::SYSEMU_SINGLESTEP);
    let emulate = matches!(request, request::SYSEMU | request::SYSEMU_SINGLESTEP);
    registers::with(task, |machine, frame| machine.set_tracer_step(frame, step))?;
    for (flag, on) in [
        (ThreadFlags::SYSCALL_TRACE, request == request::SYSCALL),
        (ThreadFlags::SYSCALL_EMU, emulate),
        (ThreadFlags::SYSCALL_STEP, step),
    ] {
        if on {
            task.thread_flags().set(flag);
        } else {
            task.thread_flags().clear(flag);
        }
    }
    let _state = thread.process.sig.lock();
    let old = thread.signals.jobctl.fetch_and(!group::TRACED, Ordering::Relaxed);
    if old & group::TRACED == 0 {
        return Err(Errno::ESRCH);
    }
    thread.trace.link.lock().stop.code = signal;
    sched::wake_up_state(task, State::TRACED_BIT);
    Ok(())
}

/// `PTRACE_INTERRUPT`: a seized thread stops where it is.
///
/// # Errors
/// `EIO`: it was not seized.
pub fn interrupt(task: &Arc<Task>, thread: &Thread) -> Result<()> {
    if !thread.trace.is_seized() {
        return Err(Errno::EIO);
    }
    let _state = thread.process.sig.lock();
    if group::set_pending(task, thread, group::TRAP_STOP) {
        let listening = thread.signals.jobctl.load(Ordering::Relaxed) & group::LISTENING != 0;
        group::wake_for_tracer(task, thread, listening);
    }
    Ok(())
}

/// `PTRACE_LISTEN`: a seized thread in a group stop stays there, and says when that ends.
///
/// # Errors
/// `EIO`: it was not seized, or is in another stop.
pub fn listen(task: &Arc<Task>, thread: &Thread) -> Result<()> {
    if !thread.trace.is_seized() {
        return Err(Errno::EIO);
    }
    let _state = thread.process.sig.lock();
    let info = thread.trace.link.lock().stop.info;
    if info.is_none_or(|info| info.code >> 8 != event::STOP as i32) {
        return Err(Errno::EIO);
    }
    let old = thread.signals.jobctl.fetch_or(group::LISTENING, Ordering::Relaxed);
    // What happened since the stop began is told by another one.
    if old & group::TRAP_NOTIFY != 0 {
        group::wake_for_tracer(task, thread, true);
    }
    Ok(())
}

/// `PTRACE_KILL`.
pub fn kill(task: &Arc<Task>) {
    use crate::signal::send::{Sender, to_thread};
    let info = abi::signal::Siginfo::new(Signal::SIGKILL.number(), abi::signal::SI_USER);
    // What has exited is as dead as it gets.
    let _ = to_thread(task, Signal::SIGKILL, &info, Sender::User);
}
