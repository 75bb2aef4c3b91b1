//! Committing: the running transaction goes to the log. Done by the journal's thread, one transaction at a time.
//!
//! 1. No handle joins any more; those that are there end.
//! 2. The transaction has its place in the log, and handles may begin the next one.
//! 3. Data that is to be on disk first is submitted.
//! 4. Freed blocks, descriptors and the current versions of all buffers are written to the log. A buffer that the next transaction has changed
//!    meanwhile has left a snapshot.
//! 5. When all that is written, and the data is, the commit block follows, behind a flush of the device's cache and past it.
//! 6. The buffers are to be written to their places some time; freed blocks may be used again.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use block::OpFlags;
use buffer::Buffer;
use collections::xarray::EntryRef;
use mm::context::NoFailScope;
use mm::{Block, TryCollect, TryDeque, TryVec, try_arc};

use crate::format::{self, MAGIC, REVOKE_COUNT, REVOKE_FIRST, Tag, TagFlags, be32, commit, kind, put};
use crate::log::LogBatch;
use crate::shared::Core;
use crate::transaction::{Tid, Transaction};

/// What was done of a transaction.
#[derive(Default)]
struct Outcome {
    /// Buffers that are in the log.
    written: Vec<Arc<Buffer>>,
    /// Buffers whose blocks it frees.
    forgotten: Vec<Arc<Buffer>>,
    /// Blocks of the log that it has, and the one behind them.
    blocks: u32,
    head: u32,
}

impl Core {
    /// Commits the running transaction, if there is one.
    pub(crate) fn commit_running(self: &Arc<Self>) {
        let Some(transaction) = self.running() else { return };
        // Half of a commit cannot be undone: small allocations wait for memory.
        let _no_fail = NoFailScope::enter();
        transaction.lock_and_wait();
        let mut out = Outcome::default();
        let result = self.switch(&transaction).and_then(|()| self.write_out(&transaction, &mut out));
        if let Err(errno) = result {
            self.abort(errno);
        }
        self.finish(&transaction, out, result);
    }

    /// The transaction gets its place in the log; the next one may begin.
    fn switch(&self, transaction: &Arc<Transaction>) -> Result<()> {
        let most = transaction.most_blocks(&self.format);
        let mut state = self.state.lock();
        let room = state.free.checked_sub(most);
        if let Some(free) = room {
            state.free = free;
            transaction.log_blocks.store(most, Ordering::Relaxed);
        }
        transaction.log_start.store(state.head, Ordering::Relaxed);
        transaction.sequence.store(state.sequence, Ordering::Relaxed);
        state.committing = Some(transaction.clone());
        drop(self.running.replace(None));
        drop(state);
        self.progress.wake_all();
        room.map(drop).ok_or(Errno::ENOSPC)
    }

    fn write_out(&self, transaction: &Transaction, out: &mut Outcome) -> Result<()> {
        if self.is_aborted() {
            return Err(Errno::EROFS);
        }
        let ordered = core::mem::take(&mut *transaction.ordered.lock());
        for one in ordered.values() {
            one.data.submit(one.range.clone());
        }
        let written = self.write_blocks(transaction, out);
        let mut data_error = Ok(());
        for one in ordered.values() {
            data_error = one.data.wait(one.range.clone()).and(data_error);
        }
        if let Err(errno) = data_error {
            // The file knows; its metadata is right anyway.
            log::warn!("jbd2: {errno:?} writing data of transaction {}", transaction.tid);
            if self.data_errors_abort {
                return Err(errno);
            }
        }
        written?;
        if out.blocks == 0 {
            // Nothing for the log. Whoever waits for a transaction relies on a flush all the same.
            return if self.barriers { self.cache.flush() } else { Ok(()) };
        }
        if self.log.is_external && !ordered.is_empty() && self.barriers {
            self.cache.flush()?;
        }
        let block = self.commit_block(transaction.sequence.load(Ordering::Relaxed))?;
        let flags = if self.barriers { OpFlags::PREFLUSH | OpFlags::FUA } else { OpFlags::empty() };
        self.log.write(out.head, &block, flags)?;
        out.head = self.next_block(out.head);
        out.blocks += 1;
        Ok(())
    }

