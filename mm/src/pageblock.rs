//! Page blocks: what is remembered for each 2 MiB of memory.
//!
//! Sixteen bits per block answer, with one load, what the free path must know of a frame: its mobility
//! group, zone and node. Zones and nodes therefore begin at block boundaries.

use crate::gfp::{MigrateType, ZoneKind};
use core::sync::atomic::{AtomicU16, Ordering};

/// log2 of the frames in a block.
pub const PAGEBLOCK_ORDER: u8 = 9;
/// Frames in a block.
pub const PAGEBLOCK_PAGES: u32 = 1 << PAGEBLOCK_ORDER;

const TYPE_MASK: u16 = 0x7;
const SKIP: u16 = 1 << 3;
/// There is RAM in the block, which was put offline.
const OFFLINE: u16 = 1 << 13;
/// The descriptors of the block's frames exist.
const POPULATED: u16 = 1 << 14;
/// There is RAM in the block.
const PRESENT: u16 = 1 << 15;
const ZONE_SHIFT: u32 = 4;
const NODE_SHIFT: u32 = 6;
const NODE_MASK: u16 = 0x3f;

/// Zone and node of a block in one number: equal for two blocks of one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneId(u16);

impl ZoneId {
    /// The zone of `kind` on `node`.
    pub const fn new(node: u8, kind: ZoneKind) -> Self {
        Self((kind as u16) << ZONE_SHIFT | (node as u16 & NODE_MASK) << NODE_SHIFT)
    }

    /// The node.
    #[inline]
    pub const fn node(self) -> usize {
        (self.0 >> NODE_SHIFT & NODE_MASK) as usize
    }

    /// The kind of zone.
    #[inline]
    pub const fn kind(self) -> ZoneKind {
        ZoneKind::from_bits((self.0 >> ZONE_SHIFT) as u8)
    }
}

/// State of one block.
#[repr(transparent)]
pub struct PageBlock(AtomicU16);

impl PageBlock {
    /// A block of `zone`.
    pub const fn new(zone: ZoneId, ty: MigrateType) -> Self {
        Self(AtomicU16::new(PRESENT | POPULATED | zone.0 | ty as u16))
    }

    /// Assigns the block (boot, hot-add).
    pub fn assign(&self, zone: ZoneId, ty: MigrateType) {
        let kept = self.0.load(Ordering::Relaxed) & POPULATED;
        self.0.store(PRESENT | kept | zone.0 | ty as u16, Ordering::Release);
    }

    /// Notes that the descriptors exist.
    pub(crate) fn set_populated(&self) {
        self.0.fetch_or(POPULATED, Ordering::AcqRel);
    }

    /// Whether the descriptors exist.
    #[inline]
    pub fn is_populated(&self) -> bool {
        self.0.load(Ordering::Acquire) & POPULATED != 0
    }

    /// The memory of the block is not used any more ([`crate::hotplug`]), or again.
    pub(crate) fn set_online(&self, online: bool) {
        let (gone, come) = if online { (OFFLINE, PRESENT) } else { (PRESENT, OFFLINE) };
        let word = self.0.load(Ordering::Relaxed);
        self.0.store(word & !gone | come, Ordering::Release);
    }

    /// Whether the block's memory was put offline.
    pub fn is_offline(&self) -> bool {
        self.0.load(Ordering::Acquire) & OFFLINE != 0
    }

    /// Whether there is memory here that is in use.
    #[inline]
    pub fn is_present(&self) -> bool {
        self.0.load(Ordering::Acquire) & PRESENT != 0
    }

    /// The mobility group.
    #[inline]
    pub fn migrate_type(&self) -> MigrateType {
        MigrateType::from_bits(self.0.load(Ordering::Relaxed) & TYPE_MASK)
    }

    /// Changes the mobility group; under the zone's lock.
    pub fn set_migrate_type(&self, ty: MigrateType) {
        let word = self.0.load(Ordering::Relaxed);
        self.0.store(word & !TYPE_MASK | ty as u16, Ordering::Relaxed);
    }

    /// Zone and node.
    #[inline]
    pub fn zone(&self) -> ZoneId {
        ZoneId(self.0.load(Ordering::Relaxed) & !(PRESENT | POPULATED | OFFLINE | TYPE_MASK | SKIP))
    }
}
