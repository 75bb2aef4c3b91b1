//! Mounts and mount namespaces. `mount(2)`, `mount_namespaces(7)`, `proc_pid_mountinfo(5)`.
//!
//! A [`Mount`] shows a file system (or a part of it: a bind mount) at one place of one namespace's tree.
//!
//! | file | what it owns |
//! |---|---|
//! | [`object`] | [`Mount`], its flags, who writes through it |
//! | [`namespace`] | [`MountNamespace`] |
//! | [`tree`] | attaching, detaching, copying |
//! | [`propagate`] | shared, slave, private and unbindable mounts |
//! | [`ops`] | `mount(2)`: new, bind, remount, propagation |
//! | [`moving`] | `move_mount(2)`, `MS_MOVE` |
//! | [`detached`] | trees that only a descriptor holds: `open_tree(2)`, `fsmount(2)` |
//! | [`attr`] | flags: `mount_setattr(2)` and their translations |
//! | [`umount`] | `umount(2)` |
//! | [`pivot`] | `pivot_root(2)` |
//! | [`query`] | `statmount(2)`, `listmount(2)` |
//! | [`show`] | `/proc/mounts` and `mountinfo` |
//!
//! Readers (the path walk) cross mounts without a lock: the children of a mount are a sorted vector
//! behind an [`RcuPtr`](sync::RcuPtr), and so is the place it is mounted at. All changes of the trees happen
//! under [`NAMESPACE`] held for writing; a change replaces the vector.
//!
//! Lock order: inode `rwsem` of the mount point, then `NAMESPACE`, then the spin locks in here.
//!
//! Busy check: an attached mount has one reference from its parent's vector. References waiting for
//! a grace period are let go with a barrier before `EBUSY` is reported, with no lock held.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "who changes trees waits for memory: Change"
)]

pub mod attr;
pub mod detached;
pub mod moving;
pub mod namespace;
pub mod object;
pub mod ops;
pub mod pivot;
pub mod propagate;
pub mod query;
pub mod show;
pub mod tree;
pub mod umount;

use abi::raw;
use mm::context::NoFailScope;
use sched::mutex::{RwSemaphore, RwSemaphoreWriteGuard};

use crate::dentry::{Dentry, DentryFlags};
pub(crate) use attr::freeze_writers;
pub use namespace::{
    FIRST_NS, MountNamespace, copy_namespace, initial_namespace, kernel_namespace, next_ns_inum,
};
pub use object::{Mount, MountPoint, flags};
pub use ops::{kernel_mount, may_mount, mount, mount_path, new_mount, pivot_root, umount};

/// Everything about the shape of the mount trees of all namespaces (`namespace_sem`).
pub(crate) static NAMESPACE: RwSemaphore<()> = RwSemaphore::new(());

/// The right to change trees of mounts, while it lives.
///
/// A change has many steps, which cannot be undone: their small allocations wait for memory rather than fail.
pub(crate) struct Change {
    _shape: RwSemaphoreWriteGuard<'static, ()>,
    _no_fail: NoFailScope,
}

/// Takes [`NAMESPACE`] for writing.
pub(crate) fn change() -> Change {
    Change { _shape: NAMESPACE.write(), _no_fail: NoFailScope::enter() }
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
    let sb = mount.sb().flags();
    if sb & raw::MS_RDONLY != 0 {
        flags |= 1;
    }
    if sb & raw::MS_SYNCHRONOUS != 0 {
        flags |= 16;
    }
    i64::from(flags)
}
