//! The buddy allocator of one zone: free blocks of 2^0 to 2^10 pages, by order and mobility.
//!
//! The algorithm only: it knows page descriptors and page blocks through [`Frames`] and locks nothing, so
//! that it runs in a test over an array. [`crate::zone`] holds it under the zone's lock.
//!
//! Invariants:
//!
//! * a free block of order *n* starts at a multiple of 2^n; its head has type [`PageType::Buddy`] with the
//!   order as detail and is on the list (order, mobility of its first page block); other frames of the block are untyped
//!   and unreferenced;
//! * two free buddies of one zone are never both free with the same order (they merge), unless their blocks are
//!   of mobility groups that must not mix (HighAtomic, CMA, Isolate);
//! * every frame whose block of 2^10 lies partly in the zone has a descriptor.
//!
//! Knuth, The Art of Computer Programming 2.5; grouping by mobility: Gorman, "Fragmentation avoidance".

use crate::gfp::{MAX_PAGE_ORDER, MigrateType, NR_MIGRATE_TYPES, NR_ORDERS};
use crate::page::{NIL, Page, PageType};
use crate::pageblock::{PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, PageBlock};

/// Where descriptors are found.
pub trait Frames {
    /// The descriptor of a frame.
    fn page(&self, pfn: u32) -> &Page;
    /// The page block of a frame.
    fn block(&self, pfn: u32) -> &PageBlock;
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    const EMPTY: List = List { head: NIL, tail: NIL, len: 0 };
}

/// The free blocks of one zone.
pub struct Buddy {
    lists: [[List; NR_MIGRATE_TYPES]; NR_ORDERS],
    /// Without those that are isolated.
    free_pages: usize,
    start: u32,
    end: u32,
}

/// Which mobility groups lend to which, best first.
const FALLBACKS: [&[MigrateType]; 3] = [
    &[MigrateType::Reclaimable, MigrateType::Movable],
    &[MigrateType::Cma, MigrateType::Reclaimable, MigrateType::Unmovable],
    &[MigrateType::Unmovable, MigrateType::Movable],
];

const fn mergeable(ty: MigrateType) -> bool {
    (ty as usize) < 3
}

impl Default for Buddy {
    fn default() -> Self {
        Self::new()
    }
}

impl Buddy {
    /// An allocator without memory.
    pub const fn new() -> Self {
        Self { lists: [[List::EMPTY; NR_MIGRATE_TYPES]; NR_ORDERS], free_pages: 0, start: 0, end: 0 }
    }

    /// Sets the frames the zone spans: `start..end`.
    pub fn set_span(&mut self, start: u32, end: u32) {
        self.start = start;
        self.end = end;
    }

    /// Number of free pages that can be had: without isolated ones.
    #[inline]
    pub fn free_pages(&self) -> usize {
        self.free_pages
    }

    /// Number of free blocks of `order`, over all mobility groups.
    pub fn free_blocks(&self, order: u8) -> usize {
        self.lists[order as usize].iter().map(|l| l.len as usize).sum()
    }

    /// Number of free blocks of `order` in one mobility group.
    pub fn free_blocks_of(&self, order: u8, ty: MigrateType) -> usize {
        self.lists[order as usize][ty as usize].len as usize
    }

    /// Number of free pages in one mobility group.
    pub fn free_pages_of(&self, ty: MigrateType) -> usize {
        self.lists.iter().enumerate().map(|(order, l)| (l[ty as usize].len as usize) << order).sum()
    }

    /// Whether a block of `order` can be had for `ty` (watermark check of higher orders).
    pub fn has_block(&self, order: u8, ty: MigrateType) -> bool {
        self.lists[order as usize..].iter().any(|lists| {
            lists[ty as usize].len != 0
                || FALLBACKS.get(ty as usize).is_some_and(|f| f.iter().any(|t| lists[*t as usize].len != 0))
        })
    }

    // ---- lists -------------------------------------------------------------------------------

