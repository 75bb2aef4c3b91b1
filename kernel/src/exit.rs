//! The end of a thread and of a process: exit(2), exit_group(2).
//!
//! [`exit`] ends the running thread, in this order: no more signals; tell user space (robust futexes,
//! `clear_child_tid`), a waiting vfork parent, then give up memory, files, directories and namespaces; then leave the
//! process. The last thread takes the process with it: its children get a new parent, groups that lose their last
//! link to a shell are hung up, and the parent is told. What remains is a zombie, until [`crate::wait`].
//!
//! A thread never waits for its own end: after [`leave`] the scheduler switches away for good.

use crate::process::thread::flags;
use crate::process::{CurrentThread, Pid, Process, State, Thread, Usage, current, tree};
use crate::signal::{Signal, notify, send};
use crate::syscall::Syscall;
use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use mm::context::NoFailScope;
use mm::user::UserPtr;
use vfs::fdtable::FdTable;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[EXIT, EXIT_GROUP];

#[macros::syscall(exit)]
fn sys_exit(status: i32) -> Result<()> {
    exit((status & 0xff) << 8)
}

#[macros::syscall(exit_group)]
fn sys_exit_group(status: i32) -> Result<()> {
    exit_group((status & 0xff) << 8)
}

/// Ends the whole process with wait status `code`, unless it is ending with another one already.
pub fn exit_group(code: i32) -> ! {
    let me = current();
    let code = {
        let mut state = me.process.sig.lock();
        match state.group_exit {
            Some(first) => first,
            // A thread that loses to an exec just goes.
            None if state.group_exec && !me.has(flags::EXECING) => code,
            None => {
                state.group_exit = Some(code);
                state.stop.stopped = false;
                state.zap_others(Some(me.task()));
                code
            }
        }
    };
    exit(code)
}

/// Ends the running thread with wait status `code`.
pub fn exit(code: i32) -> ! {
    let me = current();
    if me.trace.is_traced() {
        crate::ptrace::stop::exit(&me, code);
    }
    me.task().set_flags(sched::TaskFlags::EXITING);
    me.set(flags::EXITING);
    me.exit_code.store(code, Ordering::Relaxed);
    stop_signals(&me);
    #[cfg(debug_assertions)]
    crate::debugfs::provoke::on_exit(&me);
    me.seccomp.release();
    crate::keys::slots::exit(&me);
    crate::io_uring::exit(&me);
    release_user_view(&me);
    crate::acct::process_exits(&me, code);
    release_mm(&me);
    crate::ipc::task::exit(&me);
    release_files(&me);
    drop(me.fs.replace(None).arc().inspect(|fs| {
        fs.users.fetch_sub(1, Ordering::Relaxed);
    }));
    drop(me.nsproxy.replace(None));
    leave(code);
    sched::exit_current()
}

/// From here on no signal is delivered; what was meant for the process goes to the others. A core dump by another thread
/// is waited for: it wants memory and registers as they are.
fn stop_signals(me: &CurrentThread) {
    let process = &me.process;
    let dump;
    let stopped = {
        let mut state = process.sig.lock();
        me.set(flags::PAST_DUMP);
        dump = state.dump.clone();
        let pending = state.shared.set();
        if !pending.is_empty() {
            state.for_each(|task, thread| {
                if !core::ptr::eq(thread, &**me) && !pending.minus(thread.blocked()).is_empty() {
                    crate::signal::state::wake(task, crate::signal::state::Wake::Interruptible);
                }
            });
        }
        crate::signal::stop::leave_stop_count(&mut state, me) && state.threads.len() > 1
    };
    if stopped {
        notify::parent_stopped(process, crate::signal::state::Change::Stopped);
    }
    if let Some(dump) = dump {
        dump.stand_by(me);
    }
}

/// What user space hears of the end: robust futexes and the word that `pthread_join` waits on.
fn release_user_view(me: &Thread) {
    if me.mm.is_none() {
        return;
    }
    crate::futex::robust::exit(me, sched::pi::After::Exit);
    let addr = me.clear_child_tid.swap(0, Ordering::Relaxed);
    // Not worth a page fault when the memory is going anyway.
    if addr != 0 && me.mm().is_some_and(|mm| mm.users() > 1) {
        let _ = UserPtr::<i32>::new(addr).write(&0);
        if let Ok(key) = crate::futex::Key::of(addr, crate::futex::Scope::Shared) {
            let _ = crate::futex::wake::wake_key(&key, 1, u32::MAX);
        }
    }
}

/// Lets a vfork parent go on: the child has left its memory.
pub fn complete_vfork(me: &Thread) {
    let done = me.vfork_done.lock().take();
    if let Some(done) = done {
        done.complete_all();
    }
}

