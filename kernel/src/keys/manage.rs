//! Operations of keyctl(2) on one key: describe, read, owner, permissions, timeout, revoke, invalidate.

use super::key::{Value, perm};
use super::lookup::{Missing, Need, lookup};
use super::{LOCK, slots};
use crate::process::current;
use abi::cap::Cap;
use abi::creds::{Gid, Uid};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::fallible::{TryVec, try_format};

/// `KEYCTL_REVOKE`.
///
/// # Errors
/// Those of [`lookup`], as everywhere in this file.
pub fn revoke(id: i32) -> Result<()> {
    let _lock = LOCK.lock();
    let key = match lookup(id, Missing::Fail, Need::Use(perm::WRITE)) {
        Err(Errno::EACCES) => lookup(id, Missing::Fail, Need::Use(perm::SETATTR))?,
        found => found?,
    };
    key.key.revoke();
    Ok(())
}

/// `KEYCTL_INVALIDATE`.
///
/// # Errors
/// See above.
pub fn invalidate(id: i32) -> Result<()> {
    let _lock = LOCK.lock();
    lookup(id, Missing::Fail, Need::Use(perm::SEARCH))?.key.invalidate();
    Ok(())
}

/// `KEYCTL_SET_TIMEOUT`.
///
/// # Errors
/// See above.
pub fn set_timeout(id: i32, seconds: u32) -> Result<()> {
    let _lock = LOCK.lock();
    lookup(id, Missing::Create, Need::Partial(perm::SETATTR))?.key.set_timeout(seconds);
    Ok(())
}

/// `KEYCTL_SETPERM`.
///
/// # Errors
/// `EINVAL`: no such bits; `EACCES`: another's key.
pub fn set_permissions(id: i32, bits: u32) -> Result<()> {
    if bits & !(perm::ALL * 0x0101_0101) != 0 {
        return Err(Errno::EINVAL);
    }
    let _lock = LOCK.lock();
    let key = lookup(id, Missing::Create, Need::Partial(perm::SETATTR))?.key;
    let cred = current().cred();
    let mut state = key.state.lock();
    if state.uid != cred.fsuid.0 && !cred.capable(Cap::SysAdmin) {
        return Err(Errno::EACCES);
    }
    state.perm = bits;
    Ok(())
}

/// `KEYCTL_CHOWN`; `u32::MAX` leaves an id as it is.
///
/// # Errors
/// `EINVAL`: no such id; `EACCES`: only the administrator gives keys away; `EDQUOT`.
pub fn chown(id: i32, user: u32, group: u32) -> Result<()> {
    let cred = current().cred();
    let ns = &cred.user_ns;
    let uid = (user != u32::MAX).then(|| ns.make_uid(user).ok_or(Errno::EINVAL)).transpose()?;
    let gid = (group != u32::MAX).then(|| ns.make_gid(group).ok_or(Errno::EINVAL)).transpose()?;
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    let _lock = LOCK.lock();
    let key = lookup(id, Missing::Create, Need::Partial(perm::SETATTR))?.key;
    let (old_uid, old_gid) = {
        let state = key.state.lock();
        (state.uid, state.gid)
    };
    let uid = uid.filter(|uid| uid.0 != old_uid);
    let foreign = gid.is_some_and(|gid| gid.0 != old_gid && !cred.in_group(gid));
    if (uid.is_some() || foreign) && !cred.capable(Cap::SysAdmin) {
        return Err(Errno::EACCES);
    }
    let charge = uid.map(|uid| key.state.lock().charge.moved_to(uid.0)).transpose()?;
    let old = {
        let mut state = key.state.lock();
        if let Some(uid) = uid {
            state.uid = uid.0;
        }
        if let Some(gid) = gid {
            state.gid = gid.0;
        }
        charge.map(|charge| core::mem::replace(&mut state.charge, charge))
    };
    drop(old);
    Ok(())
}

