//! Waiting for children: wait4(2), waitid(2).
//!
//! Which children a call is about is a [`Filter`]; what it found is a [`Found`]. The search runs under the tree lock and
//! claims a zombie in the same step in which it sees it, so that two waiting threads never
//! share one. Reporting to user space happens afterwards, without locks.

use crate::process::syscalls::rusage_of;
use crate::process::{CurrentThread, Pid, Process, State, Thread, Usage, current, init_pid_ns, tree};
use crate::ptrace::link::Unlinked;
use crate::ptrace::wait as tracing;
use crate::signal::notify::exit_info;
use crate::syscall::Syscall;
use abi::process::Rusage;
use abi::signal::Siginfo;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::user::UserPtr;
use sched::Task;
use sched::wait::Wait;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[WAIT4, WAITID];

/// Which children.
enum Which {
    Any,
    Pid(Arc<Pid>),
    Group(Arc<Pid>),
}

struct Filter {
    which: Which,
    options: u32,
}

/// A state change to report.
struct Found {
    pid: i32,
    uid: u32,
    /// As `wait4` reports it.
    status: i32,
    code: u32,
    usage: crate::process::Usage,
}

enum Search {
    Found(Found),
    /// There are such children, but nothing to report yet.
    Nothing,
    NoChild,
}

impl Filter {
    fn matches(&self, child: &Process) -> bool {
        let right = match &self.which {
            Which::Any => true,
            Which::Pid(pid) => Arc::ptr_eq(&child.pid, pid),
            Which::Group(pgrp) => core::ptr::eq(child.pgrp.as_ptr(), Arc::as_ptr(pgrp)),
        };
        // A "clone" child is one that reports its end by another signal, or by none.
        let is_clone = child.exit_signal.load(Ordering::Relaxed) != raw::SIGCHLD as i32;
        let wants_clone = self.options & raw::__WCLONE != 0;
        right && (self.options & raw::__WALL != 0 || is_clone == wants_clone)
    }
}

impl Filter {
    fn matches_tracee(&self, thread: &Thread) -> bool {
        match &self.which {
            Which::Any => true,
            Which::Pid(pid) => core::ptr::eq(thread.pid.as_ptr(), Arc::as_ptr(pid)),
            Which::Group(pgrp) => core::ptr::eq(thread.process.pgrp.as_ptr(), Arc::as_ptr(pgrp)),
        }
    }
}

fn child_uid(child: &Process) -> u32 {
    let uid = child.with_thread(|_, t| t.with_cred(|c| c.uid)).unwrap_or_default();
    current().with_cred(|c| c.user_ns.from_uid(uid))
}

/// Looks through the children and tracees of the running process. Claims what it reports, unless `WNOWAIT`.
fn search(me: &CurrentThread, filter: &Filter) -> Search {
    // What is let go of is dropped behind the lock.
    let mut unlinked = None;
    let tree = tree::lock();
    let mut any = false;
    if me.process.tracee_count.load(Ordering::Relaxed) != 0 {
        match search_tracees(&tree, me, filter, &mut unlinked) {
            Search::NoChild => {}
            Search::Nothing => any = true,
            found => return found,
        }
    }
    let own_only = filter.options & raw::__WNOTHREAD != 0;
    let children = me.process.children.lock();
    let mut zombie = None;
    for child in children.iter().filter(|c| filter.matches(c)) {
        if own_only && !made_by(child, me) {
            continue;
        }
        any = true;
        // What this process traces was looked at above.
        let traced_here =
            child.leader_tracer.lock().as_ref().is_some_and(|tracer| Arc::ptr_eq(tracer, &me.process));
        if traced_here {
            continue;
        }
        if child.state() == State::Zombie {
            if filter.options & raw::WEXITED != 0 && child.is_reapable() {
                zombie = Some(child.clone());
                break;
            }
        } else if let Some(found) = changed(child, filter.options) {
            return Search::Found(found);
        }
    }
    drop(children);
    match zombie {
        Some(child) => Search::Found(reap(&tree, &me.process, &child, filter.options)),
        None if any => Search::Nothing,
        None => Search::NoChild,
    }
}

/// Whether `me` made `child`, or has to stand in for the thread that did and is gone.
fn made_by(child: &Process, me: &CurrentThread) -> bool {
    let maker = child.forked_by.load(Ordering::Relaxed);
    let mine = |t: &Arc<Task>| t.data::<Thread>().is_some_and(|t| Arc::ptr_eq(&t.process, &me.process));
    match init_pid_ns().task(maker).filter(mine).or_else(|| me.process.any_task()) {
        Some(task) => core::ptr::eq(Arc::as_ptr(&task), me.task()),
        None => true,
    }
}

