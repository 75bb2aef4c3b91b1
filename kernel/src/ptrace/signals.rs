//! What a tracer sees and changes of a stopped thread's signals.

use crate::process::Thread;
use crate::signal::{SigSet, Siginfo, stop as group};
use abi::ptrace::{PEEKSIGINFO_SHARED, PeeksiginfoArgs};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::thread::ThreadFlags;
use core::sync::atomic::Ordering;
use mm::user::UserPtr;
use sched::Task;

/// Bytes of a `siginfo_t`.
const SIGINFO_SIZE: usize = 128;

/// `PTRACE_GETSIGINFO`: what the thread has stopped for.
///
/// # Errors
/// `EINVAL`: it is a group stop. `ESRCH`, `EFAULT`.
pub fn get_info(thread: &Thread, data: usize) -> Result<()> {
    let info = {
        let _state = thread.process.sig.lock();
        if thread.signals.jobctl.load(Ordering::Relaxed) & group::TRACED == 0 {
            return Err(Errno::ESRCH);
        }
        thread.trace.link.lock().stop.info
    };
    UserPtr::<Siginfo>::new(data).write(&info.ok_or(Errno::EINVAL)?)
}

/// `PTRACE_SETSIGINFO`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `ESRCH`.
pub fn set_info(thread: &Thread, data: usize) -> Result<()> {
    let mut new = UserPtr::<Siginfo>::new(data).read()?;
    // The kernel's own mark of its timers.
    new.pad = 0;
    let _state = thread.process.sig.lock();
    if thread.signals.jobctl.load(Ordering::Relaxed) & group::TRACED == 0 {
        return Err(Errno::ESRCH);
    }
    match &mut thread.trace.link.lock().stop.info {
        Some(info) => *info = new,
        None => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// `PTRACE_GETSIGMASK`.
///
/// # Errors
/// `EINVAL` for another size than that of a set; `EFAULT`.
pub fn get_mask(task: &Task, thread: &Thread, size: usize, data: usize) -> Result<()> {
    if size != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    let live = task.thread_flags().contains(ThreadFlags::RESTORE_SIGMASK);
    let mask = if live { &thread.signals.saved_mask } else { &thread.signals.blocked };
    UserPtr::<u64>::new(data).write(&mask.load(Ordering::Relaxed))
}

/// `PTRACE_SETSIGMASK`.
///
/// # Errors
/// As [`get_mask`].
pub fn set_mask(task: &Arc<Task>, thread: &Thread, size: usize, data: usize) -> Result<()> {
    if size != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    let mask = SigSet(UserPtr::<u64>::new(data).read()?).blockable();
    let _state = thread.process.sig.lock();
    task.thread_flags().clear(ThreadFlags::RESTORE_SIGMASK);
    thread.signals.blocked.store(mask.0, Ordering::Relaxed);
    // What is deliverable now is looked at when the thread goes on.
    task.thread_flags().set(ThreadFlags::SIGPENDING);
    Ok(())
}

/// `PTRACE_PEEKSIGINFO`: copies queued signals without taking them; how many.
///
/// # Errors
/// `EINVAL`: unknown flags, a negative count. `EFAULT` if nothing could be copied.
pub fn peek(thread: &Thread, args: usize, data: usize) -> Result<usize> {
    let args = UserPtr::<PeeksiginfoArgs>::new(args).read()?;
    if args.flags & !PEEKSIGINFO_SHARED != 0 || args.nr < 0 {
        return Err(Errno::EINVAL);
    }
    let Ok(first) = usize::try_from(args.off) else { return Ok(0) };
    let mut done = 0;
    while done < args.nr as usize {
        let Some(index) = first.checked_add(done) else { break };
        let info = {
            let state = thread.process.sig.lock();
            if args.flags & PEEKSIGINFO_SHARED != 0 {
                state.shared.nth(index)
            } else {
                thread.signals.pending.lock().nth(index)
            }
        };
        let Some(info) = info else { break };
        let at = UserPtr::<u8>::new(data).byte_add::<Siginfo>(done * SIGINFO_SIZE);
        if let Err(errno) = at.write(&info) {
            return if done > 0 { Ok(done) } else { Err(errno) };
        }
        done += 1;
        if sched::current().has_pending_signal() {
            break;
        }
        sched::cond_resched();
    }
    Ok(done)
}
