//! The machine part of a thread.
//!
//! The user's `fs` and `gs` bases are live in the processor while the thread runs and in the fields while it does not
//! (with FSGSBASE a program changes them without the kernel). FPU registers: see [`super::fpu`].

use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use abi::Errno;

use super::debugreg::DebugRegs;
use super::ldt;
use super::percpu::{this_cpu_read, this_cpu_write};
use super::rare::Rare;
use super::segment::TABLE_LOCAL;
use super::trap::{FRAME_SIZE, TrapFrame};
use super::{entry, features, fpu, insn, msr, pkey};
use crate::addr::VirtAddr;
use crate::fpu::FpuState;
use crate::irq::IrqGuard;
use crate::pkey::KeyRights;
use crate::thread::{AtomicThreadFlags, ThreadFlags};

/// What the architecture keeps for a thread; the first field of a task.
#[repr(C)]
pub struct Thread {
    flags: AtomicThreadFlags,
    /// The CPU whose FPU registers may still hold this thread's values.
    pub(super) fpu_cpu: AtomicU32,
    sp: usize,
    stack_top: usize,
    fs_base: usize,
    gs_base: usize,
    /// Data segment registers, while it does not run.
    selectors: Selectors,
    /// Breakpoints of a tracer.
    pub(super) debug: DebugRegs,
    rare: Rare,
    /// The trap flag in the user frame is a tracer's, not the program's own.
    pub(super) forced_trap: bool,
    pub(super) fpu: Option<FpuState>,
    /// What it may do with the pages of each protection key; up to date while it does not run.
    pub(super) key_rights: KeyRights,
    /// It touches user memory, so that the processor's rights must be its own while it runs.
    pub(super) has_keys: bool,
}

pub(super) const FLAGS_OFFSET: usize = core::mem::offset_of!(Thread, flags);
pub(super) const SP_OFFSET: usize = core::mem::offset_of!(Thread, sp);
pub(super) const STACK_TOP_OFFSET: usize = core::mem::offset_of!(Thread, stack_top);

/// No CPU's FPU holds the thread's registers.
pub(super) const NO_CPU: u32 = u32::MAX;

/// What the data segment registers hold. Null in nearly all programs: only those that have segments of their own
/// ([`super::ldt`]), or play with those that there are, load something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Selectors {
    pub(super) ds: u16,
    pub(super) es: u16,
    pub(super) fs: u16,
    pub(super) gs: u16,
}

impl Selectors {
    const NULL: Self = Self { ds: 0, es: 0, fs: 0, gs: 0 };

    /// Those of the processor: the user's, while the kernel runs.
    #[inline]
    pub(super) fn live() -> Self {
        let (ds, es, fs, gs): (u16, u16, u16, u16);
        // SAFETY: reads registers.
        unsafe {
            asm!(
                "mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
                out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags),
            );
        }
        Self { ds, es, fs, gs }
    }

    #[inline]
    fn is_null(self) -> bool {
        self.ds | self.es | self.fs | self.gs == 0
    }

    /// Whether one is of a local table.
    pub(super) fn any_local(self) -> bool {
        (self.ds | self.es | self.fs | self.gs) & TABLE_LOCAL != 0
    }

    /// Loads `ds` and `es`; null for what cannot be loaded.
    ///
    /// # Safety
    /// Interrupts are off, and `entries` is the local table that is loaded.
    pub(super) unsafe fn load_data(self, entries: &[u64]) {
        let (ds, es) = (ldt::loadable(self.ds, entries), ldt::loadable(self.es, entries));
        // SAFETY: they can be loaded, and the kernel uses neither.
        unsafe {
            asm!("mov ds, {0:x}", "mov es, {1:x}", in(reg) ds, in(reg) es, options(nostack, preserves_flags))
        };
    }

    /// Loads all four; the bases of `fs` and `gs` become those of the segments.
    ///
    /// # Safety
    /// Interrupts are off.
    #[cold]
    unsafe fn load(self) {
        let guard = IrqGuard::new();
        // SAFETY: interrupts are off.
        let entries = unsafe { ldt::current(&guard) };
        // SAFETY: as above.
        unsafe { self.load_data(entries) };
        let (fs, gs) = (ldt::loadable(self.fs, entries), ldt::loadable(self.gs, entries));
        // SAFETY: they can be loaded; the kernel does not use fs, and its own gs base is put aside for the moment, in which only
        // an NMI or a machine check can come, which find their way by themselves.
        unsafe {
            asm!(
                "mov fs, {0:x}", "swapgs", "mov gs, {1:x}", "swapgs",
                in(reg) fs, in(reg) gs, options(nostack, preserves_flags),
            );
        }
    }
}

struct BootThread(core::cell::UnsafeCell<Thread>);

// SAFETY: used by the boot CPU only, until the scheduler declares its own.
unsafe impl Sync for BootThread {}

