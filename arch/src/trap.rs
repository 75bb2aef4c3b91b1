//! What the kernel is asked to do when the processor traps.
//!
//! The architecture decodes; the kernel, through the one [`TrapHandler`] registered at boot, decides. Order on every
//! path: save registers → (interrupts) `hardirq_enter` → handler → `hardirq_exit` → on return to user mode, the exit
//! work loop; on return to the kernel, preemption if the count is zero and a reschedule is due.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::addr::VirtAddr;
pub use crate::imp::trap::*;
use crate::intc::IrqNumber;
use crate::smp::Ipi;
use crate::thread::ThreadFlags;

/// How memory was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store (or a read-modify-write).
    Write,
    /// An instruction fetch.
    Exec,
}

/// Where in a system call a thread stops for its tracer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyscallStop {
    /// Before it.
    Entry,
    /// After it.
    Exit,
}

/// A page fault as the processor reports it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The address that was touched, tag bits removed.
    pub addr: VirtAddr,
    /// How it was touched.
    pub access: Access,
    /// Whether user mode code did it (otherwise the kernel, e.g. a user copy).
    pub from_user: bool,
    /// A translation was present but did not allow this access; otherwise nothing was mapped.
    pub protection: bool,
    /// Memory protection key violation (x86 PKU).
    pub pkey: bool,
}

/// What became of a page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum FaultResult {
    /// Mapped, or a signal is on its way: return and go on.
    Handled,
    /// Not a valid access. From the kernel: fix up through the exception table, or else oops. From user mode the
    /// handler sends the signal itself and answers `Handled`.
    Failed,
}

/// The kinds of exceptions that user code can cause, other than page faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExceptionKind {
    /// Integer division.
    Divide,
    /// Single step, hardware breakpoint or watchpoint.
    Debug,
    /// Breakpoint instruction.
    Breakpoint,
    /// Overflow (`into`).
    Overflow,
    /// Bounds (`bound`).
    Bounds,
    /// Undefined or privileged instruction.
    IllegalInstruction,
    /// Bad segment, general protection fault.
    Protection,
    /// Stack segment, non-canonical stack access.
    Stack,
    /// Misaligned access, SP or PC.
    Alignment,
    /// Floating point.
    FloatingPoint,
    /// Machine check or synchronous external abort on behalf of user code.
    HardwareError,
    /// Anything else.
    Other,
}

/// An exception of user code: the signal it becomes.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// What happened.
    pub kind: ExceptionKind,
    /// `SIG*`.
    pub signo: i32,
    /// `si_code`, e.g. `FPE_INTDIV`; `SI_KERNEL` where Linux says so.
    pub si_code: i32,
    /// `si_addr`.
    pub addr: usize,
    /// The processor's trap number and error code for `sigcontext`.
    pub trap_nr: u32,
    /// See `trap_nr`.
    pub error_code: u64,
}

/// A program that a fault is about to kill, as lines of the log tell of it.
pub struct Victim<'a> {
    /// Its name.
    pub name: &'a dyn fmt::Display,
    /// Its number.
    pub tid: i32,
    /// ` in FILE[OFFSET,START+SIZE]` of the instruction, or nothing.
    pub place: &'a dyn fmt::Display,
    /// Where who runs under which kernel.
    pub context: &'a dyn fmt::Display,
}

/// How important a line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warning,
}

/// Takes lines of the log.
pub type LogLines<'a> = &'a mut dyn FnMut(Weight, fmt::Arguments<'_>);

/// A fatal error of the kernel itself.
pub struct Oops<'a> {
    /// One line: what happened.
    pub reason: fmt::Arguments<'a>,
    /// Registers at that point, if it was a trap.
    pub frame: Option<&'a TrapFrame>,
    /// Frame pointer to start the backtrace at.
    pub frame_pointer: usize,
}

impl Oops<'_> {
    /// Prints what there is to know, a line at a time: CPU, registers, call trace.
    pub fn report(&self, mut line: impl FnMut(fmt::Arguments<'_>)) {
        line(format_args!("CPU: {}", crate::cpu::current()));
        if let Some(frame) = self.frame {
            line(format_args!("{}", Location(frame)));
            let mut lines = Lines { line: &mut line, text: [0; 96], len: 0 };
            let _ = frame.write(&mut lines);
        }
        line(format_args!("Call Trace:"));
        crate::backtrace::frames(self.frame_pointer, |ip| {
            line(format_args!(" {}", crate::symbols::At(ip)));
            true
        });
    }
}

