//! Floating point and vector registers: saved on context switch, never on system calls.
//!
//! A thread's registers are in its [`FpuState`], in a CPU, or in both. `NEED_FPU_LOAD` among its flags says that the CPU
//! does not hold them: set whenever the thread is switched to, looked at on the way to user mode. If the CPU's registers
//! are still this thread's from last time ([`OWNER`] and `fpu_cpu` agree), nothing is loaded.
//!
//! The kernel is built without vector registers; code that wants them takes a [`KernelFpu`].
//!
//! The area has the standard (not the compacted) XSAVE format, because signal frames have it too; XSAVES is not used.
//! Components: x87, SSE, AVX, MPX, AVX-512, PKRU, as CPUID offers them. AMX is left off: Linux hands it out on request only.
//! PKRU is not lazy: [`super::pkey`] switches it, and in the area it is only for others to see.

use alloc::alloc::{Layout, alloc};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::percpu::{this_cpu_read, this_cpu_write};
use super::thread::{NO_CPU, Thread};
use super::{features, insn, msr, pkey};
use crate::pkey::KeyRights;
use crate::preempt::PreemptGuard;
use crate::thread::ThreadFlags;

/// Components the kernel switches: x87, SSE, AVX, MPX (2), AVX-512 (3), PKRU.
const SUPPORTED: u64 = 0x2ff;
/// Bytes of the legacy area.
pub(super) const FXSAVE_SIZE: usize = 512;
/// Offset of the XSAVE header.
pub(super) const HEADER: usize = 512;
/// Offset of the bytes that the processor does not use.
const SOFTWARE: usize = 464;
/// What the kernel saves and loads when it switches: all but PKRU.
const SWITCHED: u64 = !pkey::COMPONENT;
const DEFAULT_FCW: u16 = 0x37f;
const DEFAULT_MXCSR: u32 = 0x1f80;

/// Bytes of an area: fixed at boot.
static SIZE: AtomicU32 = AtomicU32::new(FXSAVE_SIZE as u32);
/// XCR0; 0: FXSAVE only.
static COMPONENTS: AtomicU64 = AtomicU64::new(0);
/// Offset of PKRU in the area; 0 if it is not there.
static PKRU: AtomicU32 = AtomicU32::new(0);
/// Bits that may be set in MXCSR.
static MXCSR_MASK: AtomicU32 = AtomicU32::new(0xffbf);

crate::per_cpu! {
    /// The thread whose values this CPU's registers were loaded with last.
    static OWNER: usize = 0;
}

/// Bytes of an area.
pub fn size() -> usize {
    SIZE.load(Relaxed) as usize
}

/// XCR0, 0 without XSAVE.
pub(super) fn components() -> u64 {
    COMPONENTS.load(Relaxed)
}

/// The state components that programs may use, as bits of XCR0: at least x87 and SSE.
pub fn user_components() -> u64 {
    components() | 3
}

/// Offset of PKRU in the area, 0 if it is not there.
pub(super) fn pkru_offset() -> usize {
    PKRU.load(Relaxed) as usize
}

pub(super) fn mxcsr_mask() -> u32 {
    MXCSR_MASK.load(Relaxed)
}

/// The saved registers of one thread.
pub struct FpuState {
    area: NonNull<u8>,
}

// SAFETY: the area is owned memory without ties to a CPU.
unsafe impl Send for FpuState {}
// SAFETY: shared references only read.
unsafe impl Sync for FpuState {}

fn layout() -> Layout {
    // SAFETY: 64 is a power of two and the size is a few KiB.
    unsafe { Layout::from_size_align_unchecked(size(), 64) }
}

impl FpuState {
    fn allocate() -> Option<Self> {
        // SAFETY: the size is not zero.
        Some(Self { area: NonNull::new(unsafe { alloc(layout()) })? })
    }

    /// Registers as a fresh program has them. Allocates; `None` without memory.
    pub fn new() -> Option<Self> {
        let mut state = Self::allocate()?;
        state.reset();
        Some(state)
    }

    /// A copy; `None` without memory.
    pub fn try_clone(&self) -> Option<Self> {
        let mut copy = Self::allocate()?;
        copy.bytes_mut().copy_from_slice(self.bytes());
        Some(copy)
    }

    /// As a fresh program has them.
    pub fn reset(&mut self) {
        let bytes = self.bytes_mut();
        bytes.fill(0);
        bytes[0..2].copy_from_slice(&DEFAULT_FCW.to_le_bytes());
        bytes[24..28].copy_from_slice(&DEFAULT_MXCSR.to_le_bytes());
    }

