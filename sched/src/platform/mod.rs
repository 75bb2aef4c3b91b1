//! What differs between a machine and the host: who is running, and how a task gives up its CPU.
//!
//! On a machine ([`kernel`]) these lead to the run queues and the context switch. On the host
//! ([`host`]) every OS thread is a task, the OS schedules, and sleeping parks the thread; wait queues,
//! sleeping locks, timers and RCU above are the same code.

#[cfg(target_os = "none")]
mod kernel;
#[cfg(target_os = "none")]
pub(crate) use kernel::*;

#[cfg(not(target_os = "none"))]
mod host;
#[cfg(not(target_os = "none"))]
pub(crate) use host::*;
