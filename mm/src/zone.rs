//! A zone: the memory of one kind on one node, with its free lists and watermarks.
//!
//! Locks: the zone lock (`buddy`) is a leaf and safe in interrupts; `deferred` is taken before it.
//!
//! Watermarks (pages): below *low* the background reclaimer is woken, until *high*; below *min* only callers that may
//! use reserves are served. `reserve` is what requests that could have used a higher zone must leave here
//! (`lowmem_reserve_ratio`), so that user pages do not eat the DMA zone.
//!
//! *Deferred* memory belongs to the zone but has no descriptors yet: [`Zone::grow`] makes a section of it available
//! when the free pages fall to the mark. It counts as free in the statistics.

use crate::buddy::Buddy;
use crate::gfp::{MigrateType, NR_MIGRATE_TYPES, NR_ZONES, ZoneKind};
use crate::pageblock::{PAGEBLOCK_PAGES, ZoneId};
use crate::pcp::{Pcp, ZonePcp};
use crate::vmemmap::{self, Memory};
use arch::cpu::CpuId;
use arch::sync::SpinLockIrq;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The marks of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Reserves begin here.
    Min = 0,
    /// Background reclaim begins here.
    Low = 1,
    /// Background reclaim ends here.
    High = 2,
}

/// How deep into the reserves an allocation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// Not below the mark.
    None,
    /// To half of it (`__GFP_HIGH`).
    Half,
    /// To three eighths (atomic context).
    Atomic,
    /// All of it (memory that leads to memory being freed).
    All,
}

/// Memory of a zone that is not in the allocator yet.
pub(crate) struct Deferred {
    /// Free ranges of frames, in the order in which they will be used; consumed from the back.
    pub(crate) ranges: &'static mut [(u32, u32)],
    pub(crate) len: usize,
}

impl Deferred {
    /// Ranges come in ascending order and are used from the back: turn them round, so that low memory is used first.
    pub(crate) fn lowest_last(&mut self) {
        self.ranges[..self.len].reverse();
    }
}

/// A zone.
pub struct Zone {
    id: ZoneId,
    start: u32,
    end: u32,
    present: AtomicUsize,
    managed: AtomicUsize,
    pub(crate) buddy: SpinLockIrq<Buddy>,
    /// `buddy.free_pages()`, readable without the lock.
    free: AtomicUsize,
    marks: [AtomicUsize; 3],
    reserve: [AtomicUsize; NR_ZONES],
    pub(crate) deferred: SpinLockIrq<Deferred>,
    pub(crate) deferred_pages: AtomicUsize,
    kswapd_woken: AtomicBool,
    /// One per possible CPU, by CPU number.
    pcps: &'static [ZonePcp],
}

impl Zone {
    pub(crate) fn new(
        id: ZoneId,
        start: u32,
        end: u32,
        deferred: &'static mut [(u32, u32)],
        pcps: &'static [ZonePcp],
    ) -> Self {
        let mut buddy = Buddy::new();
        buddy.set_span(start, end);
        Self {
            id,
            start,
            end,
            present: AtomicUsize::new(0),
            managed: AtomicUsize::new(0),
            buddy: SpinLockIrq::new(buddy),
            free: AtomicUsize::new(0),
            marks: [const { AtomicUsize::new(0) }; 3],
            reserve: [const { AtomicUsize::new(0) }; NR_ZONES],
            deferred: SpinLockIrq::new(Deferred { ranges: deferred, len: 0 }),
            deferred_pages: AtomicUsize::new(0),
            kswapd_woken: AtomicBool::new(false),
            pcps,
        }
    }

    /// Which zone this is.
    #[inline]
    pub fn id(&self) -> ZoneId {
        self.id
    }

    /// Its kind.
    #[inline]
    pub fn kind(&self) -> ZoneKind {
        self.id.kind()
    }

    /// Its node.
    #[inline]
    pub fn node(&self) -> usize {
        self.id.node()
    }

