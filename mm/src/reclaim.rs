//! Reclaim: getting memory back from the page cache.
//!
//! The page allocator calls [`VmReclaimer`] when a node runs low: its background thread (`kswapd`) works until the node is
//! balanced, and an allocation that cannot wait for it reclaims itself. Both take pages from the tail of the inactive list of
//! the node's lruvec and give each a second chance if it was used since. What is dirty is left to the flushers, which are woken; a caller that may
//! wait for I/O gives them a moment.
//!
//! Locks: folio locks by `try_lock` only, because an allocation may hold any of them.

use crate::filemap::Mapping;
use crate::folio_lock::{self, FolioGuard};
use crate::frames;
use crate::gfp::Gfp;
use crate::lru::{self, ListKind, Lruvec};
use crate::node;
use crate::oom;
use crate::page::{Page, PageFlags, tag};
use crate::pressure::{ReclaimRequest, Reclaimer};
use crate::rmap;
use crate::shrinker;
use crate::stats::{self, Event};
use crate::writeback::{self, Reason};
use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use sched::wait::WaitQueue;

/// Pages per turn (Linux's `SWAP_CLUSTER_MAX`).
const CLUSTER: usize = 32;

/// The reclaimer of address spaces and page caches.
pub struct VmReclaimer;

/// The one there is.
pub static RECLAIMER: VmReclaimer = VmReclaimer;

struct Kswapd {
    wait: WaitQueue,
    wanted: AtomicBool,
}

static KSWAPD: [Kswapd; node::MAX_NODES] =
    [const { Kswapd { wait: WaitQueue::new(), wanted: AtomicBool::new(false) } }; node::MAX_NODES];

impl Reclaimer for VmReclaimer {
    fn shrink(&self, request: &ReclaimRequest) -> usize {
        let done = shrink_node(request.node, request.pages, request.gfp, Who::Direct)
            + shrinker::shrink(request.pages, request.gfp);
        if done >= request.pages {
            return done;
        }
        // The zone list goes on to other nodes.
        done + node::nodes()
            .filter(|n| n.id() != request.node)
            .map(|n| shrink_node(n.id(), request.pages, request.gfp, Who::Direct))
            .sum::<usize>()
    }

    fn out_of_memory(&self, gfp: Gfp, order: u8) -> bool {
        oom::out_of_memory(gfp, order)
    }

    fn wake_kswapd(&self, node: usize, _order: u8) {
        let kswapd = &KSWAPD[node & (node::MAX_NODES - 1)];
        if !kswapd.wanted.swap(true, Ordering::AcqRel) {
            kswapd.wait.wake_all();
        }
    }
}

/// Starts the background thread of each node. Once, when kernel threads can run.
#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "only while the system comes up")]
pub fn start_kswapd() -> abi::Result<()> {
    for node in node::nodes() {
        let id = node.id();
        sched::spawn_kthread(&alloc::format!("kswapd{id}"), Box::new(move || kswapd(id)))?;
    }
    Ok(())
}

fn kswapd(id: usize) {
    let me = &KSWAPD[id & (node::MAX_NODES - 1)];
    loop {
        // Signals do not reach it; it neither counts as load nor hangs while it has nothing to do.
        let _ = me.wait.wait_event_interruptible(|| me.wanted.load(Ordering::Acquire));
        me.wanted.store(false, Ordering::Release);
        let mut fruitless = 0;
        while !is_balanced(id) && fruitless < 12 {
            let freed =
                shrink_node(id, CLUSTER, Gfp::KERNEL, Who::Kswapd) + shrinker::shrink(CLUSTER, Gfp::KERNEL);
            if freed == 0 {
                fruitless += 1;
            } else {
                fruitless = 0;
            }
            sched::yield_now();
        }
    }
}

fn is_balanced(id: usize) -> bool {
    node::zones().filter(|z| z.node() == id && z.managed_pages() > 0).all(|z| z.is_balanced())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Direct,
    Kswapd,
}

/// Frees about `want` pages of a node's page cache; returns how many.
fn shrink_node(id: usize, want: usize, gfp: Gfp, who: Who) -> usize {
    let lruvec = lru::of_node(id);
    let mut freed = 0;
    let mut seen = Seen::default();
    let mut budget = lruvec.len(ListKind::InactiveFile) + lruvec.len(ListKind::ActiveFile);
    while freed < want && budget > 0 {
        age_active(lruvec);
        let mut batch = [None; CLUSTER];
        let (taken, scanned) = lruvec.isolate(ListKind::InactiveFile, &mut batch);
        stats::count(if who == Who::Kswapd { Event::ScanKswapd } else { Event::ScanDirect }, scanned as u64);
        if taken == 0 {
            break;
        }
        budget = budget.saturating_sub(scanned);
        let mut now = 0;
        for page in batch.into_iter().flatten() {
            now += usize::from(reclaim_page(lruvec, page, &mut seen));
        }
        stats::count(if who == Who::Kswapd { Event::StealKswapd } else { Event::StealDirect }, now as u64);
        freed += now;
    }
    if seen.unwritten > 0 && freed < want {
        writeback::wake_all(Reason::All);
        // A little patience, if what is written does not need what the caller holds.
        if who == Who::Kswapd || gfp.contains(Gfp::IO | Gfp::FS) {
            writeback::wait_for_progress();
        }
    }
    freed
}

