//! POSIX message queues, and the file system that names them: `mq_overview(7)`.
//!
//! | file | what it owns |
//! |---|---|
//! | [`instance`] | what an IPC namespace has: limits, the number of queues, the file system |
//! | [`queue`] | a queue: messages by priority, who waits to send and to receive |
//! | [`order`] | the order of messages |
//! | [`sleeper`] | those who wait, by their scheduling priority |
//! | [`inode`] | the directory and the queues in it |
//! | [`file`] | an open queue: `poll(2)`, and the line of text that `read(2)` gives |
//!
//! Not here: the system calls, signals, and accounts of users. What this crate needs of them it asks of [`Host`] and
//! [`Notification`], which the kernel implements.
//!
//! Locks: a queue's and the directory's spin locks are leaves; the directory's is taken under its inode's `rwsem`. Sleepers and
//! those who poll are woken, and notifications sent, after the queue's lock is released.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod file;
pub mod inode;
pub mod instance;
mod order;
pub mod queue;
mod sleeper;
#[cfg(test)]
mod tests;

pub use file::queue_of;
pub use inode::create;
pub use instance::{Instance, Limits};
pub use order::Message;
pub use queue::{Notification, NotifyInfo, Patience, Queue};

use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use sync::Once;
use vfs::super_block::{MountRequest, SuperBlock, parse_options};
use vfs::{FsFlags, FsType};

/// What the file system asks of the kernel about the calling process.
pub trait Host: Send + Sync {
    /// The file system of its IPC namespace.
    fn super_block(&self) -> Result<Arc<SuperBlock>>;

    /// Puts `bytes` on the account that `RLIMIT_MSGQUEUE` bounds; dropping what is returned takes them off. `None`: too many.
    fn charge(&self, bytes: u64) -> abi::Result<Box<dyn Any + Send + Sync>>;
}

static HOST: Once<&'static dyn Host> = Once::new();

/// Says who answers for the calling process; once, at boot.
pub fn set_host(host: &'static dyn Host) {
    HOST.call_once(|| host);
}

fn host() -> Result<&'static dyn Host> {
    HOST.get().copied().ok_or(Errno::ENODEV)
}

/// The file system type `mqueue`.
pub struct Mqueue;

/// The type, for [`vfs::register_filesystem`].
pub static MQUEUE: Mqueue = Mqueue;

impl FsType for Mqueue {
    fn name(&self) -> &'static str {
        "mqueue"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::USERNS_MOUNT
    }

    /// Every mount shows the queues of the mounter's IPC namespace, over which the mounter needs rights.
    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        if parse_options(request.options).next().is_some() {
            return Err(Errno::EINVAL);
        }
        let sb = host()?.super_block()?;
        if sb.user_ns().is_inside(request.user_ns) { Ok(sb) } else { Err(Errno::EPERM) }
    }
}
