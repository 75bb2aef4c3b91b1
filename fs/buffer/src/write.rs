//! Writing: batches, and the dirty buffers of a file system without a journal.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use block::{Bio, End, Op, OpFlags};
use collections::fifo::{Chained, Fifo};
use mm::{Block, TryVec};

use crate::buffer::{Buffer, State};
use crate::cache::{BufferCache, Shared};
use crate::device::Device;

/// So many bios are submitted together.
const BATCH: usize = 64;

/// Writes of several buffers: given to the device together, and waited for together.
pub struct WriteBatch<'a> {
    device: &'a dyn Device,
    flags: OpFlags,
    bios: Fifo<Bio>,
    written: Vec<Arc<Buffer>>,
}

impl<'a> WriteBatch<'a> {
    /// An empty batch for buffers of `cache`.
    pub fn new(cache: &'a BufferCache, flags: OpFlags) -> Self {
        Self::on(cache.device(), flags)
    }

    fn on(device: &'a dyn Device, flags: OpFlags) -> Self {
        Self { device, flags: flags | OpFlags::META, bios: Fifo::new(), written: Vec::new() }
    }

    /// Adds a version of a buffer, to be written to its place. Waits for an older write of the same buffer.
    ///
    /// # Errors
    /// `ENOMEM`: it is not added.
    pub fn add(&mut self, buffer: &Arc<Buffer>, data: &Arc<Block>) -> Result<()> {
        self.written.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        while buffer.set(State::WRITING).contains(State::WRITING) {
            // Who has it may wait for something that is held back here.
            self.submit();
            buffer.wait_write();
        }
        match self.bio(buffer, data) {
            Ok(bio) => {
                buffer.clear(State::WRITE_ERROR);
                self.bios.push_back(bio);
                self.written.push_reserved(buffer.clone());
            }
            Err(errno) => {
                buffer.clear(State::WRITING);
                buffer.shared.wait(buffer.block).wake_all();
                return Err(errno);
            }
        }
        if self.bios.len() >= BATCH {
            self.submit();
        }
        Ok(())
    }

    fn bio(&self, buffer: &Arc<Buffer>, data: &Arc<Block>) -> Result<Chained<Bio>> {
        let mut bio = Bio::new(Op::Write, self.flags, buffer.sector(), 1, End::Shared(buffer.clone()))?;
        bio.push_block(data)?;
        Ok(bio)
    }

    /// Gives the device what it has not got yet.
    pub fn submit(&mut self) {
        if !self.bios.is_empty() {
            self.device.submit(core::mem::take(&mut self.bios));
        }
    }

    /// How many buffers were added.
    pub fn len(&self) -> usize {
        self.written.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Waits until all are written. Returns them; [`Buffer::write_failed`] says of each whether it failed.
    pub fn wait(mut self) -> Vec<Arc<Buffer>> {
        self.submit();
        self.written.iter().for_each(|buffer| buffer.wait_write());
        core::mem::take(&mut self.written)
    }
}

impl Drop for WriteBatch<'_> {
    /// What was added is written in any case.
    fn drop(&mut self) {
        self.submit();
    }
}

impl BufferCache {
    /// Writes all dirty buffers and waits for them, and for those that somebody else is writing. Does not flush the device's cache.
    ///
    /// # Errors
    /// `EIO` if one failed since the last call that said so; `ENOMEM`.
    pub fn write_back(&self) -> Result<()> {
        self.shared().write_back()
    }

    /// How many writes of buffers have failed so far.
    pub fn write_errors(&self) -> u32 {
        self.shared().write_errors.load(Ordering::Relaxed)
    }

    /// What was written survives a power cut from now on.
    ///
    /// # Errors
    /// The device's.
    pub fn flush(&self) -> Result<()> {
        self.device().flush()
    }
}

impl Buffer {
    /// It is newer than the device: [`BufferCache::write_back`] writes it. For file systems without a journal. May write others first, if
    /// too many are dirty.
    pub fn mark_dirty(self: &Arc<Self>) {
        // The contents come before the bit: whoever clears it writes them.
        if self.state().contains(State::DIRTY) || self.set(State::DIRTY).contains(State::DIRTY) {
            return;
        }
        let mut dirty = self.shared.dirty.lock();
        let listed = dirty.store(self.block, self.clone());
        let many = dirty.len() > self.shared.dirty_limit;
        drop(dirty);
        if listed.is_err() || many {
            if listed.is_err() && self.clear(State::DIRTY).contains(State::DIRTY) {
                // Without memory for the list it is written at once.
                let mut batch = WriteBatch::on(&*self.shared.device, OpFlags::BACKGROUND);
                if batch.add(self, &self.data()).is_err() {
                    self.shared.write_errors.fetch_add(1, Ordering::Relaxed);
                    self.set(State::WRITE_ERROR);
                }
            }
            let _ = self.shared.write_back();
        }
    }
}

impl Shared {
    /// Takes a buffer off the list.
    pub(crate) fn undirty(&self, buffer: &Buffer) {
        if buffer.clear(State::DIRTY).contains(State::DIRTY) {
            let gone = self.dirty.lock().remove(buffer.block);
            drop(gone);
        }
    }

    fn next_dirty(&self, from: u64) -> Option<Arc<Buffer>> {
        let mut dirty = self.dirty.lock();
        let block = dirty.next(from..=u64::MAX)?.0;
        dirty.remove(block)
    }

    fn write_back(&self) -> Result<()> {
        let mut reported = self.writeback.lock();
        let mut at = Some(0);
        let mut result = Ok(());
        while let Some(from) = at {
            let mut batch = WriteBatch::on(&*self.device, OpFlags::empty());
            at = None;
            while batch.len() < 16 * BATCH {
                let from = at.unwrap_or(from);
                let Some(buffer) = self.next_dirty(from) else { break };
                at = buffer.block.checked_add(1);
                buffer.clear(State::DIRTY);
                if let Err(errno) = batch.add(&buffer, &buffer.data()) {
                    buffer.mark_dirty_again();
                    result = Err(errno);
                    at = None;
                    break;
                }
                if at.is_none() {
                    break;
                }
            }
            drop(batch.wait());
        }
        let errors = self.write_errors.load(Ordering::Relaxed);
        if core::mem::replace(&mut *reported, errors) != errors {
            result = Err(Errno::EIO);
        }
        result
    }
}

impl Buffer {
    /// Puts it back on the list that it was just taken from.
    fn mark_dirty_again(self: &Arc<Self>) {
        if !self.set(State::DIRTY).contains(State::DIRTY)
            && self.shared.dirty.lock().store(self.block, self.clone()).is_err()
        {
            self.clear(State::DIRTY);
            self.set(State::WRITE_ERROR);
            self.shared.write_errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}
