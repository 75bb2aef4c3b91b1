//! The hash table of waiters.

use super::Key;
use crate::process::Thread;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::{Preempt, SpinLock};
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use mm::fallible::{TryCollect, try_arc};
use sched::Task;
use sched::pi::RtMutex;
use sync::{CachePadded, Lazy, SpinLockGuard};

/// Buckets per CPU, as Linux has.
const PER_CPU: usize = 256;

/// One thread waiting for one key.
pub struct Entry {
    /// What for.
    pub key: Key,
    /// Who.
    pub task: Arc<Task>,
    /// Which wake-ups are for it.
    pub bitset: u32,
    /// Its number in `futex_waitv`.
    pub index: u32,
    /// Where the words of `futex_waitv` wait; `None`: the thread waits in one bucket only and knows which.
    pub places: Option<Arc<Places>>,
    /// How it waits.
    pub kind: Kind,
    /// Who hears of the wake-up in place of the thread ([`super::detached`]).
    pub notify: Option<Arc<dyn super::detached::Notify>>,
}

/// How a thread waits, and so who may wake it.
pub enum Kind {
    /// For a wake-up.
    Plain,
    /// For the lock of a priority-inheriting futex; all waiters of one futex share the mutex, which lends their priority
    /// to the owner. Only a hand-over wakes it.
    Pi(Arc<RtMutex>),
    /// `FUTEX_WAIT_REQUEUE_PI`: for being moved to the lock with this key, and nothing else.
    RequeuePi(Key),
}

/// The buckets that the words of a `futex_waitv` are in, which requeue changes. Written under the locks of both buckets.
pub struct Places(Vec<AtomicUsize>);

impl Places {
    /// For `count` words.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(count: usize) -> Result<Arc<Self>> {
        let places = (0..count).map(|_| AtomicUsize::new(0)).try_collect_vec()?;
        Ok(try_arc(Self(places))?)
    }

    /// The bucket of word `index` when last looked at.
    pub fn get(&self, index: usize) -> usize {
        self.0.get(index).map_or(0, |place| place.load(Ordering::Relaxed))
    }

    /// Word `index` is in `bucket`.
    pub fn set(&self, index: usize, bucket: usize) {
        if let Some(place) = self.0.get(index) {
            place.store(bucket, Ordering::Relaxed);
        }
    }
}

impl Entry {
    /// An entry for the thread that runs as `task`.
    pub fn new(key: Key, task: Arc<Task>, kind: Kind) -> Self {
        Self { key, task, bitset: u32::MAX, index: 0, places: None, kind, notify: None }
    }

    /// It is in `bucket` from now on; under the locks of that one and the old one.
    pub fn moved_to(&self, bucket: usize) {
        match (&self.notify, &self.places) {
            (Some(notify), _) => notify.moved(),
            (None, Some(places)) => places.set(self.index as usize, bucket),
            (None, None) => {
                if let Some(thread) = self.task.data::<Thread>() {
                    thread.futex.moved_to(bucket);
                }
            }
        }
    }
}

/// The waiters of the keys that hash here.
pub struct Bucket {
    /// Threads that wait or are about to: read by wakers without the lock.
    waiting: AtomicUsize,
    queue: SpinLock<VecDeque<Entry>>,
}

/// A locked queue.
pub type Queue<'a> = SpinLockGuard<'a, VecDeque<Entry>, Preempt>;

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
static TABLE: Lazy<Box<[CachePadded<Bucket>]>> = Lazy::new(|| {
    let count = (PER_CPU * arch::cpu::count()).next_power_of_two();
    (0..count).map(|_| CachePadded::new(Bucket::new())).collect::<Vec<_>>().into_boxed_slice()
});

/// Which bucket `key` belongs to.
pub fn index_of(key: &Key) -> usize {
    (key.hash() >> 32) as usize & (TABLE.len() - 1)
}

/// The bucket with number `index` (which comes from [`index_of`]).
pub fn bucket(index: usize) -> &'static Bucket {
    let table: &'static [CachePadded<Bucket>] = &TABLE;
    &table[index & (table.len() - 1)]
}

/// How many buckets there are.
pub fn count() -> usize {
    TABLE.len()
}

impl Bucket {
    const fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), queue: SpinLock::new(VecDeque::new()) }
    }

    /// Takes the lock.
    pub fn lock(&self) -> Queue<'_> {
        self.queue.lock()
    }

    /// Takes the lock while that of a bucket with a lower index is held.
    fn lock_nested(&self) -> Queue<'_> {
        self.queue.lock_nested()
    }

    /// Takes the lock in order to wait: wakers look into the queue from now on.
    pub fn lock_to_wait(&self) -> Queue<'_> {
        // The count is visible before the futex word is read.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        arch::cpu::barrier_after_atomic();
        self.queue.lock()
    }

    /// One waiter less.
    pub fn leave(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// More waiters, moved here under both locks.
    pub fn enter(&self, count: usize) {
        self.waiting.fetch_add(count, Ordering::SeqCst);
        arch::cpu::barrier_after_atomic();
    }

    /// Whether a waker has to look: pairs with [`Bucket::lock_to_wait`].
    pub fn has_waiters(&self) -> bool {
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed) != 0
    }
}

/// Locks two buckets, by index in order; one guard if they are the same.
pub fn lock_two(a: usize, b: usize) -> (Queue<'static>, Option<Queue<'static>>) {
    match a.cmp(&b) {
        core::cmp::Ordering::Equal => (bucket(a).lock(), None),
        core::cmp::Ordering::Less => {
            let first = bucket(a).lock();
            (first, Some(bucket(b).lock_nested()))
        }
        core::cmp::Ordering::Greater => {
            let second = bucket(b).lock();
            (bucket(a).lock_nested(), Some(second))
        }
    }
}

/// Queues an entry behind all that are at least as important: real-time threads are woken before others.
///
/// # Errors
/// `ENOMEM` if the bucket has to grow and cannot.
#[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
pub fn push(queue: &mut VecDeque<Entry>, entry: Entry) -> Result<()> {
    reserve(queue)?;
    let rank = entry.task.queue_rank();
    let behind = queue.iter().rposition(|e| e.task.queue_rank() <= rank).map_or(0, |at| at + 1);
    queue.insert(behind, entry);
    Ok(())
}

/// Makes sure that the next [`push`] succeeds.
///
/// # Errors
/// `ENOMEM`.
pub fn reserve(queue: &mut VecDeque<Entry>) -> Result<()> {
    if queue.len() == queue.capacity() {
        queue.try_reserve(4).map_err(|_| Errno::ENOMEM)?;
    }
    Ok(())
}

/// The first waiter of `key`.
pub fn first<'a>(queue: &'a VecDeque<Entry>, key: &Key) -> Option<&'a Entry> {
    queue.iter().find(|e| e.key == *key)
}
