//! Priority-inheriting futexes: `FUTEX_LOCK_PI`, `FUTEX_TRYLOCK_PI`, `FUTEX_UNLOCK_PI`. futex(2).
//!
//! The word holds the owner's thread id, with `FUTEX_WAITERS` when somebody sleeps and `FUTEX_OWNER_DIED` when the last
//! owner left without unlocking. User space takes and releases a free lock by itself; the kernel is called when there is
//! somebody to wait for or to wake.
//!
//! The waiters of a lock share one [`RtMutex`], which the first of them makes and says to be the owner's. It knows who goes
//! next and lends the owner their priority; [`sched::pi`] follows chains of locks. The bucket holds an entry per
//! waiter, by which others find the mutex. A thread leaves the bucket by itself when the mutex is its own ([`settle`]).
//!
//! # Who writes the word
//!
//! An unlock writes the heir's id and hands the mutex over in one step under the bucket's lock, so word and mutex agree
//! there. An owner that ends cannot write: it knows of the mutex, but not of the address. It marks the mutex
//! abandoned; its heir writes the word before it returns, and whoever looks at the word meanwhile queues.
//!
//! Locks: the bucket's → `sched::pi`'s.

use super::bucket::{Bucket, Entry, Kind, bucket, first, index_of, push, reserve};
use super::wait::peek;
use super::{Key, Scope};
use crate::memory::fault_in::fault_in_word;
use crate::process::{CurrentThread, Thread, current};
use abi::{Errno, Result, raw};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use arch::preempt::PreemptGuard;
use arch::uaccess::{NoFault, cmpxchg_u32};
use mm::fallible::try_arc;
use sched::pi::{Blocked, LockError, RtMutex};
use sched::{Deadline, Task};

/// Replaces the word under the bucket's lock. `None`: its page is not there (or not writable).
fn exchange(addr: usize, old: u32, new: u32) -> Option<bool> {
    let _no_faults = NoFault::new();
    cmpxchg_u32(addr, old, new).ok().map(|seen| seen == old)
}

/// Says in the word that somebody waits, so that the owner's unlock comes to the kernel; the new word. `None`: look again.
fn mark(addr: usize, word: u32) -> Option<u32> {
    let marked = word | raw::FUTEX_WAITERS;
    (marked == word || exchange(addr, word, marked) == Some(true)).then_some(marked)
}

/// What came of an attempt to take a lock.
pub(super) enum Claim {
    /// The word names the thread.
    Taken,
    /// Another thread has it: this is where to wait, and the word that said so.
    Held(Arc<RtMutex>, u32),
    /// Another thread has it, nobody waits yet, and no spare mutex was given.
    NoMutex,
    /// The word changed, or its page has to be fetched.
    Retry,
}

/// Takes the lock at `addr` for the thread that calls itself `tid`, or finds the mutex to wait for. `queue` is the locked
/// bucket of `key`; `waiters` is `FUTEX_WAITERS` if others are going to wait at once, else 0.
///
/// # Errors
/// `EDEADLK`: it has it already; `ESRCH`: the owner does not exist; `EPERM`: it is the kernel; `EINVAL`: the word does not
/// fit what the kernel knows.
pub(super) fn claim(
    queue: &VecDeque<Entry>,
    key: &Key,
    addr: usize,
    tid: u32,
    spare: &mut Option<Arc<RtMutex>>,
    waiters: u32,
) -> Result<Claim> {
    let Some(word) = peek(addr) else { return Ok(Claim::Retry) };
    let owner = word & raw::FUTEX_TID_MASK;
    if owner == tid {
        return Err(Errno::EDEADLK);
    }
    if let Some(top) = first(queue, key) {
        let Kind::Pi(mutex) = &top.kind else { return Err(Errno::EINVAL) };
        fits(mutex, word)?;
        // The entry may be that of the heir, who has not come back yet and for whom nobody waited: his word lacks the flag.
        return Ok(mark(addr, word).map_or(Claim::Retry, |marked| Claim::Held(mutex.clone(), marked)));
    }
    if owner == 0 {
        let new = tid | word & raw::FUTEX_OWNER_DIED | waiters;
        return Ok(if exchange(addr, word, new) == Some(true) { Claim::Taken } else { Claim::Retry });
    }
    if spare.is_none() {
        return Ok(Claim::NoMutex);
    }
    let Some(marked) = mark(addr, word) else { return Ok(Claim::Retry) };
    match current().pid_ns().task(owner as i32) {
        Some(task) if task.is_kthread() => Err(Errno::EPERM),
        Some(task) => Ok(spare.take().map_or(Claim::NoMutex, |mutex| {
            mutex.set_owner(task);
            Claim::Held(mutex, marked)
        })),
        None => gone(addr, marked),
    }
}

/// The owner that `word` named has ended. Its robust list was looked at before; if the word still names it, there was none.
pub(super) fn gone(addr: usize, word: u32) -> Result<Claim> {
    match peek(addr) {
        Some(now) if now == word => Err(Errno::ESRCH),
        _ => Ok(Claim::Retry),
    }
}

