//! From the number in a call to a key: special keyrings, possession, permissions. Under [`super::LOCK`].

use super::key::perm;
use super::search::{Search, Wanted};
use super::{Key, slots};
use crate::process::{CurrentThread, current};
use abi::creds::Gid;
use abi::{Errno, Result};
use alloc::sync::Arc;
use vfs::cred::Credentials;

/// A key, and whether the caller possesses it.
#[derive(Clone)]
pub struct Ref {
    /// The key.
    pub key: Arc<Key>,
    /// It was found from the caller's own keyrings.
    pub possessed: bool,
}

/// Special numbers: `KEY_SPEC_*`.
#[allow(missing_docs)]
pub mod spec {
    pub const THREAD: i32 = -1;
    pub const PROCESS: i32 = -2;
    pub const SESSION: i32 = -3;
    pub const USER: i32 = -4;
    pub const USER_SESSION: i32 = -5;
    pub const GROUP: i32 = -6;
    pub const REQKEY_AUTH: i32 = -7;
    pub const REQUESTOR: i32 = -8;
}

/// Whether a special keyring is made when it is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is.
    Create,
    /// `ENOKEY`.
    Fail,
}

/// What the caller wants to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Something that takes all of these permission bits of a usable key.
    Use(u32),
    /// The same, of a key that may be negative.
    Partial(u32),
    /// To take a link away: the key itself does not matter.
    Unlink,
    /// The caller checks later.
    Later,
}

/// Whether `cred` has all of `bits` on `key`.
pub fn allows(key: &Key, possessed: bool, cred: &Credentials, bits: u32) -> bool {
    let (uid, gid, mask) = {
        let state = key.state.lock();
        (state.uid, state.gid, state.perm)
    };
    let in_group = || gid != u32::MAX && mask >> perm::GROUP & perm::ALL != 0 && cred.in_group(Gid(gid));
    let mut granted = if uid == cred.fsuid.0 {
        mask >> perm::USER
    } else if in_group() {
        mask >> perm::GROUP
    } else {
        mask
    };
    if possessed {
        granted |= mask >> perm::POSSESSOR;
    }
    granted & bits == bits
}

impl Ref {
    /// Whether `cred` may.
    ///
    /// # Errors
    /// `EACCES`.
    pub fn require(&self, cred: &Credentials, bits: u32) -> Result<()> {
        if allows(&self.key, self.possessed, cred, bits) { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn possessed(key: Arc<Key>) -> Self {
        Self { key, possessed: true }
    }
}

/// Searches the keyrings of the running thread: its own, the process's, the session's.
///
/// # Errors
/// `ENOKEY`: only a negative key; `EAGAIN`: no key; otherwise why none could be searched.
pub fn search_own(me: &CurrentThread, search: &Search<'_>) -> Result<Ref> {
    let rings = me.keys.get();
    let session = rings.session.or_else(|| slots::existing_user_session(search.cred));
    // Success before "there is one, but no use" before "none" before anything else.
    let (mut better, mut worse) = (None, Errno::EAGAIN);
    for ring in [rings.thread, rings.process, session].into_iter().flatten() {
        match search.run(&Ref::possessed(ring)) {
            Ok(found) => return Ok(found),
            Err(Errno::ENOMEM) => return Err(Errno::ENOMEM),
            Err(Errno::EAGAIN) => better = better.or(Some(Errno::EAGAIN)),
            Err(Errno::ENOKEY) => better = Some(Errno::ENOKEY),
            Err(errno) => worse = errno,
        }
    }
    Err(better.unwrap_or(worse))
}

fn session(me: &CurrentThread, cred: &Credentials, missing: Missing) -> Result<Arc<Key>> {
    match me.keys.get().session {
        Some(ring) if !(ring.of_user && missing == Missing::Create) => Ok(ring),
        None if missing == Missing::Fail => {
            // The user's session stands in from now on.
            let (_, session) = slots::of_user(cred)?;
            slots::join(me, session.clone());
            Ok(session)
        }
        before => {
            if before.is_none() {
                slots::of_user(cred)?;
            }
            slots::new_session(me)
        }
    }
}

fn find(me: &CurrentThread, cred: &Credentials, id: i32, missing: Missing) -> Result<Ref> {
    let create = missing == Missing::Create;
    let key = match id {
        spec::THREAD if create => slots::thread(me)?,
        spec::THREAD => me.keys.get().thread.ok_or(Errno::ENOKEY)?,
        spec::PROCESS if create => slots::process(me)?,
        spec::PROCESS => me.keys.get().process.ok_or(Errno::ENOKEY)?,
        spec::SESSION => session(me, cred, missing)?,
        spec::USER => slots::of_user(cred)?.0,
        spec::USER_SESSION => slots::of_user(cred)?.1,
        // Nobody is asked to make keys, so there is no authority and no requestor.
        spec::REQKEY_AUTH | spec::REQUESTOR => return Err(Errno::ENOKEY),
        spec::GROUP | ..1 => return Err(Errno::EINVAL),
        serial => {
            let key = Key::find(serial).ok_or(Errno::ENOKEY)?;
            let search = Search { cred, wanted: Wanted::Exactly(&key) };
            // Without memory it is not known: that is another matter than not being allowed to.
            let possessed = match search_own(me, &search) {
                Ok(_) => true,
                Err(Errno::ENOMEM) => return Err(Errno::ENOMEM),
                Err(_) => false,
            };
            return Ok(Ref { key, possessed });
        }
    };
    Ok(Ref::possessed(key))
}

/// The key that `id` names, if the running thread may do with it what it needs.
///
/// # Errors
/// `EINVAL`: no such number; `ENOKEY`; `EKEYREVOKED`, `EKEYEXPIRED`; `EACCES`.
pub fn lookup(id: i32, missing: Missing, need: Need) -> Result<Ref> {
    let me = current();
    let cred = me.cred();
    let found = find(&me, &cred, id, missing)?;
    let bits = match need {
        Need::Unlink | Need::Later => return Ok(found),
        Need::Use(bits) => {
            if let Some(errno) = found.key.negative() {
                return Err(errno);
            }
            bits
        }
        Need::Partial(bits) => bits,
    };
    found.key.validate()?;
    found.require(&cred, bits)?;
    Ok(found)
}
