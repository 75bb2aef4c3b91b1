//! Supplementary groups: getgroups(2), setgroups(2).

use super::commit::{commit, permit};
use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::creds::Gid;
use abi::{Errno, Result};
use alloc::vec::Vec;
use mm::fallible::TryVec;
use mm::fallible::try_arc_slice;
use mm::user::UserPtr;
use vfs::cred::Credentials;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[GETGROUPS, SETGROUPS];

/// Most supplementary groups (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65536;

#[macros::syscall(getgroups)]
fn sys_getgroups(size: i32, list: UserPtr<u32>) -> Result<usize> {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let cred = current().cred();
    let count = cred.groups.len();
    if size == 0 {
        return Ok(count);
    }
    if count > size {
        return Err(Errno::EINVAL);
    }
    for (i, gid) in cred.groups.iter().enumerate() {
        list.add(i).write(&cred.user_ns.from_gid(*gid))?;
    }
    Ok(count)
}

#[macros::syscall(setgroups)]
fn sys_setgroups(size: usize, list: UserPtr<u32>) -> Result<()> {
    let me = current();
    let old = me.cred();
    permit(
        old.ns_capable(&old.user_ns, Cap::Setgid) && crate::namespaces::user::may_setgroups(&old.user_ns),
    )?;
    // The size is an int in the call: what does not fit is as wrong as what is too much.
    let size = size as u32 as usize;
    if size > GROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut groups: Vec<Gid> = Vec::new();
    groups.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    for gid in list.slice(size).to_vec()? {
        groups.push_reserved(old.user_ns.make_gid(gid).ok_or(Errno::EINVAL)?);
    }
    groups.sort_unstable();
    let mut new = Credentials::clone(&old);
    new.groups = try_arc_slice(&groups)?;
    commit(&me, new)?;
    Ok(())
}
