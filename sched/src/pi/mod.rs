//! Priority inheritance: [`RtMutex`], whose owner runs with the priority of the most important task that
//! waits for it.
//!
//! A boost travels: if the owner itself waits for another `RtMutex`, that one's owner is boosted too, and
//! so on ([`chain`]). The mutex is handed over: a release gives it to a waiter, normally the most important one. It
//! guards no data; it stands for something else, such as a futex (`FUTEX_LOCK_PI` in futex(2)), whose uncontended path
//! is in user space. So one lock over all mutexes is enough here.
//!
//! # Parts
//!
//! - A task waits for one mutex at most, so what a waiter is lives in the task ([`PiState`]): nothing is allocated, and
//!   a third task can queue it ([`RtMutex::block`], what `FUTEX_CMP_REQUEUE_PI` needs).
//! - Waiters keep their mutex alive and the mutex keeps its waiters and its owner alive; a task's list of owned
//!   mutexes holds those with waiters only. So plain pointers between them are sound under [`CHAINS`].
//! - Sleeping is for the caller: a task that was queued sleeps until [`Task::waits_for_mutex`] is false, and may
//!   withdraw ([`RtMutex::withdraw`]), which tells it if the mutex came first.
//! - A task that ends gives away what it owns ([`Current::abandon_mutexes`]); the heir hears of it
//!   ([`RtMutex::take_abandoned`]).
//!
//! Locks: [`CHAINS`] (interrupts off) is outside of `pi_lock` and the run queues'. Nothing is dropped under it.

mod chain;
mod queue;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::cell::{Cell, UnsafeCell};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use arch::preempt::PreemptGuard;
use arch::sync::{Irq, SpinLockIrq};
use sync::SpinLockGuard;

use crate::hrtimer::{Deadline, SleepTimer};
use crate::state::State;
use crate::task::{Current, Task, current};
use chain::Importance;
pub(crate) use chain::{parameters_changed, publish_rank};

/// Protects the owner, the waiters and the owned list of every mutex.
static CHAINS: SpinLockIrq<()> = SpinLockIrq::new(());

/// Shows that [`CHAINS`] is held.
pub(crate) struct Chains(#[allow(dead_code)] SpinLockGuard<'static, (), Irq>);

/// Takes [`CHAINS`].
pub(crate) fn lock_chains() -> Chains {
    Chains(CHAINS.lock())
}

/// A task's part in the chains; protected by [`CHAINS`], except for `waiting`.
#[derive(Debug)]
pub(crate) struct PiState {
    /// What it waits for.
    blocked_on: UnsafeCell<Option<Arc<RtMutex>>>,
    /// Its neighbours among the waiters of that mutex.
    prev: Cell<*const Task>,
    next: Cell<*const Task>,
    /// What it is queued by.
    key: Cell<Importance>,
    /// The mutexes it owns that have waiters.
    owned: Cell<*const RtMutex>,
    /// What it inherits at the moment.
    boost: Cell<Option<Importance>>,
    /// Its own absolute deadline while it runs with an inherited one.
    own_deadline: Cell<u64>,
    /// Will own nothing any more.
    ended: Cell<bool>,
    /// `blocked_on` is set; false only after all changes that the grant of a mutex makes.
    waiting: AtomicBool,
}

// SAFETY: the cells are used under `CHAINS` only.
unsafe impl Send for PiState {}

impl PiState {
    pub(crate) const fn new() -> Self {
        Self {
            blocked_on: UnsafeCell::new(None),
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            key: Cell::new(Importance::LEAST),
            owned: Cell::new(ptr::null()),
            boost: Cell::new(None),
            own_deadline: Cell::new(0),
            ended: Cell::new(false),
            waiting: AtomicBool::new(false),
        }
    }
}

/// A task's [`PiState`]. Its cells are used under `CHAINS`, which the callers hold.
fn state(task: &Task) -> &PiState {
    // SAFETY: the cells in it are used under `CHAINS` only; `pi_lock` itself never hands out `&mut`.
    unsafe { &*task.pi_lock.data_ptr() }
}

/// Why an [`RtMutex`] was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockError {
    /// A signal came first.
    Interrupted,
    /// The deadline came first.
    TimedOut,
    /// Waiting would never end: the owner waits, directly or not, for the caller.
    Deadlock,
    /// The owner has ended and given away all that it knew of.
    OwnerEnded,
}

impl From<LockError> for abi::Errno {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Interrupted => Self::ERESTARTNOINTR,
            LockError::TimedOut => Self::ETIMEDOUT,
            LockError::Deadlock => Self::EDEADLK,
            LockError::OwnerEnded => Self::ESRCH,
        }
    }
}

