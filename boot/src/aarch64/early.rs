//! Before the kernel runs where it belongs: identity map, KASLR, relocation, and the mapping of the image.
//!
//! Everything here runs at physical addresses and before relocation: no pointers out of memory may be followed (string
//! tables, vtables, formatting), only PC-relative ones. [`boot_identity_map`] also runs with the MMU off, where memory
//! is device memory: aligned accesses only, no `memcpy`.

use core::ptr;

use arch::addr::{PAGE_SIZE, PhysAddr};
use arch::native::{apply_alternatives, map_step};
use arch::paging::{ENTRIES, Level, Prot, Pte, PteCell, index, level_size};

use crate::fdt::{self, Fdt};

const MIB2: usize = 2 << 20;
/// Frames for the first tables: identity map 5, image 6, direct map the rest. What is left over is given back.
const POOL: usize = 40;

/// Zeroed frames for tables, in the image.
#[repr(C, align(4096))]
struct Pool {
    frames: [[u64; ENTRIES]; POOL],
}

static mut POOL_FRAMES: Pool = Pool { frames: [[0; ENTRIES]; POOL] };
static mut POOL_USED: usize = 0;

unsafe extern "C" {
    static _image_start: u8;
    static _text_end: u8;
    static _rodata_start: u8;
    static _rodata_end: u8;
    static _data_start: u8;
    static _image_end: u8;
    static _rela_start: Rela;
    static _rela_end: Rela;
    static _relr_start: u64;
    static _relr_end: u64;
    static arch_idmap_root: [PteCell; ENTRIES];
    static arch_kernel_root: [PteCell; ENTRIES];
}

/// `Elf64_Rela`.
#[repr(C)]
struct Rela {
    offset: u64,
    info: u64,
    addend: i64,
}

const R_AARCH64_RELATIVE: u64 = 1027;

/// The next frame of the pool: an address valid where this code runs (physical before `boot_main`, virtual after).
pub fn pool_take() -> Option<*mut u64> {
    // SAFETY: boot is single-threaded; nobody holds a reference to either static.
    unsafe {
        let used = POOL_USED;
        if used >= POOL {
            return None;
        }
        POOL_USED = used + 1;
        Some((&raw mut POOL_FRAMES).cast::<u64>().add(used * ENTRIES))
    }
}

/// The frames that nobody took, as addresses.
pub fn pool_rest() -> core::ops::Range<usize> {
    // SAFETY: as above.
    let used = unsafe { POOL_USED };
    let base = (&raw const POOL_FRAMES).addr();
    base + used * PAGE_SIZE..base + POOL * PAGE_SIZE
}

/// Maps image and device tree at their physical addresses, in 2 MiB blocks, executable and writable.
#[unsafe(no_mangle)]
extern "C" fn boot_identity_map(dtb: usize) {
    let (start, end) = ((&raw const _image_start).addr(), (&raw const _image_end).addr());
    map_blocks(start & !(MIB2 - 1), end);
    // At most 2 MiB, aligned to 8 bytes: it may reach into a second block.
    map_blocks(dtb & !(MIB2 - 1), dtb + MIB2);
}

fn map_blocks(start: usize, end: usize) {
    const LEVEL: Level = 1;
    let mut at = start;
    while at < end {
        let mut table = (&raw const arch_idmap_root).cast::<PteCell>();
        let mut level = 3;
        while level > LEVEL {
            // SAFETY: below `ENTRIES`, in a table of ours; physical and virtual addresses are the same here.
            let cell = unsafe { &*table.add(index(level, at)) };
            let entry = cell.load();
            table = if entry.is_present() {
                ptr::with_exposed_provenance(entry.pfn().addr().0 as usize)
            } else {
                let Some(new) = pool_take() else { return };
                cell.store(Pte::table(PhysAddr(new.expose_provenance() as u64), false));
                new.cast::<PteCell>().cast_const()
            };
            level -= 1;
        }
        // Kernel code and data at once: writable and executable, until the jump to the real mapping. PXN and the
        // read-only bit stay clear.
        let prot = Prot::KERNEL_RW.union(Prot::EXEC);
        // SAFETY: as above.
        unsafe { (*table.add(index(LEVEL, at))).store(Pte::leaf(PhysAddr(at as u64).pfn(), prot, LEVEL)) };
        at += level_size(LEVEL);
    }
}

/// Moves the image to its slide and maps it there; returns virtual - physical. MMU on, identity map.
#[unsafe(no_mangle)]
extern "C" fn boot_relocate(dtb: usize) -> usize {
    let phys = (&raw const _image_start).addr();
    let size = (&raw const _image_end).addr() - phys;
    let slide = choose_slide(dtb, size);
    let virt = arch::layout::KIMAGE_LINK_BASE + slide;
    // SAFETY: the image is mapped writable and nothing else runs; once.
    unsafe {
        relocate(phys.wrapping_sub(arch::layout::KIMAGE_LINK_BASE), slide);
        apply_alternatives();
    }
    map_image(virt.wrapping_sub(phys));
    virt.wrapping_sub(phys)
}