/// Looks through the tracees.
fn search_tracees(
    tree: &tree::TreeGuard,
    me: &CurrentThread,
    filter: &Filter,
    unlinked: &mut Option<Unlinked>,
) -> Search {
    let only = (filter.options & raw::__WNOTHREAD != 0).then_some(me.task());
    let exits = filter.options & raw::WEXITED != 0;
    let keep = filter.options & raw::WNOWAIT != 0;
    let mut any = false;
    let mut hit = None;
    for task in me.process.tracees.lock().iter() {
        let Some(thread) = task.data::<Thread>() else { continue };
        if !filter.matches_tracee(thread) || only.is_some_and(|t| !thread.trace.is_traced_by(t)) {
            continue;
        }
        any = true;
        if let Some(change) = tracing::change(thread, exits) {
            hit = Some((task.clone(), Some(change)));
            break;
        }
        if filter.options & raw::WCONTINUED != 0 && thread.process.sig.lock().stop.continued {
            hit = Some((task.clone(), None));
            break;
        }
    }
    let Some((task, change)) = hit else { return if any { Search::Nothing } else { Search::NoChild } };
    let Some(thread) = task.data::<Thread>() else { return Search::Nothing };
    let mut found = Found {
        pid: thread.tid_in(&me.pid_ns()),
        uid: me.with_cred(|c| c.user_ns.from_uid(thread.with_cred(|c| c.uid))),
        status: 0,
        code: raw::CLD_TRAPPED,
        usage: Usage::of(&task),
    };
    match change {
        Some(tracing::Change::Stopped(code)) => {
            found.status = code << 8 | 0x7f;
            if !keep {
                tracing::stop_reported(thread);
            }
        }
        Some(tracing::Change::ThreadExited(status)) => {
            (found.status, found.code) = (status, exit_info(status).0);
            if !keep {
                *unlinked = tracing::reap_thread(tree, &task, thread);
            }
        }
        Some(tracing::Change::ProcessExited) => {
            let process = &thread.process;
            let own = process.parent().is_some_and(|p| Arc::ptr_eq(&p, &me.process));
            if own && !keep {
                *unlinked = tracing::let_go(tree, &task, thread);
            }
            found = reap(tree, &me.process, process, filter.options | if own { 0 } else { raw::WNOWAIT });
            if !own && !keep {
                *unlinked = tracing::pass_on(tree, &task, thread);
            }
        }
        None => match changed(&thread.process, filter.options & (raw::WCONTINUED | raw::WNOWAIT)) {
            Some(continued) => found = Found { pid: found.pid, ..continued },
            None => return Search::Nothing,
        },
    }
    Search::Found(found)
}

/// A stop or a continuation that was not reported yet.
fn changed(child: &Arc<Process>, options: u32) -> Option<Found> {
    let keep = options & raw::WNOWAIT != 0;
    let (code, status) = {
        let mut state = child.sig.lock();
        let stop = &mut state.stop;
        if options & raw::WSTOPPED != 0 && stop.stopped && stop.code != 0 {
            let signal = stop.code;
            if !keep {
                stop.code = 0;
            }
            (raw::CLD_STOPPED, signal << 8 | 0x7f)
        } else if options & raw::WCONTINUED != 0 && stop.continued {
            if !keep {
                stop.continued = false;
            }
            (raw::CLD_CONTINUED, 0xffff)
        } else {
            return None;
        }
    };
    let pid = child.id_in(&current().pid_ns());
    Some(Found { pid, uid: child_uid(child), status, code, usage: child.usage() })
}

fn reap(tree: &tree::TreeGuard, me: &Process, child: &Arc<Process>, options: u32) -> Found {
    let status = child.exit_code.load(Ordering::Relaxed);
    let (own, grandchildren) = (child.usage(), child.children_usage());
    let mut usage = own;
    usage.add(&grandchildren);
    let found = Found {
        pid: child.id_in(&current().pid_ns()),
        uid: child.exit_uid(),
        status,
        code: exit_info(status).0,
        usage,
    };
    if options & raw::WNOWAIT == 0 && child.claim_zombie() {
        me.accounts.lock().add_child(&own, &grandchildren);
        tree::release(tree, child);
    }
    found
}

/// Whether some child is a zombie.
pub fn has_zombie(process: &Process) -> bool {
    process.children.lock().iter().any(|c| c.is_reapable())
}

/// Reaps every zombie child without telling anybody.
pub fn reap_all_children(process: &Arc<Process>) {
    loop {
        let tree = tree::lock();
        let zombie = process.children.lock().iter().find(|c| c.is_reapable()).cloned();
        match zombie {
            Some(child) if child.claim_zombie() => tree::release(&tree, &child),
            Some(_) => {}
            None => return,
        }
    }
}

/// The common loop. `None`: `WNOHANG` and nothing to report.
fn wait_for(filter: &Filter) -> Result<Option<Found>> {
    let me = current();
    let result = me.process.child_wait.wait(Wait::INTERRUPTIBLE, || match search(&me, filter) {
        Search::Found(found) => Some(Ok(Some(found))),
        Search::NoChild => Some(Err(Errno::ECHILD)),
        Search::Nothing if filter.options & raw::WNOHANG != 0 => Some(Ok(None)),
        Search::Nothing => None,
    });
    match result {
        Ok(result) => result,
        Err(_) => Err(Errno::ERESTARTSYS),
    }
}