    /// The area.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: allocated with that size and initialised by `reset`, `try_clone` or a save.
        unsafe { core::slice::from_raw_parts(self.area.as_ptr(), size()) }
    }

    /// The area.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; freshly allocated memory is only written before it is read.
        unsafe { core::slice::from_raw_parts_mut(self.area.as_ptr(), size()) }
    }

    fn u64_at(&self, at: usize) -> u64 {
        self.bytes().get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    /// Writes out what the save left unwritten: XSAVEOPT skips components that are in their initial state and only says
    /// so in the header. For readers of the memory: signal frames, ptrace, core dumps.
    pub(super) fn complete(&mut self) {
        let missing = components() & !self.u64_at(HEADER);
        if components() == 0 || missing == 0 {
            return;
        }
        let bytes = self.bytes_mut();
        if missing & 1 != 0 {
            bytes[0..24].fill(0);
            bytes[0..2].copy_from_slice(&DEFAULT_FCW.to_le_bytes());
            bytes[32..160].fill(0);
        }
        if missing & 2 != 0 {
            bytes[160..416].fill(0);
        }
        for component in (2..64).filter(|c| missing >> c & 1 != 0) {
            let leaf = insn::cpuid(0xd, component);
            let (offset, len) = (leaf.ebx as usize, leaf.eax as usize);
            if let Some(area) = bytes.get_mut(offset..offset + len) {
                area.fill(0);
            }
        }
    }

    /// The state as ptrace's `NT_PRFPREG` and core dumps show it (`user_fpregs_struct`: the FXSAVE area); returns its
    /// length. The thread's state must be in memory (`Thread::fpu_mut`).
    pub fn write_fpregs(&mut self, out: &mut [u8]) -> usize {
        self.complete();
        let len = out.len().min(FXSAVE_SIZE);
        out[..len].copy_from_slice(&self.bytes()[..len]);
        len
    }

    /// Takes a state over from ptrace; false if it is not loadable.
    pub fn read_fpregs(&mut self, data: &[u8]) -> bool {
        let len = data.len().min(FXSAVE_SIZE);
        self.complete();
        let Some(mxcsr) = data.get(24..28).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes) else {
            return false;
        };
        if mxcsr & !mxcsr_mask() != 0 {
            return false;
        }
        self.bytes_mut()[..len].copy_from_slice(&data[..len]);
        self.mark_legacy();
        true
    }

    /// The whole area as ptrace's `NT_X86_XSTATE` and core dumps show it: XSAVE's standard format, with the components
    /// that exist in the bytes that the processor leaves to software.
    pub(super) fn write_xstate(&mut self, out: &mut [u8], rights: KeyRights) {
        self.complete();
        self.put_key_rights(rights);
        let len = out.len().min(size());
        out[..len].copy_from_slice(&self.bytes()[..len]);
        if let Some(software) = out.get_mut(SOFTWARE..HEADER) {
            software.fill(0);
            software[..8].copy_from_slice(&components().to_le_bytes());
        }
    }

    /// Takes a whole area over from ptrace and returns what it says of protection keys; `None` if it is not loadable.
    pub(super) fn read_xstate(&mut self, data: &[u8]) -> Option<KeyRights> {
        let word = |at: usize| {
            data.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(u64::MAX, u64::from_le_bytes)
        };
        let header_good = word(HEADER) & !components() == 0 && (1..8).all(|n| word(HEADER + n * 8) == 0);
        if data.len() < size() || !header_good || word(24) as u32 & !mxcsr_mask() != 0 {
            return None;
        }
        self.complete();
        let len = size();
        self.bytes_mut()[..len].copy_from_slice(&data[..len]);
        Some(self.key_rights())
    }

    /// Writes PKRU into the area, for others to see.
    fn put_key_rights(&mut self, rights: KeyRights) {
        let at = pkru_offset();
        if at == 0 {
            return;
        }
        let components = self.u64_at(HEADER) & !pkey::COMPONENT;
        let in_use = if rights == KeyRights::ALL { 0 } else { pkey::COMPONENT };
        let bytes = self.bytes_mut();
        bytes[HEADER..HEADER + 8].copy_from_slice(&(components | in_use).to_le_bytes());
        bytes[at..at + 4].copy_from_slice(&rights.0.to_le_bytes());
    }

    /// What the area says of PKRU: in its initial state it allows everything.
    fn key_rights(&self) -> KeyRights {
        let at = pkru_offset();
        if at == 0 || self.u64_at(HEADER) & pkey::COMPONENT == 0 {
            return KeyRights::ALL;
        }
        KeyRights(self.u64_at(at) as u32)
    }

    /// The legacy area counts: after it was written from outside.
    pub(super) fn mark_legacy(&mut self) {
        if components() != 0 {
            self.bytes_mut()[HEADER] |= 3;
        }
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout; the size does not change after boot.
        unsafe { alloc::alloc::dealloc(self.area.as_ptr(), layout()) };
    }
}

