//! `semget(2)`, `semctl(2)`.

use super::set::{Batch, Changed, Parts, SemSet};
use super::{ADJUST_MAX, VALUE_MAX};
use crate::ipc::ids::{Object, Wanted};
use crate::ipc::{IpcNamespace, current_ns, namespace, now, perm};
use crate::process::current;
use crate::syscall::Syscall;
use abi::ipc::{Sembuf, Seminfo, cmd};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::uapi::Semid64Ds;
use core::sync::atomic::Ordering::Relaxed;
use mm::fallible::TryVec;
use mm::user::{UserPtr, UserSlice};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SEMGET, SEMCTL];

#[macros::syscall(semget)]
fn sys_semget(key: i32, nsems: i32, semflg: u32) -> Result<i32> {
    let ns = current_ns()?;
    let nsems = u32::try_from(nsems).map_err(|_| Errno::EINVAL)?;
    if i64::from(nsems) > i64::from(ns.limits.sem_msl.load(Relaxed)) {
        return Err(Errno::EINVAL);
    }
    let wanted = Wanted { key, flags: semflg };
    let fits = |set: &SemSet| if nsems as usize > set.len() { Err(Errno::EINVAL) } else { Ok(()) };
    ns.sem.get_or_make(&ns, wanted, fits, |index| {
        if nsems == 0 {
            return Err(Errno::EINVAL);
        }
        let used = ns.used_sems.load(Relaxed).checked_add(nsems).ok_or(Errno::ENOSPC)?;
        if i64::from(used) > i64::from(ns.limits.sem_mns.load(Relaxed)) {
            return Err(Errno::ENOSPC);
        }
        let parts = Parts::new(nsems as usize)?;
        let limit = ns.limits.sem_mni.load(Relaxed).max(0) as u32;
        let set = ns.sem.insert(index, wanted, limit, |perm| SemSet::new(perm, parts))?;
        ns.used_sems.store(used, Relaxed);
        Ok(set)
    })
}

