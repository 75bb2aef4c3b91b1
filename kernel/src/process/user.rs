//! What one user owns: the counts behind `RLIMIT_NPROC`, `RLIMIT_SIGPENDING`, `RLIMIT_MSGQUEUE` and (for `SHM_LOCK`)
//! `RLIMIT_MEMLOCK`.
//!
//! One [`UserCounts`] per user id that has a process, found in a table under a leaf lock and then kept by
//! reference; the counts themselves are atomic. Ids are in the initial user namespace.

use abi::creds::Uid;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use arch::sync::SpinLockIrq;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::fallible::{SortedMap, try_arc_with};

/// Counts of one user (Linux: `user_struct` / `ucounts`).
#[derive(Debug)]
pub struct UserCounts {
    uid: Uid,
    /// Threads.
    pub threads: AtomicU64,
    /// Queued signals.
    pub signals: AtomicU64,
    /// Bytes that POSIX message queues may hold.
    pub msgqueue: AtomicU64,
    /// Pages of shared memory segments locked with `SHM_LOCK`.
    pub shm_locked: AtomicU64,
    /// Pages that io_uring holds in memory: registered buffers.
    pub pinned: AtomicU64,
}

static USERS: SpinLockIrq<SortedMap<u32, Weak<UserCounts>>> = SpinLockIrq::new(SortedMap::new());

impl UserCounts {
    /// The counts of user `uid`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn of(uid: Uid) -> Result<Arc<Self>> {
        let mut users = USERS.lock();
        if let Some(user) = users.get(&uid.0).and_then(Weak::upgrade) {
            return Ok(user);
        }
        let zero = || AtomicU64::new(0);
        users.try_insert(uid.0, Weak::new())?;
        // Dropped, it would want the table.
        let made = try_arc_with(|| Self {
            uid,
            threads: zero(),
            signals: zero(),
            msgqueue: zero(),
            shm_locked: zero(),
            pinned: zero(),
        });
        match (made, users.get_mut(&uid.0)) {
            (Ok(user), Some(place)) => {
                *place = Arc::downgrade(&user);
                Ok(user)
            }
            _ => {
                users.remove(&uid.0);
                Err(Errno::ENOMEM)
            }
        }
    }

    /// Whose counts these are.
    pub fn uid(&self) -> Uid {
        self.uid
    }
}

impl Drop for UserCounts {
    fn drop(&mut self) {
        let mut users = USERS.lock();
        // Another one for the same user may have come since the last reference went.
        if users.get(&self.uid.0).is_some_and(|w| w.strong_count() == 0) {
            users.remove(&self.uid.0);
        }
    }
}

/// One queued signal on a user's account.
#[derive(Debug)]
pub struct SignalCharge(Arc<UserCounts>);

impl SignalCharge {
    /// Counts one more, unless `limit` is reached.
    pub fn new(user: &Arc<UserCounts>, limit: u64) -> Option<Self> {
        if user.signals.fetch_add(1, Ordering::Relaxed) >= limit {
            user.signals.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(user.clone()))
    }
}

impl Drop for SignalCharge {
    fn drop(&mut self) {
        self.0.signals.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds `amount` to a count, unless it would exceed `limit`.
fn charge(count: &AtomicU64, amount: u64, limit: u64) -> Option<()> {
    let within = |now: u64| now.checked_add(amount).filter(|sum| *sum <= limit);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).ok().map(drop)
}

/// Bytes of a message queue on a user's account.
#[derive(Debug)]
pub struct MsgqueueCharge(Arc<UserCounts>, u64);

impl MsgqueueCharge {
    /// Counts `bytes` more, up to `limit`.
    pub fn new(user: Arc<UserCounts>, bytes: u64, limit: u64) -> Option<Self> {
        charge(&user.msgqueue, bytes, limit)?;
        Some(Self(user, bytes))
    }
}

impl Drop for MsgqueueCharge {
    fn drop(&mut self) {
        self.0.msgqueue.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Pages of a locked shared memory segment on a user's account.
#[derive(Debug)]
pub struct ShmLockCharge(Arc<UserCounts>, u64);

impl ShmLockCharge {
    /// Counts `pages` more, up to `limit`.
    pub fn new(user: Arc<UserCounts>, pages: u64, limit: u64) -> Option<Self> {
        charge(&user.shm_locked, pages, limit)?;
        Some(Self(user, pages))
    }
}

impl Drop for ShmLockCharge {
    fn drop(&mut self) {
        self.0.shm_locked.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Pages held by io_uring on a user's account.
#[derive(Debug)]
pub struct PinnedCharge(Arc<UserCounts>, u64);

impl PinnedCharge {
    /// Counts `pages` more, up to `limit`.
    pub fn new(user: Arc<UserCounts>, pages: u64, limit: u64) -> Option<Self> {
        charge(&user.pinned, pages, limit)?;
        Some(Self(user, pages))
    }
}

impl Drop for PinnedCharge {
    fn drop(&mut self) {
        self.0.pinned.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// One thread on a user's account.
#[derive(Debug)]
pub struct ThreadCharge(Arc<UserCounts>);

impl ThreadCharge {
    /// Counts one more, whatever the limit: the caller decides what to do about it.
    pub fn new(user: Arc<UserCounts>) -> Self {
        user.threads.fetch_add(1, Ordering::Relaxed);
        Self(user)
    }

    /// The account.
    pub fn user(&self) -> &Arc<UserCounts> {
        &self.0
    }

    /// How many threads the user has.
    pub fn count(&self) -> u64 {
        self.0.threads.load(Ordering::Relaxed)
    }
}

impl Drop for ThreadCharge {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_their_charges() {
        let user = UserCounts::of(Uid(4711)).unwrap();
        assert!(Arc::ptr_eq(&user, &UserCounts::of(Uid(4711)).unwrap()));
        let one = SignalCharge::new(&user, 1).unwrap();
        assert!(SignalCharge::new(&user, 1).is_none());
        drop(one);
        assert!(SignalCharge::new(&user, 1).is_some());
        let t = ThreadCharge::new(user.clone());
        assert_eq!(t.count(), 1);
        drop(t);
        assert_eq!(user.threads.load(Ordering::Relaxed), 0);
        drop(user);
        assert!(!USERS.lock().contains_key(&4711));
    }
}