/// Moves pages from the active to the inactive list until that is large enough to tell used from unused.
fn age_active(lruvec: &Lruvec) {
    let active = lruvec.len(ListKind::ActiveFile);
    if active <= lruvec.len(ListKind::InactiveFile) {
        return;
    }
    let mut batch = [None; CLUSTER];
    let (taken, scanned) = lruvec.isolate(ListKind::ActiveFile, &mut batch);
    stats::count(Event::Refill, scanned as u64);
    stats::count(Event::Deactivate, taken as u64);
    for page in batch.into_iter().flatten() {
        // Code that runs stays: mapped executable pages that were used go round again.
        let keep = match lock_for_reclaim(page) {
            Some(guard) if page.mapcount() > 0 => {
                let used = rmap::referenced(guard.page());
                used.hits > 0 && used.exec
            }
            _ => false,
        };
        if !keep {
            page.clear(PageFlags::ACTIVE);
        }
        put_back(page);
    }
}

/// Puts an isolated page on its list again and gives up the isolation's reference.
fn put_back(page: &'static Page) {
    lru::add_new(page);
    frames::put(page);
}

/// The folio lock of an isolated page, if it is free and the page still in a cache.
fn lock_for_reclaim(page: &'static Page) -> Option<FolioGuard> {
    let guard = folio_lock::try_lock(frames::folio_of(page))?;
    (page.mapping() != 0 && page.mapping() & tag::MASK == tag::FILE).then_some(guard)
}

/// What was in the way.
#[derive(Default)]
struct Seen {
    /// Pages that are dirty or being written.
    unwritten: usize,
}

/// Evicts an isolated page, or puts it back. Whether it went.
fn reclaim_page(lruvec: &Lruvec, page: &'static Page, seen: &mut Seen) -> bool {
    let Some(guard) = lock_for_reclaim(page) else {
        put_back(page);
        return false;
    };
    // SAFETY: the page is locked and in the cache.
    let mapping = unsafe { Mapping::of_locked_page(page.mapping()) };
    let used = rmap::referenced(page);
    let twice = !page.test_and_clear(PageFlags::REFERENCED).is_empty();
    if used.locked || used.hits > 1 || used.exec && used.hits > 0 || used.hits > 0 && twice {
        page.set(PageFlags::ACTIVE);
        drop(guard);
        put_back(page);
        return false;
    }
    if used.hits > 0 {
        page.set(PageFlags::REFERENCED);
        drop(guard);
        put_back(page);
        return false;
    }
    let mut gone = page.mapcount() == 0 || rmap::unmap_file_page(page);
    if gone && page.flags().intersects(PageFlags::DIRTY | PageFlags::WRITEBACK) {
        // Its device's flusher writes it, in better order than this would; it is looked at again when the list comes round.
        seen.unwritten += 1;
        gone = false;
    }
    // Ours: the isolation's reference and the guard's.
    gone = gone && mapping.evict(&guard, 2, lruvec.eviction_age());
    drop(guard);
    if gone {
        frames::put(page);
    } else {
        put_back(page);
    }
    gone
}

/// `MADV_COLD` and `MADV_PAGEOUT` for a range of a file's pages.
pub(crate) fn cool(mapping: &Mapping, pages: Range<u64>, page_out: bool) {
    if mapping.is_memory() {
        return;
    }
    if page_out {
        let bytes = |index: u64| index.saturating_mul(arch::addr::PAGE_SIZE as u64);
        let _ = mapping.write_back(bytes(pages.start)..bytes(pages.end));
        mapping.invalidate(pages);
        return;
    }
    mapping.for_each_cached(pages, &mut |_, folio| folio.clear(PageFlags::REFERENCED));
}

/// `vm.drop_caches` 1: gives up all clean page-cache pages that nobody maps. Returns how many.
pub fn drop_pagecache() -> usize {
    let mut dropped = 0;
    for node in node::nodes() {
        let lruvec = lru::of_node(node.id());
        for kind in [ListKind::InactiveFile, ListKind::ActiveFile] {
            let mut budget = lruvec.len(kind);
            while budget > 0 {
                let mut batch = [None; CLUSTER];
                let (taken, scanned) = lruvec.isolate(kind, &mut batch);
                if taken == 0 {
                    break;
                }
                budget = budget.saturating_sub(scanned);
                for page in batch.into_iter().flatten() {
                    let gone = lock_for_reclaim(page).is_some_and(|guard| {
                        // SAFETY: the page is locked and in the cache.
                        let mapping = unsafe { Mapping::of_locked_page(page.mapping()) };
                        page.mapcount() == 0 && mapping.evict(&guard, 2, 0)
                    });
                    if gone {
                        frames::put(page);
                        dropped += 1;
                    } else {
                        put_back(page);
                    }
                }
            }
        }
    }
    stats::count(Event::DropPagecache, 1);
    dropped
}
