//! Exception vectors: from the hardware's sixteen entries to five Rust functions, and back.
//!
//! A kernel stack ends (at its top) with a 16-byte slot holding the thread's address, and below it the
//! [`TrapFrame`](super::trap::TrapFrame) of user mode; SP_EL1 points at the slot whenever user mode runs. SP_EL0 holds the current
//! thread while the kernel runs, and is the user's stack pointer while the user does.
//!
//! A frame from the kernel itself lies wherever SP was. Both kinds carry a frame record `{fp, lr}` and leave x29
//! pointing to it, so a backtrace walks through them.
//!
//! FP registers are not touched: they are the user's until the context switch.
//!
//! On a synchronous exception in the kernel the stack pointer is checked against the stack's guard first; after an
//! overflow the CPU reports on a stack of its own.

use core::arch::global_asm;
use core::mem::offset_of;

use super::thread::Thread;
use super::trap::TrapFrame;
use crate::thread::ThreadFlags;

const FRAME_SIZE: usize = size_of::<TrapFrame>();
const _: () = assert!(FRAME_SIZE.is_multiple_of(16));
const _: () = assert!(offset_of!(TrapFrame, sp) == offset_of!(TrapFrame, regs) + 31 * 8);

global_asm!(
    r#"
    .macro save_registers
    stp     x0, x1, [sp, #16 * 0]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    stp     x14, x15, [sp, #16 * 7]
    stp     x16, x17, [sp, #16 * 8]
    stp     x18, x19, [sp, #16 * 9]
    stp     x20, x21, [sp, #16 * 10]
    stp     x22, x23, [sp, #16 * 11]
    stp     x24, x25, [sp, #16 * 12]
    stp     x26, x27, [sp, #16 * 13]
    stp     x28, x29, [sp, #16 * 14]
    .endm

    .macro restore_registers
    ldp     x0, x1, [sp, #16 * 0]
    ldp     x2, x3, [sp, #16 * 1]
    ldp     x4, x5, [sp, #16 * 2]
    ldp     x6, x7, [sp, #16 * 3]
    ldp     x8, x9, [sp, #16 * 4]
    ldp     x10, x11, [sp, #16 * 5]
    ldp     x12, x13, [sp, #16 * 6]
    ldp     x14, x15, [sp, #16 * 7]
    ldp     x16, x17, [sp, #16 * 8]
    ldp     x18, x19, [sp, #16 * 9]
    ldp     x20, x21, [sp, #16 * 10]
    ldp     x22, x23, [sp, #16 * 11]
    ldp     x24, x25, [sp, #16 * 12]
    ldp     x26, x27, [sp, #16 * 13]
    ldp     x28, x29, [sp, #16 * 14]
    .endm

// x21: stack pointer of the interrupted code, x22: its PC, x23: its PSTATE, x24: ESR
    .macro save_state_user
    mrs     x21, sp_el0
    mrs     x22, elr_el1
    mrs     x23, spsr_el1
    ldr     x20, [sp, #{FRAME}]
    msr     sp_el0, x20
    stp     x30, x21, [sp, #{LR}]
    stp     x22, x23, [sp, #{PC}]
    stp     xzr, xzr, [sp, #{RECORD}]
    add     x29, sp, #{RECORD}
    mrs     x24, esr_el1
    .endm

    .macro save_state_kernel
    add     x21, sp, #{FRAME}
    mrs     x22, elr_el1
    mrs     x23, spsr_el1
    stp     x30, x21, [sp, #{LR}]
    stp     x22, x23, [sp, #{PC}]
    stp     x29, x22, [sp, #{RECORD}]
    add     x29, sp, #{RECORD}
    mov     x21, #-1
    str     x21, [sp, #{SYSCALLNO}]
    mrs     x24, esr_el1
    .endm

    .macro vector target
    .balign 128
    sub     sp, sp, #{FRAME}
    save_registers
    b       \target
    .endm

    .macro vector_bad what
    .balign 128
    sub     sp, sp, #{FRAME}
    save_registers
    mov     x25, #\what
    b       arch_bad_mode
    .endm

    .section .vectors.text, "ax"
    .balign 2048
    .globl arch_vectors
arch_vectors:
    vector_bad 0                        // EL1t: the kernel never runs on SP_EL0
    vector_bad 1
    vector_bad 2
    vector_bad 3
    // EL1h, synchronous. Is there room for a frame? No register is free: two are parked where nothing lives while
    // the kernel runs (TPIDRRO_EL0 reads as 0 in user mode, CONTEXTIDR_EL1 is not used).
    .balign 128
    msr     tpidrro_el0, x0
    msr     contextidr_el1, x1
    mov     x0, sp
    mrs     x1, sp_el0
    ldr     x1, [x1, #{STACK_BOTTOM}]
    sub     x1, x0, x1
    cmp     x1, #{FRAME}
    b.lt    arch_stack_overflow
    mrs     x0, tpidrro_el0
    mrs     x1, contextidr_el1
    msr     tpidrro_el0, xzr
    sub     sp, sp, #{FRAME}
    b       arch_el1_sync
    vector  arch_el1_irq
    vector_bad 6
    vector  arch_el1_serror
    vector  arch_el0_sync               // EL0, AArch64
    vector  arch_el0_irq
    vector_bad 10
    vector  arch_el0_serror
    vector_bad 12                       // EL0, AArch32: never entered
    vector_bad 13
    vector_bad 14
    vector_bad 15

    .section .text.hot, "ax"
    .balign 64
arch_el0_sync:
    save_state_user
    lsr     x25, x24, #26
    cmp     x25, #0x15                  // SVC from AArch64
    b.ne    1f
    stp     x0, x8, [sp, #{ORIG_X0}]
    msr     daifclr, #0xf
    mov     x0, sp
    bl      arch_trap_syscall
    b       arch_ret_to_user
1:  mov     x0, #-1
    str     x0, [sp, #{SYSCALLNO}]
    mov     x0, sp
    mov     x1, x24
    mrs     x2, far_el1
    bl      arch_trap_sync_user
    b       arch_ret_to_user

    .balign 64
    .globl arch_ret_to_user
// The current stack holds nothing but the user's frame. Leaves by ERET.
arch_ret_to_user:
    msr     daifset, #3
    mrs     x20, sp_el0
    ldr     w1, [x20, #{FLAGS}]
    tst     w1, #{EXIT_WORK}
    b.ne    2f
1:  ldp     x22, x23, [sp, #{PC}]
    ldp     x30, x21, [sp, #{LR}]
    msr     elr_el1, x22
    msr     spsr_el1, x23
    msr     sp_el0, x21
    restore_registers
    add     sp, sp, #{FRAME}
    eret
2:  mov     x0, sp
    bl      arch_exit_work
    b       1b

    .balign 64
arch_el0_irq:
    save_state_user
    mov     x0, #-1
    str     x0, [sp, #{SYSCALLNO}]
    mov     x0, sp
    bl      arch_trap_irq_user
    b       arch_ret_to_user

    .balign 64
arch_el1_irq:
    save_state_kernel
    mov     x0, sp
    bl      arch_trap_irq_kernel
arch_ret_to_kernel:
    ldp     x22, x23, [sp, #{PC}]
    ldr     x30, [sp, #{LR}]
    msr     elr_el1, x22
    msr     spsr_el1, x23
    restore_registers
    add     sp, sp, #{FRAME}
    eret

arch_el1_sync:
    save_registers
    save_state_kernel
    mov     x0, sp
    mov     x1, x24
    mrs     x2, far_el1
    bl      arch_trap_sync_kernel
    b       arch_ret_to_kernel

arch_stack_overflow:
    // x0: SP, x1: free; the values of both are parked.
    adrp    x1, arch_overflow_stack_top
    add     x1, x1, :lo12:arch_overflow_stack_top
    mov     sp, x1
    sub     sp, sp, #{FRAME}
    save_registers
    mov     x20, x0
    mrs     x0, tpidrro_el0
    mrs     x1, contextidr_el1
    stp     x0, x1, [sp]
    save_state_kernel
    str     x20, [sp, #{LR} + 8]
    mov     x0, sp
    mov     x1, x24
    mrs     x2, far_el1
    bl      arch_trap_stack_overflow
    b       .

arch_el0_serror:
    save_state_user
    mov     x0, #-1
    str     x0, [sp, #{SYSCALLNO}]
    mov     x0, sp
    mov     x1, x24
    bl      arch_trap_serror
    b       arch_ret_to_user

arch_el1_serror:
    save_state_kernel
    mov     x0, sp
    mov     x1, x24
    bl      arch_trap_serror
    b       arch_ret_to_kernel

    .section .bss..page_aligned, "aw", %nobits
    .balign 4096
    .skip 8192
arch_overflow_stack_top:
    .section .text.hot, "ax"

arch_bad_mode:
    save_state_kernel
    mov     x0, sp
    mov     x1, x25
    mov     x2, x24
    bl      arch_trap_bad
    b       .
    "#,
    FRAME = const FRAME_SIZE,
    LR = const offset_of!(TrapFrame, regs) + 30 * 8,
    PC = const offset_of!(TrapFrame, pc),
    RECORD = const offset_of!(TrapFrame, record),
    ORIG_X0 = const offset_of!(TrapFrame, orig_x0),
    SYSCALLNO = const offset_of!(TrapFrame, syscallno),
    FLAGS = const offset_of!(Thread, flags),
    STACK_BOTTOM = const offset_of!(Thread, stack_bottom),
    EXIT_WORK = const ThreadFlags::EXIT_WORK.union(ThreadFlags::FULL_RETURN).bits(),
);