    fn commit_block(&self, sequence: u32) -> Result<Arc<Block>> {
        let mut block = Block::new_zeroed(self.format.block_size)?;
        let bytes = block.bytes_mut();
        let now = sched::time::realtime_ns();
        format::put_header(bytes, kind::COMMIT, sequence);
        put(bytes, commit::SECONDS, (now / 1_000_000_000).to_be_bytes());
        put(bytes, commit::NANOSECONDS, ((now % 1_000_000_000) as u32).to_be_bytes());
        self.format.seal_commit(bytes);
        Ok(try_arc(block)?)
    }

    /// Writes all blocks but the commit block, and waits for them.
    fn write_blocks(&self, transaction: &Transaction, out: &mut Outcome) -> Result<()> {
        out.head = transaction.log_start.load(Ordering::Relaxed);
        let members = core::mem::take(&mut *transaction.members.lock());
        let mut versions: Vec<Arc<Block>> = Vec::new();
        for buffer in members {
            match version(transaction, &buffer) {
                Some(block) => {
                    versions.try_push(block)?;
                    out.written.try_push(buffer)?;
                }
                None => out.forgotten.try_push(buffer)?,
            }
        }
        if out.written.is_empty() && transaction.nr_revokes.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.log_begins(transaction)?;
        let mut batch = LogBatch::new(&self.log)?;
        self.write_revokes(transaction, &mut batch, out)?;
        let sequence = transaction.sequence.load(Ordering::Relaxed);
        let numbers = out.written.iter().map(|buffer| buffer.block()).try_collect_vec()?;
        let mut rest = numbers.into_iter().zip(versions).peekable();
        while rest.peek().is_some() {
            let at = self.take_block(out);
            let mut descriptor = Block::new_zeroed(self.format.block_size)?;
            let bytes = descriptor.bytes_mut();
            format::put_header(bytes, kind::DESCRIPTOR, sequence);
            for n in 0..self.format.tags_per_block() {
                let Some((number, block)) = rest.next() else { break };
                let (block, mut flags) = escape(block)?;
                flags.set(TagFlags::SAME_UUID, n > 0);
                flags.set(TagFlags::LAST, n + 1 == self.format.tags_per_block() || rest.peek().is_none());
                let checksum = match self.format.has_checksums() {
                    true => self.format.data_checksum(sequence, block.bytes()),
                    false => 0,
                };
                self.format.put_tag(bytes, n, &Tag { block: number, flags, checksum });
                batch.add(self.take_block(out), &block)?;
            }
            self.format.seal(bytes);
            batch.add(at, &try_arc(descriptor)?)?;
        }
        batch.wait()
    }

    /// The next block of the log.
    fn take_block(&self, out: &mut Outcome) -> u32 {
        let at = out.head;
        out.head = self.next_block(at);
        out.blocks += 1;
        at
    }

    /// Something is about to be in the log: the super block says from where on, if it said that there is nothing.
    fn log_begins(&self, transaction: &Transaction) -> Result<()> {
        if self.state.lock().empty {
            // Nobody calls it empty while there is a transaction that is being committed.
            let start = transaction.log_start.load(Ordering::Relaxed);
            let sequence = transaction.sequence.load(Ordering::Relaxed);
            self.super_block.lock().set_tail(&self.log, start, sequence)?;
            self.state.lock().empty = false;
        }
        Ok(())
    }

