//! The first process.
//!
//! Process 1 is made while the kernel boots, before any kernel thread gets an id. It begins in the kernel: on its way
//! to user mode for the first time it runs the function that boot gave it, which prepares the root file system
//! and ends with [`crate::exec::kernel_exec`].

use super::limits::Limits;
use super::thread::Parts;
use super::user::{ThreadCharge, UserCounts};
use super::{NsProxy, Pid, Process, Thread, init_cred, init_pid_ns, tree};
use crate::signal::SigHand;
use abi::creds::Uid;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use arch::sync::SpinLock;
use arch::thread::ThreadFlags;
use arch::trap::TrapFrame;
use core::sync::atomic::{AtomicBool, Ordering};
use sched::{NewTask, Task};
use vfs::fdtable::FdTable;
use vfs::path::FsStruct;

/// What process 1 does before it is a program.
type Body = Box<dyn FnOnce(&mut TrapFrame) + Send>;

static BODY: SpinLock<Option<Body>> = SpinLock::new(None);
static HAS_BODY: AtomicBool = AtomicBool::new(false);

/// Makes process 1 and lets it run `body`. Call before [`super::kthread::init`]: the next id belongs to `kthreadd`.
///
/// # Errors
/// `ENOMEM`.
pub fn spawn_init(fs: Arc<FsStruct>, nsproxy: Arc<NsProxy>, body: Body) -> Result<Arc<Task>> {
    let ns = init_pid_ns();
    let pid = Pid::new(&ns, &[])?;
    let max_threads = crate::fork::MAX_THREADS.load(Ordering::Relaxed);
    let sighand = Arc::new(SigHand::new());
    let process = Arc::new(Process::new(pid.clone(), sighand, Limits::initial(max_threads), 0));
    process.unkillable.store(true, Ordering::Relaxed);
    ns.set_reaper(&process);
    let data = Thread::new(Parts {
        process: process.clone(),
        pid: pid.clone(),
        cred: init_cred(),
        mm: None,
        fs,
        files: Arc::new(FdTable::new()),
        nsproxy,
        charge: ThreadCharge::new(UserCounts::of(Uid(0))),
    });
    *BODY.lock() = Some(body);
    HAS_BODY.store(true, Ordering::Release);
    let mut has_fpu = true;
    let task = Task::new_user(NewTask { comm: b"swapper", mm: None, data }, |machine, frame| {
        // The boot thread that it is copied from has no such registers.
        has_fpu = machine.alloc_fpu().is_ok();
        frame.set_user_entry(0, 0);
        frame.set_syscall_nr(-1);
    })?;
    if !has_fpu {
        return Err(Errno::ENOMEM);
    }
    let thread = task.data::<Thread>().ok_or(Errno::ENOMEM)?;
    thread.set_task(&task);
    process.sig.lock().threads.push(task.clone());
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
    task.thread_flags().set(ThreadFlags::NOTIFY_RESUME);
    sched::wake_up_new(&task);
    Ok(task)
}

/// On the way to user mode: runs what boot left for process 1, once.
#[inline]
pub fn run_pending(frame: &mut TrapFrame) {
    if HAS_BODY.load(Ordering::Acquire) {
        run_body(frame);
    }
}

#[cold]
fn run_body(frame: &mut TrapFrame) {
    if super::current().process.id() != 1 {
        return;
    }
    let body = BODY.lock().take();
    HAS_BODY.store(false, Ordering::Release);
    if let Some(body) = body {
        body(frame);
    }
}
