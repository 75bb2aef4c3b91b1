//! Priority-inheriting futexes: `FUTEX_LOCK_PI`, `FUTEX_TRYLOCK_PI`, `FUTEX_UNLOCK_PI`.
//!
//! The word holds the owner's thread id, with `FUTEX_WAITERS` when somebody sleeps and `FUTEX_OWNER_DIED` when the last
//! owner left without unlocking. User space takes and releases a free lock by itself; the kernel is
//! called when there is somebody to wait for or to wake. An unlock hands the lock to the waiter with the highest
//! priority by writing its id into the word, so a lock with waiters is never free.
//!
//! What is missing is the inheritance itself: the owner keeps its own priority while it is waited for.
//!
//! Locks: the word changes hands under its bucket's lock.

use super::bucket::{Entry, Queue, bucket, index_of, push};
use super::wait::{End, dequeue, fetch, peek, sleep};
use super::{Key, Scope};
use crate::process::thread::flags;
use crate::process::{CurrentThread, Thread, current};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::uaccess::{NoFault, cmpxchg_u32};
use core::sync::atomic::Ordering;
use sched::{Deadline, Task};

/// Replaces the word under the bucket's lock. `None`: its page is not there (or not writable).
fn exchange(addr: usize, old: u32, new: u32) -> Option<bool> {
    let _no_faults = NoFault::new();
    cmpxchg_u32(addr, old, new).ok().map(|seen| seen == old)
}

enum Step {
    /// It is ours.
    Taken,
    /// Queued behind the owner.
    Queued,
    /// Somebody else has it and we were asked not to wait.
    Busy,
    /// The word changed, or its page has to be fetched.
    Retry,
}

/// Looks at the word once: takes it, queues, or says what to do. Under the bucket's lock.
fn attempt(me: &CurrentThread, queue: &mut Queue<'_>, key: Key, addr: usize, wait: bool) -> Result<Step> {
    let Some(word) = peek(addr) else { return Ok(Step::Retry) };
    let owner = word & raw::FUTEX_TID_MASK;
    let tid = me.tid() as u32;
    if owner == tid {
        return Err(Errno::EDEADLK);
    }
    let others = queue.iter().any(|e| e.key == key && e.pi);
    if owner == 0 {
        let waiters = if others { raw::FUTEX_WAITERS } else { 0 };
        let new = tid | word & raw::FUTEX_OWNER_DIED | waiters;
        return Ok(match exchange(addr, word, new) {
            Some(true) => Step::Taken,
            _ => Step::Retry,
        });
    }
    let task = me.pid_ns().task(owner as i32).ok_or(Errno::ESRCH)?;
    let thread = task.data::<Thread>().ok_or(Errno::EPERM)?;
    if task.is_kthread() {
        return Err(Errno::EPERM);
    }
    if thread.has(flags::EXITING) {
        // Its robust list is about to be walked: the word will change.
        return Ok(Step::Retry);
    }
    if !wait {
        return Ok(Step::Busy);
    }
    if word & raw::FUTEX_WAITERS == 0 {
        match exchange(addr, word, word | raw::FUTEX_WAITERS) {
            Some(true) => {}
            _ => return Ok(Step::Retry),
        }
    }
    push(queue, Entry { key, task: me.task_arc(), bitset: u32::MAX, index: 0, pi: true })?;
    thread.pi_owned.store(true, Ordering::Relaxed);
    me.futex.start(index_of(&key));
    Ok(Step::Queued)
}

