//! Priority inheritance: [`RtMutex`], whose owner runs with the priority of the most important task that
//! waits for it.
//!
//! A boost travels: if the owner itself waits for another `RtMutex`, that one's owner is boosted too, and
//! so on. The mutex is handed over: a release gives it to the most important waiter. It is made for
//! priority-inheriting futexes (`FUTEX_LOCK_PI`), which do not use it yet; their uncontended path is in
//! user space, so one lock over all mutexes is enough here.
//!
//! Locks: [`CHAINS`] (interrupts off) is outside of `pi_lock` and the run queues'.

use alloc::sync::Arc;
use core::cell::{Cell, UnsafeCell};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use arch::sync::SpinLockIrq;

use crate::class::{Class, Policy, TaskPtr};
use crate::entity::Sched;
use crate::hrtimer::{Deadline, SleepTimer};
use crate::rq::{rank, sched_of};
use crate::state::State;
use crate::task::{Task, current};

/// Protects the owner, the waiters and the owned list of every mutex.
static CHAINS: SpinLockIrq<()> = SpinLockIrq::new(());

/// The longest chain that is followed; longer ones count as deadlocks.
const MAX_CHAIN: usize = 1024;

/// A task's part in the chains; protected by [`CHAINS`].
#[derive(Debug)]
pub(crate) struct PiState {
    blocked_on: Cell<*const Waiter>,
    /// The mutexes it owns that have waiters.
    owned: Cell<*const RtMutex>,
}

// SAFETY: the cells are used under `CHAINS` only.
unsafe impl Send for PiState {}

impl PiState {
    pub(crate) const fn new() -> Self {
        Self { blocked_on: Cell::new(ptr::null()), owned: Cell::new(ptr::null()) }
    }
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
}

impl From<LockError> for abi::Errno {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Interrupted => Self::ERESTARTNOINTR,
            LockError::TimedOut => Self::ETIMEDOUT,
            LockError::Deadlock => Self::EDEADLK,
        }
    }
}

#[derive(Debug)]
struct Waiter {
    task: Arc<Task>,
    rank: Cell<u32>,
    next: Cell<*const Waiter>,
    granted: AtomicBool,
    mutex: *const RtMutex,
}

/// A mutex with priority inheritance. It guards no data: it stands for something else, such as a futex.
#[derive(Debug)]
pub struct RtMutex {
    owner: UnsafeCell<Option<Arc<Task>>>,
    /// The most important first.
    waiters: Cell<*const Waiter>,
    /// The next mutex with waiters of the same owner.
    next_owned: Cell<*const RtMutex>,
}

// SAFETY: all fields are used under `CHAINS` only.
unsafe impl Send for RtMutex {}
// SAFETY: as above.
unsafe impl Sync for RtMutex {}

/// Used under `CHAINS`, to which the fields of the task's `PiState` belong.
fn state(task: &Task) -> &PiState {
    // SAFETY: the cells in it are used under `CHAINS` only, which the callers hold; `pi_lock` itself
    // never hands out `&mut`.
    unsafe { &*task.pi_lock.data_ptr() }
}

impl RtMutex {
    /// A free mutex.
    pub const fn new() -> Self {
        Self {
            owner: UnsafeCell::new(None),
            waiters: Cell::new(ptr::null()),
            next_owned: Cell::new(ptr::null()),
        }
    }

    /// A mutex that `owner` holds already (a futex that was locked in user space).
    pub fn owned_by(owner: Arc<Task>) -> Self {
        let mutex = Self::new();
        // SAFETY: not shared yet.
        unsafe { *mutex.owner.get() = Some(owner) };
        mutex
    }

    /// Who holds it.
    pub fn owner(&self) -> Option<Arc<Task>> {
        let _chains = CHAINS.lock();
        self.owner_ref().clone()
    }

    /// Who would get it next.
    pub fn next_owner(&self) -> Option<Arc<Task>> {
        let _chains = CHAINS.lock();
        self.top().map(|waiter| waiter.task.clone())
    }

    /// Under `CHAINS`.
    #[allow(clippy::mut_from_ref)]
    fn owner_ref(&self) -> &mut Option<Arc<Task>> {
        // SAFETY: callers hold `CHAINS` and keep no other reference.
        unsafe { &mut *self.owner.get() }
    }

