//! The allocator as a whole, over the arena.

use super::*;
use crate::testing;

#[test]
fn frames_are_distinct_zeroed_and_returned() {
    testing::init();
    let frames: Vec<_> = (0..300).map(|_| alloc_page(Gfp::KERNEL | Gfp::ZERO).unwrap()).collect();
    let mut pfns: Vec<_> = frames.iter().map(|f| f.pfn()).collect();
    pfns.sort();
    pfns.dedup();
    assert_eq!(pfns.len(), 300);
    for mut frame in frames {
        assert!(frame.bytes().iter().all(|b| *b == 0));
        frame.bytes_mut().fill(0xff);
    }
    node::zones().for_each(|z| z.verify());
}

#[test]
fn every_order_is_aligned() {
    testing::init();
    for order in 0..=crate::gfp::MAX_PAGE_ORDER {
        let order = Order::new(order).unwrap();
        let frame = alloc_pages(Gfp::KERNEL, order).unwrap();
        assert_eq!(frame.pfn().0 % order.pages() as u64, 0);
        assert_eq!(frame.bytes().len(), order.bytes());
    }
}

#[test]
fn folios_count_references() {
    testing::init();
    let folio = Folio::alloc(Gfp::HIGHUSER_MOVABLE | Gfp::ZERO, Order::new(2).unwrap()).unwrap();
    assert_eq!((folio.order(), folio.nr_pages(), folio.refcount()), (2, 4, 1));
    let other = folio.clone();
    assert_eq!(folio.refcount(), 2);
    let by_tail = Folio::from_pfn(folio.pfn() + 3).unwrap();
    assert!(by_tail == other);
    drop((other, by_tail));
    assert_eq!(folio.refcount(), 1);

    folio.copy_in(4090, b"over the page border").unwrap();
    let mut back = [0; 20];
    folio.copy_out(4090, &mut back).unwrap();
    assert_eq!(&back, b"over the page border");
    assert!(folio.copy_in(4 * 4096 - 1, b"xx").is_err());
    assert!(folio.fill(usize::MAX, 2, 0).is_err());

    let raw = folio.into_raw();
    // SAFETY: from `into_raw`, just now.
    let folio = unsafe { Folio::from_raw(raw) };
    assert_eq!(folio.refcount(), 1);
}

#[test]
fn freed_folios_give_their_pages_back() {
    testing::init();
    drain_local();
    let order = Order::new(4).unwrap();
    let folio = Folio::alloc(Gfp::KERNEL, order).unwrap();
    let pfn = folio.pfn().0 as u32;
    drop(folio);
    assert_eq!(vmemmap::page(pfn).refcount(), 0);
    assert!((1..16).all(|i| vmemmap::page(pfn + i).mapping() == 0));
}

#[test]
fn bulk_and_trim() {
    testing::init();
    let mut frames = Vec::new();
    assert_eq!(alloc_bulk(Gfp::KERNEL, 70, &mut |f| frames.push(f)), 70);
    drop(frames);
    let pfn = alloc_block(Gfp::KERNEL, 3).unwrap();
    split_and_trim(pfn, 3, 5);
    for at in 0..5 {
        assert_eq!(vmemmap::page(pfn + at).refcount(), 1);
        free_block(pfn + at, 0);
    }
}

#[test]
fn statistics_add_up() {
    testing::init();
    let info = crate::stats::meminfo();
    assert!(info.free <= info.total && info.total * 4096 <= testing::ARENA_SIZE);
    assert!(info.available <= info.total);
}
