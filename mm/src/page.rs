//! The page descriptor: 32 bytes for each 4 KiB frame.
//!
//! ```text
//! bytes  0..8   mapping48 | memcg16   who the page belongs to (page cache or anon_vma; tag in the low bits), control group
//! bytes  8..16  index44 | flags20     offset in the mapping, state flags
//! bytes 16..20  reference count
//! bytes 20..24  map count - or, negative with a tag, the type of a page nobody maps (buddy, slab …)
//! bytes 24..32  prev, next            page frame numbers: LRU, buddy, per-CPU or slab lists
//! ```
//!
//! A descriptor that is all zero is a valid one: a *reserved*, unreferenced page. So descriptors
//! need no initialisation beyond zeroing, and that is done a section at a time ([`crate::vmemmap`]).
//!
//! List links are frame numbers, not pointers: 32 bits reach 16 TiB.
//!
//! A pointer in `mapping` keeps 48 bits; the upper 16 are those of the descriptor's own address
//! (all kernel pointers of one machine agree in them).
//!
//! Compound pages (folios of more than one frame): the head carries [`PageFlags::HEAD`]; the order is in
//! the first tail's `index`; each tail's `mapping` holds `head pfn << 2 | TAIL`.
//!
//! Concurrency: every field is an atomic. The flags and the reference count may be touched by
//! anyone who holds a reference; `index` and `mapping` change only under the folio lock (page cache) or
//! while the page is private to its owner; list links belong to the lock of the list.

use bitflags::bitflags;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

bitflags! {
    /// State bits of a page (of the head, for a folio). Names as in Linux (`PG_locked` …).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PageFlags: u32 {
        /// The folio lock is held.
        const LOCKED = 1 << 0;
        /// Being written to its backing store.
        const WRITEBACK = 1 << 1;
        /// Touched since the LRU looked last.
        const REFERENCED = 1 << 2;
        /// The contents are valid.
        const UPTODATE = 1 << 3;
        /// Newer than its backing store.
        const DIRTY = 1 << 4;
        /// On an LRU list.
        const LRU = 1 << 5;
        /// Head of a compound page.
        const HEAD = 1 << 6;
        /// Someone sleeps for LOCKED or WRITEBACK to clear.
        const WAITERS = 1 << 7;
        /// On the active list.
        const ACTIVE = 1 << 8;
        /// Was part of the working set when evicted.
        const WORKINGSET = 1 << 9;
        /// In the swap cache: `index` is the swap entry.
        const SWAPCACHE = 1 << 10;
        /// The owner keeps private data (buffers) in it.
        const PRIVATE = 1 << 11;
        /// Reading up to here means that more is to be read ahead.
        const READAHEAD = 1 << 12;
        /// Backed by swap (anonymous or shmem).
        const SWAPBACKED = 1 << 13;
        /// Cannot be evicted.
        const UNEVICTABLE = 1 << 14;
        /// Locked into memory by mlock.
        const MLOCKED = 1 << 15;
        /// The hardware reported it broken.
        const HWPOISON = 1 << 16;
        /// Free for the file system that owns the page (`PG_checked`).
        const OWNER = 1 << 17;
        /// Belongs to the anonymous page of exactly one process (`PG_anon_exclusive`).
        const ANON_EXCLUSIVE = 1 << 18;
        /// Free for the architecture (memory tags).
        const ARCH = 1 << 19;
    }
}

const FLAGS_BITS: u32 = 20;
const FLAGS_MASK: u64 = (1 << FLAGS_BITS) - 1;
/// Largest page index a descriptor can hold: 2^44 pages of 4 KiB = 64 PiB.
pub const MAX_INDEX: u64 = (1 << (64 - FLAGS_BITS)) - 1;

const MAPPING_BITS: u32 = 48;
const MAPPING_MASK: u64 = (1 << MAPPING_BITS) - 1;

/// Low tag bits of the mapping word: what it points to.
pub mod tag {
    /// A page-cache mapping (or nothing, if the rest is zero).
    pub const FILE: usize = 0;
    /// An anon_vma.
    pub const ANON: usize = 1;
    /// A tail page: the rest is the head's frame number.
    pub const TAIL: usize = 2;
    /// A KSM stable node.
    pub const KSM: usize = 3;
    /// All tag bits.
    pub const MASK: usize = 3;
}

