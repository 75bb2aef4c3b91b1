//! Mounts and mount namespaces. `mount(2)`, `mount_namespaces(7)`, `proc_pid_mountinfo(5)`.
//!
//! A [`Mount`] shows a file system (or a part of it: a bind mount) at one place of one namespace's tree.
//! Files:
//! - [`ops`]: mount, bind, move, remount, umount, `pivot_root`, namespaces;
//! - [`propagate`]: shared, slave, private and unbindable mounts;
//! - [`tree`]: attaching, detaching, copying;
//! - [`show`]: `/proc/mounts` and `mountinfo`.
//!
//! Readers (the path walk) cross mounts without a lock: the children of a mount are a sorted vector
//! behind an [`RcuPtr`], and so is the place it is mounted at. All changes of the trees happen
//! under [`NAMESPACE`] held for writing; a change replaces the vector.
//!
//! Lock order: inode `rwsem` of the mount point, then `NAMESPACE`, then the spin locks in here.
//!
//! Busy check: an attached mount has one reference from its parent's vector. References waiting for
//! a grace period are let go with a barrier before `EBUSY` is reported, with no lock held.

pub mod ops;
pub mod propagate;
pub mod show;
pub mod tree;

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use collections::idalloc::IdAlloc;
use sched::mutex::RwSemaphore;
use sched::rcu::ReadGuard;
use sched::wait::WaitQueue;
use sync::RcuPtr;

use crate::cred::UserNamespace;
use crate::dentry::{Dentry, DentryFlags};
use crate::path::Path;
use crate::super_block::SuperBlock;
pub use ops::*;

/// Everything about the shape of the mount trees of all namespaces (`namespace_sem`).
pub(crate) static NAMESPACE: RwSemaphore<()> = RwSemaphore::new(());

static MOUNT_IDS: SpinLock<IdAlloc> = SpinLock::new(IdAlloc::new(1, i32::MAX as u32));
static NEXT_UNIQUE_ID: AtomicU64 = AtomicU64::new((1 << 31) + 1);
static NEXT_NS: AtomicU32 = AtomicU32::new(FIRST_NS);

/// The number of the first mount namespace; the one before it is the first network namespace's, as on Linux.
pub const FIRST_NS: u32 = 0xF000_0001;

/// A number for a new namespace of any kind (`/proc/PID/ns`).
pub fn next_ns_inum() -> u32 {
    NEXT_NS.fetch_add(1, Ordering::Relaxed)
}

/// Mount flags that a user sees and changes (`MNT_*`, with the values of `MS_*`).
pub mod flags {
    use abi::raw;
    /// Read-only at this mount.
    pub const RDONLY: u32 = raw::MS_RDONLY;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u32 = raw::MS_NOSUID;
    /// Device nodes cannot be opened.
    pub const NODEV: u32 = raw::MS_NODEV;
    /// Programs cannot be run.
    pub const NOEXEC: u32 = raw::MS_NOEXEC;
    /// No access time updates.
    pub const NOATIME: u32 = raw::MS_NOATIME;
    /// No access time updates of directories.
    pub const NODIRATIME: u32 = raw::MS_NODIRATIME;
    /// Access times are updated when older than the other times or a day.
    pub const RELATIME: u32 = raw::MS_RELATIME;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u32 = raw::MS_NOSYMFOLLOW;
    /// All of them.
    pub const ALL: u32 = RDONLY | NOSUID | NODEV | NOEXEC | NOATIME | NODIRATIME | RELATIME | NOSYMFOLLOW;
}

/// Where a mount is attached.
#[derive(Debug)]
pub struct MountPoint {
    /// The mount around it.
    pub mount: Arc<Mount>,
    /// The directory (or file) that it covers.
    pub dentry: Arc<Dentry>,
}

/// Mounts on the dentries of one mount, sorted by the address of the dentry.
pub(crate) type Children = Vec<(usize, Arc<Mount>)>;

/// How mount events travel; under [`NAMESPACE`]. Groups are kept in [`propagate`].
#[derive(Default)]
pub(crate) struct Propagation {
    /// Peer group; zero when not shared.
    pub group: u32,
    /// The peer group whose events this mount receives; zero when it is no slave.
    pub master: u32,
    /// Cannot be bound.
    pub unbindable: bool,
}

/// All mounts there are, for questions about one file system.
static ALL: SpinLock<Vec<Weak<Mount>>> = SpinLock::new(Vec::new());

