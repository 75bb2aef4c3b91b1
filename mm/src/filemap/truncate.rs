//! Leaving the cache: truncation, holes, eviction, and finding holes.

use super::{Cows, Mapping, PAGE};
use crate::folio_lock::{self, FolioGuard};
use crate::page::{PageFlags, tag};
use crate::{lru, rmap};
use abi::{Errno, Result};
use core::ops::Range;

impl Mapping {
    /// Sets the size and drops everything behind it (`truncate_setsize`): mappings of what is gone fault with `SIGBUS`, the rest of
    /// the last page becomes zero.
    pub fn truncate(&self, size: u64) {
        let _exclusive = self.invalidate.write();
        self.truncate_locked(size);
    }

    /// As [`Self::truncate`], for a file system that holds [`Self::invalidate_lock`] exclusively until it has taken the blocks away as well.
    pub fn truncate_locked(&self, size: u64) {
        let old = self.size();
        self.set_size(size);
        if size < old || self.nr_pages() > 0 {
            self.remove_range(size..u64::MAX, Cows::Too);
        }
    }

    /// Drops the bytes of `range`, which then read as the backing store has them (zeros without one): `FALLOC_FL_PUNCH_HOLE`.
    pub fn punch_hole(&self, range: Range<u64>) {
        let _exclusive = self.invalidate.write();
        self.punch_locked(range);
    }

    /// As [`Self::punch_hole`], with [`Self::invalidate_lock`] held exclusively. A page of which only a part goes may be written back at any
    /// time, also to blocks that are about to be freed: the file system waits for that ([`Self::wait_on_writeback`]) before others get them.
    pub fn punch_locked(&self, range: Range<u64>) {
        self.remove_range(range, Cows::Not);
    }

    pub(super) fn remove_range(&self, range: Range<u64>, cows: Cows) {
        let first = range.start.div_ceil(PAGE);
        // The first index after the last whole page.
        let last = if range.end == u64::MAX { u64::MAX / PAGE } else { range.end / PAGE };
        self.unmap_range(first..last, cows);
        self.zero_partial(range.start, range.end.min((range.start / PAGE + 1) * PAGE));
        if range.end != u64::MAX && range.end / PAGE != range.start / PAGE {
            self.zero_partial(range.end / PAGE * PAGE, range.end);
        }
        let mut index = first;
        while index < last {
            let next = {
                let tree = self.tree.lock();
                tree.next(index..=last - 1).map(|(at, folio)| (at, folio.clone()))
            };
            let Some((at, folio)) = next else { break };
            index = at + 1;
            let guard = folio_lock::lock(folio);
            if guard.page().mapping() == self.word() {
                self.remove_locked(&guard);
            }
        }
    }

    /// Zeroes part of one page if it is cached (or could be, with other contents on the backing store).
    fn zero_partial(&self, start: u64, end: u64) {
        if start.is_multiple_of(PAGE) && (end.is_multiple_of(PAGE) || end <= start) {
            return;
        }
        let Some(folio) = self.get(start / PAGE) else { return };
        let guard = folio_lock::lock(folio);
        if guard.page().mapping() == self.word() && guard.page().test(PageFlags::UPTODATE) {
            // Blocks behind it may be about to go to others.
            folio_lock::wait_writeback(guard.page());
            let from = (start % PAGE) as usize;
            guard.zero(from..from + (end - start).min(PAGE - from as u64) as usize);
            self.set_dirty(guard.page());
        }
    }

    /// Takes a locked folio out of the cache, whatever its state.
    fn remove_locked(&self, guard: &FolioGuard) {
        let page = guard.page();
        if page.mapcount() > 0 {
            rmap::unmap_file_page(page);
        }
        folio_lock::wait_writeback(page);
        if !page.test_and_clear(PageFlags::DIRTY).is_empty() && !self.memory {
            crate::frames::count_dirty(-1);
        }
        let removed = self.tree.lock().remove(page.index());
        page.set_mapping(0);
        lru::remove(page);
        crate::frames::count_cached(-1, self.memory);
        let _ = self.ops.account(-1);
        drop(removed);
    }

    /// Evicts a locked clean folio that nobody else uses; `refs` is how many references the caller has. Leaves a shadow.
    pub(crate) fn evict(&self, guard: &FolioGuard, refs: u32, shadow: u64) -> bool {
        let page = guard.page();
        if page.flags().intersects(PageFlags::DIRTY | PageFlags::WRITEBACK) || !self.ops.release_folio(page) {
            return false;
        }
        let mut tree = self.tree.lock();
        // One reference is the tree's. With the count at zero nobody can find the folio any more.
        if !page.freeze(refs + 1) {
            return false;
        }
        if page.flags().intersects(PageFlags::DIRTY | PageFlags::WRITEBACK) {
            page.unfreeze(refs + 1);
            return false;
        }
        let removed = tree.replace_with_shadow(page.index(), shadow);
        page.set_mapping(0);
        page.unfreeze(refs + 1);
        drop(tree);
        crate::frames::count_cached(-1, self.memory);
        drop(removed);
        true
    }

