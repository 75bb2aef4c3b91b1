//! Sleeping locks: [`Mutex`], and by re-export [`RwSemaphore`] and [`Semaphore`].
//!
//! # The mutex
//!
//! One word holds the owner's task pointer and three flags. Taking a free mutex and releasing one
//! that nobody waits for is one compare-and-swap each. A task that finds it held spins as long as
//! the owner is running on a CPU (it will be done soon), then queues and sleeps. A sleeper that is
//! first in the queue, was woken and found the mutex taken again asks for a *hand-off*: the next
//! release gives it the mutex directly, so nobody starves.
//!
//! Mutexes are owned: only the task that locked may unlock (the guard is not `Send`). They must not
//! be taken in interrupt handlers or with preemption off. Lock order: any mutex is outside of all
//! spin locks.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use arch::preempt::PreemptGuard;
use arch::sync::SpinLock;

pub use crate::rwsem::{RwSemaphore, RwSemaphoreReadGuard, RwSemaphoreWriteGuard};
pub use crate::semaphore::Semaphore;
use crate::state::{Interrupted, State};
use crate::task::{Task, current};
use crate::waiter::{Waiter, WaiterList};
use crate::{Current, lockcheck};

/// Somebody sleeps in the queue.
const WAITERS: usize = 1;
/// The first sleeper wants the mutex to be handed over.
const HANDOFF: usize = 2;
/// The owner in the word has been handed the mutex and has not noticed yet.
const PICKUP: usize = 4;
const FLAGS: usize = WAITERS | HANDOFF | PICKUP;

/// Mutual exclusion by sleeping.
pub struct Mutex<T: ?Sized> {
    owner: AtomicUsize,
    waiters: SpinLock<WaiterList<()>>,
    class: lockcheck::Class,
    data: UnsafeCell<T>,
}

