//! unshare(2), setns(2).

use super::join::{Namespace, NamespaceFile, join};
use crate::fs::context::file_raw;
use crate::ipc;
use crate::process::current;
use crate::process::nsproxy::NEW_FLAGS;
use crate::syscall::{Fd, Syscall};
use abi::cap::Cap;
use abi::{Errno, Result, raw};
use mm::fallible::try_arc;
use vfs::cred::Credentials;
use vfs::fdtable::Fd as VfsFd;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[UNSHARE, SETNS];

#[macros::syscall(unshare)]
fn sys_unshare(flags: u64) -> Result<()> {
    let (newuser, fs) = (u64::from(raw::CLONE_NEWUSER), u64::from(raw::CLONE_FS));
    let threads = u64::from(raw::CLONE_THREAD | raw::CLONE_SIGHAND | raw::CLONE_VM);
    let known = NEW_FLAGS | newuser | fs | threads | u64::from(raw::CLONE_FILES | raw::CLONE_SYSVSEM);
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = flags;
    if flags & newuser != 0 {
        flags |= u64::from(raw::CLONE_THREAD) | fs;
    }
    if flags & u64::from(raw::CLONE_NEWNS) != 0 {
        flags |= fs;
    }
    let me = current();
    // What a single thread shares with nobody is unshared already.
    if flags & threads != 0 && me.process.thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    let cred = me.cred();
    let new_cred = if flags & newuser != 0 {
        let mut new = Credentials::clone(&cred);
        super::user::enter_new(&mut new)?;
        Some(new)
    } else {
        None
    };
    let acting = match &new_cred {
        Some(new) => try_arc(new.clone())?,
        None => cred,
    };
    let new_fs = if flags & fs != 0 { crate::process::files::own_fs()? } else { None };
    let nsproxy = match flags & NEW_FLAGS {
        0 => None,
        new => {
            let fs = new_fs.clone().or_else(|| me.fs()).ok_or(Errno::EINVAL)?;
            Some(super::copy(&*me.nsproxy().ok_or(Errno::EINVAL)?, &fs, &acting, new)?)
        }
    };
    if flags & u64::from(raw::CLONE_FILES) != 0 {
        crate::process::unshare_files()?;
    }
    if let Some(fs) = new_fs {
        crate::process::files::replace_fs(fs);
    }
    if flags & u64::from(raw::CLONE_SYSVSEM | raw::CLONE_NEWIPC) != 0 {
        // The sets of the old namespace are out of reach: as if the thread exited.
        ipc::task::leave_semaphores(&me);
    }
    if flags & u64::from(raw::CLONE_NEWIPC) != 0 {
        ipc::task::leave_segments(&me);
    }
    if let Some(new) = new_cred {
        crate::cred::commit::commit(&me, new)?;
    }
    if let Some(nsproxy) = nsproxy {
        drop(me.nsproxy.replace(Some(nsproxy)));
    }
    Ok(())
}

#[macros::syscall(setns)]
fn sys_setns(fd: Fd, nstype: u32) -> Result<()> {
    let file = file_raw(VfsFd::from_raw(fd.0)?)?;
    if let Some(ns) = file.private::<NamespaceFile>() {
        if nstype != 0 && nstype != ns.0.flag() {
            return Err(Errno::EINVAL);
        }
        return join(core::iter::once(&ns.0));
    }
    let Ok((pid, _)) = crate::pidfd::pid_of(fd.0) else { return Err(Errno::EINVAL) };
    if nstype == 0 || u64::from(nstype) & !(NEW_FLAGS | u64::from(raw::CLONE_NEWUSER)) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = pid.task().ok_or(Errno::ESRCH)?;
    let target = task.data::<crate::process::Thread>().ok_or(Errno::ESRCH)?;
    crate::cred::access::may_inspect(&current(), target, Cap::SysPtrace)?;
    let proxy = target.nsproxy().ok_or(Errno::ESRCH)?;
    let all = [
        Namespace::User(target.cred().user_ns.clone()),
        Namespace::Mnt(proxy.mnt.clone()),
        Namespace::Uts(proxy.uts.clone()),
        Namespace::Ipc(proxy.ipc.clone()),
        Namespace::Net(proxy.net.clone()),
        Namespace::Pid(target.pid_ns()),
        Namespace::Cgroup(proxy.cgroup.clone()),
        Namespace::Time(proxy.time.clone()),
    ];
    join(all.iter().filter(|ns| nstype & ns.flag() != 0))
}
