//! The cache: from block number to buffer.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;
use block::bio::SECTOR_SIZE;
use collections::xarray::XArray;
use mm::fallible::try_into_boxed_slice;
use mm::{Block, Gfp, Shrinker, TryCollect, try_arc};
use sched::mutex::Mutex;
use sched::rcu::ReadGuard;
use sched::wait::WaitQueue;
use sync::RcuPtr;

use crate::buffer::{Buffer, State};
use crate::device::Device;

/// Queues for those who wait for a buffer, by its block.
const WAITS: usize = 32;
/// Locks for changes of the table, by bucket.
const LOCKS: usize = 64;
/// Buckets that an addition to a full table looks through.
const SWEEP: usize = 16;

/// What buffers know of their cache.
pub(crate) struct Shared {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) block_shift: u32,
    /// What invalid buffers contain.
    pub(crate) zero: Arc<Block>,
    waits: [WaitQueue; WAITS],
    /// Buffers that are to be written without a journal.
    pub(crate) dirty: Mutex<XArray<Arc<Buffer>>>,
    pub(crate) dirty_limit: usize,
    pub(crate) write_errors: AtomicU32,
    /// One write-back at a time; as many errors were reported.
    pub(crate) writeback: Mutex<u32>,
}

impl Shared {
    pub(crate) fn wait(&self, block: u64) -> &WaitQueue {
        &self.waits[block as usize % WAITS]
    }
}

struct Table {
    buckets: Box<[RcuPtr<Buffer>]>,
    locks: [SpinLock<()>; LOCKS],
    /// Buffers in it.
    count: AtomicUsize,
    /// Where the clock stands.
    hand: AtomicUsize,
    /// Pages that a hundred buffers have, with their small change.
    pages_per_100: usize,
}

/// The metadata blocks of one file system. See the crate's text.
pub struct BufferCache {
    shared: Arc<Shared>,
    table: Arc<Table>,
    blocks: u64,
    limit: usize,
}

impl BufferCache {
    /// A cache of blocks of `block_size` bytes (1024, 2048, 4096, or 512) of `device`.
    ///
    /// # Errors
    /// `EINVAL` for another size, or one below the device's; `ENOMEM`.
    pub fn new(device: Arc<dyn Device>, block_size: u32) -> Result<Arc<Self>> {
        let size = block_size as usize;
        if !size.is_power_of_two()
            || !(mm::block::MIN_SIZE..=PAGE_SIZE).contains(&size)
            || block_size < device.logical_block_size()
        {
            return Err(Errno::EINVAL);
        }
        let blocks = device.sectors() / (u64::from(block_size) / SECTOR_SIZE);
        let pages = mm::stats::meminfo().total;
        let limit = (pages / 2).max(1024);
        let count = usize::try_from(blocks / 32).unwrap_or(usize::MAX).min(pages / 16).clamp(64, 1 << 17);
        let buckets = (0..count.next_power_of_two()).map(|_| RcuPtr::empty()).try_collect_vec()?;
        let table = try_arc(Table {
            buckets: try_into_boxed_slice(buckets)?,
            locks: [const { SpinLock::new(()) }; LOCKS],
            count: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            pages_per_100: 100 * size / PAGE_SIZE,
        })?;
        let shared = try_arc(Shared {
            device,
            block_shift: block_size.trailing_zeros(),
            zero: try_arc(Block::new_zeroed(size)?)?,
            waits: [const { WaitQueue::new() }; WAITS],
            dirty: Mutex::new(XArray::new()),
            dirty_limit: limit / 4,
            write_errors: AtomicU32::new(0),
            writeback: Mutex::new(0),
        })?;
        let shrinker: Arc<dyn Shrinker> = table.clone();
        mm::shrinker::register(Arc::downgrade(&shrinker))?;
        Ok(try_arc(Self { shared, table, blocks, limit })?)
    }

    /// The device below.
    pub fn device(&self) -> &dyn Device {
        &*self.shared.device
    }