fn release_mm(me: &Thread) {
    let old = me.mm.replace(None);
    let mm = old.arc();
    drop(old);
    drop(sched::current().replace_mm(None));
    complete_vfork(me);
    if let Some(mm) = mm {
        let peak = mm.counters().hiwater_rss() as u64;
        let mut accounts = me.process.accounts.lock();
        accounts.dead.max_rss = accounts.dead.max_rss.max(peak);
        drop(accounts);
        mm.put_user();
        if mm.users() == 0 {
            crate::aio::exit(&mm);
        }
    }
}

fn release_files(me: &Thread) {
    let old = me.files.replace(None);
    let files = old.arc();
    drop(old);
    if let Some(files) = files {
        crate::process::files::put_user(&files);
    }
}

/// A share of a file table that is given back unless it is kept: for fork's error paths.
pub struct FilesGuard {
    files: Arc<FdTable>,
    kept: bool,
}

impl FilesGuard {
    /// Takes responsibility for one user of `files`.
    pub fn new(files: Arc<FdTable>) -> Self {
        Self { files, kept: false }
    }

    /// Another reference.
    pub fn get(&self) -> Arc<FdTable> {
        self.files.clone()
    }

    /// The child has it now.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for FilesGuard {
    fn drop(&mut self) {
        if !self.kept {
            crate::process::files::put_user(&self.files);
        }
    }
}

/// A user of an address space that is given back unless it is kept.
pub struct MmGuard(Arc<AddressSpace>, bool);

impl MmGuard {
    /// Counts one more user of `mm`.
    pub fn new(mm: Arc<AddressSpace>) -> Self {
        mm.get_user();
        Self(mm, false)
    }

    /// Another reference.
    pub fn get(&self) -> Arc<AddressSpace> {
        self.0.clone()
    }

    /// The child has it now.
    pub fn keep(mut self) {
        self.1 = true;
    }
}

impl Drop for MmGuard {
    fn drop(&mut self) {
        if !self.1 {
            self.0.put_user();
        }
    }
}

/// Leaves the process; the last thread ends it.
fn leave(code: i32) {
    let me = current();
    let process = me.process.clone();
    if process.tracee_count.load(Ordering::Relaxed) != 0 {
        crate::ptrace::link::tracer_exits(&me, me.task());
    }
    let (last, traced) = {
        let mut state = process.sig.lock();
        // With the list, so that who sums up counts the thread once.
        process.accounts.lock().dead.add(&Usage::of(me.task()));
        state.threads.retain(|t| !core::ptr::eq(Arc::as_ptr(t), me.task()));
        // From here on nobody becomes its tracer.
        me.gone.store(true, Ordering::Release);
        let traced = me.trace.is_traced() && !me.is_leader();
        if traced {
            state.zombie_threads += 1;
        }
        let last = state.threads.is_empty();
        if last {
            let status = state.group_exit.unwrap_or(code);
            process.exit_code.store(status, Ordering::Relaxed);
            process.last_uid.store(me.with_cred(|c| c.uid.0), Ordering::Relaxed);
            *process.last_comm.lock() = *me.task().comm().padded();
        }
        (last, traced)
    };
    let pid = me.pid();
    if last {
        // A file may have to sleep when it goes; what is left of a zombie may be dropped under locks.
        let exe = process.exe.lock().take();
        drop(exe);
        process.timers.exit();
        end_process(&process);
    } else {
        // A thread that calls exec waits to be alone.
        process.child_wait.wake_all();
    }
    if !(traced && crate::ptrace::link::thread_exited(&me, me.task())) {
        pid.unlink(|l| l.task = None);
    }
    pid.exit_wait.wake_all();
    drop(me.charge.lock().take());
    crate::fork::THREADS.fetch_sub(1, Ordering::Relaxed);
}

/// The last thread is gone: hands the children on, hangs up orphaned groups, tells the parent.
#[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
fn end_process(process: &Arc<Process>) {
    if process.pid.is_reaper() {
        end_namespace(process);
    }
    if process.is_session_leader() {
        crate::tty_hooks::session_leader_exits(process);
    }
    // An exit cannot be refused.
    let _no_fail = NoFailScope::enter();
    let mut reaped = Vec::new();
    let mut hung_up = Vec::new();
    {
        let tree = tree::lock();
        hand_children_on(&tree, process, &mut reaped, &mut hung_up);
        let pgrp = process.pgrp();
        if let (Some(pgrp), Some(parent)) = (pgrp, process.parent())
            && parent.pgrp.as_ptr() != process.pgrp.as_ptr()
            && parent.session.as_ptr() == process.session.as_ptr()
            && tree::is_orphaned(&tree, &pgrp, Some(process))
            && tree::has_stopped(&tree, &pgrp)
        {
            hung_up.push(pgrp);
        }
        process.set_state(State::Zombie);
        tell_end(&tree, process);
        for child in &reaped {
            if child.claim_zombie() {
                tree::release(&tree, child);
            }
        }
    }
    process.pid.exit_wait.wake_all();
    for pgrp in hung_up {
        send::kernel_signal_group(&pgrp, Signal::SIGHUP);
        send::kernel_signal_group(&pgrp, Signal::SIGCONT);
    }
    drop(reaped);
}

