//! The buddy allocator over an array, against a model that knows which frames are in use.

use super::*;
use crate::gfp::ZoneKind;
use crate::pageblock::ZoneId;
use proptest::prelude::*;
use std::vec::Vec;

struct Array {
    pages: Vec<Page>,
    blocks: Vec<PageBlock>,
}

impl Frames for Array {
    fn page(&self, pfn: u32) -> &Page {
        &self.pages[pfn as usize]
    }
    fn block(&self, pfn: u32) -> &PageBlock {
        &self.blocks[(pfn / PAGEBLOCK_PAGES) as usize]
    }
}

/// Frames of the larger tests.
const FRAMES: u32 = if cfg!(miri) { 1024 } else { 4096 };
const ZONE: ZoneId = ZoneId::new(0, ZoneKind::Normal);

fn array(frames: u32) -> Array {
    Array {
        pages: (0..frames).map(|_| Page::new()).collect(),
        blocks: (0..frames.div_ceil(PAGEBLOCK_PAGES))
            .map(|_| PageBlock::new(ZONE, MigrateType::Movable))
            .collect(),
    }
}

fn with_range(frames: u32, start: u32, end: u32) -> (Array, Buddy) {
    let array = array(frames);
    let mut buddy = Buddy::new();
    buddy.set_span(0, frames);
    buddy.free_range(&array, start, end);
    (array, buddy)
}

#[test]
fn odd_range_is_cut_into_the_largest_blocks() {
    let (array, buddy) = with_range(4096, 3, 2051);
    assert_eq!(buddy.verify(&array), 2048);
    assert_eq!(buddy.free_blocks(10), 1);
    assert_eq!(buddy.free_blocks(0), 2); // 3 and 2050
}

#[test]
fn everything_merges_again() {
    let (array, mut buddy) = with_range(FRAMES, 0, FRAMES);
    let all: Vec<_> = core::iter::from_fn(|| buddy.alloc(&array, 0, MigrateType::Unmovable)).collect();
    assert_eq!(all.len(), FRAMES as usize);
    for pfn in all {
        buddy.free(&array, pfn, 0);
    }
    buddy.verify(&array);
    assert_eq!(buddy.free_blocks(10), FRAMES as usize / 1024);
}

#[test]
fn zones_do_not_merge() {
    let array = array(2048);
    array.blocks[1].assign(ZoneId::new(1, ZoneKind::Normal), MigrateType::Movable);
    let mut buddy = Buddy::new();
    buddy.set_span(0, 2048);
    buddy.free(&array, 0, 9);
    buddy.free(&array, 512, 9);
    assert_eq!(buddy.free_blocks(9), 2);
}

#[test]
fn isolated_blocks_are_not_handed_out() {
    let (array, mut buddy) = with_range(1024, 0, 512);
    buddy.move_block(&array, 0, MigrateType::Movable, MigrateType::Isolate);
    for ty in [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Reclaimable] {
        assert_eq!(buddy.alloc(&array, 0, ty), None);
    }
    buddy.move_block(&array, 0, MigrateType::Isolate, MigrateType::Movable);
    assert!(buddy.alloc(&array, 0, MigrateType::Movable).is_some());
}

#[test]
#[cfg_attr(miri, ignore)] // a statistic; too slow there
fn unmovable_pages_stay_in_few_blocks() {
    let frames = 65536;
    let (array, mut buddy) = with_range(frames, 0, frames);
    // A mixed load: one unmovable page for fifteen movable ones, until memory is three quarters full.
    for i in 0..frames * 3 / 4 {
        let ty = if i % 16 == 0 { MigrateType::Unmovable } else { MigrateType::Movable };
        buddy.alloc(&array, 0, ty).unwrap();
    }
    let tainted = array.blocks.iter().filter(|b| b.migrate_type() == MigrateType::Unmovable).count();
    assert!(tainted * 5 <= array.blocks.len() + 4, "{tainted} of {} blocks", array.blocks.len());
}

#[derive(Debug, Clone)]
enum Op {
    Alloc(u8, u8),
    Free(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0u8..4, 0u8..3).prop_map(|(o, t)| Op::Alloc(o, t)),
        1 => (4u8..=10, 0u8..3).prop_map(|(o, t)| Op::Alloc(o, t)),
        4 => any::<usize>().prop_map(Op::Free),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

    #[test]
    fn against_model(
        start in 0u32..700,
        ops in prop::collection::vec(op(), 0..if cfg!(miri) { 30 } else { 1500 }),
    ) {
        let frames = if cfg!(miri) { 1024 } else { 6 * 1024 };
        let (array, mut buddy) = with_range(frames, start, frames);
        let total = (frames - start) as usize;
        let mut used = vec![false; frames as usize];
        let mut held: Vec<(u32, u8)> = Vec::new();
        let mut in_use = 0;
        for op in ops {
            match op {
                Op::Alloc(order, ty) => {
                    match buddy.alloc(&array, order, MigrateType::ALL[ty as usize]) {
                        Some(pfn) => {
                            prop_assert!(pfn % (1 << order) == 0 && pfn >= start);
                            for f in pfn..pfn + (1 << order) {
                                prop_assert!(!used[f as usize], "frame {} handed out twice", f);
                                prop_assert!(!array.page(f).is_typed());
                                used[f as usize] = true;
                            }
                            held.push((pfn, order));
                            in_use += 1usize << order;
                        }
                        // Refusal is only right if no aligned run of that size is free.
                        None => prop_assert!(!(start.next_multiple_of(1 << order)..=frames - (1 << order))
                            .step_by(1 << order)
                            .any(|f| used[f as usize..(f + (1 << order)) as usize].iter().all(|u| !u))),
                    }
                }
                Op::Free(n) if !held.is_empty() => {
                    let (pfn, order) = held.swap_remove(n % held.len());
                    used[pfn as usize..(pfn + (1 << order)) as usize].fill(false);
                    in_use -= 1usize << order;
                    buddy.free(&array, pfn, order);
                }
                Op::Free(_) => {}
            }
            prop_assert_eq!(buddy.free_pages(), total - in_use);
        }
        buddy.verify(&array);
        for (pfn, order) in held {
            buddy.free(&array, pfn, order);
        }
        prop_assert_eq!(buddy.verify(&array), total);
    }
}
