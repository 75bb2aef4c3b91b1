//! Wait queues: tasks and callbacks that want to know when something happens.
//!
//! [`WaitQueue`] is Linux's `wait_queue_head_t`. Tasks wait with [`WaitQueue::wait`] (the other
//! `wait_event_*` are short forms of it) on an entry on their own stack. Polling code registers a
//! [`WakeCallback`] with [`WaitQueue::register`]; the callback runs under the queue's lock with
//! interrupts off, and hears what is ready as [`PollEvents`].
//!
//! # No lost wake-ups
//!
//! A waiter links its entry and sets its state before it looks at the condition; a waker changes
//! the condition before it looks at the queue. Both looks come after a full barrier, so at least one
//! side sees the other. The barrier is in [`WaitQueue::has_waiters`]: waking an empty queue takes no
//! lock.
//!
//! # Locks
//!
//! The queue's lock is taken with interrupts off, may be taken in interrupt handlers, and is outside
//! of `pi_lock` and the run queue locks. An entry's own lock (registrations only) is outside of the
//! queue's.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::Cell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

pub use abi::poll::PollEvents;
use arch::sync::SpinLockIrq;

use crate::hrtimer::{Deadline, SleepTimer};
use crate::state::{Interrupted, State, WaitError};
use crate::task::{Task, current};
use collections::fallible::try_box;

/// Something that wants to be called when a queue is woken: `poll`, `epoll`, eventfd-like things.
pub trait WakeCallback: Send + Sync {
    /// The queue was woken with `events` (empty: unspecified, look yourself). Called under the
    /// queue's lock with interrupts off. Returns whether somebody was woken (counts against the
    /// number of exclusive wake-ups).
    fn wake(&self, events: PollEvents) -> bool;

    /// The queue goes away while the registration still exists (`POLLFREE`).
    fn queue_gone(&self) {}
}

/// Whether one wake-up wakes an entry alone or together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Every wake-up reaches it.
    All,
    /// Waits at the end of the queue; `wake_one` reaches only the first of these.
    Exclusive,
}

/// How to wait.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// The state to sleep in: which signals end the wait.
    pub state: State,
    /// When to give up.
    pub deadline: Option<Deadline>,
    /// See [`Share`].
    pub share: Share,
}

impl Wait {
    /// Signals do not end the wait.
    pub const UNINTERRUPTIBLE: Self =
        Self { state: State::UNINTERRUPTIBLE, deadline: None, share: Share::All };
    /// Any signal ends the wait.
    pub const INTERRUPTIBLE: Self = Self { state: State::INTERRUPTIBLE, deadline: None, share: Share::All };
    /// Fatal signals end the wait.
    pub const KILLABLE: Self = Self { state: State::KILLABLE, deadline: None, share: Share::All };

    /// The same, exclusively.
    pub const fn exclusive(mut self) -> Self {
        self.share = Share::Exclusive;
        self
    }

    /// The same, until `deadline`.
    pub const fn until(mut self, deadline: Option<Deadline>) -> Self {
        self.deadline = deadline;
        self
    }
}

enum Target {
    /// A task that sleeps in [`WaitQueue::wait`]; alive as long as the entry is linked.
    Task(NonNull<Task>),
    Callback(Arc<dyn WakeCallback>),
}

/// One link of a queue; its fields belong to the queue's lock while `linked`.
struct Entry {
    prev: Cell<*const Entry>,
    next: Cell<*const Entry>,
    linked: AtomicBool,
    share: Share,
    target: Target,
}

impl Entry {
    fn new(target: Target, share: Share) -> Self {
        Self {
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            linked: AtomicBool::new(false),
            share,
            target,
        }
    }
}

struct List {
    head: *const Entry,
    tail: *const Entry,
}

// SAFETY: the pointers are followed under the queue's lock only.
unsafe impl Send for List {}

