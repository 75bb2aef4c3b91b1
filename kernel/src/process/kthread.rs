//! Kernel threads as processes: `kthreadd` is process 2, and every kernel thread is a child of it.

use super::limits::Limits;
use super::thread::{Parts, flags};
use super::user::{ThreadCharge, UserCounts};
use super::{NsProxy, Pid, Process, Thread, init_cred, init_pid_ns, tree};
use crate::signal::{SigHand, SigSet};
use abi::Result;
use abi::creds::Uid;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::fallible::{TryVec, try_arc};
use sched::Task;
use sync::Once;
use vfs::fdtable::FdTable;
use vfs::path::FsStruct;

static KTHREADD: Once<Arc<Process>> = Once::new();
static PARTS: Once<(Arc<FsStruct>, Arc<FdTable>, Arc<NsProxy>)> = Once::new();

/// What kernel threads share; set at boot before the first of them gets an id.
pub fn init(fs: Arc<FsStruct>, files: Arc<FdTable>, nsproxy: Arc<NsProxy>) {
    PARTS.call_once(|| (fs, files, nsproxy));
}

/// What [`init`] was given: directories, files and namespaces that are nobody's in particular.
pub fn parts() -> Option<(Arc<FsStruct>, Arc<FdTable>, Arc<NsProxy>)> {
    PARTS.get().cloned()
}

/// Gives `task`, a new kernel thread, its process. The first one becomes `kthreadd`.
///
/// # Errors
/// `EAGAIN` without ids, `ENOMEM`.
pub fn adopt(task: &Arc<Task>) -> Result<()> {
    let (fs, files, nsproxy) = PARTS.get().ok_or(abi::Errno::EAGAIN)?.clone();
    let pid = Pid::new(&init_pid_ns(), &[])?;
    let sighand = try_arc(SigHand::new())?;
    let process = try_arc(Process::new(pid.clone(), sighand, Limits::initial(u64::MAX), 0))?;
    let thread = Thread::new(Parts {
        process: process.clone(),
        pid: pid.clone(),
        cred: init_cred(),
        mm: None,
        fs,
        files: super::files::share(&files),
        nsproxy,
        charge: ThreadCharge::new(UserCounts::of(Uid(0))?),
    });
    thread.set(flags::KTHREAD);
    // Kernel threads take no signals.
    thread.signals.blocked.store(SigSet::FULL.0, Ordering::Relaxed);
    process.unkillable.store(true, Ordering::Relaxed);
    task.set_data(thread).map_err(|_| abi::Errno::EEXIST)?;
    if let Some(thread) = task.data::<Thread>() {
        thread.set_task(task);
    }
    process.sig.lock().threads.try_push(task.clone())?;
    let tree = tree::lock();
    let parent = KTHREADD.call_once(|| process.clone()).clone();
    if !Arc::ptr_eq(&parent, &process) {
        tree::adopt(&tree, &parent, &process)?;
    }
    // All of them are in the group and session "0": they have none that a user could name.
    pid.with_links(|l| {
        l.task = Some(task.clone());
        l.process = Some(process.clone());
    });
    Ok(())
}

/// A kernel thread ended: its process goes without a zombie.
pub fn leave(task: &Task) {
    let Some(thread) = task.data::<Thread>() else { return };
    let process = &thread.process;
    thread.set(flags::EXITING);
    process.sig.lock().threads.clear();
    let tree = tree::lock();
    process.set_state(super::State::Reaped);
    tree::release(&tree, process);
    thread.pid().unlink(|l| l.task = None);
}

/// What the scheduler tells about kernel threads; boot registers it with [`sched::kthread::set_hook`].
pub struct Hook;

impl sched::kthread::KthreadHook for Hook {
    fn created(&self, task: &Arc<Task>) {
        // A kernel thread without an id works as well; it is only not seen.
        if let Err(errno) = adopt(task) {
            log::warn!("kernel thread {}: no process id: {errno}", task.comm());
        }
    }

    fn exiting(&self, task: &Task) {
        leave(task);
    }
}
