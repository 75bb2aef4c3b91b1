//! The Image header of Linux's arm64 boot protocol, and the way of the boot CPU from there to Rust.
//!
//! On entry: x0 = physical address of the device tree, MMU and data cache off, EL2 or EL1, interrupts masked, the image
//! at a multiple of 2 MiB. Steps:
//!
//! 1. `arch_init_el`: leave EL2.
//! 2. Clear `.bss`; the caches were off, so forget what they may hold of it.
//! 3. `boot_identity_map`: image and device tree, virtual = physical. MMU off: it makes no unaligned access.
//! 4. MMU on, through the identity map.
//! 5. `boot_relocate`: choose the slide, relocate, patch, build the kernel's own mapping.
//! 6. Jump up; `boot_main`.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .head.text, "ax"
    .globl _head
_head:
    b       boot_entry                  // code0
    .long   0                           // code1
    .quad   0                           // text_offset
    .quad   _image_size                 // effective size, .bss included
    .quad   0b1010                      // little endian, 4 KiB pages, anywhere in memory
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0                           // PE header: room for a UEFI stub

    .section .idmap.text, "ax"
boot_entry:
    mov     x21, x0
    bl      arch_init_el
    mov     x22, x0

    adrp    x1, _bss_start
    adrp    x2, _bss_end
    mov     x3, x1
1:  stp     xzr, xzr, [x3], #16
    stp     xzr, xzr, [x3], #16
    stp     xzr, xzr, [x3], #16
    stp     xzr, xzr, [x3], #16
    cmp     x3, x2
    b.lo    1b
    dmb     sy
    mrs     x4, ctr_el0
    ubfx    x4, x4, #16, #4
    mov     x5, #4
    lsl     x4, x5, x4                  // smallest data cache line
2:  dc      ivac, x1
    add     x1, x1, x4
    cmp     x1, x2
    b.lo    2b
    dsb     sy

    adrp    x1, boot_stack_top
    mov     sp, x1
    mov     x29, xzr
    mov     x0, x21
    bl      boot_identity_map
    dsb     sy
    bl      arch_cpu_setup
    bl      arch_enable_mmu

    mov     x0, x21
    bl      boot_relocate               // returns virtual - physical
    mov     x20, x0
    adrp    x1, arch_image_offset
    str     x0, [x1, :lo12:arch_image_offset]
    adrp    x1, boot_virtual
    add     x1, x1, :lo12:boot_virtual
    add     x1, x1, x0
    br      x1

    .section .text, "ax"
boot_virtual:
    adrp    x1, boot_stack_top
    mov     sp, x1
    mov     x29, xzr
    mov     x30, xzr
    adrp    x1, arch_boot_thread
    add     x1, x1, :lo12:arch_boot_thread
    msr     sp_el0, x1
    msr     tpidr_el1, xzr
    msr     tpidr_el0, xzr
    msr     tpidrro_el0, xzr
    adrp    x1, arch_vectors
    add     x1, x1, :lo12:arch_vectors
    msr     vbar_el1, x1
    isb
    mov     x0, x21
    mov     x1, x20
    mov     x2, x22
    bl      boot_main
    b       .

    .section .bss..page_aligned, "aw", %nobits
    .balign 4096
    .skip   32768
boot_stack_top:
    "#
);
