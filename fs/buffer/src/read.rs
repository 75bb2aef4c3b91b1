//! Reading: one reader for each block, others wait for it; readahead.

use alloc::sync::Arc;

use abi::{Errno, Result};
use block::bio::SECTOR_SIZE;
use block::{Bio, End, Op, OpFlags};
use collections::fifo::{Chained, Fifo};
use mm::{Block, Folio, Gfp, Order, try_arc};

use crate::buffer::{Buffer, State};
use crate::cache::BufferCache;

impl BufferCache {
    /// A block with valid contents, read from the device if they are not here.
    ///
    /// # Errors
    /// `EIO` if it cannot be read or is behind the end of the device, `ENOMEM`.
    #[inline]
    pub fn read(&self, block: u64) -> Result<Arc<Buffer>> {
        let buffer = self.get(block)?;
        if !buffer.is_valid() {
            buffer.fill()?;
        }
        Ok(buffer)
    }

    /// Starts to read what is not here of `blocks`, and waits for nothing. What cannot be done is left out.
    pub fn readahead(&self, blocks: &[u64]) {
        let mut bios = Fifo::new();
        for block in blocks {
            let Ok(buffer) = self.get(*block) else { continue };
            if !buffer.state().intersects(State::VALID | State::READING)
                && let Ok(Some(bio)) = buffer.start_read(OpFlags::META | OpFlags::RAHEAD)
            {
                bios.push_back(bio);
            }
        }
        if !bios.is_empty() {
            self.device().submit(bios);
        }
    }
}

impl Buffer {
    /// Waits until the contents are valid, and reads them if nobody does.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`.
    pub fn fill(self: &Arc<Self>) -> Result<()> {
        let mut waited = false;
        loop {
            let state = self.state();
            if state.contains(State::VALID) {
                return Ok(());
            }
            if state.contains(State::READING) {
                if let Some(node) = self.finished.take() {
                    return self.finish_read(Chained::from_box(node));
                }
                waited = true;
                let over = || {
                    let state = self.state();
                    state.contains(State::VALID)
                        || !state.contains(State::READING)
                        || !self.finished.is_empty()
                };
                self.shared.wait(self.block).wait_event(over);
                continue;
            }
            if waited && state.contains(State::READ_ERROR) {
                return Err(Errno::EIO);
            }
            if let Some(bio) = self.start_read(OpFlags::META | OpFlags::SYNC | OpFlags::PRIO)? {
                let mut one = Fifo::new();
                one.push_back(bio);
                self.shared.device.submit(one);
            }
        }
    }

    /// Makes the running thread the reader; the bio is to be submitted. `None` if there is one, or nothing to be read any more.
    fn start_read(self: &Arc<Self>, flags: OpFlags) -> Result<Option<Chained<Bio>>> {
        if self.set(State::READING).contains(State::READING) {
            return Ok(None);
        }
        // Somebody else's read may have been over just now.
        let bio = if self.is_valid() { Ok(None) } else { self.read_bio(flags).map(Some) };
        if !matches!(bio, Ok(Some(_))) {
            self.end_reading(State::empty());
        }
        bio
    }

    fn read_bio(self: &Arc<Self>, flags: OpFlags) -> Result<Chained<Bio>> {
        let folio = Folio::alloc(Gfp::NOFS, Order::ZERO)?;
        debug_assert!(self.sector() < self.shared.device.sectors() && self.size() as u64 >= SECTOR_SIZE);
        let mut bio = Bio::new(Op::Read, flags, self.sector(), 1, End::Shared(self.clone()))?;
        bio.push(&folio, 0, self.size())?;
        Ok(bio)
    }

    /// Makes what was read the contents.
    fn finish_read(&self, bio: Chained<Bio>) -> Result<()> {
        let result = self.install(bio);
        let failed = if result.is_ok() { State::empty() } else { State::READ_ERROR };
        self.end_reading(failed);
        result
    }

    fn install(&self, bio: Chained<Bio>) -> Result<()> {
        if !bio.status.is_ok() {
            return Err(Errno::EIO);
        }
        let folio =
            bio.segments().first().and_then(|segment| segment.folio()).map(|(folio, _)| folio.clone());
        // Its reference goes, so that ours is the last.
        drop(bio);
        let block = try_arc(Block::from_folio(folio.ok_or(Errno::EIO)?, 0, self.size())?)?;
        let mut content = self.lock();
        if !self.is_valid() {
            content.replace(block);
            self.clear(State::VERIFIED);
            self.set(State::VALID);
        }
        Ok(())
    }

    fn end_reading(&self, failed: State) {
        self.clear(State::READ_ERROR);
        if !failed.is_empty() {
            self.set(failed);
        }
        self.clear(State::READING);
        self.shared.wait(self.block).wake_all();
    }

    /// Waits for a read that is under way, and drops what it brings.
    pub fn discard_read(&self) {
        while self.state().contains(State::READING) {
            if let Some(node) = self.finished.take() {
                drop(node);
                self.end_reading(State::empty());
                return;
            }
            let over = || !self.state().contains(State::READING) || !self.finished.is_empty();
            self.shared.wait(self.block).wait_event(over);
        }
    }
}
