//! Attaching, detaching and copying trees of mounts. Everything here runs under [`super::NAMESPACE`],
//! held for writing where it changes something.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use arch::sync::SpinLock;

use super::propagate;
use super::{Children, Mount, MountNamespace, MountPoint, NAMESPACE};
use crate::dentry::{Dentry, DentryFlags};
use crate::path::Path;

/// Dentries that something is mounted on, by address: who is mounted there, in all namespaces.
static MOUNTPOINTS: SpinLock<BTreeMap<usize, Vec<Weak<Mount>>>> = SpinLock::new(BTreeMap::new());

/// How to copy a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyWhat {
    /// The one mount.
    One,
    /// All below it, leaving out what cannot be bound.
    Tree,
    /// Everything, for a new namespace.
    Namespace,
}

/// `mount` and everything below it, parents first.
pub fn collect(mount: &Arc<Mount>, into: &mut Vec<Arc<Mount>>) {
    let mut next = into.len();
    into.push(mount.clone());
    while let Some(at) = into.get(next).cloned() {
        into.extend(at.children());
        next += 1;
    }
}

/// All mounts of the tree at `mount`, parents first.
pub fn subtree(mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut all = Vec::new();
    collect(mount, &mut all);
    all
}

fn update_children(parent: &Mount, change: impl FnOnce(&mut Children)) {
    let mut children = {
        let guard = sched::rcu::read_lock();
        parent.children.load(&guard).cloned().unwrap_or_default()
    };
    change(&mut children);
    let next = if children.is_empty() { None } else { Some(Arc::new(children)) };
    drop(parent.children.replace(next));
}

fn key(dentry: &Dentry) -> usize {
    core::ptr::from_ref(dentry) as usize
}

/// Attaches `mount` (with what is below it) at `at`. What was mounted there already ends up on top of
/// the new mount's root.
pub(super) fn attach(mount: &Arc<Mount>, at: &Path) {
    let covered = at.mnt.child(&at.dentry);
    if let Some(covered) = &covered {
        detach(covered);
    }
    at.dentry.insert_flags(DentryFlags::MOUNTED);
    MOUNTPOINTS.lock().entry(key(&at.dentry)).or_default().push(Arc::downgrade(mount));
    let point = MountPoint { mount: at.mnt.clone(), dentry: at.dentry.clone() };
    drop(mount.at.replace(Some(Arc::new(point))));
    update_children(&at.mnt, |children| {
        let entry = (key(&at.dentry), mount.clone());
        let index = children.partition_point(|child| child.0 < entry.0);
        children.insert(index, entry);
    });
    let ns = at.mnt.ns.lock().clone();
    for member in subtree(mount) {
        *member.ns.lock() = ns.clone();
    }
    if let Some(covered) = covered {
        let top = super::super::namei::lookup::follow_down(mount.root_path());
        attach(&covered, &top);
    }
}

/// Takes `mount` off the place where it is attached.
pub(super) fn detach(mount: &Arc<Mount>) -> Option<Path> {
    let at = mount.mountpoint()?;
    drop(mount.at.replace(None));
    update_children(&at.mnt, |children| children.retain(|child| !Arc::ptr_eq(&child.1, mount)));
    let mut points = MOUNTPOINTS.lock();
    if let Some(list) = points.get_mut(&key(&at.dentry)) {
        list.retain(|other| !core::ptr::eq(other.as_ptr(), Arc::as_ptr(mount)));
        if list.is_empty() {
            points.remove(&key(&at.dentry));
            at.dentry.remove_flags(DentryFlags::MOUNTED);
        }
    }
    Some(at)
}

