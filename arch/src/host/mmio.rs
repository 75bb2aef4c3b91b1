//! Mapping device registers.

use crate::addr::PhysAddr;
use crate::mmio::MmioRegion;

/// Raw register access.
pub mod raw {
    macro_rules! raw {
        ($read:ident, $write:ident, $ty:ty) => {
            /// # Safety
            /// `addr` is a mapped, aligned register.
            #[inline]
            pub unsafe fn $read(addr: usize) -> $ty {
                // SAFETY: the caller's promise.
                unsafe { core::ptr::with_exposed_provenance::<$ty>(addr).read_volatile() }
            }

            /// # Safety
            /// `addr` is a mapped, aligned register.
            #[inline]
            pub unsafe fn $write(addr: usize, value: $ty) {
                // SAFETY: the caller's promise.
                unsafe { core::ptr::with_exposed_provenance_mut::<$ty>(addr).write_volatile(value) }
            }
        };
    }
    raw!(read8, write8, u8);
    raw!(read16, write16, u16);
    raw!(read32, write32, u32);
    raw!(read64, write64, u64);
}

/// Maps device registers; `None` without memory for tables or address space.
pub fn ioremap(_phys: PhysAddr, _len: usize) -> Option<MmioRegion> {
    None
}
