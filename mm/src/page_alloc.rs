//! The page allocator: [`alloc_pages`] is the single entry.
//!
//! Fast path (orders 0 to 3): the lists of this CPU, with preemption off, no lock and no atomic read-modify-write. The lists are those of
//! the zone the node prefers; what another zone must serve goes the slow way.
//!
//! Slow path, in this order: refill from the zones on the node's list that stay above their *low* mark (first taking over memory that was
//! deferred at boot); wake the background reclaimer; the same above *min*, deeper for urgent callers; give this CPU's lists
//! back; reclaim; and for orders up to 3 at last the OOM killer. A caller that may not sleep fails instead of reclaiming.
//!
//! Locks: the zone lock, per batch. May be called from interrupt context with [`Gfp::ATOMIC`].

use crate::context;
use crate::folio::{Folio, Frame};
use crate::gfp::{COSTLY_ORDER, Gfp, MigrateType, NR_PCP_TYPES, NR_ZONES, Order, OutOfMemory, ZoneKind};
use crate::mempolicy::NodeMask;
use crate::node::{self, MAX_NODES, Node};
use crate::numa_stat::{NumaCounters, NumaStat};
use crate::page::{Page, PageFlags, PageType};
use crate::pcp::{ZonePcp, list_of};
use crate::pressure::{ReclaimRequest, reclaimer};
use crate::stats::Event;
use crate::vmemmap::{self, Memory};
use crate::zone::{Mark, Reserve, Zone};
use arch::addr::PAGE_SIZE;
use arch::cpu;
use arch::preempt::PreemptGuard;
use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, Ordering};

/// What this CPU needs on the fast path.
struct Near {
    /// The lists of the zone preferred for each kind of request; null until the slow path has looked.
    pcps: [Cell<*const ZonePcp>; NR_ZONES],
    /// Pages that the fast path took, by the kind of request: the zone is the one preferred for it.
    allocated: [Cell<u64>; NR_ZONES],
    /// Pages taken elsewhere, by the zone they came from.
    refilled: [Cell<u64>; NR_ZONES],
    freed: Cell<u64>,
}

fn add(counter: &Cell<u64>, pages: u64) {
    counter.set(counter.get() + pages);
}

arch::per_cpu! {
    static NEAR: Near = Near {
        pcps: [const { Cell::new(core::ptr::null()) }; NR_ZONES],
        allocated: [const { Cell::new(0) }; NR_ZONES],
        refilled: [const { Cell::new(0) }; NR_ZONES],
        freed: Cell::new(0),
    };
}

// SAFETY: other CPUs only read the counters (`hot_event`), whose tearing is not possible on 64-bit machines.
unsafe impl Sync for Near {}

/// Rounds a reclaim tries without any progress before it gives up.
const MAX_RECLAIM_RETRIES: u32 = 16;

// ---- entry points ----------------------------------------------------------------------------

/// Allocates 2^`order` contiguous frames.
#[inline]
pub fn alloc_pages(gfp: Gfp, order: Order) -> Result<Frame, OutOfMemory> {
    alloc_block(gfp, order.get()).map(|pfn| Frame::new(pfn, order)).ok_or(OutOfMemory)
}

/// Allocates one frame.
#[inline]
pub fn alloc_page(gfp: Gfp) -> Result<Frame, OutOfMemory> {
    alloc_pages(gfp, Order::ZERO)
}

/// Allocates on `node` if it can (on no other with [`Gfp::THISNODE`]).
pub fn alloc_pages_node(gfp: Gfp, order: Order, node: usize) -> Result<Frame, OutOfMemory> {
    if node == local_node_id() && !gfp.contains(Gfp::THISNODE) {
        return alloc_pages(gfp, order);
    }
    if crate::inject::page_fails(gfp, order.get()) {
        return Err(OutOfMemory);
    }
    let node = node::node(node).ok_or(OutOfMemory)?;
    let pfn = alloc_slow(gfp, order.get(), node, NodeMask::ALL).ok_or(OutOfMemory)?;
    finish(pfn, order.get(), gfp);
    Ok(Frame::new(pfn, order))
}

