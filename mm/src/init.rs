//! Taking memory over from the early allocator.
//!
//! [`init`] lays out nodes and zones over what memblock knows to be RAM, makes their tables from early memory, and leaves
//! every free range with its zone as *deferred*: the first allocations pull in the first sections. Nothing is proportional
//! to the size of memory except two bytes per 2 MiB.

use crate::gfp::{Gfp, MigrateType, NR_ZONES, Order, OutOfMemory, ZoneKind};
use crate::kmap;
use crate::node::{self, MAX_NODES, Node, fallback_order};
use crate::page::Page;
use crate::pageblock::{PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, PageBlock, ZoneId};
use crate::pcp::{self, ZonePcp};
use crate::stats::{self, Item};
use crate::vmemmap;
use crate::vmemmap_grow;
use crate::zone::Zone;
use arch::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, phys_to_virt};
use boot::memblock::Memblock;
use boot::{Numa, PhysRange};
use core::cell::RefCell;

/// Memory below this is never in a MOVABLE zone: 16 MiB.
const LOW_END: u64 = 16 << 20;
/// End of the DMA32 zone, in frames: 4 GiB.
const DMA32_END: u32 = 1 << (32 - PAGE_SHIFT);

/// What the command line and firmware say about the layout.
pub struct Config<'a> {
    /// Nodes, their ranges and distances.
    pub numa: &'a Numa,
    /// End of the DMA zone, in bytes: what the most limited devices reach. PCs: 16 MiB (ISA); arm64: 4 GiB (and the DMA32 zone is
    /// empty), as in Linux. 0: no such zone.
    pub dma_end: u64,
    /// Bytes at the end of each node that only movable pages may use (`movablecore=`, divided by the nodes).
    pub movable_per_node: u64,
    /// Number of possible CPUs.
    pub cpus: usize,
}

/// Memory from memblock that is never freed.
struct Early<'a>(&'a mut Memblock);

impl Early<'_> {
    fn bytes(&mut self, size: usize, align: usize) -> Result<*mut u8, OutOfMemory> {
        let pa = self.0.alloc(size as u64, align as u64).ok_or(OutOfMemory)?;
        Ok(phys_to_virt(pa))
    }

    /// A slice of `len` values.
    fn slice<T>(
        &mut self,
        len: usize,
        mut make: impl FnMut(usize) -> T,
    ) -> Result<&'static mut [T], OutOfMemory> {
        let at = self.bytes((size_of::<T>() * len).max(1), align_of::<T>())?.cast::<T>();
        for i in 0..len {
            // SAFETY: room for `len` values was just allocated, aligned for them.
            unsafe { at.add(i).write(make(i)) };
        }
        // SAFETY: all of them were initialised; the memory is never freed and has no other user.
        Ok(unsafe { core::slice::from_raw_parts_mut(at, len) })
    }

    fn value<T>(&mut self, value: T) -> Result<&'static mut T, OutOfMemory> {
        let at = self.bytes(size_of::<T>(), align_of::<T>())?.cast::<T>();
        // SAFETY: room for one value, aligned for it.
        unsafe { at.write(value) };
        // SAFETY: initialised above; never freed, no other user.
        Ok(unsafe { &mut *at })
    }
}

/// Frames wholly inside a physical range.
fn frames(range: PhysRange) -> (u32, u32) {
    let start = range.start.0.div_ceil(PAGE_SIZE as u64).min(u64::from(u32::MAX - 1));
    let end = (range.end.0 >> PAGE_SHIFT).min(u64::from(u32::MAX - 1));
    (start as u32, (end as u32).max(start as u32))
}

/// Where the zones lie.
struct Map<'a> {
    config: &'a Config<'a>,
    /// First frame of the MOVABLE zone, per node.
    movable: [u32; MAX_NODES],
}

impl Map<'_> {
    fn node_of(&self, pfn: u32) -> usize {
        let node = self.config.numa.node_of(PhysAddr(u64::from(pfn) << PAGE_SHIFT)) as usize;
        if node < MAX_NODES { node } else { 0 }
    }

    fn zone_of(&self, pfn: u32) -> ZoneId {
        let node = self.node_of(pfn);
        let kind = if pfn >= self.movable[node] {
            ZoneKind::Movable
        } else if u64::from(pfn) < self.config.dma_end >> PAGE_SHIFT {
            ZoneKind::Dma
        } else if pfn < DMA32_END {
            ZoneKind::Dma32
        } else {
            ZoneKind::Normal
        };
        ZoneId::new(node as u8, kind)
    }

    /// Cuts `start..end` where the zone changes (only at page blocks).
    fn split(&self, start: u32, end: u32, f: &mut dyn FnMut(ZoneId, u32, u32)) {
        let block = |pfn: u32| pfn & !(PAGEBLOCK_PAGES - 1);
        let mut at = start;
        while at < end {
            let zone = self.zone_of(block(at));
            let mut stop = at;
            while stop < end && self.zone_of(block(stop)) == zone {
                stop = (block(stop) + PAGEBLOCK_PAGES).min(end);
            }
            f(zone, at, stop);
            at = stop;
        }
    }
}