#[macros::syscall(semctl)]
fn sys_semctl(semid: i32, semnum: i32, command: i32, arg: usize) -> Result<i32> {
    if semid < 0 {
        return Err(Errno::EINVAL);
    }
    let ns = current_ns()?;
    match command {
        cmd::IPC_INFO | cmd::SEM_INFO => info(&ns, command, UserPtr::new(arg)),
        cmd::IPC_STAT | cmd::SEM_STAT | cmd::SEM_STAT_ANY => {
            let (ds, result) = stat(&ns, semid, command)?;
            UserPtr::new(arg).write(&ds)?;
            Ok(result)
        }
        cmd::GETALL => get_all(&ns, semid, arg),
        cmd::SETALL => set_all(&ns, semid, arg),
        cmd::GETVAL | cmd::GETPID | cmd::GETNCNT | cmd::GETZCNT => get_one(&ns, semid, semnum, command),
        cmd::SETVAL => set_value(&ns, semid, semnum, arg as i32),
        cmd::IPC_SET => {
            let ds: Semid64Ds = UserPtr::new(arg).read()?;
            let _index = ns.sem.write();
            let set = ns.sem.get_to_control(&ns, semid)?;
            let mut state = set.lock();
            set.perm().set(&ds.perm)?;
            state.ctime = now();
            Ok(0)
        }
        cmd::IPC_RMID => {
            let mut index = ns.sem.write();
            let set = ns.sem.get_to_control(&ns, semid)?;
            set.remove();
            ns.sem.remove(&mut index, &set);
            ns.used_sems.fetch_sub(set.len() as u32, Relaxed);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn info(ns: &IpcNamespace, command: i32, to: UserPtr<Seminfo>) -> Result<i32> {
    let limits = &ns.limits;
    let mut info = Seminfo {
        // Three limits that do not exist show the number of semaphores or operations.
        semmap: namespace::SEMMNS,
        semmnu: namespace::SEMMNS,
        semume: namespace::SEMOPM,
        semmni: limits.sem_mni.load(Relaxed),
        semmns: limits.sem_mns.load(Relaxed),
        semmsl: limits.sem_msl.load(Relaxed),
        semopm: limits.sem_opm.load(Relaxed),
        semusz: 20,
        semvmx: VALUE_MAX,
        semaem: ADJUST_MAX,
    };
    let highest = {
        let index = ns.sem.read();
        if command == cmd::SEM_INFO {
            info.semusz = index.in_use() as i32;
            info.semaem = ns.used_sems.load(Relaxed) as i32;
        }
        ns.sem.max_slot(&index)
    };
    to.write(&info)?;
    Ok(highest)
}

fn stat(ns: &IpcNamespace, semid: i32, command: i32) -> Result<(Semid64Ds, i32)> {
    let set = if command == cmd::IPC_STAT { ns.sem.get(semid) } else { ns.sem.get_slot(semid) }?;
    if command != cmd::SEM_STAT_ANY {
        set.perm().check(ns, perm::READ)?;
    }
    let state = set.lock();
    set.check_alive()?;
    let (otime, ctime) = (state.otime, state.ctime);
    drop(state);
    let ds = Semid64Ds {
        perm: set.perm().to_abi(),
        otime,
        ctime,
        nsems: set.len() as u64,
        ..Semid64Ds::default()
    };
    Ok((ds, if command == cmd::IPC_STAT { 0 } else { set.perm().id() }))
}

/// The set, if the running thread may do what `wanted` asks for.
fn find(ns: &IpcNamespace, semid: i32, wanted: u32) -> Result<Arc<SemSet>> {
    let set = ns.sem.get(semid)?;
    set.perm().check(ns, wanted)?;
    Ok(set)
}

fn number_in(set: &SemSet, semnum: i32) -> Result<u16> {
    u16::try_from(semnum).ok().filter(|num| usize::from(*num) < set.len()).ok_or(Errno::EINVAL)
}

fn values(len: usize) -> Result<Vec<u16>> {
    let mut values = Vec::new();
    values.try_resize(len, 0)?;
    Ok(values)
}

fn get_all(ns: &IpcNamespace, semid: i32, to: usize) -> Result<i32> {
    let set = find(ns, semid, perm::READ)?;
    let mut values = values(set.len())?;
    {
        let state = set.lock();
        set.check_alive()?;
        values.iter_mut().zip(&state.sems).for_each(|(value, sem)| *value = sem.value as u16);
    }
    UserSlice::new(to, values.len()).copy_from(&values)?;
    Ok(0)
}

fn set_all(ns: &IpcNamespace, semid: i32, from: usize) -> Result<i32> {
    let set = find(ns, semid, perm::WRITE)?;
    let mut values = values(set.len())?;
    UserSlice::new(from, values.len()).copy_to(&mut values)?;
    if values.iter().any(|value| i32::from(*value) > VALUE_MAX) {
        return Err(Errno::ERANGE);
    }
    let me = current();
    let mut batch = Batch::new();
    let mut state = set.lock();
    set.check_alive()?;
    for (sem, value) in state.sems.iter_mut().zip(&values) {
        sem.value = i32::from(*value);
        sem.pid.set(&me.process.pid);
    }
    state.undos.iter().for_each(|undo| undo.clear());
    state.ctime = now();
    state.update(Changed::All, &mut batch);
    Ok(0)
}

fn get_one(ns: &IpcNamespace, semid: i32, semnum: i32, command: i32) -> Result<i32> {
    let set = find(ns, semid, perm::READ)?;
    let num = number_in(&set, semnum)?;
    let state = set.lock();
    set.check_alive()?;
    let sem = state.sems.get(usize::from(num)).ok_or(Errno::EINVAL)?;
    Ok(match command {
        cmd::GETVAL => sem.value,
        cmd::GETPID => sem.pid.nr_in(&current().pid_ns()),
        cmd::GETNCNT => state.count(num, |op| op.op < 0) as i32,
        _ => state.count(num, |op| op.op == 0) as i32,
    })
}

fn set_value(ns: &IpcNamespace, semid: i32, semnum: i32, value: i32) -> Result<i32> {
    if !(0..=VALUE_MAX).contains(&value) {
        return Err(Errno::ERANGE);
    }
    let set = ns.sem.get(semid)?;
    let num = number_in(&set, semnum)?;
    set.perm().check(ns, perm::WRITE)?;
    let me = current();
    let mut batch = Batch::new();
    let mut state = set.lock();
    set.check_alive()?;
    state.undos.iter().for_each(|undo| undo.set(num, 0));
    if let Some(sem) = state.sems.get_mut(usize::from(num)) {
        sem.value = value;
        sem.pid.set(&me.process.pid);
    }
    state.ctime = now();
    // As an operation that may have added something or left zero.
    state.update(Changed::Ops(&[Sembuf { num, op: 1, flg: 0 }]), &mut batch);
    Ok(0)
}