/// # Safety
/// The registers are live, and `area` is a whole, aligned area.
#[inline]
unsafe fn save(area: *mut u8) {
    // SAFETY: the caller's promise; which instruction exists was established at boot.
    unsafe {
        if features::has_xsaveopt() {
            asm!("xsaveopt64 [{}]", in(reg) area, in("eax") SWITCHED as u32, in("edx") u32::MAX, options(nostack, preserves_flags));
        } else if components() != 0 {
            asm!("xsave64 [{}]", in(reg) area, in("eax") SWITCHED as u32, in("edx") u32::MAX, options(nostack, preserves_flags));
        } else {
            asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
        }
    }
}

/// # Safety
/// `area` is a whole, aligned area with loadable content.
#[inline]
unsafe fn load(area: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        if components() != 0 {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") SWITCHED as u32, in("edx") u32::MAX,
                 options(nostack, preserves_flags, readonly));
        } else {
            asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags, readonly));
        }
    }
}

/// The running thread is being switched out. Interrupts off.
#[inline]
pub(super) fn switch_out(prev: &mut Thread) {
    if prev.flags().contains(ThreadFlags::NEED_FPU_LOAD) {
        return;
    }
    if let Some(state) = &mut prev.fpu {
        // SAFETY: without NEED_FPU_LOAD the registers are this thread's.
        unsafe { save(state.area.as_ptr()) };
    }
}

/// Saves the registers of the running thread if they are live; they must be loaded again. Interrupts off.
pub(super) fn save_current(thread: &mut Thread) {
    if thread.fpu.is_some() && !thread.flags().contains(ThreadFlags::NEED_FPU_LOAD) {
        switch_out(thread);
        thread.flags().set(ThreadFlags::NEED_FPU_LOAD);
    }
}

/// Loads the running thread's registers before it returns to user mode. Interrupts off.
pub(super) fn load_current() {
    let mut current = crate::thread::current();
    // SAFETY: the running thread; only this code, with interrupts off, touches its FPU fields.
    let thread = unsafe { current.as_mut() };
    let (me, cpu) = (current.as_ptr().addr(), crate::cpu::current().0);
    if this_cpu_read!(OWNER, usize) != me || thread.fpu_cpu.load(Relaxed) != cpu {
        if let Some(state) = &thread.fpu {
            // SAFETY: states are loadable: made by `reset` or a save, MXCSR checked where it came from outside.
            unsafe { load(state.area.as_ptr()) };
        }
        thread.fpu_cpu.store(cpu, Relaxed);
        // SAFETY: this CPU's own variable.
        unsafe { this_cpu_write!(OWNER, me) };
    }
    thread.flags().clear(ThreadFlags::NEED_FPU_LOAD);
}

/// Kernel code may use vector registers while this lives (preemption is off).
#[must_use]
pub struct KernelFpu {
    _preempt: PreemptGuard,
}

impl KernelFpu {
    /// Saves the user's registers if they are live. Not in interrupt handlers.
    pub fn begin() -> Self {
        let preempt = PreemptGuard::new();
        let _irq = crate::irq::IrqGuard::new();
        let mut current = crate::thread::current();
        // SAFETY: the running thread, interrupts off.
        let thread = unsafe { current.as_mut() };
        save_current(thread);
        thread.fpu_cpu.store(NO_CPU, Relaxed);
        // SAFETY: this CPU's own variable.
        unsafe { this_cpu_write!(OWNER, 0) };
        Self { _preempt: preempt }
    }
}

