//! PVH entry: 32-bit protected mode, no paging, `ebx` points to the start info. Ends in [`super::stage1`], in long mode, at
//! the address the image was linked for.
//!
//! The tables made here map the first 4 GiB at their own addresses and the first GiB at the image's base, all writable and
//! executable: they live until [`super::memory`] has built the final ones.
//!
//! 32-bit code cannot address relative to the instruction pointer, but it knows where it is: [`LOAD`]. The linker script
//! defines the distances `o_*` from there.

use core::arch::{global_asm, naked_asm};

use arch::native::IMAGE_BASE;

/// Where the image is loaded; the linker script says the same.
pub const LOAD: usize = 0x20_0000;

/// Bytes of the boot stack.
pub const STACK: usize = 32 << 10;

global_asm!(
    // XEN_ELFNOTE_PHYS32_ENTRY
    ".pushsection .note.Xen, \"a\", @note",
    ".p2align 2",
    ".long 4, 4, 18",
    ".asciz \"Xen\"",
    ".long {LOAD}",
    ".popsection",
    //
    ".pushsection .bss.boot, \"aw\", @nobits",
    ".p2align 12",
    ".globl boot_pml4, boot_pdpt_low, boot_pdpt_high, boot_pd_low, boot_gdt, long_mode",
    "boot_pml4: .skip 4096",
    "boot_pdpt_low: .skip 4096",
    "boot_pdpt_high: .skip 4096",
    "boot_pd_low: .skip 4 * 4096",
    ".globl boot_pd_high",
    "boot_pd_high: .skip 4096",
    ".popsection",
    ".pushsection .bss.stack, \"aw\", @nobits",
    ".p2align 12",
    "boot_stack: .skip {STACK}",
    ".globl boot_stack_top",
    "boot_stack_top:",
    ".popsection",
    //
    ".pushsection .text.boot, \"ax\", @progbits",
    ".code32",
    ".globl pvh_entry",
    "pvh_entry:",
    "cli",
    "cld",
    "mov ebp, {LOAD}",
    "lea esp, [ebp + o_boot_stack_top]",
    "mov esi, ebx",
    // 2 MiB pages for 4 GiB, then the same first GiB again for the image.
    "lea edi, [ebp + o_boot_pd_low]",
    "mov eax, 0x83",
    "mov ecx, 2048",
    "2:",
    "mov [edi], eax",
    "add eax, 0x200000",
    "add edi, 8",
    "dec ecx",
    "jnz 2b",
    "lea edi, [ebp + o_boot_pd_high]",
    "mov eax, 0x83",
    "mov ecx, 512",
    "3:",
    "mov [edi], eax",
    "add eax, 0x200000",
    "add edi, 8",
    "dec ecx",
    "jnz 3b",
    "lea edi, [ebp + o_boot_pdpt_low]",
    "lea eax, [ebp + o_boot_pd_low + 3]",
    "mov [edi], eax",
    "add eax, 4096",
    "mov [edi + 8], eax",
    "add eax, 4096",
    "mov [edi + 16], eax",
    "add eax, 4096",
    "mov [edi + 24], eax",
    "lea eax, [ebp + o_boot_pd_high + 3]",
    "lea edi, [ebp + o_boot_pdpt_high]",
    "mov [edi + 510 * 8], eax",
    "lea edi, [ebp + o_boot_pml4]",
    "lea eax, [ebp + o_boot_pdpt_low + 3]",
    "mov [edi], eax",
    "lea eax, [ebp + o_boot_pdpt_high + 3]",
    "mov [edi + 511 * 8], eax",
    "mov cr3, edi",
    // PAE, long mode (and NX, which every x86_64 CPU has), paging.
    "mov eax, cr4",
    "or eax, 0x20",
    "mov cr4, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    "mov eax, cr0",
    "or eax, 0x80000001",
    "mov cr0, eax",
    // A 64-bit code segment.
    "lea eax, [ebp + o_boot_gdt]",
    "sub esp, 8",
    "mov word ptr [esp], 15",
    "mov [esp + 2], eax",
    "lgdt [esp]",
    "lea eax, [ebp + o_long]",
    "push 8",
    "push eax",
    "retf",
    ".p2align 3",
    "boot_gdt: .quad 0, 0x00af9b000000ffff",
    ".code64",
    "long_mode:",
    "xor eax, eax",
    "mov ds, eax",
    "mov es, eax",
    "mov fs, eax",
    "mov gs, eax",
    "mov ss, eax",
    "mov edi, esi",
    "movabs rcx, {IMAGE_BASE}",
    "lea rax, [rip + 5f]",
    "add rax, rcx",
    "jmp rax",
    "5:",
    "lea rsp, [rip + boot_stack_top]",
    "xor ebp, ebp",
    "call {stage1}",
    "ud2",
    ".popsection",
    LOAD = const LOAD,
    STACK = const STACK,
    IMAGE_BASE = const IMAGE_BASE as i64,
    stage1 = sym super::stage1,
);

/// Relocates the image by `slide` and goes on with `stage2(start_info, slide)` at its new place, on a fresh stack. The new
/// place must be mapped already.
///
/// # Safety
/// Once, from `stage1`, with the image at the address it was linked for.
#[unsafe(naked)]
pub unsafe extern "C" fn relocate(start_info: u64, slide: usize) -> ! {
    naked_asm!(
        // Entries are (offset, type, addend); all are R_X86_64_RELATIVE (8): the linker resolved the rest.
        "lea rax, [rip + __rela_start]",
        "lea rcx, [rip + __rela_end]",
        "2:",
        "cmp rax, rcx",
        "jae 3f",
        "cmp dword ptr [rax + 8], 8",
        "jne 4f",
        "mov rdx, [rax]",
        "mov r8, [rax + 16]",
        "add r8, rsi",
        "mov [rdx], r8",
        "4:",
        "add rax, 24",
        "jmp 2b",
        "3:",
        "lea rax, [rip + 5f]",
        "add rax, rsi",
        "jmp rax",
        "5:",
        "lea rsp, [rip + boot_stack_top]",
        "xor ebp, ebp",
        "call {stage2}",
        "ud2",
        stage2 = sym super::stage2,
    )
}
