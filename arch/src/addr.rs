//! Addresses: physical, virtual and page frame numbers, and the direct map that relates them.
//!
//! The direct map is one linear window: `virtual = physical + offset`, the offset being chosen at boot (KASLR).
//! The kernel image has a second mapping with an offset of its own; [`virt_to_phys`] understands both.

use core::fmt;
use core::ops::{Add, Range, Sub};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// log2 of the size of a base page.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a base page.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// A virtual address, of user or kernel space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct VirtAddr(pub usize);

/// The number of a page frame: a physical address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct Pfn(pub u64);

impl PhysAddr {
    /// The frame this address lies in.
    #[inline]
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }

    /// Rounds down to a multiple of `align`, a power of two.
    #[inline]
    pub const fn align_down(self, align: u64) -> Self {
        Self(self.0 & !(align - 1))
    }

    /// Rounds up to a multiple of `align`, a power of two; wraps at the end of the address space.
    #[inline]
    pub const fn align_up(self, align: u64) -> Self {
        Self(self.0.wrapping_add(align - 1) & !(align - 1))
    }
}

impl VirtAddr {
    /// Rounds down to a multiple of `align`, a power of two.
    #[inline]
    pub const fn align_down(self, align: usize) -> Self {
        Self(self.0 & !(align - 1))
    }

    /// Rounds up to a multiple of `align`, a power of two; wraps at the end of the address space.
    #[inline]
    pub const fn align_up(self, align: usize) -> Self {
        Self(self.0.wrapping_add(align - 1) & !(align - 1))
    }

    /// Whether this is the first byte of a page.
    #[inline]
    pub const fn is_page_aligned(self) -> bool {
        self.0 & (PAGE_SIZE - 1) == 0
    }

    /// Offset within the page.
    #[inline]
    pub const fn page_offset(self) -> usize {
        self.0 & (PAGE_SIZE - 1)
    }
}

impl Pfn {
    /// The first byte of the frame.
    #[inline]
    pub const fn addr(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }
}

impl Add<u64> for PhysAddr {
    type Output = Self;
    #[inline]
    fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Sub<PhysAddr> for PhysAddr {
    type Output = u64;
    #[inline]
    fn sub(self, other: Self) -> u64 {
        self.0.wrapping_sub(other.0)
    }
}

impl Add<usize> for VirtAddr {
    type Output = Self;
    #[inline]
    fn add(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Sub<VirtAddr> for VirtAddr {
    type Output = usize;
    #[inline]
    fn sub(self, other: Self) -> usize {
        self.0.wrapping_sub(other.0)
    }
}

impl Add<u64> for Pfn {
    type Output = Self;
    #[inline]
    fn add(self, frames: u64) -> Self {
        Self(self.0.wrapping_add(frames))
    }
}

impl Sub<Pfn> for Pfn {
    type Output = u64;
    #[inline]
    fn sub(self, other: Self) -> u64 {
        self.0.wrapping_sub(other.0)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p:{:#x}", self.0)
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v:{:#x}", self.0)
    }
}

impl fmt::LowerHex for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// virtual - physical in the direct map (wrapping).
static DIRECT_MAP_OFFSET: AtomicUsize = AtomicUsize::new(0);
/// virtual - physical of the kernel image (wrapping).
static IMAGE_OFFSET: AtomicUsize = AtomicUsize::new(0);
static IMAGE_START: AtomicUsize = AtomicUsize::new(0);
static IMAGE_END: AtomicUsize = AtomicUsize::new(0);

/// Tells where the direct map begins: `phys_to_virt(p) = p + offset` from now on. Boot code only, before there are
/// other CPUs.
pub fn set_direct_map_offset(offset: usize) {
    DIRECT_MAP_OFFSET.store(offset, Relaxed);
}

/// Tells where the kernel image lies, virtually and physically. Boot code only.
pub fn set_image(virt: Range<usize>, phys: PhysAddr) {
    IMAGE_OFFSET.store(virt.start.wrapping_sub(phys.0 as usize), Relaxed);
    IMAGE_START.store(virt.start, Relaxed);
    IMAGE_END.store(virt.end, Relaxed);
}

/// The virtual range of the kernel image.
pub fn image() -> Range<usize> {
    IMAGE_START.load(Relaxed)..IMAGE_END.load(Relaxed)
}

/// The direct-map address of a physical address. Only RAM is mapped there.
#[inline]
pub fn phys_to_virt(pa: PhysAddr) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((pa.0 as usize).wrapping_add(DIRECT_MAP_OFFSET.load(Relaxed)))
}

/// The physical address behind an address of the direct map or of the kernel image.
#[inline]
pub fn virt_to_phys(va: VirtAddr) -> PhysAddr {
    let image = va.0 >= IMAGE_START.load(Relaxed) && va.0 < IMAGE_END.load(Relaxed);
    let offset = if image { IMAGE_OFFSET.load(Relaxed) } else { DIRECT_MAP_OFFSET.load(Relaxed) };
    PhysAddr(va.0.wrapping_sub(offset) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment() {
        assert_eq!(PhysAddr(0x1fff).align_down(0x1000), PhysAddr(0x1000));
        assert_eq!(PhysAddr(0x1001).align_up(0x1000), PhysAddr(0x2000));
        assert_eq!(PhysAddr(0x1000).align_up(0x1000), PhysAddr(0x1000));
        assert_eq!(VirtAddr(0x1234).page_offset(), 0x234);
        assert_eq!(Pfn(3).addr(), PhysAddr(0x3000));
    }
}