/// Tells of the end of a process: its leader's tracer, otherwise the parent. Waits for the tracers of its other threads.
pub fn tell_end(tree: &tree::TreeGuard, process: &Arc<Process>) {
    if process.sig.lock().zombie_threads > 0 {
        return;
    }
    if let Some(tracer) = &*process.leader_tracer.lock() {
        notify::tracer_of_exited(process, tracer);
        return;
    }
    let vanish = match process.parent() {
        Some(parent) => notify::parent_exited(process, &parent),
        None => true,
    };
    if vanish && process.claim_zombie() {
        tree::release(tree, process);
    }
}

/// Who takes the children: the nearest ancestor that asked for it, otherwise the namespace's init.
fn find_reaper(process: &Arc<Process>) -> Option<Arc<Process>> {
    let ns = process.pid_ns();
    let init = ns.reaper().filter(|r| !Arc::ptr_eq(r, process));
    if process.has_subreaper.load(Ordering::Relaxed) {
        let mut at = process.parent();
        while let Some(candidate) = at {
            let outside = candidate.id_in(&ns) == 0;
            if outside || init.as_ref().is_some_and(|i| Arc::ptr_eq(i, &candidate)) {
                break;
            }
            if candidate.is_subreaper.load(Ordering::Relaxed) && candidate.thread_count() > 0 {
                return Some(candidate);
            }
            at = candidate.parent();
        }
    }
    init
}

#[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
fn hand_children_on(
    tree: &tree::TreeGuard,
    process: &Arc<Process>,
    reaped: &mut Vec<Arc<Process>>,
    hung_up: &mut Vec<Arc<Pid>>,
) {
    let children = core::mem::take(&mut *process.children.lock());
    if children.is_empty() {
        return;
    }
    let Some(reaper) = find_reaper(process) else { return };
    for child in children {
        deliver_pdeath_signal(&child);
        if tree::adopt(tree, &reaper, &child).is_err() {
            // Without memory for the list the child keeps a parent it cannot be waited for by; it is
            // released when it exits.
            child.exit_signal.store(0, Ordering::Relaxed);
            continue;
        }
        // An adopted child reports its end as any other.
        child.exit_signal.store(Signal::SIGCHLD.number(), Ordering::Relaxed);
        if child.is_reapable() && notify::parent_exited(&child, &reaper) {
            reaped.push(child.clone());
        }
        if let Some(pgrp) = child.pgrp()
            && child.pgrp.as_ptr() != process.pgrp.as_ptr()
            && child.session.as_ptr() == process.session.as_ptr()
            && tree::is_orphaned(tree, &pgrp, None)
            && tree::has_stopped(tree, &pgrp)
        {
            hung_up.push(pgrp);
        }
    }
}

fn deliver_pdeath_signal(child: &Arc<Process>) {
    for task in child.threads() {
        let Some(thread) = task.data::<Thread>() else { continue };
        if let Some(signal) = Signal::new(thread.pdeath_signal.load(Ordering::Relaxed)) {
            let info = abi::signal::Siginfo::new(signal.number(), abi::signal::SI_USER);
            let _ = send::to_thread(&task, signal, &info, send::Sender::User);
        }
    }
}

/// The init of a pid namespace exits: everybody in it goes first. For the initial namespace that is the end.
fn end_namespace(init: &Arc<Process>) {
    let ns = init.pid_ns();
    if ns.level() == 0 {
        let code = init.exit_code.load(Ordering::Relaxed);
        panic!("Attempted to kill init! exitcode=0x{code:08x}");
    }
    ns.close();
    for process in ns.processes() {
        if !Arc::ptr_eq(&process, init) {
            send::kill_process(&process);
        }
    }
    // Children are reaped here, others by their parents, until only this process is left.
    loop {
        crate::wait::reap_all_children(init);
        if ns.processes().all(|p| Arc::ptr_eq(&p, init)) {
            break;
        }
        let deadline = sched::Deadline::after_ms(10);
        init.child_wait.wait_event_timeout(deadline, || crate::wait::has_zombie(init));
    }
    crate::acct::namespace_ends(&ns);
}