/// What is counted of a zone before it is made.
#[derive(Clone, Copy)]
struct Extent {
    start: u32,
    end: u32,
    present: usize,
}

const NO_EXTENT: Extent = Extent { start: u32::MAX, end: 0, present: 0 };

/// Takes all memory over. Once, on the boot CPU; the direct map covers all RAM and the per-CPU areas work (those of the boot CPU). What
/// memblock has reserved stays reserved until [`release`].
pub fn init(memblock: &mut Memblock, config: &Config<'_>) -> Result<(), OutOfMemory> {
    let (_, end) = frames(PhysRange { start: PhysAddr(0), end: memblock.end_of_memory() });
    let end = end.next_multiple_of(PAGEBLOCK_PAGES);
    let mut map = Map { config, movable: [u32::MAX; MAX_NODES] };
    place_movable(memblock, &mut map);

    let extents = measure(memblock, &map);
    make_tables(memblock, end)?;
    for range in memblock.memory() {
        let (start, end) = frames(*range);
        map.split(start, end, &mut |zone, from, to| {
            for pfn in ((from & !(PAGEBLOCK_PAGES - 1))..to).step_by(PAGEBLOCK_PAGES as usize) {
                vmemmap::block(pfn).assign(zone, MigrateType::Movable);
            }
        });
    }
    make_nodes(memblock, config, &extents)?;
    hand_over(memblock, &map);
    crate::zone_setup::setup_watermarks();
    arch::paging::set_table_allocator(kernel_table);
    arch::intc::set_table_memory(device_table);
    sched::stack::set_stack_source(&crate::stack::Stacks);
    Ok(())
}

/// A zeroed page for the tables that `arch` makes itself; called with interrupts off.
fn kernel_table() -> Option<PhysAddr> {
    let frame = crate::page_alloc::alloc_page(Gfp::ATOMIC | Gfp::ZERO).ok()?;
    stats::add(Item::KernelTables, 1);
    Some(frame.into_raw().addr())
}

/// Memory for a table of the interrupt controller, for ever; called with interrupts off.
fn device_table(bytes: usize) -> Option<PhysAddr> {
    let order = Order::for_size(bytes)?;
    let frame = crate::page_alloc::alloc_pages(Gfp::ATOMIC | Gfp::ZERO, order).ok()?;
    Some(frame.into_raw().addr())
}

/// Finds where the MOVABLE zones begin.
fn place_movable(memblock: &Memblock, map: &mut Map<'_>) {
    let want = (map.config.movable_per_node >> PAGE_SHIFT) as u32;
    if want == 0 {
        return;
    }
    let mut left = [want; MAX_NODES];
    let mut start = [u32::MAX; MAX_NODES];
    for range in memblock.memory().iter().rev() {
        let (from, to) = frames(*range);
        let node = map.node_of(from);
        let take = left[node].min(to - from);
        if take > 0 && u64::from(to - take) >= map.config.dma_end.min(LOW_END) >> PAGE_SHIFT {
            start[node] = (to - take).next_multiple_of(1 << crate::gfp::MAX_PAGE_ORDER);
            left[node] -= take;
        }
    }
    map.movable = start;
}

fn measure(memblock: &Memblock, map: &Map<'_>) -> [[Extent; NR_ZONES]; MAX_NODES] {
    let mut extents = [[NO_EXTENT; NR_ZONES]; MAX_NODES];
    for range in memblock.memory() {
        let (start, end) = frames(*range);
        map.split(start, end, &mut |zone, from, to| {
            let extent = &mut extents[zone.node()][zone.kind() as usize];
            extent.start = extent.start.min(from);
            extent.end = extent.end.max(to);
            extent.present += (to - from) as usize;
        });
    }
    extents
}

