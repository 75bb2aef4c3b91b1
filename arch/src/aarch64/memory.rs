//! `memcpy`, `memmove`, `memset`, `memcmp` and page operations: what the compiler calls for every structure it moves.
//!
//! `compiler_builtins` has versions of these, too, but weak ones that go byte by byte where alignment is unknown. These use
//! pairs of registers and unaligned accesses (fine for normal memory with the MMU on; before that, nothing calls them),
//! or the memory copy instructions where the CPU has them.

use core::arch::global_asm;

use super::alternative::MOPS;

global_asm!(
    r#"
    // The branch goes away where the CPU has MOPS.
    .macro unless_mops target
    .pushsection .alternatives, "a"
    .balign 4
    .long   9998f - .
    .long   {MOPS}
    .long   0xd503201f
    .popsection
9998:
    b       \target
    .endm

    .arch_extension mops
    .section .text.hot, "ax"
    .balign 64
    .globl memmove
memmove:
    sub     x3, x0, x1
    cmp     x3, x2
    b.lo    arch_memmove_back           // the destination begins inside the source
    .globl memcpy
memcpy:
    mov     x3, x0
    cmp     x2, #64
    b.lo    2f
    unless_mops 1f
    cpyfp   [x3]!, [x1]!, x2!
    cpyfm   [x3]!, [x1]!, x2!
    cpyfe   [x3]!, [x1]!, x2!
    ret
1:  ldp     x6, x7, [x1], #64
    ldp     x8, x9, [x1, #-48]
    ldp     x10, x11, [x1, #-32]
    ldp     x12, x13, [x1, #-16]
    stp     x6, x7, [x3], #64
    stp     x8, x9, [x3, #-48]
    stp     x10, x11, [x3, #-32]
    stp     x12, x13, [x3, #-16]
    sub     x2, x2, #64
    cmp     x2, #64
    b.hs    1b
2:  tbz     x2, #5, 3f
    ldp     x6, x7, [x1], #32
    ldp     x8, x9, [x1, #-16]
    stp     x6, x7, [x3], #32
    stp     x8, x9, [x3, #-16]
3:  tbz     x2, #4, 3f
    ldp     x6, x7, [x1], #16
    stp     x6, x7, [x3], #16
3:  tbz     x2, #3, 3f
    ldr     x6, [x1], #8
    str     x6, [x3], #8
3:  tbz     x2, #2, 3f
    ldr     w6, [x1], #4
    str     w6, [x3], #4
3:  tbz     x2, #1, 3f
    ldrh    w6, [x1], #2
    strh    w6, [x3], #2
3:  tbz     x2, #0, 4f
    ldrb    w6, [x1]
    strb    w6, [x3]
4:  ret

arch_memmove_back:
    add     x3, x0, x2
    add     x1, x1, x2
1:  subs    x2, x2, #16
    b.lo    2f
    ldp     x6, x7, [x1, #-16]!
    stp     x6, x7, [x3, #-16]!
    b       1b
2:  tbz     x2, #3, 3f
    ldr     x6, [x1, #-8]!
    str     x6, [x3, #-8]!
3:  tbz     x2, #2, 3f
    ldr     w6, [x1, #-4]!
    str     w6, [x3, #-4]!
3:  tbz     x2, #1, 3f
    ldrh    w6, [x1, #-2]!
    strh    w6, [x3, #-2]!
3:  tbz     x2, #0, 4f
    ldrb    w6, [x1, #-1]
    strb    w6, [x3, #-1]
4:  ret

    .balign 64
    .globl memset
memset:
    mov     x3, x0
    and     w1, w1, #0xff
    cmp     x2, #64
    b.lo    2f
    unless_mops 1f
    setp    [x3]!, x2!, x1
    setm    [x3]!, x2!, x1
    sete    [x3]!, x2!, x1
    ret
1:  mov     x4, #0x0101010101010101
    mul     x1, x1, x4
11: stp     x1, x1, [x3], #64
    stp     x1, x1, [x3, #-48]
    stp     x1, x1, [x3, #-32]
    stp     x1, x1, [x3, #-16]
    sub     x2, x2, #64
    cmp     x2, #64
    b.hs    11b
    b       21f
2:  mov     x4, #0x0101010101010101
    mul     x1, x1, x4
21: tbz     x2, #5, 3f
    stp     x1, x1, [x3], #32
    stp     x1, x1, [x3, #-16]
3:  tbz     x2, #4, 3f
    stp     x1, x1, [x3], #16
3:  tbz     x2, #3, 3f
    str     x1, [x3], #8
3:  tbz     x2, #2, 3f
    str     w1, [x3], #4
3:  tbz     x2, #1, 3f
    strh    w1, [x3], #2
3:  tbz     x2, #0, 4f
    strb    w1, [x3]
4:  ret

    .balign 64
    .globl memcmp
    .globl bcmp
bcmp:
memcmp:
1:  subs    x2, x2, #8
    b.lo    3f
    ldr     x3, [x0], #8
    ldr     x4, [x1], #8
    cmp     x3, x4
    b.eq    1b
2:  rev     x3, x3
    rev     x4, x4
    cmp     x3, x4
    cset    w0, hi
    csinv   w0, w0, wzr, hs
    ret
3:  adds    x2, x2, #8
    b.eq    5f
4:  ldrb    w3, [x0], #1
    ldrb    w4, [x1], #1
    subs    w5, w3, w4
    b.ne    6f
    subs    x2, x2, #1
    b.ne    4b
5:  mov     w0, wzr
    ret
6:  mov     w0, w5
    ret
    .arch_extension nomops
    "#,
    MOPS = const MOPS,
);
