//! Delivery: on the way back to user mode, take a signal and act on it.
//!
//! [`deliver`] runs when `SIGPENDING` is set. It takes signals until one has a handler, for which it builds a frame on
//! the user's stack, or none is left; a signal that ends the process does not come back. Then it decides what
//! becomes of an interrupted system call: signal(7), "Interruption of system calls".

use super::action::Disposition;
use super::set::Default;
use super::{SigSet, Siginfo, Signal, force, notify, stop};
use crate::process::thread::{AltStack, flags};
use crate::process::{CurrentThread, current};
use crate::ptrace::stop as trace;
use abi::signal::Sigaction;
use abi::{Errno, raw};
use arch::pkey::KeyRights;
use arch::signal::SigFrameInfo;
use arch::thread::ThreadFlags;
use arch::trap::{Restart, TrapFrame};
use core::sync::atomic::Ordering;
use zerocopy::IntoBytes;

/// A signal that has a handler.
struct Caught {
    signal: Signal,
    info: Siginfo,
    action: Sigaction,
}

/// Takes pending signals and acts on them. Interrupts on, no lock held.
pub fn deliver(frame: &mut TrapFrame) {
    let me = current();
    let interrupted = frame.begin_restart(|result| restart_code(result).is_some());
    let next = next(&me);
    // A tracer may have changed every register behind our back.
    let frame = core::hint::black_box(frame);
    if let Some(code) = frame.interrupted_result(&interrupted).and_then(restart_code) {
        frame.finish_restart(interrupted, restart(code, next.as_ref()));
    }
    match next {
        Some(caught) => handle(frame, &me, &caught),
        None => restore_mask(&me),
    }
    frame.set_syscall_nr(-1);
}

/// The way in which a system call's result asks to be restarted.
fn restart_code(result: isize) -> Option<Errno> {
    let errno = Errno::new(i32::try_from(result.checked_neg()?).ok()?)?;
    matches!(
        errno,
        Errno::ERESTARTSYS | Errno::ERESTARTNOINTR | Errno::ERESTARTNOHAND | Errno::ERESTART_RESTARTBLOCK
    )
    .then_some(errno)
}

/// What becomes of the interrupted system call, now that it is known what handler runs, if any.
fn restart(code: Errno, caught: Option<&Caught>) -> Restart {
    let Some(caught) = caught else {
        return if code == Errno::ERESTART_RESTARTBLOCK { Restart::Block } else { Restart::Again };
    };
    let again = code == Errno::ERESTARTNOINTR
        || code == Errno::ERESTARTSYS && caught.action.flags & u64::from(raw::SA_RESTART) != 0;
    if again { Restart::Again } else { Restart::End(Errno::EINTR.to_return()) }
}

/// Puts back the mask that `sigsuspend` and friends replaced.
fn restore_mask(me: &CurrentThread) {
    if me.task().thread_flags().clear(ThreadFlags::RESTORE_SIGMASK) {
        set_blocked(me, SigSet(me.signals.saved_mask.load(Ordering::Relaxed)));
    }
}

/// Sets the running thread's mask and recomputes what is pending. Signals that others could take instead are
/// offered to them when this thread blocks them.
pub fn set_blocked(me: &CurrentThread, mask: SigSet) {
    let mask = mask.blockable();
    let old = me.blocked();
    if old == mask {
        return;
    }
    let state = me.process.sig.lock();
    me.signals.blocked.store(mask.0, Ordering::Relaxed);
    let newly = state.shared.set().and(mask.minus(old));
    if !newly.is_empty() {
        state.for_each(|task, thread| {
            if !core::ptr::eq(thread, &**me) && !newly.minus(thread.blocked()).is_empty() {
                super::state::wake(task, super::state::Wake::Interruptible);
            }
        });
    }
    state.recalculate(me.task(), me);
}

