//! The user's registers, decoding of exceptions, and the way back to user mode.
//!
//! Each `arch_trap_*` function here is called by the vector of the same purpose in `vectors.rs`, with interrupts masked
//! unless it says otherwise. [`super::esr`] decodes syndromes; this file turns them into calls of the
//! [`TrapHandler`](crate::trap::TrapHandler).

use core::fmt;

use super::esr::{self, Abort, Cause};
use super::sysreg::read_sysreg;
use super::{debug, emulate, extable, intc, thread};
use crate::addr::VirtAddr;
use crate::preempt;
use crate::thread::{Thread, ThreadFlags};
use crate::trap::{
    Access, Exception, ExceptionKind, Fault, FaultResult, Oops, Restart, SyscallStop, TrapHandler, handler,
};

/// All registers of user mode (or of an interrupted kernel), as saved on the kernel stack. Begins as `user_pt_regs`.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapFrame {
    pub(super) regs: [u64; 31],
    pub(super) sp: u64,
    pub(super) pc: u64,
    pub(super) pstate: u64,
    /// x0 on entry of a system call.
    pub(super) orig_x0: u64,
    /// Low 32 bits: the system call, or -1.
    pub(super) syscallno: u64,
    /// Frame record for backtraces.
    pub(super) record: [u64; 2],
}

/// Bytes of the register set that ptrace and core dumps show (`NT_PRSTATUS`: `user_pt_regs`).
pub const USER_REGS_SIZE: usize = 34 * 8;

/// PSTATE bits by name.
pub(super) mod pstate {
    /// Exception level and stack pointer, AArch32.
    pub const MODE: u64 = 0x1f;
    /// IRQ mask.
    pub const I: u64 = 1 << 7;
    /// Branch type (BTI).
    pub const BTYPE: u64 = 3 << 10;
    /// Speculative store bypass safe.
    pub const SSBS: u64 = 1 << 12;
    /// Single step.
    pub const SS: u64 = 1 << 21;
    /// Data independent timing.
    pub const DIT: u64 = 1 << 24;
    /// Tag check override.
    pub const TCO: u64 = 1 << 25;
    /// Condition flags.
    pub const NZCV: u64 = 0xf << 28;
}

/// `restart_syscall(2)`.
const NR_RESTART_SYSCALL: u64 = 128;

/// A system call that signals interrupted.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    result: Option<isize>,
    /// Where it was rewound to.
    at: u64,
}

impl TrapFrame {
    /// The number of the system call: as it was asked for, and after tracers changed it. -1: none in progress.
    #[inline]
    pub fn syscall_nr(&self) -> isize {
        self.syscallno as i32 as isize
    }

    /// Changes the system call (tracer); -1 skips it, and marks "no system call to restart".
    pub fn set_syscall_nr(&mut self, nr: isize) {
        self.syscallno = nr as u64;
    }

    /// The six arguments.
    #[inline]
    pub fn syscall_args(&self) -> [usize; 6] {
        let r = &self.regs;
        [r[0] as usize, r[1] as usize, r[2] as usize, r[3] as usize, r[4] as usize, r[5] as usize]
    }

    /// The system call's result.
    #[inline]
    pub fn set_return(&mut self, value: isize) {
        self.regs[0] = value as u64;
    }

    /// The result register.
    #[inline]
    pub fn return_value(&self) -> isize {
        self.regs[0] as isize
    }

    /// Program counter.
    #[inline]
    pub fn ip(&self) -> usize {
        self.pc as usize
    }

    /// Sets the program counter.
    pub fn set_ip(&mut self, ip: usize) {
        self.pc = ip as u64;
    }

    /// Stack pointer.
    #[inline]
    pub fn sp(&self) -> usize {
        self.sp as usize
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: usize) {
        self.sp = sp as u64;
    }

    /// The frame pointer: where a backtrace begins.
    #[inline]
    pub fn fp(&self) -> usize {
        self.regs[29] as usize
    }

    /// Whether interrupts were on.
    #[inline]
    pub fn interrupts_on(&self) -> bool {
        self.pstate & pstate::I == 0
    }

    /// One instruction of user mode, then a debug exception. The frame of a thread that is on its slow way out
    /// (`ThreadFlags::EXIT_WORK` or `FULL_RETURN`).
    pub fn set_single_step(&mut self, on: bool) {
        if on {
            self.pstate |= pstate::SS;
        } else {
            self.pstate &= !pstate::SS;
        }
    }

    /// Whether user mode was interrupted.
    #[inline]
    pub fn is_user(&self) -> bool {
        self.pstate & pstate::MODE == 0
    }

    /// Registers of a fresh program: everything zero but these.
    pub fn set_user_entry(&mut self, entry: usize, sp: usize) {
        *self = Self { pc: entry as u64, sp: sp as u64, syscallno: u64::MAX, ..Self::default() };
    }