/// Every mount of `sb`.
pub(crate) fn all_of(sb: &Arc<SuperBlock>) -> Vec<Arc<Mount>> {
    let all: Vec<Arc<Mount>> = ALL.lock().iter().filter_map(Weak::upgrade).collect();
    all.into_iter().filter(|mount| Arc::ptr_eq(&mount.sb, sb)).collect()
}

/// A file system shown at a place.
pub struct Mount {
    id: u32,
    unique_id: u64,
    sb: Arc<SuperBlock>,
    root: Arc<Dentry>,
    flags: AtomicU32,
    at: RcuPtr<MountPoint>,
    children: RcuPtr<Children>,
    ns: SpinLock<Weak<MountNamespace>>,
    namespace_root: AtomicBool,
    pub(crate) propagation: SpinLock<Propagation>,
    /// Source text for `/proc/mounts`.
    devname: Box<[u8]>,
    /// Files open for writing (`mnt_want_write`), for `remount,ro`.
    pub(crate) writers: AtomicI32,
    /// Set by `umount2(MNT_EXPIRE)`, cleared by use.
    pub(crate) expiry_mark: AtomicBool,
    /// Flags that came from a more privileged namespace and cannot be cleared.
    pub(crate) locked_flags: AtomicU32,
    /// Came with a less privileged namespace as part of a whole; cannot be unmounted alone.
    pub(crate) locked: AtomicBool,
}

impl Mount {
    /// A mount of `root` (a dentry of `sb`), attached nowhere.
    pub fn new(sb: Arc<SuperBlock>, root: Arc<Dentry>, flags: u32, devname: &[u8]) -> Result<Arc<Self>> {
        let id = MOUNT_IDS.lock().alloc().map_err(|_| Errno::ENOMEM)?;
        sb.activate();
        let mount = Arc::new(Self {
            id,
            unique_id: NEXT_UNIQUE_ID.fetch_add(1, Ordering::Relaxed),
            sb,
            root,
            flags: AtomicU32::new(flags),
            at: RcuPtr::empty(),
            children: RcuPtr::empty(),
            ns: SpinLock::new(Weak::new()),
            namespace_root: AtomicBool::new(false),
            propagation: SpinLock::new(Propagation::default()),
            devname: devname.into(),
            writers: AtomicI32::new(0),
            expiry_mark: AtomicBool::new(false),
            locked_flags: AtomicU32::new(0),
            locked: AtomicBool::new(false),
        });
        let mut all = ALL.lock();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&mount));
        drop(all);
        Ok(mount)
    }

    /// The number in `mountinfo`; reused.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The number in `statx(2)`, `statmount(2)`; never reused.
    pub fn unique_id(&self) -> u64 {
        self.unique_id
    }

    /// The file system.
    #[inline]
    pub fn sb(&self) -> &Arc<SuperBlock> {
        &self.sb
    }

    /// The dentry that shows at the mount point.
    #[inline]
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// Its root as a path.
    pub fn root_path(self: &Arc<Self>) -> Path {
        Path::new(self.clone(), self.root.clone())
    }

    /// The flags of [`mod@flags`].
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Replaces the flags.
    pub(crate) fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// Whether writing is forbidden through this mount.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.flags() & flags::RDONLY != 0
    }

    /// The source text.
    pub fn devname(&self) -> &[u8] {
        &self.devname
    }

    /// Where it is attached, borrowed.
    #[inline]
    pub fn mountpoint_rcu<'g>(&'g self, guard: &'g ReadGuard) -> Option<&'g MountPoint> {
        self.at.load(guard)
    }

    /// Where it is attached.
    pub fn mountpoint(&self) -> Option<Path> {
        let guard = sched::rcu::read_lock();
        let at = self.at.load(&guard)?;
        Some(Path::new(at.mount.clone(), at.dentry.clone()))
    }

    /// The mount on `dentry` of this mount, borrowed.
    #[inline]
    pub fn child_rcu<'g>(&'g self, guard: &'g ReadGuard, dentry: &Dentry) -> Option<&'g Arc<Mount>> {
        let children = self.children.load(guard)?;
        let key = core::ptr::from_ref(dentry) as usize;
        let index = children.binary_search_by_key(&key, |child| child.0).ok()?;
        children.get(index).map(|child| &child.1)
    }

    /// The mount on `dentry` of this mount.
    pub fn child(&self, dentry: &Dentry) -> Option<Arc<Mount>> {
        self.child_rcu(&sched::rcu::read_lock(), dentry).cloned()
    }

    /// The mounts on this one, in the order they were attached.
    pub fn children(&self) -> Vec<Arc<Mount>> {
        let guard = sched::rcu::read_lock();
        let mut all: Vec<_> = match self.children.load(&guard) {
            Some(children) => children.iter().map(|child| child.1.clone()).collect(),
            None => Vec::new(),
        };
        all.sort_by_key(|mount| mount.unique_id);
        all
    }

    /// The namespace it belongs to; none when detached or internal.
    pub fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.ns.lock().upgrade()
    }

    /// Whether it is the top of its namespace.
    pub fn is_namespace_root(&self) -> bool {
        self.namespace_root.load(Ordering::Relaxed)
    }

    /// Counts a writer; `EROFS` for a read-only mount or file system.
    pub fn get_write(&self) -> Result<()> {
        self.writers.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = crate::permission::want_write(self) {
            self.put_write();
            return Err(error);
        }
        Ok(())
    }

    /// Ends [`Mount::get_write`].
    pub fn put_write(&self) {
        self.writers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        MOUNT_IDS.lock().free(self.id);
        self.sb.deactivate();
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({} {})", self.id, self.sb.fs_type().name())
    }
}

