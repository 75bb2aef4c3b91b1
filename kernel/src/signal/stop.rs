//! Job control: stopping all threads of a process and continuing them.
//!
//! A stop signal makes the thread that takes it begin a group stop: every thread gets [`STOP_PENDING`], and each,
//! on its way to user mode, takes part: it counts itself in and sleeps in state `STOPPED`. The last one tells
//! the parent. `SIGCONT` and `SIGKILL` undo it from outside ([`super::send`]). All under `siglock`.

use super::state::{Change, SignalState, Wake, wake};
use super::{Signal, notify};
use crate::process::thread::flags;
use crate::process::{Process, Thread, current};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use sched::{State, Task};

/// The thread has to stop.
pub const STOP_PENDING: u32 = 1 << 16;
/// It has not been counted yet.
pub const STOP_CONSUME: u32 = 1 << 17;
/// Bits that keep a thread from returning to user mode.
pub const PENDING_MASK: u32 = STOP_PENDING;

/// Begins a group stop for `signal`; the calling thread takes part through [`participate`].
pub fn begin(state: &mut SignalState, signal: Signal) {
    if !state.stop.stopped {
        state.stop.code = signal.number();
    }
    let mut count = 0;
    state.for_each(|task, thread| {
        let already = task.state().intersects(State::STOPPED_BIT);
        if thread.has(flags::EXITING) || already {
            return;
        }
        let old = thread.signals.jobctl.fetch_or(STOP_PENDING | STOP_CONSUME, Ordering::Relaxed);
        if old & STOP_CONSUME == 0 {
            count += 1;
        }
        wake(task, Wake::Interruptible);
    });
    state.stop.count += count;
}

/// The calling thread does its part of the group stop that is under way and sleeps until it is continued or killed.
/// Called without locks.
pub fn participate() {
    let me = current();
    let process = me.process.clone();
    let stopped_all = {
        let mut state = process.sig.lock();
        if me.signals.jobctl.load(Ordering::Relaxed) & STOP_PENDING == 0 || state.is_exiting() {
            return;
        }
        let last = leave_stop_count(&mut state, &me);
        // Under siglock: a SIGCONT that comes now finds the state and wakes us.
        sched::current().set_state(State::STOPPED);
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
    let old = thread.signals.jobctl.fetch_and(!(STOP_PENDING | STOP_CONSUME), Ordering::Relaxed);
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

/// Takes back a thread's part in a stop and wakes it: `SIGCONT`.
pub fn resume(task: &Arc<Task>, thread: &Thread) {
    thread.signals.jobctl.fetch_and(!(STOP_PENDING | STOP_CONSUME), Ordering::Relaxed);
    sched::wake_up_state(task, State::STOPPED_BIT);
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
