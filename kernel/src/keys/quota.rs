//! What a user's keys may take: `/proc/sys/kernel/keys`.

use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use mm::fallible::{SortedMap, try_arc_with};

/// Most keys of a user.
pub static MAX_KEYS: AtomicUsize = AtomicUsize::new(200);
/// Most bytes.
pub static MAX_BYTES: AtomicUsize = AtomicUsize::new(20_000);
/// Most keys of root.
pub static ROOT_MAX_KEYS: AtomicUsize = AtomicUsize::new(1_000_000);
/// Most bytes of root.
pub static ROOT_MAX_BYTES: AtomicUsize = AtomicUsize::new(25_000_000);

/// Most keys and bytes of a user.
pub fn limits(uid: u32) -> (usize, usize) {
    let (keys, bytes) = if uid == 0 { (&ROOT_MAX_KEYS, &ROOT_MAX_BYTES) } else { (&MAX_KEYS, &MAX_BYTES) };
    (keys.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
}

/// What a user's keys take now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// Keys that count.
    pub keys: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// The account of one user.
pub struct KeyUser {
    /// Whose.
    pub uid: u32,
    /// All keys, also those that do not count.
    pub keys: AtomicU32,
    taken: SpinLock<Taken>,
}

static USERS: SpinLock<SortedMap<u32, Weak<KeyUser>>> = SpinLock::new(SortedMap::new());

impl KeyUser {
    /// The account of `uid`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn of(uid: u32) -> Result<Arc<Self>> {
        // Its drop takes the lock.
        let user;
        let mut users = USERS.lock();
        if let Some(user) = users.get(&uid).and_then(Weak::upgrade) {
            return Ok(user);
        }
        user =
            try_arc_with(|| Self { uid, keys: AtomicU32::new(0), taken: SpinLock::new(Taken::default()) })?;
        users.try_insert(uid, Arc::downgrade(&user))?;
        drop(users);
        Ok(user)
    }

    /// What is taken.
    pub fn taken(&self) -> Taken {
        *self.taken.lock()
    }
}

impl Drop for KeyUser {
    fn drop(&mut self) {
        let mut users = USERS.lock();
        // Another one for the same user may have come since the last reference went.
        if users.get(&self.uid).is_some_and(|w| w.strong_count() == 0) {
            users.remove(&self.uid);
        }
    }
}

/// All accounts, by user.
///
/// # Errors
/// `ENOMEM`.
pub fn users() -> Result<Vec<Arc<KeyUser>>> {
    let users = USERS.lock();
    let mut all = Vec::new();
    all.try_reserve_exact(users.len()).map_err(|_| Errno::ENOMEM)?;
    all.extend(users.values().filter_map(Weak::upgrade));
    Ok(all)
}

/// Whether a key counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Account {
    /// It does, and is refused beyond the limit.
    Limited,
    /// It does, and may go beyond the limit.
    Overrun,
    /// It does not.
    Free,
}

/// One key on its owner's account.
pub struct Charge {
    user: Arc<KeyUser>,
    account: Account,
    bytes: usize,
}

impl Charge {
    /// Counts a key of `bytes`.
    ///
    /// # Errors
    /// `EDQUOT`, `ENOMEM`.
    pub fn new(uid: u32, bytes: usize, account: Account) -> Result<Self> {
        let user = KeyUser::of(uid)?;
        if account != Account::Free {
            let (max_keys, max_bytes) = limits(uid);
            let mut taken = user.taken.lock();
            let over = taken.keys >= max_keys || taken.bytes.saturating_add(bytes) > max_bytes;
            if account == Account::Limited && over {
                return Err(Errno::EDQUOT);
            }
            taken.keys += 1;
            taken.bytes += bytes;
        }
        user.keys.fetch_add(1, Ordering::Relaxed);
        Ok(Self { user, account, bytes })
    }

    /// Whether it counts.
    pub fn counts(&self) -> bool {
        self.account != Account::Free
    }

    /// The bytes it counts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The key takes `bytes` now.
    ///
    /// # Errors
    /// `EDQUOT`; nothing has changed.
    pub fn resize(&mut self, bytes: usize) -> Result<()> {
        if self.counts() {
            let mut taken = self.user.taken.lock();
            let others = taken.bytes.saturating_sub(self.bytes);
            if bytes > self.bytes && others.saturating_add(bytes) > limits(self.user.uid).1 {
                return Err(Errno::EDQUOT);
            }
            taken.bytes = others + bytes;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The same key for another user.
    ///
    /// # Errors
    /// `EDQUOT`, `ENOMEM`.
    pub fn moved_to(&self, uid: u32) -> Result<Self> {
        let account = if self.counts() { Account::Limited } else { Account::Free };
        Self::new(uid, self.bytes, account)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.counts() {
            let mut taken = self.user.taken.lock();
            taken.keys = taken.keys.saturating_sub(1);
            taken.bytes = taken.bytes.saturating_sub(self.bytes);
        }
        self.user.keys.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_comes_and_goes() {
        let user = KeyUser::of(4242).unwrap();
        let mut one = Charge::new(4242, 100, Account::Limited).unwrap();
        assert_eq!((user.taken().keys, user.taken().bytes), (1, 100));
        assert_eq!(one.resize(1_000_000).err(), Some(Errno::EDQUOT));
        one.resize(50).unwrap();
        let moved = one.moved_to(4243).unwrap();
        drop(one);
        assert_eq!((user.taken().keys, user.taken().bytes), (0, 0));
        assert_eq!(KeyUser::of(4243).unwrap().taken().bytes, 50);
        drop(moved);
        assert!(Charge::new(4242, 20_001, Account::Limited).is_err());
        assert!(Charge::new(4242, 20_001, Account::Overrun).is_ok());
    }
}
