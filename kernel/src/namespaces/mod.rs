//! Making and joining namespaces: `CLONE_NEW*`, unshare(2), setns(2). namespaces(7).

pub mod ioctl;
pub mod join;
pub mod syscalls;
pub mod user;

pub use join::{Namespace, NamespaceFile};

use crate::ipc::IpcNamespace;
use crate::process::nsproxy::{CgroupNamespace, NetNamespace, NsProxy, next_inum};
use crate::process::{PidNamespace, current};
use abi::cap::Cap;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use mm::fallible::try_arc;
use vfs::cred::Credentials;
use vfs::ns_count::{NsCharge, NsKind};
use vfs::path::FsStruct;

/// The namespaces of `old` with new ones where `flags` (`CLONE_NEW*`) say so. `fs` belongs to the thread that will live
/// in them, and to nobody else: a new mount namespace moves its directories. `cred` are the credentials that will own
/// them, in a new user namespace if there is one.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` over the user namespace; `EINVAL`: a new pid namespace waits for its first process already;
/// `ENOSPC`, `ENOMEM`.
pub fn copy(old: &NsProxy, fs: &FsStruct, cred: &Arc<Credentials>, flags: u64) -> Result<Arc<NsProxy>> {
    let has = |bit: u32| flags & u64::from(bit) != 0;
    if !cred.ns_capable(&cred.user_ns, Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let owner = &cred.user_ns;
    let charge = |kind| NsCharge::new(owner, cred.euid.0, kind);
    let mut new = old.clone();
    if has(raw::CLONE_NEWPID) {
        if !Arc::ptr_eq(&old.pid_for_children, &current().pid_ns()) {
            return Err(Errno::EINVAL);
        }
        new.pid_for_children = PidNamespace::nested(&old.pid_for_children, owner, charge(NsKind::Pid)?)?;
    }
    if has(raw::CLONE_NEWNS) {
        new.mnt = vfs::mount::copy_namespace(&old.mnt, owner, charge(NsKind::Mnt)?, Some(fs))?;
    }
    if has(raw::CLONE_NEWUTS) {
        new.uts = try_arc(old.uts.duplicate(owner.clone(), charge(NsKind::Uts)?))?;
    }
    if has(raw::CLONE_NEWIPC) {
        new.ipc = try_arc(IpcNamespace::new(owner.clone(), charge(NsKind::Ipc)?)?)?;
    }
    if has(raw::CLONE_NEWNET) {
        let charge = charge(NsKind::Net)?;
        new.net = try_arc(NetNamespace { user_ns: owner.clone(), inum: next_inum(), charge })?;
    }
    if has(raw::CLONE_NEWCGROUP) {
        let charge = charge(NsKind::Cgroup)?;
        new.cgroup = try_arc(CgroupNamespace { user_ns: owner.clone(), inum: next_inum(), charge })?;
    }
    if has(raw::CLONE_NEWTIME) {
        new.time_for_children = try_arc(old.time.duplicate(owner.clone(), charge(NsKind::Time)?)?)?;
    }
    Ok(try_arc(new)?)
}