// SAFETY: the mutex hands `&mut T` to one task at a time.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free mutex.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self {
            owner: AtomicUsize::new(0),
            waiters: crate::waiter::new_queue(),
            class: lockcheck::Class::here(),
            data: UnsafeCell::new(value),
        }
    }

    /// The value of a mutex that nobody else can hold any more.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the mutex; signals do not end the wait.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.before_lock();
        let task = current();
        if !self.try_fast(&task) {
            // Uninterruptible: cannot fail.
            let _ = self.lock_slow(&task, State::UNINTERRUPTIBLE);
        }
        self.guard()
    }

    /// Takes the mutex unless a signal comes first.
    #[inline]
    #[track_caller]
    pub fn lock_interruptible(&self) -> Result<MutexGuard<'_, T>, Interrupted> {
        self.before_lock();
        let task = current();
        if !self.try_fast(&task) {
            self.lock_slow(&task, State::INTERRUPTIBLE)?;
        }
        Ok(self.guard())
    }

    /// Takes the mutex unless a fatal signal comes first.
    #[inline]
    #[track_caller]
    pub fn lock_killable(&self) -> Result<MutexGuard<'_, T>, Interrupted> {
        self.before_lock();
        let task = current();
        if !self.try_fast(&task) {
            self.lock_slow(&task, State::KILLABLE)?;
        }
        Ok(self.guard())
    }

    /// Takes the mutex if it is free now.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let task = current();
        self.try_acquire(&task, 0).then(|| {
            lockcheck::acquired_try(&self.class, self.address());
            self.guard()
        })
    }

    /// Whether somebody holds the mutex at this moment.
    pub fn is_locked(&self) -> bool {
        self.owner.load(Ordering::Relaxed) & !FLAGS != 0
    }

    /// The value, without locking: the borrow proves that nobody else can see it.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    #[inline(always)]
    #[track_caller]
    fn before_lock(&self) {
        crate::might_sleep();
        lockcheck::acquire(&self.class, self.address());
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(&self.owner).addr()
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, not_send: PhantomData }
    }

    #[inline(always)]
    fn try_fast(&self, task: &Current) -> bool {
        self.owner.compare_exchange(0, word(task), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes a free mutex, or one that was handed to this task, keeping `keep | WAITERS` flags.
    fn try_acquire(&self, task: &Current, keep: usize) -> bool {
        let mut seen = self.owner.load(Ordering::Relaxed);
        loop {
            let owner = seen & !FLAGS;
            if owner != 0 && (owner != word(task) || seen & PICKUP == 0) {
                return false;
            }
            let new = word(task) | (seen & (WAITERS | keep));
            match self.owner.compare_exchange_weak(seen, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn lock_slow(&self, task: &Current, state: State) -> Result<(), Interrupted> {
        if self.spin_on_owner(task) {
            return Ok(());
        }
        let waiter = Waiter::new(task, ());
        let mut waiters = self.waiters.lock();
        // SAFETY: removed below before this function returns.
        unsafe { waiters.push(&waiter) };
        self.owner.fetch_or(WAITERS, Ordering::Relaxed);
        let result = loop {
            task.set_state(state);
            if self.try_acquire(task, 0) {
                break Ok(());
            }
            if task.signal_pending_state(state) {
                break Err(Interrupted);
            }
            drop(waiters);
            crate::schedule();
            waiters = self.waiters.lock();
            if waiters.is_first(&waiter) && !self.try_acquire(task, 0) {
                self.owner.fetch_or(HANDOFF, Ordering::Relaxed);
            } else if self.owned_by(task) {
                break Ok(());
            }
        };
        task.set_running();
        let was_first = waiters.is_first(&waiter);
        // SAFETY: pushed above and removed nowhere else.
        unsafe { waiters.remove(&waiter) };
        if waiters.is_empty() {
            self.owner.fetch_and(!(WAITERS | HANDOFF), Ordering::Relaxed);
        } else if was_first && result.is_err() {
            // The wake-up that was ours goes to the next in line.
            self.wake_first(&waiters);
        }
        if result.is_err() {
            lockcheck::release(&self.class, self.address());
        }
        result
    }

    fn owned_by(&self, task: &Current) -> bool {
        let seen = self.owner.load(Ordering::Relaxed);
        seen & !FLAGS == word(task) && seen & PICKUP == 0
    }

    /// Spins while the owner runs; whether the mutex was taken.
    fn spin_on_owner(&self, task: &Current) -> bool {
        let _rcu = PreemptGuard::new();
        loop {
            let seen = self.owner.load(Ordering::Relaxed);
            let owner = seen & !FLAGS;
            if owner == 0 {
                if seen & HANDOFF != 0 {
                    return false;
                }
                if self.try_acquire(task, HANDOFF) {
                    return true;
                }
                continue;
            }
            // SAFETY: an owner is a live task, and tasks are freed only after an RCU grace period,
            // which preemption being off holds back.
            let running = unsafe { &*core::ptr::with_exposed_provenance::<Task>(owner) }.is_on_cpu();
            if !running || arch::preempt::need_resched() || !crate::platform::SPIN_ON_OWNER {
                return false;
            }
            arch::cpu::relax();
        }
    }

    #[inline(always)]
    fn unlock(&self) {
        lockcheck::release(&self.class, self.address());
        let task = word(&current());
        if self.owner.compare_exchange(task, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn unlock_slow(&self) {
        let mut seen = self.owner.load(Ordering::Relaxed);
        while seen & HANDOFF == 0 {
            match self.owner.compare_exchange_weak(seen, seen & FLAGS, Ordering::Release, Ordering::Relaxed) {
                Ok(_) if seen & WAITERS == 0 => return,
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let waiters = self.waiters.lock();
        if seen & HANDOFF != 0 {
            // We still own it: pass it on, or open it if the sleeper has gone meanwhile.
            let (next, flags) = match waiters.first() {
                Some(first) => (first.task().as_ptr().expose_provenance(), WAITERS | PICKUP),
                None => (0, 0),
            };
            self.owner.store(next | flags, Ordering::Release);
        }
        self.wake_first(&waiters);
    }

    fn wake_first(&self, waiters: &WaiterList<()>) {
        if let Some(first) = waiters.first() {
            let task: NonNull<Task> = first.task();
            // SAFETY: it is in the queue, which it cannot leave while we hold the queue's lock.
            crate::wake_up_state(unsafe { task.as_ref() }, State::NORMAL);
        }
    }
}

#[inline(always)]
fn word(task: &Current) -> usize {
    core::ptr::from_ref::<Task>(task).expose_provenance()
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_tuple("Mutex").field(&&*guard).finish(),
            None => f.write_str("Mutex(<locked>)"),
        }
    }
}

/// A held [`Mutex`].
#[must_use = "the mutex is released as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this task holds the mutex.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this task holds the mutex and the guard is borrowed mutably.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
