//! What a thread keeps about its tracer.

use crate::process::{PidNamespace, Process, Thread};
use abi::signal::Siginfo;
use alloc::sync::Arc;
use arch::sync::SpinLockIrq;
use core::sync::atomic::{AtomicU32, Ordering};
use sched::Task;
use vfs::cred::Credentials;

/// Has a tracer. (Below it in the word: `PTRACE_O_*`.)
pub const ATTACHED: u32 = 1 << 30;
/// By `PTRACE_SEIZE`.
pub const SEIZED: u32 = 1 << 31;

/// What a thread has stopped with.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stop {
    /// What `wait` reports: signal, and event in the second byte; 0 once it was reported. When the tracer resumes the
    /// thread: the signal it passes.
    pub code: i32,
    /// `PTRACE_GETEVENTMSG`.
    pub message: u64,
    /// `PTRACE_GETSIGINFO`; a group stop has none.
    pub info: Option<Siginfo>,
}

/// The parts that change together.
#[derive(Default)]
pub struct Link {
    /// The thread that traces.
    pub tracer: Option<Arc<Task>>,
    /// The credentials of who made the link, at that time: what a set-user-id program may gain.
    pub cred: Option<Arc<Credentials>>,
    /// See [`Stop`].
    pub stop: Stop,
}

/// The tracer's view of a thread.
#[derive(Default)]
pub struct Trace {
    /// Changes under the `siglock`.
    flags: AtomicU32,
    /// Leaf lock.
    pub link: SpinLockIrq<Link>,
}

impl Trace {
    /// [`ATTACHED`], [`SEIZED`] and the options; 0 without a tracer.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Whether it has a tracer.
    #[inline]
    pub fn is_traced(&self) -> bool {
        self.flags() != 0
    }

    /// Whether its tracer used `PTRACE_SEIZE`.
    pub fn is_seized(&self) -> bool {
        self.flags() & SEIZED != 0
    }

    /// Whether its tracer asked for `event`.
    pub fn wants(&self, event: u32) -> bool {
        self.flags() & 1 << event != 0
    }

    /// Replaces the flags; under the `siglock`.
    pub fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// The thread that traces.
    pub fn tracer(&self) -> Option<Arc<Task>> {
        if self.is_traced() { self.link.lock().tracer.clone() } else { None }
    }

    /// Whether `task` is its tracer.
    pub fn is_traced_by(&self, task: &Task) -> bool {
        let link = self.link.lock();
        link.tracer.as_ref().is_some_and(|t| core::ptr::eq(Arc::as_ptr(t), task))
    }

    /// The process of its tracer.
    pub fn tracer_process(&self) -> Option<Arc<Process>> {
        self.tracer()?.data::<Thread>().map(|t| t.process.clone())
    }

    /// Its tracer's number as `ns` sees it; 0 without one (`TracerPid` of `/proc/<pid>/status`).
    pub fn tracer_id(&self, ns: &PidNamespace) -> i32 {
        self.tracer().and_then(|t| t.data::<Thread>().map(|t| t.tid_in(ns))).unwrap_or(0)
    }
}
