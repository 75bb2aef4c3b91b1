//! Adjustments: what a process owes to semaphores, paid when it exits. `semop(2)`, `SEM_UNDO`.
//!
//! An [`UndoList`] belongs to all threads that share it with `CLONE_SYSVSEM`; the last of them to go makes the adjustments. It has
//! an [`Undo`] per set, which the set knows too: `SETVAL` clears adjustments, and removal of the set makes them void.
//!
//! Locks: the list's, then the set's. The numbers are written under the set's lock.

use super::SemSet;
use super::set::{Batch, Changed, State};
use crate::process::Pid;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicI16, AtomicUsize, Ordering::Relaxed};
use mm::fallible::{TryVec, try_arc};

/// The adjustments of one list to one set.
pub struct Undo {
    set: Weak<SemSet>,
    adjust: Box<[AtomicI16]>,
    /// Where the set's list has it; under the set's lock.
    slot: AtomicUsize,
}

impl Undo {
    #[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
    fn new(set: &Arc<SemSet>) -> Result<Arc<Self>> {
        let mut adjust = Vec::new();
        adjust.try_reserve_exact(set.len()).map_err(|_| Errno::ENOMEM)?;
        adjust.resize_with(set.len(), || AtomicI16::new(0));
        let adjust = adjust.into_boxed_slice();
        Ok(try_arc(Self { set: Arc::downgrade(set), adjust, slot: AtomicUsize::new(0) })?)
    }

    /// The adjustment of a semaphore.
    pub fn get(&self, num: u16) -> i32 {
        self.adjust.get(usize::from(num)).map_or(0, |adjust| adjust.load(Relaxed).into())
    }

    /// Changes it; `value` is in range.
    pub fn set(&self, num: u16, value: i32) {
        if let Some(adjust) = self.adjust.get(usize::from(num)) {
            adjust.store(value as i16, Relaxed);
        }
    }

    /// Clears all of them: `SETALL`.
    pub fn clear(&self) {
        self.adjust.iter().for_each(|adjust| adjust.store(0, Relaxed));
    }

    fn belongs_to(&self, set: &Arc<SemSet>) -> bool {
        core::ptr::eq(self.set.as_ptr(), Arc::as_ptr(set))
    }
}

/// The adjustments of a set, each at the slot that it knows.
#[derive(Default)]
pub struct Known(Vec<Arc<Undo>>);

impl Known {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Undo>> {
        self.0.iter()
    }

    fn add(&mut self, undo: &Arc<Undo>) -> Result<()> {
        self.0.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        undo.slot.store(self.0.len(), Relaxed);
        self.0.push_reserved(undo.clone());
        Ok(())
    }

    fn remove(&mut self, undo: &Arc<Undo>) {
        let slot = undo.slot.load(Relaxed);
        if self.0.get(slot).is_some_and(|at| Arc::ptr_eq(at, undo)) {
            self.0.swap_remove(slot);
            if let Some(moved) = self.0.get(slot) {
                moved.slot.store(slot, Relaxed);
            }
        }
    }
}

/// The adjustments of threads that share them.
#[derive(Default)]
pub struct UndoList {
    undos: SpinLock<Vec<Arc<Undo>>>,
}

impl UndoList {
    /// The adjustments to `set`, made if there are none yet.
    ///
    /// # Errors
    /// `ENOMEM`; `EIDRM` for a set that was removed.
    pub fn of(&self, set: &Arc<SemSet>) -> Result<Arc<Undo>> {
        let known = |undos: &[Arc<Undo>]| undos.iter().find(|undo| undo.belongs_to(set)).cloned();
        if let Some(undo) = known(&self.undos.lock()) {
            return Ok(undo);
        }
        let new = Undo::new(set)?;
        let mut undos = self.undos.lock();
        if let Some(undo) = known(&undos) {
            return Ok(undo);
        }
        // Of sets that are gone nothing is owed.
        undos.retain(|undo| undo.set.strong_count() > 0);
        undos.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let mut state = set.lock();
        set.check_alive()?;
        state.undos.add(&new)?;
        drop(state);
        undos.push_reserved(new.clone());
        Ok(new)
    }

    /// Makes all adjustments, in the name of `pid`: the last thread that had the list is gone.
    pub fn apply(self, pid: &Arc<Pid>) {
        for undo in self.undos.into_inner() {
            let Some(set) = undo.set.upgrade() else { continue };
            let mut batch = Batch::new();
            let mut state = set.lock();
            if set.check_alive().is_err() {
                continue;
            }
            state.undos.remove(&undo);
            adjust(&mut state, &undo, pid, &mut batch);
        }
    }
}

/// Adds each adjustment, as far as the value stays in its range.
fn adjust(state: &mut State, undo: &Undo, pid: &Arc<Pid>, batch: &mut Batch) {
    for (sem, adjust) in state.sems.iter_mut().zip(&undo.adjust) {
        let adjust = i32::from(adjust.load(Relaxed));
        if adjust != 0 {
            sem.value = (sem.value + adjust).clamp(0, super::VALUE_MAX);
            sem.pid.set(pid);
        }
    }
    // Counts as an operation.
    state.touch();
    state.update(Changed::All, batch);
}
