//! The mount itself: identity, flags, place, and who writes through it.
//!
//! Invariant: a mount that is mounted somewhere is in its parent's vector of children and points at that place. One that was taken
//! away together with its parent may stay in the parent's vector (what it covers must not come to light) but points at nothing,
//! so that the two do not keep each other.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use collections::idalloc::IdAlloc;
use sched::rcu::ReadGuard;
use sync::RcuPtr;

use super::{MountNamespace, tree};
use crate::dentry::Dentry;
use crate::notify::Watched;
use crate::path::Path;
use crate::super_block::{SB_RDONLY, SuperBlock};
use mm::context::NoFailScope;
use mm::fallible::try_arc;

static MOUNT_IDS: SpinLock<IdAlloc> = SpinLock::new(IdAlloc::new(1, i32::MAX as u32));
static NEXT_UNIQUE_ID: AtomicU64 = AtomicU64::new((1 << 31) + 1);

/// All mounts there are, by unique id.
static ALL: SpinLock<BTreeMap<u64, Weak<Mount>>> = SpinLock::new(BTreeMap::new());

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
    /// All that concern access times.
    pub const ATIME: u32 = NOATIME | NODIRATIME | RELATIME;
    /// All of them.
    pub const ALL: u32 = RDONLY | NOSUID | NODEV | NOEXEC | ATIME | NOSYMFOLLOW;
    /// Not a user's: who wants to write waits for a moment, while it is decided whether the mount becomes read-only.
    pub(crate) const WRITE_HOLD: u32 = 1 << 31;
}

/// Where a mount is attached.
#[derive(Debug)]
pub struct MountPoint {
    /// The mount around it.
    pub mount: Arc<Mount>,
    /// The directory (or file) that it covers.
    pub dentry: Arc<Dentry>,
}

/// A mount on a place of another one.
#[derive(Clone)]
pub(crate) struct Child {
    pub(crate) point: Arc<Dentry>,
    pub(crate) mount: Arc<Mount>,
}

impl Child {
    /// What children are sorted by.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.point) as usize
    }
}

/// Mounts on the dentries of one mount, sorted by the address of the dentry.
pub(crate) type Children = Vec<Child>;

/// How mount events travel; under [`super::NAMESPACE`]. Groups are kept in [`super::propagate`].
#[derive(Default)]
pub(crate) struct Propagation {
    /// Peer group; zero when not shared.
    pub group: u32,
    /// The peer group whose events this mount receives; zero when it is no slave.
    pub master: u32,
    /// Cannot be bound.
    pub unbindable: bool,
}

/// A file system shown at a place.
pub struct Mount {
    id: u32,
    unique_id: u64,
    sb: Arc<SuperBlock>,
    root: Arc<Dentry>,
    flags: AtomicU32,
    pub(super) at: RcuPtr<MountPoint>,
    pub(super) children: RcuPtr<Children>,
    ns: SpinLock<Weak<MountNamespace>>,
    pub(crate) propagation: SpinLock<Propagation>,
    /// Source text for `/proc/mounts`.
    devname: Box<[u8]>,
    /// Files open for writing (`mnt_want_write`), for `remount,ro`.
    pub(crate) writers: AtomicI32,
    /// Set by `umount2(MNT_EXPIRE)`, cleared by use.
    pub(crate) expiry_mark: AtomicBool,
    /// References that do not keep it from being unmounted.
    pub(crate) passive: AtomicUsize,
    /// Flags that came from a more privileged namespace and cannot be cleared ([`flags::ATIME`]: nor set).
    pub(crate) locked_flags: AtomicU32,
    /// Came with a less privileged namespace as part of a whole; cannot be unmounted alone.
    pub(crate) locked: AtomicBool,
    /// Marks of fanotify.
    pub notify: Watched,
}

/// Every mount of `sb`.
pub(crate) fn all_of(sb: &Arc<SuperBlock>) -> Vec<Arc<Mount>> {
    let _no_fail = NoFailScope::enter();
    let all: Vec<Arc<Mount>> = ALL.lock().values().filter_map(Weak::upgrade).collect();
    all.into_iter().filter(|mount| Arc::ptr_eq(&mount.sb, sb)).collect()
}

/// The mount whose unique id is `id`.
pub fn by_unique_id(id: u64) -> Option<Arc<Mount>> {
    ALL.lock().get(&id).and_then(Weak::upgrade)
}

impl Mount {
    /// A mount of `root` (a dentry of `sb`), attached nowhere.
    pub fn new(sb: Arc<SuperBlock>, root: Arc<Dentry>, flags: u32, devname: &[u8]) -> Result<Arc<Self>> {
        let devname = mm::try_to_vec(devname)?.into_boxed_slice();
        let id = MOUNT_IDS.lock().alloc().map_err(|_| Errno::ENOMEM)?;
        sb.activate();
        let mount = try_arc(Self {
            id,
            unique_id: NEXT_UNIQUE_ID.fetch_add(1, Ordering::Relaxed),
            sb,
            root,
            flags: AtomicU32::new(flags),
            at: RcuPtr::empty(),
            children: RcuPtr::empty(),
            ns: SpinLock::new(Weak::new()),
            propagation: SpinLock::new(Propagation::default()),
            devname,
            writers: AtomicI32::new(0),
            expiry_mark: AtomicBool::new(false),
            passive: AtomicUsize::new(0),
            locked_flags: AtomicU32::new(0),
            locked: AtomicBool::new(false),
            notify: Watched::default(),
        })?;
        let _no_fail = NoFailScope::enter();
        ALL.lock().insert(mount.unique_id, Arc::downgrade(&mount));
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
        self.flags.load(Ordering::Relaxed) & flags::ALL
    }

