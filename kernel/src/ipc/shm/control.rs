//! `shmget(2)`, `shmctl(2)`.

use super::Segment;
use crate::ipc::ids::{Index, Object, Wanted};
use crate::ipc::{IpcNamespace, current_ns, now, perm};
use crate::process::user::{ShmLockCharge, UserCounts};
use crate::process::{Resource, current};
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::creds::Gid;
use abi::ipc::flag::{SHM_DEST, SHM_HUGE_MASK, SHM_HUGE_SHIFT, SHM_HUGETLB, SHM_LOCKED, SHM_NORESERVE};
use abi::ipc::{ShmInfo, Shmid64Ds, Shminfo64, cmd};
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE};
use core::sync::atomic::Ordering::Relaxed;
use mm::shmem::{AnonShared, Reserve};
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SHMGET, SHMCTL];

#[macros::syscall(shmget)]
fn sys_shmget(key: i32, size: usize, shmflg: u32) -> Result<i32> {
    let ns = current_ns()?;
    let wanted = Wanted { key, flags: shmflg };
    let fits = |segment: &Segment| if segment.size() < size { Err(Errno::EINVAL) } else { Ok(()) };
    ns.shm.get_or_make(&ns, wanted, fits, |index| create(&ns, index, wanted, size))
}

fn create(ns: &Arc<IpcNamespace>, index: &mut Index, wanted: Wanted, size: usize) -> Result<Arc<Segment>> {
    if size < 1 || size as u64 > ns.limits.shm_max.load(Relaxed) {
        return Err(Errno::EINVAL);
    }
    let pages = size.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOSPC)? >> PAGE_SHIFT;
    let used = ns.shm_pages.load(Relaxed).checked_add(pages).ok_or(Errno::ENOSPC)?;
    if used as u64 > ns.limits.shm_all.load(Relaxed) {
        return Err(Errno::ENOSPC);
    }
    if wanted.flags & SHM_HUGETLB != 0 {
        return Err(no_huge_pages(wanted.flags));
    }
    if i64::try_from(size).is_err() {
        return Err(Errno::EINVAL);
    }
    let never = mm::overcommit::MODE.load(Relaxed) == 2;
    let reserve = if wanted.flags & SHM_NORESERVE != 0 && !never { Reserve::No } else { Reserve::Yes };
    let object = AnonShared::new(size, reserve)?;
    let me = current();
    me.ipc.reserve_segment(&me)?;
    let limit = ns.limits.shm_mni.load(Relaxed).max(0) as u32;
    let pid = &me.process.pid;
    let segment = ns.shm.insert(index, wanted, limit, |perm| Segment::new(perm, size, object, pid))?;
    ns.shm_pages.store(used, Relaxed);
    me.ipc.remember_segment(ns, &segment);
    Ok(segment)
}

/// What a kernel without a pool of huge pages answers.
fn no_huge_pages(flags: u32) -> Errno {
    let size = flags >> SHM_HUGE_SHIFT & SHM_HUGE_MASK;
    if !mm::mmap::is_huge_page_shift(size) {
        return Errno::EINVAL;
    }
    // By right, or as a member of `vm.hugetlb_shm_group`, which is 0.
    let may = current().with_cred(|cred| cred.capable(Cap::IpcLock) || cred.in_group(Gid(0)));
    if may { Errno::ENOMEM } else { Errno::EPERM }
}

#[macros::syscall(shmctl)]
fn sys_shmctl(shmid: i32, command: i32, buf: usize) -> Result<i32> {
    if shmid < 0 || command < 0 {
        return Err(Errno::EINVAL);
    }
    let ns = current_ns()?;
    match command {
        cmd::IPC_INFO => limits(&ns, UserPtr::new(buf)),
        cmd::SHM_INFO => usage(&ns, UserPtr::new(buf)),
        cmd::IPC_STAT | cmd::SHM_STAT | cmd::SHM_STAT_ANY => {
            let (ds, result) = stat(&ns, shmid, command)?;
            UserPtr::new(buf).write(&ds)?;
            Ok(result)
        }
        cmd::IPC_SET => {
            let ds: Shmid64Ds = UserPtr::new(buf).read()?;
            let _index = ns.shm.write();
            let segment = ns.shm.get_to_control(&ns, shmid)?;
            let mut state = segment.lock();
            segment.perm().set(&ds.perm)?;
            state.ctime = now();
            Ok(0)
        }
        cmd::IPC_RMID => remove(&ns, shmid),
        cmd::SHM_LOCK => lock(&ns, shmid),
        cmd::SHM_UNLOCK => unlock(&ns, shmid),
        _ => Err(Errno::EINVAL),
    }
}