static BOOT_THREAD: BootThread = BootThread(core::cell::UnsafeCell::new(Thread::new()));

crate::per_cpu! {
    /// The running thread; entry code reads its flags.
    pub(super) static CURRENT: usize = 0;
}

impl Thread {
    /// Without a stack; see [`Self::init`].
    pub const fn new() -> Self {
        Self {
            flags: AtomicThreadFlags::new(),
            fpu_cpu: AtomicU32::new(NO_CPU),
            sp: 0,
            stack_top: 0,
            fs_base: 0,
            gs_base: 0,
            selectors: Selectors::NULL,
            debug: DebugRegs::new(),
            rare: Rare::new(),
            forced_trap: false,
            fpu: None,
            key_rights: KeyRights::FRESH,
            has_keys: false,
        }
    }

    /// Gives it a kernel stack; when first switched to it calls `entry(arg)` on it with interrupts off and the
    /// preemption count [`crate::preempt::SWITCH_COUNT`].
    ///
    /// # Safety
    /// `stack_top` is the end of a stack that lives as long as the thread; the thread is not running.
    pub unsafe fn init(&mut self, stack_top: VirtAddr, entry: extern "C" fn(usize) -> !, arg: usize) {
        // What `thread_switch` pops: r15, r14, r13 (entry), r12 (argument), rbx, rbp, return address; the user frame
        // lies above.
        let context = [0, 0, entry as usize, arg, 0, 0, entry::thread_start_address()];
        let sp = stack_top.0 - FRAME_SIZE - size_of_val(&context);
        // SAFETY: within the stack, which is the caller's to give.
        unsafe { core::ptr::with_exposed_provenance_mut::<[usize; 7]>(sp).write(context) };
        self.sp = sp;
        self.stack_top = stack_top.0;
    }

    /// Describes the stack that code already runs on: boot and idle threads.
    pub fn adopt_stack(&mut self, stack_top: VirtAddr) {
        self.stack_top = stack_top.0;
    }

    /// Work flags.
    #[inline]
    pub fn flags(&self) -> &AtomicThreadFlags {
        &self.flags
    }

    /// End of the kernel stack.
    #[inline]
    pub fn stack_top(&self) -> VirtAddr {
        VirtAddr(self.stack_top)
    }

    /// The stack pointer of a thread that is switched out.
    pub(super) fn saved_sp(&self) -> usize {
        self.sp
    }

    /// The frame pointer of a thread that is switched out: where a backtrace of it begins.
    pub fn saved_frame_pointer(&self) -> usize {
        // `thread_switch` pushed rbp first, below the return address.
        self.sp + 5 * 8
    }

    /// The registers of user mode, at the top of the kernel stack.
    #[inline]
    pub fn user_frame(&self) -> *mut TrapFrame {
        core::ptr::with_exposed_provenance_mut(self.stack_top - FRAME_SIZE)
    }

    /// Gives the thread FPU registers (user threads). `Err` without memory.
    #[allow(clippy::result_unit_err)]
    pub fn alloc_fpu(&mut self) -> Result<(), ()> {
        self.fpu = Some(FpuState::new().ok_or(())?);
        self.has_keys = true;
        self.fpu_cpu.store(NO_CPU, Relaxed);
        self.flags.set(ThreadFlags::NEED_FPU_LOAD);
        Ok(())
    }

    /// Copies TLS registers and FPU state of `parent`, which is the running thread, into this new one.
    #[allow(clippy::result_unit_err)]
    pub fn fork_from(&mut self, parent: &mut Self) -> Result<(), ()> {
        {
            let _guard = IrqGuard::new();
            parent.save_bases();
            fpu::save_current(parent);
            self.selectors = Selectors::live();
        }
        self.fs_base = parent.fs_base;
        self.gs_base = parent.gs_base;
        self.forced_trap = parent.forced_trap;
        self.key_rights = pkey::rights();
        self.has_keys = true;
        self.rare = parent.rare.try_clone()?;
        if let Some(fpu) = &parent.fpu {
            self.fpu = Some(fpu.try_clone().ok_or(())?);
            self.fpu_cpu.store(NO_CPU, Relaxed);
            self.flags.set(ThreadFlags::NEED_FPU_LOAD);
        }
        Ok(())
    }

    /// Fresh registers for a new program. The running thread only.
    pub fn reset_for_exec(&mut self) {
        self.set_selectors(Selectors::NULL);
        self.set_tls(0);
        self.set_gs_base(0);
        fpu::reset_current(self);
        let was_active = self.debug.active;
        self.debug = DebugRegs::new();
        if was_active {
            let _guard = IrqGuard::new();
            self.debug.load();
        }
    }

