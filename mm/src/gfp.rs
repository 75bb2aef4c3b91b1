//! Allocation flags: what a caller of the page and slab allocators may wait for, and where the
//! memory may come from.
//!
//! Names and meaning follow Linux (`GFP_KERNEL`, `__GFP_ZERO` …), without the prefix:
//! `Gfp::KERNEL`, `Gfp::ZERO`. The two halves are
//!
//! * *place*: which zones may serve ([`Gfp::DMA`], [`Gfp::DMA32`], [`Gfp::HIGHMEM`] |
//!   [`Gfp::MOVABLE`]) and which mobility the pages have ([`MigrateType`]);
//! * *effort*: whether the allocator may start reclaim, do I/O, enter a file system, use the
//!   reserves, or give up early.
//!
//! The caller's context can narrow the effort for a whole call tree: see [`crate::context`].

use bitflags::bitflags;

bitflags! {
    /// Allocation flags, combined with `|`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Gfp: u32 {
        /// Only memory below 16 MiB (the DMA zone).
        const DMA = 1 << 0;
        /// Only memory below 4 GiB.
        const DMA32 = 1 << 1;
        /// The page is never needed through the direct map in interrupt context (user page).
        /// On 64-bit machines there is no high memory; together with [`Gfp::MOVABLE`] it opens
        /// the MOVABLE zone.
        const HIGHMEM = 1 << 2;
        /// The page can be migrated or evicted.
        const MOVABLE = 1 << 3;
        /// The memory belongs to a cache that shrinks under pressure.
        const RECLAIMABLE = 1 << 4;
        /// May use half of the reserve below the low mark: short-lived, needed to make progress.
        const HIGH = 1 << 5;
        /// Direct reclaim may start I/O.
        const IO = 1 << 6;
        /// Direct reclaim may call into file systems.
        const FS = 1 << 7;
        /// Zero-fill.
        const ZERO = 1 << 8;
        /// The caller may sleep: direct reclaim is allowed.
        const DIRECT_RECLAIM = 1 << 9;
        /// Wake the background reclaimer when memory is low.
        const KSWAPD_RECLAIM = 1 << 10;
        /// A failure is expected and handled: no warning.
        const NOWARN = 1 << 11;
        /// Try hard, but no OOM kill.
        const RETRY_MAYFAIL = 1 << 12;
        /// Never fail (order 0 or 1 only; the caller may sleep).
        const NOFAIL = 1 << 13;
        /// Fail after one light attempt.
        const NORETRY = 1 << 14;
        /// May use all reserves: the allocation leads to memory being freed.
        const MEMALLOC = 1 << 15;
        /// Must not use the reserves even in a MEMALLOC context.
        const NOMEMALLOC = 1 << 16;
        /// Compound page: the descriptors remember order and head.
        const COMP = 1 << 17;
        /// Only from the requested node, without fallback.
        const THISNODE = 1 << 18;
        /// Charge to the current memory control group.
        const ACCOUNT = 1 << 19;
        /// The caller will write the page: spread dirty pages over zones.
        const WRITE = 1 << 20;

        /// Both kinds of reclaim.
        const RECLAIM = Self::DIRECT_RECLAIM.bits() | Self::KSWAPD_RECLAIM.bits();
        /// Ordinary kernel memory; may sleep.
        const KERNEL = Self::RECLAIM.bits() | Self::IO.bits() | Self::FS.bits();
        /// As `KERNEL`, charged to the control group.
        const KERNEL_ACCOUNT = Self::KERNEL.bits() | Self::ACCOUNT.bits();
        /// From interrupt or under a spin lock: never sleeps, may use part of the reserve.
        const ATOMIC = Self::HIGH.bits() | Self::KSWAPD_RECLAIM.bits();
        /// Never sleeps, no reserve; failure is normal.
        const NOWAIT = Self::KSWAPD_RECLAIM.bits() | Self::NOWARN.bits();
        /// May sleep but starts no I/O.
        const NOIO = Self::RECLAIM.bits();
        /// May sleep and do I/O but not enter a file system.
        const NOFS = Self::RECLAIM.bits() | Self::IO.bits();
        /// User memory that cannot move (e.g. pinned).
        const USER = Self::KERNEL.bits();
        /// User memory that can move: anonymous and page-cache pages.
        const HIGHUSER_MOVABLE = Self::USER.bits() | Self::HIGHMEM.bits() | Self::MOVABLE.bits();
    }
}

/// The four kinds of zone, lowest first. A request may be served from its own kind or any lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ZoneKind {
    /// Below 16 MiB.
    Dma = 0,
    /// Below 4 GiB.
    Dma32 = 1,
    /// Everything else.
    Normal = 2,
    /// Only movable pages: so that memory can be taken offline.
    Movable = 3,
}

/// Number of zone kinds.
pub const NR_ZONES: usize = 4;

impl ZoneKind {
    /// All kinds, lowest first.
    pub const ALL: [ZoneKind; NR_ZONES] = [Self::Dma, Self::Dma32, Self::Normal, Self::Movable];

    /// The name `/proc/zoneinfo` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
            Self::Movable => "Movable",
        }
    }

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self::ALL[(bits & 3) as usize]
    }
}