    /// First frame.
    pub fn start_pfn(&self) -> u64 {
        u64::from(self.start)
    }

    /// Frames from the first to the last, with holes.
    pub fn spanned_pages(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Frames of RAM.
    pub fn present_pages(&self) -> usize {
        self.present.load(Relaxed)
    }

    /// Frames given to the allocator (also deferred ones).
    pub fn managed_pages(&self) -> usize {
        self.managed.load(Relaxed)
    }

    /// Free pages, with the deferred ones, without those in per-CPU lists.
    #[inline]
    pub fn free_pages(&self) -> usize {
        self.free.load(Relaxed) + self.deferred_pages.load(Relaxed)
    }

    /// A mark, in pages.
    #[inline]
    pub fn mark(&self, mark: Mark) -> usize {
        self.marks[mark as usize].load(Relaxed)
    }

    /// What a request that may use zones up to `kind` must leave here, in pages.
    #[inline]
    pub fn lowmem_reserve(&self, kind: ZoneKind) -> usize {
        self.reserve[kind as usize].load(Relaxed)
    }

    pub(crate) fn set_present(&self, pages: usize) {
        self.present.store(pages, Relaxed);
    }

    /// Pages that were put offline, or came back.
    pub(crate) fn remove_pages(&self, pages: usize) {
        self.present.fetch_sub(pages, Relaxed);
        self.managed.fetch_sub(pages, Relaxed);
    }

    /// The opposite of [`Self::remove_pages`].
    pub(crate) fn add_pages(&self, pages: usize) {
        self.present.fetch_add(pages, Relaxed);
        self.managed.fetch_add(pages, Relaxed);
    }

    /// Changes the mobility groups of the largest buddy block at `first`; see [`Buddy::retype`].
    pub(crate) fn retype(&self, first: u32, types: [MigrateType; 2]) {
        let mut buddy = self.buddy.lock();
        buddy.retype(&Memory, first, types);
        self.free.store(buddy.free_pages(), Relaxed);
    }

    /// Takes isolated memory out for good; see [`Buddy::take_isolated`].
    pub(crate) fn take_isolated(&self, start: u32, end: u32) -> bool {
        self.buddy.lock().take_isolated(&Memory, start, end)
    }

    /// Whether some of `start..end` is not in the allocator yet.
    pub(crate) fn is_deferred(&self, start: u32, end: u32) -> bool {
        let deferred = self.deferred.lock();
        deferred.ranges[..deferred.len].iter().any(|(from, to)| *from < end && start < *to)
    }

    pub(crate) fn add_managed(&self, pages: usize) {
        self.managed.fetch_add(pages, Relaxed);
    }

    pub(crate) fn set_marks(&self, min: usize, low: usize, high: usize) {
        for (slot, value) in self.marks.iter().zip([min, low, high]) {
            slot.store(value, Relaxed);
        }
    }

    pub(crate) fn set_lowmem_reserve(&self, kind: ZoneKind, pages: usize) {
        self.reserve[kind as usize].store(pages, Relaxed);
    }

    /// Free blocks per order (`/proc/buddyinfo`).
    pub fn free_blocks(&self) -> [usize; crate::gfp::NR_ORDERS] {
        let buddy = self.buddy.lock();
        core::array::from_fn(|order| buddy.free_blocks(order as u8))
    }

    /// Free blocks of one mobility group per order (`/proc/pagetypeinfo`).
    pub fn free_blocks_of(&self, ty: MigrateType) -> [usize; crate::gfp::NR_ORDERS] {
        let buddy = self.buddy.lock();
        core::array::from_fn(|order| buddy.free_blocks_of(order as u8, ty))
    }

    /// Pages that are free but not in the free lists yet.
    pub fn deferred_pages(&self) -> usize {
        self.deferred_pages.load(Relaxed)
    }

    /// Page blocks of the zone per mobility group (`/proc/pagetypeinfo`).
    pub fn blocks_by_type(&self) -> [usize; NR_MIGRATE_TYPES] {
        let mut counts = [0; NR_MIGRATE_TYPES];
        for pfn in (self.start..self.end.min(vmemmap::end())).step_by(PAGEBLOCK_PAGES as usize) {
            let block = vmemmap::block(pfn);
            if block.is_present() && block.zone() == self.id {
                counts[block.migrate_type() as usize] += 1;
            }
        }
        counts
    }

    /// Per possible CPU: pages in its lists, their limit, the batch.
    pub fn pcp_numbers(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        self.pcps.iter().map(|pcp| (pcp.count(), pcp.high, pcp.batch))
    }

    /// The per-CPU lists of a CPU.
    #[inline]
    pub(crate) fn pcp(&self, cpu: CpuId) -> Option<&'static ZonePcp> {
        self.pcps.get(cpu.index())
    }

