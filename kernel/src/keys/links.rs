//! Keyring operations of keyctl(2): link, unlink, move, search, clear, restrict, sessions, persistent keyrings.

use super::key::perm;
use super::kind::Kind;
use super::lookup::{Missing, Need, lookup, spec};
use super::search::{Search, Wanted};
use super::{Key, LOCK, ring, slots};
use crate::process::current;
use abi::cap::Cap;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

/// `/proc/sys/kernel/keys/persistent_keyring_expiry`, in seconds.
pub static PERSISTENT_EXPIRY: AtomicU32 = AtomicU32::new(3 * 24 * 3600);

/// `KEYCTL_GET_KEYRING_ID`.
///
/// # Errors
/// Those of [`lookup`], as everywhere in this file.
pub fn keyring_id(id: i32, missing: Missing) -> Result<i32> {
    let _lock = LOCK.lock();
    Ok(lookup(id, missing, Need::Use(perm::SEARCH))?.key.serial)
}

/// `KEYCTL_JOIN_SESSION_KEYRING`: a new session keyring, or the one called `name`.
///
/// # Errors
/// `EPERM`: a name of the kernel's. `EDQUOT`, `ENOMEM`.
pub fn join_session(name: Option<&[u8]>) -> Result<i32> {
    let _lock = LOCK.lock();
    let me = current();
    let Some(name) = name else { return Ok(slots::new_session(&me)?.serial) };
    if name.first() == Some(&b'.') {
        return Err(Errno::EPERM);
    }
    let cred = me.cred();
    let usable = |key: &&Arc<Key>| {
        key.matches(Kind::Keyring, name)
            && Arc::ptr_eq(&key.ns, &cred.user_ns)
            && key.state.lock().revoked.is_none()
            && super::lookup::allows(key, false, &cred, perm::SEARCH)
    };
    let ring = match Key::all()?.iter().find(usable) {
        Some(found) => found.clone(),
        None => slots::named_session(&me, name)?,
    };
    let serial = ring.serial;
    slots::join(&me, ring);
    Ok(serial)
}

/// `KEYCTL_SESSION_TO_PARENT`.
///
/// # Errors
/// `EPERM`: the parent is another user's, has several threads, or is init.
pub fn session_to_parent() -> Result<()> {
    let _lock = LOCK.lock();
    let session = lookup(spec::SESSION, Missing::Fail, Need::Use(perm::LINK))?.key;
    let me = current();
    let parent = me.process.parent().ok_or(Errno::EPERM)?;
    let cred = me.cred();
    let mut result = Err(Errno::EPERM);
    let threads = parent.thread_count();
    parent.with_thread(|_, thread| {
        if parent.pid.global() <= 1 || thread.mm.is_none() || threads != 1 {
            return;
        }
        let theirs = thread.keys.get().session;
        if theirs.as_ref().is_some_and(|ring| Arc::ptr_eq(ring, &session)) {
            result = Ok(());
            return;
        }
        let pcred = thread.cred();
        let same = [pcred.uid, pcred.euid, pcred.suid].iter().all(|uid| *uid == cred.euid)
            && [pcred.gid, pcred.egid, pcred.sgid].iter().all(|gid| *gid == cred.egid);
        let own = |ring: &Key| ring.state.lock().uid == cred.euid.0;
        if same && own(&session) && theirs.as_deref().is_none_or(own) {
            thread.keys.set(|rings| rings.session = Some(session.clone()));
            result = Ok(());
        }
    });
    result
}

/// `KEYCTL_CLEAR`.
///
/// # Errors
/// `ENOTDIR`.
pub fn clear(id: i32) -> Result<()> {
    let _lock = LOCK.lock();
    ring::clear(&lookup(id, Missing::Create, Need::Use(perm::WRITE))?.key)
}

/// `KEYCTL_LINK`.
///
/// # Errors
/// Those of [`ring::link`].
pub fn link(id: i32, ringid: i32) -> Result<()> {
    let _lock = LOCK.lock();
    let ring = lookup(ringid, Missing::Create, Need::Use(perm::WRITE))?.key;
    let key = lookup(id, Missing::Create, Need::Use(perm::LINK))?.key;
    ring::link(&ring, &key)
}

/// `KEYCTL_UNLINK`.
///
/// # Errors
/// `ENOTDIR`, `ENOENT`.
pub fn unlink(id: i32, ringid: i32) -> Result<()> {
    let _lock = LOCK.lock();
    let ring = lookup(ringid, Missing::Fail, Need::Use(perm::WRITE))?.key;
    let key = lookup(id, Missing::Fail, Need::Unlink)?.key;
    ring::unlink(&ring, &key)
}

