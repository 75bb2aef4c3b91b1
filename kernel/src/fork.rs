//! Making processes and threads: fork(2), vfork(2), clone(2), clone3(2).
//!
//! [`Request`] is what all four calls boil down to. [`copy_process`] builds the child in the order in which
//! failure is cheap: check flags, limits and ids first, then copy or share each part, then link the child into the tree,
//! which is the last step that can fail, and only then let it run. Parts are plain values until then: an error
//! drops them.
//!
//! Errors follow clone(2): `EINVAL` for combinations of flags, `EAGAIN` for limits, `ENOMEM` for memory.

use crate::process::limits::Resource;
use crate::process::thread::{Parts, flags};
use crate::process::user::{ThreadCharge, UserCounts};
use crate::process::{Pid, Process, Thread, current, nsproxy as ns_flags, tree};
use crate::ptrace;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::process::{CLONE_ARGS_SIZE_VER0, CloneArgs};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::thread::ThreadFlags;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::fallible::{TryVec, try_arc};
use mm::user::{UserPtr, copy_struct_from_user};
use sched::completion::Completion;
use sched::{NewTask, Task};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[FORK, VFORK, CLONE, CLONE3];

/// `/proc/sys/kernel/threads-max`.
pub static MAX_THREADS: AtomicU64 = AtomicU64::new(32768);
/// Threads that exist, kernel threads included.
pub static THREADS: AtomicU64 = AtomicU64::new(1);
/// Forks since boot (`processes` of `/proc/stat`).
pub static TOTAL_FORKS: AtomicU64 = AtomicU64::new(0);

/// Flags as 64-bit values.
mod f {
    use abi::raw;
    pub const VM: u64 = raw::CLONE_VM as u64;
    pub const FS: u64 = raw::CLONE_FS as u64;
    pub const FILES: u64 = raw::CLONE_FILES as u64;
    pub const SIGHAND: u64 = raw::CLONE_SIGHAND as u64;
    pub const PIDFD: u64 = raw::CLONE_PIDFD as u64;
    pub const PTRACE: u64 = raw::CLONE_PTRACE as u64;
    pub const IO: u64 = raw::CLONE_IO as u64;
    pub const VFORK: u64 = raw::CLONE_VFORK as u64;
    pub const PARENT: u64 = raw::CLONE_PARENT as u64;
    pub const THREAD: u64 = raw::CLONE_THREAD as u64;
    pub const NEWNS: u64 = raw::CLONE_NEWNS as u64;
    pub const SYSVSEM: u64 = raw::CLONE_SYSVSEM as u64;
    pub const SETTLS: u64 = raw::CLONE_SETTLS as u64;
    pub const PARENT_SETTID: u64 = raw::CLONE_PARENT_SETTID as u64;
    pub const CHILD_CLEARTID: u64 = raw::CLONE_CHILD_CLEARTID as u64;
    pub const DETACHED: u64 = raw::CLONE_DETACHED as u64;
    pub const CHILD_SETTID: u64 = raw::CLONE_CHILD_SETTID as u64;
    pub const NEWIPC: u64 = raw::CLONE_NEWIPC as u64;
    pub const NEWUSER: u64 = raw::CLONE_NEWUSER as u64;
    pub const NEWPID: u64 = raw::CLONE_NEWPID as u64;
    pub const NEWTIME: u64 = raw::CLONE_NEWTIME as u64;
    pub const CLEAR_SIGHAND: u64 = raw::CLONE_CLEAR_SIGHAND;
    pub const INTO_CGROUP: u64 = raw::CLONE_INTO_CGROUP;
    /// The exit signal in the low byte of `clone`'s flags.
    pub const CSIGNAL: u64 = 0xff;
}

