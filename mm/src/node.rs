//! Nodes: the zones of each, and the order in which others are asked when it is exhausted.
//!
//! Every node has, for each zone kind, the list of zones that may serve a request of that kind: own zones first (highest kind
//! first, so that low memory is spared), then those of the other nodes by distance. The lists are made once at
//! boot and contain only zones that have memory.

use crate::gfp::{NR_ZONES, ZoneKind};
use crate::pageblock::ZoneId;
use crate::zone::Zone;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Most nodes the kernel supports.
pub const MAX_NODES: usize = boot::info::MAX_NODES;

/// A node.
pub struct Node {
    pub(crate) id: usize,
    pub(crate) zones: [Option<&'static Zone>; NR_ZONES],
    /// By zone kind of the request.
    pub(crate) lists: [&'static [&'static Zone]; NR_ZONES],
}

static NODES: [AtomicPtr<Node>; MAX_NODES] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_NODES];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Publishes a node.
pub(crate) fn register(node: &'static mut Node) {
    let id = node.id;
    if let Some(slot) = NODES.get(id) {
        slot.store(node, Ordering::Release);
        COUNT.fetch_max(id + 1, Ordering::Release);
    }
}

/// A node by number.
#[inline]
pub fn node(id: usize) -> Option<&'static Node> {
    let ptr = NODES.get(id)?.load(Ordering::Acquire);
    // SAFETY: `register` stores only `'static` nodes.
    unsafe { ptr.as_ref() }
}

/// All nodes with memory.
pub fn nodes() -> impl Iterator<Item = &'static Node> {
    (0..COUNT.load(Ordering::Acquire)).filter_map(node)
}

/// All zones with memory, node by node.
pub fn zones() -> impl Iterator<Item = &'static Zone> {
    nodes().flat_map(|n| n.zones.iter().filter_map(|z| *z))
}

/// A zone by name.
#[inline]
pub fn zone(id: ZoneId) -> Option<&'static Zone> {
    node(id.node())?.zones[id.kind() as usize]
}

impl Node {
    /// Its number.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Its zone of a kind, if it has memory there.
    pub fn zone(&self, kind: ZoneKind) -> Option<&'static Zone> {
        self.zones[kind as usize]
    }

    /// The zones that may serve a request for `kind`, in order.
    #[inline]
    pub fn zonelist(&self, kind: ZoneKind) -> &'static [&'static Zone] {
        self.lists[kind as usize]
    }

    /// Pages of RAM.
    pub fn present_pages(&self) -> usize {
        self.zones.iter().flatten().map(|z| z.present_pages()).sum()
    }

    /// Free pages.
    pub fn free_pages(&self) -> usize {
        self.zones.iter().flatten().map(|z| z.free_pages()).sum()
    }
}

/// The order in which node `from` asks others: by distance, and among equals the following numbers first, so that the
/// load of several full nodes spreads. Fills `order` with those of `present`; returns how many.
pub fn fallback_order(
    from: usize,
    present: &[bool],
    distance: &dyn Fn(usize, usize) -> u8,
    order: &mut [usize],
) -> usize {
    let n = present.len();
    let mut len = 0;
    for id in (0..n).map(|i| (from + i) % n).filter(|id| present[*id]) {
        let key = if id == from { 0 } else { u16::from(distance(from, id)) + 1 };
        // Insertion keeps equal distances in the order of arrival.
        let at = order[..len]
            .iter()
            .position(|o| *o != from && u16::from(distance(from, *o)) + 1 > key)
            .unwrap_or(len);
        order.copy_within(at..len, at + 1);
        order[at] = id;
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_first_then_round_robin() {
        let distance = |a: usize, b: usize| match (a, b) {
            _ if a == b => 10,
            (0, 3) | (3, 0) => 15,
            _ => 20,
        };
        let mut order = [0; 4];
        assert_eq!(fallback_order(0, &[true; 4], &distance, &mut order), 4);
        assert_eq!(order, [0, 3, 1, 2]);
        assert_eq!(fallback_order(2, &[true; 4], &distance, &mut order), 4);
        assert_eq!(order, [2, 3, 0, 1]);
        assert_eq!(fallback_order(1, &[true, false, true, true], &distance, &mut order), 3);
        assert_eq!(order[..3], [2, 3, 0]);
    }
}
