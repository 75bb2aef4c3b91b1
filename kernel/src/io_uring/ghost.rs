//! Threads that work for a process inside the kernel: workers, and the thread of `SQPOLL`.
//!
//! Such a thread shares memory, files, directories and namespaces with the thread that made it, has its credentials, and acts
//! on its process's behalf (limits, locks), but never runs in user mode, takes no signals and is not in the list of
//! threads: nobody waits for it to exit or stop. Its maker ends it before the memory and the files go.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use arch::thread::ThreadFlags;
use mm::try_box;
use sched::{State, Task};

use crate::process::thread::{Parts, flags};
use crate::process::user::{ThreadCharge, UserCounts};
use crate::process::{CurrentThread, Pid, Thread, Usage, current};
use crate::signal::SigSet;

/// Makes such a thread of the running one and lets it run `body`.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` without ids or for a thread that is exiting.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<Arc<Task>> {
    let me = current();
    let mm = me.mm().ok_or(Errno::EAGAIN)?;
    let cred = me.cred();
    let thread = Thread::new(Parts {
        process: me.process.clone(),
        pid: Pid::new(&me.pid_ns(), &[])?,
        charge: ThreadCharge::new(UserCounts::of(cred.uid)?),
        cred,
        mm: Some(mm.clone()),
        fs: me.fs().ok_or(Errno::EAGAIN)?,
        files: me.files().ok_or(Errno::EAGAIN)?,
        nsproxy: me.nsproxy().ok_or(Errno::EAGAIN)?,
    });
    thread.set(flags::KTHREAD);
    thread.signals.blocked.store(SigSet::FULL.0, Ordering::Relaxed);
    let rights = arch::pkey::rights();
    let body = try_box(move || {
        arch::pkey::adopt(rights);
        drop(sched::current().replace_mm(Some(mm.switch_handle())));
        body();
        end(&current(), mm);
    })?;
    let task = Task::new_kthread(name.as_bytes(), body)?;
    task.set_data(thread).map_err(|_| Errno::ENOMEM)?;
    if let Some(thread) = task.data::<Thread>() {
        thread.set_task(&task);
        // Counted only now that nothing can fail: the thread gives it back.
        if let Some(mm) = thread.mm() {
            mm.get_user();
        }
    }
    sched::wake_up_new(&task);
    Ok(task)
}

/// The last steps of such a thread.
fn end(me: &CurrentThread, mm: Arc<mm::AddressSpace>) {
    me.set(flags::EXITING);
    drop(me.mm.replace(None));
    drop(sched::current().replace_mm(None));
    mm.put_user();
    if mm.users() == 0 {
        crate::aio::exit(&mm);
    }
    drop(me.files.replace(None));
    drop(me.fs.replace(None));
    drop(me.nsproxy.replace(None));
    me.process.accounts.lock().dead.add(&Usage::of(me.task()));
    me.pid().unlink(|_| ());
    drop(me.charge.lock().take());
}

/// Ends what `task` waits for, if signals could.
pub fn interrupt(task: &Task) {
    task.thread_flags().set(ThreadFlags::SIGPENDING);
    sched::wake_up_state(task, State::INTERRUPTIBLE);
}

/// The running thread has noticed.
pub fn clear_interrupt() {
    sched::current().thread_flags().clear(ThreadFlags::SIGPENDING | ThreadFlags::NOTIFY_RESUME);
}
