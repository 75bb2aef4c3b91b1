//! Checkpointing: what the log has is written to its places, so that its room can be used again.
//!
//! A buffer names the newest transaction on disk that has it; only that one writes it, so what is changed again and again is written once. A buffer
//! that is part of a transaction which is not on disk yet is not written: that transaction has to be first, and will be named then.
//!
//! The tail of the log moves when all buffers of its oldest transactions are in their places, and durable there.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use block::OpFlags;
use buffer::{Buffer, WriteBatch};
use sched::mutex::MutexGuard;

use crate::shared::{Core, State};
use crate::transaction::{Tid, Transaction};

/// So many buffers are written at a time.
const BATCH: usize = 256;

/// How far a checkpoint got.
enum Progress {
    Done,
    /// This transaction has to be on disk first.
    Wants(Tid),
}

impl Core {
    /// Makes room for a transaction, and for some of the next ones. Waits for transactions: not for the journal's thread, nor within a handle.
    pub(crate) fn make_space(&self) -> Result<()> {
        let enough = (self.needed + self.len() / 8).min(self.len());
        self.checkpoint(|state, freed| state.free + freed >= enough)?;
        if self.is_aborted() { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Writes the oldest transactions' buffers to their places, until it is `enough` or nothing is left. With nothing left and not enough, waits for the
    /// transaction that is being committed.
    pub(crate) fn checkpoint(&self, enough: impl Fn(&State, u32) -> bool) -> Result<()> {
        let one_at_a_time = self.checkpointing.lock();
        loop {
            let mut freed = 0;
            let wanted = self.checkpoint_some(&enough, &mut freed);
            // Also what was freed before an error.
            self.move_tail(&one_at_a_time, freed)?;
            match wanted? {
                Some(tid) => {
                    self.request(tid);
                    self.wait(tid)?;
                }
                None => return Ok(()),
            }
        }
    }

    /// The same, until another transaction is to be waited for. `freed` blocks of the log can come free.
    fn checkpoint_some(&self, enough: &impl Fn(&State, u32) -> bool, freed: &mut u32) -> Result<Option<Tid>> {
        loop {
            let state = self.state.lock();
            if enough(&state, *freed) || self.is_aborted() {
                return Ok(None);
            }
            let Some(oldest) = state.checkpoints.front().cloned() else {
                return Ok(state.committing.as_ref().map(|of| of.tid));
            };
            drop(state);
            match self.write_to_places(&oldest)? {
                Progress::Done => *freed += self.retire(&oldest),
                Progress::Wants(tid) => return Ok(Some(tid)),
            }
        }
    }

    /// Writes what is older than `since_ns`, as far as that needs no other transaction. For the journal's thread: does not wait for others.
    pub(crate) fn checkpoint_old(&self, since_ns: u64) {
        let Some(one_at_a_time) = self.checkpointing.try_lock() else { return };
        let mut freed = 0;
        while !self.is_aborted() {
            let Some(oldest) = self.state.lock().checkpoints.front().cloned() else { break };
            if oldest.done_ns.load(Ordering::Relaxed) > since_ns {
                break;
            }
            match self.write_to_places(&oldest) {
                Ok(Progress::Done) => freed += self.retire(&oldest),
                // Its buffers are in use: again later.
                Ok(Progress::Wants(_)) => break,
                // Has aborted.
                Err(_) => break,
            }
        }
        let _ = self.move_tail(&one_at_a_time, freed);
    }

    /// Takes the oldest transaction off the list; returns how many blocks of the log it has.
    fn retire(&self, oldest: &Arc<Transaction>) -> u32 {
        let gone = self.state.lock().checkpoints.pop_front();
        debug_assert!(gone.is_some_and(|gone| Arc::ptr_eq(&gone, oldest)));
        oldest.log_blocks.load(Ordering::Relaxed)
    }

    fn write_to_places(&self, transaction: &Transaction) -> Result<Progress> {
        // Out of its lock, which is inside of the buffers'. Nobody else looks at it now.
        let members = core::mem::take(&mut *transaction.members.lock());
        let progress = self.write_members(transaction.tid, &members);
        if !matches!(progress, Ok(Progress::Done)) {
            *transaction.members.lock() = members;
        }
        progress
    }

    fn write_members(&self, tid: Tid, members: &[Arc<Buffer>]) -> Result<Progress> {
        let mut wanted = 0;
        for part in members.chunks(BATCH) {
            let mut batch = WriteBatch::new(&self.cache, OpFlags::SYNC);
            for buffer in part {
                let content = buffer.lock();
                let journal = &content.journal;
                if journal.checkpoint != tid {
                    continue;
                }
                if journal.transaction != 0 {
                    wanted = wanted.max(journal.transaction);
                    continue;
                }
                let version = content.data().clone();
                drop(content);
                batch.add(buffer, &version)?;
            }
            self.written(tid, batch.wait())?;
        }
        Ok(if wanted == 0 { Progress::Done } else { Progress::Wants(wanted) })
    }

    fn written(&self, tid: Tid, buffers: Vec<Arc<Buffer>>) -> Result<()> {
        for buffer in buffers {
            if buffer.write_failed() {
                // The log is all that has it.
                log::error!("jbd2: block {} cannot be written to its place", buffer.block());
                self.abort(Errno::EIO);
                return Err(Errno::EIO);
            }
            let mut content = buffer.lock();
            if content.journal.checkpoint == tid {
                content.journal.checkpoint = 0;
            }
        }
        Ok(())
    }

    /// The tail goes to the oldest transaction that is left; `freed` blocks of the log come free.
    fn move_tail(&self, _: &MutexGuard<'_, ()>, freed: u32) -> Result<()> {
        if freed == 0 || self.is_aborted() {
            return Ok(());
        }
        let moved = self.try_move_tail(freed);
        if let Err(errno) = moved {
            self.abort(errno);
        }
        moved
    }

    fn try_move_tail(&self, freed: u32) -> Result<()> {
        if self.barriers {
            self.cache.flush()?;
        }
        let state = self.state.lock();
        let oldest = state.checkpoints.front().or(state.committing.as_ref());
        let (start, sequence) = match oldest {
            Some(oldest) => {
                (oldest.log_start.load(Ordering::Relaxed), oldest.sequence.load(Ordering::Relaxed))
            }
            None => (state.head, state.sequence),
        };
        drop(state);
        self.super_block.lock().set_tail(&self.log, start, sequence)?;
        self.state.lock().free += freed;
        Ok(())
    }

    /// Commits and checkpoints everything; the log is empty afterwards, and the super block says so. Begun transactions of others are waited for.
    pub(crate) fn empty(&self) -> Result<()> {
        loop {
            if let Some(running) = self.running() {
                self.request(running.tid);
                self.wait(running.tid)?;
            }
            self.checkpoint(|state, _| state.checkpoints.is_empty() && state.committing.is_none())?;
            let _one_at_a_time = self.checkpointing.lock();
            let mut state = self.state.lock();
            if self.is_aborted() {
                return Err(Errno::EROFS);
            }
            if !self.running.is_none() || state.committing.is_some() || !state.checkpoints.is_empty() {
                continue;
            }
            if !state.empty {
                self.super_block.lock().set_tail(&self.log, 0, state.sequence)?;
                state.empty = true;
            }
            return Ok(());
        }
    }
}