    // ---- watermarks --------------------------------------------------------------------------

    /// Whether a block of `order` may be taken and still `mark` (less what `reserve` allows) be kept.
    pub(crate) fn watermark_ok(&self, order: u8, mark: Mark, request: ZoneKind, reserve: Reserve) -> bool {
        let mark = self.mark(mark);
        let keep = match reserve {
            Reserve::None => mark,
            Reserve::Half => mark / 2,
            Reserve::Atomic => mark / 2 - mark / 8,
            Reserve::All => 0,
        };
        let keep = keep + if reserve == Reserve::All { 0 } else { self.lowmem_reserve(request) };
        self.free.load(Relaxed) >= keep + (1 << order)
    }

    /// Whether the zone has more than its high mark free: the background reclaimer may rest.
    pub fn is_balanced(&self) -> bool {
        let balanced = self.free_pages() > self.mark(Mark::High);
        if balanced {
            self.kswapd_woken.store(false, Relaxed);
        }
        balanced
    }

    /// Notes that the background reclaimer was asked to work; true if it was not yet.
    pub(crate) fn mark_woken(&self) -> bool {
        !self.kswapd_woken.load(Relaxed) && !self.kswapd_woken.swap(true, Relaxed)
    }

    // ---- allocation --------------------------------------------------------------------------

    /// A block straight from the free lists.
    pub(crate) fn take(&self, order: u8, ty: MigrateType) -> Option<u32> {
        let mut buddy = self.buddy.lock();
        let pfn = buddy.alloc(&Memory, order, ty);
        self.free.store(buddy.free_pages(), Relaxed);
        pfn
    }

    /// Up to `want` blocks at one go; returns how many were put on the list (linked by `next` from `head`).
    pub(crate) fn take_many(&self, order: u8, ty: MigrateType, want: u32, pcp: &mut Pcp, list: usize) -> u32 {
        let mut buddy = self.buddy.lock();
        let mut got = 0;
        while got < want {
            let Some(pfn) = buddy.alloc(&Memory, order, ty) else { break };
            pcp.push(&Memory, list, pfn, order);
            got += 1;
        }
        self.free.store(buddy.free_pages(), Relaxed);
        got
    }

    /// Gives a block back to the free lists.
    pub(crate) fn give(&self, pfn: u32, order: u8) {
        let mut buddy = self.buddy.lock();
        buddy.free(&Memory, pfn, order);
        self.free.store(buddy.free_pages(), Relaxed);
    }

    /// Returns up to `pages` pages of this CPU's lists to the free lists.
    pub(crate) fn drain(&self, pcp: &mut Pcp, pages: u32) {
        let mut buddy = self.buddy.lock();
        pcp.drain(&Memory, pages, &mut |pfn, order| buddy.free(&Memory, pfn, order));
        self.free.store(buddy.free_pages(), Relaxed);
    }

    // ---- deferred memory ---------------------------------------------------------------------