impl List {
    /// # Safety
    /// `entry` is linked nowhere and is unlinked before it moves or dies.
    unsafe fn link(&mut self, entry: &Entry) {
        let at: *const Entry = entry;
        match entry.share {
            Share::All => {
                entry.prev.set(ptr::null());
                entry.next.set(self.head);
                // SAFETY: linked entries are alive.
                match unsafe { self.head.as_ref() } {
                    Some(head) => head.prev.set(at),
                    None => self.tail = at,
                }
                self.head = at;
            }
            Share::Exclusive => {
                entry.next.set(ptr::null());
                entry.prev.set(self.tail);
                // SAFETY: linked entries are alive.
                match unsafe { self.tail.as_ref() } {
                    Some(tail) => tail.next.set(at),
                    None => self.head = at,
                }
                self.tail = at;
            }
        }
        entry.linked.store(true, Ordering::Relaxed);
    }

    /// Unlinks; afterwards the owner of the entry may free it.
    ///
    /// # Safety
    /// `entry` is linked in this list.
    unsafe fn unlink(&mut self, entry: &Entry) {
        let (prev, next) = (entry.prev.get(), entry.next.get());
        // SAFETY: neighbours of a linked entry are linked and alive.
        match unsafe { prev.as_ref() } {
            Some(prev) => prev.next.set(next),
            None => self.head = next,
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.prev.set(prev),
            None => self.tail = prev,
        }
        // Release: the last access; pairs with the Acquire in `finish`.
        entry.linked.store(false, Ordering::Release);
    }
}

/// A queue of waiters.
pub struct WaitQueue {
    waiters: AtomicU32,
    list: SpinLockIrq<List>,
}

impl WaitQueue {
    /// An empty queue.
    #[track_caller]
    pub const fn new() -> Self {
        Self {
            waiters: AtomicU32::new(0),
            list: SpinLockIrq::new(List { head: ptr::null(), tail: ptr::null() }),
        }
    }

