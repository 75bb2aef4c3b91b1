//! Looking for a key in a keyring and those below it. Under [`super::LOCK`].

use super::kind::Kind;
use super::lookup::{Ref, allows};
use super::{Key, key::perm, now};
use abi::{Errno, Result};
use alloc::sync::Arc;
use vfs::cred::Credentials;

/// How deep keyrings are searched.
pub const MAX_DEPTH: usize = 6;

/// What is looked for.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    /// A usable key of that type and description.
    Named(Kind, &'a [u8]),
    /// The same, but one that has expired is as good as none.
    Requested(Kind, &'a [u8]),
    /// That key, in whatever state.
    Exactly(&'a Arc<Key>),
}

/// A search.
pub struct Search<'a> {
    /// Who searches.
    pub cred: &'a Credentials,
    /// For what.
    pub wanted: Wanted<'a>,
}

/// What became of one key.
enum Look {
    Found,
    /// Not the one.
    Other,
    /// It is the one, but cannot be used; the search goes on.
    Unusable(Errno),
}

impl Search<'_> {
    fn look(&self, key: &Arc<Key>, possessed: bool) -> Look {
        let may = |key: &Arc<Key>| allows(key, possessed, self.cred, perm::SEARCH);
        match self.wanted {
            Wanted::Exactly(wanted) if !Arc::ptr_eq(wanted, key) => Look::Other,
            Wanted::Exactly(_) if may(key) => Look::Found,
            Wanted::Exactly(_) => Look::Unusable(Errno::EACCES),
            Wanted::Named(kind, description) | Wanted::Requested(kind, description) => {
                if !key.matches(kind, description) {
                    return Look::Other;
                }
                let (dead, expiry) = {
                    let state = key.state.lock();
                    (state.invalidated || state.revoked.is_some(), state.expiry)
                };
                if dead {
                    return Look::Unusable(Errno::EKEYREVOKED);
                }
                if expiry.is_some_and(|expiry| now() >= expiry) {
                    if matches!(self.wanted, Wanted::Requested(..)) {
                        return Look::Other;
                    }
                    return Look::Unusable(Errno::EKEYEXPIRED);
                }
                if !may(key) {
                    return Look::Unusable(Errno::EACCES);
                }
                key.negative().map_or(Look::Found, Look::Unusable)
            }
        }
    }

    /// Searches `root` and what lies below it.
    ///
    /// # Errors
    /// `ENOTDIR`; `EACCES`: `root` may not be searched; `EAGAIN`: nothing found; or why what was found is no use.
    pub fn run(&self, root: &Ref) -> Result<Ref> {
        if !root.key.is_ring() {
            return Err(Errno::ENOTDIR);
        }
        root.require(self.cred, perm::SEARCH)?;
        let mut why = Errno::EAGAIN;
        // The keyring itself may be what is wanted.
        match self.look(&root.key, root.possessed) {
            Look::Found => return Ok(root.clone()),
            Look::Unusable(errno) => return Err(errno),
            Look::Other => {}
        }
        match self.descend(&root.key, root.possessed, 0, &mut why)? {
            Some(found) => Ok(found),
            None => Err(why),
        }
    }

    fn descend(&self, ring: &Key, possessed: bool, depth: usize, why: &mut Errno) -> Result<Option<Ref>> {
        {
            let state = ring.state.lock();
            if state.invalidated || state.revoked.is_some() {
                return Ok(None);
            }
        }
        let links = ring.links()?;
        for key in &links {
            match self.look(key, possessed) {
                Look::Found => return Ok(Some(Ref { key: key.clone(), possessed })),
                Look::Unusable(errno) => *why = errno,
                Look::Other => {}
            }
        }
        if depth >= MAX_DEPTH {
            return Ok(None);
        }
        for below in links.iter().filter(|key| key.is_ring()) {
            if !allows(below, possessed, self.cred, perm::SEARCH) {
                continue;
            }
            if let Some(found) = self.descend(below, possessed, depth + 1, why)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