/// What becomes of a system call that a signal interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is made again, with the arguments it had.
    Again,
    /// `restart_syscall(2)` goes on with it.
    Block,
    /// It ends with this result.
    End(isize),
}

/// Where a frame was interrupted.
struct Location<'a>(&'a TrapFrame);

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}", crate::symbols::At(self.0.ip()))
    }
}

/// Cuts what is written into lines, which may be at most as long as the buffer.
struct Lines<'a, F: FnMut(fmt::Arguments<'_>)> {
    line: &'a mut F,
    text: [u8; 96],
    len: usize,
}

impl<F: FnMut(fmt::Arguments<'_>)> fmt::Write for Lines<'_, F> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for &byte in s.as_bytes() {
            if byte == b'\n' {
                (self.line)(format_args!(
                    "{}",
                    self.text[..self.len].utf8_chunks().next().map_or("", |c| c.valid())
                ));
                self.len = 0;
            } else if let Some(slot) = self.text.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// What the kernel does on traps. Methods run with interrupts off unless said otherwise.
pub trait TrapHandler: Sync {
    /// A system call. Interrupts on. The result goes into the frame by `set_return`.
    fn syscall(&self, frame: &mut TrapFrame);

    /// A page fault at a user address, from user mode or from a user copy. Interrupts on if they were on.
    fn page_fault(&self, frame: &mut TrapFrame, fault: Fault) -> FaultResult;

    /// User code caused an exception: queue the signal. Interrupts on.
    fn user_exception(&self, frame: &mut TrapFrame, exception: Exception);

    /// A device interrupt, in hard interrupt context. The architecture acknowledges it afterwards.
    fn irq(&self, irq: IrqNumber);

    /// This CPU's timer fired, in hard interrupt context; `frame` tells what it interrupted.
    fn timer(&self, frame: &TrapFrame);

    /// Another CPU wants something (`Call`, `TlbShootdown` and `Stop` are handled inside the architecture).
    fn ipi(&self, ipi: Ipi);

    /// The outermost hard interrupt ended (its count already down), interrupts still off: softirqs.
    fn irq_exit(&self) {}

    /// An interrupt returns to preemptible kernel code and a reschedule is due. Interrupts off at call and return.
    fn preempt_irq(&self);

    /// [`crate::preempt::enable`] found a reschedule due. Interrupts on.
    fn preempt(&self);

    /// Before the return to user mode while any flag of `ThreadFlags::EXIT_WORK` is set. Interrupts on; called in a
    /// loop until no flag is left.
    fn exit_to_user(&self, frame: &mut TrapFrame, flags: ThreadFlags);

    /// The kernel is broken: print and stop or kill the task.
    fn oops(&self, oops: &Oops<'_>) -> !;
}

struct HandlerCell(core::cell::UnsafeCell<Option<&'static dyn TrapHandler>>);

// SAFETY: written once before `HANDLER_SET` is stored with Release; read only after it is seen with Acquire.
unsafe impl Sync for HandlerCell {}

static HANDLER: HandlerCell = HandlerCell(core::cell::UnsafeCell::new(None));
static HANDLER_SET: AtomicBool = AtomicBool::new(false);
static HANDLER_CLAIMED: AtomicBool = AtomicBool::new(false);

/// Registers the kernel. Only the first call counts.
pub fn set_handler(handler: &'static dyn TrapHandler) {
    if HANDLER_CLAIMED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the swap above lets one caller through, and nobody reads before the store below.
    unsafe { *HANDLER.0.get() = Some(handler) };
    HANDLER_SET.store(true, Ordering::Release);
}

/// The registered kernel, if boot has come that far.
#[inline]
pub fn handler() -> Option<&'static dyn TrapHandler> {
    if !HANDLER_SET.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: the Acquire load pairs with the Release store after the only write.
    unsafe { *HANDLER.0.get() }
}

/// Makes a memory access that no kernel survives: to see that it is reported.
#[cfg(debug_assertions)]
pub fn provoke_exception() {
    // SAFETY: nothing is ever mapped there, so that nobody's memory is changed: the access traps.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(8).write_volatile(0) };
}
