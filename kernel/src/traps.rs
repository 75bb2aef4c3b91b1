//! The kernel's side of traps: [`arch::trap::TrapHandler`].
//!
//! Everything the processor interrupts a program for arrives here: system calls, page faults, exceptions,
//! interrupts. Each method is short and says where the matter goes on. What happens before a return to user mode is in
//! [`exit_to_user`]: reschedule, signals, work queued for this thread, in a loop until nothing is left.

use crate::process::thread::flags;
use crate::process::{CurrentThread, current, with_current};
use crate::signal::{Signal, deliver, force, unhandled};
use abi::raw;
use arch::intc::IrqNumber;
use arch::smp::Ipi;
use arch::thread::ThreadFlags;
use arch::trap::{Access, Exception, Fault, FaultResult, Oops, TrapFrame, TrapHandler};
use core::sync::atomic::Ordering;
use mm::{Asker, FaultError, Resolved};

/// The handler that boot registers with [`arch::trap::set_handler`].
pub struct Kernel;

impl TrapHandler for Kernel {
    #[inline]
    fn syscall(&self, frame: &mut TrapFrame) {
        crate::syscall::dispatch(frame);
    }

    fn page_fault(&self, frame: &mut TrapFrame, fault: Fault) -> FaultResult {
        page_fault(frame, &fault)
    }

    fn user_exception(&self, frame: &mut TrapFrame, exception: Exception) {
        let Some(signal) = Signal::new(exception.signo) else { return };
        with_current(|t| *t.signals.fault.lock() = (exception.trap_nr, exception.error_code, exception.addr));
        unhandled::exception(frame, signal, &exception);
        force::fault(signal, exception.si_code, exception.addr);
    }

    fn irq(&self, irq: IrqNumber) {
        sched::irq_enter();
        drivers::irq::handle(irq);
    }

    fn timer(&self, frame: &TrapFrame) {
        if let Some(stuck_ns) = sched::timer_interrupt(frame.is_user()) {
            crate::watchdog::soft_lockup(frame, stuck_ns);
        }
        crate::misc::random::tick();
        let task = sched::current();
        if frame.is_user() || !task.is_kthread() {
            // CPU-time timers and limits are looked at on the way out.
            task.thread_flags().set(ThreadFlags::NOTIFY_RESUME);
        }
    }

    fn ipi(&self, ipi: Ipi) {
        if ipi == Ipi::Reschedule {
            sched::reschedule_ipi();
        }
    }

    fn preempt_irq(&self) {
        sched::preempt_schedule_irq();
    }

    fn preempt(&self) {
        sched::preempt_schedule();
    }

    fn exit_to_user(&self, frame: &mut TrapFrame, work: ThreadFlags) {
        exit_to_user(frame, work);
    }

    fn oops(&self, oops: &Oops<'_>) -> ! {
        crate::oops::handle(oops)
    }
}

/// One round of work before the return to user mode. Interrupts on.
fn exit_to_user(frame: &mut TrapFrame, work: ThreadFlags) {
    if work.contains(ThreadFlags::NEED_RESCHED) {
        sched::schedule();
        // It may have moved to another CPU, or lost the one it had.
        rseq_due();
    }
    if work.contains(ThreadFlags::NOTIFY_RESUME) {
        notify_resume(frame);
    }
    if work.contains(ThreadFlags::SIGPENDING) {
        deliver::deliver(frame);
    }
}

fn rseq_due() {
    let registered = with_current(|t| t.rseq.addr.load(Ordering::Relaxed) != 0).unwrap_or(false);
    if registered {
        sched::current().thread_flags().set(ThreadFlags::NOTIFY_RESUME);
    }
}

/// Work that is due once before user mode.
fn notify_resume(frame: &mut TrapFrame) {
    let me = current();
    me.task().thread_flags().clear(ThreadFlags::NOTIFY_RESUME);
    if me.set_child_tid.load(Ordering::Relaxed) != 0 {
        crate::fork::finish_in_child();
    }
    crate::io_uring::on_resume(&me);
    crate::misc::rseq::on_resume(frame, &me);
    crate::time::cpu::check(&me);
}

fn page_fault(frame: &mut TrapFrame, fault: &Fault) -> FaultResult {
    // A copy that must not sleep: it fails, and its caller fetches the page.
    if arch::preempt::count() != 0 || !arch::irq::enabled() {
        return FaultResult::Failed;
    }
    let task = sched::current();
    let Some(thread) = task.data::<crate::process::Thread>() else { return FaultResult::Failed };
    let Some(mm) = thread.mm() else { return FaultResult::Failed };
    let access = match fault.access {
        Access::Read => mm::Access::Read,
        Access::Write => mm::Access::Write,
        Access::Exec => mm::Access::Exec,
    };
    let limits = || thread.process.mm_limits();
    let asker = match fault.from_user {
        true => Asker::User,
        false if thread.has(flags::EXITING) => Asker::Exiting,
        false => Asker::Cpu,
    };
    let outcome = match fault.pkey {
        true => Err(mm.key_at(fault.addr.0).map_or(FaultError::NotMapped, FaultError::KeyDenied)),
        false => mm.handle_fault(fault.addr.0, access, asker, &limits),
    };
    match outcome {
        Ok(Resolved::Major) => {
            thread.maj_flt.fetch_add(1, Ordering::Relaxed);
            FaultResult::Handled
        }
        Ok(_) => {
            thread.min_flt.fetch_add(1, Ordering::Relaxed);
            FaultResult::Handled
        }
        Err(_) if !fault.from_user => FaultResult::Failed,
        Err(error) => {
            user_fault(frame, &current(), fault, error);
            FaultResult::Handled
        }
    }
}

/// A fault of the program that cannot be resolved becomes its signal.
fn user_fault(frame: &TrapFrame, me: &CurrentThread, fault: &Fault, error: FaultError) {
    let addr = fault.addr.0;
    *me.signals.fault.lock() = (14, error_code(fault), addr);
    let (signal, code) = match error {
        FaultError::NotMapped => (Signal::SIGSEGV, raw::SEGV_MAPERR),
        FaultError::Forbidden => (Signal::SIGSEGV, raw::SEGV_ACCERR),
        FaultError::KeyDenied(_) => (Signal::SIGSEGV, raw::SEGV_PKUERR),
        FaultError::Bus | FaultError::Userfault => (Signal::SIGBUS, raw::BUS_ADRERR),
        FaultError::Poisoned => return force::poisoned(addr),
        // The OOM killer has chosen; if it chose another process, the access is tried again.
        FaultError::OutOfMemory => {
            if me.task().has_fatal_signal() {
                return;
            }
            sched::yield_now();
            return;
        }
    };
    if signal == Signal::SIGSEGV || arch::unhandled::TELLS_BUS_ERRORS {
        unhandled::page_fault(frame, signal, addr, error_code(fault));
    }
    match error {
        FaultError::KeyDenied(key) => force::key_denied(addr, key),
        _ => force::fault(signal, code as i32, addr),
    }
}

/// The page fault error code of `sigcontext`, in x86's encoding.
fn error_code(fault: &Fault) -> u64 {
    let bits = [
        (fault.protection, 1),
        (fault.access == Access::Write, 2),
        (fault.from_user, 4),
        (fault.access == Access::Exec, 16),
        (fault.pkey, 32),
    ];
    bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum()
}

/// Whether the running thread is one that a broken kernel may kill instead of stopping.
pub fn can_kill_current() -> bool {
    with_current(|t| !t.has(flags::KTHREAD) && t.process.pid.global() != 1).unwrap_or(false)
}