/// A tree of mounts that its members see.
pub struct MountNamespace {
    root: SpinLock<Option<Arc<Mount>>>,
    inum: u32,
    user_ns: Arc<UserNamespace>,
    /// Raised by every change (`poll(2)` on `/proc/PID/mounts`).
    event: AtomicU64,
    /// Woken by every change.
    pub poll: WaitQueue,
}

impl MountNamespace {
    pub(crate) fn new(user_ns: Arc<UserNamespace>) -> Arc<Self> {
        Arc::new(Self {
            root: SpinLock::new(None),
            inum: next_ns_inum(),
            user_ns,
            event: AtomicU64::new(1),
            poll: WaitQueue::new(),
        })
    }

    /// The topmost mount.
    pub fn root(&self) -> Result<Arc<Mount>> {
        self.root.lock().clone().ok_or(Errno::ENOENT)
    }

    pub(crate) fn set_root(self: &Arc<Self>, mount: Arc<Mount>) {
        mount.namespace_root.store(true, Ordering::Relaxed);
        *mount.ns.lock() = Arc::downgrade(self);
        let old = self.root.lock().replace(mount);
        if let Some(old) = &old {
            old.namespace_root.store(false, Ordering::Relaxed);
        }
    }

    /// The number that `/proc/PID/ns/mnt` shows.
    pub fn inum(&self) -> u32 {
        self.inum
    }

    /// The user namespace that owns it.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }

    /// The number of changes so far.
    pub fn event(&self) -> u64 {
        self.event.load(Ordering::Acquire)
    }

    pub(crate) fn changed(&self) {
        self.event.fetch_add(1, Ordering::AcqRel);
        self.poll.wake_all_poll(abi::poll::PollEvents::ERR | abi::poll::PollEvents::PRI);
    }

    /// All mounts, parents before children, in the order of `/proc/PID/mounts`.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        let _shape = NAMESPACE.read();
        let mut all = Vec::new();
        if let Ok(root) = self.root() {
            tree::collect(&root, &mut all);
        }
        all
    }
}

impl Drop for MountNamespace {
    /// The last reference may go in an RCU callback or under [`NAMESPACE`], which taking the tree apart needs: a
    /// worker does it.
    fn drop(&mut self) {
        if let Some(root) = self.root.get_mut().take() {
            sched::workqueue::queue(move || tree::dissolve(&root));
        }
    }
}

/// Whether `dentry` has something mounted on it in some namespace.
#[inline]
pub fn is_mounted_on(dentry: &Dentry) -> bool {
    dentry.flags().contains(DentryFlags::MOUNTED)
}

/// Flags of `statfs(2)` for `mount` (`ST_*`).
pub fn statfs_flags(mount: &Mount) -> i64 {
    const ST_VALID: u32 = 0x20;
    let mnt = mount.flags();
    let mut flags = ST_VALID;
    for (bit, st) in [
        (flags::RDONLY, 1),
        (flags::NOSUID, 2),
        (flags::NODEV, 4),
        (flags::NOEXEC, 8),
        (flags::NOATIME, 1024),
        (flags::NODIRATIME, 2048),
        (flags::RELATIME, 4096),
        (flags::NOSYMFOLLOW, 8192),
    ] {
        if mnt & bit != 0 {
            flags |= st;
        }
    }
    let sb = mount.sb.flags();
    if sb & raw::MS_RDONLY != 0 {
        flags |= 1;
    }
    if sb & raw::MS_SYNCHRONOUS != 0 {
        flags |= 16;
    }
    i64::from(flags)
}
