//! The tracer's part of `wait4(2)`: stops of tracees, and the end of those it alone may wait for.

use super::link::{self, Unlinked};
pub use super::link::{pass_on, unlink as let_go};
use crate::process::{State, Thread, tree};
use crate::signal::stop as group;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use sched::Task;

/// What there is to report of a tracee.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It stands in a stop: signal, and event in the second byte.
    Stopped(i32),
    /// A thread has exited with this status.
    ThreadExited(i32),
    /// The process that it leads has exited.
    ProcessExited,
}

/// Whether the process that `leader` leads has exited, with nobody left whose tracer must wait first.
fn has_ended(leader: &Thread) -> bool {
    leader.process.state() == State::Zombie && leader.process.sig.lock().zombie_threads == 0
}

/// What there is to report of `thread`; `exits`: its end, too.
pub fn change(thread: &Thread, exits: bool) -> Option<Change> {
    if thread.gone.load(Ordering::Acquire) {
        return match thread.is_leader() {
            true if exits && has_ended(thread) => Some(Change::ProcessExited),
            false if exits => Some(Change::ThreadExited(link::exit_status(thread))),
            _ => None,
        };
    }
    let _state = thread.process.sig.lock();
    let jobctl = thread.signals.jobctl.load(Ordering::Relaxed);
    if jobctl & (group::TRACED | group::LISTENING) != group::TRACED {
        return None;
    }
    match thread.trace.link.lock().stop.code {
        0 => None,
        code => Some(Change::Stopped(code)),
    }
}

/// A stop was reported: it is not reported again.
pub fn stop_reported(thread: &Thread) {
    let _state = thread.process.sig.lock();
    if thread.signals.jobctl.load(Ordering::Relaxed) & group::TRACED != 0 {
        thread.trace.link.lock().stop.code = 0;
    }
}

/// A thread's end was reported: it is gone.
pub fn reap_thread(tree: &tree::TreeGuard, task: &Arc<Task>, thread: &Thread) -> Option<Unlinked> {
    let unlinked = link::unlink(tree, task, thread);
    link::release_thread(tree, thread);
    unlinked
}