/// What the caller wants, whichever call it used.
#[derive(Clone, Copy, Default, Debug)]
pub struct Request {
    /// `CLONE_*` without the exit signal.
    pub flags: u64,
    /// The signal for the parent when the child exits, 0 for none.
    pub exit_signal: u64,
    /// The child's stack pointer; 0: the parent's.
    pub stack: usize,
    /// `CLONE_SETTLS`.
    pub tls: usize,
    /// `CLONE_PARENT_SETTID`.
    pub parent_tid: usize,
    /// `CLONE_CHILD_SETTID`, `CLONE_CHILD_CLEARTID`.
    pub child_tid: usize,
    /// `CLONE_PIDFD`.
    pub pidfd: usize,
}

/// Checks the combination of flags.
///
/// # Errors
/// `EINVAL`.
pub fn check_flags(flags: u64) -> Result<()> {
    let has = |bits: u64| flags & bits == bits;
    let any = |bits: u64| flags & bits != 0;
    let bad = has(f::NEWNS | f::FS)
        || has(f::NEWUSER | f::FS)
        // Threads share signal handlers, and those who share handlers share memory.
        || has(f::THREAD) && !has(f::SIGHAND)
        || has(f::SIGHAND) && !has(f::VM)
        || has(f::THREAD) && any(f::NEWUSER | f::NEWPID)
        || has(f::SIGHAND | f::CLEAR_SIGHAND)
        || has(f::PIDFD) && has(f::DETACHED)
        || has(f::NEWIPC | f::SYSVSEM)
        || has(f::NEWTIME) && any(f::THREAD | f::VM) && !has(f::VFORK);
    if bad { Err(Errno::EINVAL) } else { Ok(()) }
}

#[macros::syscall(fork)]
fn sys_fork() -> Result<i32> {
    clone(&Request { exit_signal: raw::SIGCHLD.into(), ..Request::default() }, &[])
}

#[macros::syscall(vfork)]
fn sys_vfork() -> Result<i32> {
    let flags = f::VFORK | f::VM;
    clone(&Request { flags, exit_signal: raw::SIGCHLD.into(), ..Request::default() }, &[])
}

#[macros::syscall(clone)]
fn sys_clone(flags: u64, stack: usize, parent_tid: usize, arg3: usize, arg4: usize) -> Result<i32> {
    // The order of the last two is the architecture's own.
    let (child_tid, tls) = arch::uapi::clone_args(arg3, arg4);
    let low = flags & 0xffff_ffff;
    // The pid descriptor is stored where the parent's id would be.
    if low & (f::PIDFD | f::PARENT_SETTID) == f::PIDFD | f::PARENT_SETTID {
        return Err(Errno::EINVAL);
    }
    let request = Request {
        flags: low & !f::CSIGNAL,
        exit_signal: low & f::CSIGNAL,
        stack,
        tls,
        parent_tid,
        child_tid,
        pidfd: parent_tid,
    };
    clone(&request, &[])
}

/// Longest `set_tid` array: one per level of pid namespaces.
const MAX_SET_TID: u64 = 32;

#[macros::syscall(clone3)]
fn sys_clone3(uargs: UserPtr<CloneArgs>, size: usize) -> Result<i32> {
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    if size < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL);
    }
    let args = copy_struct_from_user(uargs, size)?;
    if args.set_tid_size > MAX_SET_TID
        || (args.set_tid == 0) != (args.set_tid_size == 0)
        || args.exit_signal & !f::CSIGNAL != 0
        || args.exit_signal > u64::from(crate::signal::set::NSIG)
        || args.flags & (f::DETACHED | f::CSIGNAL & !f::NEWTIME) != 0
        || args.flags >> 34 != 0
        || args.flags & (f::THREAD | f::PARENT) != 0 && args.exit_signal != 0
        || (args.stack == 0) != (args.stack_size == 0)
    {
        return Err(Errno::EINVAL);
    }
    if args.stack != 0 && !mm::user::access_ok(args.stack as usize, args.stack_size as usize) {
        return Err(Errno::EINVAL);
    }
    if args.flags & f::INTO_CGROUP != 0 {
        // There are no control groups yet whose descriptor could be passed.
        return Err(Errno::EBADF);
    }
    let set_tid = UserPtr::<i32>::new(args.set_tid as usize).slice(args.set_tid_size as usize).to_vec()?;
    let request = Request {
        flags: args.flags,
        exit_signal: args.exit_signal,
        stack: (args.stack as usize).wrapping_add(args.stack_size as usize),
        tls: args.tls as usize,
        parent_tid: args.parent_tid as usize,
        child_tid: args.child_tid as usize,
        pidfd: args.pidfd as usize,
    };
    clone(&request, &set_tid)
}

