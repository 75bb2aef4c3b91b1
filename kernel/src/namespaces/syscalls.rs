//! unshare(2), setns(2).

use crate::fs::context::file_raw;
use crate::ipc::{self, IpcNamespace};
use crate::process::nsproxy::{CgroupNamespace, NEW_FLAGS, NetNamespace, TimeNamespace, UtsNamespace};
use crate::process::{NsProxy, PidNamespace, current};
use crate::syscall::{Fd, Syscall};
use abi::cap::Cap;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::fallible::try_arc;
use vfs::cred::{Credentials, UserNamespace};
use vfs::fdtable::Fd as VfsFd;
use vfs::file::File;
use vfs::file_ops::FileOps;
use vfs::mount::MountNamespace;

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

/// A namespace as `/proc/<pid>/ns` hands it out: what `setns` can join.
#[derive(Clone)]
#[allow(missing_docs)]
pub enum Namespace {
    Mnt(Arc<MountNamespace>),
    Uts(Arc<UtsNamespace>),
    Ipc(Arc<IpcNamespace>),
    Net(Arc<NetNamespace>),
    Pid(Arc<PidNamespace>),
    User(Arc<UserNamespace>),
    Cgroup(Arc<CgroupNamespace>),
    Time(Arc<TimeNamespace>),
}

impl Namespace {
    /// The `CLONE_NEW*` flag of its kind.
    pub fn flag(&self) -> u32 {
        match self {
            Self::Mnt(_) => raw::CLONE_NEWNS,
            Self::Uts(_) => raw::CLONE_NEWUTS,
            Self::Ipc(_) => raw::CLONE_NEWIPC,
            Self::Net(_) => raw::CLONE_NEWNET,
            Self::Pid(_) => raw::CLONE_NEWPID,
            Self::User(_) => raw::CLONE_NEWUSER,
            Self::Cgroup(_) => raw::CLONE_NEWCGROUP,
            Self::Time(_) => raw::CLONE_NEWTIME,
        }
    }
}

/// The file of a namespace.
pub struct NamespaceFile(pub Namespace);

impl FileOps for NamespaceFile {
    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        crate::fs::statmount::namespace_ioctl(&self.0, cmd, arg)
    }
}

#[macros::syscall(setns)]
fn sys_setns(fd: Fd, nstype: u32) -> Result<()> {
    let file = file_raw(VfsFd::from_raw(fd.0)?)?;
    if let Some(ns) = file.private::<NamespaceFile>() {
        if nstype != 0 && nstype != ns.0.flag() {
            return Err(Errno::EINVAL);
        }
        return join(core::slice::from_ref(&ns.0));
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
    for ns in all.into_iter().filter(|ns| nstype & ns.flag() != 0) {
        join(&[ns])?;
    }
    Ok(())
}

fn join(list: &[Namespace]) -> Result<()> {
    let me = current();
    let cred = me.cred();
    let mut proxy = NsProxy::clone(&*me.nsproxy().ok_or(Errno::EINVAL)?);
    if !cred.ns_capable(&cred.user_ns, Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    for ns in list {
        match ns {
            Namespace::Mnt(mnt) => {
                if !cred.ns_capable(mnt.user_ns(), Cap::SysAdmin)
                    || !cred.ns_capable(&cred.user_ns, Cap::SysChroot)
                {
                    return Err(Errno::EPERM);
                }
                let fs = me.fs().ok_or(Errno::EINVAL)?;
                if fs.users.load(Ordering::Acquire) > 1 {
                    return Err(Errno::EINVAL);
                }
                let root = mnt.root()?.root_path();
                fs.set_root(root.clone())?;
                fs.set_cwd(root)?;
                proxy.mnt = mnt.clone();
            }
            Namespace::Uts(uts) => proxy.uts = uts.clone(),
            Namespace::Ipc(ipc) => {
                if !cred.ns_capable(&ipc.user_ns, Cap::SysAdmin) {
                    return Err(Errno::EPERM);
                }
                proxy.ipc = ipc.clone();
            }
            Namespace::Net(net) => proxy.net = net.clone(),
            Namespace::Cgroup(cgroup) => proxy.cgroup = cgroup.clone(),
            Namespace::Time(time) => {
                proxy.time = time.clone();
                proxy.time_for_children = time.clone();
            }
            Namespace::Pid(pid_ns) => {
                // Only downward: a child must stay visible to its parent's namespace.
                if !pid_ns.is_inside(&me.pid_ns()) {
                    return Err(Errno::EINVAL);
                }
                proxy.pid_for_children = pid_ns.clone();
            }
            Namespace::User(user) => {
                if Arc::ptr_eq(user, &cred.user_ns) || me.process.thread_count() > 1 {
                    return Err(Errno::EINVAL);
                }
                if !cred.ns_capable(user, Cap::SysAdmin) {
                    return Err(Errno::EPERM);
                }
                let mut new = Credentials::clone(&cred);
                new.user_ns = user.clone();
                new.cap_permitted = abi::cap::CapSet::FULL;
                new.cap_effective = abi::cap::CapSet::FULL;
                new.cap_bset = abi::cap::CapSet::FULL;
                crate::cred::commit::commit(&me, new)?;
            }
        }
    }
    if list.iter().any(|ns| matches!(ns, Namespace::Ipc(_))) {
        ipc::task::leave_semaphores(&me);
    }
    drop(me.nsproxy.replace(Some(try_arc(proxy)?)));
    Ok(())
}