    fn write_revokes(&self, of: &Transaction, batch: &mut LogBatch<'_>, out: &mut Outcome) -> Result<()> {
        let revokes = core::mem::take(&mut *of.revokes.lock());
        let sequence = of.sequence.load(Ordering::Relaxed);
        let (mut from, mut over) = (0, false);
        while !over {
            let mut block = Block::new_zeroed(self.format.block_size)?;
            let bytes = block.bytes_mut();
            format::put_header(bytes, kind::REVOKE, sequence);
            put(bytes, REVOKE_COUNT, (REVOKE_FIRST as u32).to_be_bytes());
            let mut n = 0;
            while n < self.format.revokes_per_block() && !over {
                match revokes.next_entry(from..=u64::MAX) {
                    Some((number, EntryRef::Shadow(_) | EntryRef::Value(_))) => {
                        self.format.put_revoked(bytes, n, number);
                        n += 1;
                        match number.checked_add(1) {
                            Some(next) => from = next,
                            None => over = true,
                        }
                    }
                    None => over = true,
                }
            }
            if n > 0 {
                self.format.seal(bytes);
                let at = self.take_block(out);
                batch.add(at, &try_arc(block)?)?;
            }
        }
        Ok(())
    }

    /// The transaction is over, on disk or not.
    fn finish(&self, transaction: &Arc<Transaction>, out: Outcome, result: Result<()>) {
        let tid = transaction.tid;
        if result.is_ok() {
            self.settle(tid, &out);
            let in_log = out.blocks != 0;
            *transaction.members.lock() = out.written;
            transaction.done_ns.store(sched::time::monotonic_ns(), Ordering::Relaxed);
            let mut state = self.state.lock();
            state.committing = None;
            state.free +=
                transaction.log_blocks.swap(out.blocks, Ordering::Relaxed).saturating_sub(out.blocks);
            if in_log {
                state.head = out.head;
                state.sequence = state.sequence.wrapping_add(1);
                // The thread has a NoFailScope.
                if state.checkpoints.try_reserve(1).is_ok() {
                    state.checkpoints.push_back_reserved(transaction.clone());
                }
            }
            drop(state);
            self.durable.store(tid, Ordering::Release);
        } else {
            let rest = core::mem::take(&mut *transaction.members.lock());
            rest.iter().chain(&out.written).chain(&out.forgotten).for_each(|buffer| give_up(tid, buffer));
            self.state.lock().committing = None;
        }
        let callbacks = core::mem::take(&mut *transaction.callbacks.lock());
        callbacks.into_iter().for_each(|callback| callback.committed(result));
        self.committed.store(tid, Ordering::Release);
        self.progress.wake_all();
    }

    /// What the buffers of a transaction on disk say from now on.
    fn settle(&self, tid: u64, out: &Outcome) {
        for buffer in &out.written {
            let mut content = buffer.lock();
            content.journal.checkpoint = tid;
            if content.journal.transaction == tid {
                content.journal.transaction = 0;
            }
        }
        for buffer in &out.forgotten {
            // Whoever gets the block next is not to be overtaken by a write of what it was before.
            buffer.wait_write();
            let mut content = buffer.lock();
            content.journal.checkpoint = 0;
            if content.journal.transaction == tid {
                content.journal.transaction = 0;
                content.journal.forgotten = false;
                buffer.invalidate();
            }
        }
    }
}

/// A transaction will never be on disk: the buffer is none of its.
fn give_up(tid: Tid, buffer: &Buffer) {
    let mut content = buffer.lock();
    if content.journal.transaction == tid {
        content.journal.transaction = 0;
        content.journal.forgotten = false;
    }
    content.journal.frozen = None;
}

/// The version of a buffer that the transaction writes; `None` if it frees the block.
fn version(transaction: &Transaction, buffer: &Buffer) -> Option<Arc<Block>> {
    let mut content = buffer.lock();
    if content.journal.transaction != transaction.tid {
        // Part of the next one already.
        return content.journal.frozen.take();
    }
    if content.journal.forgotten {
        return None;
    }
    content.journal.logged = transaction.tid;
    Some(content.data().clone())
}

/// What a block looks like in the log: not like one of the journal's own.
fn escape(block: Arc<Block>) -> Result<(Arc<Block>, TagFlags)> {
    if be32(block.bytes(), 0) != MAGIC {
        return Ok((block, TagFlags::empty()));
    }
    let mut copy = block.try_clone()?;
    put(copy.bytes_mut(), 0, [0; 4]);
    Ok((try_arc(copy)?, TagFlags::ESCAPE))
}