#[macros::syscall(wait4)]
fn sys_wait4(pid: i32, status: UserPtr<i32>, options: i32, rusage: UserPtr<Rusage>) -> Result<i32> {
    let options = options as u32;
    let known =
        raw::WNOHANG | raw::WUNTRACED | raw::WCONTINUED | raw::__WNOTHREAD | raw::__WCLONE | raw::__WALL;
    if options & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let which = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(me.process.pgrp().ok_or(Errno::ECHILD)?),
        1.. => Which::Pid(me.pid_ns().find(pid).ok_or(Errno::ECHILD)?),
        _ => Which::Group(me.pid_ns().find(-pid).ok_or(Errno::ECHILD)?),
    };
    let Some(found) = wait_for(&Filter { which, options: options | raw::WEXITED })? else { return Ok(0) };
    status.write_opt(&found.status)?;
    rusage.write_opt(&rusage_of(&found.usage))?;
    Ok(found.pid)
}

/// What a call of `waitid(2)` asks for.
pub struct WaitId {
    filter: Filter,
    /// The pid descriptor does not wait: nothing to report is an error.
    nonblock: bool,
}

/// What there is to report; `None` for nothing, with `WNOHANG`.
pub struct Report(Option<Found>);

impl WaitId {
    /// From the arguments of the call.
    ///
    /// # Errors
    /// `EINVAL`, `ECHILD`, `EBADF`.
    pub fn new(idtype: i32, id: i32, options: u32) -> Result<Self> {
        waitid_filter(idtype, id, options)
    }

    /// Looks once at the children of the running process. `None`: there is nothing to report yet.
    pub fn look(&self) -> Option<Result<Report>> {
        match search(&current(), &self.filter) {
            Search::Found(found) => Some(Ok(Report(Some(found)))),
            Search::NoChild => Some(Err(Errno::ECHILD)),
            Search::Nothing if self.nonblock => Some(Err(Errno::EAGAIN)),
            Search::Nothing if self.filter.options & raw::WNOHANG != 0 => Some(Ok(Report(None))),
            Search::Nothing => None,
        }
    }
}

fn waitid_filter(idtype: i32, id: i32, mut options: u32) -> Result<WaitId> {
    let kinds = raw::WEXITED | raw::WSTOPPED | raw::WCONTINUED;
    let known = kinds | raw::WNOHANG | raw::WNOWAIT | raw::__WNOTHREAD | raw::__WCLONE | raw::__WALL;
    if options & !known != 0 || options & kinds == 0 {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let mut nonblock = false;
    let which = match idtype as u32 {
        raw::P_ALL => Which::Any,
        raw::P_PID if id <= 0 => return Err(Errno::EINVAL),
        raw::P_PID => Which::Pid(me.pid_ns().find(id).ok_or(Errno::ECHILD)?),
        raw::P_PGID if id < 0 => return Err(Errno::EINVAL),
        raw::P_PGID if id == 0 => Which::Group(me.process.pgrp().ok_or(Errno::ECHILD)?),
        raw::P_PGID => Which::Group(me.pid_ns().find(id).ok_or(Errno::ECHILD)?),
        raw::P_PIDFD if id < 0 => return Err(Errno::EINVAL),
        raw::P_PIDFD => {
            let (pid, is_nonblock) = crate::pidfd::pid_of(id)?;
            nonblock = is_nonblock;
            Which::Pid(pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    if nonblock {
        options |= raw::WNOHANG;
    }
    Ok(WaitId { filter: Filter { which, options }, nonblock })
}

impl Report {
    /// Writes it to the user's structure, if there is one.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write(&self, infop: UserPtr<Siginfo>) -> Result<()> {
        let mut info = Siginfo::default();
        if let Some(found) = &self.0 {
            let status = match found.code {
                raw::CLD_STOPPED => found.status >> 8 & 0xff,
                raw::CLD_TRAPPED => found.status >> 8,
                raw::CLD_CONTINUED => raw::SIGCONT as i32,
                _ => exit_info(found.status).1,
            };
            info = Siginfo::from_child(found.code as i32, found.pid, found.uid, status, 0, 0);
        }
        if infop.is_null() {
            return Ok(());
        }
        // The call writes these six fields and leaves the rest of the structure alone.
        let at = infop.cast::<u8>();
        at.byte_add::<i32>(0).write(&info.signo)?;
        at.byte_add::<i32>(4).write(&0)?;
        at.byte_add::<i32>(8).write(&info.code)?;
        at.byte_add::<i32>(16).write(&info.pid())?;
        at.byte_add::<u32>(20).write(&info.uid())?;
        at.byte_add::<i32>(24).write(&info.status())
    }
}

#[macros::syscall(waitid)]
fn sys_waitid(
    idtype: i32,
    id: i32,
    infop: UserPtr<Siginfo>,
    options: i32,
    rusage: UserPtr<Rusage>,
) -> Result<()> {
    let wait = WaitId::new(idtype, id, options as u32)?;
    let found = wait_for(&wait.filter)?;
    if found.is_none() && wait.nonblock {
        return Err(Errno::EAGAIN);
    }
    if let Some(found) = &found {
        rusage.write_opt(&rusage_of(&found.usage))?;
    }
    Report(found).write(infop)
}
