//! Waiting for futexes without a thread: what `io_uring(7)` needs.
//!
//! The entry in a bucket has a [`Notify`] in place of a sleeping thread. The owner takes its entries out with [`Place`], whether it was
//! woken or gives up.

use super::bucket::{self, Entry, Kind, bucket, index_of, push};
use super::wait::{fetch, peek};
use super::waitv::scope_of;
use super::{Key, wake as waking};
use crate::process::current;
use abi::process::FutexWaitv;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::TryVec;
use mm::fallible::try_with_capacity;

/// Hears of a wake-up.
pub trait Notify: Send + Sync {
    /// The entry with number `index` was taken out by a waker. Called without locks.
    fn woken(&self, index: u32);
    /// An entry was moved to another word: it is looked for everywhere when it is to be taken out.
    fn moved(&self);
    /// Whether that happened.
    fn was_moved(&self) -> bool;
}

/// A word to wait for.
#[derive(Clone, Copy)]
pub struct Watched {
    addr: usize,
    val: u32,
    key: Key,
}

impl Watched {
    /// The word at `addr` of the running process, while it holds `val`.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT`.
    pub fn new(addr: usize, val: u32, flags: u32) -> Result<Self> {
        Ok(Self { addr, val, key: Key::of(addr, scope_of(flags)?)? })
    }
}

/// Checks `FUTEX2_*` flags.
///
/// # Errors
/// `EINVAL`.
pub fn check_flags(flags: u32) -> Result<()> {
    scope_of(flags).map(drop)
}

/// The words of a `futex_waitv` array.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOMEM`.
pub fn watch(words: &[FutexWaitv]) -> Result<Vec<Watched>> {
    let mut watched = try_with_capacity(words.len())?;
    for word in words {
        let val = u32::try_from(word.val).map_err(|_| Errno::EINVAL)?;
        if word.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        watched.push_reserved(Watched::new(word.uaddr as usize, val, word.flags)?);
    }
    Ok(watched)
}

/// Where somebody stands in the buckets.
pub struct Place {
    notify: Arc<dyn Notify>,
    words: Vec<Watched>,
}

impl Place {
    /// Takes all entries out.
    pub fn leave(self) {
        take_out(&self.notify, &self.words);
    }
}

fn is(entry: &Entry, notify: &Arc<dyn Notify>) -> bool {
    entry.notify.as_ref().is_some_and(|other| Arc::ptr_eq(other, notify))
}

fn take_out(notify: &Arc<dyn Notify>, words: &[Watched]) {
    for word in words {
        if take_from(index_of(&word.key), notify) || !notify.was_moved() {
            continue;
        }
        for index in 0..bucket::count() {
            if bucket(index).has_waiters() && take_from(index, notify) {
                break;
            }
        }
    }
}

fn take_from(index: usize, notify: &Arc<dyn Notify>) -> bool {
    let bucket = bucket(index);
    let mut queue = bucket.lock();
    let at = queue.iter().position(|entry| is(entry, notify));
    let entry = at.and_then(|at| queue.remove(at));
    drop(queue);
    let found = entry.is_some();
    drop(entry);
    if found {
        bucket.leave(1);
    }
    found
}

/// Queues `notify` on all words, if they hold what they should.
///
/// # Errors
/// `EAGAIN`: one does not; `EFAULT`, `ENOMEM`. Nothing is left queued.
pub fn enqueue(notify: &Arc<dyn Notify>, words: Vec<Watched>, bitset: u32) -> Result<Place> {
    let task = current().task_arc();
    'again: loop {
        for (index, word) in words.iter().enumerate() {
            let bucket = bucket(index_of(&word.key));
            let mut queue = bucket.lock_to_wait();
            let seen = peek(word.addr);
            let queued = if seen == Some(word.val) {
                let entry = Entry {
                    bitset,
                    index: index as u32,
                    notify: Some(notify.clone()),
                    ..Entry::new(word.key, task.clone(), Kind::Plain)
                };
                push(&mut queue, entry)
            } else {
                Err(Errno::EAGAIN)
            };
            drop(queue);
            let Err(errno) = queued else { continue };
            bucket.leave(1);
            take_out(notify, words.get(..index).unwrap_or_default());
            if seen.is_none() {
                fetch(word.addr)?;
                continue 'again;
            }
            return Err(errno);
        }
        return Ok(Place { notify: notify.clone(), words });
    }
}

/// `futex_wake(2)` with `FUTEX2_*` flags.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn wake(addr: usize, count: i32, mask: u32, flags: u32) -> Result<usize> {
    let scope = scope_of(flags)?;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(addr, scope)?;
    if count == 0 {
        return Ok(0);
    }
    waking::wake_key(&key, count.max(1) as usize, mask)
}
