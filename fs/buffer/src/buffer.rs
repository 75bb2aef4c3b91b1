//! One block.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::Result;
use bitflags::bitflags;
use block::bio::SECTOR_SHIFT;
use block::{Bio, EndIo, Op};
use collections::fifo::{Chained, Node};
use mm::{Block, try_arc};
use sched::mutex::{Mutex, MutexGuard};
use sync::{BoxSlot, RcuPtr};

use crate::cache::Shared;

bitflags! {
    /// What is known of a buffer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct State: u32 {
        /// The contents are those of the device, or newer.
        const VALID = 1 << 0;
        /// Whoever reads it has checked it once.
        const VERIFIED = 1 << 1;
        /// Newer than the device, and to be written without a journal.
        const DIRTY = 1 << 2;
        /// A read is under way, or is over and was not looked at yet.
        const READING = 1 << 3;
        /// A write is under way.
        const WRITING = 1 << 4;
        /// The last read failed.
        const READ_ERROR = 1 << 5;
        /// The last write failed.
        const WRITE_ERROR = 1 << 6;
        /// Was looked up since the clock came by.
        const REFERENCED = 1 << 7;
        /// Out of the table, or about to be.
        const DEAD = 1 << 8;
    }
}

/// What a journal notes about a buffer; without one it stays as it is in the beginning. The meaning is the journal's (crate `jbd2`).
#[derive(Default)]
pub struct JournalState {
    /// The newest transaction that the buffer is part of and that is not on disk yet; 0: none.
    pub transaction: u64,
    /// That transaction frees the block: it is not written.
    pub forgotten: bool,
    /// The transaction in whose list the buffer was entered last.
    pub listed: u64,
    /// The transaction whose version the journal has taken last, to write it to its log.
    pub logged: u64,
    /// The version that the transaction before that one has yet to write, which is being committed; `None` if it is the current one.
    pub frozen: Option<Arc<Block>>,
    /// The newest transaction on disk that has the buffer, while its place in the file system is older; 0: none.
    pub checkpoint: u64,
}

/// What is behind a buffer's lock.
pub struct Content {
    data: Arc<Block>,
    /// What a journal notes.
    pub journal: JournalState,
}

impl Content {
    /// The current version.
    #[inline]
    pub fn data(&self) -> &Arc<Block> {
        &self.data
    }

    /// The bytes, to change: in place if there is no snapshot, otherwise those of a copy.
    ///
    /// # Errors
    /// `ENOMEM`; nothing is changed then.
    #[inline]
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        // Whoever makes another reference does that under the lock that the caller holds.
        if Arc::strong_count(&self.data) != 1 {
            self.data = copy(&self.data)?;
        }
        Ok(Arc::get_mut(&mut self.data).map_or(&mut [], Block::bytes_mut))
    }

    /// The bytes, all zero.
    ///
    /// # Errors
    /// `ENOMEM`; nothing is changed then.
    pub fn zeroed(&mut self) -> Result<&mut [u8]> {
        match Arc::get_mut(&mut self.data) {
            Some(block) => block.bytes_mut().fill(0),
            None => self.data = try_arc(Block::new_zeroed(self.data.len())?)?,
        }
        Ok(Arc::get_mut(&mut self.data).map_or(&mut [], Block::bytes_mut))
    }

    /// Makes `block`, which is as long, the current version.
    pub(crate) fn replace(&mut self, block: Arc<Block>) {
        self.data = block;
    }
}

#[cold]
#[inline(never)]
fn copy(block: &Block) -> Result<Arc<Block>> {
    Ok(try_arc(block.try_clone()?)?)
}

/// A block of metadata in memory. See the crate's text.
pub struct Buffer {
    pub(crate) block: u64,
    state: AtomicU32,
    content: Mutex<Content>,
    /// A read that is over.
    pub(crate) finished: BoxSlot<Node<Bio>>,
    /// The next of its chain.
    pub(crate) next: RcuPtr<Buffer>,
    pub(crate) shared: Arc<Shared>,
}

impl Buffer {
    pub(crate) fn new(block: u64, shared: &Arc<Shared>) -> Result<Arc<Self>> {
        let content = Content { data: shared.zero.clone(), journal: JournalState::default() };
        Ok(try_arc(Self {
            block,
            state: AtomicU32::new(State::REFERENCED.bits()),
            content: Mutex::new(content),
            finished: BoxSlot::new(),
            next: RcuPtr::empty(),
            shared: shared.clone(),
        })?)
    }

