//! The virtual address space with four levels of tables, as Linux lays it out where users can see it.
//!
//! | from | to | what |
//! |---|---|---|
//! | 0 | `0x7fff_ffff_f000` | user space, less one guard page |
//! | `0xffff_8880_0000_0000` | + 64 TiB | direct map of RAM; the base moves with KASLR |
//! | `0xffff_c900_0000_0000` | + 2 TiB | vmalloc |
//! | `0xffff_ea00_0000_0000` | + 512 GiB | descriptors of page frames |
//! | `0xffff_ff00_0000_0000` | + 512 GiB | device registers |
//! | `0xffff_ffff_8000_0000` | + 1 GiB | the kernel image; moves with KASLR in steps of 2 MiB |

use core::ops::Range;

/// End of user space.
pub const TASK_SIZE: usize = 0x7fff_ffff_f000;
/// End of the addresses that a user copy may try.
pub const ACCESS_END: usize = TASK_SIZE;
/// Whether indirect branches and the level 1 cache are controls of `PR_SET_SPECULATION_CTRL` here.
pub const HAS_BRANCH_CONTROL: bool = true;
/// Words of an auxiliary vector with its end, as Linux sizes it for this architecture.
pub const AUXV_WORDS: usize = 52;
/// Top of the first stack, before randomisation.
pub const STACK_TOP: usize = TASK_SIZE;
/// Where `ET_DYN` programs load without randomisation.
pub const ELF_ET_DYN_BASE: usize = (TASK_SIZE / 3 * 2) & !0xfff;
/// Bits of randomness for mmap bases.
pub const MMAP_RND_BITS: u32 = 28;
/// What `vm.mmap_rnd_bits` may say.
pub const MMAP_RND_RANGE: core::ops::RangeInclusive<u32> = 28..=32;
/// Where mappings begin when they are put upwards (`vm.legacy_va_layout`).
pub const UNMAPPED_BASE: usize = (TASK_SIZE / 3 + 0xfff) & !0xfff;
/// Whether mappings are put upwards for a program whose stack has no limit.
pub const LEGACY_WITHOUT_STACK_LIMIT: bool = false;
/// What `map_shadow_stack(2)` answers where there are no shadow stacks, on Linux of this architecture.
pub const NO_SHADOW_STACK: abi::Errno = abi::Errno::EOPNOTSUPP;
/// Mask of the randomness of the stack, in pages.
pub const STACK_RND_PAGES: usize = 0x3f_ffff;
/// Bytes of a kernel stack.
pub const KERNEL_STACK_SIZE: usize = 16 << 10;

/// Lowest base of the direct map.
pub const DIRECT_MAP_BASE: usize = 0xffff_8880_0000_0000;
/// Room for the direct map, wherever it begins.
pub const DIRECT_MAP_SIZE: usize = 64 << 40;
/// Device registers.
pub const IOREMAP: Range<usize> = 0xffff_ff00_0000_0000..0xffff_ff80_0000_0000;
/// Virtual minus physical address of the kernel image as linked.
pub const IMAGE_BASE: usize = 0xffff_ffff_8000_0000;
/// Room in which the image may slide.
pub const IMAGE_ROOM: usize = 1 << 30;

/// The range for vmalloc and module-like mappings.
pub fn vmalloc() -> Range<usize> {
    0xffff_c900_0000_0000..0xffff_cb00_0000_0000
}

/// The kernel's code.
pub fn kernel_text() -> Range<usize> {
    unsafe extern "C" {
        static __text_start: u8;
        static __text_end: u8;
    }
    (&raw const __text_start).addr()..(&raw const __text_end).addr()
}

/// The constants of the kernel image, including those that relocation wrote.
pub fn rodata() -> Range<usize> {
    unsafe extern "C" {
        static __rodata_start: u8;
        static __rodata_end: u8;
    }
    (&raw const __rodata_start).addr()..(&raw const __rodata_end).addr()
}

/// The variables of the kernel image.
pub fn data() -> Range<usize> {
    unsafe extern "C" {
        static __data_start: u8;
        static __image_end: u8;
    }
    (&raw const __data_start).addr()..(&raw const __image_end).addr()
}

/// The range for the descriptors of page frames (`mm`'s vmemmap).
pub fn vmemmap() -> Range<usize> {
    0xffff_ea00_0000_0000..0xffff_ea80_0000_0000
}

/// By how much the image was moved.
pub fn slide() -> usize {
    unsafe extern "C" {
        static __image_start: u8;
    }
    (&raw const __image_start).addr().wrapping_sub(IMAGE_BASE + 0x20_0000)
}

/// End of the memory that ISA devices reach.
pub const DMA_END: u64 = 16 << 20;

/// A flag of mmap(2) and where it puts mappings, if there is such a thing: `MAP_32BIT`.
pub const LOW_MAPPINGS: Option<(u32, Range<usize>)> = Some((0x40, 0x4000_0000..0x8000_0000));
