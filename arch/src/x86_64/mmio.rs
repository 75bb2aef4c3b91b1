//! Mapping device registers: address space is handed out once and never taken back.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::layout::IOREMAP;
use super::paging;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::mmio::MmioRegion;
use crate::paging::Prot;

/// Raw register access.
pub mod raw {
    use core::arch::asm;

    macro_rules! raw {
        ($read:ident, $write:ident, $ty:ty, $load:literal, $store:literal, $class:ident) => {
            /// # Safety
            /// `addr` is a mapped, aligned register.
            #[inline]
            pub unsafe fn $read(addr: usize) -> $ty {
                let value: $ty;
                // SAFETY: the caller's promise. One instruction: what a hypervisor has to decode stays simple.
                unsafe { asm!($load, out($class) value, in(reg) addr, options(nostack, preserves_flags)) };
                value
            }

            /// # Safety
            /// `addr` is a mapped, aligned register.
            #[inline]
            pub unsafe fn $write(addr: usize, value: $ty) {
                // SAFETY: the caller's promise.
                unsafe { asm!($store, in(reg) addr, in($class) value, options(nostack, preserves_flags)) };
            }
        };
    }
    raw!(read8, write8, u8, "mov {}, byte ptr [{}]", "mov byte ptr [{}], {}", reg_byte);
    raw!(read16, write16, u16, "mov {:x}, word ptr [{}]", "mov word ptr [{}], {:x}", reg);
    raw!(read32, write32, u32, "mov {:e}, dword ptr [{}]", "mov dword ptr [{}], {:e}", reg);
    raw!(read64, write64, u64, "mov {}, qword ptr [{}]", "mov qword ptr [{}], {}", reg);
}

static NEXT: AtomicUsize = AtomicUsize::new(IOREMAP.start);

/// Maps device registers; `None` without memory for tables or address space.
pub fn ioremap(phys: PhysAddr, len: usize) -> Option<MmioRegion> {
    map(phys, len, Prot::KERNEL_DEVICE)
}

/// Maps memory that is not RAM to the firmware's map but has no side effects: tables, frame buffers.
pub fn ioremap_cached(phys: PhysAddr, len: usize) -> Option<MmioRegion> {
    map(phys, len, Prot::KERNEL_RW)
}

fn map(phys: PhysAddr, len: usize, prot: Prot) -> Option<MmioRegion> {
    if len == 0 || phys.0.checked_add(len as u64)? > 1 << 52 {
        return None;
    }
    let offset = phys.0 as usize & (PAGE_SIZE - 1);
    let size = offset.checked_add(len)?.checked_next_multiple_of(PAGE_SIZE)?;
    // One page in between stays unmapped.
    let va = NEXT.fetch_update(Relaxed, Relaxed, |next| {
        next.checked_add(size + PAGE_SIZE).filter(|&end| end <= IOREMAP.end)
    });
    let va = va.ok()?;
    // SAFETY: the address space was just taken; device memory belongs to the driver that asks for it.
    unsafe {
        paging::map_kernel(va, phys.align_down(PAGE_SIZE as u64), size, prot).ok()?;
        Some(MmioRegion::from_raw(va + offset, len, phys))
    }
}
