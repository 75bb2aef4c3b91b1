//! The machine part of a thread.
//!
//! SP_EL0 holds the running thread while the kernel runs. The top 16 bytes of a kernel stack repeat that address, for
//! the entry from user mode (see `vectors.rs`); below them lies the user's [`TrapFrame`]:
//!
//! ```text
//! stack_top      ->  +--------------------+
//!                    | thread, 0          |  <- SP_EL1 in user mode
//!                    +--------------------+
//!                    | TrapFrame of user  |  <- user_frame(), the first SP of a new thread
//!                    +--------------------+
//! ```
//!
//! The CPU number and the preemption word live here too: one register and one load reach them.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::ptr::NonNull;

use super::debug::DebugRegs;
use super::preempt::NO_RESCHED;
use super::sysreg::{read_sysreg, write_sysreg};
use super::{debug, fpu};
use crate::addr::VirtAddr;
use crate::fpu::FpuState;
use crate::layout::{DIRECT_MAP, KERNEL_STACK_SIZE};
use crate::preempt::SWITCH_COUNT;
use crate::thread::{AtomicThreadFlags, ThreadFlags};
use crate::trap::TrapFrame;

/// Bytes above the user's frame.
pub(super) const STACK_SLOT: usize = 16;

/// Registers that a function call preserves: what a switch saves.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Context {
    x19_x28: [u64; 10],
    fp: u64,
    sp: u64,
    lr: u64,
}

/// What the architecture keeps for a thread; the first field of a task.
#[repr(C)]
pub struct Thread {
    pub(super) flags: AtomicThreadFlags,
    /// The CPU it runs on or ran on last.
    pub(super) cpu: u32,
    pub(super) preempt: u64,
    /// Where the stack overflows; without a stack of its own (boot), the lowest kernel address.
    pub(super) stack_bottom: usize,
    stack_top: usize,
    context: Context,
    tls: usize,
    /// The CPU whose FP registers were loaded from `fpu` last; `NO_CPU`: none may be trusted.
    pub(super) fpu_cpu: u32,
    /// `fpu` is newer than the registers, although the thread runs: load it before user mode.
    pub(super) fpu_reload: bool,
    /// This CPU's MDSCR_EL1.SS is set on its behalf.
    pub(super) stepping: bool,
    /// Reading the counter is a fault (`PR_SET_TSC`): this CPU's CNTKCTL_EL1.EL0VCTEN is clear while it runs.
    tsc_faults: bool,
    /// Breakpoints of a tracer.
    pub(super) debug: DebugRegs,
    /// Depth of [`crate::uaccess::NoFault`].
    pub(super) no_fault: u32,
    /// ESR of the last fault sent as a signal, for `esr_context`; 0: none.
    pub(super) fault_esr: u64,
    fpu: Option<FpuState>,
}

/// See [`Thread::fpu_cpu`].
pub(super) const NO_CPU: u32 = u32::MAX;

// SAFETY: raw addresses in it are of the thread's own stack; everything that other CPUs touch is atomic.
unsafe impl Send for Thread {}
// SAFETY: as above; non-atomic fields are changed by the running thread or the scheduler while it does not run.
unsafe impl Sync for Thread {}