/// The tree at a physical address that the identity map covers.
fn tree(dtb: usize) -> Option<Fdt<'static>> {
    if dtb == 0 || !dtb.is_multiple_of(8) {
        return None;
    }
    let at: *const u8 = ptr::with_exposed_provenance(dtb);
    // SAFETY: `boot_identity_map` mapped 2 MiB from here on, which is as long as a tree may be.
    unsafe {
        let len = fdt::total_size(core::slice::from_raw_parts(at, 40))?;
        Fdt::new(core::slice::from_raw_parts(at, len.min(MIB2)))
    }
}

fn choose_slide(dtb: usize, size: usize) -> usize {
    let chosen = tree(dtb).and_then(|t| t.find("/chosen"));
    let mut seed = arch::random::hw_seed().unwrap_or(0);
    if let Some(chosen) = chosen {
        if has_word(chosen.property("bootargs").unwrap_or(&[]), b"nokaslr") {
            return 0;
        }
        for (address, value) in chosen.cells("kaslr-seed").enumerate() {
            seed ^= u64::from(value) << (32 * (1 - address as u32 % 2));
        }
    }
    if seed == 0 {
        return 0;
    }
    // Mix, so that a weak seed spreads over the bits used.
    let mixed = (seed ^ seed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    let slots = (arch::layout::KIMAGE_RANGE - size) / MIB2;
    let slide = (mixed as usize % slots) * MIB2;
    // Stay within 1 GiB, so that few tables suffice.
    const GIB: usize = 1 << 30;
    if slide / GIB == (slide + size) / GIB { slide } else { slide & !(GIB - 1) }
}

/// Whether a command line contains a word.
fn has_word(line: &[u8], word: &[u8]) -> bool {
    line.split(|b| matches!(b, b' ' | 0)).any(|w| w == word)
}

/// Applies the relocations. `to_phys`: physical - link address.
///
/// # Safety
/// Once; the image is writable at its physical address.
unsafe fn relocate(to_phys: usize, slide: usize) {
    let at = |link: u64| ptr::with_exposed_provenance_mut::<u64>((link as usize).wrapping_add(to_phys));
    // SAFETY: the linker wrote both tables; they name words of the image.
    unsafe {
        let mut rela = &raw const _rela_start;
        while rela < &raw const _rela_end {
            if (*rela).info & 0xffff_ffff == R_AARCH64_RELATIVE {
                at((*rela).offset).write_unaligned(((*rela).addend as u64).wrapping_add(slide as u64));
            }
            rela = rela.add(1);
        }
        if slide == 0 {
            return;
        }
        // RELR: an even word is an address to relocate; an odd one is a bitmap of the 63 words after the last.
        let add = |word: *mut u64| word.write(word.read().wrapping_add(slide as u64));
        let mut relr = &raw const _relr_start;
        let mut next: *mut u64 = ptr::null_mut();
        while relr < &raw const _relr_end {
            let entry = relr.read();
            relr = relr.add(1);
            if entry & 1 == 0 {
                next = at(entry);
                add(next);
                next = next.wrapping_add(1);
            } else {
                let mut bits = entry >> 1;
                let mut word = next;
                while bits != 0 {
                    if bits & 1 != 0 {
                        add(word);
                    }
                    word = word.wrapping_add(1);
                    bits >>= 1;
                }
                next = next.wrapping_add(63);
            }
        }
    }
}

/// Maps the parts of the image with their permissions.
fn map_image(offset: usize) {
    let part = |start: *const u8, end: *const u8, prot: Prot| {
        let (phys, len) = (start.addr(), end.addr() - start.addr());
        let mut done = 0;
        while done < len {
            let mut alloc = || pool_take().map(|p| PhysAddr(p.expose_provenance() as u64));
            let mut access = |pa: PhysAddr| ptr::with_exposed_provenance::<PteCell>(pa.0 as usize);
            // SAFETY: the kernel's root and tables of the pool, at physical addresses, which the identity map covers;
            // boot is single-threaded.
            let step = unsafe {
                map_step(
                    &raw const arch_kernel_root,
                    phys.wrapping_add(offset),
                    PhysAddr(phys as u64),
                    len,
                    done,
                    prot,
                    &mut alloc,
                    &mut access,
                )
            };
            match step {
                Ok(step) => done += step,
                // An image too large for the pool: nothing can be printed yet.
                Err(_) => loop {
                    core::hint::spin_loop();
                },
            }
        }
    };
    part(&raw const _image_start, &raw const _text_end, Prot::KERNEL_RX);
    part(&raw const _rodata_start, &raw const _rodata_end, Prot::KERNEL_RO);
    part(&raw const _data_start, &raw const _image_end, Prot::KERNEL_RW);
    // SAFETY: barriers.
    unsafe { core::arch::asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

/// Tells where a frame of the pool can be accessed now, given its physical address; for code that runs at virtual
/// addresses.
pub fn pool_range() -> impl Fn(PhysAddr) -> Option<*const u8> {
    let base = (&raw const POOL_FRAMES).cast::<u8>();
    let phys = arch::addr::virt_to_phys(arch::addr::VirtAddr(base.addr()));
    move |pa: PhysAddr| {
        let offset = pa.0.wrapping_sub(phys.0) as usize;
        (offset < POOL * PAGE_SIZE).then(|| base.wrapping_add(offset))
    }
}