fn limits(ns: &IpcNamespace, to: UserPtr<Shminfo64>) -> Result<i32> {
    let mni = ns.limits.shm_mni.load(Relaxed) as u64;
    let info = Shminfo64 {
        shmmax: ns.limits.shm_max.load(Relaxed),
        shmmin: 1,
        shmmni: mni,
        shmseg: mni,
        shmall: ns.limits.shm_all.load(Relaxed),
        ..Shminfo64::default()
    };
    let highest = ns.shm.max_slot(&ns.shm.read());
    to.write(&info)?;
    Ok(highest)
}

fn usage(ns: &IpcNamespace, to: UserPtr<ShmInfo>) -> Result<i32> {
    let mut info = ShmInfo::default();
    let highest = {
        let index = ns.shm.read();
        info.used_ids = index.in_use() as i32;
        info.shm_tot = ns.shm_pages.load(Relaxed) as u64;
        ns.shm.for_each(&index, |segment| {
            info.shm_rss += segment.resident_pages() as u64;
            true
        });
        ns.shm.max_slot(&index)
    };
    to.write(&info)?;
    Ok(highest)
}

fn stat(ns: &IpcNamespace, shmid: i32, command: i32) -> Result<(Shmid64Ds, i32)> {
    let segment = if command == cmd::IPC_STAT { ns.shm.get(shmid) } else { ns.shm.get_slot(shmid) }?;
    if command != cmd::SHM_STAT_ANY {
        segment.perm().check(ns, perm::READ)?;
    }
    let pid_ns = current().pid_ns();
    let perm = segment.perm().to_abi();
    let state = segment.lock();
    segment.perm().check_alive()?;
    let ds = Shmid64Ds {
        perm,
        segsz: segment.size() as u64,
        atime: state.atime,
        dtime: state.dtime,
        ctime: state.ctime,
        cpid: state.cpid.nr_in(&pid_ns),
        lpid: state.lpid.nr_in(&pid_ns),
        nattch: state.attached,
        ..Shmid64Ds::default()
    };
    Ok((ds, if command == cmd::IPC_STAT { 0 } else { segment.perm().id() }))
}

/// `IPC_RMID`: at once, or at the last detach; the key is free from now on.
fn remove(ns: &IpcNamespace, shmid: i32) -> Result<i32> {
    let mut index = ns.shm.write();
    let segment = ns.shm.get_to_control(ns, shmid)?;
    while !segment.destroy(ns, &mut index) {
        let state = segment.lock();
        // The last detach finds the mark. If it was just now, there is none to come.
        if state.attached > 0 {
            segment.perm().insert_mode(SHM_DEST);
            drop(state);
            ns.shm.forget_key(&mut index, &segment);
            break;
        }
    }
    Ok(0)
}

/// Whether the running thread may lock or unlock the segment.
fn check_lock(ns: &IpcNamespace, segment: &Segment, command: i32) -> Result<()> {
    let me = current();
    if me.with_cred(|cred| cred.ns_capable(&ns.user_ns, Cap::IpcLock)) {
        return Ok(());
    }
    if !segment.perm().is_owner() || command == cmd::SHM_LOCK && me.process.limits.cur(Resource::Memlock) == 0
    {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// `SHM_LOCK`. Pages of shared memory have no place to be moved to, so it is a matter of accounts.
fn lock(ns: &IpcNamespace, shmid: i32) -> Result<i32> {
    let segment = ns.shm.get(shmid)?;
    let me = current();
    let user = UserCounts::of(me.with_cred(|cred| cred.uid))?;
    let limit = match me.process.limits.cur(Resource::Memlock) {
        u64::MAX => u64::MAX,
        bytes => bytes >> PAGE_SHIFT,
    };
    let limit = if me.with_cred(|cred| cred.capable(Cap::IpcLock)) { u64::MAX } else { limit };
    let charge = ShmLockCharge::new(user, segment.pages() as u64, limit);
    let mut state = segment.lock();
    segment.perm().check_alive()?;
    check_lock(ns, &segment, cmd::SHM_LOCK)?;
    if state.locked.is_none() {
        state.locked = Some(charge.ok_or(Errno::ENOMEM)?);
        segment.perm().insert_mode(SHM_LOCKED);
    }
    Ok(0)
}

/// `SHM_UNLOCK`.
fn unlock(ns: &IpcNamespace, shmid: i32) -> Result<i32> {
    let segment = ns.shm.get(shmid)?;
    let charge = {
        let mut state = segment.lock();
        segment.perm().check_alive()?;
        check_lock(ns, &segment, cmd::SHM_UNLOCK)?;
        segment.perm().remove_mode(SHM_LOCKED);
        state.locked.take()
    };
    drop(charge);
    Ok(0)
}
