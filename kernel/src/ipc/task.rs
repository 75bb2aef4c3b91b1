//! What a thread keeps of System V IPC, and what happens to it in fork, unshare and exit.
//!
//! Semaphore adjustments are shared by threads that were made with `CLONE_SYSVSEM`, and are made when the last of them exits or
//! leaves with `unshare(2)` or `setns(2)`. Segments know that the thread which made them is still there
//! (`kernel.shm_rmid_forced`).
//!
//! A thread that has neither has `flags::IPC` clear: its exit looks at nothing else.

use super::IpcNamespace;
use super::sem::UndoList;
use super::shm::Segment;
use crate::process::thread::flags;
use crate::process::{CurrentThread, Thread};
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arch::sync::SpinLock;
use mm::fallible::{TryVec, try_arc};

struct Made {
    ns: Weak<IpcNamespace>,
    segment: Weak<Segment>,
}

/// The part of a thread. Only the thread itself, and its maker before it runs, touch it.
#[derive(Default)]
pub struct TaskIpc {
    undo: SpinLock<Option<Arc<UndoList>>>,
    made: SpinLock<Vec<Made>>,
}

impl TaskIpc {
    /// The thread's adjustments; `me` is the thread.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn undo_list(&self, me: &Thread) -> Result<Arc<UndoList>> {
        if let Some(list) = &*self.undo.lock() {
            return Ok(list.clone());
        }
        me.set(flags::IPC);
        let list = try_arc(UndoList::default())?;
        *self.undo.lock() = Some(list.clone());
        Ok(list)
    }

    /// Where the thread's adjustments lie; 0 if it has none.
    pub fn undo_address(&self) -> usize {
        self.undo.lock().as_ref().map_or(0, |list| Arc::as_ptr(list).addr())
    }

    /// `CLONE_SYSVSEM`: `child` shares the adjustments of `parent`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn share_undo(parent: &Thread, child: &Thread) -> Result<()> {
        let list = parent.ipc.undo_list(parent)?;
        *child.ipc.undo.lock() = Some(list);
        child.set(flags::IPC);
        Ok(())
    }

    /// Makes room for one segment more, and forgets those that are gone.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve_segment(&self, me: &Thread) -> Result<()> {
        me.set(flags::IPC);
        let mut made = self.made.lock();
        if made.len() == made.capacity() {
            made.retain(|made| made.segment.strong_count() > 0);
        }
        made.try_reserve(1).map_err(|_| Errno::ENOMEM)
    }

    /// The thread has made `segment`; [`Self::reserve_segment`] came before.
    pub fn remember_segment(&self, ns: &Arc<IpcNamespace>, segment: &Arc<Segment>) {
        self.made.lock().push_reserved(Made { ns: Arc::downgrade(ns), segment: Arc::downgrade(segment) });
    }
}

/// The thread has no adjustments any more: `unshare(CLONE_SYSVSEM)`, a new namespace, exit. If nobody else has them they are made.
pub fn leave_semaphores(me: &CurrentThread) {
    let list = me.ipc.undo.lock().take();
    if let Some(list) = list.and_then(Arc::into_inner) {
        list.apply(&me.process.pid);
    }
}

/// The segments that the thread made lose their maker.
pub fn leave_segments(me: &CurrentThread) {
    let made = core::mem::take(&mut *me.ipc.made.lock());
    for made in made {
        if let (Some(ns), Some(segment)) = (made.ns.upgrade(), made.segment.upgrade()) {
            segment.creator_left(&ns);
        }
    }
}

/// The thread exits. Its memory is gone already.
#[inline]
pub fn exit(me: &CurrentThread) {
    if me.has(flags::IPC) {
        leave_semaphores(me);
        leave_segments(me);
    }
}