    /// Whether anybody waits, after a full barrier: what was stored before is visible to whoever
    /// starts to wait later.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        fence(Ordering::SeqCst);
        self.waiters.load(Ordering::Relaxed) != 0
    }

    /// Waits until `condition` returns a value. It is called with the task's state already set, so
    /// it should not sleep; it may be called any number of times.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`] by a signal that `how.state` admits, [`WaitError::TimedOut`] when
    /// the deadline passed. The condition is looked at once more before either.
    pub fn wait<R>(&self, how: Wait, mut condition: impl FnMut() -> Option<R>) -> Result<R, WaitError> {
        if let Some(value) = condition() {
            return Ok(value);
        }
        crate::might_sleep();
        let task = current();
        let entry = Entry::new(Target::Task(NonNull::from(&*task)), how.share);
        let _finish = Finish { queue: self, entry: &entry };
        let timer = core::pin::pin!(SleepTimer::new(&task));
        let timer = timer.into_ref();
        if let Some(deadline) = how.deadline {
            timer.start(deadline);
        }
        loop {
            self.prepare(&entry, &task, how.state);
            if let Some(value) = condition() {
                return Ok(value);
            }
            if task.signal_pending_state(how.state) {
                return Err(WaitError::Interrupted);
            }
            if timer.has_fired() {
                return Err(WaitError::TimedOut);
            }
            crate::schedule();
        }
    }

    /// Waits, whatever signals come.
    pub fn wait_event(&self, mut condition: impl FnMut() -> bool) {
        let _ = self.wait(Wait::UNINTERRUPTIBLE, || condition().then_some(()));
    }

    /// Waits until the condition or a signal.
    pub fn wait_event_interruptible(&self, mut condition: impl FnMut() -> bool) -> Result<(), Interrupted> {
        self.wait(Wait::INTERRUPTIBLE, || condition().then_some(())).map_err(|_| Interrupted)
    }

    /// Waits until the condition or a fatal signal.
    pub fn wait_event_killable(&self, mut condition: impl FnMut() -> bool) -> Result<(), Interrupted> {
        self.wait(Wait::KILLABLE, || condition().then_some(())).map_err(|_| Interrupted)
    }

    /// Waits until the condition or the deadline; whether the condition came true.
    pub fn wait_event_timeout(&self, deadline: Deadline, mut condition: impl FnMut() -> bool) -> bool {
        self.wait(Wait::UNINTERRUPTIBLE.until(Some(deadline)), || condition().then_some(())).is_ok()
    }

    /// Waits until the condition, a signal or the deadline.
    pub fn wait_event_interruptible_timeout(
        &self,
        deadline: Option<Deadline>,
        mut condition: impl FnMut() -> bool,
    ) -> Result<(), WaitError> {
        self.wait(Wait::INTERRUPTIBLE.until(deadline), || condition().then_some(()))
    }

    fn prepare(&self, entry: &Entry, task: &crate::Current, state: State) {
        let mut list = self.list.lock();
        if !entry.linked.load(Ordering::Relaxed) {
            // SAFETY: not linked; `Finish` unlinks it before it dies.
            unsafe { list.link(entry) };
            self.waiters.fetch_add(1, Ordering::Relaxed);
        }
        // A full barrier: pairs with the one in `has_waiters`.
        task.set_state(state);
    }

    /// Wakes everybody who waits shared and up to `exclusive` of those who wait exclusively.
    /// Returns how many of the latter it was.
    #[inline]
    pub fn wake(&self, states: State, exclusive: usize, events: PollEvents) -> usize {
        if !self.has_waiters() {
            return 0;
        }
        self.wake_slow(states, exclusive, events)
    }

    fn wake_slow(&self, states: State, exclusive: usize, events: PollEvents) -> usize {
        self.wake_locked(self.list.lock(), states, exclusive, events)
    }

    fn wake_locked(
        &self,
        mut list: sync::SpinLockGuard<'_, List, arch::sync::Irq>,
        states: State,
        exclusive: usize,
        events: PollEvents,
    ) -> usize {
        let mut woken = 0;
        let mut at = list.head;
        // SAFETY: entries are alive while linked, and linked while we hold the lock unless we
        // unlink them.
        while let Some(entry) = unsafe { at.as_ref() } {
            at = entry.next.get();
            let share = entry.share;
            if share == Share::Exclusive && woken == exclusive {
                break;
            }
            let did = match &entry.target {
                Target::Callback(callback) => callback.wake(events),
                Target::Task(task) => {
                    // SAFETY: a task leaves its wait only after its entry was unlinked.
                    let task = unsafe { task.as_ref() };
                    let did = crate::wake_up_state(task, states);
                    if did {
                        self.waiters.fetch_sub(1, Ordering::Relaxed);
                        // SAFETY: linked, as we found it in the list. The entry may be gone after.
                        unsafe { list.unlink(entry) };
                    }
                    did
                }
            };
            if did && share == Share::Exclusive {
                woken += 1;
            }
        }
        woken
    }

    /// As [`wake_all_poll`](Self::wake_all_poll), by somebody who may be a callback of another queue of the same kind; the caller knows that they form
    /// no circle.
    pub fn wake_all_poll_nested(&self, events: PollEvents) {
        if self.has_waiters() {
            self.wake_locked(self.list.lock_nested(), State::NORMAL, usize::MAX, events);
        }
    }

    /// Wakes all shared waiters and one exclusive one.
    #[inline]
    pub fn wake_one(&self) {
        self.wake(State::NORMAL, 1, PollEvents::empty());
    }

    /// Wakes everybody.
    #[inline]
    pub fn wake_all(&self) {
        self.wake(State::NORMAL, usize::MAX, PollEvents::empty());
    }

    /// Wakes everybody whose sleep signals may end.
    #[inline]
    pub fn wake_interruptible(&self) {
        self.wake(State::INTERRUPTIBLE, usize::MAX, PollEvents::empty());
    }

    /// Wakes all shared waiters and one exclusive one, telling pollers what is ready.
    #[inline]
    pub fn wake_up_poll(&self, events: PollEvents) {
        self.wake(State::NORMAL, 1, events);
    }

    /// Wakes everybody, telling pollers what is ready.
    #[inline]
    pub fn wake_all_poll(&self, events: PollEvents) {
        self.wake(State::NORMAL, usize::MAX, events);
    }

    /// Adds a callback; it stays until the registration is dropped.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn register(&self, callback: Arc<dyn WakeCallback>, share: Share) -> abi::Result<Registration> {
        let registered = try_box(Registered {
            queue: SpinLockIrq::new(NonNull::from(self).as_ptr().cast_const()),
            entry: Entry::new(Target::Callback(callback), share),
        })?;
        let mut list = self.list.lock();
        // SAFETY: a fresh entry on the heap; dropping the registration or the queue unlinks it.
        unsafe { list.link(&registered.entry) };
        self.waiters.fetch_add(1, Ordering::Relaxed);
        // The caller looks at the condition next: pairs with `has_waiters`.
        fence(Ordering::SeqCst);
        Ok(Registration { registered })
    }
}

