//! Job control: stopping all threads of a process and continuing them.
//!
//! A stop signal makes the thread that takes it begin a group stop: every thread gets [`STOP_PENDING`], and each,
//! on its way to user mode, takes part: it counts itself in and sleeps in state `STOPPED`. The last one tells
//! the parent. `SIGCONT` and `SIGKILL` undo it from outside ([`super::send`]). All under `siglock`.
//!
//! A thread with a tracer takes part by a stop for its tracer ([`TRAP_STOP`]), who can let it run again although the
//! group is stopped.

use super::state::{Change, SignalState, Wake, wake};
use super::{Signal, notify};
use crate::process::thread::flags;
use crate::process::{Process, Thread, current};
use alloc::sync::Arc;
use arch::thread::ThreadFlags;
use core::sync::atomic::Ordering;
use sched::{State, Task};

/// The signal of the last group stop, for the tracer.
pub const SIGNAL_MASK: u32 = 0xffff;
/// The thread has to stop.
pub const STOP_PENDING: u32 = 1 << 16;
/// It has not been counted yet.
pub const STOP_CONSUME: u32 = 1 << 17;
/// A signal that may stop was taken, and no `SIGCONT` has come since.
pub const STOP_DEQUEUED: u32 = 1 << 18;
/// It has to stop for its tracer.
pub const TRAP_STOP: u32 = 1 << 19;
/// The same, because the group stop its tracer knows of began or ended.
pub const TRAP_NOTIFY: u32 = 1 << 20;
/// It was stopped when its tracer came, and is about to stop for the tracer instead.
pub const TRAPPING: u32 = 1 << 21;
/// It stands for its tracer, who does not want it to go on: `PTRACE_LISTEN`.
pub const LISTENING: u32 = 1 << 22;
/// It stands for its tracer, who can make requests.
pub const TRACED: u32 = 1 << 23;
/// What makes a thread stop for its tracer.
pub const TRAP_MASK: u32 = TRAP_STOP | TRAP_NOTIFY;
/// Bits that keep a thread from returning to user mode.
pub const PENDING_MASK: u32 = STOP_PENDING | TRAP_MASK;

/// Sets bits of [`PENDING_MASK`] and what goes with them, unless the thread is going away; says whether it did.
pub fn set_pending(task: &Task, thread: &Thread, bits: u32) -> bool {
    if thread.has(flags::EXITING) || task.has_fatal_signal() {
        return false;
    }
    let jobctl = &thread.signals.jobctl;
    if bits & SIGNAL_MASK != 0 {
        jobctl.fetch_and(!SIGNAL_MASK, Ordering::Relaxed);
    }
    jobctl.fetch_or(bits, Ordering::Relaxed);
    true
}

/// Begins a group stop for `signal`; the calling thread takes part through [`participate`].
pub fn begin(state: &mut SignalState, signal: Signal) {
    // Traced threads may have been resumed during a group stop: what stopped it first stays what is reported.
    if !state.stop.stopped {
        state.stop.code = signal.number();
    }
    let bits = signal.number() as u32 | STOP_PENDING | STOP_CONSUME;
    let mut count = 0;
    state.for_each(|task, thread| {
        if task.state().intersects(State::STOPPED_BIT) || !set_pending(task, thread, bits) {
            return;
        }
        count += 1;
        if thread.trace.is_seized() {
            notify_trap(task, thread);
        } else {
            wake(task, Wake::Interruptible);
        }
    });
    state.stop.count = count;
}

/// A new thread of the process takes part in the group stop that is under way, or was made by a traced thread that runs
/// in a stopped group.
pub fn join(state: &mut SignalState, maker: &Thread, task: &Task, thread: &Thread) {
    let mut bits = maker.signals.jobctl.load(Ordering::Relaxed) & SIGNAL_MASK | STOP_PENDING;
    if state.stop.count > 0 {
        bits |= STOP_CONSUME;
    } else if !state.stop.stopped {
        return;
    }
    if set_pending(task, thread, bits) {
        state.stop.count += u32::from(bits & STOP_CONSUME != 0);
        task.thread_flags().set(ThreadFlags::SIGPENDING);
    }
}