/// The one path behind all the calls.
fn clone(request: &Request, set_tid: &[i32]) -> Result<i32> {
    let me = current();
    let event = ptrace::stop::clone_event(&me, request.flags, request.exit_signal);
    let traced = event.is_some() || request.flags & f::PTRACE != 0 && me.trace.is_traced();
    let (child, done) = copy_process(request, set_tid, traced)?;
    let thread = child.data::<Thread>().ok_or(Errno::ENOMEM)?;
    // The child may become another program, and its id another one, before the tracer has heard of it.
    let pid = thread.pid();
    let nr = thread.tid_in(&me.pid_ns());
    if request.flags & f::PARENT_SETTID != 0 {
        // A bad address is the caller's loss; the child exists.
        let _ = UserPtr::<i32>::new(request.parent_tid).write(&nr);
    }
    TOTAL_FORKS.fetch_add(1, Ordering::Relaxed);
    let (parent_io, io) = (sched::current(), child.io());
    io.inherit_priority(parent_io.io());
    if request.flags & f::IO != 0 {
        io.share_context(parent_io.io());
    }
    sched::wake_up_new(&child);
    if let Some(event) = event {
        ptrace::stop::event_pid(event, &pid);
    }
    if let Some(done) = done
        && wait_for_vfork(&done, thread)
    {
        ptrace::stop::event_pid(abi::ptrace::event::VFORK_DONE, &pid);
    }
    Ok(nr)
}

/// The parent of a vfork sleeps until the child has a memory of its own, or is killed; says whether the child has.
fn wait_for_vfork(done: &Arc<Completion>, child: &Thread) -> bool {
    let left = done.wait_killable().is_ok();
    if !left {
        *child.vfork_done.lock() = None;
    }
    left
}

