//! What entry assembly calls: traps decoded and handed to the kernel.
//!
//! Every function here begins and ends with interrupts off; those that call the kernel's handlers for user code switch
//! them on in between.

use super::debugreg::{DR6_STEP, DR6_TRAPS};
use super::msr::{FLAG_AC, FLAG_RF};
use super::trap::TrapFrame;
use super::{cpu, extable, features, insn, intc, layout, preempt as word};
use crate::addr::VirtAddr;
use crate::preempt;
use crate::thread::ThreadFlags;
use crate::trap::{Access, Exception, ExceptionKind, Fault, FaultResult, Oops, TrapHandler, handler};

const DIVIDE: u64 = 0;
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const BREAKPOINT: u64 = 3;
const OVERFLOW: u64 = 4;
const BOUNDS: u64 = 5;
const INVALID_OPCODE: u64 = 6;
const DOUBLE_FAULT: u64 = 8;
const SEGMENT_NOT_PRESENT: u64 = 11;
const STACK_SEGMENT: u64 = 12;
const PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;
const X87: u64 = 16;
const ALIGNMENT: u64 = 17;
const MACHINE_CHECK: u64 = 18;
const SIMD: u64 = 19;
/// The first vector that is not an exception.
const FIRST_IRQ: u64 = 32;

/// Bits of a page fault's error code.
const PF_PRESENT: u64 = 1 << 0;
const PF_WRITE: u64 = 1 << 1;
const PF_RESERVED: u64 = 1 << 3;
const PF_INSTRUCTION: u64 = 1 << 4;
const PF_PKEY: u64 = 1 << 5;

fn kernel() -> &'static dyn TrapHandler {
    match handler() {
        Some(h) => h,
        None => early_fatal(),
    }
}

#[cold]
fn early_fatal() -> ! {
    crate::earlycon::print(format_args!("Trap before the kernel is ready\n"));
    cpu::halt()
}

/// A system call; interrupts are on.
pub(super) extern "C" fn syscall(frame: &mut TrapFrame) {
    kernel().syscall(frame);
}

/// A trap from user mode, on the thread's kernel stack.
pub(super) extern "C" fn trap_from_user(frame: &mut TrapFrame) {
    match frame.vector {
        PAGE_FAULT => {
            let fault = page_fault(frame);
            insn::sti();
            if kernel().page_fault(frame, fault) == FaultResult::Failed {
                kernel().user_exception(frame, segv(frame, fault.addr.0));
            }
            insn::cli();
        }
        FIRST_IRQ.. => interrupt(frame),
        MACHINE_CHECK => machine_check(frame),
        _ => {
            let exception = user_exception(frame);
            insn::sti();
            kernel().user_exception(frame, exception);
            insn::cli();
        }
    }
}

/// A trap from kernel mode, on the stack it interrupted.
pub(super) extern "C" fn trap_from_kernel(frame: &mut TrapFrame) {
    match frame.vector {
        FIRST_IRQ.. => {
            interrupt(frame);
            if frame.interrupts_on() && word::should_preempt() {
                kernel().preempt_irq();
            }
        }
        PAGE_FAULT => kernel_page_fault(frame),
        _ => {
            if !extable::fixup(frame) {
                fatal(frame, 0);
            }
        }
    }
}

/// #DB, NMI, #DF and #MC that came from the kernel, and every NMI: on their own stacks, `gs` made sure of.
pub(super) extern "C" fn trap_paranoid(frame: &mut TrapFrame) {
    match frame.vector {
        NMI => {
            preempt::add(preempt::NMI_OFFSET);
            super::smp::nmi(frame);
            preempt::sub(preempt::NMI_OFFSET);
        }
        // A watchpoint or single step that reached into the kernel: not meant for it.
        DEBUG => {
            frame.rflags &= !super::msr::FLAG_TF;
            // SAFETY: clears the status bits.
            unsafe { insn::write_dr6(0) };
        }
        MACHINE_CHECK => machine_check(frame),
        _ => fatal(frame, insn::read_cr2() as usize),
    }
}

