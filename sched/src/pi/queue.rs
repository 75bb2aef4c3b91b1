//! The lists of [`RtMutex`]: its waiters, and the mutexes of an owner. All under `CHAINS`.
//!
//! Waiters stand in the order of their importance, the oldest first among equals. A new waiter looks for its place from
//! the end: ordinary tasks, which are all equal, are queued without a search.

use alloc::sync::Arc;
use core::cell::Cell;
use core::ptr;

use super::{RtMutex, state};
use crate::task::Task;

/// A waiter behind a list's pointer.
fn waiter<'a>(at: *const Task) -> Option<&'a Task> {
    // SAFETY: null, or a waiter that the list holds a reference to; `CHAINS` is held.
    unsafe { at.as_ref() }
}

impl RtMutex {
    /// The most important waiter.
    pub(super) fn top(&self) -> Option<&Task> {
        waiter(self.head.get())
    }

    /// Whether `task` waits for this mutex.
    pub(super) fn has_waiter(&self, task: &Task) -> bool {
        // SAFETY: `CHAINS` is held; nobody keeps a reference into the cell.
        let mutex = unsafe { &*state(task).blocked_on.get() };
        mutex.as_deref().is_some_and(|mutex| ptr::eq(mutex, self))
    }

    /// Queues a task by its `key`; the list keeps the reference.
    pub(super) fn link(&self, task: Arc<Task>) {
        self.place(Arc::into_raw(task));
    }

    fn place(&self, task: *const Task) {
        let Some(me) = waiter(task) else { return };
        let key = state(me).key.get();
        let mut before = self.tail.get();
        while let Some(other) = waiter(before).filter(|other| state(other).key.get() > key) {
            before = state(other).prev.get();
        }
        let after = waiter(before).map_or(self.head.get(), |other| state(other).next.get());
        state(me).prev.set(before);
        state(me).next.set(after);
        match waiter(before) {
            Some(other) => state(other).next.set(task),
            None => self.head.set(task),
        }
        match waiter(after) {
            Some(other) => state(other).prev.set(task),
            None => self.tail.set(task),
        }
    }

    fn take_out(&self, task: &Task) {
        let (before, after) = (state(task).prev.replace(ptr::null()), state(task).next.replace(ptr::null()));
        match waiter(before) {
            Some(other) => state(other).next.set(after),
            None => self.head.set(after),
        }
        match waiter(after) {
            Some(other) => state(other).prev.set(before),
            None => self.tail.set(before),
        }
    }

    /// Takes a waiter out and returns the list's reference; `None` if it does not wait here.
    pub(super) fn unlink(&self, task: &Task) -> Option<Arc<Task>> {
        if !self.has_waiter(task) {
            return None;
        }
        self.take_out(task);
        // SAFETY: the reference that `link` left.
        Some(unsafe { Arc::from_raw(ptr::from_ref(task)) })
    }

    /// A waiter's key changed: it goes to its new place, behind its equals.
    pub(super) fn requeue(&self, task: &Task) {
        self.take_out(task);
        self.place(ptr::from_ref(task));
    }

    /// Puts this mutex on its owner's list, once.
    pub(super) fn note_owned(&self, owner: &Task) {
        let list = &state(owner).owned;
        if find(list, self).is_none() {
            self.next_owned.set(list.get());
            list.set(self);
        }
    }

    /// Takes it off again.
    pub(super) fn forget_owned(&self, owner: &Task) {
        if let Some(at) = find(&state(owner).owned, self) {
            at.set(self.next_owned.replace(ptr::null()));
        }
    }
}

/// The link of an owner's list that leads to `mutex`.
fn find<'a>(list: &'a Cell<*const RtMutex>, mutex: &RtMutex) -> Option<&'a Cell<*const RtMutex>> {
    let mut at = list;
    loop {
        if ptr::eq(at.get(), mutex) {
            return Some(at);
        }
        // SAFETY: null, or a mutex with waiters, which keep it alive; `CHAINS` is held.
        at = unsafe { &at.get().as_ref()?.next_owned };
    }
}
