//! Who traces whom.

use super::state::{ATTACHED, SEIZED};
use crate::cred::access::{self, Creds};
use crate::process::thread::flags;
use crate::process::{Process, State, Thread, current, init_pid_ns, tree};
use crate::signal::send::{self, Sender};
use crate::signal::{Siginfo, Signal, notify, stop as group};
use abi::cap::Cap;
use abi::ptrace::option;
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::thread::ThreadFlags;
use core::sync::atomic::Ordering;
use mm::fallible::TryVec;
use sched::{Deadline, Task};
use vfs::cred::Credentials;

/// Flags of system calls that a tracer switches.
const SYSCALL_FLAGS: ThreadFlags = ThreadFlags::SYSCALL_TRACE
    .union(ThreadFlags::SYSCALL_EMU)
    .union(ThreadFlags::SYSCALL_STEP)
    .union(ThreadFlags::TRACED);

/// Makes `tracer` the tracer of `task`.
///
/// # Errors
/// `EPERM`: one of them is exiting, or there is a tracer already. `ENOMEM`.
fn link(
    _tree: &tree::TreeGuard,
    task: &Arc<Task>,
    thread: &Thread,
    tracer: &Arc<Task>,
    flags: u32,
    cred: Arc<Credentials>,
) -> Result<()> {
    let by = tracer.data::<Thread>().ok_or(Errno::EPERM)?;
    {
        // A tracer that exits looks at the count after it went through this lock.
        let _state = by.process.sig.lock();
        if by.has(flags::EXITING) {
            return Err(Errno::EPERM);
        }
        by.process.tracee_count.fetch_add(1, Ordering::Relaxed);
    }
    let attached = {
        let mut list = by.process.tracees.lock();
        list.try_reserve(1).map_err(|_| Errno::ENOMEM).and_then(|()| {
            let state = thread.process.sig.lock();
            if thread.gone.load(Ordering::Relaxed) || thread.trace.is_traced() {
                return Err(Errno::EPERM);
            }
            thread.trace.set_flags(flags);
            let mut link = thread.trace.link.lock();
            link.tracer = Some(tracer.clone());
            link.cred = Some(cred);
            drop(link);
            task.thread_flags().set(ThreadFlags::TRACED);
            drop(state);
            list.push_reserved(task.clone());
            Ok(())
        })
    };
    if attached.is_err() {
        by.process.tracee_count.fetch_sub(1, Ordering::Relaxed);
        return attached;
    }
    if thread.is_leader() {
        *thread.process.leader_tracer.lock() = Some(by.process.clone());
    }
    Ok(())
}

/// What [`unlink`] took apart; dropped without locks.
pub struct Unlinked {
    _tracer: Option<Arc<Task>>,
    _cred: Option<Arc<Credentials>>,
    _task: Option<Arc<Task>>,
    _process: Option<Arc<Process>>,
}

