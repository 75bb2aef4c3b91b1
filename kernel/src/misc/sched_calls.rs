//! Scheduling: sched_setscheduler(2), sched_setattr(2), sched_setaffinity(2), setpriority(2), sched_yield(2), ioprio_set(2).
//!
//! The mechanism is [`sched::policy`]; here is who may do what to whom, and the users' layouts.

use crate::process::{Process, Resource, Thread, current};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::sched::{SCHED_ATTR_SIZE_VER0, SchedAttr};
use abi::time::Timespec;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::cpu::CpuMask;
use mm::fallible::TryCollect;
use mm::user::{UserPtr, UserSlice, copy_struct_from_user};
use sched::{Attr, DlParams, Policy, Task};
use zerocopy::IntoBytes;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[
    SCHED_YIELD,
    SCHED_SETSCHEDULER,
    SCHED_GETSCHEDULER,
    SCHED_SETPARAM,
    SCHED_GETPARAM,
    SCHED_SETATTR,
    SCHED_GETATTR,
    SCHED_SETAFFINITY,
    SCHED_GETAFFINITY,
    SCHED_GET_PRIORITY_MAX,
    SCHED_GET_PRIORITY_MIN,
    SCHED_RR_GET_INTERVAL,
    SETPRIORITY,
    GETPRIORITY,
    IOPRIO_SET,
    IOPRIO_GET,
];

#[macros::syscall(sched_yield)]
fn sys_sched_yield() -> Result<()> {
    sched::yield_now();
    Ok(())
}

/// The thread a call names; 0 is the caller.
fn find(pid: i32) -> Result<Arc<Task>> {
    let me = current();
    match pid {
        i32::MIN..0 => Err(Errno::EINVAL),
        0 => Ok(me.task_arc()),
        _ => me.pid_ns().task(pid).ok_or(Errno::ESRCH),
    }
}

/// Whether the caller owns `target`, or has `CAP_SYS_NICE` over it.
fn check_owner(target: &Thread) -> Result<()> {
    let mine = current().cred();
    let theirs = target.cred();
    let same = mine.euid == theirs.euid || mine.euid == theirs.uid;
    if same || mine.ns_capable(&theirs.user_ns, Cap::SysNice) { Ok(()) } else { Err(Errno::EPERM) }
}

fn can_nice() -> bool {
    current().with_cred(|c| c.capable(Cap::SysNice))
}

/// Whether the target's limits let its owner choose `nice`: `RLIMIT_NICE` counts from 20 down.
fn nice_allowed(target: &Thread, nice: i8) -> bool {
    let needed = u64::try_from(20 - i64::from(nice)).unwrap_or(0);
    needed <= target.process.limits.cur(Resource::Nice)
}

/// The rules of sched(7), "Privileges and resource limits".
fn check_change(target: &Thread, old: &Attr, new: &Attr) -> Result<()> {
    if can_nice() {
        return Ok(());
    }
    let normal = |p: Policy| matches!(p, Policy::Normal | Policy::Batch | Policy::Idle);
    let allowed = match new.policy {
        Policy::Deadline => false,
        Policy::Fifo | Policy::RoundRobin => {
            let limit = target.process.limits.cur(Resource::Rtprio);
            let grows = new.priority > old.priority;
            (new.policy == old.policy || limit != 0) && (!grows || u64::from(new.priority) <= limit)
        }
        _ => {
            let leaves_idle = old.policy == Policy::Idle && new.policy != Policy::Idle;
            (!leaves_idle || nice_allowed(target, old.nice))
                && (!normal(old.policy) || new.nice >= old.nice || nice_allowed(target, new.nice))
        }
    };
    if !allowed || old.reset_on_fork && !new.reset_on_fork {
        return Err(Errno::EPERM);
    }
    check_owner(target)
}

fn change(task: &Task, new: Attr) -> Result<()> {
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    check_change(thread, &task.sched_attr(), &new)?;
    task.set_sched_attr(new)
}

