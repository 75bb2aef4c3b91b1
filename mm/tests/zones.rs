//! Zones and nodes: who is asked first, what is kept back.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use arch::addr::PhysAddr;
use boot::{Numa, NumaRange, PhysRange};
use mm::gfp::ZoneKind;
use mm::node::{node, nodes};
use mm::{Frame, Gfp, Order, alloc_page, testing};

const MIB: u64 = 1 << 20;

fn kind_of(frame: &Frame) -> (usize, ZoneKind) {
    let zone = mm::vmemmap::zone_of(frame.pfn()).unwrap();
    (zone.node(), zone.kind())
}

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::new(start, len)
}

#[test]
fn order_of_zones() {
    // Node 0: 1..512 MiB with a hole; node 1: 4 GiB..4.25 GiB, its last 64 MiB movable (as the last of node 0).
    let ram = [range(MIB, 99 * MIB), range(128 * MIB, 384 * MIB), range(4096 * MIB, 256 * MIB)];
    let node_ranges = Box::leak(Box::new([
        NumaRange {
            range: PhysRange { start: PhysAddr(0), end: PhysAddr(512 * MIB) },
            node: 0,
            hotpluggable: false,
        },
        NumaRange { range: range(4096 * MIB, 256 * MIB), node: 1, hotpluggable: false },
    ]));
    let numa = Numa { nodes: 2, ranges: node_ranges, ..Numa::single() };
    testing::init_with(&ram, &numa, 16 * MIB, 64 * MIB);

    let names = |id: usize, kind| {
        let zones = node(id).unwrap().zonelist(kind).iter();
        zones.map(|z| (z.node(), z.kind())).collect::<Vec<_>>()
    };
    use ZoneKind::*;
    assert_eq!(names(0, Normal), [(0, Dma32), (0, Dma), (1, Normal)]);
    assert_eq!(names(0, Movable), [(0, Movable), (0, Dma32), (0, Dma), (1, Movable), (1, Normal)]);
    assert_eq!(names(1, Normal), [(1, Normal), (0, Dma32), (0, Dma)]);
    assert_eq!(names(1, Dma32), [(0, Dma32), (0, Dma)]);

    // Spans and holes.
    let dma = node(0).unwrap().zone(Dma).unwrap();
    assert_eq!((dma.start_pfn(), dma.spanned_pages(), dma.present_pages()), (256, 3840, 3840));
    let dma32 = node(0).unwrap().zone(Dma32).unwrap();
    assert_eq!(dma32.spanned_pages() - dma32.present_pages(), ((28 * MIB) >> 12) as usize);
    assert_eq!(node(0).unwrap().zone(Movable).unwrap().present_pages(), ((64 * MIB) >> 12) as usize);

    // Place.
    assert_eq!(kind_of(&alloc_page(Gfp::KERNEL).unwrap()), (0, Dma32));
    assert_eq!(kind_of(&alloc_page(Gfp::HIGHUSER_MOVABLE).unwrap()), (0, Movable));
    let low = alloc_page(Gfp::KERNEL | Gfp::DMA).unwrap();
    assert_eq!(kind_of(&low), (0, Dma));
    assert!(low.phys().0 < 16 * MIB);
    let far = |gfp| mm::page_alloc::alloc_pages_node(gfp, Order::ZERO, 1);
    assert_eq!(kind_of(&far(Gfp::KERNEL).unwrap()), (1, Normal));
    assert_eq!(kind_of(&far(Gfp::KERNEL | Gfp::DMA32).unwrap()), (0, Dma32));
    assert!(far(Gfp::KERNEL | Gfp::DMA32 | Gfp::THISNODE | Gfp::NOWARN).is_err());

    // Kernel memory up to the end: own node, then the other; the MOVABLE zones stay, and the DMA zone keeps its reserve.
    let mut all = Vec::new();
    while let Ok(frame) = alloc_page(Gfp::KERNEL | Gfp::NOWARN) {
        all.push(frame);
    }
    let kinds: Vec<_> = all.iter().map(kind_of).collect();
    assert!(kinds.iter().all(|k| k.1 != Movable));
    assert!(kinds.contains(&(1, Normal)));
    let first_far = kinds.iter().position(|k| k.0 == 1).unwrap();
    assert!(kinds[..first_far].iter().filter(|k| **k == (0, Dma32)).count() > 70_000);
    assert!(dma.free_pages() >= dma.lowmem_reserve(Normal));
    // User pages still find room in the MOVABLE zones, on both nodes.
    let mut movable = Vec::new();
    while let Ok(frame) = alloc_page(Gfp::HIGHUSER_MOVABLE | Gfp::NOWARN) {
        movable.push(frame);
    }
    assert!(movable.iter().map(kind_of).any(|k| k == (1, Movable)));
    drop((all, movable));
    mm::page_alloc::drain_local();
    nodes().flat_map(|n| ZoneKind::ALL.map(|k| n.zone(k))).flatten().for_each(|z| z.verify());
}
