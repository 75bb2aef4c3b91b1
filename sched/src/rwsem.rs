//! The sleeping reader-writer lock.
//!
//! Free or read-held with nobody waiting: one compare-and-swap. Otherwise tasks queue in the order
//! they came and are *handed* the lock: a release gives it to the first writer, or to all readers
//! up to the next writer. Once somebody waits, newcomers queue behind, so neither side starves. A
//! writer that finds another writer running spins for a while first.
//!
//! A reader must not take the same lock for reading again while it holds it.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use arch::preempt::PreemptGuard;
use arch::sync::SpinLock;

use crate::lockcheck;
use crate::state::{Interrupted, State};
use crate::task::{Task, current};
use crate::waiter::{Waiter, WaiterList};

const WRITER: usize = 1;
const WAITERS: usize = 2;
const READER: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// Many readers or one writer, by sleeping.
pub struct RwSemaphore<T: ?Sized> {
    state: AtomicUsize,
    /// The writer inside, for spinning; null if there is none.
    owner: AtomicPtr<Task>,
    waiters: SpinLock<WaiterList<Kind>>,
    class: lockcheck::Class,
    data: UnsafeCell<T>,
}

// SAFETY: access to `T` is shared between readers or exclusive to one writer.
unsafe impl<T: ?Sized + Send> Send for RwSemaphore<T> {}
// SAFETY: readers share `&T`.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwSemaphore<T> {}

