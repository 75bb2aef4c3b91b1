//! The first process.
//!
//! Process 1 is made while the kernel boots, before any kernel thread gets an id. It begins in the kernel, with the
//! function that boot gave it, which prepares the root file system and ends with [`crate::exec::kernel_exec`].

use super::limits::Limits;
use super::thread::Parts;
use super::user::{ThreadCharge, UserCounts};
use super::{NsProxy, Pid, Process, Thread, init_cred, init_pid_ns, tree};
use crate::signal::SigHand;
use abi::creds::Uid;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::fallible::{TryVec, try_arc};
use sched::{NewTask, Task};
use vfs::cred::UserNamespace;
use vfs::fdtable::FdTable;
use vfs::path::FsStruct;

/// Makes process 1, which runs `body` once the caller lets it ([`sched::wake_up_new`]). Call before [`super::kthread::init`]: the next id belongs to `kthreadd`.
///
/// # Errors
/// `ENOMEM`.
pub fn spawn_init(
    fs: Arc<FsStruct>,
    nsproxy: Arc<NsProxy>,
    body: Box<sched::StartProgram>,
) -> Result<Arc<Task>> {
    let ns = init_pid_ns();
    let pid = Pid::new(&ns, &[])?;
    let max_threads = crate::fork::MAX_THREADS.load(Ordering::Relaxed);
    UserNamespace::initial().limits.set_all((max_threads / 2) as u32);
    let sighand = try_arc(SigHand::new())?;
    let process = try_arc(Process::new(pid.clone(), sighand, Limits::initial(max_threads), 0))?;
    process.unkillable.store(true, Ordering::Relaxed);
    ns.set_reaper(&process);
    let data = Thread::new(Parts {
        process: process.clone(),
        pid: pid.clone(),
        cred: init_cred(),
        mm: None,
        fs,
        files: try_arc(FdTable::new())?,
        nsproxy,
        charge: ThreadCharge::new(UserCounts::of(Uid(0))?),
    });
    let task = Task::new_program(NewTask { comm: b"swapper", mm: None, data }, body)?;
    let thread = task.data::<Thread>().ok_or(Errno::ENOMEM)?;
    thread.set_task(&task);
    process.sig.lock().threads.try_push(task.clone())?;
    {
        // It is in the group and the session of the idle task, number 0, until it asks for its own.
        let tree = tree::lock();
        let nobody = Pid::idle(&ns);
        tree::enter(&tree, &process, &nobody, &nobody)?;
        pid.with_links(|l| {
            l.task = Some(task.clone());
            l.process = Some(process.clone());
        });
    }
    Ok(task)
}
