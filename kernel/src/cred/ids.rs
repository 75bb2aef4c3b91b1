//! User and group ids: getuid(2), setuid(2), setreuid(2), setresuid(2), setfsuid(2) and their group twins.

use super::commit::{commit, fix_capabilities, fix_file_capabilities, permit};
use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::creds::{Gid, Uid};
use abi::{Errno, Result};
use mm::user::UserPtr;
use vfs::cred::Credentials;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[
    GETUID, GETEUID, GETGID, GETEGID, GETRESUID, GETRESGID, SETUID, SETGID, SETREUID, SETREGID, SETRESUID,
    SETRESGID, SETFSUID, SETFSGID,
];

#[macros::syscall(getuid)]
fn sys_getuid() -> Result<u32> {
    Ok(current().with_cred(|c| c.user_ns.from_uid(c.uid)))
}

#[macros::syscall(geteuid)]
fn sys_geteuid() -> Result<u32> {
    Ok(current().with_cred(|c| c.user_ns.from_uid(c.euid)))
}

#[macros::syscall(getgid)]
fn sys_getgid() -> Result<u32> {
    Ok(current().with_cred(|c| c.user_ns.from_gid(c.gid)))
}

#[macros::syscall(getegid)]
fn sys_getegid() -> Result<u32> {
    Ok(current().with_cred(|c| c.user_ns.from_gid(c.egid)))
}

#[macros::syscall(getresuid)]
fn sys_getresuid(ruid: UserPtr<u32>, euid: UserPtr<u32>, suid: UserPtr<u32>) -> Result<()> {
    let ids = current().with_cred(|c| [c.uid, c.euid, c.suid].map(|id| c.user_ns.from_uid(id)));
    ruid.write(&ids[0])?;
    euid.write(&ids[1])?;
    suid.write(&ids[2])
}

#[macros::syscall(getresgid)]
fn sys_getresgid(rgid: UserPtr<u32>, egid: UserPtr<u32>, sgid: UserPtr<u32>) -> Result<()> {
    let ids = current().with_cred(|c| [c.gid, c.egid, c.sgid].map(|id| c.user_ns.from_gid(id)));
    rgid.write(&ids[0])?;
    egid.write(&ids[1])?;
    sgid.write(&ids[2])
}

/// An id as the user wrote it; -1 (where allowed) means "leave as it is".
fn uid(cred: &Credentials, id: u32) -> Result<Uid> {
    cred.user_ns.make_uid(id).ok_or(Errno::EINVAL)
}

fn uid_or_keep(cred: &Credentials, id: u32) -> Result<Option<Uid>> {
    if id == u32::MAX { Ok(None) } else { uid(cred, id).map(Some) }
}

fn gid(cred: &Credentials, id: u32) -> Result<Gid> {
    cred.user_ns.make_gid(id).ok_or(Errno::EINVAL)
}

fn gid_or_keep(cred: &Credentials, id: u32) -> Result<Option<Gid>> {
    if id == u32::MAX { Ok(None) } else { gid(cred, id).map(Some) }
}

fn may(cred: &Credentials, cap: Cap) -> bool {
    cred.ns_capable(&cred.user_ns, cap)
}

/// Prepares a change of user ids and commits it with its effect on capabilities.
fn change_users(change: impl FnOnce(&Credentials, &mut Credentials) -> Result<()>) -> Result<()> {
    let me = current();
    let old = me.cred();
    let mut new = Credentials::clone(&old);
    change(&old, &mut new)?;
    fix_capabilities(&old, &mut new);
    commit(&me, new)?;
    Ok(())
}

fn change_groups(change: impl FnOnce(&Credentials, &mut Credentials) -> Result<()>) -> Result<()> {
    let me = current();
    let old = me.cred();
    let mut new = Credentials::clone(&old);
    change(&old, &mut new)?;
    commit(&me, new)?;
    Ok(())
}

#[macros::syscall(setuid)]
fn sys_setuid(id: u32) -> Result<()> {
    change_users(|old, new| {
        let id = uid(old, id)?;
        if may(old, Cap::Setuid) {
            (new.uid, new.suid) = (id, id);
        } else {
            permit(id == old.uid || id == old.suid)?;
        }
        (new.euid, new.fsuid) = (id, id);
        Ok(())
    })
}

