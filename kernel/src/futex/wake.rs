//! `FUTEX_WAKE`, `FUTEX_WAKE_BITSET`, `FUTEX_WAKE_OP`.

use super::bucket::{self, Entry, Kind, bucket, index_of};
use super::detached::Notify;
use super::op::WakeOp;
use super::{Key, Scope};
use crate::memory::fault_in::fault_in_word;
use crate::process::Thread;
use abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use sched::Task;

/// Threads that were taken out and wait for their wake-up until the lock is free. Up to eight without allocation;
/// then the lock is released, they are woken, and the search goes on.
const BATCH: usize = 8;

/// Somebody to wake.
enum Woken {
    Task(Arc<Task>),
    Other(Arc<dyn Notify>, u32),
}

/// Who is to be woken once the lock is released.
#[derive(Default)]
pub struct Batch {
    list: [Option<Woken>; BATCH],
    len: usize,
}

impl Batch {
    /// Whether there is no room for another one.
    pub fn is_full(&self) -> bool {
        self.len == BATCH
    }

    /// Marks the owner of `entry` woken and keeps its task.
    pub fn add(&mut self, entry: Entry) {
        let woken = match entry.notify {
            Some(notify) => Woken::Other(notify, entry.index),
            None => {
                if let Some(thread) = entry.task.data::<Thread>() {
                    thread.futex.wake(entry.index);
                }
                Woken::Task(entry.task)
            }
        };
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = Some(woken);
            self.len += 1;
        }
    }

    /// Wakes them, oldest first. Call without locks.
    pub fn wake(mut self) {
        for woken in self.list.iter_mut().filter_map(Option::take) {
            match woken {
                Woken::Task(task) => {
                    sched::wake_up(&task);
                }
                Woken::Other(notify, index) => notify.woken(index),
            }
        }
    }
}

/// Takes up to `limit` waiters of `key` (and a batch) out of a locked queue. `true`: there is one for whom a wake-up is not
/// meant.
fn collect(
    queue: &mut VecDeque<Entry>,
    key: &Key,
    bitset: u32,
    limit: usize,
    from: &mut usize,
) -> (Batch, bool) {
    let mut batch = Batch::default();
    while batch.len < limit && !batch.is_full() {
        let Some(entry) = queue.get(*from) else { break };
        if entry.key == *key && !matches!(entry.kind, Kind::Plain) {
            return (batch, true);
        }
        if entry.key != *key || entry.bitset & bitset == 0 {
            *from += 1;
            continue;
        }
        if let Some(entry) = queue.remove(*from) {
            batch.add(entry);
        }
    }
    (batch, false)
}

/// Wakes up to `limit` waiters of `key`; returns how many.
///
/// # Errors
/// `EINVAL`: it met a waiter of a priority-inheriting lock.
pub fn wake_key(key: &Key, limit: usize, bitset: u32) -> Result<usize> {
    let bucket = bucket(index_of(key));
    if !bucket.has_waiters() {
        return Ok(0);
    }
    let mut woken = 0;
    let mut from = 0;
    loop {
        let mut queue = bucket.lock();
        let (batch, misplaced) = collect(&mut queue, key, bitset, limit - woken, &mut from);
        drop(queue);
        let count = batch.len;
        bucket.leave(count);
        batch.wake();
        woken += count;
        if misplaced {
            return Err(Errno::EINVAL);
        }
        if count < BATCH || woken >= limit {
            return Ok(woken);
        }
        // Others may have left the queue meanwhile: look from its head again.
        from = 0;
    }
}

/// `FUTEX_WAKE` and `FUTEX_WAKE_BITSET`: at least one waiter, as Linux, even for a limit of 0 or less.
///
/// # Errors
/// `EINVAL` for an empty bitset; those of [`Key::of`].
pub fn wake(addr: usize, scope: Scope, limit: i32, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(addr, scope)?;
    wake_key(&key, limit.max(1) as usize, bitset)
}

/// `FUTEX_WAKE_OP`: changes the second word and wakes waiters of both.
///
/// # Errors
/// `ENOSYS` for an unknown operation, `EFAULT`, those of [`Key::of`].
pub fn wake_op(addr: usize, scope: Scope, limit: i32, addr2: usize, limit2: i32, word: u32) -> Result<usize> {
    let op = WakeOp::decode(word)?;
    let key = Key::of(addr, scope)?;
    let key2 = Key::of(addr2, scope)?;
    let old = loop {
        let (one, two) = bucket::lock_two(index_of(&key), index_of(&key2));
        let changed = {
            let _no_faults = arch::uaccess::NoFault::new();
            arch::uaccess::futex_op(op.op, addr2, op.arg)
        };
        drop(two);
        drop(one);
        match changed {
            Ok(old) => break old,
            // A word that cannot be written at all ends the loop.
            Err(_) => fault_in_word(addr2)?,
        }
    };
    let mut woken = wake_key(&key, limit.max(1) as usize, u32::MAX)?;
    if op.wakes_second(old) {
        woken += wake_key(&key2, limit2.max(1) as usize, u32::MAX)?;
    }
    Ok(woken)
}