/// Allocates on the nodes of `allowed` only, `node` and those nearest to it first.
pub fn alloc_pages_among(
    gfp: Gfp,
    order: Order,
    node: usize,
    allowed: NodeMask,
) -> Result<Frame, OutOfMemory> {
    if allowed == NodeMask::ALL {
        return alloc_pages_node(gfp, order, node);
    }
    let node = node::node(node).ok_or(OutOfMemory)?;
    let pfn = alloc_slow(gfp, order.get(), node, allowed).ok_or(OutOfMemory)?;
    finish(pfn, order.get(), gfp);
    Ok(Frame::new(pfn, order))
}

/// Allocates up to `want` single frames and hands each to `each`; returns how many there were. Never reclaims for more than the first.
pub fn alloc_bulk(gfp: Gfp, want: usize, each: &mut dyn FnMut(Frame)) -> usize {
    let mut got = 0;
    while got < want {
        let effort = if got == 0 { gfp } else { gfp & !(Gfp::DIRECT_RECLAIM | Gfp::NOFAIL) | Gfp::NOWARN };
        match alloc_page(effort) {
            Ok(frame) => each(frame),
            Err(OutOfMemory) => break,
        }
        got += 1;
    }
    got
}

/// The node whose memory is nearest to this CPU.
pub fn local_node_id() -> usize {
    cpu::node_of(cpu::current()) as usize
}

// ---- allocation ------------------------------------------------------------------------------

#[inline]
pub(crate) fn alloc_block(gfp: Gfp, order: u8) -> Option<u32> {
    if crate::inject::page_fails(gfp, order) {
        return None;
    }
    let pfn = if order <= COSTLY_ORDER { alloc_fast(gfp, order) } else { None };
    let pfn = match pfn {
        Some(pfn) => pfn,
        None => alloc_slow(gfp, order, local_node()?, NodeMask::ALL)?,
    };
    finish(pfn, order, gfp);
    Some(pfn)
}

/// From the lists of this CPU.
#[inline]
fn alloc_fast(gfp: Gfp, order: u8) -> Option<u32> {
    let guard = PreemptGuard::new();
    let near = NEAR.get(&guard);
    // SAFETY: null, or the lists of this CPU, which live for ever.
    let pcp = unsafe { near.pcps[gfp.zone() as usize].get().as_ref() }?;
    let list = list_of(order, gfp.migrate_type() as usize);
    // SAFETY: these are the lists of this CPU, and preemption is off.
    let pfn = unsafe { pcp.with(&guard, |lists| lists.pop(&Memory, list, order)) }??;
    add(&near.allocated[gfp.zone() as usize], 1 << order);
    Some(pfn)
}

/// What every block gets on its way out.
#[inline]
fn finish(pfn: u32, order: u8, gfp: Gfp) {
    vmemmap::page(pfn).prepare_allocated();
    if gfp.contains(Gfp::ZERO) {
        // SAFETY: the block is RAM and nobody else's.
        unsafe { vmemmap::frame_ptr(pfn).write_bytes(0, PAGE_SIZE << order) };
    }
}

fn local_node() -> Option<&'static Node> {
    node::node(local_node_id()).or_else(|| node::nodes().next())
}

/// Where memory may come from: the node to begin with, and the nodes that may serve.
type From<'a> = (&'a Node, NodeMask);

/// Allocations that did not come from the lists of the CPU, by node.
static NUMA: [NumaCounters; MAX_NODES] = [const { NumaCounters::new() }; MAX_NODES];

/// Counts where an allocation of the slow path got its memory. What a mask forbids was not wanted.
fn count_numa(node: &Node, allowed: NodeMask, zone: &Zone) {
    let wanted = if allowed.contains(node.id()) { node.id() } else { zone.node() };
    NumaCounters::count(&NUMA, wanted, zone.node(), local_node_id());
}

/// Counts a page whose node had its turn.
pub(crate) fn count_interleaved(node: usize) {
    if let Some(counters) = NUMA.get(node) {
        counters.count_interleaved();
    }
}

/// The numbers of `/sys/devices/system/node/nodeN/numastat`.
pub fn numa_stat(node: usize) -> NumaStat {
    let mut stat = NUMA.get(node).map(NumaCounters::read).unwrap_or_default();
    // What the lists of a CPU gave is memory of its own node, as wanted.
    let of = |cpu| NEAR.on(cpu).allocated.iter().map(Cell::get).sum::<u64>();
    let near: u64 = cpu::possible().iter().filter(|c| cpu::node_of(*c) as usize == node).map(of).sum();
    stat.hit += near;
    stat.local += near;
    stat
}

