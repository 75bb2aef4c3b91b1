//! A handle: one operation of a file system, all of which is part of one transaction.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use buffer::{Buffer, BufferCache, Content};
use mm::TryVec;
use mm::context::NoFsScope;

use crate::shared::Core;
use crate::transaction::{Committed, OrderedData, Tid, Transaction};

enum Mode {
    Journal(Arc<Transaction>),
    /// The file system has no journal.
    None {
        cache: Arc<BufferCache>,
        callbacks: Vec<Box<dyn Committed>>,
    },
    /// It has ended.
    Over,
}

/// One operation. Ends when it is dropped, or with [`stop`](Self::stop), which tells of errors. Belongs to the thread that started it, which
/// does not start another one meanwhile: functions that are part of the operation get it passed along.
///
/// A *credit* is the right to make one more block part of the transaction. Whoever starts a handle says how many blocks it will change at
/// most; the same block counts once.
pub struct Handle {
    mode: Mode,
    /// Credits that are left.
    credits: u32,
    sync: bool,
    /// An allocation may not lead to an operation of its own.
    _nofs: NoFsScope,
}

impl Handle {
    #[inline]
    pub(crate) fn start(core: &Arc<Core>, credits: u32) -> Result<Self> {
        let transaction = core.join(credits)?;
        Ok(Self { mode: Mode::Journal(transaction), credits, sync: false, _nofs: NoFsScope::enter() })
    }

    /// A handle of a file system without a journal: what it changes is marked dirty.
    pub fn without_journal(cache: &Arc<BufferCache>) -> Self {
        let mode = Mode::None { cache: cache.clone(), callbacks: Vec::new() };
        Self { mode, credits: u32::MAX, sync: false, _nofs: NoFsScope::enter() }
    }

    /// Its transaction; 0 without a journal.
    #[inline]
    pub fn tid(&self) -> Tid {
        match &self.mode {
            Mode::Journal(transaction) => transaction.tid,
            _ => 0,
        }
    }

    /// Whether there is a journal.
    pub fn has_journal(&self) -> bool {
        matches!(self.mode, Mode::Journal(_))
    }

    /// Credits that are left.
    pub fn credits(&self) -> u32 {
        self.credits
    }

    /// Whether the journal was aborted: nothing of this will be on disk.
    pub fn is_aborted(&self) -> bool {
        matches!(&self.mode, Mode::Journal(transaction) if transaction.core.is_aborted())
    }

    /// Asks for `credits` more; false if the transaction has no room: then [`restart`](Self::restart), at a place where what was done so
    /// far may be all.
    ///
    /// # Errors
    /// `EROFS` after an abort.
    pub fn extend(&mut self, credits: u32) -> Result<bool> {
        let Mode::Journal(transaction) = &self.mode else { return Ok(true) };
        if transaction.core.is_aborted() {
            return Err(Errno::EROFS);
        }
        let got = transaction.extend(credits).is_ok();
        if got {
            self.credits += credits;
        }
        Ok(got)
    }

    /// Ends here, and goes on in the transaction that runs then.
    ///
    /// # Errors
    /// As [`crate::Journal::start`]; the handle has ended then, and everything else on it fails.
    pub fn restart(&mut self, credits: u32) -> Result<()> {
        let Mode::Journal(transaction) = &self.mode else { return Ok(()) };
        let (core, tid) = (transaction.core.clone(), transaction.tid);
        self.leave();
        core.request(tid);
        let transaction = core.join(credits)?;
        (self.mode, self.credits) = (Mode::Journal(transaction), credits);
        Ok(())
    }

    /// Changes a buffer, which becomes part of the transaction. `change` gets its bytes and looks at no other buffer; it may be called
    /// while others hold snapshots.
    ///
    /// # Errors
    /// `ENOSPC` without a credit for it, `EIO` if it has no valid contents, `EROFS` after an abort, `ENOMEM`; nothing is changed then.
    #[inline]
    pub fn modify<R>(&mut self, buffer: &Arc<Buffer>, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        let Mode::Journal(transaction) = &self.mode else {
            if matches!(self.mode, Mode::Over) {
                return Err(Errno::EROFS);
            }
            return if buffer.is_valid() { buffer.write(change) } else { Err(Errno::EIO) };
        };
        let mut content = buffer.lock();
        let journal = &content.journal;
        if journal.transaction != transaction.tid || journal.forgotten {
            if !buffer.is_valid() {
                return Err(Errno::EIO);
            }
            join(transaction, &mut self.credits, buffer, &mut content)?;
        }
        if transaction.core.is_aborted() {
            return Err(Errno::EROFS);
        }
        Ok(change(content.bytes_mut()?))
    }

    /// The same for a block that was just allocated: `fill` gets zeroes, whatever it was before.
    ///
    /// # Errors
    /// As [`modify`](Self::modify).
    pub fn create<R>(&mut self, buffer: &Arc<Buffer>, fill: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        let Mode::Journal(transaction) = &self.mode else {
            if matches!(self.mode, Mode::Over) {
                return Err(Errno::EROFS);
            }
            let result = buffer.create(fill)?;
            buffer.mark_dirty();
            return Ok(result);
        };
        // A read that is under way would bring what was there before.
        buffer.discard_read();
        let mut content = buffer.lock();
        let journal = &content.journal;
        if journal.transaction != transaction.tid || journal.forgotten {
            join(transaction, &mut self.credits, buffer, &mut content)?;
        }
        if transaction.core.is_aborted() {
            return Err(Errno::EROFS);
        }
        let result = fill(content.zeroed()?);
        buffer.set_valid();
        Ok(result)
    }