    fn push<F: Frames>(&mut self, frames: &F, pfn: u32, order: u8, ty: MigrateType) {
        let list = &mut self.lists[order as usize][ty as usize];
        let page = frames.page(pfn);
        page.set_type(PageType::Buddy, u32::from(order));
        page.set_prev(NIL);
        page.set_next(list.head);
        if list.head == NIL {
            list.tail = pfn;
        } else {
            frames.page(list.head).set_prev(pfn);
        }
        list.head = pfn;
        list.len += 1;
        if ty != MigrateType::Isolate {
            self.free_pages += 1 << order;
        }
    }

    fn unlink<F: Frames>(&mut self, frames: &F, pfn: u32, order: u8, ty: MigrateType) {
        let list = &mut self.lists[order as usize][ty as usize];
        let page = frames.page(pfn);
        let (prev, next) = (page.prev(), page.next());
        if prev == NIL {
            list.head = next;
        } else {
            frames.page(prev).set_next(next);
        }
        if next == NIL {
            list.tail = prev;
        } else {
            frames.page(next).set_prev(prev);
        }
        list.len -= 1;
        page.clear_type();
        if ty != MigrateType::Isolate {
            self.free_pages -= 1 << order;
        }
    }

    // ---- free --------------------------------------------------------------------------------

    /// The free buddy of a block, if it can be merged with it.
    fn mergeable_buddy<F: Frames>(&self, frames: &F, pfn: u32, order: u8) -> Option<u32> {
        let buddy = pfn ^ 1 << order;
        if buddy < self.start || buddy >= self.end {
            return None;
        }
        let page = frames.page(buddy);
        if !page.has_type(PageType::Buddy) || page.type_detail() != u32::from(order) {
            return None;
        }
        if order >= PAGEBLOCK_ORDER {
            let (mine, other) = (frames.block(pfn), frames.block(buddy));
            if mine.zone() != other.zone() {
                return None;
            }
            let (mine, other) = (mine.migrate_type(), other.migrate_type());
            if mine != other && !(mergeable(mine) && mergeable(other)) {
                return None;
            }
        }
        Some(buddy)
    }

    /// Takes back the block of 2^`order` pages at `pfn`, merging it with its free buddies.
    pub fn free<F: Frames>(&mut self, frames: &F, mut pfn: u32, mut order: u8) {
        let ty = frames.block(pfn).migrate_type();
        while order < MAX_PAGE_ORDER {
            let Some(buddy) = self.mergeable_buddy(frames, pfn, order) else { break };
            let other = if order < PAGEBLOCK_ORDER { ty } else { frames.block(buddy).migrate_type() };
            self.unlink(frames, buddy, order, other);
            if other != ty {
                set_blocks(frames, buddy, order, ty);
            }
            pfn &= buddy;
            order += 1;
        }
        self.push(frames, pfn, order, ty);
    }

    /// Gives all frames of `start..end` to the allocator, in the largest blocks that fit.
    pub fn free_range<F: Frames>(&mut self, frames: &F, mut start: u32, end: u32) {
        while start < end {
            let aligned = start.trailing_zeros().min(u32::from(MAX_PAGE_ORDER));
            let fits = (end - start).ilog2();
            let order = aligned.min(fits) as u8;
            self.free(frames, start, order);
            start += 1 << order;
        }
    }

    // ---- allocate ----------------------------------------------------------------------------

    /// A block of 2^`order` pages of mobility `ty`; from other groups where its own has none.
    pub fn alloc<F: Frames>(&mut self, frames: &F, order: u8, ty: MigrateType) -> Option<u32> {
        self.take_smallest(frames, order, ty).or_else(|| self.take_fallback(frames, order, ty))
    }

