//! A traced thread stops: "Stopped states" of ptrace(2).

use super::state::Stop;
use crate::process::thread::flags;
use crate::process::{CurrentThread, Pid, Thread, current};
use crate::signal::action::Disposition;
use crate::signal::send::{self, Sender};
use crate::signal::state::Change;
use crate::signal::{Siginfo, Signal, SignalState, notify, stop as group};
use abi::ptrace::{event, option};
use abi::raw;
use abi::signal::SI_USER;
use alloc::sync::Arc;
use arch::sync::Irq;
use arch::trap::{SyscallStop, TrapFrame};
use core::hint::black_box;
use core::sync::atomic::Ordering;
use sched::State;
use sync::SpinLockGuard;

/// The `siglock`, held.
pub type Locked<'a> = SpinLockGuard<'a, SignalState, Irq>;

/// What kind of stop the tracer's `SIGCHLD` tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Trapped,
    Stopped,
}

/// The running thread stops with `code` until its tracer resumes it; the result is the signal that the tracer passes,
/// and `info` becomes what the tracer made of it. A thread that is being killed, or has lost its tracer, does not stop:
/// `None`.
fn stop<'a>(
    me: &'a CurrentThread,
    mut state: Locked<'a>,
    code: i32,
    why: Why,
    message: u64,
    info: Option<&mut Siginfo>,
) -> (Locked<'a>, Option<i32>) {
    if !me.trace.is_traced() || me.task().has_fatal_signal() {
        return (state, None);
    }
    me.trace.link.lock().stop = Stop { code, message, info: info.as_deref().copied() };
    let jobctl = &me.signals.jobctl;
    let takes_part = why == Why::Stopped && jobctl.load(Ordering::Relaxed) & group::STOP_PENDING != 0;
    let stopped_all = takes_part && group::leave_stop_count(&mut state, me);
    let mut done = group::TRAP_STOP | group::TRAPPING;
    if info.as_ref().is_some_and(|i| i.code >> 8 == event::STOP as i32) {
        done |= group::TRAP_NOTIFY;
    }
    jobctl.fetch_and(!done, Ordering::Relaxed);
    jobctl.fetch_or(group::TRACED, Ordering::Relaxed);
    // Under siglock: whoever resumes or kills finds the state and wakes us.
    sched::current().set_special_state(State::TRACED);
    drop(state);
    tell_tracer(me, why);
    if stopped_all && is_reparented(me) {
        notify::parent_stopped(&me.process, Change::Stopped);
    }
    sched::schedule();
    let state = me.process.sig.lock();
    jobctl.fetch_and(!(group::TRACED | group::LISTENING), Ordering::Relaxed);
    let stop = core::mem::take(&mut me.trace.link.lock().stop);
    if let (Some(info), Some(new)) = (info, stop.info) {
        *info = new;
    }
    state.recalculate(me.task(), me);
    (state, Some(stop.code))
}

/// Whether the tracer is not of the parent process: then the parent hears of group stops for itself.
fn is_reparented(thread: &Thread) -> bool {
    match (thread.trace.tracer_process(), thread.process.parent()) {
        (Some(tracer), Some(parent)) => !Arc::ptr_eq(&tracer, &parent),
        _ => true,
    }
}

/// `SIGCHLD`, and a look for `wait`.
fn tell_tracer(me: &CurrentThread, why: Why) {
    let Some(tracer) = me.trace.tracer_process() else { return };
    let (code, status) = match why {
        Why::Trapped => (raw::CLD_TRAPPED, me.trace.link.lock().stop.code),
        Why::Stopped => (raw::CLD_STOPPED, me.process.sig.lock().stop.code),
    };
    let info = notify::thread_info(me.task(), me, &tracer, code, status & 0x7f);
    notify::stopped_child(&tracer, &info);
}

/// A stop that is no signal's: `signal` for the siginfo, `code` for `wait`.
fn report<'a>(
    me: &'a CurrentThread,
    state: Locked<'a>,
    signal: Signal,
    code: i32,
    why: Why,
    message: u64,
) -> (Locked<'a>, Option<i32>) {
    let uid = me.with_cred(|c| c.user_ns.from_uid(c.uid));
    let mut info = Siginfo::from_kill(signal.number(), code, me.tid(), uid);
    stop(me, state, code, why, message, Some(&mut info))
}

