//! The queue of sleepers inside a sleeping lock: first come, first served, entries on the sleepers'
//! stacks. The lock's own `SpinLock` protects it.

use core::cell::Cell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::task::Task;

/// A sleeper.
pub(crate) struct Waiter<K> {
    prev: Cell<*const Waiter<K>>,
    next: Cell<*const Waiter<K>>,
    /// What it wants.
    pub kind: K,
    task: NonNull<Task>,
    granted: AtomicBool,
}

impl<K: Copy> Waiter<K> {
    pub fn new(task: &Task, kind: K) -> Self {
        Self {
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            kind,
            task: NonNull::from(task),
            granted: AtomicBool::new(false),
        }
    }

    /// Whether the lock was handed to this sleeper (which is then off the list).
    pub fn is_granted(&self) -> bool {
        // Acquire pairs with the Release in `grant`: we see what the last holder did.
        self.granted.load(Ordering::Acquire)
    }

    /// Whose entry it is.
    pub fn task(&self) -> NonNull<Task> {
        self.task
    }
}

/// Sleepers in the order they came.
pub(crate) struct WaiterList<K> {
    head: *const Waiter<K>,
    tail: *const Waiter<K>,
}

// SAFETY: the pointers are followed only under the lock that contains the list.
unsafe impl<K> Send for WaiterList<K> {}

/// The lock around a list. A function of its own so that these locks are a class of their own, whoever
/// constructs the lock they are in.
pub(crate) const fn new_queue<K: Copy>() -> arch::sync::SpinLock<WaiterList<K>> {
    arch::sync::SpinLock::new(WaiterList::new())
}

impl<K: Copy> WaiterList<K> {
    pub const fn new() -> Self {
        Self { head: ptr::null(), tail: ptr::null() }
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    pub fn first(&self) -> Option<&Waiter<K>> {
        // SAFETY: entries are alive while linked.
        unsafe { self.head.as_ref() }
    }

    pub fn is_first(&self, waiter: &Waiter<K>) -> bool {
        ptr::eq(self.head, waiter)
    }

    /// # Safety
    /// `waiter` is not linked, and is removed or granted before it moves or dies.
    pub unsafe fn push(&mut self, waiter: &Waiter<K>) {
        waiter.next.set(ptr::null());
        waiter.prev.set(self.tail);
        // SAFETY: entries are alive while linked.
        match unsafe { self.tail.as_ref() } {
            Some(tail) => tail.next.set(waiter),
            None => self.head = waiter,
        }
        self.tail = waiter;
    }

    /// # Safety
    /// `waiter` is linked in this list.
    pub unsafe fn remove(&mut self, waiter: &Waiter<K>) {
        let (prev, next) = (waiter.prev.get(), waiter.next.get());
        // SAFETY: neighbours are linked, so alive.
        match unsafe { prev.as_ref() } {
            Some(prev) => prev.next.set(next),
            None => self.head = next,
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.prev.set(prev),
            None => self.tail = prev,
        }
    }

    /// Takes the first sleeper off and hands the lock to it. Preemption must be off (a spin lock is
    /// held), which keeps its task alive until it is woken.
    pub fn grant_first(&mut self) {
        let Some(first) = self.first() else { return };
        let first = NonNull::from(first);
        // SAFETY: it is linked, and alive until `granted` is set.
        let task = unsafe {
            self.remove(first.as_ref());
            let task = first.as_ref().task;
            first.as_ref().granted.store(true, Ordering::Release);
            task
        };
        // SAFETY: a task is freed only after an RCU grace period, and preemption is off.
        crate::wake_up_state(unsafe { task.as_ref() }, crate::State::NORMAL);
    }
}
