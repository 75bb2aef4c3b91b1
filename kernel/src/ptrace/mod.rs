//! Tracing: ptrace(2).
//!
//! # Where things are
//!
//! - [`state`]: what a thread keeps: whether it is traced, by whom, and what it has stopped with.
//! - [`link`]: who traces whom: attach, detach, children of the traced, the end of a tracer.
//! - [`stop`]: a traced thread stops: signals, group stops, events, system calls.
//! - [`resume`]: its tracer lets it go on.
//! - [`request`]: the system call. [`registers`]: register sets. [`signals`]: siginfo, masks, queues.
//! - [`wait`]: the tracer's part of `wait4(2)`.
//!
//! # How it works
//!
//! A tracee stops only of itself, at points where it could as well return to user mode: it notes the reason, goes to sleep in
//! state `TRACED`, tells the tracer (`SIGCHLD` and a wake-up of `wait`), and sleeps until the tracer resumes it or it is
//! killed. [`TRACED`](crate::signal::stop::TRACED) among its job control bits says, under the `siglock`, that it
//! stands there; a request that finds the bit clear answers `ESRCH`. Registers are reached through
//! [`sched::Task::with_traced`], which works only while the thread stands.
//!
//! A tracer is a thread. The list of its tracees is that of its process ([`Process::tracees`](crate::process::Process)), and
//! each tracee names its tracer. Both change together, under the tree lock. A thread other than the leader that ends while
//! it is traced stays as a zombie, which only its tracer can wait for; the end of a process whose leader is traced is told
//! to the tracer first, and to the parent when the tracer has waited.
//!
//! # Locks
//!
//! Tree lock; the tracee's `siglock`; the lock of its [`state::Trace`], which is a leaf.
//!
//! # The fast path
//!
//! An untraced thread has none of `ThreadFlags::SYSCALL_WORK`, and a process without tracees a count of 0.

pub mod link;
pub mod registers;
pub mod request;
pub mod resume;
pub mod signals;
pub mod state;
pub mod stop;
pub mod wait;

pub use state::Trace;