/// Mobility class of a page and of its page block: pages of one class are grouped so that
/// unmovable ones do not fragment all of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum MigrateType {
    /// Kernel memory that stays where it is.
    Unmovable = 0,
    /// User pages and page cache: can be migrated.
    Movable = 1,
    /// Caches that shrink.
    Reclaimable = 2,
    /// Blocks kept for urgent higher-order requests.
    HighAtomic = 3,
    /// Contiguous-memory areas: lent to movable pages only.
    Cma = 4,
    /// Taken out of the allocator (offline, contiguous allocation).
    Isolate = 5,
}

/// Number of migrate types.
pub const NR_MIGRATE_TYPES: usize = 6;
/// Migrate types that have per-CPU lists: the first three.
pub const NR_PCP_TYPES: usize = 3;

impl MigrateType {
    /// All types, in the order `/proc/pagetypeinfo` lists them.
    pub const ALL: [MigrateType; NR_MIGRATE_TYPES] =
        [Self::Unmovable, Self::Movable, Self::Reclaimable, Self::HighAtomic, Self::Cma, Self::Isolate];

    /// The name `/proc/pagetypeinfo` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmovable => "Unmovable",
            Self::Movable => "Movable",
            Self::Reclaimable => "Reclaimable",
            Self::HighAtomic => "HighAtomic",
            Self::Cma => "CMA",
            Self::Isolate => "Isolate",
        }
    }

    pub(crate) const fn from_bits(bits: u16) -> Self {
        match bits {
            0 => Self::Unmovable,
            1 => Self::Movable,
            2 => Self::Reclaimable,
            3 => Self::HighAtomic,
            4 => Self::Cma,
            _ => Self::Isolate,
        }
    }
}

impl Gfp {
    /// The highest zone kind that may serve the request.
    #[inline]
    pub const fn zone(self) -> ZoneKind {
        let bits = self.bits();
        if bits & Self::DMA.bits() != 0 {
            ZoneKind::Dma
        } else if bits & Self::DMA32.bits() != 0 {
            ZoneKind::Dma32
        } else if bits & (Self::HIGHMEM.bits() | Self::MOVABLE.bits())
            == (Self::HIGHMEM.bits() | Self::MOVABLE.bits())
        {
            ZoneKind::Movable
        } else {
            ZoneKind::Normal
        }
    }

    /// The mobility class of the pages.
    #[inline]
    pub const fn migrate_type(self) -> MigrateType {
        let bits = self.bits();
        if bits & Self::MOVABLE.bits() != 0 {
            MigrateType::Movable
        } else if bits & Self::RECLAIMABLE.bits() != 0 {
            MigrateType::Reclaimable
        } else {
            MigrateType::Unmovable
        }
    }

    /// Whether the caller may sleep.
    #[inline]
    pub const fn may_sleep(self) -> bool {
        self.bits() & Self::DIRECT_RECLAIM.bits() != 0
    }
}

/// Largest order the page allocator serves: 2^10 pages = 4 MiB.
pub const MAX_PAGE_ORDER: u8 = 10;
/// Number of orders.
pub const NR_ORDERS: usize = MAX_PAGE_ORDER as usize + 1;
/// Orders above this are costly: the allocator does not kill processes for them.
pub const COSTLY_ORDER: u8 = 3;

/// A block of `2^order` pages. At most [`MAX_PAGE_ORDER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u8);

impl Order {
    /// One page.
    pub const ZERO: Order = Order(0);
    /// The largest block.
    pub const MAX: Order = Order(MAX_PAGE_ORDER);

    /// `order` if the allocator can serve it.
    pub const fn new(order: u8) -> Option<Order> {
        if order <= MAX_PAGE_ORDER { Some(Order(order)) } else { None }
    }

    /// The smallest order whose block holds `bytes`; `None` if no block does.
    pub const fn for_size(bytes: usize) -> Option<Order> {
        let pages = bytes.div_ceil(4096);
        let order = if pages <= 1 { 0 } else { usize::BITS - (pages - 1).leading_zeros() };
        if order <= MAX_PAGE_ORDER as u32 { Some(Order(order as u8)) } else { None }
    }

    /// The exponent.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Pages in the block.
    #[inline]
    pub const fn pages(self) -> usize {
        1 << self.0
    }

    /// Bytes in the block.
    #[inline]
    pub const fn bytes(self) -> usize {
        4096 << self.0
    }
}

pub use collections::OutOfMemory;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_and_types() {
        assert_eq!(Gfp::KERNEL.zone(), ZoneKind::Normal);
        assert_eq!(Gfp::HIGHUSER_MOVABLE.zone(), ZoneKind::Movable);
        assert_eq!((Gfp::KERNEL | Gfp::DMA).zone(), ZoneKind::Dma);
        assert_eq!(Gfp::HIGHUSER_MOVABLE.migrate_type(), MigrateType::Movable);
        assert!(Gfp::KERNEL.may_sleep() && !Gfp::ATOMIC.may_sleep());
    }

    #[test]
    fn order_for_size() {
        let order = |bytes| Order::for_size(bytes).map(Order::get);
        assert_eq!(order(0), Some(0));
        assert_eq!(order(4096), Some(0));
        assert_eq!(order(4097), Some(1));
        assert_eq!(order(4 << 20), Some(10));
        assert_eq!(order((4 << 20) + 1), None);
    }
}
