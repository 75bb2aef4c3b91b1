//! Programs that the kernel itself starts: what core dumps are piped to.
//!
//! Such a program runs as root in the initial namespaces, below the kernel's root directory. It has no parent: nobody
//! waits for it, and it leaves no zombie.

use super::limits::{Limits, Resource};
use super::thread::Parts;
use super::user::{ThreadCharge, UserCounts};
use super::{Pid, Process, Thread, init_cred, init_pid_ns, kthread, tree};
use crate::signal::SigHand;
use abi::creds::Uid;
use abi::process::Rlimit;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLock;
use arch::trap::TrapFrame;
use core::sync::atomic::Ordering;
use mm::fallible::{TryCollect, TryVec, try_arc, try_box};
use sched::completion::Completion;
use sched::{NewTask, Task};
use vfs::fdtable::{FdFlags, FdTable};
use vfs::file::File;

/// How the exec went, once it has.
struct Started {
    result: SpinLock<Result<()>>,
    done: Completion,
}

/// Runs `words`, a program and its arguments, with `input` as its standard input and an empty environment. Returns when the
/// program is in place.
///
/// # Errors
/// Those of execve(2); `ENOMEM`, `EAGAIN`.
pub fn run(words: Vec<Vec<u8>>, input: Arc<File>) -> Result<Arc<Process>> {
    let (fs, _, nsproxy) = kthread::parts().ok_or(Errno::ENOENT)?;
    let ns = init_pid_ns();
    let pid = Pid::new(&ns, &[])?;
    let max_threads = crate::fork::MAX_THREADS.load(Ordering::Relaxed);
    let sighand = try_arc(SigHand::new())?;
    let process = try_arc(Process::new(pid.clone(), sighand, Limits::initial(max_threads), 0))?;
    // The mark by which its own dumps are not piped to another one.
    process.limits.set(Resource::Core, Rlimit::new(1, 1));
    let files = try_arc(FdTable::new())?;
    let stdin = files.install(input, u64::MAX, FdFlags::empty())?;
    if stdin.raw() != 0 {
        return Err(Errno::EBADF);
    }
    let data = Thread::new(Parts {
        process: process.clone(),
        pid: pid.clone(),
        cred: init_cred(),
        mm: None,
        fs: try_arc(fs.copy())?,
        files,
        nsproxy,
        charge: ThreadCharge::new(UserCounts::of(Uid(0))?),
    });
    let started = try_arc(Started { result: SpinLock::new(Ok(())), done: Completion::new() })?;
    let report = started.clone();
    let body = try_box(move |frame: &mut TrapFrame| {
        let result = become_program(frame, &words);
        *report.result.lock() = result;
        report.done.complete_all();
        result.err().map(|_| end as fn() -> !)
    })?;
    let task = Task::new_program(NewTask { comm: b"helper", mm: None, data }, body)?;
    let thread = task.data::<Thread>().ok_or(Errno::ENOMEM)?;
    thread.set_task(&task);
    {
        let tree = tree::lock();
        let nobody = Pid::idle(&ns);
        process.sig.lock().threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        tree::enter(&tree, &process, &nobody, &nobody)?;
        process.sig.lock().threads.push_reserved(task.clone());
        pid.with_links(|l| {
            l.task = Some(task.clone());
            l.process = Some(process.clone());
        });
    }
    crate::fork::THREADS.fetch_add(1, Ordering::Relaxed);
    sched::wake_up_new(&task);
    started.done.wait();
    let result = *started.result.lock();
    result.map(|()| process)
}

fn end() -> ! {
    crate::exit::exit_group(0)
}

fn become_program(frame: &mut TrapFrame, words: &[Vec<u8>]) -> Result<()> {
    let arguments = words.iter().map(Vec::as_slice).try_collect_vec()?;
    let path = words.first().map(Vec::as_slice).unwrap_or_default();
    crate::exec::kernel_exec(frame, path, &arguments, &[])
}