/// The next signal with a handler. Acts on all others on the way.
fn next(me: &CurrentThread) -> Option<Caught> {
    let process = &me.process;
    loop {
        let mut state = process.sig.lock();
        if let Some(change) = state.stop.notify.take() {
            drop(state);
            notify::parent_stopped(process, change);
            continue;
        }
        if let Some(code) = state.group_exit {
            drop(state);
            end(code);
        }
        if state.group_exec && !is_exec_thread(me) {
            drop(state);
            end(Signal::SIGKILL.number());
        }
        let jobctl = me.signals.jobctl.load(Ordering::Relaxed);
        if jobctl & stop::TRAP_MASK != 0 {
            drop(trace::pending_trap(me, state));
            continue;
        }
        if jobctl & stop::STOP_PENDING != 0 {
            drop(state);
            stop::participate();
            continue;
        }
        let blocked = me.blocked();
        let own = me.signals.pending.lock().take(blocked);
        let queue = if own.is_some() { trace::Queue::Own } else { trace::Queue::Shared };
        // A fault of this thread goes before anything else; otherwise its own queue first.
        let taken = own.or_else(|| state.shared.take(blocked));
        let Some((mut signal, mut info)) = taken else {
            state.recalculate(me.task(), me);
            return None;
        };
        state.recalculate(me.task(), me);
        let disposition = if me.trace.is_traced() && signal != Signal::SIGKILL {
            drop(state);
            crate::time::delivered(process, &mut info);
            let Some((passed, disposition)) = trace::signal(me, signal, &mut info, queue) else { continue };
            signal = passed;
            disposition
        } else {
            if SigSet::STOP.has(signal) {
                me.signals.jobctl.fetch_or(stop::STOP_DEQUEUED, Ordering::Relaxed);
            }
            let disposition = state.sighand.take_for_delivery(signal);
            drop(state);
            crate::time::delivered(process, &mut info);
            disposition
        };
        match disposition {
            Disposition::Ignore => {}
            Disposition::Handler(action) => return Some(Caught { signal, info, action }),
            Disposition::Default(action) => default(me, signal, action, &info),
        }
    }
}

fn is_exec_thread(me: &CurrentThread) -> bool {
    me.has(flags::EXECING)
}

fn default(me: &CurrentThread, signal: Signal, action: Default, info: &Siginfo) {
    let spared = me.process.unkillable.load(Ordering::Relaxed) && !SigSet::UNBLOCKABLE.has(signal);
    match action {
        Default::Ignore | Default::Continue => {}
        _ if spared => {}
        Default::Stop => {
            if stop::may_stop(&me.process, signal) {
                let mut state = me.process.sig.lock();
                // A SIGCONT or a kill may have come while the lock was free.
                let jobctl = me.signals.jobctl.load(Ordering::Relaxed);
                let under_way = jobctl & stop::STOP_PENDING != 0;
                if !state.is_exiting() && jobctl & stop::STOP_DEQUEUED != 0 && !under_way {
                    stop::begin(&mut state, signal);
                }
            }
        }
        Default::Core => {
            me.set(flags::SIGNALED);
            crate::coredump::die(me, signal, info);
        }
        Default::Terminate => {
            me.set(flags::SIGNALED);
            end(signal.number());
        }
    }
}

fn end(code: i32) -> ! {
    crate::exit::exit_group(code)
}

/// Bytes below the stack pointer that are made present before a frame is written: red zone, frame, FPU state.
const FRAME_ROOM: usize = 16 * 1024;

fn handle(frame: &mut TrapFrame, me: &CurrentThread, caught: &Caught) {
    let blocked = me.blocked();
    let before = if me.task().thread_flags().clear(ThreadFlags::RESTORE_SIGMASK) {
        SigSet(me.signals.saved_mask.load(Ordering::Relaxed))
    } else {
        blocked
    };
    crate::misc::rseq::on_signal(frame, me);
    // The step that a tracer asked for ends before the handler's first instruction; the frame shows nothing of it.
    let stepping = me.task().thread_flags().clear(ThreadFlags::SYSCALL_STEP);
    if stepping {
        sched::current().with_thread(|t| t.set_tracer_step(frame, false));
    }
    if push_frame(frame, me, caught, before).is_err() {
        // The handler of SIGSEGV itself cannot be run either.
        if caught.signal == Signal::SIGSEGV {
            force::fatal(Signal::SIGSEGV);
        } else {
            force::force_signal(Signal::SIGSEGV);
        }
        return;
    }
    let mut mask = SigSet(blocked.0 | caught.action.mask);
    if caught.action.flags & u64::from(raw::SA_NODEFER) == 0 {
        mask.add(caught.signal);
    }
    set_blocked(me, mask);
    if stepping {
        trace::handler_entered(frame);
    }
}

