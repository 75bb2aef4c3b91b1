//! Entry into the kernel and the way out, in assembly.
//!
//! Four ways in:
//! - `syscall_entry`: the `syscall` instruction. Interrupts off, user `gs`, user stack.
//! - `stub_N` → `trap_common`: exceptions and interrupts on the thread's kernel stack.
//! - `stub_N` → `trap_paranoid`: #DB, NMI, #DF and #MC, which may hit between entry and `swapgs`. They have stacks of
//!   their own whose topmost word holds this CPU's per-CPU base; `gs` is saved and loaded whatever it was.
//! - `thread_start`: a new thread's first switch.
//!
//! Two ways out: `sysret` for system calls whose frame is as `syscall` left it (see [`super::trap`]), else `iret`.
//! Both look at the thread's work flags with interrupts off, in one load. The `iret` to user mode may fault on a bad
//! frame: [`super::exception::bad_iret`] makes a user exception of that.

use core::arch::{global_asm, naked_asm};

use super::desc::{TSS, TSS_RSP0, USER_CS, USER_DS};
use super::smap::clac;
use super::thread::{CURRENT, FLAGS_OFFSET, SP_OFFSET, STACK_TOP_OFFSET};
use super::trap::{FRAME_SIZE, TrapFrame};
use crate::thread::ThreadFlags;

/// Work before the return to user mode.
const EXIT_FLAGS: u32 = ThreadFlags::EXIT_WORK.bits() | ThreadFlags::NEED_FPU_LOAD.bits();

crate::per_cpu! {
    /// The user's stack pointer for the few instructions until it is on the kernel stack.
    static USER_RSP: usize = 0;
}

