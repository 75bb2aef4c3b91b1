//! The virtual address space: what lies where.

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
pub const NO_SHADOW_STACK: abi::Errno = abi::Errno::ENOSYS;
/// Bits of randomness for the stack, in pages (0x3fffff pages on 64 bit).
pub const STACK_RND_PAGES: usize = 0x3f_ffff;
/// Bytes of a kernel stack.
pub const KERNEL_STACK_SIZE: usize = 16 << 10;

/// The range for vmalloc and module-like mappings: none, there are no page tables.
pub fn vmalloc() -> Range<usize> {
    0..0
}

/// The kernel's code.
pub fn kernel_text() -> Range<usize> {
    0..0
}

/// The constants of the kernel image.
pub fn rodata() -> Range<usize> {
    0..0
}

/// The variables of the kernel image.
pub fn data() -> Range<usize> {
    0..0
}

/// The range for the descriptors of page frames (`mm`'s vmemmap): none, `mm` uses a flat array.
pub fn vmemmap() -> Range<usize> {
    0..0
}

/// No device is limited here.
pub const DMA_END: u64 = 0;

/// A flag of mmap(2) and where it puts mappings, if there is such a thing: `MAP_32BIT`.
pub const LOW_MAPPINGS: Option<(u32, Range<usize>)> = None;
