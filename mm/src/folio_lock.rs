//! The folio lock: a sleeping lock in the page descriptor.
//!
//! It guards the contents becoming valid and the membership in a mapping. The bit is `LOCKED`; who waits sets
//! `WAITERS` and sleeps in one of a few shared wait queues, chosen by the descriptor's address. Who waits for the end of a write-back
//! (`WRITEBACK`) sleeps in the same way.
//!
//! A lock belongs to nobody in particular: it goes with the [`FolioGuard`], which may be given to a transfer and be dropped in the interrupt
//! that ends it.

use crate::folio::Folio;
use crate::page::{Page, PageFlags};
use core::ops::Range;
use sched::wait::WaitQueue;

const QUEUES: usize = 64;
static WAITING: [WaitQueue; QUEUES] = [const { WaitQueue::new() }; QUEUES];

fn queue(page: &Page) -> &'static WaitQueue {
    let number = core::ptr::from_ref(page).addr() / size_of::<Page>();
    &WAITING[number.wrapping_mul(0x9e37_79b9) >> 8 & (QUEUES - 1)]
}

/// A locked folio; the lock goes with the value.
#[derive(Debug)]
pub struct FolioGuard {
    folio: Folio,
}

impl FolioGuard {
    /// The folio.
    pub fn folio(&self) -> &Folio {
        &self.folio
    }

    /// Its descriptor.
    #[inline]
    pub fn page(&self) -> &'static Page {
        self.folio.page()
    }

    /// Index in the mapping.
    pub fn index(&self) -> u64 {
        self.folio.index()
    }

    /// The contents are valid from now on.
    pub fn mark_uptodate(&self) {
        if !self.folio.test(PageFlags::UPTODATE) {
            self.folio.set(PageFlags::UPTODATE);
        }
    }

    /// Zeroes the bytes of `range`, which is cut to the folio.
    pub fn zero(&self, range: Range<usize>) {
        let end = range.end.min(self.folio.size());
        if range.start < end {
            let _ = self.folio.fill(range.start, end - range.start, 0);
        }
    }

    /// Unlocks and returns the reference.
    pub fn unlock(self) -> Folio {
        let folio = self.folio.clone();
        drop(self);
        folio
    }
}

impl Drop for FolioGuard {
    #[inline]
    fn drop(&mut self) {
        let page = self.folio.page();
        let old = page.replace_flags(PageFlags::LOCKED | PageFlags::WAITERS, PageFlags::empty());
        if old.contains(PageFlags::WAITERS) {
            queue(page).wake_all();
        }
    }
}

/// Locks a folio if it is free.
#[inline]
pub fn try_lock(folio: Folio) -> Option<FolioGuard> {
    folio.test_and_set(PageFlags::LOCKED).is_empty().then(|| FolioGuard { folio })
}

/// Locks a folio, sleeping if need be.
#[inline]
pub fn lock(folio: Folio) -> FolioGuard {
    if !folio.test_and_set(PageFlags::LOCKED).is_empty() {
        wait(folio.page());
    }
    FolioGuard { folio }
}

#[cold]
fn wait(page: &'static Page) {
    queue(page).wait_event(|| {
        if page.test_and_set(PageFlags::LOCKED).is_empty() {
            return true;
        }
        page.set(PageFlags::WAITERS);
        // The holder may have left between the two.
        page.test_and_set(PageFlags::LOCKED).is_empty()
    });
}

/// Sleeps until the folio is not being written to its backing store.
#[inline]
pub fn wait_writeback(page: &'static Page) {
    if page.test(PageFlags::WRITEBACK) {
        wait_writeback_slow(page);
    }
}

#[cold]
fn wait_writeback_slow(page: &'static Page) {
    queue(page).wait_event(|| {
        if !page.test(PageFlags::WRITEBACK) {
            return true;
        }
        page.set(PageFlags::WAITERS);
        // The end may have come between the two.
        !page.test(PageFlags::WRITEBACK)
    });
}

/// Ends the write-back of a page. Any context.
pub(crate) fn end_writeback(page: &'static Page) {
    let old = page.replace_flags(PageFlags::WRITEBACK | PageFlags::WAITERS, PageFlags::empty());
    if old.contains(PageFlags::WAITERS) {
        queue(page).wake_all();
    }
}

/// For a folio that was born locked.
pub(crate) fn assume_locked(folio: Folio) -> FolioGuard {
    FolioGuard { folio }
}