    /// Moves one section of deferred memory into the free lists. False if there is none left (or no page tables for its
    /// descriptors).
    #[cold]
    pub(crate) fn grow(&self) -> bool {
        let mut deferred = self.deferred.lock();
        let Some(last) = deferred.len.checked_sub(1) else { return false };
        let (start, end) = deferred.ranges[last];
        // The lowest section of the range first: it continues what is there.
        let stop = ((start | (vmemmap::SECTION_PAGES - 1)).saturating_add(1)).min(end);
        let Ok(ranges) = crate::vmemmap_grow::populate_from_itself(start, stop) else { return false };
        if stop == end {
            deferred.len = last;
        } else {
            deferred.ranges[last].0 = stop;
        }
        let expected = (stop - start) as usize - crate::vmemmap_grow::cost(start, stop);
        let gained: usize = ranges.iter().map(|(from, to)| (to - from) as usize).sum();
        self.deferred_pages.fetch_sub(expected, Relaxed);
        // Wraps as two's complement where the descriptors took more than expected.
        self.managed.fetch_add(gained.wrapping_sub(expected), Relaxed);
        let mut buddy = self.buddy.lock();
        for (from, to) in ranges {
            buddy.free_range(&Memory, from, to);
        }
        self.free.store(buddy.free_pages(), Relaxed);
        true
    }

    /// Leaves a free range for later. Boot only.
    pub(crate) fn defer(&self, start: u32, end: u32) {
        let mut deferred = self.deferred.lock();
        let len = deferred.len;
        if let Some(slot) = deferred.ranges.get_mut(len) {
            *slot = (start, end);
            deferred.len += 1;
            let pages = (end - start) as usize - crate::vmemmap_grow::cost(start, end);
            self.deferred_pages.fetch_add(pages, Relaxed);
            self.add_managed(pages);
        }
    }

    /// Hands frames to the free lists at boot or hot-add; their descriptors exist.
    pub(crate) fn release(&self, start: u32, end: u32) {
        let mut buddy = self.buddy.lock();
        buddy.free_range(&Memory, start, end);
        self.free.store(buddy.free_pages(), Relaxed);
    }

    /// Checks the free lists (tests, debug).
    pub fn verify(&self) {
        let buddy = self.buddy.lock();
        assert_eq!(buddy.verify(&Memory), self.free.load(Relaxed));
    }
}

/// The pages to keep free in all, in KiB: the square root of sixteen times the memory below the MOVABLE zones
/// (`min_free_kbytes`), between 128 KiB and 256 MiB.
pub fn default_min_free_kbytes(lowmem_pages: usize) -> usize {
    (lowmem_pages * 4 * 16).isqrt().clamp(128, 262_144)
}

/// The three marks of a zone with `managed` pages out of `lowmem` in all.
pub fn marks_for(
    managed: usize,
    lowmem: usize,
    min_free_kbytes: usize,
    scale_factor: usize,
) -> (usize, usize, usize) {
    let min = min_free_kbytes / 4 * managed / lowmem.max(1);
    let gap = (min / 4).max(managed * scale_factor / 10_000);
    (min, min + gap, min + 2 * gap)
}

/// `lowmem_reserve_ratio`: one page in so many of the zones above is reserved in the zone below.
pub const LOWMEM_RESERVE_RATIO: [usize; NR_ZONES] = [256, 256, 32, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_free_is_linux_s() {
        assert_eq!(default_min_free_kbytes(32 << 8), 724);
        assert_eq!(default_min_free_kbytes(256 << 8), 2048);
        assert_eq!(default_min_free_kbytes(1 << 30), 262_144);
    }

    #[test]
    fn marks_are_spread_by_size() {
        let (min, low, high) = marks_for(65536, 65536, 2048, 10);
        assert_eq!((min, low, high), (512, 640, 768));
        let (dma, ..) = marks_for(4096, 65536, 2048, 10);
        assert_eq!(dma, 32);
    }
}