/// The `iret` to user mode failed: the user's state was bad (sigreturn, ptrace). Makes of it an exception that user mode
/// raised, and returns the frame to go on with. `gs` is the kernel's again.
pub(super) extern "C" fn bad_iret(trap: &TrapFrame) -> *mut TrapFrame {
    let user = crate::thread::current_ref().user_frame();
    // SAFETY: the five words that iret read are still at the top of the stack, where `trap.rsp` points; the general
    // registers hold the user's values, which the trap saved.
    unsafe {
        let iret = core::ptr::with_exposed_provenance::<[u64; 5]>(trap.rsp as usize).read();
        let mut frame = *trap;
        [frame.rip, frame.cs, frame.rflags, frame.rsp, frame.ss] = iret;
        // Whatever it was that iret did not like, a handler sees it, starts in good segments itself, and comes back to it. It is
        // the user's: whoever takes selectors from a program sees to that.
        frame.full_return();
        user.write(frame);
    }
    user
}

/// Work before the return to user mode, interrupts off at call and return.
pub(super) extern "C" fn exit_slow(frame: &mut TrapFrame) {
    loop {
        let flags = crate::thread::current_ref().flags().load();
        if flags.intersects(ThreadFlags::EXIT_WORK) {
            insn::sti();
            kernel().exit_to_user(frame, flags & ThreadFlags::EXIT_WORK);
            insn::cli();
        } else if flags.contains(ThreadFlags::NEED_FPU_LOAD) {
            super::fpu::load_current();
        } else {
            return;
        }
    }
}

fn interrupt(frame: &mut TrapFrame) {
    preempt::hardirq_enter();
    intc::dispatch(frame);
    preempt::hardirq_exit();
    if !crate::irq::in_interrupt()
        && let Some(handler) = handler()
    {
        handler.irq_exit();
    }
}

fn page_fault(frame: &TrapFrame) -> Fault {
    let code = frame.orig_rax;
    let access = match () {
        () if code & PF_INSTRUCTION != 0 => Access::Exec,
        () if code & PF_WRITE != 0 => Access::Write,
        () => Access::Read,
    };
    Fault {
        addr: VirtAddr(insn::read_cr2() as usize),
        access,
        from_user: frame.is_user(),
        protection: code & PF_PRESENT != 0,
        pkey: code & PF_PKEY != 0,
    }
}

fn kernel_page_fault(frame: &mut TrapFrame) {
    let fault = page_fault(frame);
    let user_address = fault.addr.0 < layout::TASK_SIZE;
    // With SMAP the only code that may touch user memory has set AC.
    let allowed = !features::has_smap() || frame.rflags & FLAG_AC != 0;
    let sound = frame.orig_rax & PF_RESERVED == 0 && fault.access != Access::Exec;
    if user_address && allowed && sound && !crate::irq::in_interrupt() && !super::uaccess::faults_disabled() {
        let irqs = frame.interrupts_on();
        if irqs {
            insn::sti();
        }
        let result = kernel().page_fault(frame, fault);
        if irqs {
            insn::cli();
        }
        if result == FaultResult::Handled {
            return;
        }
    }
    if !extable::fixup(frame) {
        fatal(frame, fault.addr.0);
    }
}

fn segv(frame: &TrapFrame, addr: usize) -> Exception {
    Exception {
        kind: ExceptionKind::Protection,
        signo: abi::raw::SIGSEGV as i32,
        si_code: abi::raw::SEGV_MAPERR as i32,
        addr,
        trap_nr: frame.vector as u32,
        error_code: frame.orig_rax,
    }
}

