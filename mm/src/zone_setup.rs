//! Watermarks and reserves of all zones, from `min_free_kbytes` and the two ratios; recomputed when one of them is written.

use crate::gfp::{NR_ZONES, ZoneKind};
use crate::node::{self, Node};
use crate::zone::{LOWMEM_RESERVE_RATIO, default_min_free_kbytes, marks_for};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// `vm.min_free_kbytes`; 0 until computed.
static MIN_FREE_KBYTES: AtomicUsize = AtomicUsize::new(0);
/// `vm.lowmem_reserve_ratio`.
static RESERVE_RATIO: [AtomicUsize; NR_ZONES] = {
    let [dma, dma32, normal, movable] = LOWMEM_RESERVE_RATIO;
    [AtomicUsize::new(dma), AtomicUsize::new(dma32), AtomicUsize::new(normal), AtomicUsize::new(movable)]
};

/// `vm.lowmem_reserve_ratio`, by zone kind.
pub fn reserve_ratios() -> [usize; NR_ZONES] {
    core::array::from_fn(|kind| RESERVE_RATIO[kind].load(Relaxed))
}

/// Sets `vm.lowmem_reserve_ratio`; the reserves follow. 0: no reserve.
pub fn set_reserve_ratios(ratios: [usize; NR_ZONES]) {
    for (slot, ratio) in RESERVE_RATIO.iter().zip(ratios) {
        slot.store(ratio, Relaxed);
    }
    setup_watermarks();
}

/// `vm.watermark_scale_factor`, in ten-thousandths.
static SCALE_FACTOR: AtomicUsize = AtomicUsize::new(10);

/// `vm.min_free_kbytes`.
pub fn min_free_kbytes() -> usize {
    MIN_FREE_KBYTES.load(Relaxed)
}

/// Sets `vm.min_free_kbytes`; the marks follow.
pub fn set_min_free_kbytes(kb: usize) {
    MIN_FREE_KBYTES.store(kb, Relaxed);
    setup_watermarks();
}

/// `vm.watermark_scale_factor`.
pub fn watermark_scale_factor() -> usize {
    SCALE_FACTOR.load(Relaxed)
}

/// Sets `vm.watermark_scale_factor` (1 to 3000); the marks follow.
pub fn set_watermark_scale_factor(factor: usize) {
    SCALE_FACTOR.store(factor.clamp(1, 3000), Relaxed);
    setup_watermarks();
}

/// Computes marks and reserves of all zones.
pub(crate) fn setup_watermarks() {
    let lowmem: usize =
        node::zones().filter(|z| z.kind() != ZoneKind::Movable).map(|z| z.managed_pages()).sum();
    let _ = MIN_FREE_KBYTES.compare_exchange(0, default_min_free_kbytes(lowmem), Relaxed, Relaxed);
    for zone in node::zones() {
        let (min, low, high) =
            marks_for(zone.managed_pages(), lowmem, min_free_kbytes(), watermark_scale_factor());
        // A MOVABLE zone serves no emergencies: its mark is small and fixed.
        let (min, low, high) = match zone.kind() {
            ZoneKind::Movable => {
                let min = (zone.managed_pages() / 1024).clamp(32, 128);
                (min, min + (low - low.min(min)).min(min), high.max(min * 2))
            }
            _ => (min, low, high),
        };
        zone.set_marks(min, low, high);
    }
    for node in node::nodes() {
        reserve_low_zones(node);
    }
}

/// What each zone keeps from requests that could be served higher up: a fraction of all memory above it.
fn reserve_low_zones(node: &Node) {
    for (low, ratio) in reserve_ratios().into_iter().enumerate() {
        let Some(zone) = node.zone(ZoneKind::ALL[low]) else { continue };
        let mut above = 0;
        for kind in &ZoneKind::ALL[low + 1..] {
            above += node.zone(*kind).map_or(0, |z| z.managed_pages());
            let reserve = above.checked_div(ratio).unwrap_or(0);
            zone.set_lowmem_reserve(*kind, reserve);
        }
    }
}