/// Whether the word names the owner of the mutex that its waiters share.
fn fits(mutex: &RtMutex, word: u32) -> Result<()> {
    let named = word & raw::FUTEX_TID_MASK;
    if mutex.is_abandoned() || named == 0 && word & raw::FUTEX_OWNER_DIED != 0 {
        return Ok(());
    }
    let owner = mutex.owner();
    let tid = owner.as_deref().and_then(|task| task.data::<Thread>()).map_or(0, Thread::tid);
    if tid as u32 == named { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Queues `task` for `mutex`, which holds the lock at `addr`, in the bucket that `queue` is the content of.
///
/// # Errors
/// `EDEADLK`, `ESRCH` (the owner has ended), `ENOMEM`.
pub(super) fn enqueue(
    queue: &mut VecDeque<Entry>,
    key: Key,
    task: &Arc<Task>,
    mutex: &Arc<RtMutex>,
) -> Result<(), LockError> {
    match mutex.block(task)? {
        Blocked::Waiting => {}
        // Waiters are never without an owner to wait for; the one that was says so when it settles.
        Blocked::Granted => mutex.set_owner(task.clone()),
    }
    let entry = Entry::new(key, task.clone(), Kind::Pi(mutex.clone()));
    // Room was made by the callers, who can say so if there is none.
    let _ = push(queue, entry);
    Ok(())
}

/// What to do when another thread has the lock.
#[derive(Clone, Copy)]
pub enum Busy {
    /// `FUTEX_TRYLOCK_PI`.
    Fail,
    /// Wait, until this time at most.
    Wait(Option<Deadline>),
}

/// Takes the lock at `addr`.
///
/// # Errors
/// Those of [`claim`]; `EAGAIN`: busy; `EDEADLK`: the owner waits for us; `ETIMEDOUT`, `ERESTARTNOINTR`, `EFAULT`, `ENOMEM`.
pub fn lock(addr: usize, scope: Scope, busy: Busy) -> Result<()> {
    let me = current();
    let key = Key::of(addr, scope)?;
    let mut spare = None;
    loop {
        match attempt(&me, key, addr, busy, &mut spare)? {
            Some(Blocked::Granted) => return Ok(()),
            Some(Blocked::Waiting) => break,
            None => {
                let had_one = spare.replace(try_arc(RtMutex::new())?).is_some();
                if had_one {
                    look_again(&me, addr)?;
                }
            }
        }
    }
    let Busy::Wait(deadline) = busy else { return Err(Errno::EAGAIN) };
    let timed_out = crate::time::sleep::wait_until(deadline, || !me.task().waits_for_mutex());
    match settle(&me, addr)? {
        Settled::Taken => Ok(()),
        _ if timed_out => Err(Errno::ETIMEDOUT),
        _ => Err(Errno::ERESTARTNOINTR),
    }
}

/// One look at the word under the bucket's lock. `None`: again, with a spare mutex.
fn attempt(
    me: &CurrentThread,
    key: Key,
    addr: usize,
    busy: Busy,
    spare: &mut Option<Arc<RtMutex>>,
) -> Result<Option<Blocked>> {
    let index = index_of(&key);
    let place: &Bucket = bucket(index);
    let mut queue = place.lock_to_wait();
    let result = (|| {
        reserve(&mut queue)?;
        match claim(&queue, &key, addr, me.tid() as u32, spare, 0)? {
            Claim::Taken => Ok(Some(Blocked::Granted)),
            Claim::NoMutex | Claim::Retry => Ok(None),
            Claim::Held(mutex, word) => {
                let queued = match busy {
                    Busy::Fail => Err(Errno::EAGAIN),
                    Busy::Wait(_) => match enqueue(&mut queue, key, &me.task_arc(), &mutex) {
                        Ok(()) => Ok(Some(Blocked::Waiting)),
                        Err(LockError::OwnerEnded) => gone(addr, word).map(|_| None),
                        Err(error) => Err(error.into()),
                    },
                };
                if matches!(queued, Ok(Some(_))) {
                    me.futex.start(index);
                }
                // Its owner may have ended: for dropping without the lock.
                *spare = Some(mutex);
                queued
            }
        }
    })();
    drop(queue);
    if !matches!(result, Ok(Some(Blocked::Waiting))) {
        place.leave(1);
    }
    result
}

/// Before another look at the word: fetches its page.
pub(super) fn look_again(me: &CurrentThread, addr: usize) -> Result<()> {
    fault_in_word(addr)?;
    if me.task().has_fatal_signal() {
        return Err(Errno::EINTR);
    }
    sched::cond_resched();
    Ok(())
}

/// How a wait ended.
pub(super) enum Settled {
    /// The lock is ours.
    Taken,
    /// It is not, and we wait no more.
    Withdrawn,
    /// We never came to wait for the lock (`FUTEX_WAIT_REQUEUE_PI`).
    NotRequeued,
}

/// Ends the wait of the running thread, whatever it was woken by: takes it out of its bucket. If an owner that ended left the
/// lock to it, the word at `addr` says so.
///
/// # Errors
/// `EFAULT`: it could not be written; the lock goes to the next one.
pub(super) fn settle(me: &CurrentThread, addr: usize) -> Result<Settled> {
    loop {
        let index = me.futex.bucket();
        let place = bucket(index);
        let mut queue = place.lock();
        if me.futex.is_woken() {
            me.futex.finish();
            return Ok(Settled::Taken);
        }
        if me.futex.bucket() != index {
            // Requeued between the look and the lock.
            continue;
        }
        let Some(at) =
            queue.iter().position(|e| e.notify.is_none() && core::ptr::eq(&raw const *e.task, me.task()))
        else {
            me.futex.finish();
            return Ok(Settled::Withdrawn);
        };
        let (key, mutex) = match queue.get(at) {
            Some(Entry { key, kind: Kind::Pi(mutex), .. }) => (*key, Some(mutex.clone())),
            Some(Entry { key, .. }) => (*key, None),
            None => continue,
        };
        let mut result = match &mutex {
            None => Ok(Settled::NotRequeued),
            Some(mutex) if mutex.withdraw(me.task()) => Ok(Settled::Withdrawn),
            Some(_) => Ok(Settled::Taken),
        };
        if let (Some(mutex), Ok(Settled::Taken)) = (&mutex, &result)
            && mutex.is_abandoned()
        {
            if !inherit(me, &queue, &key, addr) {
                drop(queue);
                if look_again(me, addr).is_ok() {
                    continue;
                }
                queue = place.lock();
                result = Err(Errno::EFAULT);
            } else {
                mutex.take_abandoned();
            }
        }
        let mine =
            queue.iter().position(|e| e.notify.is_none() && core::ptr::eq(&raw const *e.task, me.task()));
        let entry = mine.and_then(|at| queue.remove(at));
        drop(queue);
        place.leave(usize::from(entry.is_some()));
        me.futex.finish();
        // References are dropped outside of the lock.
        drop(entry);
        if let (Some(mutex), true) = (mutex, result.is_err()) {
            mutex.unlock()?;
        }
        return result;
    }
}

/// Writes our id over that of the owner who ended.
fn inherit(me: &CurrentThread, queue: &VecDeque<Entry>, key: &Key, addr: usize) -> bool {
    let Some(word) = peek(addr) else { return false };
    let new = me.tid() as u32 | raw::FUTEX_OWNER_DIED | waiters_but(queue, key, me.task());
    exchange(addr, word, new) == Some(true)
}

/// `FUTEX_WAITERS` if somebody else than `task` waits for the lock.
fn waiters_but(queue: &VecDeque<Entry>, key: &Key, task: &Task) -> u32 {
    let others = queue.iter().any(|e| e.key == *key && !core::ptr::eq(&raw const *e.task, task));
    if others { raw::FUTEX_WAITERS } else { 0 }
}

/// Releases the lock at `addr`.
///
/// # Errors
/// `EPERM`: it is not ours; `EINVAL`: it is not a lock; `EFAULT`.
pub fn unlock(addr: usize, scope: Scope) -> Result<()> {
    let me = current();
    // Before anything else about the word, as Linux.
    let word = arch::uaccess::get_u32(addr).map_err(|_| Errno::EFAULT)?;
    if word & raw::FUTEX_TID_MASK != me.tid() as u32 {
        return Err(Errno::EPERM);
    }
    let key = Key::of(addr, scope)?;
    loop {
        // With the lock the borrowed priority goes: see `RtMutex::hand_over`.
        let until_woken = PreemptGuard::new();
        let queue = bucket(index_of(&key)).lock();
        let released = release(&me, &queue, &key, addr);
        drop(queue);
        if let Some(heir) = released? {
            if let Some(heir) = heir {
                sched::wake_up(&heir);
            }
            return Ok(());
        }
        drop(until_woken);
        look_again(&me, addr).map_err(|_| Errno::EFAULT)?;
    }
}

/// Gives the lock to the next one, or frees the word. `None`: look again.
fn release(
    me: &CurrentThread,
    queue: &VecDeque<Entry>,
    key: &Key,
    addr: usize,
) -> Result<Option<Option<Arc<Task>>>> {
    let Some(word) = peek(addr) else { return Ok(None) };
    if word & raw::FUTEX_TID_MASK != me.tid() as u32 {
        return Err(Errno::EPERM);
    }
    let Some(top) = first(queue, key) else {
        return Ok((exchange(addr, word, 0) == Some(true)).then_some(None));
    };
    let Kind::Pi(mutex) = &top.kind else { return Err(Errno::EINVAL) };
    let is_mine = mutex.owner().is_some_and(|owner| core::ptr::eq(&raw const *owner, me.task()));
    let heir = mutex.next_owner().filter(|_| is_mine).ok_or(Errno::EINVAL)?;
    let tid = heir.data::<Thread>().map_or(0, Thread::tid) as u32;
    if exchange(addr, word, tid | waiters_but(queue, key, &heir)) != Some(true) {
        return Ok(None);
    }
    mutex.hand_over(Some(&heir)).map(Some)
}