/// Ends the tracing of `thread`, which goes on from where it stands: with what its process is doing as a group, or with
/// the signal in its stop's code.
pub fn unlink(_tree: &tree::TreeGuard, task: &Arc<Task>, thread: &Thread) -> Option<Unlinked> {
    let (tracer, cred) = {
        let mut link = thread.trace.link.lock();
        (link.tracer.take()?, link.cred.take())
    };
    let mut entry = None;
    if let Some(by) = tracer.data::<Thread>() {
        let mut list = by.process.tracees.lock();
        if let Some(at) = list.iter().position(|t| Arc::ptr_eq(t, task)) {
            entry = Some(list.remove(at));
            by.process.tracee_count.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let process = if thread.is_leader() { thread.process.leader_tracer.lock().take() } else { None };
    task.thread_flags().clear(SYSCALL_FLAGS);
    let state = thread.process.sig.lock();
    thread.trace.set_flags(0);
    let jobctl = &thread.signals.jobctl;
    jobctl.fetch_and(!(group::TRAP_MASK | group::TRAPPING), Ordering::Relaxed);
    if !thread.has(flags::EXITING) && (state.stop.stopped || state.stop.count > 0) {
        let known = jobctl.fetch_or(group::STOP_PENDING, Ordering::Relaxed) & group::SIGNAL_MASK;
        if known == 0 {
            jobctl.fetch_or(Signal::SIGSTOP.number() as u32, Ordering::Relaxed);
        }
    }
    if jobctl.load(Ordering::Relaxed) & (group::STOP_PENDING | group::TRACED) != 0 {
        group::wake_for_tracer(task, thread, true);
    }
    drop(state);
    Some(Unlinked { _tracer: Some(tracer), _cred: cred, _task: entry, _process: process })
}

/// A zombie that its tracer has reaped or let go of: tells whoever comes next.
fn release_zombie(tree: &tree::TreeGuard, thread: &Thread, tracer: &Arc<Process>) {
    if !thread.gone.load(Ordering::Acquire) {
        return;
    }
    if !thread.is_leader() {
        release_thread(tree, thread);
        return;
    }
    let process = &thread.process;
    if process.state() != State::Zombie || process.sig.lock().zombie_threads > 0 {
        return;
    }
    let Some(parent) = process.parent() else { return };
    let vanish = if Arc::ptr_eq(&parent, tracer) {
        let ignored = parent.sighand().reaps_children();
        if ignored {
            parent.child_wait.wake_all();
        }
        ignored
    } else {
        notify::parent_exited(process, &parent)
    };
    if vanish && process.claim_zombie() {
        tree::release(tree, process);
    }
}

/// A zombie thread gives its number back; the last one lets the end of its process be told.
pub fn release_thread(tree: &tree::TreeGuard, thread: &Thread) {
    thread.pid().unlink(|l| l.task = None);
    let left = {
        let mut state = thread.process.sig.lock();
        state.zombie_threads = state.zombie_threads.saturating_sub(1);
        state.zombie_threads
    };
    if left == 0 && thread.process.state() == State::Zombie {
        crate::exit::tell_end(tree, &thread.process);
    }
}

/// The tracer has waited for the process that `thread` leads, but is not its parent: the parent is told now.
pub fn pass_on(tree: &tree::TreeGuard, task: &Arc<Task>, thread: &Thread) -> Option<Unlinked> {
    let tracer = thread.trace.tracer_process()?;
    let unlinked = unlink(tree, task, thread);
    release_zombie(tree, thread, &tracer);
    unlinked
}

/// `PTRACE_ATTACH` and, with options, `PTRACE_SEIZE`.
///
/// # Errors
/// `EPERM`, `ENOMEM`; `ERESTARTNOINTR` if killed while the target executes a program.
pub fn attach(task: &Arc<Task>, seize: Option<u32>) -> Result<()> {
    let me = current();
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    if thread.has(flags::KTHREAD) || Arc::ptr_eq(&thread.process, &me.process) {
        return Err(Errno::EPERM);
    }
    let flags = ATTACHED | seize.map_or(0, |options| SEIZED | options);
    loop {
        {
            let tree = tree::lock();
            // While an exec decides what the new program may do, nobody becomes its tracer.
            if !thread.process.exec_decides.load(Ordering::Relaxed) {
                access::check(&me, thread, Creds::Real)?;
                link(&tree, task, thread, &me.task_arc(), flags, me.cred())?;
                break;
            }
        }
        if me.task().has_fatal_signal() {
            return Err(Errno::ERESTARTNOINTR);
        }
        sched::sleep_ns(1_000_000);
    }
    if seize.is_none() {
        let info = Siginfo::new(Signal::SIGSTOP.number(), abi::signal::SI_KERNEL);
        // One that exits meanwhile needs no stop.
        let _ = send::to_thread(task, Signal::SIGSTOP, &info, Sender::Privileged);
    }
    let transits = {
        let _state = thread.process.sig.lock();
        group::trap_if_stopped(task, thread)
    };
    if transits {
        wait_for_transition(&me.process, thread);
    }
    Ok(())
}

/// A thread that was stopped by job control becomes one that is stopped for its tracer; nobody shall see it run between.
fn wait_for_transition(process: &Process, thread: &Thread) {
    let done = || thread.signals.jobctl.load(Ordering::Relaxed) & group::TRAPPING == 0;
    while !done() && !current().task().has_fatal_signal() {
        process.child_wait.wait_event_timeout(Deadline::after_ms(20), done);
    }
}

/// `PTRACE_TRACEME`: the thread that made this process becomes its tracer. It counts with the rights of this thread, who
/// chose it.
///
/// # Errors
/// `EPERM`: there is a tracer, or the parent may not trace this thread. `ENOMEM`.
pub fn trace_me() -> Result<()> {
    let me = current();
    let tree = tree::lock();
    if me.trace.is_traced() {
        return Err(Errno::EPERM);
    }
    let Some(parent) = me.process.parent() else { return Ok(()) };
    let by = init_pid_ns().task(me.process.forked_by.load(Ordering::Relaxed));
    let belongs = |t: &Arc<Task>| t.data::<Thread>().is_some_and(|t| Arc::ptr_eq(&t.process, &parent));
    let Some(tracer) = by.filter(belongs).or_else(|| parent.any_task()) else { return Ok(()) };
    let Some(thread) = tracer.data::<Thread>() else { return Ok(()) };
    let (theirs, mine) = (thread.cred(), me.cred());
    let within =
        Arc::ptr_eq(&theirs.user_ns, &mine.user_ns) && theirs.cap_permitted.contains(mine.cap_permitted);
    if !within && !theirs.ns_capable(&mine.user_ns, Cap::SysPtrace) {
        return Err(Errno::EPERM);
    }
    match link(&tree, &me.task_arc(), &me, &tracer, ATTACHED, mine) {
        // A parent that exits traces nobody, and that is no error.
        Err(Errno::EPERM) => Ok(()),
        other => other,
    }
}

/// `PTRACE_DETACH`: the thread goes on with `signal`.
///
/// # Errors
/// `ESRCH` if it was killed meanwhile.
pub fn detach(task: &Arc<Task>, thread: &Thread, signal: i32) -> Result<()> {
    super::registers::with(task, |machine, frame| machine.set_tracer_step(frame, false))?;
    let unlinked = {
        let tree = tree::lock();
        let Some(tracer) = thread.trace.tracer_process() else { return Err(Errno::ESRCH) };
        thread.trace.link.lock().stop.code = signal;
        let unlinked = unlink(&tree, task, thread);
        release_zombie(&tree, thread, &tracer);
        unlinked
    };
    drop(unlinked);
    Ok(())
}

/// The new `child` of the running thread gets the same tracer, and will stop before its first instruction. The tree
/// lock is held by fork, and nobody else knows the child.
pub fn inherit(tree: &tree::TreeGuard, me: &Thread, child: &Arc<Task>, thread: &Thread) {
    let (tracer, cred) = {
        let link = me.trace.link.lock();
        match (&link.tracer, &link.cred) {
            (Some(tracer), Some(cred)) => (tracer.clone(), cred.clone()),
            _ => return,
        }
    };
    // Without a tracer that lives, or memory for its list, the child runs untraced.
    if link(tree, child, thread, &tracer, me.trace.flags(), cred).is_err() {
        return;
    }
    if me.trace.is_seized() {
        thread.signals.jobctl.fetch_or(group::TRAP_STOP, Ordering::Relaxed);
    } else {
        thread.signals.pending.lock().mark(Signal::SIGSTOP);
    }
    child.thread_flags().set(ThreadFlags::SIGPENDING);
}

/// The running thread exits: those it traces are let go, or killed if it asked for that.
pub fn tracer_exits(me: &Thread, task: &Task) {
    loop {
        let tree = tree::lock();
        let next = me.process.tracees.lock().iter().find(|t| is_traced_by(t, task)).cloned();
        let Some(tracee) = next else { break };
        let Some(thread) = tracee.data::<Thread>() else { break };
        let kill = thread.trace.flags() & option::EXITKILL != 0;
        let unlinked = unlink(&tree, &tracee, thread);
        release_zombie(&tree, thread, &me.process);
        drop(tree);
        drop(unlinked);
        if kill {
            let info = Siginfo::new(Signal::SIGKILL.number(), abi::signal::SI_KERNEL);
            let _ = send::to_thread(&tracee, Signal::SIGKILL, &info, Sender::Privileged);
        }
    }
}

fn is_traced_by(tracee: &Arc<Task>, tracer: &Task) -> bool {
    tracee.data::<Thread>().is_some_and(|t| t.trace.is_traced_by(tracer))
}

/// The running thread takes its leader's place ([`crate::exec`]): the tracer of the old leader will never hear of its end.
/// The tree lock is held, and the ids are not exchanged yet.
pub fn leader_replaced(tree: &tree::TreeGuard, me: &Thread) -> Option<Unlinked> {
    let process = &me.process;
    let old = process.leader_tracer.lock().clone();
    let mine = me.trace.tracer_process();
    let mut unlinked = None;
    if let Some(tracer) = old {
        let is_old = |t: &&Arc<Task>| {
            t.data::<Thread>().is_some_and(|t| Arc::ptr_eq(&t.process, process) && t.is_leader())
        };
        let entry = tracer.tracees.lock().iter().find(is_old).cloned();
        if let Some(entry) = entry
            && let Some(thread) = entry.data::<Thread>()
        {
            unlinked = unlink(tree, &entry, thread);
        }
        // It may wait for the thread that is no more.
        tracer.child_wait.wake_all();
    }
    *process.leader_tracer.lock() = mine;
    unlinked
}

/// A traced thread other than the leader has exited: it stays as a zombie for its tracer. Says whether it does.
pub fn thread_exited(me: &Thread, task: &Task) -> bool {
    let _tree = tree::lock();
    let Some(tracer) = me.trace.tracer_process() else { return false };
    let (code, status) = notify::exit_info(exit_status(me));
    let info = notify::thread_info(task, me, &tracer, code, status);
    notify::exited_child(&tracer, Signal::SIGCHLD, &info);
    true
}

/// What `wait` reports of a thread that has exited.
pub fn exit_status(thread: &Thread) -> i32 {
    thread.process.sig.lock().group_exit.unwrap_or(thread.exit_code.load(Ordering::Relaxed))
}
