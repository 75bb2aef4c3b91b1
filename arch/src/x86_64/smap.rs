//! Opening and closing user memory (SMAP).
//!
//! The kernel is built with three-byte no-ops where user memory is opened and closed, and a table of those places; boot
//! writes `stac` and `clac` over them if the CPU has SMAP, so that nothing has to be tested at run time.

/// Assembly that opens user memory.
macro_rules! stac {
    () => {
        concat!(
            "771: .byte 0x0f, 0x1f, 0x00\n",
            ".pushsection __smap_sites, \"a\", @progbits\n.p2align 2\n.long 771b - .\n.long 0xcb\n.popsection"
        )
    };
}

/// Assembly that closes user memory.
macro_rules! clac {
    () => {
        concat!(
            "771: .byte 0x0f, 0x1f, 0x00\n",
            ".pushsection __smap_sites, \"a\", @progbits\n.p2align 2\n.long 771b - .\n.long 0xca\n.popsection"
        )
    };
}

pub(super) use {clac, stac};

#[repr(C)]
struct Site {
    offset: i32,
    last_byte: u32,
}

/// Writes `stac` and `clac` over the no-ops.
///
/// # Safety
/// The CPU has SMAP, the image is mapped writable, no other CPU runs, and user memory is not open.
pub(super) unsafe fn patch() {
    unsafe extern "C" {
        static __smap_sites_start: Site;
        static __smap_sites_end: Site;
    }
    let (start, end) = (&raw const __smap_sites_start, &raw const __smap_sites_end);
    // SAFETY: the linker script places the symbols around the table, which is constant.
    let sites =
        unsafe { core::slice::from_raw_parts(start, (end.addr() - start.addr()) / size_of::<Site>()) };
    for site in sites {
        let at = (&raw const site.offset).addr().wrapping_add_signed(site.offset as isize);
        // SAFETY: three bytes of code that do nothing, as the table says; the caller made them writable. The first byte
        // stays what it is.
        unsafe {
            let code = core::ptr::with_exposed_provenance_mut::<u8>(at);
            code.add(1).write_volatile(0x01);
            code.add(2).write_volatile(site.last_byte as u8);
        }
    }
}
