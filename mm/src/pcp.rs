//! Per-CPU page lists: small free blocks in front of a zone's buddy allocator.
//!
//! Orders 0 to 3 of the three ordinary mobility groups. Taking and giving a page is a list operation on data of this
//! CPU; the zone's lock is taken once per batch. The lists are stacks: the page freed last is warm in the cache.
//!
//! Pages here count as used in `MemFree`, as in Linux. They go back when a list grows past `high`, when an
//! allocation fails ([`crate::page_alloc::drain_all`]), and when a CPU goes away.

use crate::buddy::Frames;
use crate::gfp::{COSTLY_ORDER, NR_PCP_TYPES};
use crate::local::Local;
use crate::page::NIL;
use crate::pageblock::ZoneId;
use arch::preempt::PreemptOff;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Orders with lists.
pub const PCP_ORDERS: usize = COSTLY_ORDER as usize + 1;
const LISTS: usize = PCP_ORDERS * NR_PCP_TYPES;

/// The lists of one CPU for one zone.
pub struct Pcp {
    heads: [u32; LISTS],
    /// Pages in all lists.
    count: u32,
    /// Above this the lists are trimmed.
    high: u32,
    /// Pages moved at once.
    batch: u32,
    /// Where trimming goes on.
    next: u8,
}

/// The list of an order and a mobility group (one of the first three).
#[inline]
pub const fn list_of(order: u8, ty: usize) -> usize {
    order as usize * NR_PCP_TYPES + ty
}

impl Pcp {
    /// Empty lists.
    pub const fn new(high: u32, batch: u32) -> Self {
        Self { heads: [NIL; LISTS], count: 0, high, batch, next: 0 }
    }

    /// Takes a block from a list.
    #[inline]
    pub fn pop<F: Frames>(&mut self, frames: &F, list: usize, order: u8) -> Option<u32> {
        let head = self.heads.get_mut(list)?;
        let pfn = *head;
        if pfn == NIL {
            return None;
        }
        *head = frames.page(pfn).next();
        self.count -= 1 << order;
        Some(pfn)
    }

    /// Puts a block on a list; true if the lists are now over their limit.
    #[inline]
    pub fn push<F: Frames>(&mut self, frames: &F, list: usize, pfn: u32, order: u8) -> bool {
        let Some(head) = self.heads.get_mut(list) else { return false };
        frames.page(pfn).set_next(*head);
        *head = pfn;
        self.count += 1 << order;
        self.count > self.high
    }

    /// Pages in the lists.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The limit.
    pub fn high(&self) -> u32 {
        self.high
    }

    /// Pages moved at once.
    pub fn batch(&self) -> u32 {
        self.batch
    }

    /// Takes up to `pages` pages off the lists in turn and hands each block to `give(pfn, order)`.
    pub fn drain<F: Frames>(&mut self, frames: &F, pages: u32, give: &mut dyn FnMut(u32, u8)) {
        let target = self.count.saturating_sub(pages);
        while self.count > target {
            let list = usize::from(self.next) % LISTS;
            let order = (list / NR_PCP_TYPES) as u8;
            match self.pop(frames, list, order) {
                Some(pfn) => give(pfn, order),
                None => self.next = ((list + 1) % LISTS) as u8,
            }
        }
    }
}

/// `high` and `batch` for a zone with `managed` pages shared by `cpus` CPUs: a batch of a quarter per mille, at most 63;
/// so small on a small machine that the lists do not hide memory.
pub fn limits(managed: usize, cpus: usize) -> (u32, u32) {
    let batch = (managed / 4096).clamp(4, 63) as u32;
    let share = (managed / cpus.max(1) / 256).max(1) as u32;
    ((batch * 6).min(share.max(batch * 2)), batch)
}

/// The lists of a zone on one CPU, with the zone's name beside them so that a free can tell whether they are the right ones.
pub(crate) struct ZonePcp {
    pub(crate) zone: ZoneId,
    pub(crate) high: u32,
    pub(crate) batch: u32,
    /// `lists.count()`, for other CPUs to look at.
    count: AtomicU32,
    lists: Local<Pcp>,
}

impl ZonePcp {
    pub(crate) fn new(zone: ZoneId, high: u32, batch: u32) -> Self {
        Self { zone, high, batch, count: AtomicU32::new(0), lists: Local::new(Pcp::new(high, batch)) }
    }

    /// Runs `f` on the lists; `None` if an interrupted allocation is in them.
    ///
    /// # Safety
    /// They are the lists of the current CPU.
    #[inline(always)]
    pub(crate) unsafe fn with<G: PreemptOff, R>(&self, here: &G, f: impl FnOnce(&mut Pcp) -> R) -> Option<R> {
        // SAFETY: the caller's promise.
        unsafe {
            self.lists.with(here, |lists| {
                let result = f(lists);
                self.count.store(lists.count(), Relaxed);
                result
            })
        }
    }

    /// Pages in the lists, a moment ago.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gfp::MigrateType;
    use crate::page::Page;
    use crate::pageblock::PageBlock;
    use std::vec::Vec;

    struct Pages(Vec<Page>, PageBlock);
    impl Frames for Pages {
        fn page(&self, pfn: u32) -> &Page {
            &self.0[pfn as usize]
        }
        fn block(&self, _: u32) -> &PageBlock {
            &self.1
        }
    }

    fn pages() -> Pages {
        let zone = ZoneId::new(0, crate::gfp::ZoneKind::Normal);
        Pages((0..256).map(|_| Page::new()).collect(), PageBlock::new(zone, MigrateType::Movable))
    }

    #[test]
    fn last_in_first_out_per_list() {
        let frames = pages();
        let mut pcp = Pcp::new(100, 8);
        assert!(!pcp.push(&frames, list_of(0, 1), 5, 0));
        assert!(!pcp.push(&frames, list_of(0, 1), 9, 0));
        assert!(!pcp.push(&frames, list_of(3, 0), 16, 3));
        assert_eq!(pcp.count(), 10);
        assert_eq!(pcp.pop(&frames, list_of(0, 0), 0), None);
        assert_eq!(pcp.pop(&frames, list_of(0, 1), 0), Some(9));
        assert_eq!(pcp.pop(&frames, list_of(0, 1), 0), Some(5));
        assert_eq!(pcp.pop(&frames, list_of(3, 0), 3), Some(16));
        assert_eq!(pcp.count(), 0);
    }

    #[test]
    fn draining_takes_what_was_asked_for() {
        let frames = pages();
        let mut pcp = Pcp::new(20, 8);
        let mut over = false;
        for pfn in 0..24 {
            over = pcp.push(&frames, list_of(0, pfn as usize % 3), pfn, 0);
        }
        assert!(over);
        let mut got = Vec::new();
        pcp.drain(&frames, 8, &mut |pfn, order| got.push((pfn, order)));
        assert_eq!((got.len(), pcp.count()), (8, 16));
        pcp.drain(&frames, u32::MAX, &mut |pfn, order| got.push((pfn, order)));
        got.sort();
        assert_eq!(got, (0..24).map(|p| (p, 0)).collect::<Vec<_>>());
    }

    #[test]
    fn small_zones_have_short_lists() {
        assert_eq!(limits(8192, 1), (24, 4));
        assert!(limits(8192, 8).0 <= 8);
        assert_eq!(limits(4 << 20, 2), (378, 63));
    }
}
