//! A key, and the table of all keys.

use super::kind::Kind;
use super::now;
use super::quota::{Account, Charge};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicI64, Ordering};
use mm::context::NoFailScope;
use mm::fallible::{SortedMap, try_arc_with, try_into_boxed_slice, try_to_vec};
use vfs::cred::{Credentials, UserNamespace};

/// Permission bits: four groups of eight.
pub mod perm {
    /// See that it exists.
    pub const VIEW: u32 = 0x01;
    /// Read the payload.
    pub const READ: u32 = 0x02;
    /// Change the payload, or the links of a keyring.
    pub const WRITE: u32 = 0x04;
    /// Find it, and look into a keyring.
    pub const SEARCH: u32 = 0x08;
    /// Link to it.
    pub const LINK: u32 = 0x10;
    /// Change owner, permissions, timeout.
    pub const SETATTR: u32 = 0x20;
    /// All of them.
    pub const ALL: u32 = 0x3f;
    /// For who possesses it.
    pub const POSSESSOR: u32 = 24;
    /// For its owner.
    pub const USER: u32 = 16;
    /// For its group.
    pub const GROUP: u32 = 8;

    /// What a new key of a user allows.
    pub fn default(kind: super::Kind) -> u32 {
        let read = if kind.is_readable() { READ } else { 0 };
        (VIEW | SEARCH | LINK | SETATTR | WRITE | read) << POSSESSOR | VIEW << USER
    }
}

/// Bytes of quota per link of a keyring.
pub const LINK_BYTES: usize = 4;

/// What a key holds.
pub enum Value {
    /// The secret.
    Data(Arc<[u8]>),
    /// The keys of a keyring, oldest link first.
    Ring(Vec<Arc<Key>>),
    /// Nobody could make it: who asks gets this error.
    Negative(Errno),
}

/// What changes of a key.
pub struct State {
    /// Owner, in the initial user namespace.
    pub uid: u32,
    /// Group; `u32::MAX` for none.
    pub gid: u32,
    /// Permission bits.
    pub perm: u32,
    /// When it was revoked.
    pub revoked: Option<i64>,
    /// Is going away.
    pub invalidated: bool,
    /// When it expires; none: never.
    pub expiry: Option<i64>,
    /// What it holds.
    pub value: Value,
    /// New links are refused.
    pub restricted: bool,
    /// What it costs.
    pub charge: Charge,
}

/// A key.
pub struct Key {
    /// Its number.
    pub serial: i32,
    /// Its type.
    pub kind: Kind,
    /// Its description.
    pub description: Box<[u8]>,
    /// Where a keyring's name means it.
    pub ns: Arc<UserNamespace>,
    /// Belongs to a user, not to a session.
    pub of_user: bool,
    /// The rest.
    pub state: SpinLock<State>,
}

/// By number; a key that is being made has one already.
static KEYS: SpinLock<SortedMap<i32, Weak<Key>>> = SpinLock::new(SortedMap::new());

/// A number that no key has.
fn reserve_serial() -> Result<i32> {
    let mut keys = KEYS.lock();
    loop {
        // Numbers are not to be guessed; the first few have a meaning.
        let serial = (crate::misc::random::u64() >> 33) as i32;
        if serial >= 3 && !keys.contains_key(&serial) {
            keys.try_insert(serial, Weak::new())?;
            return Ok(serial);
        }
    }
}

/// What a new key is made of.
pub struct NewKey<'a> {
    /// Type.
    pub kind: Kind,
    /// Description.
    pub description: &'a [u8],
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub perm: u32,
    /// Whether it counts.
    pub account: Account,
    /// Belongs to a user.
    pub of_user: bool,
}

impl NewKey<'_> {
    /// Makes the key with `value`, whose payload costs `quota`.
    ///
    /// # Errors
    /// `EINVAL`: not with that description. `EDQUOT`, `ENOMEM`.
    pub fn make(self, cred: &Credentials, value: Value, quota: usize) -> Result<Arc<Key>> {
        self.kind.check_description(self.description)?;
        sweep();
        let charge = Charge::new(self.uid, self.description.len() + 1 + quota, self.account)?;
        let description = try_into_boxed_slice(try_to_vec(self.description)?)?;
        let state = State {
            uid: self.uid,
            gid: self.gid,
            perm: self.perm,
            revoked: None,
            invalidated: false,
            expiry: None,
            value,
            restricted: false,
            charge,
        };
        let serial = reserve_serial()?;
        let made = try_arc_with(|| Key {
            serial,
            kind: self.kind,
            description,
            ns: cred.user_ns.clone(),
            of_user: self.of_user,
            state: SpinLock::new(state),
        });
        let mut keys = KEYS.lock();
        match &made {
            Ok(key) => {
                if let Some(place) = keys.get_mut(&serial) {
                    *place = Arc::downgrade(key);
                }
            }
            Err(_) => drop(keys.remove(&serial)),
        }
        drop(keys);
        Ok(made?)
    }
}

impl Key {
    /// The key with a number.
    pub fn find(serial: i32) -> Option<Arc<Self>> {
        KEYS.lock().get(&serial).and_then(Weak::upgrade)
    }