/// The calling thread does its part of the group stop that is under way and sleeps until it is continued or killed.
/// With a tracer it only asks for the stop. Called without locks.
pub fn participate() {
    let me = current();
    let process = me.process.clone();
    let stopped_all = {
        let mut state = process.sig.lock();
        if me.signals.jobctl.load(Ordering::Relaxed) & STOP_PENDING == 0 || state.is_exiting() {
            return;
        }
        if me.trace.is_traced() {
            me.signals.jobctl.fetch_or(TRAP_STOP, Ordering::Relaxed);
            return;
        }
        let last = leave_stop_count(&mut state, &me);
        // Under siglock: a SIGCONT that comes now finds the state and wakes us.
        sched::current().set_special_state(State::STOPPED);
        last
    };
    if stopped_all {
        notify::parent_stopped(&process, Change::Stopped);
    }
    sched::schedule();
    let state = process.sig.lock();
    state.recalculate(me.task(), &me);
}

/// Counts a thread out of the stop under way; says whether it was the last.
pub fn leave_stop_count(state: &mut SignalState, thread: &Thread) -> bool {
    let bits = STOP_PENDING | STOP_CONSUME | STOP_DEQUEUED;
    let old = thread.signals.jobctl.fetch_and(!bits, Ordering::Relaxed);
    if old & STOP_CONSUME == 0 {
        return false;
    }
    state.stop.count = state.stop.count.saturating_sub(1);
    if state.stop.count == 0 && !state.stop.stopped {
        state.stop.stopped = true;
        state.stop.continued = false;
        return true;
    }
    false
}

/// Takes back a thread's part in a stop and wakes it: `SIGCONT`. Who stands for a tracer stays there.
pub fn resume(task: &Arc<Task>, thread: &Thread) {
    let bits = STOP_PENDING | STOP_CONSUME | STOP_DEQUEUED;
    thread.signals.jobctl.fetch_and(!bits, Ordering::Relaxed);
    if thread.trace.is_seized() {
        notify_trap(task, thread);
    } else {
        sched::wake_up_state(task, State::STOPPED_BIT);
    }
}

/// The group stop of a thread's process began or ended: its tracer shall hear of it.
fn notify_trap(task: &Arc<Task>, thread: &Thread) {
    if set_pending(task, thread, TRAP_NOTIFY) {
        let listening = thread.signals.jobctl.load(Ordering::Relaxed) & LISTENING != 0;
        wake_for_tracer(task, thread, listening);
    }
}

/// Makes a thread look at its job control bits; `resume`: also if it stands for its tracer. The `siglock` is held.
pub fn wake_for_tracer(task: &Arc<Task>, thread: &Thread, resume: bool) {
    let mut states = State::INTERRUPTIBLE;
    if resume {
        thread.signals.jobctl.fetch_and(!TRACED, Ordering::Relaxed);
        states |= State::TRACED_BIT;
    }
    task.thread_flags().set(ThreadFlags::SIGPENDING);
    if !sched::wake_up_state(task, states) {
        sched::kick(task);
    }
}

/// A thread that got a tracer while it was stopped stops for the tracer instead; says whether it is about to. The
/// `siglock` is held.
pub fn trap_if_stopped(task: &Arc<Task>, thread: &Thread) -> bool {
    if !task.state().intersects(State::STOPPED_BIT) || !set_pending(task, thread, TRAP_STOP | TRAPPING) {
        return false;
    }
    task.thread_flags().set(ThreadFlags::SIGPENDING);
    sched::wake_up_state(task, State::STOPPED_BIT);
    true
}

/// Whether a stop signal may stop the process: a member of an orphaned group would stop for ever.
pub fn may_stop(process: &Arc<Process>, signal: Signal) -> bool {
    if signal == Signal::SIGSTOP {
        return true;
    }
    let tree = crate::process::tree::lock();
    match process.pgrp() {
        Some(pgrp) => !crate::process::tree::is_orphaned(&tree, &pgrp, None),
        None => false,
    }
}