/// The signal that Linux sends for an exception of user code.
fn user_exception(frame: &mut TrapFrame) -> Exception {
    use ExceptionKind as Kind;
    use abi::raw::*;
    const SI_KERNEL: u32 = 0x80;
    let ip = frame.ip();
    let (kind, signo, si_code, addr) = match frame.vector {
        DIVIDE => (Kind::Divide, SIGFPE, FPE_INTDIV, ip),
        DEBUG => {
            let status = insn::read_dr6();
            // SAFETY: clears the status bits.
            unsafe { insn::write_dr6(0) };
            // SAFETY: the running thread's own field, which nobody else touches while it runs.
            if unsafe { crate::thread::current().as_mut() }.debug.note(status) {
                // The breakpoint came before its instruction, which shall be executed once the thread goes on.
                frame.rflags |= FLAG_RF;
            }
            let code = match () {
                () if status & DR6_STEP != 0 => TRAP_TRACE,
                () if status & DR6_TRAPS != 0 => TRAP_HWBKPT,
                () => TRAP_BRKPT,
            };
            (Kind::Debug, SIGTRAP, code, ip)
        }
        BREAKPOINT => (Kind::Breakpoint, SIGTRAP, SI_KERNEL, 0),
        OVERFLOW => (Kind::Overflow, SIGSEGV, SI_KERNEL, 0),
        BOUNDS => (Kind::Bounds, SIGSEGV, SI_KERNEL, 0),
        INVALID_OPCODE => (Kind::IllegalInstruction, SIGILL, ILL_ILLOPN, ip),
        SEGMENT_NOT_PRESENT => (Kind::Protection, SIGBUS, SI_KERNEL, 0),
        STACK_SEGMENT => (Kind::Stack, SIGBUS, SI_KERNEL, 0),
        PROTECTION => (Kind::Protection, SIGSEGV, SI_KERNEL, 0),
        ALIGNMENT => (Kind::Alignment, SIGBUS, BUS_ADRALN, 0),
        X87 | SIMD => (Kind::FloatingPoint, SIGFPE, super::fpu::exception_code(frame.vector == SIMD), ip),
        _ => (Kind::Other, SIGSEGV, SI_KERNEL, 0),
    };
    // Vectors without an error code push -1; sigcontext shows 0.
    let error_code = if frame.orig_rax == u64::MAX { 0 } else { frame.orig_rax };
    Exception {
        kind,
        signo: signo as i32,
        si_code: si_code as i32,
        addr,
        trap_nr: frame.vector as u32,
        error_code,
    }
}

fn machine_check(frame: &mut TrapFrame) {
    fatal(frame, 0)
}

/// The kernel itself is at fault.
#[cold]
fn fatal(frame: &mut TrapFrame, addr: usize) -> ! {
    let name = match frame.vector {
        DIVIDE => "divide error",
        BREAKPOINT => "int3",
        INVALID_OPCODE => "invalid opcode",
        DOUBLE_FAULT => "double fault",
        STACK_SEGMENT => "stack segment",
        PROTECTION => "general protection fault",
        MACHINE_CHECK => "machine check",
        PAGE_FAULT if addr < 4096 => "BUG: kernel NULL pointer dereference",
        PAGE_FAULT => "BUG: unable to handle page fault",
        _ => "unexpected trap",
    };
    let (vector, code) = (frame.vector, frame.orig_rax);
    let reason = format_args!("{name}, address: {addr:#018x}, vector {vector}, error code {code:#06x}");
    let oops = Oops { reason, frame: Some(frame), frame_pointer: frame.fp() };
    match handler() {
        Some(handler) => handler.oops(&oops),
        None => early_oops(&oops),
    }
}

/// An oops before there is a kernel to report it.
#[cold]
pub(super) fn early_oops(oops: &Oops<'_>) -> ! {
    crate::earlycon::enable(true);
    crate::earlycon::print(format_args!("{}\n", oops.reason));
    oops.report(|line| crate::earlycon::print(format_args!("{line}\n")));
    cpu::halt()
}