    /// Switches a tracer's single steps on or off: the trap flag, unless the program has set it itself.
    pub fn set_tracer_step(&mut self, frame: &mut TrapFrame, on: bool) {
        if on && frame.rflags & msr::FLAG_TF == 0 {
            self.forced_trap = true;
            frame.set_single_step(true);
        } else if on {
            frame.full_return();
        } else if self.forced_trap {
            self.forced_trap = false;
            frame.set_single_step(false);
        }
    }

    /// Whether reading the cycle counter is a fault (`PR_SET_TSC`).
    pub fn tsc_faults(&self) -> bool {
        self.rare.tsc_faults()
    }

    /// Says whether reading the cycle counter is a fault, also of the running thread.
    pub fn set_tsc_faults(&mut self, on: bool) {
        let _guard = IrqGuard::new();
        self.rare.set_tsc_faults(on);
        if self.is_current() {
            self.rare.load();
        }
    }

    /// The I/O privilege level (`iopl(2)`).
    pub fn io_level(&self) -> u8 {
        self.rare.io_level()
    }

    /// Sets the I/O privilege level of the running thread: 3 allows all ports.
    pub fn set_io_level(&mut self, level: u8) {
        let _guard = IrqGuard::new();
        self.rare.set_io_level(level);
        self.rare.load();
    }

    /// Allows the running thread the I/O ports `ports`, or forbids them (`ioperm(2)`).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_ports(&mut self, ports: core::ops::Range<usize>, allowed: bool) -> Result<(), Errno> {
        if allowed {
            self.rare.reserve_ports()?;
        }
        // A switch in the middle would load half of it.
        let _guard = IrqGuard::new();
        self.rare.set_ports(ports, allowed);
        self.rare.load();
        Ok(())
    }

    fn is_current(&self) -> bool {
        core::ptr::eq(self, current().as_ptr())
    }

    /// The TLS register (fs base).
    pub fn tls(&self) -> usize {
        if self.is_current() && features::has_fsgsbase() {
            // SAFETY: the feature is on.
            return unsafe { insn::rdfsbase() } as usize;
        }
        self.fs_base
    }

    /// Sets the TLS register, also of the running thread. Addresses beyond user space are taken as 0.
    pub fn set_tls(&mut self, tls: usize) {
        self.fs_base = if tls < super::layout::TASK_SIZE { tls } else { 0 };
        if self.is_current() {
            let _guard = IrqGuard::new();
            let now = Selectors::live();
            if now.fs != 0 {
                self.set_selectors(Selectors { fs: 0, ..now });
            }
            // SAFETY: a canonical address, and the kernel does not use fs.
            unsafe { insn::wrmsr(msr::FS_BASE, self.fs_base as u64) };
        }
    }

    /// The data segment registers.
    pub(super) fn selectors(&self) -> Selectors {
        if self.is_current() { Selectors::live() } else { self.selectors }
    }

    /// Sets the data segment registers, also of the running thread; the bases of `fs` and `gs` stay.
    pub(super) fn set_selectors(&mut self, selectors: Selectors) {
        self.selectors = selectors;
        if self.is_current() {
            let _guard = IrqGuard::new();
            self.save_live_bases();
            // SAFETY: interrupts are off.
            unsafe { selectors.load() };
            self.load_bases(usize::MAX);
        }
    }

    /// The user's gs base.
    pub fn gs_base(&self) -> usize {
        if self.is_current() {
            // SAFETY: the MSR exists; while the kernel runs it holds the user's value.
            return unsafe { insn::rdmsr(msr::KERNEL_GS_BASE) } as usize;
        }
        self.gs_base
    }

    /// Sets the user's gs base.
    pub fn set_gs_base(&mut self, base: usize) {
        self.gs_base = if base < super::layout::TASK_SIZE { base } else { 0 };
        if self.is_current() {
            let _guard = IrqGuard::new();
            let now = Selectors::live();
            if now.gs != 0 {
                let base = self.gs_base;
                self.set_selectors(Selectors { gs: 0, ..now });
                self.gs_base = base;
            }
            // SAFETY: the user's value, not the kernel's own.
            unsafe { insn::wrmsr(msr::KERNEL_GS_BASE, self.gs_base as u64) };
        }
    }

    /// FPU registers in memory, up to date: of the running thread they are saved first, and loaded again before user mode.
    pub fn fpu_mut(&mut self) -> Option<&mut FpuState> {
        if self.is_current() {
            let _guard = IrqGuard::new();
            fpu::save_current(self);
        }
        // The caller may change them: no CPU's registers are good any more.
        self.fpu_cpu.store(NO_CPU, Relaxed);
        self.fpu.as_mut()
    }

    /// What it may do with the pages of each protection key.
    pub(super) fn key_rights(&self) -> KeyRights {
        if self.is_current() { pkey::rights() } else { self.key_rights }
    }

    /// Sets what it may do, also of the running thread.
    pub(super) fn set_key_rights(&mut self, rights: KeyRights) {
        self.key_rights = rights;
        if self.is_current() {
            pkey::set_rights(rights);
        }
    }

    #[inline]
    fn save_bases(&mut self) {
        if features::has_fsgsbase() {
            // SAFETY: the feature is on, and the thread is the running one.
            unsafe {
                self.fs_base = insn::rdfsbase() as usize;
                self.gs_base = insn::read_inactive_gs() as usize;
            }
        }
    }

    /// As [`Self::save_bases`], also where programs change the bases only by loading segments.
    #[cold]
    fn save_live_bases(&mut self) {
        // SAFETY: the registers exist; while the kernel runs the second holds the user's gs base.
        unsafe {
            self.fs_base = insn::rdmsr(msr::FS_BASE) as usize;
            self.gs_base = insn::rdmsr(msr::KERNEL_GS_BASE) as usize;
        }
    }

    #[inline]
    fn load_bases(&self, live_gs: usize) {
        // SAFETY: user addresses (or, with FSGSBASE, whatever canonical value the program chose for itself).
        unsafe {
            if features::has_fsgsbase() {
                insn::wrfsbase(self.fs_base as u64);
            } else {
                insn::wrmsr(msr::FS_BASE, self.fs_base as u64);
            }
            if self.gs_base != live_gs {
                insn::wrmsr(msr::KERNEL_GS_BASE, self.gs_base as u64);
            }
        }
    }
}