    /// Under `CHAINS`.
    fn top(&self) -> Option<&Waiter> {
        // SAFETY: waiters are alive while linked.
        unsafe { self.waiters.get().as_ref() }
    }

    /// Takes the mutex if it is free.
    pub fn try_lock(&self) -> bool {
        let _chains = CHAINS.lock();
        let owner = self.owner_ref();
        if owner.is_none() {
            *owner = Some(current().to_arc());
            return true;
        }
        false
    }

    /// Takes the mutex, sleeping in `state` until `deadline` at most and lending the owner this task's
    /// priority meanwhile.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn lock(&self, how: State, deadline: Option<Deadline>) -> Result<(), LockError> {
        crate::might_sleep();
        let task = current();
        let waiter = Waiter {
            task: task.to_arc(),
            rank: Cell::new(0),
            next: Cell::new(ptr::null()),
            granted: AtomicBool::new(false),
            mutex: self,
        };
        {
            let _chains = CHAINS.lock();
            let owner = self.owner_ref();
            let Some(holder) = owner.clone() else {
                *owner = Some(task.to_arc());
                return Ok(());
            };
            if leads_to(&holder, &task) {
                return Err(LockError::Deadlock);
            }
            waiter.rank.set(effective_rank(&task));
            self.link(&waiter);
            state(&task).blocked_on.set(&waiter);
            self.note_owned(&holder);
            propagate(holder);
        }
        let timer = core::pin::pin!(SleepTimer::new(&task));
        let timer = timer.into_ref();
        if let Some(deadline) = deadline {
            timer.start(deadline);
        }
        let result = loop {
            task.set_state(how);
            if waiter.granted.load(Ordering::Acquire) {
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
            let _chains = CHAINS.lock();
            if waiter.granted.load(Ordering::Acquire) {
                break Ok(());
            }
            self.unlink(&waiter);
            state(&task).blocked_on.set(ptr::null());
            if let Some(holder) = self.owner_ref().clone() {
                if self.waiters.get().is_null() {
                    self.forget_owned(&holder);
                }
                propagate(holder);
            }
            break Err(error);
        };
        task.set_running();
        result
    }

    /// Releases the mutex, which the running task owns. The most important waiter gets it and is
    /// returned; the caller's borrowed priority ends.
    ///
    /// # Errors
    /// `EPERM` if the running task does not own it.
    pub fn unlock(&self) -> abi::Result<Option<Arc<Task>>> {
        let task = current();
        let chains = CHAINS.lock();
        let owner = self.owner_ref();
        match owner {
            Some(owner) if ptr::eq(&**owner, &raw const *task) => {}
            _ => return Err(abi::Errno::EPERM),
        }
        let old = owner.take();
        self.forget_owned(&task);
        let mut next = None;
        if let Some(top) = self.top() {
            self.waiters.set(top.next.get());
            let heir = top.task.clone();
            state(&heir).blocked_on.set(ptr::null());
            *self.owner_ref() = Some(heir.clone());
            if !self.waiters.get().is_null() {
                self.note_owned(&heir);
            }
            // The waiter's frame may be gone after this.
            top.granted.store(true, Ordering::Release);
            propagate(heir.clone());
            next = Some(heir);
        }
        propagate(task.to_arc());
        drop(chains);
        drop(old);
        if let Some(next) = &next {
            crate::wake_up_state(next, State::NORMAL);
        }
        Ok(next)
    }

    fn link(&self, waiter: &Waiter) {
        let mut at = &self.waiters;
        // SAFETY: waiters are alive while linked.
        while let Some(other) = unsafe { at.get().as_ref() } {
            if other.rank.get() > waiter.rank.get() {
                break;
            }
            at = &other.next;
        }
        waiter.next.set(at.get());
        at.set(waiter);
    }

    fn unlink(&self, waiter: &Waiter) {
        let mut at = &self.waiters;
        // SAFETY: waiters are alive while linked.
        while let Some(other) = unsafe { at.get().as_ref() } {
            if ptr::eq(other, waiter) {
                at.set(waiter.next.get());
                return;
            }
            at = &other.next;
        }
    }

