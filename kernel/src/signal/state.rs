//! What a process keeps about signals; all of it under the `siglock`.

use super::{Pending, SigHand, SigSet};
use crate::coredump::gather::Dump;
use crate::process::Thread;
use crate::process::user::SignalCharge;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::thread::ThreadFlags;
use core::sync::atomic::Ordering;
use sched::{State, Task, TaskFlags};

/// A change that the parent has to be told of once the lock is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// All threads have stopped.
    Stopped,
    /// The process was continued.
    Continued,
}

/// Job control state of a process; see [`super::stop`].
#[derive(Default, Debug)]
pub struct GroupStop {
    /// The signal that stopped it, for `wait`; 0 when it was reported.
    pub code: i32,
    /// Threads that have yet to stop.
    pub count: u32,
    /// All threads are stopped.
    pub stopped: bool,
    /// Was continued, and `wait` has not reported it yet.
    pub continued: bool,
    /// What the parent has not been told yet.
    pub notify: Option<Change>,
}

impl GroupStop {
    /// Whether the process is stopped as a whole.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
}

/// The signal state of a process.
pub struct SignalState {
    /// The table of actions.
    pub sighand: Arc<SigHand>,
    /// Signals for the process.
    pub shared: Pending<SignalCharge>,
    /// Live threads, oldest first.
    pub threads: Vec<Arc<Task>>,
    /// The process is exiting with this status; every thread has to go.
    pub group_exit: Option<i32>,
    /// All other threads have to go: one calls exec.
    pub group_exec: bool,
    /// Job control.
    pub stop: GroupStop,
    /// Its record for process accounting is written, or will be.
    pub accounted: bool,
    /// A core dump under way.
    pub dump: Option<Arc<Dump>>,
    /// Threads that have exited and whose tracers have not waited for them.
    pub zombie_threads: u32,
    /// Index of the thread that got the last shared signal: where the search for the next begins.
    pub next_target: usize,
}

impl SignalState {
    /// Nothing pending, no thread.
    pub const fn new(sighand: Arc<SigHand>) -> Self {
        Self {
            sighand,
            shared: Pending::new(),
            threads: Vec::new(),
            group_exit: None,
            group_exec: false,
            accounted: false,
            dump: None,
            zombie_threads: 0,
            stop: GroupStop { code: 0, count: 0, stopped: false, continued: false, notify: None },
            next_target: 0,
        }
    }

    /// Whether every thread has been told to go.
    pub fn is_exiting(&self) -> bool {
        self.group_exit.is_some() || self.group_exec
    }

    /// Pending signals that `thread` may take.
    pub fn deliverable(&self, thread: &Thread) -> SigSet {
        let own = thread.signals.pending.lock().set();
        own.union(self.shared.set()).minus(thread.blocked())
    }

    /// Recomputes `SIGPENDING` of the running thread; the only place that clears it.
    pub fn recalculate(&self, task: &Task, thread: &Thread) {
        let busy = !self.deliverable(thread).is_empty()
            || thread.signals.jobctl.load(Ordering::Relaxed) & super::stop::PENDING_MASK != 0
            || self.stop.notify.is_some()
            || crate::io_uring::has_work(thread)
            || self.is_exiting();
        if busy {
            task.thread_flags().set(ThreadFlags::SIGPENDING);
        } else {
            task.thread_flags().clear(ThreadFlags::SIGPENDING);
        }
    }

    /// Calls `f` for each live thread.
    pub fn for_each(&self, mut f: impl FnMut(&Arc<Task>, &Thread)) {
        for task in &self.threads {
            if let Some(thread) = task.data::<Thread>() {
                f(task, thread);
            }
        }
    }

    /// Kills every thread but `except`: each gets `SIGKILL` and is woken from whatever a fatal signal ends.
    pub fn zap_others(&mut self, except: Option<&Task>) -> u32 {
        let mut count = 0;
        self.for_each(|task, thread| {
            if except.is_some_and(|e| core::ptr::eq(e, Arc::as_ptr(task))) {
                return;
            }
            count += 1;
            thread.signals.jobctl.store(0, Ordering::Relaxed);
            thread.signals.pending.lock().mark(super::Signal::SIGKILL);
            wake(task, Wake::Fatal);
        });
        self.stop.count = 0;
        count
    }
}

/// Which sleeps a signal ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// Interruptible ones.
    Interruptible,
    /// Killable ones too, and stops.
    Fatal,
}

/// Tells a thread that something is pending: wakes it, or sends its CPU into the kernel.
pub fn wake(task: &Arc<Task>, how: Wake) {
    let mut states = State::INTERRUPTIBLE;
    if how == Wake::Fatal {
        task.set_flags(TaskFlags::FATAL_SIGNAL);
        states |= State::WAKEKILL;
    }
    task.thread_flags().set(ThreadFlags::SIGPENDING);
    if !sched::wake_up_state(task, states) {
        sched::kick(task);
    }
}