    /// Puts the registers back as the system call found them, without going back to its instruction.
    pub fn rollback_syscall(&mut self) {
        self.regs[0] = self.orig_x0;
    }

    /// Signals are about to be taken, perhaps after a system call; `asks` says whether its result asks for a restart.
    /// Tracers then see the call as one that is to be made again, which it is unless [`Self::finish_restart`] ends it.
    pub fn begin_restart(&mut self, asks: impl Fn(isize) -> bool) -> Interrupted {
        let result = self.return_value();
        let call = self.syscall_nr();
        self.set_syscall_nr(-1);
        if call < 0 || !asks(result) {
            return Interrupted { result: None, at: 0 };
        }
        self.regs[0] = self.orig_x0;
        self.pc = self.pc.wrapping_sub(4);
        Interrupted { result: Some(result), at: self.pc }
    }

    /// The result of the system call that was interrupted, if it is still to be decided about.
    pub fn interrupted_result(&self, interrupted: &Interrupted) -> Option<isize> {
        // A tracer that sends the program elsewhere has decided.
        interrupted.result.filter(|_| self.pc == interrupted.at)
    }

    /// Does with the interrupted system call what was decided.
    pub fn finish_restart(&mut self, interrupted: Interrupted, what: Restart) {
        match what {
            Restart::Again => {}
            Restart::Block => self.regs[8] = NR_RESTART_SYSCALL,
            Restart::End(result) => {
                self.set_return(result);
                self.pc = interrupted.at.wrapping_add(4);
            }
        }
    }

    /// A stop for a tracer begins: x7 says which of the two it is. Returns the program's x7.
    pub fn begin_syscall_stop(&mut self, at: SyscallStop) -> u64 {
        core::mem::replace(&mut self.regs[7], u64::from(at == SyscallStop::Exit))
    }

    /// The other half of [`Self::begin_syscall_stop`].
    pub fn end_syscall_stop(&mut self, saved: u64) {
        self.regs[7] = saved;
    }