fn policy_from(number: u32) -> Result<Policy> {
    Policy::from_number(number).ok_or(Errno::EINVAL)
}

fn set_scheduler(pid: i32, policy: Option<i32>, param: UserPtr<i32>) -> Result<()> {
    if pid < 0 || param.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = param.read()?;
    let task = find(pid)?;
    let old = task.sched_attr();
    let mut new = old;
    if let Some(number) = policy {
        let number = number as u32;
        new.reset_on_fork = number & raw::SCHED_RESET_ON_FORK != 0;
        new.policy = policy_from(number & !raw::SCHED_RESET_ON_FORK)?;
    }
    // A reservation cannot be made by this call.
    if new.policy == Policy::Deadline {
        return Err(Errno::EINVAL);
    }
    new.priority = u8::try_from(priority).map_err(|_| Errno::EINVAL)?;
    change(&task, new)
}

#[macros::syscall(sched_setscheduler)]
fn sys_sched_setscheduler(pid: i32, policy: i32, param: UserPtr<i32>) -> Result<()> {
    if policy < 0 {
        return Err(Errno::EINVAL);
    }
    set_scheduler(pid, Some(policy), param)
}

#[macros::syscall(sched_setparam)]
fn sys_sched_setparam(pid: i32, param: UserPtr<i32>) -> Result<()> {
    set_scheduler(pid, None, param)
}

#[macros::syscall(sched_getscheduler)]
fn sys_sched_getscheduler(pid: i32) -> Result<u32> {
    let attr = find(pid)?.sched_attr();
    Ok(attr.policy as u32 | if attr.reset_on_fork { raw::SCHED_RESET_ON_FORK } else { 0 })
}

#[macros::syscall(sched_getparam)]
fn sys_sched_getparam(pid: i32, param: UserPtr<i32>) -> Result<()> {
    if param.is_null() {
        return Err(Errno::EINVAL);
    }
    param.write(&i32::from(find(pid)?.sched_attr().priority))
}

#[macros::syscall(sched_setattr)]
fn sys_sched_setattr(pid: i32, uattr: UserPtr<SchedAttr>, flags: u32) -> Result<()> {
    if uattr.is_null() || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size = match uattr.byte_add::<u32>(0).read()? as usize {
        0 => SCHED_ATTR_SIZE_VER0,
        size if !(SCHED_ATTR_SIZE_VER0..=4096).contains(&size) => return wrong_size(uattr),
        size => size,
    };
    let attr = match copy_struct_from_user(uattr, size) {
        Err(Errno::E2BIG) => return wrong_size(uattr),
        other => other?,
    };
    let known = raw::SCHED_FLAG_RESET_ON_FORK
        | raw::SCHED_FLAG_RECLAIM
        | raw::SCHED_FLAG_DL_OVERRUN
        | raw::SCHED_FLAG_KEEP_POLICY
        | raw::SCHED_FLAG_KEEP_PARAMS;
    if attr.flags & !u64::from(known) != 0 {
        return Err(if attr.flags & 0x60 == attr.flags & !u64::from(known) {
            Errno::EOPNOTSUPP
        } else {
            Errno::EINVAL
        });
    }
    let has = |flag: u32| attr.flags & u64::from(flag) != 0;
    let task = find(pid)?;
    let mut new = task.sched_attr();
    new.reset_on_fork = has(raw::SCHED_FLAG_RESET_ON_FORK);
    if !has(raw::SCHED_FLAG_KEEP_POLICY) {
        new.policy = policy_from(attr.policy)?;
    }
    if !has(raw::SCHED_FLAG_KEEP_PARAMS) {
        new.nice = attr.nice.clamp(-20, 19) as i8;
        new.priority = u8::try_from(attr.priority).map_err(|_| Errno::EINVAL)?;
        // Without a period it is the deadline.
        let period = if attr.period_ns == 0 { attr.deadline_ns } else { attr.period_ns };
        new.deadline = DlParams { runtime: attr.runtime_ns, deadline: attr.deadline_ns, period };
    }
    change(&task, new)
}