impl Default for Thread {
    fn default() -> Self {
        Self::new()
    }
}

/// The running thread.
#[inline]
pub fn current() -> NonNull<Thread> {
    let thread = core::ptr::with_exposed_provenance_mut(this_cpu_read!(CURRENT, usize));
    // SAFETY: set by `set_boot_current` before anything asks, and never to null.
    unsafe { NonNull::new_unchecked(thread) }
}

/// Declares which thread runs now, without a switch: boot and idle threads.
///
/// # Safety
/// `thread` is live and describes the stack this code runs on.
pub unsafe fn set_current(thread: NonNull<Thread>) {
    // SAFETY: the caller's promise.
    unsafe {
        this_cpu_write!(CURRENT, thread.as_ptr().expose_provenance());
        super::desc::set_kernel_stack(thread.as_ref().stack_top);
    }
}

/// Declares which thread a CPU that has not started yet will run.
///
/// # Safety
/// The CPU is not running, and the thread lives for ever.
pub(super) unsafe fn set_current_of(cpu: crate::cpu::CpuId, thread: *mut Thread) {
    let current = core::ptr::from_ref(&CURRENT)
        .wrapping_byte_add(crate::percpu::offset_of(cpu))
        .cast::<usize>()
        .cast_mut();
    // SAFETY: the caller's promise: nobody else uses that CPU's copy.
    unsafe { current.write(thread.expose_provenance()) };
}

/// The boot CPU runs on the boot thread until the scheduler says otherwise.
///
/// # Safety
/// Boot CPU, before anything asks for the current thread.
pub(super) unsafe fn set_boot_current(stack_top: usize) {
    // SAFETY: nobody else uses the boot thread.
    unsafe {
        let thread = BOOT_THREAD.0.get();
        (*thread).stack_top = stack_top;
        this_cpu_write!(CURRENT, thread.expose_provenance());
    }
}

/// Switches from the running thread `prev` to `next`; returns when something switches back. Interrupts off, preemption
/// count [`crate::preempt::SWITCH_COUNT`]. Returns the thread that ran on this CPU just before (not `prev`).
///
/// # Safety
/// `prev` is the running thread, `next` is initialised and runs nowhere; both stay alive.
#[inline]
pub unsafe fn switch(prev: *mut Thread, next: *mut Thread) -> *mut Thread {
    // SAFETY: the caller's promise: both are live, and nobody else touches their saved registers.
    unsafe {
        if (*prev).debug.active || (*next).debug.active {
            (*next).debug.load();
        }
        if (*prev).rare.active || (*next).rare.active {
            (*next).rare.load();
        }
        pkey::switch(&mut *prev, &*next);
        let live = Selectors::live();
        let mut live_gs = if (*prev).fpu.is_some() {
            (*prev).save_bases();
            (*prev).selectors = live;
            if !live.is_null() {
                (*prev).save_live_bases();
            }
            fpu::switch_out(&mut *prev);
            (*prev).gs_base
        } else {
            usize::MAX
        };
        if (*next).fpu.is_some() {
            if !live.is_null() || !(*next).selectors.is_null() {
                (*next).selectors.load();
                live_gs = usize::MAX;
            }
            (*next).load_bases(live_gs);
            (*next).flags.set(ThreadFlags::NEED_FPU_LOAD);
        }
        entry::thread_switch(prev, next)
    }
}