/// Takes the lock at `addr`, waiting for its owner until `deadline` if `wait`.
///
/// # Errors
/// `EDEADLK`: it is ours already; `ESRCH`: the owner does not exist; `EAGAIN`: busy (without `wait`); `ETIMEDOUT`,
/// `ERESTARTNOINTR`, `EFAULT`.
pub fn lock(addr: usize, scope: Scope, deadline: Option<Deadline>, wait: bool) -> Result<()> {
    let me = current();
    let key = Key::of(addr, scope)?;
    loop {
        let bucket = bucket(index_of(&key));
        let mut queue = bucket.lock_to_wait();
        let step = attempt(&me, &mut queue, key, addr, wait);
        drop(queue);
        match step {
            Ok(Step::Queued) => break,
            other => {
                bucket.leave(1);
                match other? {
                    Step::Taken => return Ok(()),
                    Step::Busy => return Err(Errno::EAGAIN),
                    _ => {
                        fetch(addr)?;
                        crate::memory::fault_in_writable(addr, addr + 4);
                        if me.task().has_fatal_signal() {
                            return Err(Errno::EINTR);
                        }
                        sched::yield_now();
                    }
                }
            }
        }
    }
    let end = sleep(&me, deadline);
    let taken = end == End::Woken || !dequeue(&me);
    me.futex.finish();
    match end {
        _ if taken => Ok(()),
        End::TimedOut => Err(Errno::ETIMEDOUT),
        _ => Err(Errno::ERESTARTNOINTR),
    }
}

/// The waiter with the highest priority (the lowest value; the oldest among equals).
fn best(queue: &Queue<'_>, key: &Key) -> Option<usize> {
    let waiters = queue.iter().enumerate().filter(|(_, e)| e.key == *key && e.pi);
    waiters.min_by_key(|(i, e)| (e.task.proc_priority(), *i)).map(|(i, _)| i)
}

/// Hands the lock from `word` to the best waiter, or frees it. `None`: look again.
fn hand_over(
    queue: &mut Queue<'_>,
    key: &Key,
    addr: usize,
    word: u32,
    died: bool,
) -> Option<Option<Arc<Task>>> {
    let dead = if died { raw::FUTEX_OWNER_DIED } else { 0 };
    let Some(at) = best(queue, key) else {
        return exchange(addr, word, dead)?.then_some(None);
    };
    let tid = queue.get(at)?.task.data::<Thread>()?.tid() as u32;
    let more = queue.iter().filter(|e| e.key == *key && e.pi).count() > 1;
    let waiters = if more { raw::FUTEX_WAITERS } else { 0 };
    if !exchange(addr, word, tid | waiters | dead)? {
        return None;
    }
    let entry = queue.remove(at)?;
    if let Some(thread) = entry.task.data::<Thread>() {
        thread.futex.wake(0);
        thread.pi_owned.store(more, Ordering::Relaxed);
    }
    Some(Some(entry.task))
}

/// Releases the lock at `addr`.
///
/// # Errors
/// `EPERM`: it is not ours; `EFAULT`.
pub fn unlock(addr: usize, scope: Scope) -> Result<()> {
    let me = current();
    let key = Key::of(addr, scope)?;
    loop {
        let bucket = bucket(index_of(&key));
        let mut queue = bucket.lock();
        let Some(word) = peek(addr) else {
            drop(queue);
            fetch(addr)?;
            continue;
        };
        if word & raw::FUTEX_TID_MASK != me.tid() as u32 {
            return Err(Errno::EPERM);
        }
        let done = hand_over(&mut queue, &key, addr, word, false);
        drop(queue);
        if let Some(next) = done {
            if let Some(task) = next {
                bucket.leave(1);
                sched::wake_up(&task);
            }
            return Ok(());
        }
        crate::memory::fault_in_writable(addr, addr + 4);
        if me.task().has_fatal_signal() {
            return Err(Errno::EFAULT);
        }
    }
}

/// The owner of the lock at `addr` died; its robust list said so and the word names nobody.
pub fn owner_died(addr: usize) {
    let Ok(key) = Key::of(addr, Scope::Shared) else { return };
    let bucket = bucket(index_of(&key));
    let mut queue = bucket.lock();
    let Some(word) = peek(addr) else { return };
    let next = hand_over(&mut queue, &key, addr, word, true).flatten();
    drop(queue);
    if let Some(task) = next {
        bucket.leave(1);
        sched::wake_up(&task);
    }
}
