//! Condition variables over priority-inheriting locks: `FUTEX_WAIT_REQUEUE_PI`, `FUTEX_CMP_REQUEUE_PI`. futex(2).
//!
//! A waiter sleeps on one word (the condition) and says which lock it wants afterwards. The signaller moves waiters to the
//! lock: the first one gets it at once if it is free, others are queued for it, in their name, without being
//! woken. So a broadcast neither wakes a herd nor lets a less important thread slip in between.

use super::bucket::{Entry, Kind, bucket, index_of, lock_two, reserve};
use super::pi::{Claim, Settled, claim, enqueue, gone, look_again, settle};
use super::wait::{enqueue as enqueue_waiter, peek};
use super::{Key, Scope};
use crate::process::{CurrentThread, Thread, current};
use abi::{Errno, Result, raw};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use mm::fallible::try_arc;
use sched::pi::{LockError, RtMutex};
use sched::{Deadline, Task};

/// Waits on the word at `addr` while it holds `val`, to be moved to the lock at `lock_addr`, and returns with the lock.
///
/// # Errors
/// `EAGAIN`: the word holds something else, or a signal came after the move; `ETIMEDOUT`, `ERESTARTNOINTR`, `EINVAL`,
/// `EFAULT`.
pub fn wait(addr: usize, scope: Scope, val: u32, deadline: Option<Deadline>, lock_addr: usize) -> Result<()> {
    if addr == lock_addr {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let lock_key = Key::of(lock_addr, scope)?;
    let key = Key::of(addr, scope)?;
    if key == lock_key {
        return Err(Errno::EINVAL);
    }
    enqueue_waiter(&me, &key, addr, val, || Entry::new(key, me.task_arc(), Kind::RequeuePi(lock_key)))?;
    let done = || me.futex.is_woken() || me.futex.is_requeued() && !me.task().waits_for_mutex();
    let timed_out = crate::time::sleep::wait_until(deadline, done);
    match settle(&me, lock_addr)? {
        Settled::Taken => Ok(()),
        _ if timed_out => Err(Errno::ETIMEDOUT),
        Settled::NotRequeued if me.task().has_pending_signal() => Err(Errno::ERESTARTNOINTR),
        // The word has changed since: a restarted call would find that out and answer this.
        _ => Err(Errno::EAGAIN),
    }
}

/// Gives the lock at `lock_addr` to the first waiter of `addr`, or queues it for it, and queues up to `limit` others,
/// while the word at `addr` holds `expected`. Returns how many that were.
///
/// # Errors
/// `EAGAIN`: it does not; `EINVAL`: bad arguments, or other waiters than those of [`wait`] for this lock; those of
/// [`claim`], `EDEADLK`, `EFAULT`, `ENOMEM`.
pub fn requeue(
    addr: usize,
    scope: Scope,
    wake: i32,
    limit: i32,
    lock_addr: usize,
    expected: u32,
) -> Result<usize> {
    if wake != 1 || limit < 0 || addr == lock_addr {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let key = Key::of(addr, scope)?;
    let lock_key = Key::of(lock_addr, scope)?;
    if key == lock_key {
        return Err(Errno::EINVAL);
    }
    let mut mover = Mover { key, lock_key, lock_addr, spare: None, left: limit as usize + 1, woken: None };
    let mut moved = 0;
    loop {
        mover.spare = Some(try_arc(RtMutex::new())?);
        let step = mover.step(addr, expected, moved > 0);
        if let Some(task) = mover.woken.take() {
            sched::wake_up(&task);
        }
        match step {
            Ok(Step::Moved) => moved += 1,
            Ok(Step::Done) => return Ok(moved),
            Ok(Step::Retry(at)) => refresh(&me, at, addr)?,
            Err(errno) => return Err(errno),
        }
    }
}

fn refresh(me: &CurrentThread, at: usize, addr: usize) -> Result<()> {
    if at == addr { super::wait::fetch(at) } else { look_again(me, at) }
}

enum Step {
    /// One waiter was woken or moved.
    Moved,
    /// There is no more to do.
    Done,
    /// The page at this address has to be fetched, or the word there changed.
    Retry(usize),
}

struct Mover {
    key: Key,
    lock_key: Key,
    lock_addr: usize,
    spare: Option<Arc<RtMutex>>,
    left: usize,
    woken: Option<Arc<Task>>,
}

impl Mover {
    /// Moves one waiter under the locks of both buckets; `begun` once the word at `addr` was looked at.
    fn step(&mut self, addr: usize, expected: u32, begun: bool) -> Result<Step> {
        let (from, to) = (index_of(&self.key), index_of(&self.lock_key));
        let (mut queue, mut second) = lock_two(from, to);
        if !begun {
            match peek(addr) {
                None => return Ok(Step::Retry(addr)),
                Some(now) if now != expected => return Err(Errno::EAGAIN),
                Some(_) => {}
            }
        }
        if self.left == 0 {
            return Ok(Step::Done);
        }
        let Some(at) = queue.iter().position(|e| e.key == self.key) else { return Ok(Step::Done) };
        let task = match queue.get(at) {
            Some(Entry { kind: Kind::RequeuePi(wanted), task, .. }) if *wanted == self.lock_key => {
                task.clone()
            }
            _ => return Err(Errno::EINVAL),
        };
        let Some(thread) = task.data::<Thread>() else { return Err(Errno::EINVAL) };
        let others = self.left > 1 && queue.iter().skip(at + 1).any(|e| e.key == self.key);
        let waiters = if others { raw::FUTEX_WAITERS } else { 0 };
        let target: &mut VecDeque<Entry> = second.as_deref_mut().unwrap_or(&mut *queue);
        reserve(target)?;
        let tid = thread.tid() as u32;
        let entry = match claim(target, &self.lock_key, self.lock_addr, tid, &mut self.spare, waiters)? {
            Claim::NoMutex | Claim::Retry => return Ok(Step::Retry(self.lock_addr)),
            Claim::Taken => {
                let entry = queue.remove(at);
                thread.futex.wake(0);
                bucket(from).leave(1);
                self.woken = Some(task.clone());
                entry
            }
            Claim::Held(mutex, word) => {
                let queued = enqueue(target, self.lock_key, &task, &mutex);
                // Its owner may have ended: for dropping without the locks.
                self.spare = Some(mutex);
                match queued {
                    Ok(()) => {}
                    Err(LockError::OwnerEnded) => {
                        return gone(self.lock_addr, word).map(|_| Step::Retry(self.lock_addr));
                    }
                    Err(error) => return Err(error.into()),
                }
                // The old entry: in the same bucket the new one may stand before it.
                let old = queue.iter().position(|e| e.key == self.key && Arc::ptr_eq(&e.task, &task));
                let entry = old.and_then(|at| queue.remove(at));
                thread.futex.requeued_to(to);
                bucket(to).enter(1);
                bucket(from).leave(1);
                entry
            }
        };
        self.left -= 1;
        drop(second);
        drop(queue);
        drop(entry);
        Ok(Step::Moved)
    }
}