    /// `user_pt_regs`.
    pub fn user_regs(&self, _thread: &Thread) -> [u8; USER_REGS_SIZE] {
        let mut out = [0; USER_REGS_SIZE];
        let words = self.regs.iter().chain([&self.sp, &self.pc, &self.pstate]);
        for (bytes, word) in out.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    /// Takes `user_pt_regs` over from a tracer or a signal frame, as far as user mode may choose them; false (and the
    /// frame unusable for user mode made usable) if PSTATE asked for another mode.
    pub fn set_user_regs(&mut self, _thread: &mut Thread, data: &[u8; USER_REGS_SIZE]) -> bool {
        let mut words = data
            .chunks_exact(8)
            .map(|b| u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
        for reg in &mut self.regs {
            *reg = words.next().unwrap_or(0);
        }
        self.sp = words.next().unwrap_or(0);
        self.pc = words.next().unwrap_or(0);
        self.pstate = words.next().unwrap_or(0);
        self.sanitise_pstate()
    }

    /// Keeps of PSTATE what user mode may have; whether it was all right.
    pub(super) fn sanitise_pstate(&mut self) -> bool {
        const USER: u64 =
            pstate::NZCV | pstate::TCO | pstate::DIT | pstate::SS | pstate::SSBS | pstate::BTYPE;
        // Linux clears reserved bits silently and rejects another mode, masked interrupts, or IL-free AArch32.
        let ok = self.pstate & (pstate::MODE | 0x3c0) == 0;
        self.pstate &= USER;
        ok
    }

    /// Prints the registers as an oops shows them.
    pub fn write(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(w, "pstate: {:08x} ({})", self.pstate, if self.is_user() { "EL0" } else { "EL1" })?;
        writeln!(w, "pc : {:016x}", self.pc)?;
        writeln!(w, "lr : {:016x}", self.regs[30])?;
        writeln!(w, "sp : {:016x}", self.sp)?;
        for n in (0..30).rev().step_by(3) {
            writeln!(
                w,
                "x{:<2}: {:016x} x{:<2}: {:016x} x{:<2}: {:016x}",
                n,
                self.regs[n],
                n - 1,
                self.regs[n - 1],
                n - 2,
                self.regs[n - 2]
            )?;
        }
        Ok(())
    }
}

/// Leaves for user mode with the frame at the top of the current thread's stack, after the exit work. Never returns.
///
/// # Safety
/// The current thread's user frame was filled in, and its address space is loaded.
pub unsafe fn return_to_user() -> ! {
    // SAFETY: as the caller promises.
    unsafe { thread::enter_user() }
}

/// Unmasks everything: the state in which system calls and user faults run.
#[inline(always)]
fn unmask_all() {
    // SAFETY: the interrupted code is user mode, where nothing is masked.
    unsafe { core::arch::asm!("msr daifclr, #0xf", options(nostack, preserves_flags)) };
}

/// The kernel; traps from user mode do not occur before it is registered.
#[inline(always)]
fn kernel() -> &'static dyn TrapHandler {
    match handler() {
        Some(handler) => handler,
        None => die("trap before the kernel is ready", None),
    }
}

/// Interrupts on.
#[unsafe(no_mangle)]
extern "C" fn arch_trap_syscall(frame: &mut TrapFrame) {
    kernel().syscall(frame);
}

/// The slow way out to user mode; interrupts off at call and return.
#[unsafe(no_mangle)]
#[cold]
extern "C" fn arch_exit_work(frame: &mut TrapFrame) {
    loop {
        let flags = crate::thread::current_ref().flags().load();
        if flags.intersects(ThreadFlags::EXIT_WORK) {
            unmask_all();
            kernel().exit_to_user(frame, flags);
            crate::irq::local_disable();
        } else if flags.contains(ThreadFlags::FULL_RETURN) {
            // SAFETY: the running thread, interrupts off: nobody else uses its machine part.
            unsafe { thread::current().as_mut() }.finish_full_return();
        } else {
            break;
        }
    }
    // SAFETY: as above.
    let thread = unsafe { thread::current().as_mut() };
    if thread.stepping || frame.pstate & pstate::SS != 0 {
        thread.stepping = true;
        debug::set_stepping(true);
    }
}

#[unsafe(no_mangle)]
extern "C" fn arch_trap_irq_user(frame: &mut TrapFrame) {
    interrupt(frame);
}

#[unsafe(no_mangle)]
extern "C" fn arch_trap_irq_kernel(frame: &mut TrapFrame) {
    interrupt(frame);
    if super::preempt::due()
        && let Some(handler) = handler()
    {
        handler.preempt_irq();
    }
}

fn interrupt(frame: &mut TrapFrame) {
    preempt::hardirq_enter();
    intc::handle(frame);
    preempt::hardirq_exit();
    if let Some(handler) = handler() {
        handler.irq_exit();
    }
}

#[unsafe(no_mangle)]
extern "C" fn arch_trap_sync_user(frame: &mut TrapFrame, esr: u64, far: u64) {
    unmask_all();
    let cause = esr::decode(esr);
    match cause {
        Cause::DataAbort(abort) | Cause::InstructionAbort(abort) if abort.is_page_fault() => {
            // SAFETY: the running thread's own field, read again by this thread only.
            unsafe { thread::current().as_mut() }.fault_esr = user_esr(esr, far);
            let _ = kernel().page_fault(frame, fault(cause, abort, far, true));
            if !crate::thread::current_ref().flags().contains(ThreadFlags::SIGPENDING) {
                // SAFETY: as above. Resolved: signals that come later have nothing to do with it.
                unsafe { thread::current().as_mut() }.fault_esr = 0;
            }
        }
        Cause::Unknown | Cause::SystemRegister if emulate::system_register(frame, esr) => {}
        Cause::MemoryCopy => emulate::restart_memory_copy(frame, esr),
        _ => user_exception(frame, cause, esr, far),
    }
}

/// ESR as user mode may see it: a fault at a kernel address says no more than "translation fault".
fn user_esr(esr: u64, far: u64) -> u64 {
    if far >> 55 & 1 != 0 { esr & !0x3f | 0b000111 } else { esr }
}

fn fault(cause: Cause, abort: Abort, far: u64, from_user: bool) -> Fault {
    let access = match cause {
        Cause::InstructionAbort(_) => Access::Exec,
        _ if abort.write => Access::Write,
        _ => Access::Read,
    };
    Fault {
        addr: VirtAddr(esr::untag(far) as usize),
        access,
        from_user,
        protection: abort.is_present(),
        pkey: false,
    }
}

/// What Linux sends for each cause.
fn user_exception(frame: &mut TrapFrame, cause: Cause, esr: u64, far: u64) {
    use ExceptionKind as K;
    use esr::signals as s;
    let pc = frame.ip();
    let far = esr::untag(far) as usize;
    let (kind, signo, si_code, addr) = match cause {
        Cause::DataAbort(a) | Cause::InstructionAbort(a) if a.is_alignment() => {
            (K::Alignment, s::SIGBUS, s::BUS_ADRALN, far)
        }
        Cause::DataAbort(_) | Cause::InstructionAbort(_) => (K::HardwareError, s::SIGBUS, s::BUS_OBJERR, far),
        Cause::PcAlignment => (K::Alignment, s::SIGBUS, s::BUS_ADRALN, far),
        Cause::SpAlignment => (K::Alignment, s::SIGBUS, s::BUS_ADRALN, frame.sp()),
        Cause::FloatingPoint => (K::FloatingPoint, s::SIGFPE, esr::fp_code(esr), pc),
        Cause::Breakpoint => (K::Breakpoint, s::SIGTRAP, s::TRAP_BRKPT, pc),
        Cause::SingleStep => {
            frame.pstate &= !pstate::SS;
            stop_stepping();
            (K::Debug, s::SIGTRAP, s::TRAP_TRACE, pc)
        }
        Cause::HardwareBreakpoint => (K::Debug, s::SIGTRAP, s::TRAP_HWBKPT, pc),
        Cause::Watchpoint => (K::Debug, s::SIGTRAP, s::TRAP_HWBKPT, far),
        // The counter, for a thread that must not read it.
        Cause::SystemRegister if crate::thread::current_ref().tsc_faults() => {
            (K::Protection, s::SIGSEGV, s::SI_KERNEL, 0)
        }
        Cause::PointerAuthentication => (K::IllegalInstruction, s::SIGILL, s::ILL_ILLOPN, pc),
        _ => (K::IllegalInstruction, s::SIGILL, s::ILL_ILLOPC, pc),
    };
    // SAFETY: the running thread's own field.
    unsafe { thread::current().as_mut() }.fault_esr = esr;
    let exception = Exception { kind, signo, si_code, addr, trap_nr: (esr >> 26) as u32, error_code: esr };
    kernel().user_exception(frame, exception);
}

/// The step was made.
fn stop_stepping() {
    let _off = crate::irq::IrqGuard::new();
    // SAFETY: the running thread's own field, which a switch reads with interrupts off.
    unsafe { thread::current().as_mut() }.stepping = false;
    debug::set_stepping(false);
}

#[unsafe(no_mangle)]
extern "C" fn arch_trap_sync_kernel(frame: &mut TrapFrame, esr: u64, far: u64) {
    let cause = esr::decode(esr);
    if let Cause::DataAbort(abort) = cause {
        let user_address = far >> 55 & 1 == 0;
        if let Some(fixup) = extable::fixup(frame.ip()) {
            if user_address && abort.is_page_fault() && crate::thread::current_ref().no_fault == 0 {
                if frame.pstate & pstate::I == 0 {
                    crate::irq::local_enable();
                }
                let result = handler().map(|h| h.page_fault(frame, fault(cause, abort, far, false)));
                crate::irq::local_disable();
                if result == Some(FaultResult::Handled) {
                    return;
                }
            }
            frame.set_ip(fixup);
            return;
        }
        let what = match (user_address, abort.is_present()) {
            (true, true) => "access to user memory outside uaccess routines",
            (true, false) if far < 4096 => "NULL pointer dereference",
            (true, false) => "user address outside uaccess routines",
            (false, true) => "write to read-only memory, or PAN",
            (false, false) => "paging request",
        };
        oops(
            frame,
            format_args!("Unable to handle kernel {what} at virtual address {far:016x}, ESR {esr:#010x}"),
        );
    }
    if cause == Cause::MemoryCopy {
        return emulate::restart_memory_copy(frame, esr);
    }
    oops(frame, format_args!("Internal error: {cause:?}, ESR {esr:#010x}, FAR {far:016x}"));
}

#[unsafe(no_mangle)]
extern "C" fn arch_trap_stack_overflow(frame: &mut TrapFrame, esr: u64, far: u64) -> ! {
    oops(frame, format_args!("kernel stack overflow, ESR {esr:#010x}, FAR {far:016x}"))
}

#[unsafe(no_mangle)]
extern "C" fn arch_trap_serror(frame: &mut TrapFrame, esr: u64) {
    oops(frame, format_args!("SError interrupt, ESR {esr:#010x}"))
}

#[unsafe(no_mangle)]
extern "C" fn arch_trap_bad(frame: &mut TrapFrame, vector: u64, esr: u64) -> ! {
    let far = read_sysreg!("far_el1");
    oops(frame, format_args!("Bad mode in vector {vector}, ESR {esr:#010x}, FAR {far:016x}"))
}

fn oops(frame: &TrapFrame, reason: fmt::Arguments<'_>) -> ! {
    let frame_pointer = (&raw const frame.record).addr();
    match handler() {
        Some(handler) => handler.oops(&Oops { reason, frame: Some(frame), frame_pointer }),
        None => die(reason, Some(frame)),
    }
}

/// Before there is a kernel: print and stop.
fn die(reason: impl fmt::Display, frame: Option<&TrapFrame>) -> ! {
    crate::earlycon::enable(true);
    crate::earlycon::print(format_args!("{reason}\n"));
    if let Some(frame) = frame {
        let _ = frame.write(&mut crate::earlycon::EarlyCon);
        crate::backtrace::frames((&raw const frame.record).addr(), |ip| {
            crate::earlycon::print(format_args!("  {ip:#x}\n"));
            true
        });
    }
    crate::cpu::halt()
}