/// What [`RtMutex::block`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The task owns the mutex.
    Granted,
    /// It is queued.
    Waiting,
}

/// A mutex with priority inheritance.
#[derive(Debug)]
pub struct RtMutex {
    owner: UnsafeCell<Option<Arc<Task>>>,
    /// The waiters, the most important first.
    head: Cell<*const Task>,
    tail: Cell<*const Task>,
    /// The next mutex with waiters of the same owner.
    next_owned: Cell<*const RtMutex>,
    /// The last owner ended without releasing it.
    abandoned: Cell<bool>,
}

// SAFETY: all fields are used under `CHAINS` only.
unsafe impl Send for RtMutex {}
// SAFETY: as above.
unsafe impl Sync for RtMutex {}

impl RtMutex {
    /// A free mutex.
    pub const fn new() -> Self {
        Self {
            owner: UnsafeCell::new(None),
            head: Cell::new(ptr::null()),
            tail: Cell::new(ptr::null()),
            next_owned: Cell::new(ptr::null()),
            abandoned: Cell::new(false),
        }
    }

    /// Says who holds a mutex that was free (a futex that was locked in user space).
    pub fn set_owner(&self, owner: Arc<Task>) {
        let chains = lock_chains();
        let old = self.replace_owner(Some(owner));
        drop(chains);
        drop(old);
    }

    /// Who holds it.
    pub fn owner(&self) -> Option<Arc<Task>> {
        let _chains = lock_chains();
        self.holder().map(Task::to_arc)
    }

    /// Who would get it next.
    pub fn next_owner(&self) -> Option<Arc<Task>> {
        let _chains = lock_chains();
        self.top().map(Task::to_arc)
    }

    /// Whether the owner before this one ended without releasing it, and nobody was told yet.
    pub fn is_abandoned(&self) -> bool {
        let _chains = lock_chains();
        self.abandoned.get()
    }

    /// The same, for the one who is told.
    pub fn take_abandoned(&self) -> bool {
        let _chains = lock_chains();
        self.abandoned.take()
    }

    /// The owner, under `CHAINS`.
    fn holder(&self) -> Option<&Task> {
        // SAFETY: callers hold `CHAINS`, under which the cell changes.
        unsafe { (*self.owner.get()).as_deref() }
    }

    /// Changes the owner, under `CHAINS`; what it returns is for dropping outside of it.
    fn replace_owner(&self, owner: Option<Arc<Task>>) -> Option<Arc<Task>> {
        // SAFETY: callers hold `CHAINS`; the reference into the cell ends here.
        unsafe { core::mem::replace(&mut *self.owner.get(), owner) }
    }

    /// Takes the mutex for the running task if it is free.
    pub fn try_lock(&self) -> bool {
        let _chains = lock_chains();
        let free = self.holder().is_none();
        if free {
            self.replace_owner(Some(current().to_arc()));
        }
        free
    }

    /// Takes the mutex for `task` if it is free, else queues the task and lends its priority to the owner. A task
    /// that is queued must not run anything but its wait for the mutex.
    ///
    /// # Errors
    /// [`LockError::Deadlock`], [`LockError::OwnerEnded`].
    pub fn block(self: &Arc<Self>, task: &Arc<Task>) -> Result<Blocked, LockError> {
        let chains = lock_chains();
        let Some(holder) = self.holder() else {
            self.replace_owner(Some(task.clone()));
            return Ok(Blocked::Granted);
        };
        if state(holder).ended.get() {
            return Err(LockError::OwnerEnded);
        }
        if state(task).waiting.load(Ordering::Relaxed) || chain::leads_to(&chains, holder, task) {
            return Err(LockError::Deadlock);
        }
        state(task).key.set(chain::importance(&chains, task));
        self.link(task.clone());
        // SAFETY: `CHAINS` is held and nobody else has a reference into the cell.
        unsafe { *state(task).blocked_on.get() = Some(self.clone()) };
        state(task).waiting.store(true, Ordering::Relaxed);
        self.note_owned(holder);
        chain::propagate(&chains, holder);
        Ok(Blocked::Waiting)
    }

    /// Takes a waiter out again. `false`: it is none, because the mutex was granted to it.
    pub fn withdraw(&self, task: &Task) -> bool {
        let chains = lock_chains();
        if !state(task).waiting.load(Ordering::Relaxed) {
            return false;
        }
        let Some(waiter) = self.unlink(task) else { return false };
        // SAFETY: as in `block`.
        let mutex = unsafe { (*state(task).blocked_on.get()).take() };
        state(task).waiting.store(false, Ordering::Relaxed);
        if let Some(holder) = self.holder() {
            if self.head.get().is_null() {
                self.forget_owned(holder);
            }
            chain::propagate(&chains, holder);
        }
        drop(chains);
        drop((waiter, mutex));
        true
    }