fn push_frame(
    frame: &mut TrapFrame,
    me: &CurrentThread,
    caught: &Caught,
    before: SigSet,
) -> Result<(), arch::uaccess::UserFault> {
    let alt = *me.signals.altstack.lock();
    let wants_alt = caught.action.flags & u64::from(raw::SA_ONSTACK) != 0;
    let switch = wants_alt && alt.size != 0 && !alt.contains(frame.sp());
    let top = if switch { alt.sp.wrapping_add(alt.size) } else { frame.sp() };
    let (trap_nr, error_code, fault_addr) = *me.signals.fault.lock();
    let mut info = [0u8; 128];
    if let Some(bytes) = info.get_mut(..size_of::<Siginfo>()) {
        bytes.copy_from_slice(caught.info.as_bytes());
    }
    let sig = SigFrameInfo {
        signo: caught.signal.number(),
        handler: caught.action.handler,
        flags: caught.action.flags as usize,
        restorer: caught.action.restorer,
        sigreturn_trampoline: me.process.sigreturn_trampoline(),
        mask_before: before.0,
        siginfo: &info,
        altstack: stack_for_frame(&alt, frame.sp()),
        on_stack: switch.then_some(top),
        trap_nr,
        error_code,
        fault_addr,
        key_rights: arch::pkey::rights(),
    };
    // The frame holds live FPU registers and is written with preemption off, where a page fault cannot be
    // served: on failure the stack is made present and the write is tried again.
    let task = sched::current();
    let mut pushed = task.with_thread(|t| arch::signal::setup_rt_frame(frame, t, &sig));
    if pushed.is_err() {
        let low =
            if switch { alt.sp.max(top.saturating_sub(FRAME_ROOM)) } else { top.saturating_sub(FRAME_ROOM) };
        // The stack may be in pages of a protection key that the program has closed.
        arch::pkey::set_rights(KeyRights::ALL);
        crate::memory::fault_in_writable(low, top);
        pushed = task.with_thread(|t| arch::signal::setup_rt_frame(frame, t, &sig));
        if pushed.is_err() {
            arch::pkey::set_rights(sig.key_rights);
        }
    }
    if pushed.is_ok() && alt.flags & raw::SS_AUTODISARM as i32 != 0 {
        *me.signals.altstack.lock() = AltStack::default();
    }
    pushed
}

fn stack_for_frame(alt: &AltStack, sp: usize) -> arch::signal::AltStack {
    let state = if alt.size == 0 {
        raw::SS_DISABLE as i32
    } else if alt.contains(sp) {
        raw::SS_ONSTACK as i32
    } else {
        0
    };
    arch::signal::AltStack { sp: alt.sp, flags: state | alt.flags, size: alt.size }
}

/// rt_sigreturn(2): back to what the signal interrupted. The result is the register that was saved.
pub fn sigreturn(frame: &mut TrapFrame) -> isize {
    let me = current();
    let task = sched::current();
    let sp = frame.sp();
    let mut found = task.with_thread(|t| arch::signal::restore_rt_frame(frame, t));
    if found.is_err() {
        crate::memory::fault_in_readable(sp, sp.saturating_add(FRAME_ROOM));
        found = task.with_thread(|t| arch::signal::restore_rt_frame(frame, t));
    }
    frame.set_syscall_nr(-1);
    match found {
        Ok(saved) => {
            set_blocked(&me, SigSet(saved.mask));
            // Errors are ignored, as Linux does.
            let _ = super::syscalls::set_altstack(&me, frame.sp(), &saved.altstack);
        }
        Err(_) => {
            force::force_signal(Signal::SIGSEGV);
            return 0;
        }
    }
    frame.return_value()
}