/// Detaches everything at and below `mount`, and what propagation mirrors of it. The caller drops
/// the result after it has released [`NAMESPACE`]; see [`finish`].
pub(super) fn umount_tree(mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut gone = subtree(mount);
    propagate::add_umounts(&mut gone);
    let mut namespaces: Vec<Arc<MountNamespace>> = Vec::new();
    for member in gone.iter().rev() {
        propagate::leave(member);
        detach(member);
        let ns = core::mem::take(&mut *member.ns.lock()).upgrade();
        if let Some(ns) = ns
            && !namespaces.iter().any(|known| Arc::ptr_eq(known, &ns))
        {
            namespaces.push(ns);
        }
    }
    for ns in namespaces {
        ns.changed();
    }
    gone
}

/// Lets go of detached mounts: waits for readers first, so that file systems shut down here.
pub(super) fn finish(gone: Vec<Arc<Mount>>) {
    if !gone.is_empty() {
        sched::rcu::barrier();
    }
    drop(gone);
}

/// A namespace ends: takes its tree apart.
pub(super) fn dissolve(root: &Arc<Mount>) {
    let shape = NAMESPACE.write();
    let gone = umount_tree(root);
    drop(shape);
    // Readers are let go by the normal grace periods.
    drop(gone);
}

/// A new mount of the same file system, showing `root`.
pub(super) fn clone_mount(old: &Arc<Mount>, root: &Arc<Dentry>) -> Result<Arc<Mount>> {
    let copy = Mount::new(old.sb.clone(), root.clone(), old.flags(), &old.devname)?;
    copy.locked_flags.store(old.locked_flags.load(Ordering::Relaxed), Ordering::Relaxed);
    propagate::inherit(old, &copy);
    Ok(copy)
}

/// Copies the mount of `from` showing its dentry, and what is mounted below if asked. Returns pairs of
/// (old, copy), the first being the top.
pub(super) fn copy_tree(from: &Path, what: CopyWhat) -> Result<Vec<(Arc<Mount>, Arc<Mount>)>> {
    if what != CopyWhat::Namespace && from.mnt.propagation.lock().unbindable {
        return Err(Errno::EINVAL);
    }
    let mut pairs = Vec::new();
    pairs.push((from.mnt.clone(), clone_mount(&from.mnt, &from.dentry)?));
    if what == CopyWhat::One {
        return Ok(pairs);
    }
    let mut next = 0;
    while let Some((old, copy)) = pairs.get(next).cloned() {
        next += 1;
        for child in old.children() {
            let Some(at) = child.mountpoint() else { continue };
            if !at.dentry.is_below(copy.root()) {
                continue;
            }
            if what == CopyWhat::Tree && child.propagation.lock().unbindable {
                continue;
            }
            let child_copy = clone_mount(&child, child.root())?;
            attach(&child_copy, &Path::new(copy.clone(), at.dentry));
            pairs.push((child, child_copy));
        }
    }
    Ok(pairs)
}

/// Undoes a copy that will not be used.
pub(super) fn discard(top: &Arc<Mount>) {
    for member in subtree(top).iter().rev() {
        propagate::leave(member);
        detach(member);
    }
}

/// Whether something in `ns` is mounted on `dentry`.
pub fn is_local_mountpoint(ns: &Arc<MountNamespace>, dentry: &Dentry) -> bool {
    mounts_on(dentry).iter().any(|mount| mount.namespace().is_some_and(|n| Arc::ptr_eq(&n, ns)))
}

fn mounts_on(dentry: &Dentry) -> Vec<Arc<Mount>> {
    let points = MOUNTPOINTS.lock();
    points.get(&key(dentry)).map_or_else(Vec::new, |list| list.iter().filter_map(Weak::upgrade).collect())
}

/// The directory entry is going away: what other namespaces have mounted on it is detached lazily.
pub fn detach_mounts(dentry: &Dentry) {
    if !dentry.flags().contains(DentryFlags::MOUNTED) {
        return;
    }
    let mut gone = Vec::new();
    {
        let _shape = NAMESPACE.write();
        for mount in mounts_on(dentry) {
            gone.extend(umount_tree(&mount));
        }
    }
    drop(gone);
}