/// What a page is that nobody maps. Stored in the map count as a negative number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PageType {
    /// Free, head of a block in the buddy allocator; order in `index`.
    Buddy = 0x8000_0000,
    /// Backs a slab; see [`crate::slub`].
    Slab = 0x8100_0000,
    /// A page table.
    Table = 0x8200_0000,
    /// Not online, or a hole.
    Offline = 0x8300_0000,
    /// Part of a vmalloc area.
    Vmalloc = 0x8400_0000,
    /// Free, in a per-CPU list.
    PerCpu = 0x8500_0000,
    /// Free, isolated for the compactor or an offline request.
    Isolated = 0x8600_0000,
}

/// No frame: the end of a list of frame numbers.
pub const NIL: u32 = u32::MAX;

/// The descriptor of one page frame.
#[repr(C, align(32))]
pub struct Page {
    mapping: AtomicU64,
    index_flags: AtomicU64,
    refcount: AtomicU32,
    mapcount: AtomicI32,
    /// Previous frame in a list.
    pub(crate) prev: AtomicU32,
    /// Next frame in a list.
    pub(crate) next: AtomicU32,
}

const _: () = assert!(size_of::<Page>() == 32);

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

impl Page {
    /// The all-zero descriptor: a reserved page.
    pub const fn new() -> Self {
        Self {
            mapping: AtomicU64::new(0),
            index_flags: AtomicU64::new(0),
            refcount: AtomicU32::new(0),
            mapcount: AtomicI32::new(0),
            prev: AtomicU32::new(0),
            next: AtomicU32::new(0),
        }
    }

    // ---- flags -------------------------------------------------------------------------------

    /// All flags.
    #[inline]
    pub fn flags(&self) -> PageFlags {
        PageFlags::from_bits_retain((self.index_flags.load(Ordering::Acquire) & FLAGS_MASK) as u32)
    }

    /// Whether every flag in `flags` is set.
    #[inline]
    pub fn test(&self, flags: PageFlags) -> bool {
        self.flags().contains(flags)
    }

    /// Sets `flags`.
    #[inline]
    pub fn set(&self, flags: PageFlags) {
        self.index_flags.fetch_or(u64::from(flags.bits()), Ordering::AcqRel);
    }

    /// Clears `flags`.
    #[inline]
    pub fn clear(&self, flags: PageFlags) {
        self.index_flags.fetch_and(!u64::from(flags.bits()), Ordering::AcqRel);
    }

    /// Sets `flags`; returns those that were set before.
    #[inline]
    pub fn test_and_set(&self, flags: PageFlags) -> PageFlags {
        let old = self.index_flags.fetch_or(u64::from(flags.bits()), Ordering::AcqRel);
        PageFlags::from_bits_retain(old as u32) & flags
    }

    /// Clears `flags`; returns those that were set before.
    #[inline]
    pub fn test_and_clear(&self, flags: PageFlags) -> PageFlags {
        let old = self.index_flags.fetch_and(!u64::from(flags.bits()), Ordering::AcqRel);
        PageFlags::from_bits_retain(old as u32) & flags
    }