/// Limits that every new thread meets.
fn check_limits(charge: &ThreadCharge) -> Result<()> {
    let me = current();
    let over = charge.count() > me.process.limits.cur(Resource::Nproc);
    let spared = me.with_cred(|c| c.uid.0 == 0 || c.capable(Cap::SysResource) || c.capable(Cap::SysAdmin));
    if over && !spared || THREADS.load(Ordering::Relaxed) >= MAX_THREADS.load(Ordering::Relaxed) {
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

/// Builds the child. It is in the tree and has its id when this returns, and does not run yet.
/// `traced`: it gets the tracer of the running thread.
fn copy_process(
    request: &Request,
    set_tid: &[i32],
    traced: bool,
) -> Result<(Arc<Task>, Option<Arc<Completion>>)> {
    let me = current();
    let flags = request.flags;
    let has = |bit: u64| flags & bit != 0;
    check_flags(flags)?;
    // A sibling of a namespace's init would have no parent inside it.
    if has(f::PARENT) && me.process.unkillable.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL);
    }
    let nsproxy = me.nsproxy().ok_or(Errno::EAGAIN)?;
    let own_ns = me.pid_ns();
    if has(f::THREAD) && !Arc::ptr_eq(&nsproxy.pid_for_children, &own_ns) {
        return Err(Errno::EINVAL);
    }
    if !set_tid.is_empty() && !me.with_cred(|c| c.capable(Cap::SysAdmin) || c.capable(Cap::CheckpointRestore))
    {
        return Err(Errno::EPERM);
    }
    let cred = crate::cred::commit::copy_for_child(&me, has(f::NEWUSER))?;
    let charge = ThreadCharge::new(UserCounts::of(cred.uid)?);
    check_limits(&charge)?;

    let fs = me.fs().ok_or(Errno::EAGAIN)?;
    let fs = if has(f::FS) { fs } else { try_arc(fs.copy())? };
    let nsproxy = if flags & ns_flags::NEW_FLAGS != 0 {
        crate::namespaces::copy(&nsproxy, &fs, &cred, flags)?
    } else {
        nsproxy
    };
    let files = me.files().ok_or(Errno::EAGAIN)?;
    let files = if has(f::FILES) {
        crate::process::files::share(&files)
    } else {
        crate::process::files::copy(&files)?
    };
    let files = crate::exit::FilesGuard::new(files);
    let mm = me.mm().ok_or(Errno::EAGAIN)?;
    let mm = if has(f::VM) { mm } else { mm.fork()? };
    let mm = crate::exit::MmGuard::new(mm);
    let nsproxy = if has(f::VM) { None } else { nsproxy.with_time_of_children()? }.map_or(nsproxy, |child| {
        child.time.enter(&mm.get());
        child
    });

    let pid = Pid::new(&nsproxy.pid_for_children, set_tid)?;
    let process = if has(f::THREAD) {
        me.process.clone()
    } else {
        new_process(&me.process, &pid, flags, request.exit_signal)?
    };
    let thread = Thread::new(Parts {
        process: process.clone(),
        pid: pid.clone(),
        cred,
        mm: Some(mm.get()),
        fs: fs.clone(),
        files: files.get(),
        nsproxy,
        charge,
    });
    inherit(&me, &thread, request)?;
    crate::keys::slots::inherit(&me, &thread, has(f::THREAD))?;
    let done = if has(f::VFORK) { Some(try_arc(Completion::new())?) } else { None };
    *thread.vfork_done.lock() = done.clone();

    let comm = me.task().comm();
    let parts = NewTask { comm: comm.as_bytes(), mm: Some(mm.get().switch_handle()), data: thread };
    let child = Task::new_user(parts, |machine, child_frame| {
        child_frame.set_return(0);
        if request.stack != 0 {
            child_frame.set_sp(request.stack);
        }
        if flags & f::SETTLS != 0 {
            machine.set_tls(request.tls);
        }
        if me.trace.is_traced() {
            // Only the parent is stepped.
            machine.set_tracer_step(child_frame, false);
        }
    })?;
    #[cfg(debug_assertions)]
    child.faults().inherit_from(me.task().faults());
    let thread = child.data::<Thread>().ok_or(Errno::ENOMEM)?;
    thread.set_task(&child);
    if flags & f::CHILD_SETTID != 0 || thread.rseq.addr.load(Ordering::Relaxed) != 0 {
        child.thread_flags().set(ThreadFlags::NOTIFY_RESUME);
    }
    if thread.mempolicy.get().is_some() {
        child.thread_flags().set(ThreadFlags::MEMPOLICY);
    }
    let pidfd =
        if has(f::PIDFD) { Some(crate::pidfd::reserve(&pid, has(f::THREAD), request.pidfd)?) } else { None };
    link(&me.process, &process, &child, thread, &pid, request, traced)?;
    if let Some(pidfd) = pidfd {
        pidfd.install();
    }
    files.keep();
    mm.keep();
    if has(f::FS) {
        fs.users.fetch_add(1, Ordering::Relaxed);
    }
    THREADS.fetch_add(1, Ordering::Relaxed);
    Ok((child, done))
}

