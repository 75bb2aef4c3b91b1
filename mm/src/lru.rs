//! LRU lists: which page-cache pages to give up first.
//!
//! A [`Lruvec`] holds the active and inactive lists of one memory node (of one control group, once there are several: then the page's
//! group selects the lruvec). Pages are linked through their descriptors by frame number.
//!
//! * A new page goes to the head of the inactive list. A second access moves it to the active list
//!   ([`mark_accessed`]); pages at the tail of the active list go back to the inactive one.
//! * When a page is evicted, its slot in the cache keeps the lruvec's *age*. If it comes back within a distance that
//!   the active list could have covered, it belongs to the working set and starts active ([`refault`]).
//!
//! Anonymous pages and those of memory objects are not listed while there is no swap: nothing could be done with them.
//!
//! # Isolation protocol
//!
//! Whoever clears the `LRU` flag owns the page's membership and unlinks it under the lruvec's lock. A scanner first takes a reference,
//! so that a page on its way to the allocator (count 0) is left to [`release`].
//!
//! The lists' lock is safe in interrupts: a transfer that ends there may drop the last reference to a page that a scanner put back after
//! it had left its cache.

use crate::page::{NIL, Page, PageFlags};
use crate::stats::{self, Event, Item};
use crate::vmemmap;
use arch::sync::SpinLockIrq;
use core::sync::atomic::{AtomicU64, Ordering};

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// Candidates for eviction.
    InactiveFile,
    /// Used at least twice.
    ActiveFile,
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };

    fn push_front(&mut self, page: &Page, pfn: u32) {
        page.set_prev(NIL);
        page.set_next(self.head);
        match self.head {
            NIL => self.tail = pfn,
            head => vmemmap::page(head).set_prev(pfn),
        }
        self.head = pfn;
        self.len += 1;
    }

    fn unlink(&mut self, page: &Page) {
        let (prev, next) = (page.prev(), page.next());
        match prev {
            NIL => self.head = next,
            prev => vmemmap::page(prev).set_next(next),
        }
        match next {
            NIL => self.tail = prev,
            next => vmemmap::page(next).set_prev(prev),
        }
        self.len -= 1;
    }
}

struct Lists {
    inactive: List,
    active: List,
}

impl Lists {
    fn list(&mut self, kind: ListKind) -> &mut List {
        match kind {
            ListKind::InactiveFile => &mut self.inactive,
            ListKind::ActiveFile => &mut self.active,
        }
    }
}

/// The lists of one node. See the module documentation.
pub(crate) struct Lruvec {
    lists: SpinLockIrq<Lists>,
    /// Advances with every eviction and activation.
    age: AtomicU64,
}

static NODES: [Lruvec; crate::node::MAX_NODES] = [const {
    Lruvec {
        lists: SpinLockIrq::new(Lists { inactive: List::EMPTY, active: List::EMPTY }),
        age: AtomicU64::new(1),
    }
}; crate::node::MAX_NODES];

fn kind_of(page: &Page) -> ListKind {
    if page.test(PageFlags::ACTIVE) { ListKind::ActiveFile } else { ListKind::InactiveFile }
}

fn item_of(kind: ListKind) -> Item {
    match kind {
        ListKind::InactiveFile => Item::InactiveFile,
        ListKind::ActiveFile => Item::ActiveFile,
    }
}

/// The lists of a node.
pub(crate) fn of_node(node: usize) -> &'static Lruvec {
    &NODES[node & (crate::node::MAX_NODES - 1)]
}

fn of_page(page: &Page) -> &'static Lruvec {
    of_node(vmemmap::block(vmemmap::pfn_of(page)).zone().node())
}

impl Lruvec {
    /// Pages on a list.
    pub(crate) fn len(&self, kind: ListKind) -> usize {
        self.lists.lock().list(kind).len
    }

    /// The age to leave behind for a page that is evicted now.
    pub(crate) fn eviction_age(&self) -> u64 {
        self.age.fetch_add(1, Ordering::Relaxed) & collections::xarray::MAX_SHADOW
    }

    /// Takes up to `into.len()` pages from the tail of a list; each comes with a reference and without `LRU`. Returns how many, and how
    /// many were looked at.
    pub(crate) fn isolate(&self, kind: ListKind, into: &mut [Option<&'static Page>]) -> (usize, usize) {
        let mut lists = self.lists.lock();
        let list = lists.list(kind);
        let mut taken = 0;
        let mut scanned = 0;
        let mut at = list.tail;
        let limit = into.len() * 2;
        while taken < into.len() && at != NIL && scanned < limit {
            let page = vmemmap::page(at);
            at = page.prev();
            scanned += 1;
            if !page.try_get() {
                continue;
            }
            if page.test_and_clear(PageFlags::LRU).is_empty() {
                // Somebody else is taking it off. The list keeps it for them; our reference must not be the last to
                // go under the lock, and is not: they hold one.
                crate::frames::put(page);
                continue;
            }
            list.unlink(page);
            if let Some(slot) = into.get_mut(taken) {
                *slot = Some(page);
                taken += 1;
            }
        }
        drop(lists);
        stats::add(item_of(kind), -(taken as isize));
        (taken, scanned)
    }
}

/// Puts a page on the list that its `ACTIVE` flag names. The caller holds a reference and the page is on no list.
pub(crate) fn add_new(page: &'static Page) {
    let kind = kind_of(page);
    {
        let mut lists = of_page(page).lists.lock();
        lists.list(kind).push_front(page, vmemmap::pfn_of(page));
        page.set(PageFlags::LRU);
    }
    stats::add(item_of(kind), 1);
}

/// Takes a page off its list, if it is on one.
pub(crate) fn remove(page: &Page) {
    if page.test_and_clear(PageFlags::LRU).is_empty() {
        return;
    }
    let kind = kind_of(page);
    of_page(page).lists.lock().list(kind).unlink(page);
    stats::add(item_of(kind), -1);
}

/// The allocator's hook: the last reference to a listed page is gone.
pub(crate) fn release(page: &'static Page) {
    remove(page);
}

/// A page was used through a system call: the first time it is marked, the second time it becomes active.
#[inline]
pub(crate) fn mark_accessed(page: &Page) {
    let flags = page.flags();
    if !flags.contains(PageFlags::REFERENCED) {
        page.set(PageFlags::REFERENCED);
    } else if !flags.contains(PageFlags::ACTIVE) {
        activate(page);
    }
}

fn activate(page: &Page) {
    if page.test_and_clear(PageFlags::LRU).is_empty() {
        return;
    }
    let lruvec = of_page(page);
    {
        let mut lists = lruvec.lists.lock();
        lists.list(kind_of(page)).unlink(page);
        page.replace_flags(PageFlags::REFERENCED, PageFlags::ACTIVE);
        lists.active.push_front(page, vmemmap::pfn_of(page));
        page.set(PageFlags::LRU);
    }
    lruvec.age.fetch_add(1, Ordering::Relaxed);
    stats::add(Item::InactiveFile, -1);
    stats::add(Item::ActiveFile, 1);
    stats::count(Event::Activate, 1);
}

/// A page comes back whose slot held `shadow`. Whether it was evicted so lately that a larger inactive list would have kept it.
pub(crate) fn refault(page: &Page, shadow: u64) -> bool {
    let lruvec = of_page(page);
    let age = lruvec.age.load(Ordering::Relaxed) & collections::xarray::MAX_SHADOW;
    let distance = age.wrapping_sub(shadow) & collections::xarray::MAX_SHADOW;
    shadow != 0 && distance <= lruvec.len(ListKind::ActiveFile) as u64
}
