//! A transaction: changes that reach the file system together.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::Result;
use buffer::Buffer;
use collections::sorted::SortedMap;
use collections::xarray::{Entry, XArray};
use mm::TryVec;
use sched::mutex::Mutex;

use crate::format::Format;
use crate::shared::Core;

/// A transaction's number in memory: never 0, and never used again. What is on disk is a number of 32 bits that only transactions with
/// blocks get.
pub type Tid = u64;

/// Data of a file that is to be on disk before the transaction that makes it reachable (`data=ordered`).
pub trait OrderedData: Send + Sync {
    /// Starts to write what is dirty in `range` (bytes), of blocks that are allocated already. Must not start a handle or wait for one. Nor
    /// may the last reference do that when it goes, in the journal's thread: an inode gives a part of itself.
    fn submit(&self, range: Range<u64>);
    /// Waits until what was submitted is written.
    ///
    /// # Errors
    /// The device's.
    fn wait(&self, range: Range<u64>) -> Result<()>;
}

/// What happens when a transaction is on disk.
pub trait Committed: Send {
    /// It is, or will never be. Called by the journal's thread: must not start a handle or wait for a transaction.
    fn committed(self: Box<Self>, result: Result<()>);
}

/// Bit of [`Transaction::word`]: no more handles.
const LOCKED: u64 = 1 << 63;
/// One handle in [`Transaction::word`]; below are the credits.
const HANDLE: u64 = 1 << 32;
const CREDITS: u64 = HANDLE - 1;

/// Why a handle cannot be part of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is about to be committed.
    Locked,
    /// It would have too many blocks.
    Full,
}

/// A transaction. See the module's text.
pub(crate) struct Transaction {
    pub(crate) core: Arc<Core>,
    pub(crate) tid: Tid,
    /// When it began, and from when on it waits to be checkpointed; monotonic.
    pub(crate) began_ns: u64,
    pub(crate) done_ns: AtomicU64,
    /// Handles (31 bits), credits that they have used or reserved (32 bits), [`LOCKED`].
    word: AtomicU64,
    /// Buffers, in the order in which they came. Of one that is freed the buffer says so.
    pub(crate) members: Mutex<Vec<Arc<Buffer>>>,
    /// Freed blocks, as entries without a value.
    pub(crate) revokes: Mutex<XArray<Arc<Buffer>>>,
    pub(crate) nr_revokes: AtomicU32,
    pub(crate) ordered: Mutex<SortedMap<usize, Ordered>>,
    pub(crate) callbacks: Mutex<Vec<Box<dyn Committed>>>,
    /// Where in the log it begins, how many blocks it has there, and its number there: set when it is committed.
    pub(crate) log_start: AtomicU32,
    pub(crate) log_blocks: AtomicU32,
    pub(crate) sequence: AtomicU32,
}

pub(crate) struct Ordered {
    pub(crate) data: Arc<dyn OrderedData>,
    pub(crate) range: Range<u64>,
}

impl Transaction {
    pub(crate) fn new(core: &Arc<Core>, tid: Tid) -> Self {
        Self {
            core: core.clone(),
            tid,
            began_ns: sched::time::monotonic_ns(),
            done_ns: AtomicU64::new(0),
            word: AtomicU64::new(0),
            members: Mutex::new(Vec::new()),
            revokes: Mutex::new(XArray::new()),
            nr_revokes: AtomicU32::new(0),
            ordered: Mutex::new(SortedMap::new()),
            callbacks: Mutex::new(Vec::new()),
            log_start: AtomicU32::new(0),
            log_blocks: AtomicU32::new(0),
            sequence: AtomicU32::new(0),
        }
    }

    #[inline]
    fn add(&self, handles: u64, credits: u32) -> core::result::Result<(), Refused> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & LOCKED != 0 {
                return Err(Refused::Locked);
            }
            if (word & CREDITS) + u64::from(credits) > u64::from(self.core.max_credits) {
                return Err(Refused::Full);
            }
            let new = word + handles + u64::from(credits);
            match self.word.compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// One handle more, with `credits`.
    #[inline]
    pub(crate) fn join(&self, credits: u32) -> core::result::Result<(), Refused> {
        self.add(HANDLE, credits)
    }

    /// More credits for a handle.
    pub(crate) fn extend(&self, credits: u32) -> core::result::Result<(), Refused> {
        self.add(0, credits)
    }

    /// A handle ends, and gives back the credits it did not use.
    #[inline]
    pub(crate) fn leave(&self, credits: u32) {
        let before = self.word.fetch_sub(HANDLE + u64::from(credits), Ordering::Release);
        if before & LOCKED != 0 && (before & !LOCKED) >> 32 == 1 {
            self.core.updates_done.wake_all();
        }
    }

    /// No handle joins any more; waits for those that are there.
    pub(crate) fn lock_and_wait(&self) {
        self.word.fetch_or(LOCKED, Ordering::SeqCst);
        self.core.updates_done.wait_event(|| self.handles() == 0);
    }

    pub(crate) fn handles(&self) -> u32 {
        ((self.word.load(Ordering::Acquire) & !LOCKED) >> 32) as u32
    }

    /// Notes a freed block; whether it was new.
    pub(crate) fn add_revoke(&self, block: u64) -> Result<bool> {
        let new = self.revokes.lock().store_entry(block, Entry::Shadow(0))?.is_none();
        if new {
            self.nr_revokes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(new)
    }

    /// The block is metadata again.
    #[inline]
    pub(crate) fn cancel_revoke(&self, block: u64) {
        if self.nr_revokes.load(Ordering::Relaxed) != 0 && self.revokes.lock().remove_entry(block).is_some() {
            self.nr_revokes.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Adds a buffer to its list.
    pub(crate) fn add_member(&self, buffer: &Arc<Buffer>) -> Result<()> {
        Ok(self.members.lock().try_push(buffer.clone())?)
    }

    /// Adds data that is to be written first.
    pub(crate) fn add_ordered(&self, data: Arc<dyn OrderedData>, range: Range<u64>) -> Result<()> {
        let key = Arc::as_ptr(&data).addr();
        let mut all = self.ordered.lock();
        if let Some(known) = all.get_mut(&key) {
            known.range = known.range.start.min(range.start)..known.range.end.max(range.end);
            return Ok(());
        }
        all.try_insert(key, Ordered { data, range })?;
        Ok(())
    }

    /// At most so many blocks of the log it needs. Handles have ended.
    pub(crate) fn most_blocks(&self, format: &Format) -> u32 {
        // Buffers that it frees have none.
        let members = (self.word.load(Ordering::Relaxed) & CREDITS) as usize;
        let revokes = self.nr_revokes.load(Ordering::Relaxed) as usize;
        blocks_for(format, members, revokes)
    }
}

/// Blocks of the log for `members` buffers and `revokes` freed blocks.
pub(crate) fn blocks_for(format: &Format, members: usize, revokes: usize) -> u32 {
    let descriptors = members.div_ceil(format.tags_per_block());
    (members + descriptors + revokes.div_ceil(format.revokes_per_block()) + 1) as u32
}