// Entry stubs: 16 bytes each, so that `stub` can compute their addresses.
global_asm!(
    ".pushsection .text.entry, \"ax\", @progbits",
    ".p2align 4",
    ".globl entry_stubs",
    "entry_stubs:",
    ".set vector, 0",
    ".rept 256",
    "  .p2align 4",
    // Vectors for which the processor pushes an error code.
    "  .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30",
    "  .else",
    "    push -1",
    "  .endif",
    "  push vector",
    "  .if vector == 1 || vector == 2 || vector == 8 || vector == 18",
    "    jmp trap_paranoid",
    "  .else",
    "    jmp trap_common",
    "  .endif",
    "  .set vector, vector + 1",
    ".endr",
    // -------------------------------------------------------------------------------------------------------------
    // Saves the registers below the error code; the slot of rdi holds the vector, which ends up at the low end.
    ".macro save_registers",
    "  cld",
    // An interrupted user copy may have user memory open.
    clac!(),
    "  push rsi",
    "  push rdx",
    "  push rcx",
    "  push rax",
    "  push r8",
    "  push r9",
    "  push r10",
    "  push r11",
    "  push rbx",
    "  push rbp",
    "  push r12",
    "  push r13",
    "  push r14",
    "  push r15",
    "  mov rsi, [rsp + 112]",
    "  mov [rsp + 112], rdi",
    "  push rsi",
    ".endm",
    ".macro restore_registers",
    "  add rsp, 8",
    "  pop r15",
    "  pop r14",
    "  pop r13",
    "  pop r12",
    "  pop rbp",
    "  pop rbx",
    "  pop r11",
    "  pop r10",
    "  pop r9",
    "  pop r8",
    "  pop rax",
    "  pop rcx",
    "  pop rdx",
    "  pop rsi",
    "  pop rdi",
    "  add rsp, 8",
    ".endm",
    // -------------------------------------------------------------------------------------------------------------
    ".p2align 4",
    "trap_common:",
    "save_registers",
    "test byte ptr [rsp + {CS}], 3",
    "jz 3f",
    "swapgs",
    "2:",
    "mov rdi, rsp",
    "call {trap_from_user}",
    // Return to user mode; interrupts are off.
    "user_return:",
    "mov rax, gs:[rip + {CURRENT}]",
    "test dword ptr [rax + {FLAGS}], {EXIT_FLAGS}",
    "jnz 4f",
    "5:",
    "restore_registers",
    "swapgs",
    "user_iret:",
    "iretq",
    "4:",
    "mov rdi, rsp",
    "call {exit_slow}",
    "jmp 5b",
    // From the kernel.
    "3:",
    "lea rax, [rip + user_iret]",
    "cmp [rsp + {RIP}], rax",
    "jne 13f",
    // The iret to user mode failed, after its swapgs.
    "swapgs",
    "mov rdi, rsp",
    "call {bad_iret}",
    "mov rsp, rax",
    "jmp 2b",
    "13:",
    "mov rdi, rsp",
    "call {trap_from_kernel}",
    "restore_registers",
    "iretq",
    // -------------------------------------------------------------------------------------------------------------
    ".p2align 4",
    "trap_paranoid:",
    "save_registers",
    "test byte ptr [rsp + {CS}], 3",
    "jnz 7f",
    "8:",
    "mov ecx, 0xc0000101",
    "rdmsr",
    "mov r12d, eax",
    "mov r13d, edx",
    "mov rax, [rsp + {FRAME_SIZE}]",
    "mov rdx, rax",
    "shr rdx, 32",
    "wrmsr",
    "mov rdi, rsp",
    "call {trap_paranoid}",
    "mov ecx, 0xc0000101",
    "mov eax, r12d",
    "mov edx, r13d",
    "wrmsr",
    "restore_registers",
    "iretq",
    // From user mode gs is known, and all but the NMI go on on the thread's own stack.
    "7:",
    "cmp qword ptr [rsp], 2",
    "je 8b",
    "swapgs",
    "mov rsi, rsp",
    "mov rdi, gs:[rip + {TSS} + {TSS_RSP0}]",
    "sub rdi, {FRAME_SIZE}",
    "mov rax, rdi",
    "mov ecx, {FRAME_SIZE} / 8",
    "rep movsq",
    "mov rsp, rax",
    "jmp 2b",
    // -------------------------------------------------------------------------------------------------------------
    ".p2align 4",
    ".globl syscall_entry",
    "syscall_entry:",
    "swapgs",
    "mov gs:[rip + {USER_RSP}], rsp",
    "mov rsp, gs:[rip + {TSS} + {TSS_RSP0}]",
    "push {USER_DS}",
    "push qword ptr gs:[rip + {USER_RSP}]",
    "push r11",
    "push {USER_CS}",
    "push rcx",
    "push rax",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push -38",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push 0x100",
    "sti",
    "mov rdi, rsp",
    "call {syscall}",
    "cli",
    "mov rax, gs:[rip + {CURRENT}]",
    "test dword ptr [rax + {FLAGS}], {EXIT_FLAGS}",
    "jnz 9f",
    "12:",
    "cmp qword ptr [rsp + {CS}], {USER_CS}",
    "jne 5b",
    // Callee-saved registers still hold the user's values.
    "mov r10, [rsp + 64]",
    "mov r9, [rsp + 72]",
    "mov r8, [rsp + 80]",
    "mov rax, [rsp + 88]",
    "mov rdx, [rsp + 104]",
    "mov rsi, [rsp + 112]",
    "mov rdi, [rsp + 120]",
    "mov rcx, [rsp + 136]",
    "mov r11, [rsp + 152]",
    "mov rsp, [rsp + 160]",
    "swapgs",
    "sysretq",
    "9:",
    "mov rdi, rsp",
    "call {exit_slow}",
    "jmp 12b",
    // A system call by a compatibility-mode segment or sysenter cannot happen: CSTAR leads here.
    ".globl syscall32_entry",
    "syscall32_entry:",
    "mov eax, -38",
    "sysret",
    // -------------------------------------------------------------------------------------------------------------
    ".p2align 4",
    ".globl thread_switch",
    "thread_switch:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi + {SP}], rsp",
    "mov rsp, [rsi + {SP}]",
    "mov gs:[rip + {CURRENT}], rsi",
    "mov rax, [rsi + {STACK_TOP}]",
    "mov gs:[rip + {TSS} + {TSS_RSP0}], rax",
    "mov rax, rdi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".globl thread_start",
    "thread_start:",
    "mov rdi, r12",
    "push 0",
    "push 0",
    "call r13",
    "ud2",
    ".popsection",
    CS = const 144,
    RIP = const 136,
    CURRENT = sym CURRENT,
    FLAGS = const FLAGS_OFFSET,
    SP = const SP_OFFSET,
    STACK_TOP = const STACK_TOP_OFFSET,
    EXIT_FLAGS = const EXIT_FLAGS,
    FRAME_SIZE = const FRAME_SIZE,
    TSS = sym TSS,
    TSS_RSP0 = const TSS_RSP0,
    USER_RSP = sym USER_RSP,
    USER_CS = const USER_CS,
    USER_DS = const USER_DS,
    trap_from_user = sym super::exception::trap_from_user,
    trap_from_kernel = sym super::exception::trap_from_kernel,
    bad_iret = sym super::exception::bad_iret,
    trap_paranoid = sym super::exception::trap_paranoid,
    exit_slow = sym super::exception::exit_slow,
    syscall = sym super::exception::syscall,
);

#[allow(improper_ctypes, reason = "threads are opaque to the assembly but for the offsets it was given")]
unsafe extern "C" {
    static entry_stubs: u8;
    static syscall_entry: u8;
    static syscall32_entry: u8;
    static thread_start: u8;
    /// See [`crate::thread::switch`].
    pub(super) fn thread_switch(
        prev: *mut super::thread::Thread,
        next: *mut super::thread::Thread,
    ) -> *mut super::thread::Thread;
}

/// Address of the entry of a vector.
pub(super) fn stub(vector: usize) -> usize {
    (&raw const entry_stubs).addr() + vector * 16
}

/// Entry of the `syscall` instruction.
pub(super) fn syscall_address() -> usize {
    (&raw const syscall_entry).addr()
}

/// Entry of `syscall` from compatibility mode.
pub(super) fn syscall32_address() -> usize {
    (&raw const syscall32_entry).addr()
}

/// Where a new thread begins: with the entry function in r13 and its argument in r12.
pub(super) fn thread_start_address() -> usize {
    (&raw const thread_start).addr()
}

/// Leaves by the frame, which is at the top of the thread's stack.
///
/// # Safety
/// See [`crate::trap::return_to_user`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn return_to_user(frame: *mut TrapFrame) -> ! {
    naked_asm!("cli", "mov rsp, rdi", "jmp user_return")
}