/// Tells the size that the kernel knows.
fn wrong_size(uattr: UserPtr<SchedAttr>) -> Result<()> {
    uattr.byte_add::<u32>(0).write(&(size_of::<SchedAttr>() as u32))?;
    Err(Errno::E2BIG)
}

#[macros::syscall(sched_getattr)]
fn sys_sched_getattr(pid: i32, uattr: UserPtr<u8>, usize_: u32, flags: u32) -> Result<()> {
    let room = usize_ as usize;
    if uattr.is_null() || !(SCHED_ATTR_SIZE_VER0..=4096).contains(&room) || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let attr = find(pid)?.sched_attr();
    let size = room.min(size_of::<SchedAttr>());
    let out = SchedAttr {
        size: size as u32,
        policy: attr.policy as u32,
        flags: if attr.reset_on_fork { raw::SCHED_FLAG_RESET_ON_FORK.into() } else { 0 },
        nice: attr.nice.into(),
        priority: attr.priority.into(),
        runtime_ns: attr.deadline.runtime,
        deadline_ns: attr.deadline.deadline,
        period_ns: attr.deadline.period,
        util_min: 0,
        util_max: 1024,
    };
    uattr.slice(size).copy_from(out.as_bytes().get(..size).unwrap_or_default())
}

#[macros::syscall(sched_setaffinity)]
fn sys_sched_setaffinity(pid: i32, len: u32, mask: usize) -> Result<()> {
    let mut bytes = [0u8; 8];
    let len = (len as usize).min(bytes.len());
    UserSlice::<u8>::new(mask, len).copy_to(bytes.get_mut(..len).unwrap_or_default())?;
    let task = if pid < 0 { return Err(Errno::ESRCH) } else { find(pid)? };
    check_owner(task.data::<Thread>().ok_or(Errno::ESRCH)?)?;
    task.set_affinity(CpuMask::from_bits(u64::from_ne_bytes(bytes)).and(arch::cpu::possible()))
}

#[macros::syscall(sched_getaffinity)]
fn sys_sched_getaffinity(pid: i32, len: u32, mask: UserPtr<u64>) -> Result<usize> {
    if u64::from(len) * 8 < arch::cpu::count() as u64 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let task = if pid < 0 { return Err(Errno::ESRCH) } else { find(pid)? };
    mask.write(&task.affinity().and(arch::cpu::online()).bits())?;
    Ok(8)
}

#[macros::syscall(sched_get_priority_max)]
fn sys_sched_get_priority_max(policy: u32) -> Result<i32> {
    Ok(if matches!(policy_from(policy)?, Policy::Fifo | Policy::RoundRobin) { 99 } else { 0 })
}

#[macros::syscall(sched_get_priority_min)]
fn sys_sched_get_priority_min(policy: u32) -> Result<i32> {
    Ok(matches!(policy_from(policy)?, Policy::Fifo | Policy::RoundRobin).into())
}

#[macros::syscall(sched_rr_get_interval)]
fn sys_sched_rr_get_interval(pid: i32, interval: UserPtr<Timespec>) -> Result<()> {
    interval.write(&Timespec::from_ns(find(pid)?.rr_interval_ns()))
}