    /// Takes a locked folio out of the cache if what it holds is on the backing store as well and nobody uses it but the caller, who has
    /// `refs` references.
    fn evict_idle(&self, guard: &FolioGuard, refs: u32) -> bool {
        if self.memory || guard.page().test(PageFlags::DIRTY) || !rmap::unmap_file_page(guard.page()) {
            return false;
        }
        lru::remove(guard.page());
        let gone = self.evict(guard, refs, 0);
        if gone {
            let _ = self.ops.account(-1);
        } else {
            lru::add_new(guard.page());
        }
        gone
    }

    /// Drops clean, unmapped, idle folios in `range` of pages (`POSIX_FADV_DONTNEED`, drop_caches). Returns how many went.
    pub fn invalidate(&self, range: Range<u64>) -> usize {
        if self.memory || range.is_empty() {
            return 0;
        }
        let mut gone = 0;
        let mut index = range.start;
        while index < range.end {
            let next = {
                let tree = self.tree.lock();
                tree.next(index..=range.end - 1).map(|(at, folio)| (at, folio.clone()))
            };
            let Some((at, folio)) = next else { break };
            index = at + 1;
            let Some(guard) = folio_lock::try_lock(folio) else { continue };
            if guard.page().mapping() != self.word() || guard.page().mapcount() > 0 {
                continue;
            }
            lru::remove(guard.page());
            if self.evict(&guard, 1, 0) {
                gone += 1;
                let _ = self.ops.account(-1);
            } else {
                lru::add_new(guard.page());
            }
        }
        gone
    }

    /// Drops all folios in `range` of pages, mapped or not, after waiting for their write-back (`invalidate_inode_pages2_range`): before and
    /// behind transfers past the cache.
    ///
    /// # Errors
    /// `EBUSY`: one is dirty again, or in use. The others went.
    pub fn invalidate_all(&self, range: Range<u64>) -> Result<()> {
        if self.memory || range.is_empty() || self.nr_pages() == 0 {
            return Ok(());
        }
        self.unmap_range(range.clone(), Cows::Not);
        let mut result = Ok(());
        let mut index = range.start;
        while index < range.end {
            let next = {
                let tree = self.tree.lock();
                tree.next(index..=range.end - 1).map(|(at, folio)| (at, folio.clone()))
            };
            let Some((at, folio)) = next else { break };
            index = at.saturating_add(1);
            let guard = folio_lock::lock(folio);
            if guard.page().mapping() != self.word() {
                continue;
            }
            folio_lock::wait_writeback(guard.page());
            // A reader that copies from it, or the LRU that looks at it, is through in a moment.
            let mut tries = 0;
            while !self.evict_idle(&guard, 1) {
                tries += 1;
                if tries > 10 || guard.page().test(PageFlags::DIRTY) {
                    result = Err(Errno::EBUSY);
                    break;
                }
                sched::yield_now();
            }
        }
        result
    }

    /// The index of the first folio at or behind `index`.
    pub fn next_cached(&self, index: u64) -> Option<u64> {
        self.tree.lock().next(index..=u64::MAX).map(|(at, _)| at)
    }

    /// `SEEK_DATA` and `SEEK_HOLE` over what is cached, for objects without a backing store. `None`: no data from `pos` on (`ENXIO`).
    pub fn seek_data(&self, pos: u64) -> Option<u64> {
        let size = self.size();
        if pos >= size {
            return None;
        }
        let last = (size - 1) / PAGE;
        let at = self.tree.lock().next(pos / PAGE..=last).map(|(at, _)| at)?;
        Some((at * PAGE).max(pos))
    }

    /// The first hole at or after `pos`; the end of the file counts as one. `None` if `pos` is not inside the file.
    pub fn seek_hole(&self, pos: u64) -> Option<u64> {
        let size = self.size();
        if pos >= size {
            return None;
        }
        let last = (size - 1) / PAGE;
        let gap = self.tree.lock().next_gap(pos / PAGE, last);
        Some(gap.map_or(size, |at| (at * PAGE).max(pos).min(size)))
    }
}

/// Takes a locked folio out of its cache if it need not stay. The caller has `refs` references.
pub(crate) fn evict_if_clean(guard: &FolioGuard, refs: u32) -> bool {
    let word = guard.page().mapping();
    if word == 0 || word & tag::MASK != tag::FILE {
        return false;
    }
    // SAFETY: the page is locked and in the cache.
    unsafe { Mapping::of_locked_page(word) }.evict_idle(guard, refs)
}
