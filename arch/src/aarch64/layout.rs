//! The virtual address space (48 bits in each half, 4 KiB pages).
//!
//! | from | what |
//! |---|---|
//! | `0x0000_0000_0000_0000` | user (TTBR0) |
//! | `0xffff_0000_0000_0000` | direct map of RAM, at a fixed offset: 128 TiB |
//! | `0xffff_8000_0000_0000` | kernel image, somewhere in 256 GiB (KASLR) |
//! | `0xffff_8080_0000_0000` | vmalloc: kernel stacks, large allocations |
//! | `0xffff_f800_0000_0000` | page descriptors, by frame number |
//! | `0xffff_fc00_0000_0000` | device registers: all of physical memory up to 1 TiB as device memory |
//!
//! Mapping devices as one window of 1 GiB device blocks makes `ioremap` an addition: nothing is ever speculatively read
//! through device memory, and nobody dereferences an address there but `MmioRegion`s.

use core::ops::Range;

use crate::addr::PAGE_SIZE;

/// End of user space (Linux: 48-bit VA).
pub const TASK_SIZE: usize = 1 << 48;
/// End of the addresses that a user copy may try: what lies between is nobody's, and faults. Larger than user space,
/// so that a length that is cut later anyway may reach beyond its end, as with Linux's 52-bit kernels.
pub const ACCESS_END: usize = 1 << 52;
/// Whether indirect branches and the level 1 cache are controls of `PR_SET_SPECULATION_CTRL` here.
pub const HAS_BRANCH_CONTROL: bool = false;
/// Words of an auxiliary vector with its end, as Linux sizes it for this architecture.
pub const AUXV_WORDS: usize = 50;
/// Top of the first stack, before randomisation.
pub const STACK_TOP: usize = TASK_SIZE;
/// Where `ET_DYN` programs load without randomisation.
pub const ELF_ET_DYN_BASE: usize = (2 * (TASK_SIZE / 3)) & !(PAGE_SIZE - 1);
/// Bits of randomness for mmap bases (`vm.mmap_rnd_bits`: 18 by default, 18 to 33 allowed).
pub const MMAP_RND_BITS: u32 = 18;
/// What `vm.mmap_rnd_bits` may say.
pub const MMAP_RND_RANGE: core::ops::RangeInclusive<u32> = 18..=33;
/// Where mappings begin when they are put upwards (`vm.legacy_va_layout`).
pub const UNMAPPED_BASE: usize = TASK_SIZE / 4;
/// Whether mappings are put upwards for a program whose stack has no limit.
pub const LEGACY_WITHOUT_STACK_LIMIT: bool = true;
/// What `map_shadow_stack(2)` answers where there are no shadow stacks, on Linux of this architecture.
pub const NO_SHADOW_STACK: abi::Errno = abi::Errno::ENOSYS;
/// Bits of randomness for the stack, in pages.
pub const STACK_RND_PAGES: usize = 0x3_ffff;

/// Virtual = physical + this, in the direct map.
pub const DIRECT_MAP: usize = 0xffff_0000_0000_0000;
/// Bytes of physical memory that the direct map can hold.
pub const DIRECT_MAP_SIZE: usize = 1 << 47;
/// Link address of the image, see boot/link/aarch64.ld.
pub const KIMAGE_LINK_BASE: usize = 0xffff_8000_0000_0000;
/// The image may be moved up by multiples of 2 MiB within this many bytes.
pub const KIMAGE_RANGE: usize = 256 << 30;
/// Start of the vmalloc area.
pub const VMALLOC_START: usize = 0xffff_8080_0000_0000;
/// End of the vmalloc area.
pub const VMALLOC_END: usize = 0xffff_f000_0000_0000;
/// Page descriptors, indexed by frame number.
pub const VMEMMAP_START: usize = 0xffff_f800_0000_0000;
/// Device registers: virtual = physical + this, for physical addresses below [`DEVICE_MAP_SIZE`].
pub const DEVICE_MAP: usize = 0xffff_fc00_0000_0000;
/// Bytes of the device window.
pub const DEVICE_MAP_SIZE: usize = 1 << 40;

/// Bytes of a kernel stack.
pub const KERNEL_STACK_SIZE: usize = 16 << 10;

/// By how much the image was moved (KASLR).
pub fn slide() -> usize {
    kernel_text().start - KIMAGE_LINK_BASE
}

/// Whether an address belongs to the kernel's half.
#[inline]
pub const fn is_kernel(va: usize) -> bool {
    va >> 55 & 1 != 0
}

/// The range for vmalloc and module-like mappings.
pub fn vmalloc() -> Range<usize> {
    VMALLOC_START..VMALLOC_END
}

/// The range for the descriptors of page frames (`mm`'s vmemmap).
pub fn vmemmap() -> Range<usize> {
    VMEMMAP_START..DEVICE_MAP
}

/// The kernel's code.
pub fn kernel_text() -> Range<usize> {
    unsafe extern "C" {
        static _image_start: u8;
        static _text_end: u8;
    }
    (&raw const _image_start).addr()..(&raw const _text_end).addr()
}

/// The constants of the kernel image, including those that relocation wrote.
pub fn rodata() -> Range<usize> {
    unsafe extern "C" {
        static _rodata_start: u8;
        static _rodata_end: u8;
    }
    (&raw const _rodata_start).addr()..(&raw const _rodata_end).addr()
}

/// The variables of the kernel image.
pub fn data() -> Range<usize> {
    unsafe extern "C" {
        static _data_start: u8;
        static _image_end: u8;
    }
    (&raw const _data_start).addr()..(&raw const _image_end).addr()
}

/// End of the memory that every device on the machine reaches.
pub const DMA_END: u64 = 4 << 30;

/// A flag of mmap(2) and where it puts mappings, if there is such a thing: `MAP_32BIT`.
pub const LOW_MAPPINGS: Option<(u32, Range<usize>)> = None;
