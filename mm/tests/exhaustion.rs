//! Memory used up to the end, in a process of its own: everything shares one arena.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use mm::pressure::{ReclaimRequest, Reclaimer, set_reclaimer};
use mm::{Frame, Gfp, Order, alloc_page, alloc_pages, testing};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Frames that reclaim can free.
static CACHE: Mutex<Vec<Frame>> = Mutex::new(Vec::new());
static WOKEN: AtomicUsize = AtomicUsize::new(0);
static KILLS: AtomicUsize = AtomicUsize::new(0);

struct Cache;

impl Reclaimer for Cache {
    fn shrink(&self, request: &ReclaimRequest) -> usize {
        let mut cache = CACHE.lock().unwrap();
        let keep = cache.len().saturating_sub(request.pages);
        let freed = cache.len() - keep;
        cache.truncate(keep);
        freed
    }

    fn out_of_memory(&self, _: Gfp, _: u8) -> bool {
        KILLS.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn wake_kswapd(&self, _: usize, _: u8) {
        WOKEN.fetch_add(1, Ordering::Relaxed);
    }
}

fn free() -> usize {
    mm::node::zones().map(|z| z.free_pages()).sum()
}

#[test]
fn marks_reclaim_and_failure() {
    testing::init();
    let min: usize = mm::node::zones().map(|z| z.mark(mm::zone::Mark::Min)).sum();
    let before = free();

    // Without a reclaimer a request stops at the mark (give or take a batch); an urgent one goes below it, but not to the end.
    let mut all = Vec::new();
    while let Ok(frame) = alloc_page(Gfp::KERNEL | Gfp::NOWARN) {
        all.push(frame);
    }
    assert!(all.len() > before / 2);
    assert!(free() + 64 >= min && free() < min + 256, "{} of {min}", free());
    let usual = free();
    while let Ok(frame) = alloc_page(Gfp::ATOMIC | Gfp::NOWARN) {
        all.push(frame);
    }
    assert!(free() < usual && free() > min / 4);
    // What is being freed may use the rest.
    assert!(alloc_page(Gfp::KERNEL | Gfp::MEMALLOC).is_ok());
    all.truncate(all.len() - 2000);

    // With one, the caller's own request reclaims; one that may not sleep fails.
    CACHE.lock().unwrap().extend(all.drain(1000..2000));
    set_reclaimer(&Cache);
    let mut more = Vec::new();
    while KILLS.load(Ordering::Relaxed) == 0 {
        match alloc_page(Gfp::KERNEL | Gfp::NOWARN) {
            Ok(frame) => more.push(frame),
            Err(_) => break,
        }
    }
    assert!(CACHE.lock().unwrap().is_empty(), "all of the cache was used before the end");
    assert!(KILLS.load(Ordering::Relaxed) > 0 && WOKEN.load(Ordering::Relaxed) > 0);
    assert!(alloc_page(Gfp::NOWAIT).is_err());

    drop((all, more));
    mm::page_alloc::drain_local();
    assert!(alloc_pages(Gfp::KERNEL, Order::MAX).is_ok());
    mm::page_alloc::drain_local();
    mm::node::zones().for_each(|z| z.verify());
    assert!(before - free() < 64, "{before} {}", free());
}