    /// Frees a block of metadata: what the log has of it is not replayed any more, and it is not written to its place. `buffer` is the block's, if
    /// the caller has it. The block may be used for something else when the transaction is on disk ([`on_commit`](Self::on_commit)).
    ///
    /// # Errors
    /// `ENOSPC` if the transaction has too many freed blocks, `EROFS` after an abort, `ENOMEM`.
    pub fn revoke(&mut self, block: u64, buffer: Option<&Arc<Buffer>>) -> Result<()> {
        let transaction = match &self.mode {
            Mode::Journal(transaction) => transaction,
            Mode::None { cache, .. } => {
                match buffer {
                    Some(buffer) => buffer.forget(),
                    None => cache.forget(block),
                }
                return Ok(());
            }
            Mode::Over => return Err(Errno::EROFS),
        };
        let core = &transaction.core;
        if core.is_aborted() {
            return Err(Errno::EROFS);
        }
        if transaction.nr_revokes.load(Ordering::Relaxed) >= core.max_revokes {
            return Err(Errno::ENOSPC);
        }
        let new = transaction.add_revoke(block)?;
        let found = if buffer.is_none() { core.cache.find(block) } else { None };
        let Some(buffer) = buffer.or(found.as_ref()) else { return Ok(()) };
        let forgotten = forget(transaction, buffer);
        if forgotten.is_err() && new {
            transaction.cancel_revoke(block);
        }
        forgotten
    }

    /// Data of a file in `range` (bytes) that is to be on disk before the transaction is.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn before_commit(&mut self, data: Arc<dyn OrderedData>, range: Range<u64>) -> Result<()> {
        match &self.mode {
            Mode::Journal(transaction) => transaction.add_ordered(data, range),
            _ => Ok(()),
        }
    }

    /// [`stop`](Self::stop) is to wait until the transaction is on disk. Handles of one transaction wait together.
    pub fn set_sync(&mut self) {
        self.sync = true;
    }

    /// Calls `callback` when the transaction is on disk, or will never be. Without a journal: at the end of the handle.
    ///
    /// # Errors
    /// `ENOMEM`: it is dropped and not called.
    pub fn on_commit(&mut self, callback: Box<dyn Committed>) -> Result<()> {
        match &mut self.mode {
            Mode::Journal(transaction) => transaction.callbacks.lock().try_push(callback)?,
            Mode::None { callbacks, .. } => callbacks.try_push(callback)?,
            Mode::Over => return Err(Errno::EROFS),
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// `EROFS` after an abort; with [`set_sync`](Self::set_sync) `EIO` if the transaction did not get to the disk.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        match core::mem::replace(&mut self.mode, Mode::Over) {
            Mode::Journal(transaction) => {
                transaction.leave(self.credits);
                if self.sync {
                    transaction.core.request(transaction.tid);
                    return transaction.core.wait(transaction.tid);
                }
                if transaction.core.is_aborted() { Err(Errno::EROFS) } else { Ok(()) }
            }
            Mode::None { callbacks, .. } => {
                callbacks.into_iter().for_each(|callback| callback.committed(Ok(())));
                Ok(())
            }
            Mode::Over => Ok(()),
        }
    }

    /// Leaves the transaction without waiting for it.
    fn leave(&mut self) {
        if let Mode::Journal(transaction) = core::mem::replace(&mut self.mode, Mode::Over) {
            transaction.leave(self.credits);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Makes a buffer part of the transaction.
#[cold]
#[inline(never)]
fn join(
    transaction: &Transaction,
    credits: &mut u32,
    buffer: &Arc<Buffer>,
    content: &mut Content,
) -> Result<()> {
    // One that was freed and comes back pays again: it may not have paid before.
    if *credits == 0 {
        log::warn!("jbd2: a handle has no credit for block {}", buffer.block());
        return Err(Errno::ENOSPC);
    }
    if !transaction.core.format.can_name(buffer.block()) {
        return Err(Errno::EFBIG);
    }
    enter(transaction, buffer, content)?;
    content.journal.forgotten = false;
    transaction.cancel_revoke(buffer.block());
    *credits -= 1;
    Ok(())
}

/// Notes in the buffer and in the transaction's list that they belong together. An older transaction that has not written its version yet keeps it.
fn enter(transaction: &Transaction, buffer: &Arc<Buffer>, content: &mut Content) -> Result<()> {
    let tid = transaction.tid;
    if content.journal.listed != tid {
        transaction.add_member(buffer)?;
        content.journal.listed = tid;
    }
    let older = content.journal.transaction;
    if older != 0 && older != tid && !content.journal.forgotten && content.journal.logged != older {
        content.journal.frozen = Some(content.data().clone());
    }
    content.journal.transaction = tid;
    Ok(())
}

/// The transaction frees a buffer's block.
fn forget(transaction: &Transaction, buffer: &Arc<Buffer>) -> Result<()> {
    let mut content = buffer.lock();
    if content.journal.transaction == 0 && content.journal.checkpoint == 0 {
        // The log does not know it.
        drop(content);
        buffer.forget();
        return Ok(());
    }
    // An older version that is in the log only has to be written to its place until this transaction is on disk: the buffer stays in lists.
    enter(transaction, buffer, &mut content)?;
    content.journal.forgotten = true;
    Ok(())
}