    /// Every key there is, by number.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn all() -> Result<Vec<Arc<Self>>> {
        let keys = KEYS.lock();
        let mut all = Vec::new();
        all.try_reserve_exact(keys.len()).map_err(|_| Errno::ENOMEM)?;
        all.extend(keys.values().filter_map(Weak::upgrade));
        Ok(all)
    }

    /// Whether it is a keyring.
    pub fn is_ring(&self) -> bool {
        self.kind == Kind::Keyring
    }

    /// Whether it can still be used.
    ///
    /// # Errors
    /// `ENOKEY`, `EKEYREVOKED`, `EKEYEXPIRED`.
    pub fn validate(&self) -> Result<()> {
        let state = self.state.lock();
        if state.invalidated {
            return Err(Errno::ENOKEY);
        }
        if state.revoked.is_some() {
            return Err(Errno::EKEYREVOKED);
        }
        if state.expiry.is_some_and(|expiry| now() >= expiry) {
            return Err(Errno::EKEYEXPIRED);
        }
        Ok(())
    }

    /// The error of a negative key.
    pub fn negative(&self) -> Option<Errno> {
        match self.state.lock().value {
            Value::Negative(errno) => Some(errno),
            _ => None,
        }
    }

    /// The links of a keyring.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn links(&self) -> Result<Vec<Arc<Self>>> {
        let state = self.state.lock();
        let Value::Ring(links) = &state.value else { return Ok(Vec::new()) };
        let mut copy = Vec::new();
        copy.try_reserve_exact(links.len()).map_err(|_| Errno::ENOMEM)?;
        copy.extend(links.iter().cloned());
        Ok(copy)
    }

    /// Whether it has that type and description.
    pub fn matches(&self, kind: Kind, description: &[u8]) -> bool {
        self.kind == kind && *self.description == *description
    }

    /// Takes the value away: it is revoked.
    pub fn revoke(&self) {
        let empty = if self.is_ring() {
            Value::Ring(Vec::new())
        } else {
            // A revocation cannot fail.
            let _no_fail = NoFailScope::enter();
            Value::Data(Arc::from([]))
        };
        let old = {
            let mut state = self.state.lock();
            if state.revoked.is_some() {
                return;
            }
            state.revoked = Some(now());
            // Giving back never fails.
            let _ = state.charge.resize(self.description.len() + 1);
            core::mem::replace(&mut state.value, empty)
        };
        schedule(now() + GC_DELAY.load(Ordering::Relaxed));
        drop(old);
    }

    /// Sets or (0) clears the time it has left.
    pub fn set_timeout(&self, seconds: u32) {
        let expiry = (seconds != 0).then(|| now() + i64::from(seconds));
        self.state.lock().expiry = expiry;
        if let Some(expiry) = expiry {
            schedule(expiry + GC_DELAY.load(Ordering::Relaxed));
        }
    }

    /// Makes it vanish: from now on nobody finds it, and all links to it go.
    pub fn invalidate(&self) {
        self.state.lock().invalidated = true;
        unlink_everywhere(&|key| key.state.lock().invalidated);
    }
}

impl Drop for Key {
    /// A chain of keyrings may be long: one after the other, not one inside the other.
    fn drop(&mut self) {
        KEYS.lock().remove(&self.serial);
        let take = |key: &mut Self| match &mut key.state.get_mut().value {
            Value::Ring(links) => core::mem::take(links),
            _ => Vec::new(),
        };
        let mut left = take(self);
        while let Some(key) = left.pop() {
            if let Some(mut last) = Arc::into_inner(key) {
                let mut links = take(&mut last);
                if left.is_empty() {
                    left = links;
                } else {
                    // What is dropped cannot fail.
                    let _no_fail = NoFailScope::enter();
                    #[expect(clippy::disallowed_methods, reason = "under a NoFailScope")]
                    left.append(&mut links);
                }
            }
        }
    }
}

/// `/proc/sys/kernel/keys/gc_delay`: seconds until the links to a dead key go.
pub static GC_DELAY: AtomicI64 = AtomicI64::new(300);
/// When the next links are due to go.
static NEXT_SWEEP: AtomicI64 = AtomicI64::new(i64::MAX);

fn schedule(when: i64) {
    NEXT_SWEEP.fetch_min(when, Ordering::Relaxed);
}

/// Takes the links to keys away that are dead for long enough.
fn sweep() {
    let now = now();
    if now < NEXT_SWEEP.load(Ordering::Relaxed) {
        return;
    }
    NEXT_SWEEP.store(i64::MAX, Ordering::Relaxed);
    let delay = GC_DELAY.load(Ordering::Relaxed);
    unlink_everywhere(&|key| {
        let state = key.state.lock();
        let dead = [state.revoked, state.expiry].into_iter().flatten().min();
        drop(state);
        if let Some(dead) = dead
            && now < dead + delay
        {
            schedule(dead + delay);
            return false;
        }
        dead.is_some()
    });
}

/// Takes the links to keys away for which `dead` says so.
fn unlink_everywhere(dead: &dyn Fn(&Key) -> bool) {
    // Without memory they stay, and are seen for what they are when somebody finds them.
    let Ok(keys) = Key::all() else { return };
    for ring in keys.iter().filter(|key| key.is_ring()) {
        let Ok(links) = ring.links() else { continue };
        for link in links.iter().filter(|link| dead(link)) {
            let _ = super::ring::unlink(ring, link);
        }
    }
}
