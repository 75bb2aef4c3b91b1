//! The log as blocks: where they are on the device, reading and writing them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::{Errno, Result};
use block::bio::SECTOR_SHIFT;
use block::{Bio, End, EndIo, Op, OpFlags};
use buffer::{BufferCache, Device};
use collections::fifo::{Chained, Fifo};
use mm::fallible::try_with_capacity;
use mm::{Block, Folio, Gfp, Order, TryVec, try_arc};
use sched::wait::WaitQueue;

/// Blocks of the log that are neighbours on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first, by its number in the log.
    pub first: u32,
    /// How many.
    pub len: u32,
    /// Where the first is on the device, in blocks.
    pub physical: u64,
}

/// Where a journal is.
pub enum JournalPlace {
    /// In a file of the file system itself: its blocks, in order and without holes.
    Inode(Vec<Extent>),
    /// On a device of its own.
    Device {
        /// The device.
        device: Arc<dyn Device>,
        /// The block of the journal's super block.
        first: u64,
        /// How many blocks there are from there on.
        blocks: u32,
    },
}

/// The log. See the module's text.
pub(crate) struct Log {
    device: Arc<dyn Device>,
    pub(crate) is_external: bool,
    extents: Vec<Extent>,
    /// Blocks that it has.
    pub(crate) blocks: u32,
    pub(crate) block_size: usize,
}

impl Log {
    pub(crate) fn new(cache: &BufferCache, place: JournalPlace) -> Result<Self> {
        let block_size = cache.block_size();
        let (device, extents, is_external) = match place {
            JournalPlace::Inode(extents) => (cache.device_arc().clone(), extents, false),
            JournalPlace::Device { device, first, blocks } => {
                let mut extents = Vec::new();
                extents.try_push(Extent { first: 0, len: blocks, physical: first })?;
                (device, extents, true)
            }
        };
        let per_block = (block_size >> SECTOR_SHIFT) as u64;
        let end = device.sectors() / per_block;
        let mut blocks = 0u32;
        for extent in &extents {
            let inside = extent.physical.checked_add(u64::from(extent.len)).is_some_and(|to| to <= end);
            if extent.first != blocks || !inside {
                return Err(Errno::EUCLEAN);
            }
            blocks = blocks.checked_add(extent.len).ok_or(Errno::EUCLEAN)?;
        }
        Ok(Self { device, is_external, extents, blocks, block_size })
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.device.is_read_only()
    }

    /// The first sector of a block.
    fn sector(&self, block: u32) -> Result<u64> {
        let at = self.extents.partition_point(|extent| extent.first <= block);
        let extent = at.checked_sub(1).and_then(|at| self.extents.get(at)).ok_or(Errno::EUCLEAN)?;
        let inside = block - extent.first;
        if inside >= extent.len {
            return Err(Errno::EUCLEAN);
        }
        Ok((extent.physical + u64::from(inside)) * (self.block_size >> SECTOR_SHIFT) as u64)
    }

    /// Reads blocks `first..first + count`, all at once. One that cannot be read is an error in its place.
    pub(crate) fn read(&self, first: u32, count: u32) -> Result<Vec<Result<Block>>> {
        let waiter = Waiter::new()?;
        let mut folios: Vec<Folio> = try_with_capacity(count as usize)?;
        let mut bios = Fifo::new();
        for n in 0..count {
            let folio = Folio::alloc(Gfp::NOFS, Order::ZERO)?;
            let sector = self.sector(first.checked_add(n).ok_or(Errno::EUCLEAN)?)?;
            let flags = OpFlags::META | OpFlags::SYNC;
            let mut bio = Bio::new(Op::Read, flags, sector, 1, End::Shared(waiter.clone()))?;
            bio.private = n.into();
            bio.push(&folio, 0, self.block_size)?;
            folios.push_reserved(folio);
            bios.push_back(bio);
        }
        waiter.pending.store(count, Ordering::Relaxed);
        waiter.keep_failed.store(true, Ordering::Relaxed);
        self.device.submit(bios);
        waiter.wait();
        let failed = waiter.take_failed();
        let mut blocks = try_with_capacity(folios.len())?;
        for (n, folio) in folios.into_iter().enumerate() {
            let bad = failed.iter().any(|bio| bio.private == n as u64);
            let block = if bad { Err(Errno::EIO) } else { Ok(Block::from_folio(folio, 0, self.block_size)?) };
            blocks.push_reserved(block);
        }
        Ok(blocks)
    }