    /// Puts this mutex on its owner's list.
    fn note_owned(&self, owner: &Task) {
        let list = &state(owner).owned;
        let mut at = list.get();
        // SAFETY: mutexes with waiters are alive.
        while let Some(mutex) = unsafe { at.as_ref() } {
            if ptr::eq(mutex, self) {
                return;
            }
            at = mutex.next_owned.get();
        }
        self.next_owned.set(list.get());
        list.set(self);
    }

    /// Takes it off again.
    fn forget_owned(&self, owner: &Task) {
        let mut at = &state(owner).owned;
        // SAFETY: mutexes with waiters are alive.
        while let Some(mutex) = unsafe { at.get().as_ref() } {
            if ptr::eq(mutex, self) {
                at.set(self.next_owned.get());
                self.next_owned.set(ptr::null());
                return;
            }
            at = &mutex.next_owned;
        }
    }
}

impl Default for RtMutex {
    fn default() -> Self {
        Self::new()
    }
}

/// The rank a task has by its own parameters.
fn base_rank(sched: &Sched) -> u32 {
    match sched.policy {
        Policy::Deadline => 1,
        Policy::Fifo | Policy::RoundRobin => 2 + crate::class::realtime::index_of(sched.rt_priority) as u32,
        _ => 102,
    }
}

fn effective_rank(task: &Task) -> u32 {
    rank(sched_of(TaskPtr::from(task)))
}

/// Whether the chain from `from` (the owner of what it waits for, and so on) comes to `to`.
fn leads_to(from: &Task, to: &Task) -> bool {
    let mut at: *const Task = from;
    for _ in 0..MAX_CHAIN {
        if ptr::eq(at, to) {
            return true;
        }
        // SAFETY: owners and waiters are kept alive by the mutexes; `CHAINS` is held.
        let waiter = unsafe { state(&*at).blocked_on.get().as_ref() };
        let Some(waiter) = waiter else { return false };
        // SAFETY: a waiter's mutex is alive.
        match unsafe { &*waiter.mutex }.owner_ref() {
            Some(owner) => at = Arc::as_ptr(owner),
            None => return false,
        }
    }
    true
}

/// Gives `task` the priority it should have, and goes on to whom it waits for.
fn propagate(task: Arc<Task>) {
    let mut task = task;
    for _ in 0..MAX_CHAIN {
        let sched = sched_of(TaskPtr::from(&*task));
        let mut wanted = base_rank(sched);
        let mut at = state(&task).owned.get();
        // SAFETY: mutexes with waiters are alive.
        while let Some(mutex) = unsafe { at.as_ref() } {
            wanted = wanted.min(mutex.top().map_or(u32::MAX, |top| top.rank.get()));
            at = mutex.next_owned.get();
        }
        if wanted == rank(sched) {
            return;
        }
        set_rank(&task, wanted);
        // SAFETY: a linked waiter is alive.
        let Some(waiter) = (unsafe { state(&task).blocked_on.get().as_ref() }) else { return };
        // SAFETY: a waiter's mutex is alive.
        let mutex = unsafe { &*waiter.mutex };
        mutex.unlink(waiter);
        waiter.rank.set(wanted);
        mutex.link(waiter);
        match mutex.owner_ref() {
            Some(owner) => task = owner.clone(),
            None => return,
        }
    }
}

/// Makes a task run with `rank`, whatever its own parameters are.
fn set_rank(task: &Task, wanted: u32) {
    let _pi = task.pi_lock.lock();
    let (queue, mut rq) = crate::platform::lock_task_rq(task);
    crate::policy::change(&mut rq, TaskPtr::from(task), |sched| {
        let own = base_rank(sched);
        if wanted == own {
            sched.class = sched.policy.class();
            sched.rt.priority.set(sched.rt_priority);
        } else {
            // A deadline donor counts as the highest real-time priority.
            sched.class = Class::Realtime;
            let index = wanted.saturating_sub(2).min(98) as u8;
            sched.rt.priority.set(crate::entity::MAX_RT_PRIORITY - index);
        }
    });
    rq.publish(&queue.hints);
}

/// The task's own parameters changed: what it inherits comes on top again.
pub(crate) fn parameters_changed(task: &Task) {
    let _chains = CHAINS.lock();
    let pi = state(task);
    if !pi.owned.get().is_null() || !pi.blocked_on.get().is_null() {
        propagate(task.to_arc());
    }
}