global_asm!(
    r#"
    .section .text.hot, "ax"
    .balign 64
// x0: prev, x1: next. Returns prev in x0, on the stack of next.
    .globl  arch_switch
arch_switch:
    stp     x19, x20, [x0, #{CTX} + 0]
    stp     x21, x22, [x0, #{CTX} + 16]
    stp     x23, x24, [x0, #{CTX} + 32]
    stp     x25, x26, [x0, #{CTX} + 48]
    stp     x27, x28, [x0, #{CTX} + 64]
    mov     x9, sp
    stp     x29, x9, [x0, #{CTX} + 80]
    str     x30, [x0, #{CTX} + 96]
    ldp     x19, x20, [x1, #{CTX} + 0]
    ldp     x21, x22, [x1, #{CTX} + 16]
    ldp     x23, x24, [x1, #{CTX} + 32]
    ldp     x25, x26, [x1, #{CTX} + 48]
    ldp     x27, x28, [x1, #{CTX} + 64]
    ldp     x29, x9, [x1, #{CTX} + 80]
    ldr     x30, [x1, #{CTX} + 96]
    mov     sp, x9
    msr     sp_el0, x1
    ret

    .globl  arch_thread_start
arch_thread_start:
    mov     x0, x20
    mov     x30, xzr
    br      x19

// x0: the user frame of the current thread.
    .globl  arch_enter_user
arch_enter_user:
    mov     sp, x0
    b       arch_ret_to_user
    "#,
    CTX = const offset_of!(Thread, context),
);

#[allow(improper_ctypes, reason = "the assembler sees a pointer")]
unsafe extern "C" {
    fn arch_switch(prev: *mut Thread, next: *mut Thread) -> *mut Thread;
    fn arch_thread_start();
    fn arch_enter_user(frame: *mut TrapFrame) -> !;
}

impl Thread {
    /// Without a stack; see [`Self::init`].
    pub const fn new() -> Self {
        Self::with_count(SWITCH_COUNT)
    }

    /// With a preemption count.
    const fn with_count(count: u32) -> Self {
        Self {
            flags: AtomicThreadFlags::new(),
            cpu: 0,
            preempt: count as u64 | NO_RESCHED,
            stack_bottom: DIRECT_MAP,
            stack_top: 0,
            context: Context { x19_x28: [0; 10], fp: 0, sp: 0, lr: 0 },
            tls: 0,
            fpu_cpu: NO_CPU,
            fpu_reload: false,
            stepping: false,
            tsc_faults: false,
            debug: DebugRegs::new(),
            no_fault: 0,
            fault_esr: 0,
            fpu: None,
        }
    }

    /// Gives it a kernel stack; when first switched to it calls `entry(arg)` on it with interrupts off and the
    /// preemption count [`crate::preempt::SWITCH_COUNT`].
    ///
    /// # Safety
    /// `stack_top` is the end of a stack that lives as long as the thread; the thread is not running.
    pub unsafe fn init(&mut self, stack_top: VirtAddr, entry: extern "C" fn(usize) -> !, arg: usize) {
        self.stack_top = stack_top.0;
        self.stack_bottom = stack_top.0 - KERNEL_STACK_SIZE;
        self.preempt = u64::from(SWITCH_COUNT) | NO_RESCHED;
        self.context = Context::default();
        self.context.x19_x28[0] = entry as usize as u64;
        self.context.x19_x28[1] = arg as u64;
        self.context.sp = self.user_frame().addr() as u64;
        self.context.lr = arch_thread_start as unsafe extern "C" fn() as usize as u64;
    }

    /// Describes the stack that code already runs on: boot and idle threads.
    pub fn adopt_stack(&mut self, stack_top: VirtAddr) {
        self.stack_top = stack_top.0;
        self.stack_bottom = stack_top.0 - KERNEL_STACK_SIZE;
    }

    /// The frame pointer of a thread that is switched out: where a backtrace of it begins.
    pub fn saved_frame_pointer(&self) -> usize {
        self.context.fp as usize
    }

    /// Work flags.
    #[inline]
    pub fn flags(&self) -> &AtomicThreadFlags {
        &self.flags
    }

    /// End of the kernel stack.
    pub fn stack_top(&self) -> VirtAddr {
        VirtAddr(self.stack_top)
    }

    /// The registers of user mode, at the top of the kernel stack.
    #[inline]
    pub fn user_frame(&self) -> *mut TrapFrame {
        core::ptr::with_exposed_provenance_mut(self.stack_top - STACK_SLOT - size_of::<TrapFrame>())
    }

    /// Gives the thread FPU registers (user threads). `Err` without memory.
    #[allow(clippy::result_unit_err, reason = "there is one way to fail")]
    pub fn alloc_fpu(&mut self) -> Result<(), ()> {
        if self.fpu.is_none() {
            self.fpu = Some(FpuState::new().ok_or(())?);
            self.fpu_cpu = NO_CPU;
            if self.is_current() {
                self.reload_fpu_later();
            }
        }
        Ok(())
    }

    /// Copies TLS registers and FPU state of `parent`, which is the running thread, into this new one.
    #[allow(clippy::result_unit_err, reason = "there is one way to fail")]
    pub fn fork_from(&mut self, parent: &mut Thread) -> Result<(), ()> {
        self.tls = parent.tls();
        self.fault_esr = 0;
        self.tsc_faults = parent.tsc_faults;
        if let Some(from) = parent.fpu_saved() {
            let copy = from.try_clone().ok_or(())?;
            self.fpu = Some(copy);
            self.fpu_cpu = NO_CPU;
        }
        Ok(())
    }

    /// Fresh registers for a new program. The running thread only.
    pub fn reset_for_exec(&mut self) {
        self.set_tls(0);
        self.fault_esr = 0;
        let before = core::mem::replace(&mut self.debug, DebugRegs::new());
        if before.active {
            let _off = crate::irq::IrqGuard::new();
            self.debug.load();
        }
        drop(before);
        if let Some(fpu) = &mut self.fpu {
            fpu.reset();
            self.reload_fpu_later();
        }
    }

    /// There are no I/O ports: level 0.
    pub fn io_level(&self) -> u8 {
        0
    }

    /// Does nothing.
    pub fn set_io_level(&mut self, _level: u8) {}

    /// There are no I/O ports.
    ///
    /// # Errors
    /// `ENOSYS`.
    pub fn set_ports(&mut self, _ports: core::ops::Range<usize>, _allowed: bool) -> Result<(), abi::Errno> {
        Err(abi::Errno::ENOSYS)
    }

    /// Whether reading the counter is a fault (`PR_SET_TSC`).
    pub fn tsc_faults(&self) -> bool {
        self.tsc_faults
    }

    /// Says whether reading the counter is a fault, also of the running thread.
    pub fn set_tsc_faults(&mut self, on: bool) {
        let _off = crate::irq::IrqGuard::new();
        self.tsc_faults = on;
        if self.is_current() {
            allow_counter(!on);
        }
    }

    /// Switches a tracer's single steps on or off.
    pub fn set_tracer_step(&mut self, frame: &mut TrapFrame, on: bool) {
        frame.set_single_step(on);
        self.stepping = on;
        // Whatever path it is on, it goes by the slow way out, which looks at the above.
        self.flags.set(ThreadFlags::FULL_RETURN);
    }

    /// The TLS register (x86 fs base, arm64 TPIDR_EL0).
    pub fn tls(&self) -> usize {
        if self.is_current() { read_tls() } else { self.tls }
    }

    /// Sets the TLS register, also of the running thread.
    pub fn set_tls(&mut self, tls: usize) {
        self.tls = tls;
        if self.is_current() {
            write_tls(tls);
        }
    }

    /// The second TLS register, which this architecture has not got.
    pub fn gs_base(&self) -> usize {
        0
    }

    /// See [`Self::gs_base`].
    pub fn set_gs_base(&mut self, _base: usize) {}

    /// FPU registers in memory, up to date: of the running thread they are saved first, and loaded again before it
    /// returns to user mode.
    pub fn fpu_mut(&mut self) -> Option<&mut FpuState> {
        self.fpu_saved()?;
        if self.is_current() {
            self.reload_fpu_later();
        }
        self.fpu_cpu = NO_CPU;
        self.fpu.as_mut()
    }

    /// FPU registers in memory, up to date, to be read only.
    pub(super) fn fpu_saved(&mut self) -> Option<&FpuState> {
        let current = self.is_current();
        let fpu = self.fpu.as_mut()?;
        if current && !self.fpu_reload {
            fpu.save();
        }
        Some(fpu)
    }

    /// Memory is newer than the registers of this running thread: the exit to user mode loads them.
    fn reload_fpu_later(&mut self) {
        self.fpu_reload = true;
        self.flags.set(ThreadFlags::FULL_RETURN);
    }

    /// The other half of [`Self::reload_fpu_later`]; interrupts off, running thread.
    pub(super) fn finish_full_return(&mut self) {
        self.flags.clear(ThreadFlags::FULL_RETURN);
        if self.fpu_reload {
            self.fpu_reload = false;
            let me = self as *mut Thread;
            if let Some(fpu) = &self.fpu {
                fpu::load_for(me, fpu);
                self.fpu_cpu = self.cpu;
            }
        }
    }

    fn is_current(&self) -> bool {
        core::ptr::eq(self, current().as_ptr())
    }
}

impl Default for Thread {
    fn default() -> Self {
        Self::new()
    }
}

#[inline(always)]
fn read_tls() -> usize {
    let tls: usize;
    // SAFETY: reads the user's thread pointer.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) tls, options(nomem, nostack, preserves_flags)) };
    tls
}

#[inline(always)]
fn write_tls(tls: usize) {
    // SAFETY: the kernel does not use this register.
    unsafe { asm!("msr tpidr_el0, {}", in(reg) tls, options(nomem, nostack, preserves_flags)) };
}

/// The running thread.
#[inline(always)]
pub fn current() -> NonNull<Thread> {
    let thread: *mut Thread;
    // SAFETY: SP_EL0 holds the current thread, never null, whenever the kernel runs Rust code. `readonly` in place of
    // `nomem`: `set_current` changes it within a function, as if it were memory.
    unsafe {
        asm!("mrs {}, sp_el0", out(reg) thread, options(pure, readonly, nostack, preserves_flags));
        NonNull::new_unchecked(thread)
    }
}

/// Declares which thread runs now, without a switch: boot and idle threads. It takes over CPU number and preemption
/// count of the one before.
///
/// # Safety
/// `thread` is live and describes the stack this code runs on.
pub unsafe fn set_current(thread: NonNull<Thread>) {
    let before = current().as_ptr();
    let thread = thread.as_ptr();
    if before == thread {
        return;
    }
    // SAFETY: both are live; this CPU is the only one that uses these fields.
    unsafe {
        (*thread).cpu = (*before).cpu;
        (*thread).preempt = (*before).preempt;
        asm!("msr sp_el0, {}", in(reg) thread, options(nostack, preserves_flags));
    }
}

/// Lets user mode read the counter, or not: CNTKCTL_EL1.EL0VCTEN. Interrupts off.
fn allow_counter(on: bool) {
    const EL0VCTEN: u64 = 1 << 1;
    let control = read_sysreg!("cntkctl_el1");
    write_sysreg!("cntkctl_el1", if on { control | EL0VCTEN } else { control & !EL0VCTEN });
}

/// Switches from the running thread `prev` to `next`; returns when something switches back. Interrupts off, preemption
/// count [`crate::preempt::SWITCH_COUNT`]. Returns the thread that ran on this CPU just before (not `prev`).
///
/// # Safety
/// `prev` is the running thread, `next` is initialised and runs nowhere; both stay alive.
#[inline]
pub unsafe fn switch(prev: *mut Thread, next: *mut Thread) -> *mut Thread {
    // SAFETY: as the caller promises; interrupts are off, so nobody else touches either thread's machine part.
    unsafe {
        (*prev).tls = read_tls();
        if let Some(fpu) = &mut (*prev).fpu
            && !(*prev).fpu_reload
        {
            fpu.save();
        }
        if (*prev).debug.active || (*next).debug.active {
            (*next).debug.load();
        }
        if (*prev).tsc_faults != (*next).tsc_faults {
            allow_counter(!(*next).tsc_faults);
        }
        if (*prev).stepping {
            // Others are not stepped; the slow way out switches it on again.
            debug::set_stepping(false);
            (*prev).flags.set(ThreadFlags::FULL_RETURN);
        }
        let cpu = (*prev).cpu;
        if let Some(fpu) = &(*next).fpu
            && !(*next).fpu_reload
            && ((*next).fpu_cpu != cpu || !fpu::is_owner(next))
        {
            fpu::load_for(next, fpu);
            (*next).fpu_cpu = cpu;
        }
        (*next).cpu = cpu;
        write_tls((*next).tls);
        if (*next).stack_top != 0 {
            core::ptr::with_exposed_provenance_mut::<*mut Thread>((*next).stack_top - STACK_SLOT).write(next);
        }
        arch_switch(prev, next)
    }
}

/// See [`crate::trap::return_to_user`].
///
/// # Safety
/// As there.
pub(super) unsafe fn enter_user() -> ! {
    let thread = current().as_ptr();
    // SAFETY: the frame lies on the current stack, whose contents above it nobody needs any more.
    unsafe { arch_enter_user((*thread).user_frame()) }
}

struct BootThread(core::cell::UnsafeCell<Thread>);

// SAFETY: only the boot CPU uses it, as its current thread.
unsafe impl Sync for BootThread {}

/// Current from the first instruction in Rust until the scheduler has a thread for it.
#[unsafe(export_name = "arch_boot_thread")]
static BOOT_THREAD: BootThread = BootThread(core::cell::UnsafeCell::new(Thread::with_count(0)));

pub(super) fn boot_thread() -> *mut Thread {
    BOOT_THREAD.0.get()
}

impl Thread {
    /// Declares the CPU of a thread that has not run yet.
    pub(super) fn set_cpu(&mut self, cpu: crate::cpu::CpuId) {
        self.cpu = cpu.0;
    }
}

/// Begins the current thread (an idle thread) at its entry, as the first switch to it would.
///
/// # Safety
/// The current thread was initialised and did not run; its stack is current and empty.
pub(super) unsafe fn start_current() -> ! {
    let thread = current().as_ptr();
    // SAFETY: `init` put entry and argument there.
    unsafe {
        let entry =
            core::mem::transmute::<usize, extern "C" fn(usize) -> !>((*thread).context.x19_x28[0] as usize);
        entry((*thread).context.x19_x28[1] as usize)
    }
}
