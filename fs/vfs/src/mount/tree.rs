//! Attaching, detaching and copying trees of mounts. Everything here runs under [`super::NAMESPACE`],
//! held for writing where it changes something.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use arch::sync::SpinLock;

use super::object::{Child, Children};
use super::propagate;
use super::{Mount, MountNamespace, MountPoint};
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

/// Whether `path` lies at or below `top`.
pub(super) fn is_reachable(path: &Path, top: &Path) -> bool {
    let mut at = path.clone();
    while !Arc::ptr_eq(&at.mnt, &top.mnt) {
        match at.mnt.mountpoint() {
            Some(above) => at = above,
            None => return false,
        }
    }
    at.dentry.is_below(&top.dentry)
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
    let child = Child { point: at.dentry.clone(), mount: mount.clone() };
    update_children(&at.mnt, |children| {
        let index = children.partition_point(|other| other.key() < child.key());
        children.insert(index, child);
    });
    let ns = at.mnt.namespace();
    for member in subtree(mount) {
        member.set_namespace(ns.as_ref());
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
    update_children(&at.mnt, |children| children.retain(|child| !Arc::ptr_eq(&child.mount, mount)));
    forget(&at.dentry, Arc::as_ptr(mount));
    Some(at)
}

/// `mount` is no longer on `point`.
fn forget(point: &Dentry, mount: *const Mount) {
    let mut points = MOUNTPOINTS.lock();
    if let Entry::Occupied(mut list) = points.entry(key(point)) {
        list.get_mut().retain(|other| !core::ptr::eq(other.as_ptr(), mount));
        if list.get().is_empty() {
            list.remove();
            point.remove_flags(DentryFlags::MOUNTED);
        }
    }
}

/// The last user of a mount that took `child` along is gone.
pub(super) fn forget_point(child: &Child) {
    forget(&child.point, Arc::as_ptr(&child.mount));
}

/// How a tree of mounts goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Going {
    /// Each mount by itself, and with it what propagation mirrors: `umount(2)`.
    Mirrored,
    /// This tree alone, each mount by itself: the namespace ends.
    Apart,
    /// This tree alone, which stays together for whoever is in it: its descriptor is closed, its place is removed.
    Together,
}

/// Detaches everything at and below `mount`. The caller drops the result after it has released [`NAMESPACE`]; see [`finish`].
pub(super) fn umount_tree(mount: &Arc<Mount>, going: Going) -> Vec<Arc<Mount>> {
    let mut gone = subtree(mount);
    if going == Going::Mirrored {
        propagate::add_umounts(&mut gone);
    }
    let mut namespaces: Vec<Arc<MountNamespace>> = Vec::new();
    let mut addresses: Vec<*const Mount> = gone.iter().map(Arc::as_ptr).collect();
    addresses.sort_unstable();
    for member in gone.iter().rev() {
        propagate::leave(member);
        let around = member.mountpoint();
        let below = around.is_some_and(|at| addresses.binary_search(&Arc::as_ptr(&at.mnt)).is_ok());
        // What a locked mount covers must not come to light by unmounting the mount around it.
        if below && (going == Going::Together || member.locked.load(Ordering::Relaxed)) {
            drop(member.at.replace(None));
        } else {
            detach(member);
        }
        if let Some(ns) = member.namespace()
            && !namespaces.iter().any(|known| Arc::ptr_eq(known, &ns))
        {
            namespaces.push(ns);
        }
        member.set_namespace(None);
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
    let shape = super::change();
    let gone = umount_tree(root, Going::Apart);
    drop(shape);
    // Readers are let go by the normal grace periods.
    drop(gone);
}

/// A new mount of the same file system, showing `root`, with the same flags but no propagation.
pub(super) fn clone_bare(old: &Arc<Mount>, root: &Arc<Dentry>) -> Result<Arc<Mount>> {
    let copy = Mount::new(old.sb().clone(), root.clone(), old.flags(), old.devname())?;
    copy.locked_flags.store(old.locked_flags.load(Ordering::Relaxed), Ordering::Relaxed);
    Ok(copy)
}

/// The same, in the same peer group and the slave of the same.
pub(super) fn clone_mount(old: &Arc<Mount>, root: &Arc<Dentry>) -> Result<Arc<Mount>> {
    let copy = clone_bare(old, root)?;
    propagate::inherit(old, &copy);
    Ok(copy)
}

/// Old mounts and their copies.
pub(super) type Pairs = Vec<(Arc<Mount>, Arc<Mount>)>;

/// Copies the mount of `from` showing its dentry, and what is mounted below if asked. Returns pairs of
/// (old, copy), the first being the top.
pub(super) fn copy_tree(from: &Path, what: CopyWhat) -> Result<Pairs> {
    if what != CopyWhat::Namespace && from.mnt.propagation.lock().unbindable {
        return Err(Errno::EINVAL);
    }
    let top = clone_mount(&from.mnt, &from.dentry)?;
    if what == CopyWhat::Namespace {
        top.locked.store(from.mnt.locked.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    let mut pairs = Vec::new();
    pairs.push((from.mnt.clone(), top.clone()));
    if what != CopyWhat::One
        && let Err(error) = copy_below(&mut pairs, what)
    {
        discard(&top);
        return Err(error);
    }
    Ok(pairs)
}

fn copy_below(pairs: &mut Pairs, what: CopyWhat) -> Result<()> {
    let mut next = 0;
    while let Some((old, copy)) = pairs.get(next).cloned() {
        next += 1;
        for child in old.children() {
            let Some(at) = child.mountpoint() else { continue };
            if !at.dentry.is_below(copy.root()) {
                continue;
            }
            let locked = child.locked.load(Ordering::Relaxed);
            if what == CopyWhat::Tree && child.propagation.lock().unbindable {
                if locked {
                    return Err(Errno::EPERM);
                }
                continue;
            }
            // A namespace is not kept by mounts in its own copies.
            if what == CopyWhat::Namespace && names_namespace(child.root()) {
                continue;
            }
            let child_copy = clone_mount(&child, child.root())?;
            child_copy.locked.store(locked, Ordering::Relaxed);
            attach(&child_copy, &Path::new(copy.clone(), at.dentry));
            pairs.push((child, child_copy));
        }
    }
    Ok(())
}

/// Whether something in the tree at `top` is the file of `ns`, or of an older namespace, in which `ns` can be mounted: a namespace
/// that keeps itself would never end.
pub(super) fn would_keep(ns: &MountNamespace, top: &Arc<Mount>) -> bool {
    subtree(top).iter().any(|mount| keeps(ns, mount.root()))
}

/// The same for one file.
pub(super) fn keeps(ns: &MountNamespace, file: &Dentry) -> bool {
    file.inode().is_some_and(|inode| inode.ops().mount_namespace().is_some_and(|named| named.id() <= ns.id()))
}

fn names_namespace(dentry: &Dentry) -> bool {
    dentry.inode().is_some_and(|inode| inode.ops().mount_namespace().is_some())
}

/// Whether binding `mount` at `dentry` alone would show what locked mounts on it cover.
pub(crate) fn has_locked_children(mount: &Arc<Mount>, dentry: &Dentry) -> bool {
    mount.children().iter().any(|child| {
        child.locked.load(Ordering::Relaxed)
            && child.mountpoint().is_some_and(|at| at.dentry.is_below(dentry))
    })
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
    mounts_on(dentry).iter().any(|mount| mount.is_in(ns))
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
        let _shape = super::change();
        for mount in mounts_on(dentry) {
            gone.extend(umount_tree(&mount, Going::Together));
        }
    }
    drop(gone);
}