#[macros::syscall(setgid)]
fn sys_setgid(id: u32) -> Result<()> {
    change_groups(|old, new| {
        let id = gid(old, id)?;
        if may(old, Cap::Setgid) {
            (new.gid, new.sgid) = (id, id);
        } else {
            permit(id == old.gid || id == old.sgid)?;
        }
        (new.egid, new.fsgid) = (id, id);
        Ok(())
    })
}

#[macros::syscall(setreuid)]
fn sys_setreuid(ruid: u32, euid: u32) -> Result<()> {
    change_users(|old, new| {
        let (ruid, euid) = (uid_or_keep(old, ruid)?, uid_or_keep(old, euid)?);
        let all = may(old, Cap::Setuid);
        if let Some(id) = ruid {
            permit(all || id == old.uid || id == old.euid)?;
            new.uid = id;
        }
        if let Some(id) = euid {
            permit(all || id == old.uid || id == old.euid || id == old.suid)?;
            new.euid = id;
        }
        if ruid.is_some() || euid.is_some_and(|id| id != old.uid) {
            new.suid = new.euid;
        }
        new.fsuid = new.euid;
        Ok(())
    })
}

#[macros::syscall(setregid)]
fn sys_setregid(rgid: u32, egid: u32) -> Result<()> {
    change_groups(|old, new| {
        let (rgid, egid) = (gid_or_keep(old, rgid)?, gid_or_keep(old, egid)?);
        let all = may(old, Cap::Setgid);
        if let Some(id) = rgid {
            permit(all || id == old.gid || id == old.egid)?;
            new.gid = id;
        }
        if let Some(id) = egid {
            permit(all || id == old.gid || id == old.egid || id == old.sgid)?;
            new.egid = id;
        }
        if rgid.is_some() || egid.is_some_and(|id| id != old.gid) {
            new.sgid = new.egid;
        }
        new.fsgid = new.egid;
        Ok(())
    })
}

#[macros::syscall(setresuid)]
fn sys_setresuid(ruid: u32, euid: u32, suid: u32) -> Result<()> {
    change_users(|old, new| {
        let wanted = [uid_or_keep(old, ruid)?, uid_or_keep(old, euid)?, uid_or_keep(old, suid)?];
        let known = |id: Uid| id == old.uid || id == old.euid || id == old.suid;
        permit(may(old, Cap::Setuid) || wanted.iter().flatten().all(|id| known(*id)))?;
        new.uid = wanted[0].unwrap_or(old.uid);
        new.euid = wanted[1].unwrap_or(old.euid);
        new.suid = wanted[2].unwrap_or(old.suid);
        new.fsuid = new.euid;
        Ok(())
    })
}

#[macros::syscall(setresgid)]
fn sys_setresgid(rgid: u32, egid: u32, sgid: u32) -> Result<()> {
    change_groups(|old, new| {
        let wanted = [gid_or_keep(old, rgid)?, gid_or_keep(old, egid)?, gid_or_keep(old, sgid)?];
        let known = |id: Gid| id == old.gid || id == old.egid || id == old.sgid;
        permit(may(old, Cap::Setgid) || wanted.iter().flatten().all(|id| known(*id)))?;
        new.gid = wanted[0].unwrap_or(old.gid);
        new.egid = wanted[1].unwrap_or(old.egid);
        new.sgid = wanted[2].unwrap_or(old.sgid);
        new.fsgid = new.egid;
        Ok(())
    })
}

/// Both return the old id, whatever happens: that is how their callers learn it.
#[macros::syscall(setfsuid)]
fn sys_setfsuid(id: u32) -> Result<u32> {
    let me = current();
    let old = me.cred();
    let before = old.user_ns.from_uid(old.fsuid);
    if let Some(id) = old.user_ns.make_uid(id)
        && (id == old.uid || id == old.euid || id == old.suid || id == old.fsuid || may(&old, Cap::Setuid))
        && id != old.fsuid
    {
        let mut new = Credentials::clone(&old);
        new.fsuid = id;
        fix_file_capabilities(&old, &mut new);
        commit(&me, new)?;
    }
    Ok(before)
}

#[macros::syscall(setfsgid)]
fn sys_setfsgid(id: u32) -> Result<u32> {
    let me = current();
    let old = me.cred();
    let before = old.user_ns.from_gid(old.fsgid);
    if let Some(id) = old.user_ns.make_gid(id)
        && (id == old.gid || id == old.egid || id == old.sgid || id == old.fsgid || may(&old, Cap::Setgid))
        && id != old.fsgid
    {
        let mut new = Credentials::clone(&old);
        new.fsgid = id;
        commit(&me, new)?;
    }
    Ok(before)
}
