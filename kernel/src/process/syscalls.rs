//! Ids, groups, sessions and limits: getpid(2), setpgid(2), setsid(2), prlimit(2) and relatives.

use super::limits::Resource;
use super::thread::Thread;
use super::{Process, Usage, current, tree};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::process::{Rlimit, Rusage};
use abi::time::Timeval;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[GETPID, GETTID, GETPPID, GETPGRP, GETPGID, GETSID, SETPGID, SETSID, PRLIMIT64, GETRLIMIT, SETRLIMIT];

/// `struct rusage` of what a process used.
pub fn rusage_of(usage: &Usage) -> Rusage {
    Rusage {
        utime: Timeval::from_ns(usage.utime_ns),
        stime: Timeval::from_ns(usage.stime_ns),
        maxrss: usage.max_rss.saturating_mul(4) as i64,
        minflt: usage.min_flt as i64,
        majflt: usage.maj_flt as i64,
        inblock: (usage.io.read_bytes / 512) as i64,
        oublock: (usage.io.write_bytes / 512) as i64,
        nvcsw: usage.nvcsw as i64,
        nivcsw: usage.nivcsw as i64,
        ..Rusage::default()
    }
}

#[macros::syscall(getpid)]
fn sys_getpid() -> Result<i32> {
    Ok(current().process.id())
}

#[macros::syscall(gettid)]
fn sys_gettid() -> Result<i32> {
    Ok(current().tid())
}

#[macros::syscall(getppid)]
fn sys_getppid() -> Result<i32> {
    let me = current();
    let guard = sched::rcu::read_lock();
    let parent = me.process.parent.load(&guard);
    Ok(match (parent, me.process.pid.namespace()) {
        (Some(parent), Some(ns)) => parent.id_in(ns),
        _ => 0,
    })
}

#[macros::syscall(getpgrp)]
fn sys_getpgrp() -> Result<i32> {
    sys_getpgid(0)
}

/// The process a call names; 0 is the caller.
fn find(pid: i32) -> Result<Arc<Process>> {
    let me = current();
    if pid == 0 {
        return Ok(me.process.clone());
    }
    let found = me.pid_ns().find(pid).ok_or(Errno::ESRCH)?;
    let by_thread = || found.task()?.data::<Thread>().map(|t| t.process.clone());
    found.process().or_else(by_thread).ok_or(Errno::ESRCH)
}

#[macros::syscall(getpgid)]
fn sys_getpgid(pid: i32) -> Result<i32> {
    let pgrp = find(pid)?.pgrp().ok_or(Errno::ESRCH)?;
    Ok(pgrp.nr_in(&current().pid_ns()))
}

#[macros::syscall(getsid)]
fn sys_getsid(pid: i32) -> Result<i32> {
    let session = find(pid)?.session().ok_or(Errno::ESRCH)?;
    Ok(session.nr_in(&current().pid_ns()))
}

#[macros::syscall(setpgid)]
fn sys_setpgid(pid: i32, pgid: i32) -> Result<()> {
    let me = current();
    let ns = me.pid_ns();
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let pid = if pid == 0 { me.process.id() } else { pid };
    let pgid = if pgid == 0 { pid } else { pgid };
    let tree = tree::lock();
    let target = ns.process(pid).ok_or(Errno::ESRCH)?;
    let is_child = core::ptr::eq(target.parent.as_ptr(), Arc::as_ptr(&me.process));
    let same_session = target.session.as_ptr() == me.process.session.as_ptr();
    if is_child {
        if !same_session {
            return Err(Errno::EPERM);
        }
        if target.did_exec.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    } else if !Arc::ptr_eq(&target, &me.process) {
        return Err(Errno::ESRCH);
    }
    if target.is_session_leader() {
        return Err(Errno::EPERM);
    }
    let group = if pgid == pid {
        target.pid.clone()
    } else {
        // A group of the same session must exist.
        let group = ns.find(pgid).ok_or(Errno::EPERM)?;
        let ours = group.with_links(|l| {
            l.group.first().is_some_and(|p| p.session.as_ptr() == me.process.session.as_ptr())
        });
        if !ours {
            return Err(Errno::EPERM);
        }
        group
    };
    tree::change_group(&tree, &target, &group)
}

#[macros::syscall(setsid)]
fn sys_setsid() -> Result<i32> {
    let me = current();
    let process = &me.process;
    {
        let tree = tree::lock();
        // The id must not name a group already, led by us or left over.
        if process.is_session_leader() || process.pid.with_links(|l| !l.group.is_empty()) {
            return Err(Errno::EPERM);
        }
        tree::change_session(&tree, process, &process.pid.clone())?;
        tree::change_group(&tree, process, &process.pid.clone())?;
    }
    drop(process.tty.lock().take());
    Ok(process.id())
}

fn change_limit(target: &Process, resource: Resource, new: Option<Rlimit>) -> Result<Rlimit> {
    let capable = current().with_cred(|c| c.capable(Cap::SysResource));
    let _writers = target.limits_lock.lock();
    let old = target.limits.get(resource);
    if let Some(new) = new {
        if new.cur > new.max {
            return Err(Errno::EINVAL);
        }
        if resource == Resource::Nofile && new.max > vfs::fdtable::NR_OPEN.load(Ordering::Relaxed).into() {
            return Err(Errno::EPERM);
        }
        if new.max > old.max && !capable {
            return Err(Errno::EPERM);
        }
        target.limits.set(resource, new);
    }
    Ok(old)
}

/// Whether the caller may see and change another process's limits.
fn may_limit(target: &Thread) -> Result<()> {
    let me = current();
    if Arc::ptr_eq(&me.process, &target.process) {
        return Ok(());
    }
    let (mine, theirs) = (me.cred(), target.cred());
    let same = mine.uid == theirs.euid
        && mine.uid == theirs.suid
        && mine.uid == theirs.uid
        && mine.gid == theirs.egid
        && mine.gid == theirs.sgid
        && mine.gid == theirs.gid;
    if same || mine.ns_capable(&theirs.user_ns, Cap::SysResource) { Ok(()) } else { Err(Errno::EPERM) }
}

#[macros::syscall(prlimit64)]
fn sys_prlimit64(pid: i32, resource: u32, new: UserPtr<Rlimit>, old: UserPtr<Rlimit>) -> Result<()> {
    let resource = Resource::new(resource);
    let new = new.read_opt()?;
    let me = current();
    let task = if pid == 0 { me.task_arc() } else { me.pid_ns().task(pid).ok_or(Errno::ESRCH)? };
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    may_limit(thread)?;
    let before = change_limit(&thread.process, resource.ok_or(Errno::EINVAL)?, new)?;
    old.write_opt(&before)
}

#[macros::syscall(getrlimit)]
fn sys_getrlimit(resource: u32, rlim: UserPtr<Rlimit>) -> Result<()> {
    let resource = Resource::new(resource).ok_or(Errno::EINVAL)?;
    rlim.write(&current().process.limits.get(resource))
}

#[macros::syscall(setrlimit)]
fn sys_setrlimit(resource: u32, rlim: UserPtr<Rlimit>) -> Result<()> {
    let new = rlim.read()?;
    let resource = Resource::new(resource).ok_or(Errno::EINVAL)?;
    change_limit(&current().process, resource, Some(new)).map(|_| ())
}