impl<T> RwSemaphore<T> {
    /// A free lock.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self {
            state: AtomicUsize::new(0),
            owner: AtomicPtr::new(core::ptr::null_mut()),
            waiters: crate::waiter::new_queue(),
            class: lockcheck::Class::here(),
            data: UnsafeCell::new(value),
        }
    }

    /// The value of a lock that nobody else can hold any more.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> RwSemaphore<T> {
    /// Takes the lock for reading.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwSemaphoreReadGuard<'_, T> {
        self.before_lock();
        if !self.try_read_raw() {
            let _ = self.slow(Kind::Read, State::UNINTERRUPTIBLE);
        }
        self.read_guard()
    }

    /// Takes the lock for reading unless a fatal signal comes first.
    #[track_caller]
    pub fn read_killable(&self) -> Result<RwSemaphoreReadGuard<'_, T>, Interrupted> {
        self.before_lock();
        if !self.try_read_raw() {
            self.slow(Kind::Read, State::KILLABLE)?;
        }
        Ok(self.read_guard())
    }

    /// Takes the lock for reading unless a signal comes first.
    #[track_caller]
    pub fn read_interruptible(&self) -> Result<RwSemaphoreReadGuard<'_, T>, Interrupted> {
        self.before_lock();
        if !self.try_read_raw() {
            self.slow(Kind::Read, State::INTERRUPTIBLE)?;
        }
        Ok(self.read_guard())
    }

    /// Takes the lock for reading if no writer holds it and nobody waits.
    pub fn try_read(&self) -> Option<RwSemaphoreReadGuard<'_, T>> {
        self.try_read_raw().then(|| {
            lockcheck::acquired_try(&self.class, self.address());
            self.read_guard()
        })
    }

    /// Takes the lock for writing.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwSemaphoreWriteGuard<'_, T> {
        self.before_lock();
        if !self.try_write_raw() && !self.spin_on_owner() {
            let _ = self.slow(Kind::Write, State::UNINTERRUPTIBLE);
        }
        self.write_guard()
    }

    /// Takes the lock for writing while another of its class is held, in an order that the caller
    /// guarantees (parent directory before child).
    #[inline]
    #[track_caller]
    pub fn write_nested(&self) -> RwSemaphoreWriteGuard<'_, T> {
        crate::might_sleep();
        lockcheck::acquire_nested(&self.class, self.address());
        if !self.try_write_raw() && !self.spin_on_owner() {
            let _ = self.slow(Kind::Write, State::UNINTERRUPTIBLE);
        }
        self.write_guard()
    }

    /// Takes the lock for writing unless a fatal signal comes first.
    #[track_caller]
    pub fn write_killable(&self) -> Result<RwSemaphoreWriteGuard<'_, T>, Interrupted> {
        self.before_lock();
        if !self.try_write_raw() && !self.spin_on_owner() {
            self.slow(Kind::Write, State::KILLABLE)?;
        }
        Ok(self.write_guard())
    }

    /// Takes the lock for writing unless a signal comes first.
    #[track_caller]
    pub fn write_interruptible(&self) -> Result<RwSemaphoreWriteGuard<'_, T>, Interrupted> {
        self.before_lock();
        if !self.try_write_raw() && !self.spin_on_owner() {
            self.slow(Kind::Write, State::INTERRUPTIBLE)?;
        }
        Ok(self.write_guard())
    }

    /// Takes the lock for writing if it is free.
    pub fn try_write(&self) -> Option<RwSemaphoreWriteGuard<'_, T>> {
        self.try_write_raw().then(|| {
            lockcheck::acquired_try(&self.class, self.address());
            self.write_guard()
        })
    }

    /// Whether anybody holds the lock at this moment.
    pub fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) & !WAITERS != 0
    }

    /// Whether a writer holds the lock at this moment.
    pub fn is_write_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) & WRITER != 0
    }

    /// Whether somebody waits: a long holder should let go for a moment.
    pub fn is_contended(&self) -> bool {
        self.state.load(Ordering::Relaxed) & WAITERS != 0
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
        core::ptr::from_ref(&self.state).addr()
    }

    fn read_guard(&self) -> RwSemaphoreReadGuard<'_, T> {
        RwSemaphoreReadGuard { lock: self, not_send: PhantomData }
    }

    fn write_guard(&self) -> RwSemaphoreWriteGuard<'_, T> {
        self.owner.store(core::ptr::from_ref::<Task>(&current()).cast_mut(), Ordering::Relaxed);
        RwSemaphoreWriteGuard { lock: self, not_send: PhantomData }
    }

    #[inline(always)]
    fn try_read_raw(&self) -> bool {
        let mut seen = self.state.load(Ordering::Relaxed);
        while seen & (WRITER | WAITERS) == 0 {
            match self.state.compare_exchange_weak(seen, seen + READER, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    #[inline(always)]
    fn try_write_raw(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Spins while a writer runs and nobody waits; whether the lock was taken.
    fn spin_on_owner(&self) -> bool {
        let _rcu = PreemptGuard::new();
        loop {
            if self.try_write_raw() {
                return true;
            }
            // SAFETY: owners are live tasks, freed only after an RCU grace period, which preemption
            // being off holds back.
            let running = unsafe { self.owner.load(Ordering::Relaxed).as_ref() }.is_some_and(Task::is_on_cpu);
            let seen = self.state.load(Ordering::Relaxed);
            if seen & WAITERS != 0
                || seen & WRITER == 0 && seen != 0
                || !running
                || arch::preempt::need_resched()
                || !crate::platform::SPIN_ON_OWNER
            {
                return false;
            }
            arch::cpu::relax();
        }
    }

    #[cold]
    #[inline(never)]
    fn slow(&self, kind: Kind, state: State) -> Result<(), Interrupted> {
        let task = current();
        let waiter = Waiter::new(&task, kind);
        {
            let mut waiters = self.waiters.lock();
            // From here on whoever releases comes to `waiters`, which we hold.
            self.state.fetch_or(WAITERS, Ordering::Relaxed);
            // SAFETY: granted (and removed) or removed below before this function returns.
            unsafe { waiters.push(&waiter) };
            self.grant(&mut waiters);
        }
        loop {
            task.set_state(state);
            if waiter.is_granted() {
                break;
            }
            if task.signal_pending_state(state) {
                let mut waiters = self.waiters.lock();
                if waiter.is_granted() {
                    break;
                }
                // SAFETY: not granted, so still linked.
                unsafe { waiters.remove(&waiter) };
                // Those behind us may go ahead now.
                self.grant(&mut waiters);
                drop(waiters);
                task.set_running();
                lockcheck::release(&self.class, self.address());
                return Err(Interrupted);
            }
            crate::schedule();
        }
        task.set_running();
        Ok(())
    }

    /// Hands the lock to those at the head of the queue who can have it now.
    fn grant(&self, waiters: &mut WaiterList<Kind>) {
        while let Some(first) = waiters.first() {
            let seen = self.state.load(Ordering::Relaxed);
            match first.kind {
                Kind::Write => {
                    // Newcomers stay away while WAITERS is set; only releases can interfere.
                    if seen & !WAITERS != 0 {
                        break;
                    }
                    self.state.fetch_or(WRITER, Ordering::Acquire);
                    waiters.grant_first();
                    break;
                }
                Kind::Read => {
                    if seen & WRITER != 0 {
                        break;
                    }
                    self.state.fetch_add(READER, Ordering::Acquire);
                    waiters.grant_first();
                }
            }
        }
        if waiters.is_empty() {
            self.state.fetch_and(!WAITERS, Ordering::Relaxed);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        let mut waiters = self.waiters.lock();
        self.grant(&mut waiters);
    }

    #[inline(always)]
    fn release_read(&self) {
        lockcheck::release(&self.class, self.address());
        let before = self.state.fetch_sub(READER, Ordering::Release);
        if before - READER == WAITERS {
            self.wake();
        }
    }

    #[inline(always)]
    fn release_write(&self) {
        lockcheck::release(&self.class, self.address());
        self.owner.store(core::ptr::null_mut(), Ordering::Relaxed);
        if self.state.fetch_and(!WRITER, Ordering::Release) & WAITERS != 0 {
            self.wake();
        }
    }
}

impl<T: Default> Default for RwSemaphore<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwSemaphore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(guard) => f.debug_tuple("RwSemaphore").field(&&*guard).finish(),
            None => f.write_str("RwSemaphore(<locked>)"),
        }
    }
}

/// An [`RwSemaphore`] held for reading.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RwSemaphoreReadGuard<'a, T: ?Sized> {
    lock: &'a RwSemaphore<T>,
    not_send: PhantomData<*mut ()>,
}

impl<T: ?Sized> Deref for RwSemaphoreReadGuard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: a reader is inside, so no writer is.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwSemaphoreReadGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.release_read();
    }
}

/// An [`RwSemaphore`] held for writing.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RwSemaphoreWriteGuard<'a, T: ?Sized> {
    lock: &'a RwSemaphore<T>,
    not_send: PhantomData<*mut ()>,
}

impl<'a, T: ?Sized> RwSemaphoreWriteGuard<'a, T> {
    /// Becomes a reader without letting another writer in between.
    pub fn downgrade(self) -> RwSemaphoreReadGuard<'a, T> {
        let lock = self.lock;
        core::mem::forget(self);
        lock.owner.store(core::ptr::null_mut(), Ordering::Relaxed);
        if lock.state.fetch_add(READER - WRITER, Ordering::Release) & WAITERS != 0 {
            lock.wake();
        }
        lock.read_guard()
    }
}

impl<T: ?Sized> Deref for RwSemaphoreWriteGuard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the writer is alone inside.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwSemaphoreWriteGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the writer is alone inside and the guard is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwSemaphoreWriteGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.release_write();
    }
}