/// A trap with `code`; returns the signal that the tracer passes.
fn trap_with(code: i32, message: u64) -> i32 {
    let me = current();
    let state = me.process.sig.lock();
    report(&me, state, Signal::SIGTRAP, code, Why::Trapped, message).1.unwrap_or(0)
}

/// The trap that [`group::TRAP_STOP`] and its kin ask for: a group stop, or what `PTRACE_SEIZE` makes of it.
pub fn pending_trap<'a>(me: &'a CurrentThread, state: Locked<'a>) -> Locked<'a> {
    // Whoever does not stop now (it is being killed) does not come back here either.
    let stopping = (me.signals.jobctl.load(Ordering::Relaxed) & group::SIGNAL_MASK) as i32;
    let signal = Signal::new(stopping).unwrap_or(Signal::SIGSTOP);
    if me.trace.is_seized() {
        let in_group_stop = state.stop.count > 0 || state.stop.stopped;
        let signal = if in_group_stop { signal } else { Signal::SIGTRAP };
        let code = signal.number() | (event::STOP << 8) as i32;
        report(me, state, signal, code, Why::Stopped, 0).0
    } else {
        stop(me, state, signal.number(), Why::Stopped, 0, None).0
    }
}

/// Where a signal was queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// For the thread.
    Own,
    /// For the process.
    Shared,
}

/// The running thread has taken `signal`: its tracer sees it first, and may change it or take it away. What is to be done
/// for it then; `None`: nothing.
pub fn signal(
    me: &CurrentThread,
    signal: Signal,
    info: &mut Siginfo,
    queue: Queue,
) -> Option<(Signal, Disposition)> {
    let state = me.process.sig.lock();
    // The tracer may turn any signal into one that stops.
    me.signals.jobctl.fetch_or(group::STOP_DEQUEUED, Ordering::Relaxed);
    let (state, passed) = stop(me, state, signal.number(), Why::Trapped, 0, Some(info));
    let new = Signal::new(passed.unwrap_or(signal.number()))?;
    if new.number() != info.signo {
        let (pid, uid) = sender(me);
        *info = Siginfo::from_kill(new.number(), SI_USER, pid, uid);
    }
    if me.blocked().has(new) || me.task().has_fatal_signal() {
        drop(state);
        // Room for it there is: it was queued a moment ago. If it is ignored now, it is gone.
        let _ = match queue {
            Queue::Own => send::to_thread(&me.task_arc(), new, info, Sender::Privileged),
            Queue::Shared => send::to_process(&me.process, new, info, Sender::Privileged),
        };
        return None;
    }
    Some((new, state.sighand.take_for_delivery(new)))
}

/// The tracer as the sender of a signal.
fn sender(me: &CurrentThread) -> (i32, u32) {
    let Some(tracer) = me.trace.tracer() else { return (0, 0) };
    let Some(tracer) = tracer.data::<Thread>() else { return (0, 0) };
    let uid = tracer.with_cred(|c| c.uid);
    (tracer.tid_in(&me.pid_ns()), me.with_cred(|c| c.user_ns.from_uid(uid)))
}

/// Something happened that the tracer may have asked to hear of.
pub fn event(event: u32, message: u64) {
    let me = current();
    if me.trace.wants(event) {
        trap_with((event << 8 | raw::SIGTRAP) as i32, message);
    }
}

/// As [`event`], with a pid as the message.
pub fn event_pid(event: u32, pid: &Pid) {
    let me = current();
    if me.trace.wants(event) {
        let nr = tracer_sees(&me, pid);
        trap_with((event << 8 | raw::SIGTRAP) as i32, nr as u64);
    }
}

fn tracer_sees(me: &Thread, pid: &Pid) -> i32 {
    let ns = me.trace.tracer_process().map(|p| p.pid_ns());
    ns.map_or(0, |ns| pid.nr_in(&ns))
}