/// Tries the zones of a node's list once.
fn alloc_from_zones(
    gfp: Gfp,
    order: u8,
    (node, allowed): From<'_>,
    mark: Mark,
    reserve: Reserve,
) -> Option<u32> {
    let kind = gfp.zone();
    let ty = gfp.migrate_type();
    for zone in node.zonelist(kind) {
        if gfp.contains(Gfp::THISNODE) && zone.node() != node.id() || !allowed.contains(zone.node()) {
            continue;
        }
        while !zone.watermark_ok(order, mark, kind, reserve) && zone.grow() {}
        if !zone.watermark_ok(order, mark, kind, reserve) {
            continue;
        }
        if let Some(pfn) = take_from(zone, order, ty) {
            count_numa(node, allowed, zone);
            return Some(pfn);
        }
        // Enough pages, but not in one piece.
        if zone.grow()
            && let Some(pfn) = take_from(zone, order, ty)
        {
            count_numa(node, allowed, zone);
            return Some(pfn);
        }
    }
    None
}

/// A block from one zone, filling this CPU's list with a batch on the way.
fn take_from(zone: &'static Zone, order: u8, ty: MigrateType) -> Option<u32> {
    if order <= COSTLY_ORDER && (ty as usize) < NR_PCP_TYPES {
        let guard = PreemptGuard::new();
        if let Some(pcp) = zone.pcp(cpu::current()) {
            let list = list_of(order, ty as usize);
            // SAFETY: the lists of this CPU, and preemption is off.
            let pfn = unsafe {
                pcp.with(&guard, |lists| {
                    lists.pop(&Memory, list, order).or_else(|| {
                        let want = (lists.batch() >> order).max(1);
                        zone.take_many(order, ty, want, lists, list);
                        lists.pop(&Memory, list, order)
                    })
                })
            };
            if let Some(Some(pfn)) = pfn {
                add(&NEAR.get(&guard).refilled[zone.kind() as usize], 1 << order);
                return Some(pfn);
            }
        }
    }
    let pfn = zone.take(order, ty)?;
    add(&NEAR.get(&PreemptGuard::new()).refilled[zone.kind() as usize], 1 << order);
    Some(pfn)
}

/// Notes on this CPU which lists serve which requests: those of the first zone on its own node's list for that kind.
fn remember(node: &Node) {
    let guard = PreemptGuard::new();
    let here = cpu::current();
    if node.id() != cpu::node_of(here) as usize {
        return;
    }
    let near = NEAR.get(&guard);
    for (slot, kind) in near.pcps.iter().zip(ZoneKind::ALL) {
        let pcp = node.zonelist(kind).first().and_then(|zone| zone.pcp(here));
        slot.set(pcp.map_or(core::ptr::null(), core::ptr::from_ref));
    }
}

#[cold]
#[inline(never)]
fn alloc_slow(gfp: Gfp, order: u8, node: &'static Node, allowed: NodeMask) -> Option<u32> {
    let gfp = context::narrow(gfp);
    let from = (node, allowed);
    if let Some(pfn) = alloc_from_zones(gfp, order, from, Mark::Low, Reserve::None) {
        if allowed == NodeMask::ALL {
            remember(node);
        }
        return Some(pfn);
    }
    if gfp.contains(Gfp::KSWAPD_RECLAIM) {
        wake_kswapd(from, gfp.zone(), order);
    }
    let memalloc = gfp.contains(Gfp::MEMALLOC) && !gfp.contains(Gfp::NOMEMALLOC);
    let reserve = match gfp {
        _ if memalloc => Reserve::All,
        _ if gfp.contains(Gfp::HIGH) && !gfp.may_sleep() => Reserve::Atomic,
        _ if gfp.contains(Gfp::HIGH) => Reserve::Half,
        _ => Reserve::None,
    };
    if let Some(pfn) = alloc_from_zones(gfp, order, from, Mark::Min, reserve) {
        return Some(pfn);
    }
    if gfp.may_sleep() && !memalloc && context::can_sleep() {
        return alloc_reclaiming(gfp, order, from, reserve).or_else(|| failed(gfp, order));
    }
    drain_local();
    alloc_from_zones(gfp, order, from, Mark::Min, reserve).or_else(|| failed(gfp, order))
}