    /// A block from exactly the group `ty`.
    pub fn take_smallest<F: Frames>(&mut self, frames: &F, order: u8, ty: MigrateType) -> Option<u32> {
        for at in order..=MAX_PAGE_ORDER {
            let pfn = self.lists[at as usize][ty as usize].head;
            if pfn != NIL {
                self.unlink(frames, pfn, at, ty);
                self.split(frames, pfn, at, order, ty);
                return Some(pfn);
            }
        }
        None
    }

    /// Puts the upper halves of a block back until its lower part has order `want`.
    fn split<F: Frames>(&mut self, frames: &F, pfn: u32, mut order: u8, want: u8, ty: MigrateType) {
        while order > want {
            order -= 1;
            let upper = pfn + (1 << order);
            // Above a block, the halves carry the type of their own first block: the same, as they merged.
            self.push(frames, upper, order, ty);
        }
    }

    /// Takes from another group. Large blocks first, together with the rest of their page block if at least half of
    /// that is free or alike: so that mixing stays in few blocks.
    #[cold]
    fn take_fallback<F: Frames>(&mut self, frames: &F, order: u8, ty: MigrateType) -> Option<u32> {
        let fallbacks = *FALLBACKS.get(ty as usize)?;
        for at in (order..=MAX_PAGE_ORDER).rev() {
            for &from in fallbacks {
                let pfn = self.lists[at as usize][from as usize].head;
                if pfn == NIL || !may_claim(at, ty, from) {
                    continue;
                }
                if at >= PAGEBLOCK_ORDER {
                    self.unlink(frames, pfn, at, from);
                    set_blocks(frames, pfn, at, ty);
                    self.split(frames, pfn, at, order, ty);
                    return Some(pfn);
                }
                if self.claim_block(frames, pfn, ty, from) {
                    return self.take_smallest(frames, order, ty);
                }
            }
        }
        // No block worth claiming: the smallest piece that does, from where it lies.
        for at in order..=MAX_PAGE_ORDER {
            for &from in fallbacks {
                let pfn = self.lists[at as usize][from as usize].head;
                if pfn != NIL {
                    self.unlink(frames, pfn, at, from);
                    self.split(frames, pfn, at, order, from);
                    return Some(pfn);
                }
            }
        }
        None
    }

    /// Moves the free pages of `pfn`'s page block to group `to` and makes the block one of that group, if at least half of
    /// it is free or of a similar kind.
    fn claim_block<F: Frames>(&mut self, frames: &F, pfn: u32, to: MigrateType, from: MigrateType) -> bool {
        let first = pfn & !(PAGEBLOCK_PAGES - 1);
        let last = first + PAGEBLOCK_PAGES;
        if first < self.start || last > self.end {
            return false;
        }
        let free: u32 = free_in(frames, first, last).map(|(_, order)| 1 << order).sum();
        // What is not free is alike if neither group moves.
        let alike = if to != MigrateType::Movable && from != MigrateType::Movable {
            PAGEBLOCK_PAGES - free
        } else {
            0
        };
        if free + alike < PAGEBLOCK_PAGES / 2 {
            return false;
        }
        self.move_block(frames, first, from, to);
        true
    }

    /// Changes the groups of the two page blocks of the largest buddy block at `first`, with their free pages: isolation for offlining and
    /// contiguous allocation, and its end.
    pub fn retype<F: Frames>(&mut self, frames: &F, first: u32, types: [MigrateType; 2]) {
        let last = first + (1 << MAX_PAGE_ORDER);
        for (pfn, order) in free_in(frames, first, last) {
            let ty = frames.block(pfn).migrate_type();
            self.unlink(frames, pfn, order, ty);
            frames.page(pfn).set_type(PageType::Isolated, u32::from(order));
        }
        for (block, ty) in (first..last).step_by(PAGEBLOCK_PAGES as usize).zip(types) {
            frames.block(block).set_migrate_type(ty);
        }
        // Now that all are out, they may merge as their new groups allow.
        let mut at = first;
        while at < last {
            let page = frames.page(at);
            if page.has_type(PageType::Isolated) {
                let order = page.type_detail() as u8;
                page.clear_type();
                self.free(frames, at, order);
                at += 1 << order;
            } else {
                at += 1;
            }
        }
    }

