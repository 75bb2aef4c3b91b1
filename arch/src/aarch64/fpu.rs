//! Floating point and vector registers: saved on context switch, never on system calls.
//!
//! The kernel is compiled without FP, so the registers are the user's as long as the thread runs. At a switch those of
//! the old thread are saved; those of the new one are loaded unless this CPU still holds them (the thread ran here last
//! and only kernel threads ran since). SVE and SME are off: their instructions raise SIGILL.

use alloc::boxed::Box;
use core::arch::{asm, global_asm};
use core::cell::Cell;
use core::ptr;

use super::thread::Thread;
use crate::preempt::PreemptGuard;

/// The registers as `user_fpsimd_state` of the UAPI lays them out.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Registers {
    v: [u128; 32],
    fpsr: u32,
    fpcr: u32,
    _reserved: [u32; 2],
}

const FRESH: Registers = Registers { v: [0; 32], fpsr: 0, fpcr: 0, _reserved: [0; 2] };

/// Bytes of `user_fpsimd_state`.
pub(super) const FPSIMD_SIZE: usize = size_of::<Registers>();
const _: () = assert!(FPSIMD_SIZE == 528);

/// Bits of FPCR that software may set: AHP, DN, FZ, RMode, Stride, FZ16, Len, trap enables.
const FPCR_MASK: u32 = 0x07ff_9f07;
/// Bits of FPSR that exist: QC and the cumulative exceptions (NZCV only in AArch32).
const FPSR_MASK: u32 = 0xf800_009f;

/// There are no state components with numbers here.
pub fn user_components() -> u64 {
    0
}

/// The saved registers of one thread.
pub struct FpuState {
    regs: Box<Registers>,
}

crate::per_cpu! {
    /// Whose registers this CPU holds.
    static OWNER: Cell<*mut Thread> = Cell::new(ptr::null_mut());
}

global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd
    .section .text.hot, "ax"
    .balign 64
// x0: Registers
    .globl  arch_fpu_save