/// The part of the slow path that may sleep.
fn alloc_reclaiming(gfp: Gfp, order: u8, from: From<'_>, reserve: Reserve) -> Option<u32> {
    crate::stats::count(Event::AllocStall, 1);
    let mut idle_rounds = 0;
    loop {
        drain_all();
        if let Some(pfn) = alloc_from_zones(gfp, order, from, Mark::Min, reserve) {
            return Some(pfn);
        }
        let reclaimer = reclaimer()?;
        let request = ReclaimRequest {
            node: if from.1.contains(from.0.id()) { from.0.id() } else { from.1.first()? },
            zone: gfp.zone(),
            order,
            gfp,
            pages: (1usize << order).max(32),
        };
        let freed = {
            let _reserves = context::MemallocScope::enter();
            reclaimer.shrink(&request)
        };
        if let Some(pfn) = alloc_from_zones(gfp, order, from, Mark::Min, reserve) {
            return Some(pfn);
        }
        if gfp.contains(Gfp::NORETRY) || (order > COSTLY_ORDER && !gfp.contains(Gfp::RETRY_MAYFAIL)) {
            return None;
        }
        // Who is being killed goes on with the reserves, or fails: its end gives memory back.
        if !gfp.contains(Gfp::NOFAIL) && sched::current().has_fatal_signal() {
            return alloc_from_zones(gfp, order, from, Mark::Min, Reserve::All);
        }
        idle_rounds = if freed == 0 { idle_rounds + 1 } else { 0 };
        // Nothing at all on the first rounds: no use in more of the same.
        if freed == 0 && idle_rounds >= 3 || idle_rounds >= MAX_RECLAIM_RETRIES {
            if order > COSTLY_ORDER || gfp.contains(Gfp::RETRY_MAYFAIL) {
                return None;
            }
            if reclaimer.out_of_memory(gfp, order) {
                idle_rounds = 0;
            } else if !gfp.contains(Gfp::NOFAIL) {
                return None;
            }
        }
    }
}

#[cold]
fn failed(gfp: Gfp, order: u8) -> Option<u32> {
    if !gfp.contains(Gfp::NOWARN) {
        log::warn!("page allocation failure: order:{order}, mode:{:#x}", gfp.bits());
    }
    None
}

fn wake_kswapd((node, allowed): From<'_>, kind: ZoneKind, order: u8) {
    if let Some(reclaimer) = reclaimer() {
        for zone in node.zonelist(kind) {
            if allowed.contains(zone.node()) && zone.mark_woken() {
                reclaimer.wake_kswapd(zone.node(), order);
            }
        }
    }
}

// ---- free ------------------------------------------------------------------------------------

/// Gives a block back. Its last owner is gone.
#[inline]
pub(crate) fn free_block(pfn: u32, order: u8) {
    let page = vmemmap::page(pfn);
    debug_assert!(page.free_is_clean(), "freed in use: pfn {pfn:#x} {page:?}");
    page.prepare_free();
    let block = vmemmap::block(pfn);
    let ty = block.migrate_type() as usize;
    if order <= COSTLY_ORDER && ty < NR_PCP_TYPES {
        let guard = PreemptGuard::new();
        let near = NEAR.get(&guard);
        add(&near.freed, 1 << order);
        // SAFETY: null, or the lists of this CPU, which live for ever.
        let preferred = unsafe { near.pcps[ZoneKind::Movable as usize].get().as_ref() };
        let zone = block.zone();
        let pcp = match preferred {
            Some(pcp) if pcp.zone == zone => Some(pcp),
            _ => node::zone(zone).and_then(|z| z.pcp(cpu::current())),
        };
        if let Some(pcp) = pcp {
            // SAFETY: the lists of this CPU, and preemption is off.
            let done = unsafe {
                pcp.with(&guard, |lists| {
                    if lists.push(&Memory, list_of(order, ty), pfn, order) {
                        trim(pcp, lists);
                    }
                })
            };
            if done.is_some() {
                return;
            }
        }
    }
    give_to_zone(pfn, order);
}

#[cold]
#[inline(never)]
fn give_to_zone(pfn: u32, order: u8) {
    if order > COSTLY_ORDER {
        add(&NEAR.get(&PreemptGuard::new()).freed, 1 << order);
    }
    if let Some(zone) = node::zone(vmemmap::block(pfn).zone()) {
        zone.give(pfn, order);
    }
}

#[cold]
#[inline(never)]
fn trim(pcp: &ZonePcp, lists: &mut crate::pcp::Pcp) {
    if let Some(zone) = node::zone(pcp.zone) {
        zone.drain(lists, lists.batch());
    }
}

