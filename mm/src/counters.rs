//! What an address space counts: resident pages by kind, and the sizes of its areas.

use crate::page::{Page, PageFlags, tag};
use crate::vma::VmFlags;
use core::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

/// Memory counters of an address space, in pages. All are exact at rest.
#[derive(Debug, Default)]
pub struct Counters {
    anon: AtomicIsize,
    file: AtomicIsize,
    shmem: AtomicIsize,
    swap: AtomicIsize,
    hiwater_rss: AtomicUsize,
    hiwater_vm: AtomicUsize,
    total_vm: AtomicIsize,
    locked_vm: AtomicIsize,
    data_vm: AtomicIsize,
    exec_vm: AtomicIsize,
    stack_vm: AtomicIsize,
}

fn at_least_zero(counter: &AtomicIsize) -> usize {
    counter.load(Relaxed).max(0) as usize
}

impl Counters {
    fn kind_of(&self, page: &Page) -> &AtomicIsize {
        if page.mapping() & tag::MASK == tag::ANON {
            &self.anon
        } else if page.test(PageFlags::SWAPBACKED) {
            &self.shmem
        } else {
            &self.file
        }
    }

    /// A page-table entry for `page` came to be.
    pub(crate) fn add_page(&self, page: &Page) {
        self.kind_of(page).fetch_add(1, Relaxed);
    }

    /// A page-table entry for `page` went away.
    pub(crate) fn sub_page(&self, page: &Page) {
        self.kind_of(page).fetch_sub(1, Relaxed);
    }

    #[inline]
    pub(crate) fn add_anon(&self, pages: isize) {
        self.anon.fetch_add(pages, Relaxed);
    }

    /// Adds the pages of a batch, by kind.
    pub(crate) fn add_batch(&self, anon: isize, file: isize, shmem: isize) {
        for (counter, pages) in [(&self.anon, anon), (&self.file, file), (&self.shmem, shmem)] {
            if pages != 0 {
                counter.fetch_add(pages, Relaxed);
            }
        }
    }

    /// Notes the present size as the highest, before it shrinks.
    pub(crate) fn update_hiwater(&self) {
        self.hiwater_rss.fetch_max(self.rss(), Relaxed);
        self.hiwater_vm.fetch_max(self.total_vm(), Relaxed);
    }

    /// An area of `pages` pages came (positive) or went (negative).
    pub(crate) fn add_area(&self, flags: VmFlags, pages: isize) {
        self.total_vm.fetch_add(pages, Relaxed);
        if flags.contains(VmFlags::LOCKED) {
            self.locked_vm.fetch_add(pages, Relaxed);
        }
        self.add_kind(flags, pages);
    }

    fn add_kind(&self, flags: VmFlags, pages: isize) {
        if flags & (VmFlags::EXEC | VmFlags::WRITE | VmFlags::GROWSDOWN) == VmFlags::EXEC {
            self.exec_vm.fetch_add(pages, Relaxed);
        } else if flags.contains(VmFlags::GROWSDOWN) {
            self.stack_vm.fetch_add(pages, Relaxed);
        } else if flags.is_data() {
            self.data_vm.fetch_add(pages, Relaxed);
        }
    }

    /// An area changed its flags.
    pub(crate) fn change_area(&self, old: VmFlags, new: VmFlags, pages: isize) {
        self.add_area(old, -pages);
        self.add_area(new, pages);
    }

    /// Resident pages.
    pub fn rss(&self) -> usize {
        at_least_zero(&self.anon) + at_least_zero(&self.file) + at_least_zero(&self.shmem)
    }

    /// Resident anonymous pages (`RssAnon`).
    pub fn anon(&self) -> usize {
        at_least_zero(&self.anon)
    }

    /// Resident file pages (`RssFile`).
    pub fn file(&self) -> usize {
        at_least_zero(&self.file)
    }

    /// Resident shared-memory pages (`RssShmem`).
    pub fn shmem(&self) -> usize {
        at_least_zero(&self.shmem)
    }

    /// Pages in swap (`VmSwap`).
    pub fn swap(&self) -> usize {
        at_least_zero(&self.swap)
    }

    /// Most resident pages so far (`VmHWM`).
    pub fn hiwater_rss(&self) -> usize {
        self.hiwater_rss.load(Relaxed).max(self.rss())
    }

    /// Largest size so far (`VmPeak`).
    pub fn hiwater_vm(&self) -> usize {
        self.hiwater_vm.load(Relaxed).max(self.total_vm())
    }

    /// Resets the high-water mark of rss (`/proc/PID/clear_refs` 5).
    pub fn reset_hiwater_rss(&self) {
        self.hiwater_rss.store(self.rss(), Relaxed);
    }

    /// All areas (`VmSize`).
    pub fn total_vm(&self) -> usize {
        at_least_zero(&self.total_vm)
    }

    /// Locked areas (`VmLck`).
    pub fn locked_vm(&self) -> usize {
        at_least_zero(&self.locked_vm)
    }

    /// Private writable areas (`VmData` counts these).
    pub fn data_vm(&self) -> usize {
        at_least_zero(&self.data_vm)
    }

    /// Executable areas (`VmExe` and `VmLib`).
    pub fn exec_vm(&self) -> usize {
        at_least_zero(&self.exec_vm)
    }

    /// Stacks (`VmStk`).
    pub fn stack_vm(&self) -> usize {
        at_least_zero(&self.stack_vm)
    }
}
