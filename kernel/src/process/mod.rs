//! Processes and threads.
//!
//! ```text
//!   sched::Task ──data──▶ Thread ──▶ Process ──▶ parent, children, group, session
//!        ▲                  │ cred, mm, files, fs, nsproxy (RCU)      │
//!        └── threads ───────┼──────────────────────────────────────── ┘
//!                           ▼
//!                          Pid ──▶ number in each PidNamespace, links back
//! ```
//!
//! - [`Thread`]: what a thread has for itself; the data of a scheduler task.
//! - [`Process`]: the thread group: signals, limits, accounts, family.
//! - [`Pid`], [`PidNamespace`]: numbers, and what they stand for.
//! - [`tree`]: the lock over families, groups and sessions.
//! - [`NsProxy`], [`limits`], [`user`]: the parts that fork shares or copies.
//!
//! The life of a process is in [`crate::fork`], [`crate::exec`], [`crate::exit`] and [`crate::wait`].

pub mod boot;
pub mod files;
pub mod helper;
pub mod kthread;
pub mod limits;
pub mod nsproxy;
pub mod pid;
#[allow(clippy::module_inception)]
mod process;
pub mod syscalls;
pub mod thread;
pub mod tree;
pub mod usage;
pub mod user;

pub use files::{replace_roots, unshare_files};
pub use limits::Resource;
pub use nsproxy::NsProxy;
pub use pid::{Pid, PidNamespace};
pub use process::{Process, State};
pub use thread::Thread;
pub use usage::{Accounts, Usage};

use alloc::sync::Arc;
use sched::{Current, Task};
use sync::Lazy;
use vfs::cred::Credentials;

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
static INIT_PID_NS: Lazy<Arc<PidNamespace>> = Lazy::new(|| Arc::new(PidNamespace::initial()));
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
static INIT_CRED: Lazy<Arc<Credentials>> = Lazy::new(|| Arc::new(Credentials::root()));

/// The pid namespace the system starts with.
pub fn init_pid_ns() -> Arc<PidNamespace> {
    INIT_PID_NS.clone()
}

/// The credentials of the first process and of kernel threads.
pub fn init_cred() -> Arc<Credentials> {
    INIT_CRED.clone()
}

/// The running thread, with its task.
pub struct CurrentThread {
    task: Current,
}

impl CurrentThread {
    /// The scheduler's half.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// A counted reference to the task.
    pub fn task_arc(&self) -> Arc<Task> {
        self.task.to_arc()
    }
}

impl core::ops::Deref for CurrentThread {
    type Target = Thread;

    #[inline]
    fn deref(&self) -> &Thread {
        match self.task.data::<Thread>() {
            Some(thread) => thread,
            // Only reached from a kernel thread that was made without a `Thread` and calls code for
            // processes: a mistake in the kernel, not something a user can cause.
            None => no_thread(),
        }
    }
}

#[cold]
fn no_thread() -> ! {
    panic!("a kernel thread without process data ran code of a process")
}

/// The running thread.
#[inline]
pub fn current() -> CurrentThread {
    CurrentThread { task: sched::current() }
}

/// The running thread, if this task has one.
pub fn with_current<R>(f: impl FnOnce(&Thread) -> R) -> Option<R> {
    let task = sched::current();
    task.data::<Thread>().map(f)
}

/// The caller as the file layer asks for it when it writes.
pub struct Writer;

/// The running thread used a capability.
pub fn used_privilege() {
    with_current(|thread| {
        if !thread.has(thread::flags::SUPERPRIV) {
            thread.set(thread::flags::SUPERPRIV);
        }
    });
}

impl vfs::rw::Writer for Writer {
    fn limit(&self) -> Option<u64> {
        let limit = with_current(|thread| match thread.has(thread::flags::WRITES_UNLIMITED) {
            true => u64::MAX,
            false => thread.process.limits.cur(Resource::Fsize),
        })?;
        (limit != u64::MAX).then_some(limit)
    }

    fn exceeded(&self) {
        crate::signal::raise_sigxfsz();
    }

    fn broken_pipe(&self) {
        crate::signal::raise_sigpipe();
    }
}