/// `si_code` of an x87 or SIMD exception, by the registers of the running thread.
pub(super) fn exception_code(simd: bool) -> u32 {
    use abi::raw::{FPE_FLTDIV, FPE_FLTINV, FPE_FLTOVF, FPE_FLTRES, FPE_FLTUND};
    let mut current = crate::thread::current();
    // SAFETY: the running thread, interrupts off.
    let thread = unsafe { current.as_mut() };
    let Some(state) = thread.fpu_mut() else { return 0 };
    let word = |at: usize| state.u64_at(at);
    let raised = if simd {
        let mxcsr = word(24) as u32;
        mxcsr & !(mxcsr >> 7)
    } else {
        let (control, status) = (word(0) as u16, word(2) as u16);
        u32::from(status & !control)
    };
    match () {
        () if raised & 0x01 != 0 => FPE_FLTINV,
        () if raised & 0x04 != 0 => FPE_FLTDIV,
        () if raised & 0x08 != 0 => FPE_FLTOVF,
        () if raised & 0x12 != 0 => FPE_FLTUND,
        () if raised & 0x20 != 0 => FPE_FLTRES,
        () => 0,
    }
}

/// Switches the FPU of this CPU on.
///
/// # Safety
/// Once per CPU, before user mode.
pub(super) unsafe fn init_cpu() {
    // SAFETY: control bits of features that CPUID shows.
    unsafe {
        insn::write_cr0(insn::read_cr0() & !(msr::CR0_EM | msr::CR0_TS) | msr::CR0_MP | msr::CR0_NE);
        insn::write_cr4(insn::read_cr4() | msr::CR4_OSFXSR | msr::CR4_OSXMMEXCPT);
        if features::has_xsave() {
            insn::write_cr4(insn::read_cr4() | msr::CR4_OSXSAVE);
            let offered = insn::cpuid(0xd, 0);
            let supported = if features::has_pku() { SUPPORTED } else { SUPPORTED & !pkey::COMPONENT };
            let components = (u64::from(offered.edx) << 32 | u64::from(offered.eax)) & supported;
            insn::xsetbv0(components);
            COMPONENTS.store(components, Relaxed);
            SIZE.store(insn::cpuid(0xd, 0).ebx, Relaxed);
            if components & pkey::COMPONENT != 0 {
                PKRU.store(insn::cpuid(0xd, pkey::COMPONENT.trailing_zeros()).ebx, Relaxed);
            }
        }
        asm!("fninit", options(nomem, nostack));
        // MXCSR_MASK is in the FXSAVE image; 0 stands for the default.
        let mut image = Image([0; FXSAVE_SIZE]);
        asm!("fxsave64 [{}]", in(reg) &mut image, options(nostack));
        let mask = u32::from_le_bytes([image.0[28], image.0[29], image.0[30], image.0[31]]);
        MXCSR_MASK.store(if mask == 0 { 0xffbf } else { mask }, Relaxed);
    }
}

#[repr(C, align(16))]
struct Image([u8; FXSAVE_SIZE]);

/// An area with all components in their initial state.
#[repr(C, align(64))]
struct Initial([u8; FXSAVE_SIZE + 64]);

static INITIAL: Initial = {
    let mut bytes = [0; FXSAVE_SIZE + 64];
    [bytes[0], bytes[1]] = DEFAULT_FCW.to_le_bytes();
    [bytes[24], bytes[25], bytes[26], bytes[27]] = DEFAULT_MXCSR.to_le_bytes();
    Initial(bytes)
};

/// Sets components to their initial state.
///
/// # Safety
/// The registers hold nothing that is still needed. Interrupts off.
pub(super) unsafe fn load_initial(mask: u64) {
    let area = &raw const INITIAL;
    // SAFETY: a whole area with an empty header.
    unsafe {
        if components() != 0 {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") mask as u32, in("edx") (mask >> 32) as u32,
                 options(nostack, preserves_flags, readonly));
        } else {
            asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags, readonly));
        }
    }
}

/// This CPU's registers are the running thread's.
pub(super) fn own(thread: &Thread, cpu: u32) {
    thread.fpu_cpu.store(cpu, Relaxed);
    // SAFETY: this CPU's own variable; interrupts are off.
    unsafe { this_cpu_write!(OWNER, core::ptr::from_ref(thread).addr()) };
    thread.flags().clear(ThreadFlags::NEED_FPU_LOAD);
}

/// Fresh registers for the running thread.
pub(super) fn reset_current(thread: &Thread) {
    if thread.fpu.is_none() {
        return;
    }
    let _irq = crate::irq::IrqGuard::new();
    // SAFETY: the thread's old values are not wanted, and nobody else's are live while it runs.
    unsafe { load_initial(SWITCHED) };
    pkey::set_rights(KeyRights::FRESH);
    own(thread, crate::cpu::current().0);
}