/// `KEYCTL_DESCRIBE`: type, owner, group, permissions and description, with a NUL behind.
///
/// # Errors
/// `ENOMEM`.
pub fn describe(id: i32) -> Result<Vec<u8>> {
    let _lock = LOCK.lock();
    let key = lookup(id, Missing::Fail, Need::Partial(perm::VIEW))?.key;
    let cred = current().cred();
    let (uid, gid, bits) = {
        let state = key.state.lock();
        (state.uid, state.gid, state.perm)
    };
    let (uid, gid) = (cred.user_ns.from_uid(Uid(uid)), shown_gid(&cred, gid));
    let mut text = try_format(format_args!("{};{uid};{gid};{bits:08x};", key.kind.name()))?.into_bytes();
    text.try_extend_from_slice(&key.description)?;
    text.try_push(0)?;
    Ok(text)
}

/// A group as `cred` sees it; no group is the overflow id.
pub fn shown_gid(cred: &vfs::cred::Credentials, gid: u32) -> u32 {
    if gid == u32::MAX { vfs::cred::overflow_gid() } else { cred.user_ns.from_gid(Gid(gid)) }
}

/// What `KEYCTL_READ` returns.
pub enum Content {
    /// A secret.
    Data(Arc<[u8]>),
    /// Numbers of keys.
    Serials(Vec<i32>),
}

/// Why a key was not found is not told, unless it was for lack of memory.
fn no_key(error: Errno) -> Errno {
    if error == Errno::ENOMEM { error } else { Errno::ENOKEY }
}

/// `KEYCTL_READ`.
///
/// # Errors
/// `ENOKEY`; `EACCES`; `EOPNOTSUPP`: not for this type.
pub fn read(id: i32) -> Result<Content> {
    let _lock = LOCK.lock();
    let found = lookup(id, Missing::Fail, Need::Later).map_err(no_key)?;
    let key = &found.key;
    if let Some(errno) = key.negative() {
        return Err(errno);
    }
    // Who possesses it could have found it, and may read it.
    if found.require(&current().cred(), perm::READ).is_err() && !found.possessed {
        return Err(Errno::EACCES);
    }
    if !key.kind.is_readable() {
        return Err(Errno::EOPNOTSUPP);
    }
    key.validate()?;
    let state = key.state.lock();
    match &state.value {
        Value::Data(data) => Ok(Content::Data(data.clone())),
        Value::Ring(links) => {
            let mut serials = Vec::new();
            serials.try_reserve_exact(links.len()).map_err(|_| Errno::ENOMEM)?;
            serials.extend(links.iter().map(|link| link.serial));
            Ok(Content::Serials(serials))
        }
        Value::Negative(errno) => Err(*errno),
    }
}

/// `KEYCTL_GET_SECURITY`: no security module labels keys.
///
/// # Errors
/// See above.
pub fn security(id: i32) -> Result<()> {
    let _lock = LOCK.lock();
    lookup(id, Missing::Fail, Need::Partial(perm::VIEW)).map(drop)
}

/// `KEYCTL_SET_REQKEY_KEYRING`: the old default; -1 only asks.
///
/// # Errors
/// `EINVAL`: no such default; `ENOMEM`.
pub fn set_default(which: i32) -> Result<i32> {
    const NO_CHANGE: i32 = -1;
    const THREAD: i32 = 1;
    const PROCESS: i32 = 2;
    const GROUP: i32 = 6;
    const REQUESTOR: i32 = 7;
    let _lock = LOCK.lock();
    let me = current();
    let old = me.keys.get().default;
    match which {
        NO_CHANGE => return Ok(old),
        THREAD => drop(slots::thread(&me)?),
        PROCESS => drop(slots::process(&me)?),
        GROUP => return Err(Errno::EINVAL),
        0..=REQUESTOR => {}
        _ => return Err(Errno::EINVAL),
    }
    me.keys.set(|rings| rings.default = which);
    Ok(old)
}