/// What `KEYCTL_MOVE` does when the target has such a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Displace {
    /// Replaces the link.
    Replace,
    /// Fails with `EEXIST`.
    Refuse,
}

/// `KEYCTL_MOVE`.
///
/// # Errors
/// `ENOENT`: not in `from`; `EEXIST`; those of [`ring::link`].
pub fn move_key(id: i32, from: i32, to: i32, displace: Displace) -> Result<()> {
    let _lock = LOCK.lock();
    let key = lookup(id, Missing::Create, Need::Use(perm::LINK))?.key;
    let from = lookup(from, Missing::Fail, Need::Use(perm::WRITE))?.key;
    let to = lookup(to, Missing::Create, Need::Use(perm::WRITE))?.key;
    if Arc::ptr_eq(&from, &to) {
        return Ok(());
    }
    if !from.is_ring() || !to.is_ring() {
        return Err(Errno::ENOTDIR);
    }
    if !from.links()?.iter().any(|link| Arc::ptr_eq(link, &key)) {
        return Err(Errno::ENOENT);
    }
    if displace == Displace::Refuse && ring::same(&to, &key).is_some() {
        return Err(Errno::EEXIST);
    }
    ring::link(&to, &key)?;
    ring::unlink(&from, &key)
}

/// `KEYCTL_SEARCH`: the number of the key found, which is linked into `dest` (0: nowhere).
///
/// # Errors
/// `ENOKEY`, and why what was found is no use; `ENOTDIR`; those of linking.
pub fn search(ringid: i32, kind: Option<Kind>, description: &[u8], dest: i32) -> Result<i32> {
    let _lock = LOCK.lock();
    let cred = current().cred();
    let root = lookup(ringid, Missing::Fail, Need::Use(perm::SEARCH))?;
    let dest = match dest {
        0 => None,
        id => Some(lookup(id, Missing::Create, Need::Use(perm::WRITE))?.key),
    };
    let kind = kind.ok_or(Errno::ENOKEY)?;
    let search = Search { cred: &cred, wanted: Wanted::Named(kind, description) };
    let found = search.run(&root).map_err(|e| if e == Errno::EAGAIN { Errno::ENOKEY } else { e })?;
    if let Some(dest) = dest {
        found.require(&cred, perm::LINK)?;
        ring::link(&dest, &found.key)?;
    }
    Ok(found.key.serial)
}

/// `KEYCTL_RESTRICT_KEYRING`. No type here knows restrictions of its own, so `kind` is refused.
///
/// # Errors
/// `ENOTDIR`; `ENOKEY`, `ENOENT`: the type; `EEXIST`: restricted already.
pub fn restrict(id: i32, kind: Option<Option<Kind>>) -> Result<()> {
    let _lock = LOCK.lock();
    let key = lookup(id, Missing::Fail, Need::Use(perm::SETATTR))?.key;
    if !key.is_ring() {
        return Err(Errno::ENOTDIR);
    }
    match kind {
        Some(None) => return Err(Errno::ENOKEY),
        Some(Some(_)) => return Err(Errno::ENOENT),
        None => {}
    }
    let mut state = key.state.lock();
    if state.restricted {
        return Err(Errno::EEXIST);
    }
    state.restricted = true;
    Ok(())
}

/// `KEYCTL_GET_PERSISTENT`: links the persistent keyring of a user into `dest`.
///
/// # Errors
/// `EINVAL`: no such user; `EPERM`: another's, without `CAP_SETUID`; those of linking.
pub fn persistent(user: u32, dest: i32) -> Result<i32> {
    let _lock = LOCK.lock();
    let cred = current().cred();
    let uid = match user {
        u32::MAX => cred.uid,
        user => {
            let uid = cred.user_ns.make_uid(user).ok_or(Errno::EINVAL)?;
            let own = uid == cred.uid || uid == cred.euid;
            if !own && !cred.ns_capable(&cred.user_ns, Cap::Setuid) {
                return Err(Errno::EPERM);
            }
            uid
        }
    };
    let dest = lookup(dest, Missing::Create, Need::Use(perm::WRITE))?.key;
    if !dest.is_ring() {
        return Err(Errno::ENOTDIR);
    }
    let ring = slots::persistent(&cred, uid.0)?;
    // Whoever may ask for it possesses it.
    super::lookup::Ref { key: ring.clone(), possessed: true }.require(&cred, perm::LINK)?;
    ring::link(&dest, &ring)?;
    ring.set_timeout(PERSISTENT_EXPIRY.load(Ordering::Relaxed));
    Ok(ring.serial)
}