arch_fpu_save:
    stp     q0, q1, [x0, #16 * 0]
    stp     q2, q3, [x0, #16 * 2]
    stp     q4, q5, [x0, #16 * 4]
    stp     q6, q7, [x0, #16 * 6]
    stp     q8, q9, [x0, #16 * 8]
    stp     q10, q11, [x0, #16 * 10]
    stp     q12, q13, [x0, #16 * 12]
    stp     q14, q15, [x0, #16 * 14]
    stp     q16, q17, [x0, #16 * 16]
    stp     q18, q19, [x0, #16 * 18]
    stp     q20, q21, [x0, #16 * 20]
    stp     q22, q23, [x0, #16 * 22]
    stp     q24, q25, [x0, #16 * 24]
    stp     q26, q27, [x0, #16 * 26]
    stp     q28, q29, [x0, #16 * 28]
    stp     q30, q31, [x0, #16 * 30]!
    mrs     x1, fpsr
    mrs     x2, fpcr
    stp     w1, w2, [x0, #16 * 2]
    ret

    .globl  arch_fpu_load
arch_fpu_load:
    ldp     q0, q1, [x0, #16 * 0]
    ldp     q2, q3, [x0, #16 * 2]
    ldp     q4, q5, [x0, #16 * 4]
    ldp     q6, q7, [x0, #16 * 6]
    ldp     q8, q9, [x0, #16 * 8]
    ldp     q10, q11, [x0, #16 * 10]
    ldp     q12, q13, [x0, #16 * 12]
    ldp     q14, q15, [x0, #16 * 14]
    ldp     q16, q17, [x0, #16 * 16]
    ldp     q18, q19, [x0, #16 * 18]
    ldp     q20, q21, [x0, #16 * 20]
    ldp     q22, q23, [x0, #16 * 22]
    ldp     q24, q25, [x0, #16 * 24]
    ldp     q26, q27, [x0, #16 * 26]
    ldp     q28, q29, [x0, #16 * 28]
    ldp     q30, q31, [x0, #16 * 30]!
    ldp     w1, w2, [x0, #16 * 2]
    msr     fpsr, x1
    msr     fpcr, x2
    ret
    .arch_extension nosimd
    .arch_extension nofp
    "#
);

unsafe extern "C" {
    fn arch_fpu_save(to: *mut Registers);
    fn arch_fpu_load(from: *const Registers);
}

/// Bytes of the state as signal frames, ptrace and core dumps show it.
pub fn size() -> usize {
    FPSIMD_SIZE
}

impl FpuState {
    /// Registers as a fresh program has them. Allocates; `None` without memory.
    pub fn new() -> Option<Self> {
        Self::with(&FRESH)
    }

    fn with(regs: &Registers) -> Option<Self> {
        let layout = core::alloc::Layout::new::<Registers>();
        // SAFETY: the layout has a size, the pointer is checked, written as a whole, and owned by the box alone.
        unsafe {
            let memory = alloc::alloc::alloc(layout).cast::<Registers>();
            if memory.is_null() {
                return None;
            }
            memory.write(*regs);
            Some(Self { regs: Box::from_raw(memory) })
        }
    }

    pub(super) fn try_clone(&self) -> Option<Self> {
        Self::with(&self.regs)
    }

    pub(super) fn reset(&mut self) {
        *self.regs = FRESH;
    }

    /// Takes the registers of this CPU, which belong to this state's thread.
    #[inline]
    pub(super) fn save(&mut self) {
        // SAFETY: writes exactly the registers' memory.
        unsafe { arch_fpu_save(&raw mut *self.regs) };
    }

    /// The state as ptrace's `NT_PRFPREG` / core dumps show it.
    pub fn write_fpregs(&self, out: &mut [u8]) -> usize {
        let bytes = self.bytes();
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        n
    }

    /// Takes a state over from ptrace; false (never here) if it is not one.
    pub fn read_fpregs(&mut self, data: &[u8]) -> bool {
        self.set_bytes(data);
        true
    }

    /// `user_fpsimd_state`.
    pub(super) fn bytes(&self) -> &[u8; FPSIMD_SIZE] {
        // SAFETY: `Registers` is plain data without padding, of just that size.
        unsafe { &*(&raw const *self.regs).cast() }
    }

    /// Takes over the first bytes of a `user_fpsimd_state`; control bits that do not exist are dropped.
    pub(super) fn set_bytes(&mut self, data: &[u8]) {
        let n = data.len().min(FPSIMD_SIZE);
        // SAFETY: every bit pattern is a valid `Registers`, and `n` is within it.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), (&raw mut *self.regs).cast::<u8>(), n) };
        self.regs.fpsr &= FPSR_MASK;
        self.regs.fpcr &= FPCR_MASK;
    }
}

/// Whether this CPU's registers were loaded for `thread` and not used for another since. Interrupts off.
#[inline]
pub(super) fn is_owner(thread: *mut Thread) -> bool {
    // SAFETY: interrupts are off: this CPU's variable.
    unsafe { (*OWNER.current_raw()).get() == thread }
}

/// Loads a thread's registers. Interrupts off.
#[inline]
pub(super) fn load_for(thread: *mut Thread, state: &FpuState) {
    // SAFETY: interrupts are off: this CPU's variable; the registers in memory are a valid state.
    unsafe {
        (*OWNER.current_raw()).set(thread);
        arch_fpu_load(&raw const *state.regs);
    }
}

/// Kernel code may use vector registers while this lives (preemption is off).
pub struct KernelFpu {
    _guard: PreemptGuard,
}

impl KernelFpu {
    /// Saves the user's registers if they are live; they are loaded again on return to user mode.
    pub fn begin() -> Self {
        let guard = PreemptGuard::new();
        // SAFETY: the running thread's machine part is touched by nobody else while it runs here with preemption off.
        let _ = unsafe { super::thread::current().as_mut() }.fpu_mut();
        // SAFETY: as for `load_for`; the registers are about to hold no thread's values.
        unsafe { (*OWNER.current_raw()).set(ptr::null_mut()) };
        Self { _guard: guard }
    }
}

/// Sets FPCR and FPSR of a fresh CPU.
pub(super) fn init_cpu() {
    // SAFETY: clears rounding modes and traps; no thread's registers are live yet.
    unsafe { asm!(".arch_extension fp", "msr fpcr, xzr", "msr fpsr, xzr", options(nomem, nostack)) };
}