    /// Releases the mutex, which the running task owns, and gives it to `heir`, one of its waiters (`None`: the
    /// most important one, if there is any). Returns who got it, and is to be woken. The caller's borrowed priority ends: it
    /// must not be preempted before it has woken the heir, or a task between the two in importance holds up both.
    ///
    /// # Errors
    /// `EPERM` if the running task does not own it.
    pub fn hand_over(&self, heir: Option<&Task>) -> abi::Result<Option<Arc<Task>>> {
        self.hand_over_from(&current(), heir)
    }

    fn hand_over_from(&self, task: &Task, heir: Option<&Task>) -> abi::Result<Option<Arc<Task>>> {
        let chains = lock_chains();
        if !self.holder().is_some_and(|owner| ptr::eq(owner, task)) {
            return Err(abi::Errno::EPERM);
        }
        let old = self.replace_owner(None);
        self.forget_owned(task);
        let granted = self.grant(&chains, heir);
        chain::propagate(&chains, task);
        drop(chains);
        drop(old);
        Ok(granted.map(|(heir, _mutex)| heir))
    }

    /// Makes a waiter of the free mutex its owner. The references are for dropping outside of the lock.
    fn grant(&self, chains: &Chains, heir: Option<&Task>) -> Option<(Arc<Task>, Option<Arc<Self>>)> {
        let heir = heir.filter(|task| self.has_waiter(task)).or_else(|| self.top())?;
        let heir = self.unlink(heir)?;
        self.replace_owner(Some(heir.clone()));
        // SAFETY: as in `block`.
        let mutex = unsafe { (*state(&heir).blocked_on.get()).take() };
        if !self.head.get().is_null() {
            self.note_owned(&heir);
        }
        chain::propagate(chains, &heir);
        state(&heir).waiting.store(false, Ordering::Release);
        Some((heir, mutex))
    }

    /// Takes the mutex for the running task, sleeping in `how` until `deadline` at most.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn lock(self: &Arc<Self>, how: State, deadline: Option<Deadline>) -> Result<(), LockError> {
        crate::might_sleep();
        let task = current();
        if self.block(&task.to_arc())? == Blocked::Granted {
            return Ok(());
        }
        let timer = core::pin::pin!(SleepTimer::new(&task));
        let timer = timer.into_ref();
        if let Some(deadline) = deadline {
            timer.start(deadline);
        }
        let result = loop {
            task.set_state(how);
            if !task.waits_for_mutex() {
                break Ok(());
            }
            let error = if task.signal_pending_state(how) {
                LockError::Interrupted
            } else if timer.has_fired() {
                LockError::TimedOut
            } else {
                crate::schedule();
                continue;
            };
            break if self.withdraw(&task) { Err(error) } else { Ok(()) };
        };
        task.set_running();
        result
    }

    /// Releases the mutex, which the running task owns, and wakes the most important waiter, which gets it.
    ///
    /// # Errors
    /// `EPERM` if the running task does not own it.
    pub fn unlock(&self) -> abi::Result<()> {
        let _until_woken = PreemptGuard::new();
        if let Some(heir) = self.hand_over(None)? {
            crate::wake_up(&heir);
        }
        Ok(())
    }
}

impl Default for RtMutex {
    fn default() -> Self {
        Self::new()
    }
}

impl Task {
    /// Whether it is queued for an [`RtMutex`].
    pub fn waits_for_mutex(&self) -> bool {
        // Acquire: who sees the grant sees what came before it.
        state(self).waiting.load(Ordering::Acquire)
    }
}

/// What becomes of a task after [`Current::abandon_mutexes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It ends: it can own nothing any more.
    Exit,
    /// It goes on with another program.
    Exec,
}

impl Current {
    /// Gives away every mutex that this task owns and others wait for, as [abandoned](RtMutex::is_abandoned).
    pub fn abandon_mutexes(&self, after: After) {
        loop {
            let chains = lock_chains();
            state(self).ended.set(true);
            // SAFETY: mutexes on the list have waiters, which keep them alive.
            let Some(mutex) = (unsafe { state(self).owned.get().as_ref() }) else {
                state(self).ended.set(after == After::Exit);
                return;
            };
            let old = mutex.replace_owner(None);
            mutex.forget_owned(self);
            mutex.abandoned.set(true);
            let granted = mutex.grant(&chains, None);
            chain::propagate(&chains, self);
            drop(chains);
            drop(old);
            if let Some((heir, _mutex)) = granted {
                crate::wake_up(&heir);
            }
        }
    }
}