    /// Takes all of `start..end` out of the free lists, if all of it is free and isolated.
    pub fn take_isolated<F: Frames>(&mut self, frames: &F, start: u32, end: u32) -> bool {
        let isolated = |pfn: u32| frames.block(pfn).migrate_type() == MigrateType::Isolate;
        let mut at = start;
        for (pfn, order) in free_in(frames, start, end) {
            if pfn != at || !isolated(pfn) {
                return false;
            }
            at += 1 << order;
        }
        if at != end {
            return false;
        }
        for (pfn, order) in free_in(frames, start, end) {
            self.unlink(frames, pfn, order, MigrateType::Isolate);
        }
        true
    }

    /// Changes the group of the page block at `first` with all its free pages.
    /// Free blocks larger than a page block must be split before.
    pub fn move_block<F: Frames>(&mut self, frames: &F, first: u32, from: MigrateType, to: MigrateType) {
        let mut at = first;
        let last = first + PAGEBLOCK_PAGES;
        while let Some((pfn, order)) = free_in(frames, at, last).next() {
            self.unlink(frames, pfn, order, from);
            self.push(frames, pfn, order, to);
            at = pfn + (1 << order);
        }
        frames.block(first).set_migrate_type(to);
    }

    /// Checks the invariants; for tests and debug builds. Returns the number of free pages found.
    pub fn verify<F: Frames>(&self, frames: &F) -> usize {
        let mut found = 0;
        for (order, lists) in self.lists.iter().enumerate() {
            for ty in MigrateType::ALL {
                let list = lists[ty as usize];
                let (mut pfn, mut prev, mut len) = (list.head, NIL, 0);
                while pfn != NIL {
                    let page = frames.page(pfn);
                    assert!(pfn >= self.start && pfn + (1 << order) <= self.end, "outside the zone");
                    assert!(page.has_type(PageType::Buddy) && page.type_detail() == order as u32);
                    assert_eq!(page.prev(), prev);
                    assert_eq!(pfn % (1 << order), 0);
                    assert_eq!(frames.block(pfn).migrate_type(), ty);
                    if (order as u8) < MAX_PAGE_ORDER {
                        assert!(self.mergeable_buddy(frames, pfn, order as u8).is_none(), "unmerged buddies");
                    }
                    found += if ty == MigrateType::Isolate { 0 } else { 1 << order };
                    len += 1;
                    prev = pfn;
                    pfn = page.next();
                }
                assert_eq!((list.tail, list.len), (prev, len));
            }
        }
        assert_eq!(found, self.free_pages);
        found
    }
}

/// Whether a free piece of 2^`order` pages is worth trying to claim its block for.
fn may_claim(order: u8, to: MigrateType, from: MigrateType) -> bool {
    from != MigrateType::Cma && (order >= PAGEBLOCK_ORDER / 2 || to != MigrateType::Movable)
}

/// Sets the group of all page blocks under a block of `order` (at least a page block).
fn set_blocks<F: Frames>(frames: &F, pfn: u32, order: u8, ty: MigrateType) {
    for block in (pfn..pfn + (1 << order)).step_by(PAGEBLOCK_PAGES as usize) {
        frames.block(block).set_migrate_type(ty);
    }
}

/// The free blocks whose heads lie in `at..end`, with their orders.
fn free_in<F: Frames>(frames: &F, mut at: u32, end: u32) -> impl Iterator<Item = (u32, u8)> {
    core::iter::from_fn(move || {
        while at < end {
            let page = frames.page(at);
            if page.has_type(PageType::Buddy) {
                let (pfn, order) = (at, page.type_detail() as u8);
                at += 1 << order;
                return Some((pfn, order));
            }
            at += 1;
        }
        None
    })
}

#[cfg(test)]
#[path = "buddy/tests.rs"]
mod tests;
