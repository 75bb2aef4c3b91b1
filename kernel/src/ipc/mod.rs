//! System V IPC and POSIX message queues, in IPC namespaces: `sysvipc(7)`, `mq_overview(7)`, `ipc_namespaces(7)`.
//!
//! | file | what it owns |
//! |---|---|
//! | [`namespace`] | an IPC namespace: three tables of objects, the limits, a file system of message queues |
//! | [`ids`] | a table: identifiers with sequence numbers, keys |
//! | [`perm`] | who owns an object and may use it |
//! | [`actor`] | the process that did something last |
//! | [`sem`] | semaphore sets: `semget(2)`, `semop(2)`, `semctl(2)` |
//! | [`msg`] | System V message queues: `msgget(2)`, `msgop(2)`, `msgctl(2)` |
//! | [`shm`] | shared memory segments: `shmget(2)`, `shmop(2)`, `shmctl(2)` |
//! | [`mqueue`] | the calls of POSIX message queues; the queues themselves are the crate `mqueue` |
//! | [`task`] | what a thread keeps: its semaphore adjustments and the segments it made |
//! | [`sysctl`], [`show`] | `/proc/sys/kernel/{shm,msg,sem}*`, `/proc/sys/fs/mqueue`, `/proc/sysvipc` |
//! | [`wake`] | tasks to wake when a lock is released |
//!
//! # Locks, outermost first
//!
//! 1. `Ids::index` of one table, a sleeping lock: making and removing objects, keys. User memory is not touched under it,
//!    because a mapping that goes takes it under `mmap_lock`.
//! 2. `UndoList`'s list of a process's adjustments.
//! 3. The lock of one object: its state and who waits for it.
//!
//! Nothing is shared between namespaces. Operations on an object take no lock but its own: it is found under RCU. An object that
//! is removed is marked so under its lock ([`perm::Perm::mark_removed`]); whoever finds the mark answers `EIDRM`.
//!
//! # Sleeping
//!
//! A sleeper puts a counted record into the object's queue. Whoever ends the wait takes the record out, stores the result in
//! it and wakes the task after the lock is released ([`wake::Batch`]), so that a woken task needs no lock to go on.

pub mod actor;
pub mod ids;
pub mod mqueue;
pub mod msg;
pub mod namespace;
pub mod perm;
pub mod sem;
pub mod shm;
pub mod show;
pub mod sysctl;
pub mod task;
pub mod wake;

pub use namespace::IpcNamespace;

use crate::process::{Thread, current};
use abi::{Errno, Result};
use alloc::sync::Arc;

/// Most objects of one kind (`IPCMNI`).
pub const MNI: u32 = 1 << MNI_SHIFT;
/// Bits of an identifier that are the index; the rest is the sequence number.
pub const MNI_SHIFT: u32 = 15;

/// The running thread's IPC namespace.
///
/// # Errors
/// `ESRCH` for a thread that is exiting.
pub fn current_ns() -> Result<Arc<IpcNamespace>> {
    namespace_of(&current()).ok_or(Errno::ESRCH)
}

/// A thread's IPC namespace; none once it is exiting.
pub fn namespace_of(thread: &Thread) -> Option<Arc<IpcNamespace>> {
    let guard = sched::rcu::read_lock();
    thread.nsproxy.load(&guard).map(|proxy| proxy.ipc.clone())
}

/// Seconds since the epoch, for the times of objects.
pub fn now() -> i64 {
    (sched::time::realtime_coarse_ns() / abi::time::NSEC_PER_SEC) as i64
}
