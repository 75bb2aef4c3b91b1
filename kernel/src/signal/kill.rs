//! Who may signal whom: kill(2), tkill(2), tgkill(2), sigqueue(3), pidfd_send_signal(2).

use super::send::{self, Sender};
use super::{Siginfo, Signal};
use crate::process::{Pid, PidNamespace, Process, Thread, current, tree};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::signal::{SI_TKILL, SI_USER};
use abi::{Errno, Result};
use alloc::sync::Arc;
use mm::user::UserPtr;
use sched::Task;
use vfs::cred::Credentials;
use vfs::security::{self, Reach};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[KILL, TKILL, TGKILL, RT_SIGQUEUEINFO, RT_TGSIGQUEUEINFO];

/// Where a signal's siginfo comes from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// `kill`: the sender's pid and uid, as the receiver sees them.
    Kill,
    /// `tkill`.
    Tkill,
    /// Passed by the sender.
    Given(&'a Siginfo),
}

fn info_for(target: &Thread, signal: Signal, source: Source<'_>) -> Siginfo {
    let code = match source {
        Source::Kill => SI_USER,
        Source::Tkill => SI_TKILL,
        Source::Given(info) => return *info,
    };
    let me = current();
    let pid = me.process.id_in(&target.pid_ns());
    let uid = me.with_cred(|c| c.uid);
    let uid = target.with_cred(|c| c.user_ns.from_uid(uid));
    Siginfo::from_kill(signal.number(), code, pid, uid)
}

/// What the sender is to the target's namespace.
fn sender_for(target: &Thread) -> Sender {
    if current().process.id_in(&target.pid_ns()) == 0 { Sender::Privileged } else { Sender::User }
}

/// Whether the running thread may send `signal` to `target` (signal 0 only asks).
///
/// # Errors
/// `EPERM`.
pub fn check(target: &Thread, signal: Option<Signal>) -> Result<()> {
    let me = current();
    if Arc::ptr_eq(&me.process, &target.process) {
        return Ok(());
    }
    let mine = me.cred();
    let theirs = target.cred();
    let same = |a: &Credentials, b: &Credentials| {
        a.euid == b.suid || a.euid == b.uid || a.uid == b.suid || a.uid == b.uid
    };
    // Job control: a shell may continue what it started in its session, whoever it is now.
    let continues =
        || signal == Some(Signal::SIGCONT) && me.process.session.as_ptr() == target.process.session.as_ptr();
    if !same(&mine, &theirs) && !mine.ns_capable(&theirs.user_ns, Cap::Kill) && !continues() {
        return Err(Errno::EPERM);
    }
    security::check_reach(&mine, theirs.domain.as_ref(), Reach::Signal)
}