    /// Writes one block and waits for it.
    pub(crate) fn write(&self, block: u32, data: &Arc<Block>, flags: OpFlags) -> Result<()> {
        let mut batch = LogBatch::new(self)?;
        batch.add_with(block, data, flags | OpFlags::SYNC | OpFlags::META)?;
        batch.wait()
    }
}

/// Writes of blocks of the log that are under way together.
pub(crate) struct LogBatch<'a> {
    log: &'a Log,
    waiter: Arc<Waiter>,
    bios: Fifo<Bio>,
}

/// So many bios are submitted together.
const BATCH: usize = 64;

impl<'a> LogBatch<'a> {
    pub(crate) fn new(log: &'a Log) -> Result<Self> {
        Ok(Self { log, waiter: Waiter::new()?, bios: Fifo::new() })
    }

    pub(crate) fn add(&mut self, block: u32, data: &Arc<Block>) -> Result<()> {
        self.add_with(block, data, OpFlags::SYNC | OpFlags::META)
    }

    fn add_with(&mut self, block: u32, data: &Arc<Block>, flags: OpFlags) -> Result<()> {
        let end = End::Shared(self.waiter.clone());
        let mut bio = Bio::new(Op::Write, flags, self.log.sector(block)?, 1, end)?;
        bio.push_block(data)?;
        self.waiter.pending.fetch_add(1, Ordering::Relaxed);
        self.bios.push_back(bio);
        if self.bios.len() >= BATCH {
            self.submit();
        }
        Ok(())
    }

    fn submit(&mut self) {
        if !self.bios.is_empty() {
            self.log.device.submit(core::mem::take(&mut self.bios));
        }
    }

    /// Waits for all of them.
    pub(crate) fn wait(mut self) -> Result<()> {
        self.submit();
        self.waiter.wait();
        if self.waiter.failed.load(Ordering::Relaxed) { Err(Errno::EIO) } else { Ok(()) }
    }
}

impl Drop for LogBatch<'_> {
    fn drop(&mut self) {
        self.submit();
        self.waiter.wait();
    }
}

/// Waits for a number of bios.
struct Waiter {
    pending: AtomicU32,
    failed: AtomicBool,
    /// Bios that failed are of interest.
    keep_failed: AtomicBool,
    kept: arch::sync::SpinLockIrq<Fifo<Bio>>,
    queue: WaitQueue,
}

impl Waiter {
    fn new() -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            pending: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            keep_failed: AtomicBool::new(false),
            kept: arch::sync::SpinLockIrq::new(Fifo::new()),
            queue: WaitQueue::new(),
        })?)
    }

    fn wait(&self) {
        self.queue.wait_event(|| self.pending.load(Ordering::Acquire) == 0);
    }

    fn take_failed(&self) -> Fifo<Bio> {
        core::mem::take(&mut *self.kept.lock())
    }
}

impl EndIo for Waiter {
    fn end_io(&self, bio: Chained<Bio>) {
        if !bio.status.is_ok() {
            self.failed.store(true, Ordering::Relaxed);
            if self.keep_failed.load(Ordering::Relaxed) {
                self.kept.lock().push_back(bio);
                return self.one_less();
            }
        }
        // Its references go before whoever waits can go on.
        drop(bio);
        self.one_less();
    }
}

impl Waiter {
    fn one_less(&self) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.queue.wake_all();
        }
    }
}
