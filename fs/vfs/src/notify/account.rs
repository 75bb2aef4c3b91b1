//! How many instances and watches each user has.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::{SortedMap, try_arc};

/// A kind of thing that users may have so many of.
pub struct Account {
    /// The limit: a file below `/proc/sys/fs`.
    pub limit: AtomicU32,
    used: SpinLock<SortedMap<u32, u32>>,
}

impl Account {
    /// A kind of which everybody may have `limit`.
    pub const fn new(limit: u32) -> Self {
        Self { limit: AtomicU32::new(limit), used: SpinLock::new(SortedMap::new()) }
    }

    /// One more for `uid`.
    ///
    /// # Errors
    /// `over`: that is too many; `ENOMEM`.
    pub fn charge(&self, uid: u32, over: Errno) -> Result<()> {
        let mut used = self.used.lock();
        if used.get(&uid).copied().unwrap_or(0) >= self.limit.load(Ordering::Relaxed) {
            return Err(over);
        }
        *used.try_get_or_insert_with(uid, || 0)? += 1;
        Ok(())
    }

    /// `count` less for `uid`.
    pub fn uncharge(&self, uid: u32, count: u32) {
        let mut used = self.used.lock();
        if let Some(left) = used.get_mut(&uid) {
            *left = left.saturating_sub(count);
            if *left == 0 {
                used.remove(&uid);
            }
        }
    }
}

/// `/proc/sys/fs/inotify/max_user_instances`.
pub static INOTIFY_INSTANCES: Account = Account::new(128);
/// `/proc/sys/fs/inotify/max_user_watches`.
pub static INOTIFY_WATCHES: Account = Account::new(MIN_WATCHES);
/// `/proc/sys/fs/fanotify/max_user_groups`.
pub static FANOTIFY_GROUPS: Account = Account::new(128);
/// `/proc/sys/fs/fanotify/max_user_marks`.
pub static FANOTIFY_MARKS: Account = Account::new(MIN_WATCHES);

/// A number that all of a user's objects of one kind count in; found once for each object ([`of_user`](Self::of_user)), so that counting
/// takes neither a lock nor memory.
pub struct UserCount {
    uid: u32,
    count: AtomicU64,
}

/// Users with such a number, while something counts in it.
static USER_COUNTS: SpinLock<SortedMap<u32, Weak<UserCount>>> = SpinLock::new(SortedMap::new());

impl UserCount {
    /// The number of watches of epolls of `uid`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn of_user(uid: u32) -> Result<Arc<Self>> {
        let known = |counts: &SortedMap<u32, Weak<Self>>| counts.get(&uid).and_then(Weak::upgrade);
        if let Some(count) = known(&USER_COUNTS.lock()) {
            return Ok(count);
        }
        // Made, and if somebody was faster given up again, without the lock.
        let fresh = try_arc(Self { uid, count: AtomicU64::new(0) })?;
        let mut counts = USER_COUNTS.lock();
        if let Some(count) = known(&counts) {
            drop(counts);
            return Ok(count);
        }
        counts.try_insert(uid, Arc::downgrade(&fresh))?;
        Ok(fresh)
    }

    /// One more, unless there are `limit` already; whether there were not.
    pub fn charge(&self, limit: u64) -> bool {
        if self.count.fetch_add(1, Ordering::Relaxed) < limit {
            return true;
        }
        self.uncharge();
        false
    }

    /// One less.
    pub fn uncharge(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for UserCount {
    fn drop(&mut self) {
        let mut counts = USER_COUNTS.lock();
        // Another may be there since.
        if counts.get(&self.uid).is_some_and(|count| core::ptr::eq(count.as_ptr(), self)) {
            counts.remove(&self.uid);
        }
    }
}

/// `/proc/sys/fs/epoll/max_user_watches`.
pub static EPOLL_LIMIT: AtomicU64 = AtomicU64::new(0);
/// Memory that one is taken to cost: what Linux takes, so that the default is the same.
const EPOLL_COST: usize = 200;

/// Watches that a user of a small machine may have, and of a large one.
const MIN_WATCHES: u32 = 8192;
const MAX_WATCHES: u32 = 1 << 20;
/// Memory that a watch is taken to cost: itself and the inode that it keeps.
const WATCH_COST: usize = 1280;

/// Sizes the limits for a machine with `pages` pages: watches may keep a hundredth of the memory.
pub fn init(pages: usize) {
    let watches = (pages / 100).saturating_mul(arch::addr::PAGE_SIZE) / WATCH_COST;
    let watches = u32::try_from(watches).unwrap_or(MAX_WATCHES).clamp(MIN_WATCHES, MAX_WATCHES);
    let epoll = (pages / 25).saturating_mul(arch::addr::PAGE_SIZE) / EPOLL_COST;
    EPOLL_LIMIT.store(epoll as u64, Ordering::Relaxed);
    INOTIFY_WATCHES.limit.store(watches, Ordering::Relaxed);
    FANOTIFY_MARKS.limit.store(watches, Ordering::Relaxed);
}