/// The event that a clone with these flags is to a tracer who asked for it.
pub fn clone_event(me: &Thread, clone_flags: u64, exit_signal: u64) -> Option<u32> {
    if !me.trace.is_traced() || clone_flags & u64::from(raw::CLONE_UNTRACED) != 0 {
        return None;
    }
    let event = if clone_flags & u64::from(raw::CLONE_VFORK) != 0 {
        event::VFORK
    } else if exit_signal != u64::from(raw::SIGCHLD) {
        event::CLONE
    } else {
        event::FORK
    };
    me.trace.wants(event).then_some(event)
}

/// The running thread has become another program; `before` was its id.
pub fn exec(before: &Pid) {
    let me = current();
    if !me.trace.is_traced() {
        return;
    }
    if me.trace.wants(event::EXEC) {
        event_pid(event::EXEC, before);
    } else if !me.trace.is_seized() {
        let uid = me.with_cred(|c| c.user_ns.from_uid(c.uid));
        let info = Siginfo::from_kill(raw::SIGTRAP as i32, SI_USER, me.process.id(), uid);
        let _ = send::to_thread(&me.task_arc(), Signal::SIGTRAP, &info, Sender::User);
    }
}

/// The running thread is about to exit with wait status `code`. The kill that brought it here, if one did, does not keep
/// it from stopping; another one does.
pub fn exit(me: &CurrentThread, code: i32) {
    if !me.trace.wants(event::EXIT) {
        return;
    }
    {
        let state = me.process.sig.lock();
        me.task().clear_flags(sched::TaskFlags::FATAL_SIGNAL);
        me.signals.pending.lock().flush(Signal::SIGKILL.bit());
        state.recalculate(me.task(), me);
    }
    event(event::EXIT, code as u32 as u64);
}

/// A stop at the entry or exit of a system call. Says whether the thread is being killed.
pub fn syscall(frame: &mut TrapFrame, at: SyscallStop) -> bool {
    let me = current();
    if me.trace.is_traced() {
        let good = me.trace.flags() & option::TRACESYSGOOD != 0;
        let code = raw::SIGTRAP as i32 | if good { 0x80 } else { 0 };
        let message = match at {
            SyscallStop::Entry => abi::ptrace::EVENTMSG_SYSCALL_ENTRY,
            SyscallStop::Exit => abi::ptrace::EVENTMSG_SYSCALL_EXIT,
        };
        let saved = frame.begin_syscall_stop(at);
        let passed = trap_with(code, message);
        // The tracer may have changed every register behind our back.
        let frame = black_box(&mut *frame);
        frame.end_syscall_stop(saved);
        if let Some(signal) = Signal::new(passed) {
            let info = Siginfo::new(signal.number(), abi::signal::SI_KERNEL);
            let _ = send::to_thread(&me.task_arc(), signal, &info, Sender::Privileged);
        }
    }
    me.task().has_fatal_signal()
}

/// A filter asks the tracer about the call that the thread is about to make: `None` if there is none that wants to know.
/// Otherwise whether the call, as it is now, is to be made.
pub fn seccomp(frame: &mut TrapFrame, reason: u16) -> Option<bool> {
    let me = current();
    if !me.trace.wants(event::SECCOMP) {
        return None;
    }
    let saved = frame.begin_syscall_stop(SyscallStop::Entry);
    event(event::SECCOMP, u64::from(reason));
    // The tracer may have changed every register behind our back.
    let frame = black_box(&mut *frame);
    frame.end_syscall_stop(saved);
    Some(!me.task().has_fatal_signal() && frame.syscall_nr() as i32 >= 0)
}

/// A step over a system call is at its end: the trap that the processor did not make.
pub fn step_over_syscall(frame: &TrapFrame) {
    crate::signal::force::fault(Signal::SIGTRAP, raw::TRAP_BRKPT as i32, frame.ip());
}

/// A handler was entered while the thread is stepped: the step ends before its first instruction.
pub fn handler_entered(frame: &mut TrapFrame) {
    trap_with(raw::SIGTRAP as i32, 0);
    black_box(frame);
}

/// Whether `thread` stands in a stop, so that requests can be made.
pub fn stands(thread: &Thread) -> bool {
    let _state = thread.process.sig.lock();
    thread.signals.jobctl.load(Ordering::Relaxed) & group::TRACED != 0 && !thread.has(flags::EXITING)
}
