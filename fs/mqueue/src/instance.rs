//! What an IPC namespace has of message queues: limits, their number, the file system.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::cap::Cap;
use abi::fs::Statfs;
use abi::ipc::{MQUEUE_MAGIC, MqAttr};
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use vfs::cred::{Credentials, UserNamespace};
use vfs::mount::{Mount, ops::kernel_mount};
use vfs::super_block::{SuperBlock, SuperInfo, SuperOps};
use vfs::types::MAX_LFS_FILESIZE;

use crate::inode;
use mm::fallible::{try_arc, try_box};

/// No queue can hold more messages (`HARD_MSGMAX`).
pub const HARD_MSG_MAX: u32 = 65536;
/// No message can be longer (`HARD_MSGSIZEMAX`).
pub const HARD_MSGSIZE_MAX: u32 = 16 << 20;

/// `/proc/sys/fs/mqueue`.
pub struct Limits {
    /// Most queues, for all but the administrator.
    pub queues_max: AtomicU32,
    /// Most messages of a queue, for all but the administrator.
    pub msg_max: AtomicU32,
    /// Longest message, for all but the administrator.
    pub msgsize_max: AtomicU32,
    /// Messages of a queue whose maker does not say.
    pub msg_default: AtomicU32,
    /// Length of messages of such a queue.
    pub msgsize_default: AtomicU32,
}

/// The message queues of one IPC namespace.
pub struct Instance {
    /// The limits.
    pub limits: Limits,
    user_ns: Arc<UserNamespace>,
    queues: AtomicU32,
    /// The namespace is gone; a mount of it may remain.
    closed: AtomicBool,
}

pub(crate) struct MqueueSuper(Arc<Instance>);

impl SuperOps for MqueueSuper {
    fn statfs(&self, sb: &SuperBlock) -> Result<Statfs> {
        Ok(vfs::anon::simple_statfs(sb))
    }
}

/// One queue more; counted until it is dropped.
pub(crate) struct Counted(Arc<Instance>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.queues.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Instance {
    /// No queues, and the default limits. `user_ns` owns them.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(user_ns: Arc<UserNamespace>) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            limits: Limits {
                queues_max: AtomicU32::new(256),
                msg_max: AtomicU32::new(10),
                msgsize_max: AtomicU32::new(8192),
                msg_default: AtomicU32::new(10),
                msgsize_default: AtomicU32::new(8192),
            },
            user_ns,
            queues: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        })?)
    }

    /// Makes the file system and a mount of it that is attached nowhere. Its owner keeps it: there is one for each instance.
    ///
    /// # Errors
    /// `ENOMEM`, `EMFILE`.
    pub fn mount(self: &Arc<Self>) -> Result<Arc<Mount>> {
        let info = SuperInfo {
            magic: MQUEUE_MAGIC,
            block_size: PAGE_SIZE as u32,
            max_bytes: MAX_LFS_FILESIZE,
            time_granularity_ns: 1,
            flags: 0,
            dev: None,
        };
        let ops = try_box(MqueueSuper(self.clone()))?;
        let sb = SuperBlock::new(&crate::MQUEUE, info, self.user_ns.clone(), ops)?;
        sb.set_root(inode::new_root(&sb)?)?;
        kernel_mount(&sb, 0, b"mqueue")
    }

    /// The namespace is gone: no more queues are made.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// The instance that a file system belongs to.
    pub(crate) fn of(sb: &SuperBlock) -> Result<Arc<Self>> {
        let instance = &sb.private::<MqueueSuper>().ok_or(Errno::EACCES)?.0;
        if instance.closed.load(Ordering::Relaxed) { Err(Errno::EACCES) } else { Ok(instance.clone()) }
    }

    /// Counts a new queue.
    pub(crate) fn count(self: &Arc<Self>, cred: &Credentials) -> Result<Counted> {
        let max = self.limits.queues_max.load(Ordering::Relaxed);
        if self.queues.fetch_add(1, Ordering::Relaxed) >= max && !cred.capable(Cap::SysResource) {
            self.queues.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(Counted(self.clone()))
    }

    /// Messages and their length of a new queue: as asked for, or the defaults.
    pub(crate) fn sizes(&self, cred: &Credentials, wanted: Option<&MqAttr>) -> Result<(usize, usize)> {
        let get = |limit: &AtomicU32| i64::from(limit.load(Ordering::Relaxed));
        let (msg_max, msgsize_max) = (get(&self.limits.msg_max), get(&self.limits.msgsize_max));
        let (messages, bytes) = match wanted {
            Some(attr) => (attr.maxmsg, attr.msgsize),
            None => (
                msg_max.min(get(&self.limits.msg_default)),
                msgsize_max.min(get(&self.limits.msgsize_default)),
            ),
        };
        let most = if cred.capable(Cap::SysResource) {
            (i64::from(HARD_MSG_MAX), i64::from(HARD_MSGSIZE_MAX))
        } else {
            (msg_max, msgsize_max)
        };
        if messages <= 0 || bytes <= 0 || messages > most.0 || bytes > most.1 {
            return Err(Errno::EINVAL);
        }
        Ok((messages as usize, bytes as usize))
    }
}