/// The thread group of a child that is not a thread.
fn new_process(parent: &Arc<Process>, pid: &Arc<Pid>, flags: u64, exit_signal: u64) -> Result<Arc<Process>> {
    let sighand = if flags & f::SIGHAND != 0 {
        parent.sighand()
    } else {
        let copy = parent.sighand().duplicate();
        if flags & f::CLEAR_SIGHAND != 0 {
            copy.flush_handlers();
        }
        try_arc(copy)?
    };
    let mut process = Process::new(pid.clone(), sighand, parent.limits.duplicate(), exit_signal as i32);
    process.has_subreaper.store(
        parent.has_subreaper.load(Ordering::Relaxed) || parent.is_subreaper.load(Ordering::Relaxed),
        Ordering::Relaxed,
    );
    process.oom_score_adj.store(parent.oom_score_adj.load(Ordering::Relaxed), Ordering::Relaxed);
    process.oom_score_adj_min.store(parent.oom_score_adj_min.load(Ordering::Relaxed), Ordering::Relaxed);
    process.dumpable.store(parent.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    process.coredump_filter.store(parent.coredump_filter.load(Ordering::Relaxed), Ordering::Relaxed);
    *process.exe.get_mut() = parent.exe.lock().clone();
    *process.tty.get_mut() = parent.tty.lock().clone();
    let maker = if flags & f::PARENT != 0 {
        parent.forked_by.load(Ordering::Relaxed)
    } else {
        current().global_tid()
    };
    process.forked_by.store(maker, Ordering::Relaxed);
    if flags & f::PARENT != 0 {
        process.exit_signal.store(parent.exit_signal.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Ok(try_arc(process)?)
}

/// What the child takes over from the running thread.
fn inherit(me: &Thread, child: &Thread, request: &Request) -> Result<()> {
    let flags = request.flags;
    let copy = |to: &AtomicU64, from: &AtomicU64| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    copy(&child.signals.blocked, &me.signals.blocked);
    let slack = me.timer_slack_ns.load(Ordering::Relaxed);
    child.timer_slack_ns.store(slack, Ordering::Relaxed);
    child.default_timer_slack_ns.store(slack, Ordering::Relaxed);
    child.personality.store(me.personality.load(Ordering::Relaxed), Ordering::Relaxed);
    let locked = me.shadow_stacks_locked.load(Ordering::Relaxed);
    child.shadow_stacks_locked.store(locked, Ordering::Relaxed);
    if arch::thread::current_ref().flags().load().contains(ThreadFlags::MEMPOLICY) {
        child.mempolicy.inherit(&me.mempolicy);
    }
    let kept = flags::NO_NEW_PRIVS | flags::THP_DISABLE | flags::MCE_EARLY;
    child.set(me.flags.load(Ordering::Relaxed) & kept | flags::FORKNOEXEC);
    // A child with a stack of its own on shared memory does not run on its parent's alternate stack.
    if flags & (f::VM | f::VFORK) != f::VM {
        let stack = *me.signals.altstack.lock();
        *child.signals.altstack.lock() = stack;
    }
    if flags & f::CHILD_SETTID != 0 {
        child.set_child_tid.store(request.child_tid, Ordering::Relaxed);
    }
    if flags & f::CHILD_CLEARTID != 0 {
        child.clear_child_tid.store(request.child_tid, Ordering::Relaxed);
    }
    if flags & f::SYSVSEM != 0 {
        crate::ipc::task::TaskIpc::share_undo(me, child)?;
    }
    if flags & f::VM == 0 {
        let (from, to) = (&me.rseq, &child.rseq);
        to.addr.store(from.addr.load(Ordering::Relaxed), Ordering::Relaxed);
        to.len.store(from.len.load(Ordering::Relaxed), Ordering::Relaxed);
        to.sig.store(from.sig.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Ok(())
}

/// Makes the child visible: thread list, tree, id.
fn link(
    me: &Arc<Process>,
    process: &Arc<Process>,
    child: &Arc<Task>,
    thread: &Thread,
    pid: &Arc<Pid>,
    request: &Request,
    traced: bool,
) -> Result<()> {
    let tree = tree::lock();
    // A signal that came while the parts were copied is handled first: otherwise a fork loop could outrun a kill.
    {
        let state = me.sig.lock();
        let mine = current();
        let interrupting = state.deliverable(&mine);
        if state.is_exiting() || !interrupting.is_empty() && mine.task().has_pending_signal() {
            return Err(Errno::ERESTARTNOINTR);
        }
    }
    if pid.namespace().is_some_and(|ns| ns.is_closed()) {
        return Err(Errno::ENOMEM);
    }
    {
        let mut state = process.sig.lock();
        // The lock was given up since it was asked: a thread that nobody told to go would never go.
        if state.is_exiting() && Arc::ptr_eq(me, process) {
            return Err(Errno::ERESTARTNOINTR);
        }
        state.threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        // Under the lock, so that a new thread cannot miss a filter that is set for all.
        crate::seccomp::inherit(&current(), child, thread);
        state.threads.try_push(child.clone())?;
        if Arc::ptr_eq(me, process) {
            crate::signal::stop::join(&mut state, &current(), child, thread);
        }
    }
    if !Arc::ptr_eq(me, process) {
        let linked = link_process(&tree, me, process, pid, request);
        if let Err(errno) = linked {
            process.sig.lock().threads.clear();
            return Err(errno);
        }
    }
    pid.with_links(|l| l.task = Some(child.clone()));
    if traced {
        ptrace::link::inherit(&tree, &current(), child, thread);
    }
    Ok(())
}

fn link_process(
    tree: &tree::TreeGuard,
    me: &Arc<Process>,
    process: &Arc<Process>,
    pid: &Arc<Pid>,
    request: &Request,
) -> Result<()> {
    let parent = if request.flags & f::PARENT != 0 { me.parent().ok_or(Errno::EINVAL)? } else { me.clone() };
    if pid.is_reaper()
        && let Some(ns) = pid.namespace()
    {
        ns.set_reaper(process);
        process.unkillable.store(true, Ordering::Relaxed);
    }
    let (pgrp, session) = (me.pgrp().ok_or(Errno::EAGAIN)?, me.session().ok_or(Errno::EAGAIN)?);
    tree::enter(tree, process, &pgrp, &session)?;
    tree::adopt(tree, &parent, process)?;
    pid.with_links(|l| l.process = Some(process.clone()));
    Ok(())
}

/// What a new thread does in the kernel before its first step in user mode.
pub fn finish_in_child() {
    let me = current();
    let addr = me.set_child_tid.swap(0, Ordering::Relaxed);
    if addr != 0 {
        // A bad address is not an error: the child runs without it.
        let _ = UserPtr::<i32>::new(addr).write(&me.tid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_combinations() {
        let ok = [
            0,
            f::VM | f::VFORK,
            f::VM
                | f::FS
                | f::FILES
                | f::SIGHAND
                | f::THREAD
                | f::SYSVSEM
                | f::SETTLS
                | f::PARENT_SETTID
                | f::CHILD_CLEARTID,
            f::NEWNS | f::NEWPID | f::NEWUSER,
            f::PIDFD,
            f::CLEAR_SIGHAND,
        ];
        let bad = [
            f::THREAD,
            f::THREAD | f::SIGHAND,
            f::SIGHAND,
            f::NEWNS | f::FS,
            f::NEWUSER | f::FS,
            f::VM | f::SIGHAND | f::THREAD | f::NEWPID,
            f::VM | f::SIGHAND | f::CLEAR_SIGHAND,
            f::PIDFD | f::DETACHED,
            f::NEWIPC | f::SYSVSEM,
        ];
        for flags in ok {
            assert_eq!(check_flags(flags), Ok(()), "{flags:#x}");
        }
        for flags in bad {
            assert_eq!(check_flags(flags), Err(Errno::EINVAL), "{flags:#x}");
        }
    }
}
