//! The POSIX timers of a process, by id.
//!
//! Ids go up until they wrap, so the table is a vector in order, at whose end new timers come.

use super::Timer;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::SpinLock;
use mm::fallible::TryVec;

struct Slots {
    timers: Vec<(i32, Arc<Timer>)>,
    next: i32,
}

/// The timers of a process. Its lock is a leaf; timers are stopped outside of it.
pub(crate) struct Table {
    slots: SpinLock<Slots>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { slots: SpinLock::new(Slots { timers: Vec::new(), next: 0 }) }
    }

    /// The timer with this id.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(super) fn find(&self, id: i32) -> Result<Arc<Timer>> {
        let slots = self.slots.lock();
        let at = slots.timers.binary_search_by_key(&id, |(id, _)| *id).map_err(|_| Errno::EINVAL)?;
        slots.timers.get(at).map(|(_, timer)| timer.clone()).ok_or(Errno::EINVAL)
    }

    /// An id that no timer has.
    pub(super) fn reserve_id(&self) -> i32 {
        let mut slots = self.slots.lock();
        let mut id = slots.next;
        while slots.timers.binary_search_by_key(&id, |(id, _)| *id).is_ok() {
            id = after(id);
        }
        slots.next = after(id);
        id
    }

    /// Adds a timer under an id of [`Self::reserve_id`].
    ///
    /// # Errors
    /// `EAGAIN`: no memory.
    pub(super) fn insert(&self, id: i32, timer: Arc<Timer>) -> Result<()> {
        let mut slots = self.slots.lock();
        slots.timers.try_reserve(1).map_err(|_| Errno::EAGAIN)?;
        match slots.timers.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(_) => Err(Errno::EAGAIN),
            Err(at) => {
                slots.timers.try_insert(at, (id, timer)).map_err(|_| Errno::EAGAIN)?;
                Ok(())
            }
        }
    }

    /// Takes a timer out, for its caller to stop.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(super) fn remove(&self, id: i32) -> Result<Arc<Timer>> {
        let mut slots = self.slots.lock();
        let at = slots.timers.binary_search_by_key(&id, |(id, _)| *id).map_err(|_| Errno::EINVAL)?;
        Ok(slots.timers.remove(at).1)
    }

    /// Deletes all.
    pub(crate) fn clear(&self) {
        let old = core::mem::take(&mut self.slots.lock().timers);
        for (_, timer) in &old {
            timer.detach();
        }
    }
}

fn after(id: i32) -> i32 {
    if id == i32::MAX { 0 } else { id + 1 }
}