/// Sends to a process after a check of rights. A zombie accepts everything.
///
/// # Errors
/// `EPERM`, `EAGAIN`.
pub fn process(target: &Arc<Process>, signal: Option<Signal>, source: Source<'_>) -> Result<()> {
    let Some(task) = target.any_task() else { return Ok(()) };
    let Some(thread) = task.data::<Thread>() else { return Ok(()) };
    check(thread, signal)?;
    let Some(signal) = signal else { return Ok(()) };
    let info = info_for(thread, signal, source);
    match send::to_process(target, signal, &info, sender_for(thread)) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

/// Sends to one thread after a check of rights.
///
/// # Errors
/// `EPERM`, `ESRCH`, `EAGAIN`.
pub fn thread(task: &Arc<Task>, signal: Option<Signal>, source: Source<'_>) -> Result<()> {
    let Some(target) = task.data::<Thread>() else { return Err(Errno::ESRCH) };
    check(target, signal)?;
    let Some(signal) = signal else { return Ok(()) };
    let info = info_for(target, signal, source);
    match send::to_thread(task, signal, &info, sender_for(target)) {
        // A thread on its way out still exists for the sender.
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

/// Sends to every member of a process group; succeeds if one could be signalled.
///
/// The tree lock makes it one step: a fork either comes before, and its child is a member, or finds the signal
/// pending in its parent and is undone. Otherwise a group that forks fast enough would outlive any kill.
///
/// # Errors
/// `ESRCH` for an empty group, otherwise the last failure.
pub fn group(pgrp: &Pid, signal: Option<Signal>, source: Source<'_>) -> Result<()> {
    let mut result = Err(Errno::ESRCH);
    // Declared before the lock: the references are dropped behind it.
    let members;
    let _tree = tree::lock();
    members = pgrp.group();
    for member in &members {
        match process(member, signal, source) {
            Ok(()) => result = Ok(()),
            Err(errno) if result.is_err() => result = Err(errno),
            Err(_) => {}
        }
    }
    result
}

/// kill(-1): everything the sender may signal but itself and init.
fn everybody(ns: &PidNamespace, signal: Option<Signal>, source: Source<'_>) -> Result<()> {
    let me = current();
    let mut result = Err(Errno::ESRCH);
    // As for groups: nobody is born behind our back.
    let _tree = tree::lock();
    for target in ns.processes() {
        if target.id_in(ns) <= 1 || Arc::ptr_eq(&target, &me.process) {
            continue;
        }
        match process(&target, signal, source) {
            Err(Errno::EPERM) if result.is_err() => {
                // EPERM alone is what Linux reports only when nothing else happened.
                result = Err(Errno::EPERM);
            }
            Err(Errno::EPERM) => {}
            _ => result = Ok(()),
        }
    }
    result
}

/// Signal 0 is a question; anything else must exist.
pub fn signal_or_probe(number: i32) -> Result<Option<Signal>> {
    if number == 0 { Ok(None) } else { Signal::from_user(number).map(Some) }
}

fn kill_number(pid: i32, number: i32, source: Source<'_>) -> Result<()> {
    let me = current();
    let ns = me.pid_ns();
    match pid {
        i32::MIN => Err(Errno::ESRCH),
        1.. => {
            let target = ns.find(pid).ok_or(Errno::ESRCH)?;
            let signal = signal_or_probe(number)?;
            // The number of a thread names its process.
            let target = target
                .process()
                .or_else(|| target.task()?.data::<Thread>().map(|t| t.process.clone()))
                .ok_or(Errno::ESRCH)?;
            process(&target, signal, source)
        }
        0 => group(&*me.process.pgrp().ok_or(Errno::ESRCH)?, signal_or_probe(number)?, source),
        -1 => everybody(&ns, signal_or_probe(number)?, source),
        _ => {
            let pgrp = ns.find(-pid).ok_or(Errno::ESRCH)?;
            group(&pgrp, signal_or_probe(number)?, source)
        }
    }
}

#[macros::syscall(kill)]
fn sys_kill(pid: i32, sig: i32) -> Result<()> {
    kill_number(pid, sig, Source::Kill)
}

fn find_thread(tgid: Option<i32>, tid: i32) -> Result<Arc<Task>> {
    let ns = current().pid_ns();
    let task = ns.task(tid).ok_or(Errno::ESRCH)?;
    let right = match tgid {
        None => true,
        Some(tgid) => task.data::<Thread>().is_some_and(|t| t.process.id_in(&ns) == tgid),
    };
    if right { Ok(task) } else { Err(Errno::ESRCH) }
}

#[macros::syscall(tkill)]
fn sys_tkill(tid: i32, sig: i32) -> Result<()> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let task = find_thread(None, tid)?;
    thread(&task, signal_or_probe(sig)?, Source::Tkill)
}

#[macros::syscall(tgkill)]
fn sys_tgkill(tgid: i32, tid: i32, sig: i32) -> Result<()> {
    if tid <= 0 || tgid <= 0 {
        return Err(Errno::EINVAL);
    }
    let task = find_thread(Some(tgid), tid)?;
    thread(&task, signal_or_probe(sig)?, Source::Tkill)
}

/// Siginfo that a process passes: only itself may be told that the kernel or `kill` sent it.
///
/// # Errors
/// `EPERM`, `EFAULT`.
pub fn given_info(info: UserPtr<Siginfo>, sig: i32, to_self: bool) -> Result<Siginfo> {
    let mut info = info.read()?;
    info.signo = sig;
    // The kernel's own mark of its timers.
    info.pad = 0;
    if (info.code >= 0 || info.code == SI_TKILL) && !to_self {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

#[macros::syscall(rt_sigqueueinfo)]
fn sys_rt_sigqueueinfo(tgid: i32, sig: i32, uinfo: UserPtr<Siginfo>) -> Result<()> {
    let info = given_info(uinfo, sig, current().process.id() == tgid)?;
    if tgid <= 0 {
        return Err(Errno::ESRCH);
    }
    kill_number(tgid, sig, Source::Given(&info))
}

#[macros::syscall(rt_tgsigqueueinfo)]
fn sys_rt_tgsigqueueinfo(tgid: i32, tid: i32, sig: i32, uinfo: UserPtr<Siginfo>) -> Result<()> {
    let info = given_info(uinfo, sig, current().process.id() == tgid && current().tid() == tid)?;
    if tid <= 0 || tgid <= 0 {
        return Err(Errno::EINVAL);
    }
    let task = find_thread(Some(tgid), tid)?;
    thread(&task, signal_or_probe(sig)?, Source::Given(&info))
}