/// The order of a folio's block.
#[inline]
pub(crate) fn order_of(head: &Page) -> u8 {
    if head.test(PageFlags::HEAD) { vmemmap::page(vmemmap::pfn_of(head) + 1).index() as u8 } else { 0 }
}

/// The hook of the layer that keeps folios on LRU lists: called with the last reference gone and the page still marked
/// [`PageFlags::LRU`] (or charged to a control group), to undo that.
static RELEASE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets what is called before a folio that is still on an LRU list (or charged) is freed.
pub fn set_release_hook(hook: fn(&'static Page)) {
    RELEASE.store(hook as *mut (), Ordering::Release);
}

/// Frees the pages of a folio whose last reference is gone.
pub(crate) fn free_folio(folio: &Folio) {
    free_unreferenced(folio.page());
}

/// Frees the pages of a folio whose count was brought to 0 by other means ([`Page::freeze`]).
pub fn free_unreferenced(head: &'static Page) {
    if head.test(PageFlags::LRU) || head.memcg() != 0 {
        let hook = RELEASE.load(Ordering::Acquire);
        if !hook.is_null() {
            // SAFETY: only `set_release_hook` writes it, with a function of this type.
            let hook = unsafe { core::mem::transmute::<*mut (), fn(&'static Page)>(hook) };
            hook(head);
        }
    }
    let pfn = vmemmap::pfn_of(head);
    let order = order_of(head);
    for tail in 1..1u32 << order {
        vmemmap::page(pfn + tail).prepare_free();
    }
    free_block(pfn, order);
}

/// Frees the tail of a block that was larger than needed: frames `keep..2^order` of it. The block's owner keeps the first `keep` frames
/// as that many single ones.
pub(crate) fn split_and_trim(pfn: u32, order: u8, keep: u32) {
    for at in 0..1u32 << order {
        let page = vmemmap::page(pfn + at);
        page.prepare_allocated();
        if at >= keep {
            free_block(pfn + at, 0);
        }
    }
}

// ---- draining and numbers --------------------------------------------------------------------

/// Returns the pages in this CPU's lists to the zones.
pub fn drain_local() {
    let guard = PreemptGuard::new();
    for zone in node::zones() {
        if let Some(pcp) = zone.pcp(cpu::current()) {
            // SAFETY: the lists of this CPU, and preemption is off.
            unsafe { pcp.with(&guard, |lists| zone.drain(lists, u32::MAX)) };
        }
    }
}

/// Returns the pages in all CPUs' lists to the zones. Waits for the other CPUs: with interrupts on only.
pub fn drain_all() {
    crate::smp::on_each_cpu(|_| drain_local());
}

/// Events that the fast path counts without atomics.
pub(crate) fn hot_event(event: Event) -> u64 {
    let allocated = |kind| cpu::possible().iter().map(|c| allocated_on(c, kind)).sum();
    match event {
        Event::AllocDma => allocated(ZoneKind::Dma),
        Event::AllocDma32 => allocated(ZoneKind::Dma32),
        Event::AllocNormal => allocated(ZoneKind::Normal),
        Event::AllocMovable => allocated(ZoneKind::Movable),
        Event::Free => cpu::possible().iter().map(|c| NEAR.on(c).freed.get()).sum(),
        _ => 0,
    }
}

/// Pages of a kind of zone that were allocated on `cpu`.
fn allocated_on(cpu: cpu::CpuId, kind: ZoneKind) -> u64 {
    let near = NEAR.on(cpu);
    let zonelist = |kind| node::node(cpu::node_of(cpu) as usize).and_then(|node| node.zonelist(kind).first());
    let fast = ZoneKind::ALL.into_iter().zip(&near.allocated);
    let here = fast.filter(|(request, _)| zonelist(*request).is_some_and(|zone| zone.kind() == kind));
    near.refilled[kind as usize].get() + here.map(|(_, pages)| pages.get()).sum::<u64>()
}

/// Marks an allocated page as a page table (or back), for those who walk descriptors.
pub fn set_page_table(frame: &Frame, is_table: bool) {
    if is_table {
        frame.page().set_type(PageType::Table, 0);
    } else {
        frame.page().clear_type();
    }
}

#[cfg(test)]
#[path = "page_alloc/tests.rs"]
mod tests;
