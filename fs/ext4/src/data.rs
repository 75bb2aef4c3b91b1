//! Contents of files, into the page cache: from the device, from the inode, or zeros.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLockIrq;
use block::bio::SECTOR_SHIFT;
use block::{Bio, End, EndIo, Op, OpFlags};
use collections::fifo::{Chained, Fifo};
use mm::fallible::{TryVec, try_arc, try_with_capacity};
use mm::folio_lock::FolioGuard;
use mm::readahead::Run;
use mm::{AddressSpaceOps, Mapping};
use sched::wait::WaitQueue;

use crate::disk::inode::Flags;
use crate::inode::Node;

/// Most pages that are read at once.
const AT_ONCE: usize = 64;

/// Who waits for bios.
struct Waiter {
    left: AtomicUsize,
    over: SpinLockIrq<Fifo<Bio>>,
    queue: WaitQueue,
}

impl EndIo for Waiter {
    fn end_io(&self, bio: Chained<Bio>) {
        // They are dropped by who waits, in a thread.
        self.over.lock().push_back(bio);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.queue.wake_all();
        }
    }
}

impl Waiter {
    /// Submits all and waits; the first failure.
    fn run(self: &Arc<Self>, node: &Node, bios: Fifo<Bio>) -> Result<()> {
        self.left.store(bios.len(), Ordering::Release);
        if bios.is_empty() {
            return Ok(());
        }
        node.fs.device.submit(bios);
        self.queue.wait_event(|| self.left.load(Ordering::Acquire) == 0);
        let mut over = core::mem::replace(&mut *self.over.lock(), Fifo::new());
        let mut result = Ok(());
        while let Some(bio) = over.pop_front() {
            result = result.and(bio.status.result().map_err(|_| Errno::EIO));
        }
        result
    }
}

impl Node {
    /// Makes locked folios with consecutive indexes valid.
    fn fill(&self, folios: &[FolioGuard]) -> Result<()> {
        let Some(first) = folios.first().map(FolioGuard::index) else { return Ok(()) };
        if self.flags().contains(Flags::INLINE_DATA) {
            return self.fill_inline(folios);
        }
        let bits = self.fs.layout.block_bits;
        let per_page = 1u64 << (PAGE_SIZE.trailing_zeros() - bits);
        let waiter = try_arc(Waiter {
            left: AtomicUsize::new(0),
            over: SpinLockIrq::new(Fifo::new()),
            queue: WaitQueue::new(),
        })?;
        let end = (first + folios.len() as u64) * per_page;
        let mut block = first * per_page;
        let mut bios = Fifo::new();
        while block < end {
            // Beyond what a file can have there is nothing.
            let Ok(number) = u32::try_from(block) else {
                self.zero(folios, first, block..end);
                break;
            };
            let mapped = self.map(number)?;
            let len = u64::from(mapped.len).min(end - block);
            match mapped.on_device() {
                None => self.zero(folios, first, block..block + len),
                Some(run) => {
                    let sector = run.start << (bits - SECTOR_SHIFT);
                    let end_io = End::Shared(waiter.clone());
                    let mut bio = Bio::new(Op::Read, OpFlags::empty(), sector, folios.len().min(8), end_io)?;
                    for (folio, part) in self.parts(folios, first, block..block + len) {
                        bio.push(folio.folio(), part.start, part.len())?;
                    }
                    bios.push_back(bio);
                }
            }
            block += len;
        }
        waiter.run(self, bios)?;
        folios.iter().for_each(FolioGuard::mark_uptodate);
        Ok(())
    }

    /// The parts of folios, of which the first has index `first`, that the file's `blocks` are in.
    fn parts<'f>(
        &self,
        folios: &'f [FolioGuard],
        first: u64,
        blocks: core::ops::Range<u64>,
    ) -> impl Iterator<Item = (&'f FolioGuard, core::ops::Range<usize>)> {
        let bits = self.fs.layout.block_bits;
        let page = PAGE_SIZE as u64;
        let base = first * page;
        let bytes = (blocks.start << bits) - base..(blocks.end << bits) - base;
        let from = (bytes.start / page) as usize;
        let folios = folios.get(from..).unwrap_or_default();
        folios.iter().zip(from as u64..).map_while(move |(folio, at)| {
            let here = at * page..(at + 1) * page;
            let (start, end) = (bytes.start.max(here.start), bytes.end.min(here.end));
            (start < end).then(|| (folio, (start - here.start) as usize..(end - here.start) as usize))
        })
    }

    fn zero(&self, folios: &[FolioGuard], first: u64, blocks: core::ops::Range<u64>) {
        for (folio, part) in self.parts(folios, first, blocks) {
            folio.zero(part);
        }
    }

    fn fill_inline(&self, folios: &[FolioGuard]) -> Result<()> {
        let data = self.inline_data()?;
        for folio in folios {
            let from = (folio.index() as usize).saturating_mul(PAGE_SIZE).min(data.len());
            let part = data.get(from..).unwrap_or_default();
            let part = part.get(..PAGE_SIZE).unwrap_or(part);
            folio.folio().copy_in(0, part).map_err(|_| Errno::EIO)?;
            folio.zero(part.len()..PAGE_SIZE);
            folio.mark_uptodate();
        }
        Ok(())
    }
}

impl AddressSpaceOps for Node {
    fn read_folio(&self, _: &Mapping, folio: &FolioGuard) -> Result<()> {
        self.fill(core::slice::from_ref(folio))
    }

    fn readahead(&self, run: &mut Run<'_>) {
        let Ok(mut folios) = try_with_capacity::<FolioGuard>(AT_ONCE) else { return };
        while let Some(folio) = run.next() {
            let follows = folios.last().is_none_or(|last| last.index() + 1 == folio.index());
            if folios.len() == AT_ONCE || !follows {
                // Who needs them finds out what is wrong.
                let _ = self.fill(&folios);
                folios.clear();
            }
            folios.push_reserved(folio);
        }
        let _ = self.fill(&folios);
    }

    fn max_bytes(&self) -> u64 {
        match self.flags().contains(Flags::EXTENTS) {
            true => self.fs.layout.max_bytes,
            false => self.fs.layout.max_bytes_mapped,
        }
    }
}

impl Node {
    /// One block of a directory or a link: its contents, or none for a hole.
    ///
    /// # Errors
    /// Those of [`Node::map`] and of the device.
    pub(crate) fn read_block(
        &self,
        block: u32,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<Option<Arc<mm::Block>>> {
        let Some(run) = self.map(block)?.on_device() else { return Ok(None) };
        Ok(Some(self.fs.read_checked(run.start, check)?.data()))
    }

    /// The first `len` bytes of the file, by whole blocks: for what is not in the page cache. Holes are zeros.
    ///
    /// # Errors
    /// As [`Self::read_block`].
    pub(crate) fn read_bytes(&self, len: usize) -> Result<Vec<u8>> {
        let size = self.fs.layout.block_size();
        let mut bytes = try_with_capacity(len)?;
        let mut block = 0;
        while bytes.len() < len {
            let want = (len - bytes.len()).min(size);
            match self.read_block(block, |_| Ok(()))? {
                Some(data) => bytes.try_extend_from_slice(data.bytes().get(..want).unwrap_or_default())?,
                None => bytes.try_resize(bytes.len() + want, 0)?,
            }
            block += 1;
        }
        Ok(bytes)
    }
}