    /// Clears and sets in one step; returns all flags from before.
    #[inline]
    pub fn replace_flags(&self, clear: PageFlags, set: PageFlags) -> PageFlags {
        let old = self
            .index_flags
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                Some(word & !u64::from(clear.bits()) | u64::from(set.bits()))
            })
            .unwrap_or_else(|word| word);
        PageFlags::from_bits_retain((old & FLAGS_MASK) as u32)
    }

    // ---- index and mapping -------------------------------------------------------------------

    /// Offset in the mapping, in pages; or what the owner keeps here (swap entry, buddy order).
    #[inline]
    pub fn index(&self) -> u64 {
        self.index_flags.load(Ordering::Acquire) >> FLAGS_BITS
    }

    /// Sets the index, leaving the flags. `index` is at most [`MAX_INDEX`]; upper bits are cut.
    #[inline]
    pub fn set_index(&self, index: u64) {
        let _ = self.index_flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Some(word & FLAGS_MASK | index << FLAGS_BITS)
        });
    }

    /// Sets index and flags of a page that nobody else can reach (no atomic read-modify-write).
    #[inline]
    pub fn init_index_flags(&self, index: u64, flags: PageFlags) {
        self.index_flags.store(index << FLAGS_BITS | u64::from(flags.bits()), Ordering::Release);
    }

    /// The mapping word: a kernel pointer with a tag in the two low bits (see [`tag`]), or 0.
    #[inline]
    pub fn mapping(&self) -> usize {
        let low = self.mapping.load(Ordering::Acquire) & MAPPING_MASK;
        if low == 0 { 0 } else { low as usize | self.high_bits() }
    }

    /// Sets the mapping word, leaving the control group.
    #[inline]
    pub fn set_mapping(&self, mapping: usize) {
        let _ = self.mapping.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Some(word & !MAPPING_MASK | mapping as u64 & MAPPING_MASK)
        });
    }

    /// The control group's id, 0 for none.
    #[inline]
    pub fn memcg(&self) -> u16 {
        (self.mapping.load(Ordering::Relaxed) >> MAPPING_BITS) as u16
    }

    /// Sets the control group's id.
    pub fn set_memcg(&self, id: u16) {
        let _ = self.mapping.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Some(word & MAPPING_MASK | u64::from(id) << MAPPING_BITS)
        });
    }

    /// The bits above [`MAPPING_BITS`] that all kernel pointers share.
    #[inline]
    fn high_bits(&self) -> usize {
        (core::ptr::from_ref(self).addr() as u64 & !MAPPING_MASK) as usize
    }

    // ---- counts ------------------------------------------------------------------------------

    /// Current number of references.
    #[inline]
    pub fn refcount(&self) -> u32 {
        self.refcount.load(Ordering::Acquire)
    }

    /// Takes a reference; the caller already holds one.
    #[inline]
    pub fn get(&self) {
        self.refcount.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes `n` references; the caller already holds one.
    #[inline]
    pub fn get_many(&self, n: u32) {
        self.refcount.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes a reference unless there is none left (a lock-free look-up that may race with the
    /// page being freed).
    #[inline]
    pub fn try_get(&self) -> bool {
        let mut count = self.refcount.load(Ordering::Relaxed);
        while count != 0 {
            match self.refcount.compare_exchange_weak(count, count + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// Drops `n` references; true if these were the last.
    #[inline]
    #[must_use]
    pub fn put_testzero(&self, n: u32) -> bool {
        if self.refcount.fetch_sub(n, Ordering::Release) == n {
            core::sync::atomic::fence(Ordering::Acquire);
            true
        } else {
            false
        }
    }

    /// Takes the count from exactly `expected` to 0, so that nobody can gain a reference
    /// (eviction, splitting, migration).
    #[inline]
    pub fn freeze(&self, expected: u32) -> bool {
        self.refcount.compare_exchange(expected, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends a [`freeze`](Self::freeze).
    #[inline]
    pub fn unfreeze(&self, count: u32) {
        self.refcount.store(count, Ordering::Release);
    }

    /// How many page-table entries map this frame; 0 for typed pages.
    #[inline]
    pub fn mapcount(&self) -> u32 {
        self.mapcount.load(Ordering::Relaxed).max(0) as u32
    }

    /// One more page-table entry maps the frame; returns the count before.
    #[inline]
    pub fn map_inc(&self) -> u32 {
        self.mapcount.fetch_add(1, Ordering::AcqRel) as u32
    }

    /// One page-table entry less; returns the count after.
    #[inline]
    pub fn map_dec(&self) -> u32 {
        (self.mapcount.fetch_sub(1, Ordering::AcqRel) - 1) as u32
    }

    /// The type of a page that nobody maps.
    #[inline]
    pub fn has_type(&self, ty: PageType) -> bool {
        self.mapcount.load(Ordering::Acquire) as u32 & 0xff00_0000 == ty as u32
    }

    /// Marks the page as `ty`, with 24 bits of detail.
    #[inline]
    pub(crate) fn set_type(&self, ty: PageType, detail: u32) {
        self.mapcount.store((ty as u32 | detail & 0x00ff_ffff) as i32, Ordering::Release);
    }

    /// The 24 bits of detail of a typed page.
    #[inline]
    pub(crate) fn type_detail(&self) -> u32 {
        self.mapcount.load(Ordering::Acquire) as u32 & 0x00ff_ffff
    }

    /// Back to an ordinary page with map count 0.
    #[inline]
    pub(crate) fn clear_type(&self) {
        self.mapcount.store(0, Ordering::Release);
    }

    /// Whether the page has a type (its map count is not one).
    #[inline]
    pub fn is_typed(&self) -> bool {
        self.mapcount.load(Ordering::Relaxed) < 0
    }

    // ---- list links --------------------------------------------------------------------------

    /// Frame number of the previous page in the list this one is on.
    #[inline]
    pub fn prev(&self) -> u32 {
        self.prev.load(Ordering::Relaxed)
    }

    /// Frame number of the next page in the list this one is on.
    #[inline]
    pub fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Sets the previous link; the caller holds the list's lock.
    #[inline]
    pub fn set_prev(&self, pfn: u32) {
        self.prev.store(pfn, Ordering::Relaxed);
    }

    /// Sets the next link; the caller holds the list's lock.
    #[inline]
    pub fn set_next(&self, pfn: u32) {
        self.next.store(pfn, Ordering::Relaxed);
    }

    // ---- preparation and release -------------------------------------------------------------

    /// Makes a free page an allocated one: one reference, no owner, no flags.
    #[inline]
    pub(crate) fn prepare_allocated(&self) {
        self.mapcount.store(0, Ordering::Relaxed);
        self.refcount.store(1, Ordering::Release);
    }

    /// Forgets owner and flags of a page on its way to the free lists.
    #[inline]
    pub(crate) fn prepare_free(&self) {
        self.mapping.store(0, Ordering::Relaxed);
        self.index_flags.store(0, Ordering::Relaxed);
        self.refcount.store(0, Ordering::Relaxed);
    }

    /// Whether owner and state are as they must be when the last reference is gone.
    pub(crate) fn free_is_clean(&self) -> bool {
        let busy = PageFlags::LOCKED | PageFlags::WRITEBACK | PageFlags::LRU | PageFlags::SWAPCACHE;
        self.mapcount.load(Ordering::Relaxed) == 0 && !self.flags().intersects(busy)
    }
}

impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "page {{ refs {}, maps {:#x}, mapping {:#x}, index {:#x}, memcg {}, flags {:?} }}",
            self.refcount(),
            self.mapcount.load(Ordering::Relaxed),
            self.mapping(),
            self.index(),
            self.memcg(),
            self.flags()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_disturb_each_other() {
        let page = Page::new();
        let owner = core::ptr::from_ref(&page).addr() | tag::ANON;
        page.set_mapping(owner);
        page.set_memcg(0xbeef);
        page.set_index(MAX_INDEX);
        page.set(PageFlags::LOCKED | PageFlags::ARCH);
        assert_eq!(page.mapping(), owner);
        assert_eq!(page.memcg(), 0xbeef);
        assert_eq!(page.index(), MAX_INDEX);
        assert_eq!(page.flags(), PageFlags::LOCKED | PageFlags::ARCH);
        page.set_index(7);
        page.clear(PageFlags::LOCKED);
        page.set_mapping(0);
        assert_eq!((page.index(), page.flags(), page.mapping()), (7, PageFlags::ARCH, 0));
        assert_eq!(page.memcg(), 0xbeef);
    }

    #[test]
    fn references() {
        let page = Page::new();
        assert!(!page.try_get());
        page.prepare_allocated();
        assert!(page.try_get());
        assert!(!page.freeze(1));
        assert!(!page.put_testzero(1));
        assert!(page.freeze(1));
        assert!(!page.try_get());
        page.unfreeze(1);
        assert!(page.put_testzero(1));
    }

    #[test]
    fn types_live_in_the_map_count() {
        let page = Page::new();
        page.set_type(PageType::Buddy, 5);
        assert!(page.has_type(PageType::Buddy) && !page.has_type(PageType::Slab));
        assert_eq!((page.type_detail(), page.mapcount()), (5, 0));
        page.clear_type();
        assert_eq!(page.map_inc(), 0);
        assert_eq!(page.map_dec(), 0);
    }
}
