//! Making keys: add_key(2), request_key(2), `KEYCTL_UPDATE`.

use super::key::{NewKey, Value, perm};
use super::kind::Kind;
use super::lookup::{Missing, Need, Ref, lookup, search_own};
use super::quota::Account;
use super::search::{Search, Wanted};
use super::{Key, LOCK, ring, slots};
use crate::process::{CurrentThread, current};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::fallible::try_arc_slice;

/// Seconds for which a key that nobody could make is remembered.
const NEGATIVE_TIMEOUT: u32 = 60;

fn value_of(kind: Kind, payload: &[u8]) -> Result<Value> {
    Ok(if kind == Kind::Keyring { Value::Ring(Vec::new()) } else { Value::Data(try_arc_slice(payload)?) })
}

/// `add_key`: a key in keyring `ring`; one of the same type and description is updated. Its number.
///
/// # Errors
/// `ENODEV`: no such type. `EINVAL`: payload or description. Those of [`lookup`], [`ring::link`] and quotas.
pub fn add(kind: Option<Kind>, description: &[u8], payload: &[u8], ring: i32) -> Result<i32> {
    let _lock = LOCK.lock();
    let cred = current().cred();
    let ring = lookup(ring, Missing::Create, Need::Use(perm::WRITE))?;
    let kind = kind.ok_or(Errno::ENODEV)?;
    if description.is_empty() {
        return Err(Errno::EINVAL);
    }
    if !ring.key.is_ring() {
        return Err(Errno::ENOTDIR);
    }
    let quota = kind.check_payload(payload.len())?;
    ring::may_link(&ring.key)?;
    if kind.is_updatable()
        && let Some(key) = existing(&ring.key, kind, description)
    {
        update_key(&Ref { key: key.clone(), possessed: ring.possessed }, payload)?;
        return Ok(key.serial);
    }
    let new = NewKey {
        kind,
        description,
        uid: cred.fsuid.0,
        gid: cred.fsgid.0,
        perm: perm::default(kind),
        account: Account::Limited,
        of_user: false,
    };
    let key = new.make(&cred, value_of(kind, payload)?, quota)?;
    ring::link(&ring.key, &key)?;
    Ok(key.serial)
}

fn existing(ring: &Key, kind: Kind, description: &[u8]) -> Option<Arc<Key>> {
    let state = ring.state.lock();
    let Value::Ring(links) = &state.value else { return None };
    let found = links.iter().find(|link| link.matches(kind, description)).cloned();
    drop(state);
    // A dead one is replaced.
    found.filter(|key| {
        let state = key.state.lock();
        !state.invalidated && state.revoked.is_none()
    })
}

/// Gives a key another payload.
fn update_key(target: &Ref, payload: &[u8]) -> Result<()> {
    let key = &target.key;
    target.require(&current().cred(), perm::WRITE)?;
    if !key.kind.is_updatable() {
        return Err(Errno::EOPNOTSUPP);
    }
    let quota = key.kind.check_payload(payload.len())?;
    let new = value_of(key.kind, payload)?;
    let old = {
        let mut state = key.state.lock();
        if state.revoked.is_some() {
            return Err(Errno::EKEYREVOKED);
        }
        state.charge.resize(key.description.len() + 1 + quota)?;
        // A new secret starts a new life.
        state.expiry = None;
        core::mem::replace(&mut state.value, new)
    };
    drop(old);
    Ok(())
}

/// `KEYCTL_UPDATE`.
///
/// # Errors
/// `EOPNOTSUPP`: not for this type; those of [`lookup`] and quotas.
pub fn update(id: i32, payload: &[u8]) -> Result<()> {
    let _lock = LOCK.lock();
    let key = lookup(id, Missing::Fail, Need::Use(perm::WRITE))?;
    update_key(&key, payload)
}

/// Where a requested key goes when the caller does not say.
fn default_ring(me: &CurrentThread) -> Result<Arc<Key>> {
    const THREAD: i32 = 1;
    const PROCESS: i32 = 2;
    const SESSION: i32 = 3;
    const USER: i32 = 4;
    const USER_SESSION: i32 = 5;
    let rings = me.keys.get();
    let users = |session: bool| {
        let (user, user_session) = slots::of_user(&me.cred())?;
        Ok(if session { user_session } else { user })
    };
    let chosen = match rings.default {
        USER => return users(false),
        USER_SESSION => return users(true),
        PROCESS => rings.process.or(rings.session),
        SESSION => rings.session,
        THREAD => rings.thread.or(rings.process).or(rings.session),
        _ => rings.thread.or(rings.process).or(rings.session),
    };
    chosen.map_or_else(|| users(true), Ok)
}

/// `request_key`: a key from the caller's keyrings, linked into `dest` (0: nowhere). With `callout` a key that is not there
/// is remembered as not to be had.
///
/// # Errors
/// `ENOKEY`; `EKEYREVOKED`, `EKEYEXPIRED`, `EACCES`: there is one but no use; those of linking.
pub fn request(kind: Option<Kind>, description: &[u8], callout: bool, dest: i32) -> Result<i32> {
    let _lock = LOCK.lock();
    let me = current();
    let cred = me.cred();
    let dest = match dest {
        0 => None,
        id => Some(lookup(id, Missing::Create, Need::Use(perm::WRITE))?.key),
    };
    let kind = kind.ok_or(Errno::ENOKEY)?;
    let search = Search { cred: &cred, wanted: Wanted::Requested(kind, description) };
    match search_own(&me, &search) {
        Ok(found) => {
            if let Some(dest) = dest {
                found.require(&cred, perm::LINK)?;
                ring::link(&dest, &found.key)?;
            }
            found.key.validate()?;
            Ok(found.key.serial)
        }
        Err(Errno::EAGAIN) if !callout => Err(Errno::ENOKEY),
        Err(Errno::EAGAIN) => {
            // A keyring cannot be asked for.
            if kind == Kind::Keyring {
                return Err(Errno::EPERM);
            }
            let dest = dest.map_or_else(|| default_ring(&me), Ok)?;
            let new = NewKey {
                kind,
                description,
                uid: cred.fsuid.0,
                gid: cred.fsgid.0,
                perm: perm::default(kind),
                account: Account::Limited,
                of_user: false,
            };
            let key = new.make(&cred, Value::Negative(Errno::ENOKEY), 0)?;
            ring::link(&dest, &key)?;
            key.set_timeout(NEGATIVE_TIMEOUT);
            Err(Errno::ENOKEY)
        }
        Err(errno) => Err(errno),
    }
}
