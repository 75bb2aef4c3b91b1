//! `fanotify(7)`: events of files, mounts and whole file systems, and permission to go on.
//!
//! A [`Fanotify`] is a [`crate::notify::Group`]. It hears of everything that one of its marks wants and none of them ignores
//! ([`event`]), queues it in one of three forms (an open descriptor to come, a file handle, or file handles of directories with
//! names), and joins it with an event of the queue that differs in its mask only. A reader gets records ([`record`]).
//!
//! Permission events ([`permission`]) hold the caller up until somebody who read the event answers, or the instance is closed:
//! then everything goes on. Only a fatal signal ends the wait earlier.
//!
//! What it needs of processes (who acts, a descriptor for the reader) the kernel provides as [`Host`].
//!
//! Locks: `marks` (sleeping) orders changes of marks; `state` is a leaf. Nothing is woken or dropped under `state`.
//!
//! There is no audit system, so `FAN_ENABLE_AUDIT` is an unknown flag. No file system here finds itself damaged:
//! `FAN_FS_ERROR` can be asked for and never comes.

pub mod event;
pub mod group;
pub mod marks;
pub mod permission;
pub mod record;

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::AtomicU32;

use abi::{Errno, Result};

use crate::cred::Credentials;
use crate::fdtable::FdTable;
use crate::file::File;

pub use group::{Fanotify, fanotify_init};
pub use marks::{Target, check_arguments, fanotify_mark};

/// `/proc/sys/fs/fanotify/max_queued_events`, for instances to come.
pub static MAX_QUEUED_EVENTS: AtomicU32 = AtomicU32::new(16384);

/// A process or thread, as the kernel knows it.
pub type Who = Arc<dyn Any + Send + Sync>;

/// What the kernel knows of processes.
pub trait Host: Sync {
    /// The acting process, or thread.
    fn acting(&self, kind: Actor) -> Option<Who>;
    /// Its number as the acting process sees it; 0 if it does not.
    fn number(&self, who: &Who) -> i32;
    /// A file that stands for the process; `ESRCH` if it is gone.
    fn pidfd(&self, who: &Who) -> Result<Arc<File>>;
    /// The acting process's descriptors, and how many it may have.
    fn files(&self) -> Result<(Arc<FdTable>, u64)>;
    /// The acting credentials.
    fn cred(&self) -> Arc<Credentials>;
}

/// How exactly events say who caused them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// By process.
    Process,
    /// By thread (`FAN_REPORT_TID`).
    Thread,
}

static HOST: sync::Once<&'static dyn Host> = sync::Once::new();

/// Registers the kernel.
pub fn set_host(host: &'static dyn Host) {
    let _ = HOST.set(host);
}

fn host() -> Result<&'static dyn Host> {
    HOST.get().copied().ok_or(Errno::ENOSYS)
}