impl Default for WaitQueue {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WaitQueue({} waiters)", self.waiters.load(Ordering::Relaxed))
    }
}

impl Drop for WaitQueue {
    /// Cuts off the registrations that are left. (Waiting tasks borrow the queue, so there are none.)
    fn drop(&mut self) {
        while self.waiters.load(Ordering::Acquire) != 0 {
            let mut list = self.list.lock();
            // SAFETY: linked entries are alive.
            let Some(entry) = (unsafe { list.head.as_ref() }) else {
                // A registration has unlinked itself and is about to count down.
                drop(list);
                arch::cpu::relax();
                continue;
            };
            // SAFETY: tasks borrow the queue while they wait, so this is the entry of a
            // `Registered`, of which it is a field.
            let registered = unsafe {
                &*ptr::from_ref(entry).byte_sub(core::mem::offset_of!(Registered, entry)).cast::<Registered>()
            };
            // The order is registration, then queue; here it is the other way round, so only try.
            if let Some(mut queue) = registered.queue.try_lock() {
                *queue = ptr::null();
                if let Target::Callback(callback) = &entry.target {
                    callback.queue_gone();
                }
                self.waiters.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: it is the head of the list. The `Registered` cannot go away before its
                // lock, which we hold, is released.
                unsafe { list.unlink(entry) };
            } else {
                drop(list);
                arch::cpu::relax();
            }
        }
    }
}

/// Takes a task's entry off its queue, however the wait ends.
struct Finish<'a> {
    queue: &'a WaitQueue,
    entry: &'a Entry,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        current().set_running();
        // Acquire pairs with the Release in `unlink`: a waker is done with the entry.
        if self.entry.linked.load(Ordering::Acquire) {
            let mut list = self.queue.list.lock();
            if self.entry.linked.load(Ordering::Relaxed) {
                self.queue.waiters.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: linked, and in this queue.
                unsafe { list.unlink(self.entry) };
            }
        }
    }
}

struct Registered {
    /// Null when the queue has gone away.
    queue: SpinLockIrq<*const WaitQueue>,
    entry: Entry,
}

/// A callback on a queue; dropping it takes the callback off.
#[must_use = "dropping the registration takes the callback off the queue"]
pub struct Registration {
    registered: Box<Registered>,
}

// SAFETY: the entry is reached under the queue's lock only, and the callback is `Send + Sync`.
unsafe impl Send for Registration {}
// SAFETY: a shared registration offers nothing.
unsafe impl Sync for Registration {}

impl Drop for Registration {
    fn drop(&mut self) {
        let at = self.registered.queue.lock();
        // SAFETY: the queue clears the pointer (under the lock we hold) before it goes away.
        if let Some(queue) = unsafe { at.as_ref() } {
            let mut list = queue.list.lock();
            // SAFETY: linked from `register` until the queue or this drop unlinks it.
            unsafe { list.unlink(&self.registered.entry) };
            drop(list);
            // The last access: the queue's drop waits for zero.
            queue.waiters.fetch_sub(1, Ordering::Release);
        }
    }
}