    /// The same, to be kept.
    pub fn device_arc(&self) -> &Arc<dyn Device> {
        &self.shared.device
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Bytes in a block.
    #[inline]
    pub fn block_size(&self) -> usize {
        self.shared.zero.len()
    }

    /// Blocks on the device.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Buffers in memory.
    pub fn len(&self) -> usize {
        self.table.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer of a block, which may be invalid: for whoever fills it in itself.
    ///
    /// # Errors
    /// `EIO` behind the end of the device, `ENOMEM`.
    #[inline]
    pub fn get(&self, block: u64) -> Result<Arc<Buffer>> {
        match self.find(block) {
            Some(buffer) => Ok(buffer),
            None => self.get_new(block),
        }
    }

    /// The buffer of a block, if there is one in memory.
    #[inline]
    pub fn find(&self, block: u64) -> Option<Arc<Buffer>> {
        let found = self.table.find(&sched::rcu::read_lock(), block)?;
        // Pairs with the fence in `evict`: it sees this reference, or we see its mark.
        arch::cpu::barrier_after_atomic();
        let state = found.state();
        if state.contains(State::DEAD) {
            return None;
        }
        if !state.contains(State::REFERENCED) {
            found.set(State::REFERENCED);
        }
        Some(found)
    }

    #[cold]
    #[inline(never)]
    fn get_new(&self, block: u64) -> Result<Arc<Buffer>> {
        if block >= self.blocks {
            return Err(Errno::EIO);
        }
        let buffer = Buffer::new(block, &self.shared)?;
        let guard = sched::rcu::read_lock();
        let (bucket, lock) = self.table.bucket(block);
        let locked = lock.lock();
        // Marks of the dead come and go under this lock.
        if let Some(there) = self.table.find(&guard, block) {
            return Ok(there);
        }
        drop(buffer.next.replace(bucket.load_arc(&guard)));
        drop(bucket.replace(Some(buffer.clone())));
        drop(locked);
        drop(guard);
        if self.table.count.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.table.sweep(SWEEP, SWEEP);
        }
        Ok(buffer)
    }

    /// A block was freed: see [`Buffer::forget`].
    pub fn forget(&self, block: u64) {
        if let Some(buffer) = self.find(block) {
            buffer.forget();
        }
    }

    /// Drops what nobody uses and is not dirty; returns how many buffers that were.
    pub fn trim(&self) -> usize {
        let buckets = self.table.buckets.len();
        // The first turn only takes the marks of use.
        self.table.sweep(usize::MAX, buckets) + self.table.sweep(usize::MAX, buckets)
    }
}

impl Drop for BufferCache {
    /// Waits for what is under way, so that no interrupt drops the last reference to anything. Dirty buffers are not written: whoever
    /// unmounts has done that.
    fn drop(&mut self) {
        let mut dirty = core::mem::take(&mut *self.shared.dirty.lock());
        if !dirty.is_empty() {
            log::warn!("buffer: {} dirty blocks are lost", dirty.len());
        }
        dirty.clear();
        let buckets = &self.table.buckets;
        for bucket in buckets {
            let mut at = bucket.load_arc(&sched::rcu::read_lock());
            while let Some(buffer) = at {
                buffer.wait_write();
                buffer.discard_read();
                at = buffer.next.load_arc(&sched::rcu::read_lock());
            }
        }
    }
}

impl Table {
    fn index(&self, block: u64) -> usize {
        let hash = block.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 32) as usize & (self.buckets.len() - 1)
    }

    fn bucket(&self, block: u64) -> (&RcuPtr<Buffer>, &SpinLock<()>) {
        let index = self.index(block);
        // Below the number of buckets, a power of two.
        (&self.buckets[index], &self.locks[index % LOCKS])
    }

    #[inline]
    fn find(&self, guard: &ReadGuard, block: u64) -> Option<Arc<Buffer>> {
        let mut slot = &self.buckets[self.index(block)];
        loop {
            let buffer = slot.load(guard)?;
            if buffer.block == block {
                // The slot may show another one by now: then the caller looks again, under the lock.
                return slot.load_arc(guard).filter(|found| found.block == block);
            }
            slot = &buffer.next;
        }
    }

    /// Looks through up to `buckets` buckets and drops up to `want` buffers that nobody uses; returns how many.
    fn sweep(&self, want: usize, buckets: usize) -> usize {
        let mut gone = 0;
        for _ in 0..buckets.min(self.buckets.len()) {
            if gone >= want {
                break;
            }
            let index = self.hand.fetch_add(1, Ordering::Relaxed) & (self.buckets.len() - 1);
            gone += self.sweep_bucket(index);
        }
        self.count.fetch_sub(gone, Ordering::Relaxed);
        gone
    }

    fn sweep_bucket(&self, index: usize) -> usize {
        let mut gone = 0;
        let guard = sched::rcu::read_lock();
        let mut slot = &self.buckets[index];
        if slot.is_none() {
            return 0;
        }
        // An allocation under the lock may have led here.
        let Some(_locked) = self.locks[index % LOCKS].try_lock() else { return 0 };
        while let Some(buffer) = slot.load_arc(&guard) {
            if Self::evict(&buffer) {
                drop(slot.replace(buffer.next.load_arc(&guard)));
                gone += 1;
                continue;
            }
            match slot.load(&guard) {
                Some(same) => slot = &same.next,
                None => break,
            }
        }
        gone
    }

    /// Marks a buffer as dead if only its chain refers to it, and this caller.
    fn evict(buffer: &Arc<Buffer>) -> bool {
        if buffer.clear(State::REFERENCED).intersects(State::REFERENCED | State::DIRTY | State::WRITING) {
            return false;
        }
        if Arc::strong_count(buffer) != 2 {
            return false;
        }
        buffer.set(State::DEAD);
        fence(Ordering::SeqCst);
        if Arc::strong_count(buffer) == 2 {
            return true;
        }
        buffer.clear(State::DEAD);
        false
    }
}

impl Shrinker for Table {
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn scan(&self, objects: usize, _: Gfp) -> usize {
        // As much of the table as there should be so many in: what is in use is not looked at again and again.
        let part = self.buckets.len().saturating_mul(objects) / self.count().max(1);
        self.sweep(objects, part.saturating_add(SWEEP)) * self.pages_per_100 / 100
    }
}

impl Drop for Table {
    /// Takes chains to pieces from their heads, so that no long one is dropped recursively.
    fn drop(&mut self) {
        for bucket in &mut self.buckets {
            let mut at = core::mem::take(bucket).into_inner();
            while let Some(buffer) = at {
                at = buffer.next.load_arc(&sched::rcu::read_lock());
                drop(buffer.next.replace(None));
            }
        }
    }
}

impl fmt::Debug for BufferCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferCache({} blocks of {})", self.len(), self.block_size())
    }
}
