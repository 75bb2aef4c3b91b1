//! `memcpy`, `memset`, `memcmp`: what the compiler calls for every structure it moves.
//!
//! `compiler_builtins` has versions of these, too, but weak ones that begin with a `rep` string instruction at any size
//! and compare in small steps. These move up to 64 bytes with plain registers, where the first and the last part may
//! overlap instead of a tail of odd bytes, and leave only what is longer to `rep`. (`memmove` stays the compiler's.)
//! The kernel runs with the direction flag clear and does not touch vector registers.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.hot, "ax"
    .balign 64
    .globl memcpy
memcpy:
    mov     rax, rdi
    cmp     rdx, 16
    jb      2f
    cmp     rdx, 32
    ja      1f
    mov     rcx, [rsi]                  // 16 to 32: two halves of 16
    mov     r8, [rsi + 8]
    mov     r9, [rsi + rdx - 16]
    mov     r10, [rsi + rdx - 8]
    mov     [rdi], rcx
    mov     [rdi + 8], r8
    mov     [rdi + rdx - 16], r9
    mov     [rdi + rdx - 8], r10
    ret
1:  mov     r8, [rsi + rdx - 8]         // the end by itself, the rest in whole words
    cmp     rdx, 64
    ja      5f
    mov     rcx, [rsi]                  // 33 to 64: two halves of 32
    mov     r9, [rsi + 8]
    mov     r10, [rsi + 16]
    mov     r11, [rsi + 24]
    mov     [rdi], rcx
    mov     [rdi + 8], r9
    mov     [rdi + 16], r10
    mov     [rdi + 24], r11
    mov     rcx, [rsi + rdx - 32]
    mov     r9, [rsi + rdx - 24]
    mov     r10, [rsi + rdx - 16]
    mov     [rdi + rdx - 32], rcx
    mov     [rdi + rdx - 24], r9
    mov     [rdi + rdx - 16], r10
    mov     [rdi + rdx - 8], r8
    ret
5:  mov     [rdi + rdx - 8], r8
    lea     rcx, [rdx - 1]
    shr     rcx, 3
    rep     movsq
    ret
2:  cmp     edx, 8                      // fewer than 16
    jb      3f
    mov     rcx, [rsi]
    mov     r8, [rsi + rdx - 8]
    mov     [rdi], rcx
    mov     [rdi + rdx - 8], r8
    ret
3:  cmp     edx, 4
    jb      4f
    mov     ecx, [rsi]
    mov     r8d, [rsi + rdx - 4]
    mov     [rdi], ecx
    mov     [rdi + rdx - 4], r8d
    ret
4:  test    edx, edx
    jz      6f
    movzx   ecx, byte ptr [rsi]
    movzx   r8d, byte ptr [rsi + rdx - 1]
    cmp     edx, 3
    jne     5f
    movzx   r9d, byte ptr [rsi + 1]
    mov     [rdi + 1], r9b
5:  mov     [rdi], cl
    mov     [rdi + rdx - 1], r8b
6:  ret

    .balign 64
    .globl memset
memset:
    mov     r9, rdi
    movzx   eax, sil
    mov     rcx, 0x0101010101010101
    imul    rax, rcx
    cmp     rdx, 8
    jb      3f
    mov     [rdi + rdx - 8], rax
    cmp     rdx, 64
    ja      2f
    lea     rcx, [rdi + rdx - 8]        // 8 to 64: whole words up to the last one
1:  mov     [rdi], rax
    add     rdi, 8
    cmp     rdi, rcx
    jb      1b
    mov     rax, r9
    ret
2:  lea     rcx, [rdx - 1]
    shr     rcx, 3
    rep     stosq
    mov     rax, r9
    ret
3:  cmp     edx, 4
    jb      4f
    mov     [rdi], eax
    mov     [rdi + rdx - 4], eax
    mov     rax, r9
    ret
4:  test    edx, edx
    jz      5f
    mov     [rdi + rdx - 1], al
    mov     [rdi], al
    cmp     edx, 3
    jne     5f
    mov     [rdi + 1], al
5:  mov     rax, r9
    ret

    .balign 64
    .globl memcmp
    .globl bcmp
bcmp:
memcmp:
    xor     r8d, r8d
    sub     rdx, 8
    jb      3f
1:  mov     rax, [rdi + r8]
    mov     rcx, [rsi + r8]
    cmp     rax, rcx
    jne     2f
    cmp     r8, rdx
    je      5f
    add     r8, 8
    cmp     r8, rdx
    jb      1b
    mov     r8, rdx                     // the last eight bytes, some of them again
    jmp     1b
2:  bswap   rax
    bswap   rcx
    cmp     rax, rcx
    sbb     eax, eax
    or      eax, 1
    ret
3:  add     rdx, 8                      // fewer than eight
4:  cmp     r8, rdx
    je      5f
    movzx   eax, byte ptr [rdi + r8]
    movzx   ecx, byte ptr [rsi + r8]
    inc     r8
    sub     eax, ecx
    je      4b
    ret
5:  xor     eax, eax
    ret
    "#
);