/// The block table and the (mostly unbacked) descriptor array.
fn make_tables(memblock: &mut Memblock, end: u32) -> Result<(), OutOfMemory> {
    let blocks = (end >> PAGEBLOCK_ORDER) as usize;
    let table = Early(memblock).bytes(blocks * size_of::<PageBlock>(), PAGE_SIZE)?;
    // SAFETY: just allocated; zero is a valid `PageBlock` (absent).
    unsafe { table.write_bytes(0, blocks * size_of::<PageBlock>()) };

    let window = arch::layout::vmemmap();
    let base = if window.is_empty() {
        vmemmap_grow::set_flat();
        let first =
            memblock.memory().first().map_or(0, |r| frames(*r).0) & !((1 << crate::gfp::MAX_PAGE_ORDER) - 1);
        let end = end.next_multiple_of(1 << crate::gfp::MAX_PAGE_ORDER);
        let array = Early(memblock).bytes((end - first) as usize * size_of::<Page>(), PAGE_SIZE)?;
        array.cast::<Page>().wrapping_sub(first as usize)
    } else {
        let mut source = |n: u32| {
            let bytes = u64::from(n) << PAGE_SHIFT;
            memblock.alloc(bytes, bytes).map(|pa| (pa.0 >> PAGE_SHIFT) as u32)
        };
        let tables = kmap::EarlyTables(RefCell::new(&mut source));
        let used = window.start..window.start + end as usize * size_of::<Page>();
        kmap::prepare(&tables, used)?;
        kmap::prepare(&tables, crate::vmalloc::window())?;
        core::ptr::with_exposed_provenance_mut(window.start)
    };
    // SAFETY: the block table was zeroed above and covers `end`; the descriptors from `base` are populated before use.
    unsafe { vmemmap::set_tables(base, table.cast(), end) };
    Ok(())
}

fn make_nodes(
    memblock: &mut Memblock,
    config: &Config<'_>,
    extents: &[[Extent; NR_ZONES]; MAX_NODES],
) -> Result<(), OutOfMemory> {
    let mut free_ranges = 0;
    memblock.for_each_free(|_| free_ranges += 1);
    let mut zones = [[None::<&'static Zone>; NR_ZONES]; MAX_NODES];
    for (node, kinds) in extents.iter().enumerate() {
        for (kind, extent) in ZoneKind::ALL.iter().zip(kinds) {
            if extent.present == 0 {
                continue;
            }
            let id = ZoneId::new(node as u8, *kind);
            let mut early = Early(memblock);
            // Early allocations still cut free ranges; and a range may be cut at a zone border.
            let deferred = early.slice(free_ranges + 16, |_| (0, 0))?;
            let (high, batch) = pcp::limits(extent.present, config.cpus);
            let pcps = early.slice(config.cpus, |_| ZonePcp::new(id, high, batch))?;
            let zone = early.value(Zone::new(id, extent.start, extent.end, deferred, pcps))?;
            zone.set_present(extent.present);
            zones[node][*kind as usize] = Some(zone);
        }
    }
    let present: [bool; MAX_NODES] = core::array::from_fn(|n| zones[n].iter().any(Option::is_some));
    let distance =
        |a: usize, b: usize| config.numa.distance.get(a).and_then(|d| d.get(b)).copied().unwrap_or(20);
    for id in 0..MAX_NODES {
        // Nodes without memory of their own (CPUs only) have lists too.
        if id >= config.numa.nodes.max(1) && !present[id] {
            continue;
        }
        let mut order = [0; MAX_NODES];
        let len = fallback_order(id, &present, &distance, &mut order);
        let mut lists: [&'static [&'static Zone]; NR_ZONES] = [&[]; NR_ZONES];
        for (top, list) in lists.iter_mut().enumerate() {
            let all = || order[..len].iter().flat_map(|n| zones[*n][..=top].iter().rev().filter_map(|z| *z));
            let mut next = all();
            let Some(first) = all().next() else { continue };
            *list = Early(memblock).slice(all().count(), |_| next.next().unwrap_or(first))?;
        }
        node::register(Early(memblock).value(Node { id, zones: zones[id], lists })?);
    }
    Ok(())
}

/// Leaves the free ranges with their zones.
fn hand_over(memblock: &mut Memblock, map: &Map<'_>) {
    memblock.for_each_free(|range| {
        let (start, end) = frames(range);
        map.split(start, end, &mut |id, from, to| {
            if let Some(zone) = node::zone(id) {
                zone.defer(from, to);
            }
        });
    });
    for zone in node::zones() {
        zone.deferred.lock().lowest_last();
    }
}

/// Lends `range`, which was reserved at boot, to `f`.
pub fn with_reserved<R>(range: PhysRange, f: impl FnOnce(&[u8]) -> R) -> R {
    // SAFETY: reserved RAM lies in the direct map, nobody writes to it, and it is not released before `f` returns.
    f(unsafe { core::slice::from_raw_parts(phys_to_virt(range.start), range.len() as usize) })
}

/// Gives memory to the allocator that was reserved at boot: the initramfs, the image's init parts, firmware tables that were read. Whole frames
/// only. The caller is the last who knew of it.
pub fn release(range: PhysRange) {
    let (mut start, end) = frames(range);
    while start < end && end <= vmemmap::end() {
        let stop = ((start | (PAGEBLOCK_PAGES - 1)) + 1).min(end);
        let block = vmemmap::block(start);
        if block.is_present()
            && let Some(zone) = node::zone(block.zone())
            && let Ok(ranges) = vmemmap_grow::populate_from_itself(start, stop)
        {
            for (from, to) in ranges {
                zone.release(from, to);
                zone.add_managed((to - from) as usize);
            }
        }
        start = stop;
    }
}
