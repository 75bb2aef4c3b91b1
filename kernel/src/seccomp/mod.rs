//! Which system calls a thread may make: seccomp(2), seccomp_unotify(2).
//!
//! A thread is in one of three modes: no restriction, strict (four calls), or filtered. Filters form a path: a new one
//! points at those that were there ([`Filter`]), children share the path of their parent, and every filter on it
//! is asked. The most restrictive answer counts ([`action`]).
//!
//! What a thread without restriction pays is one test of its work flags, which [`crate::syscall::dispatch`] makes anyway.
//! A filtered thread first looks into the map of calls that its whole path allows whatever the arguments ([`cache`]);
//! only other calls run the programs.
//!
//! | file | matter |
//! |---|---|
//! | [`filter`] | a filter and its path |
//! | [`cache`] | calls that are always allowed |
//! | [`action`] | what becomes of a call |
//! | [`install`] | new filters, for one thread or all |
//! | [`notify`], [`listener`] | calls that another process decides about |
//! | [`log`] | what is written to the log, sysctls |
//!
//! # Locks
//! The filter and mode of a thread change under the `siglock` of its process, and installing holds the process's
//! `exec_guard`, so that no exec decides about privileges in the meantime.

pub mod action;
pub mod cache;
pub mod filter;
pub mod install;
pub mod listener;
pub mod log;
pub mod notify;
pub mod syscalls;

pub use action::enter;
pub use filter::Filter;

use crate::process::Thread;
use crate::process::thread::flags;
use abi::seccomp::c;
use alloc::sync::Arc;
use arch::thread::ThreadFlags;
use core::sync::atomic::{AtomicU8, Ordering};
use sched::Task;
use sync::RcuPtr;

/// The restriction of one thread.
#[derive(Default)]
pub struct State {
    mode: AtomicU8,
    /// The newest filter. Replaced under the `siglock`.
    filter: RcuPtr<Filter>,
}

impl State {
    /// `SECCOMP_MODE_*`.
    pub fn mode(&self) -> u8 {
        self.mode.load(Ordering::Relaxed)
    }

    /// How many filters it has.
    pub fn count(&self) -> u32 {
        self.filter.load(&sched::rcu::read_lock()).map_or(0, Filter::depth)
    }

    /// The newest filter.
    pub fn filter(&self) -> Option<Arc<Filter>> {
        if self.filter.is_none() {
            return None;
        }
        self.filter.load_arc(&sched::rcu::read_lock())
    }

    /// Whether another mode may be entered: only the one it is in, if any.
    fn may_enter(&self, mode: u8) -> bool {
        self.mode() == c::SECCOMP_MODE_DISABLED || self.mode() == mode
    }

    /// Enters a mode; from the next call on it counts.
    fn enter(&self, task: &Task, mode: u8) {
        self.mode.store(mode, Ordering::Relaxed);
        task.thread_flags().set(ThreadFlags::SECCOMP);
    }

    /// The thread makes no more calls: its share of the path is given up.
    pub fn release(&self) {
        if !self.filter.is_none() {
            drop(self.filter.replace(None));
        }
    }
}

/// A child starts with the restriction of its parent. Under the `siglock` of the child's process, before it is
/// visible there.
pub fn inherit(parent: &Thread, child: &Task, thread: &Thread) {
    let mode = parent.seccomp.mode();
    if mode == c::SECCOMP_MODE_DISABLED {
        return;
    }
    drop(thread.seccomp.filter.replace(parent.seccomp.filter()));
    // Another thread may have set it together with the filter, after the flags were copied.
    if parent.has(flags::NO_NEW_PRIVS) {
        thread.set(flags::NO_NEW_PRIVS);
    }
    thread.seccomp.enter(child, mode);
}