/// The threads that `which` and `who` of `setpriority` and `ioprio_set` name. `offset`: the first of the three kinds.
fn selected(which: i32, who: i32, first: i32) -> Result<Vec<Arc<Task>>> {
    let me = current();
    let ns = me.pid_ns();
    let of = |p: &Arc<Process>| p.threads();
    match which.wrapping_sub(first) {
        0 => Ok(find(who).into_iter().try_collect_vec()?),
        1 => {
            let pgrp = if who == 0 { me.process.pgrp() } else { ns.find(who) };
            let members = pgrp.map(|g| g.group()).unwrap_or_default();
            Ok(members.iter().flat_map(of).try_collect_vec()?)
        }
        2 => {
            let cred = me.cred();
            let uid =
                if who == 0 { cred.uid } else { cred.user_ns.make_uid(who as u32).ok_or(Errno::ESRCH)? };
            let owned =
                |task: &Arc<Task>| task.data::<Thread>().is_some_and(|t| t.with_cred(|c| c.uid == uid));
            Ok(ns.processes().flat_map(|p| p.threads()).filter(owned).try_collect_vec()?)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn set_one_nice(task: &Task, nice: i8) -> Result<()> {
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    let mine = current().cred();
    let theirs = thread.cred();
    let same = mine.euid == theirs.euid || mine.euid == theirs.uid || mine.uid == theirs.uid;
    if !same && !mine.ns_capable(&theirs.user_ns, Cap::SysNice) {
        return Err(Errno::EPERM);
    }
    if nice < task.nice() && !can_nice() && !nice_allowed(thread, nice) {
        return Err(Errno::EACCES);
    }
    task.set_nice(nice);
    Ok(())
}

#[macros::syscall(setpriority)]
fn sys_setpriority(which: i32, who: i32, niceval: i32) -> Result<()> {
    let nice = niceval.clamp(-20, 19) as i8;
    let mut result = Err(Errno::ESRCH);
    for task in selected(which, who, 0)? {
        match set_one_nice(&task, nice) {
            Ok(()) if result == Err(Errno::ESRCH) => result = Ok(()),
            Ok(()) => {}
            Err(errno) => result = Err(errno),
        }
    }
    result
}

#[macros::syscall(getpriority)]
fn sys_getpriority(which: i32, who: i32) -> Result<i32> {
    // 40 for the most favoured down to 1: the result must not look like an error.
    selected(which, who, 0)?.iter().map(|t| 20 - i32::from(t.nice())).max().ok_or(Errno::ESRCH)
}

/// Of the three ways to say whose I/O priority is meant, the one that names a thread.
const IOPRIO_WHO_PROCESS: i32 = 1;
/// The class in the upper bits of an I/O priority, the level in the lower.
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// Whether the caller may use an I/O priority.
///
/// # Errors
/// `EPERM` for the realtime class, `EINVAL` for what is none.
pub fn check_ioprio(ioprio: u16) -> Result<()> {
    let value = u32::from(ioprio);
    let (class, level) = (value >> IOPRIO_CLASS_SHIFT, value & 7);
    match class {
        1 => current().with_cred(|c| {
            if c.capable(Cap::SysAdmin) || c.capable(Cap::SysNice) { Ok(()) } else { Err(Errno::EPERM) }
        })?,
        2 | 3 => {}
        0 if level == 0 => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

#[macros::syscall(ioprio_set)]
fn sys_ioprio_set(which: i32, who: i32, ioprio: i32) -> Result<()> {
    let value = ioprio as u32;
    check_ioprio(u16::try_from(value).map_err(|_| Errno::EINVAL)?)?;
    let tasks = selected(which, who, 1)?;
    if tasks.is_empty() {
        return Err(Errno::ESRCH);
    }
    for task in tasks {
        let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
        check_owner(thread)?;
        task.io().set_priority(value as u16);
    }
    Ok(())
}

#[macros::syscall(ioprio_get)]
fn sys_ioprio_get(which: i32, who: i32) -> Result<u32> {
    let tasks = selected(which, who, 1)?;
    if which == IOPRIO_WHO_PROCESS {
        return tasks.first().map(|task| task.io().own_priority().into()).ok_or(Errno::ESRCH);
    }
    // Of several the best is told: the lowest number.
    tasks.iter().map(|task| task.io().priority().into()).min().ok_or(Errno::ESRCH)
}