    /// Its number, in blocks of the file system.
    #[inline]
    pub fn block(&self) -> u64 {
        self.block
    }

    /// Its length in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.shared.zero.len()
    }

    /// Its first sector on the device.
    #[inline]
    pub(crate) fn sector(&self) -> u64 {
        (self.block << self.shared.block_shift) >> SECTOR_SHIFT
    }

    /// A snapshot of its contents. Zeroes if they are not valid.
    #[inline]
    pub fn data(&self) -> Arc<Block> {
        self.content.lock().data.clone()
    }

    /// Its contents, to the exclusion of all others. Not to be held over a wait for a device, nor together with another buffer's.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock()
    }

    /// Changes its contents and makes it dirty: for file systems without a journal. `change` looks at no other buffer.
    ///
    /// # Errors
    /// `ENOMEM`; nothing is changed then.
    pub fn write<R>(self: &Arc<Self>, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        let result = change(self.lock().bytes_mut()?);
        self.mark_dirty();
        Ok(result)
    }

    /// Gives it contents without reading it: `fill` gets zeroes. It is valid afterwards, and not dirty.
    ///
    /// # Errors
    /// `ENOMEM`; nothing is changed then.
    pub fn create<R>(self: &Arc<Self>, fill: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        self.discard_read();
        let mut content = self.lock();
        let result = fill(content.zeroed()?);
        self.set_valid();
        Ok(result)
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        State::from_bits_retain(self.state.load(Ordering::Acquire))
    }

    /// Sets bits; returns those that were set before.
    #[inline]
    pub(crate) fn set(&self, bits: State) -> State {
        State::from_bits_retain(self.state.fetch_or(bits.bits(), Ordering::SeqCst))
    }

    /// Clears bits; returns those that were set before.
    #[inline]
    pub(crate) fn clear(&self, bits: State) -> State {
        State::from_bits_retain(self.state.fetch_and(!bits.bits(), Ordering::SeqCst))
    }

    /// Whether the contents are those of the device, or newer.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.state().contains(State::VALID)
    }

    /// The contents are right: for whoever has filled them in, under [`lock`](Self::lock).
    #[inline]
    pub fn set_valid(&self) {
        if !self.is_valid() {
            self.set(State::VALID);
        }
    }

    /// The contents are not wanted any more: for whoever has freed the block, under [`lock`](Self::lock), and with no write under way.
    pub fn invalidate(&self) {
        self.clear(State::VALID | State::VERIFIED | State::WRITE_ERROR);
    }

    /// Whether [`set_verified`](Self::set_verified) was called since the contents were read.
    #[inline]
    pub fn is_verified(&self) -> bool {
        self.state().contains(State::VERIFIED)
    }

    /// Its checksum, or whatever else is to be checked once, was looked at.
    #[inline]
    pub fn set_verified(&self) {
        if !self.is_verified() {
            self.set(State::VERIFIED);
        }
    }

    /// Whether it waits to be written without a journal.
    pub fn is_dirty(&self) -> bool {
        self.state().contains(State::DIRTY)
    }

    /// Whether its last write failed.
    pub fn write_failed(&self) -> bool {
        self.state().contains(State::WRITE_ERROR)
    }

    /// Waits until no write is under way.
    pub fn wait_write(&self) {
        if self.state().contains(State::WRITING) {
            self.shared.wait(self.block).wait_event(|| !self.state().contains(State::WRITING));
        }
    }

    /// The block was freed: its contents are not wanted any more, and not written. Waits for a write that is under way, so that whoever gets the
    /// block next is not overtaken by it.
    pub fn forget(self: &Arc<Self>) {
        self.shared.undirty(self);
        self.wait_write();
        self.discard_read();
        self.invalidate();
    }
}

/// The device is done with a read or a write of a buffer.
impl EndIo for Buffer {
    fn end_io(&self, bio: Chained<Bio>) {
        if bio.op == Op::Read {
            // Who wants the contents takes them from here, in a thread: READING stays.
            drop::<Option<Box<Node<Bio>>>>(self.finished.put(bio.into_box()));
        } else {
            let failed = !bio.status.is_ok();
            // The reference to the version that was written goes first: who waits may change it in place.
            drop(bio);
            if failed {
                self.shared.write_errors.fetch_add(1, Ordering::Relaxed);
                self.set(State::WRITE_ERROR);
            }
            self.clear(State::WRITING);
        }
        self.shared.wait(self.block).wake_all();
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} {:?})", self.block, self.state())
    }
}
