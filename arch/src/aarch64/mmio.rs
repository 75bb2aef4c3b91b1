//! Mapping device registers: an addition, since all of them are mapped from boot on (see `layout.rs`).

use crate::addr::PhysAddr;
use crate::layout::{DEVICE_MAP, DEVICE_MAP_SIZE};
use crate::mmio::MmioRegion;

/// Raw register access. Loads and stores are ordered against each other by the device memory type, and against normal
/// memory (DMA buffers, locks) by the barriers here, as `readl`/`writel` do.
pub mod raw {
    use core::arch::asm;

    macro_rules! raw {
        ($read:ident, $write:ident, $ty:ty, $load:literal, $store:literal) => {
            /// # Safety
            /// `addr` is a mapped, aligned register.
            #[inline]
            pub unsafe fn $read(addr: usize) -> $ty {
                let value: u64;
                // SAFETY: the caller's promise. One load without write-back, which a hypervisor can emulate.
                unsafe {
                    asm!($load, "dmb oshld", value = out(reg) value, addr = in(reg) addr, options(nostack, preserves_flags))
                };
                value as $ty
            }

            /// # Safety
            /// `addr` is a mapped, aligned register.
            #[inline]
            pub unsafe fn $write(addr: usize, value: $ty) {
                // SAFETY: the caller's promise.
                unsafe {
                    asm!("dmb oshst", $store, value = in(reg) value as u64, addr = in(reg) addr, options(nostack, preserves_flags))
                };
            }
        };
    }
    raw!(read8, write8, u8, "ldrb {value:w}, [{addr}]", "strb {value:w}, [{addr}]");
    raw!(read16, write16, u16, "ldrh {value:w}, [{addr}]", "strh {value:w}, [{addr}]");
    raw!(read32, write32, u32, "ldr {value:w}, [{addr}]", "str {value:w}, [{addr}]");
    raw!(read64, write64, u64, "ldr {value}, [{addr}]", "str {value}, [{addr}]");
}

/// Maps device registers; `None` without memory for tables or address space.
pub fn ioremap(phys: PhysAddr, len: usize) -> Option<MmioRegion> {
    let end = (phys.0 as usize).checked_add(len)?;
    if end > DEVICE_MAP_SIZE {
        return None;
    }
    // SAFETY: the window is mapped as device memory from boot on, for ever.
    Some(unsafe { MmioRegion::from_raw(DEVICE_MAP + phys.0 as usize, len, phys) })
}
