//! The links of keyrings. Under [`super::LOCK`].

use super::Key;
use super::key::{LINK_BYTES, Value};
use super::search::MAX_DEPTH;
use abi::{Errno, Result};
use alloc::sync::Arc;
use mm::fallible::TryVec;

/// What a keyring may still take.
fn check_ring(ring: &Key) -> Result<()> {
    if !ring.is_ring() {
        return Err(Errno::ENOTDIR);
    }
    if ring.state.lock().revoked.is_some() { Err(Errno::EKEYREVOKED) } else { Ok(()) }
}

/// Whether `ring` is found on the way down from `key`.
///
/// # Errors
/// `EDEADLK`: it is. `ELOOP`: too deep to say. `ENOMEM`.
fn check_cycle(ring: &Arc<Key>, key: &Arc<Key>, depth: usize) -> Result<()> {
    if Arc::ptr_eq(ring, key) {
        return Err(Errno::EDEADLK);
    }
    let links = key.links()?;
    for below in links.iter().filter(|below| below.is_ring()) {
        if depth >= MAX_DEPTH {
            return Err(Errno::ELOOP);
        }
        check_cycle(ring, below, depth + 1)?;
    }
    Ok(())
}

/// Whether a key may be linked there at all.
///
/// # Errors
/// `ENOTDIR`, `EKEYREVOKED`, `EPERM`: restricted.
pub fn may_link(ring: &Key) -> Result<()> {
    check_ring(ring)?;
    if ring.state.lock().restricted { Err(Errno::EPERM) } else { Ok(()) }
}

/// Links `key` into `ring`; a link to another key of the same type and description is replaced.
///
/// # Errors
/// As [`may_link`], and `EDEADLK`, `ELOOP`, `EDQUOT`, `ENOMEM`.
pub fn link(ring: &Arc<Key>, key: &Arc<Key>) -> Result<()> {
    may_link(ring)?;
    if key.is_ring() {
        check_cycle(ring, key, 0)?;
    }
    let replaced = {
        let mut state = ring.state.lock();
        let state = &mut *state;
        let Value::Ring(links) = &mut state.value else { return Err(Errno::ENOTDIR) };
        match links.iter_mut().find(|l| l.matches(key.kind, &key.description)) {
            Some(link) => Some(core::mem::replace(link, key.clone())),
            None => {
                links.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                state.charge.resize(state.charge.bytes() + LINK_BYTES)?;
                links.push_reserved(key.clone());
                None
            }
        }
    };
    drop(replaced);
    Ok(())
}

/// The link of `ring` with the type and description of `key`.
pub fn same(ring: &Key, key: &Key) -> Option<Arc<Key>> {
    match &ring.state.lock().value {
        Value::Ring(links) => links.iter().find(|l| l.matches(key.kind, &key.description)).cloned(),
        _ => None,
    }
}

/// Takes the link to `key` out of `ring`.
///
/// # Errors
/// `ENOTDIR`, `ENOENT`.
pub fn unlink(ring: &Key, key: &Arc<Key>) -> Result<()> {
    let old = {
        let mut state = ring.state.lock();
        let Value::Ring(links) = &mut state.value else { return Err(Errno::ENOTDIR) };
        let at = links.iter().position(|l| Arc::ptr_eq(l, key)).ok_or(Errno::ENOENT)?;
        let old = links.remove(at);
        let bytes = state.charge.bytes().saturating_sub(LINK_BYTES);
        let _ = state.charge.resize(bytes);
        old
    };
    drop(old);
    Ok(())
}

/// Takes all links out.
///
/// # Errors
/// `ENOTDIR`.
pub fn clear(ring: &Key) -> Result<()> {
    let old = {
        let mut state = ring.state.lock();
        let Value::Ring(links) = &mut state.value else { return Err(Errno::ENOTDIR) };
        let old = core::mem::take(links);
        let _ = state.charge.resize(ring.description.len() + 1);
        old
    };
    drop(old);
    Ok(())
}