    /// Replaces the flags; [`flags::WRITE_HOLD`] stays as it is.
    pub(crate) fn set_flags(&self, wanted: u32) {
        let change = |old| Some(old & flags::WRITE_HOLD | wanted & flags::ALL);
        let _ = self.flags.fetch_update(Ordering::SeqCst, Ordering::Relaxed, change);
    }

    /// Makes who begins to write wait, as long as the caller does not sleep; `false` (and nobody waits) if somebody writes.
    pub(super) fn hold_writers(&self) -> bool {
        self.flags.fetch_or(flags::WRITE_HOLD, Ordering::SeqCst);
        if self.writers.load(Ordering::SeqCst) > 0 {
            self.release_writers();
            return false;
        }
        true
    }

    /// Ends [`Mount::hold_writers`].
    pub(super) fn release_writers(&self) {
        self.flags.fetch_and(!flags::WRITE_HOLD, Ordering::SeqCst);
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
        let index = children.binary_search_by_key(&key, Child::key).ok()?;
        children.get(index).map(|child| &child.mount)
    }

    /// The mount on `dentry` of this mount.
    pub fn child(&self, dentry: &Dentry) -> Option<Arc<Mount>> {
        self.child_rcu(&sched::rcu::read_lock(), dentry).cloned()
    }

    /// The mounts on this one, in the order they were attached.
    pub fn children(&self) -> Vec<Arc<Mount>> {
        let _no_fail = NoFailScope::enter();
        let guard = sched::rcu::read_lock();
        let mut all: Vec<_> = match self.children.load(&guard) {
            Some(children) => children.iter().map(|child| child.mount.clone()).collect(),
            None => Vec::new(),
        };
        all.sort_by_key(|mount| mount.unique_id);
        all
    }

    /// The namespace it belongs to; none when it was unmounted or is the kernel's own.
    pub fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.ns.lock().upgrade()
    }

    /// Whether it belongs to `ns`.
    pub fn is_in(&self, ns: &Arc<MountNamespace>) -> bool {
        core::ptr::eq(self.ns.lock().as_ptr(), Arc::as_ptr(ns))
    }

    /// Moves it to `ns` (or out of all namespaces), which counts its mounts.
    pub(super) fn set_namespace(&self, ns: Option<&Arc<MountNamespace>>) {
        let new = ns.map_or_else(Weak::new, Arc::downgrade);
        let old = core::mem::replace(&mut *self.ns.lock(), new);
        if let Some(old) = old.upgrade() {
            old.count(-1);
        }
        if let Some(ns) = ns {
            ns.count(1);
        }
    }

    /// A reference of the caller's does not keep the mount from being unmounted; who has passive references hears of that
    /// ([`super::umount::on_unmount`]).
    pub fn add_passive(&self) {
        self.passive.fetch_add(1, Ordering::Relaxed);
    }

    /// Such a reference goes.
    pub fn remove_passive(&self) {
        self.passive.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a second `umount2(MNT_EXPIRE)` would take it away.
    #[inline]
    pub(crate) fn is_expiring(&self) -> bool {
        self.expiry_mark.load(Ordering::Relaxed)
    }

    /// Somebody used it: `MNT_EXPIRE` begins anew.
    #[cold]
    pub(crate) fn used(&self) {
        self.expiry_mark.store(false, Ordering::Relaxed);
    }

    /// Counts a writer; `EROFS` for a read-only mount or file system.
    pub fn get_write(&self) -> Result<()> {
        self.writers.fetch_add(1, Ordering::SeqCst);
        // Pairs with `hold_writers` and `freeze_writers`: either they see this writer, or it sees them.
        let mut mine = self.flags.load(Ordering::SeqCst);
        while mine & flags::WRITE_HOLD != 0 {
            core::hint::spin_loop();
            mine = self.flags.load(Ordering::SeqCst);
        }
        if mine & flags::RDONLY != 0 || self.sb.flags_ordered() & SB_RDONLY != 0 {
            self.put_write();
            return Err(Errno::EROFS);
        }
        Ok(())
    }

    /// Ends [`Mount::get_write`].
    pub fn put_write(&self) {
        self.writers.fetch_sub(1, Ordering::SeqCst);
    }

    fn take_children(&mut self) -> Children {
        let children = core::mem::take(&mut self.children).into_inner();
        let children = children.map(|c| Arc::try_unwrap(c).unwrap_or_else(|c| Children::clone(&c)));
        children.unwrap_or_default()
    }
}

impl Drop for Mount {
    /// What was left on it goes along, one mount after the other however deep they are stacked.
    fn drop(&mut self) {
        let _no_fail = NoFailScope::enter();
        let mut left = self.take_children();
        while let Some(child) = left.pop() {
            tree::forget_point(&child);
            if let Some(mut mount) = Arc::into_inner(child.mount) {
                left.extend(mount.take_children());
            }
        }
        ALL.lock().remove(&self.unique_id);
        MOUNT_IDS.lock().free(self.id);
        self.sb.deactivate();
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({} {})", self.id, self.sb.fs_type().name())
    }
}
