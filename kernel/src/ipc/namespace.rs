//! An IPC namespace: `ipc_namespaces(7)`.
//!
//! It owns the tables of System V objects, their limits, and an instance of the `mqueue` file system. A new namespace is empty and
//! has the default limits. When the last process leaves, and nothing of it is attached or open any more, all of it goes.

use super::ids::Ids;
use super::msg::MsgQueue;
use super::sem::SemSet;
use super::shm::Segment;
use crate::process::nsproxy::{IPC_INIT_INO, next_inum};
use abi::Result;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize};
use mqueue::Instance;
use sched::mutex::Mutex;
use vfs::cred::UserNamespace;
use vfs::mount::Mount;
use vfs::ns_count::NsCharge;

/// Default of `sem_mns`: most semaphores of a namespace.
pub const SEMMNS: i32 = 32000 * 32000;
/// Default of `sem_opm`: most operations of a call.
pub const SEMOPM: i32 = 500;

/// The limits, which sysctls change; the names are those of the files.
pub struct Limits {
    /// Most semaphores of a set.
    pub sem_msl: AtomicI32,
    /// Most semaphores.
    pub sem_mns: AtomicI32,
    /// Most operations of a call.
    pub sem_opm: AtomicI32,
    /// Most sets.
    pub sem_mni: AtomicI32,
    /// Longest message.
    pub msg_max: AtomicI32,
    /// Most bytes of a queue that the administrator has not enlarged.
    pub msg_mnb: AtomicI32,
    /// Most queues.
    pub msg_mni: AtomicI32,
    /// Largest segment, in bytes.
    pub shm_max: AtomicU64,
    /// Most pages of all segments.
    pub shm_all: AtomicU64,
    /// Most segments.
    pub shm_mni: AtomicI32,
    /// Segments go with their maker and the last attachment.
    pub shm_rmid_forced: AtomicI32,
}

impl Default for Limits {
    fn default() -> Self {
        let huge = u64::MAX - (1 << 24);
        Self {
            sem_msl: AtomicI32::new(32000),
            sem_mns: AtomicI32::new(SEMMNS),
            sem_opm: AtomicI32::new(SEMOPM),
            sem_mni: AtomicI32::new(32000),
            msg_max: AtomicI32::new(8192),
            msg_mnb: AtomicI32::new(16384),
            msg_mni: AtomicI32::new(32000),
            shm_max: AtomicU64::new(huge),
            shm_all: AtomicU64::new(huge),
            shm_mni: AtomicI32::new(4096),
            shm_rmid_forced: AtomicI32::new(0),
        }
    }
}

/// One IPC namespace.
pub struct IpcNamespace {
    /// Inode number below `/proc/<pid>/ns`.
    pub inum: u32,
    /// Capabilities over its objects are held in this one.
    pub user_ns: Arc<UserNamespace>,
    /// Semaphore sets.
    pub sem: Ids<SemSet>,
    /// System V message queues.
    pub msg: Ids<MsgQueue>,
    /// Shared memory segments.
    pub shm: Ids<Segment>,
    /// Limits.
    pub limits: Limits,
    /// Semaphores in all sets; written with `sem` locked for changes.
    pub used_sems: AtomicU32,
    /// Pages of all segments; written with `shm` locked for changes.
    pub shm_pages: AtomicUsize,
    /// POSIX message queues.
    pub mqueue: Arc<Instance>,
    /// The mount of them that the calls use; made when it is first needed.
    mqueue_mount: Mutex<Option<Arc<Mount>>>,
    /// Counts for its makers.
    _charge: NsCharge,
}

impl IpcNamespace {
    /// The namespace the system starts with.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn initial() -> Result<Self> {
        Self::at(IPC_INIT_INO, UserNamespace::initial().clone(), NsCharge::none())
    }

    /// A new one, owned by `user_ns`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(user_ns: Arc<UserNamespace>, charge: NsCharge) -> Result<Self> {
        Self::at(next_inum(), user_ns, charge)
    }

    fn at(inum: u32, user_ns: Arc<UserNamespace>, charge: NsCharge) -> Result<Self> {
        Ok(Self {
            inum,
            mqueue: Instance::new(user_ns.clone())?,
            user_ns,
            sem: Ids::new(),
            msg: Ids::new(),
            shm: Ids::new(),
            limits: Limits::default(),
            used_sems: AtomicU32::new(0),
            shm_pages: AtomicUsize::new(0),
            mqueue_mount: Mutex::new(None),
            _charge: charge,
        })
    }

    /// The kernel's own mount of the message queues.
    ///
    /// # Errors
    /// `ENOMEM`, `EMFILE`.
    pub fn mqueue_mount(&self) -> Result<Arc<Mount>> {
        let mut slot = self.mqueue_mount.lock();
        if let Some(mount) = &*slot {
            return Ok(mount.clone());
        }
        let mount = self.mqueue.mount()?;
        *slot = Some(mount.clone());
        Ok(mount)
    }
}

impl Drop for IpcNamespace {
    /// The last reference may go in an RCU callback, where nothing may take long: a worker frees what there is.
    fn drop(&mut self) {
        self.mqueue.close();
        let objects =
            (core::mem::take(&mut self.sem), core::mem::take(&mut self.msg), core::mem::take(&mut self.shm));
        let mount = self.mqueue_mount.get_mut().take();
        sched::workqueue::queue(move || drop((objects, mount)));
    }
}
