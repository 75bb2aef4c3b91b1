//! Signals: sending, queueing, delivering, stopping and continuing.
//!
//! # Where things are
//!
//! - [`set`]: numbers, sets, default actions; [`pending`]: the queues; [`action`]: the table of actions.
//! - [`state`]: what a process keeps, under its `siglock`.
//! - [`send`]: from a cause to a pending signal and a woken thread. [`kill`]: who may, and to whom.
//! - [`deliver`]: on the way back to user mode: take a signal, act, or build a handler's frame.
//! - [`stop`]: job control stops. [`notify`]: `SIGCHLD` to the parent.
//! - [`force`]: faults of the running instruction. [`wait`]: `sigtimedwait`, `sigsuspend`, `pause`.
//! - [`signalfd`]: signals as a file. [`syscalls`]: masks, actions, stacks.
//!
//! # Locks
//!
//! A process's `siglock` (interrupts off) covers its shared queue, all its threads' queues and masks, the
//! group stop and the group exit. A thread's own queue has a lock of its own inside it. The tree lock is outside.
//!
//! # The fast path
//!
//! A thread with nothing to do has `SIGPENDING` clear; return to user mode tests that flag together with the others
//! and never comes here. The flag may be set without cause, never clear with one: whoever makes a signal
//! pending or changes a mask recomputes it under `siglock`.

pub mod action;
pub mod deliver;
pub mod force;
pub mod kill;
pub mod notify;
pub mod pending;
pub mod send;
pub mod set;
pub mod sigio;
pub mod signalfd;
pub mod state;
pub mod stop;
pub mod syscalls;
pub mod unhandled;
pub mod wait;

pub use action::SigHand;
pub use force::{sigpipe as raise_sigpipe, sigxfsz as raise_sigxfsz};
pub use pending::Pending;
pub use set::{SigSet, Signal};
pub use state::SignalState;

/// `abi::signal::Siginfo`, by its kernel name.
pub use abi::signal::Siginfo;
