//! `move_mount(2)` and `MS_MOVE`: a mount, with what is on it, goes to another place.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::{Errno, Result};

use super::ops::{attach_checked, check_mnt, locked_mountpoint};
use super::propagate;
use super::{Mount, tree};
use crate::inode::InodeFlags;
use crate::namei::lookup::follow_down;
use crate::path::{LookupContext, Path};

/// On which side of what is at the target already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Over it.
    Above,
    /// Under it (`MOVE_MOUNT_BENEATH`): it stays visible, and uncovers the new mount when it goes.
    Beneath,
}

/// Moves the mount at `from`, or the tree that a descriptor holds, to `to`.
///
/// # Errors
/// `EINVAL` for what cannot be moved, or not there; `ELOOP` for a move into itself.
pub fn move_mount(ctx: &LookupContext<'_>, from: &Path, to: &Path, side: Side) -> Result<()> {
    crate::security::check_mounts(ctx.cred)?;
    match side {
        Side::Above => locked_mountpoint(to, |at| place(ctx, from, at, at, Side::Above)),
        Side::Beneath => beneath(ctx, from, to),
    }
}

/// Takes the locks for a place under the topmost mount at `to`.
fn beneath(ctx: &LookupContext<'_>, from: &Path, to: &Path) -> Result<()> {
    loop {
        let top = follow_down(to.clone());
        let Some(at) = top.mnt.mountpoint() else { return Err(Errno::EINVAL) };
        let inode = at.inode()?;
        let _place = inode.rwsem.write();
        if inode.flags().contains(InodeFlags::DEAD) || at.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        let _shape = super::change();
        if top.mnt.child(&top.dentry).is_none() && top.mnt.mountpoint().is_some_and(|now| now.same(&at)) {
            return place(ctx, from, &top, &at, Side::Beneath);
        }
    }
}

/// Moves `from` to `at`; `to` is what was asked for, on top of it when it goes beneath.
fn place(ctx: &LookupContext<'_>, from: &Path, to: &Path, at: &Path, side: Side) -> Result<()> {
    check_mnt(ctx, &to.mnt)?;
    let ns = from.mnt.namespace().ok_or(Errno::EINVAL)?;
    let old = from.mnt.mountpoint();
    match &old {
        Some(_) => check_mnt(ctx, &from.mnt)?,
        // Mounted nowhere: the root of a tree that a descriptor holds.
        None if ns.is_anonymous() => {}
        None => return Err(Errno::EINVAL),
    }
    if from.mnt.locked.load(Ordering::Relaxed) || !from.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let is_dir = |path: &Path| path.dentry.inode().is_some_and(|inode| inode.is_dir());
    if is_dir(from) != is_dir(to) {
        return Err(Errno::EINVAL);
    }
    if old.as_ref().is_some_and(|old| propagate::groups(&old.mnt).0 != 0) {
        return Err(Errno::EINVAL);
    }
    if side == Side::Beneath {
        may_go_beneath(ctx, from, to, at)?;
    }
    if propagate::groups(&at.mnt).0 != 0
        && tree::subtree(&from.mnt).iter().any(|m| m.propagation.lock().unbindable)
    {
        return Err(Errno::EINVAL);
    }
    if tree::would_keep(ctx.ns, &from.mnt) || is_within(&at.mnt, &from.mnt) {
        return Err(Errno::ELOOP);
    }
    tree::detach(&from.mnt);
    let held = if old.is_none() { ns.take_root() } else { None };
    if let Err(error) = attach_checked(&from.mnt, at) {
        match (&old, held) {
            (Some(old), _) => tree::attach(&from.mnt, old),
            (None, Some(root)) => ns.set_root(root),
            (None, None) => {}
        }
        return Err(error);
    }
    ctx.ns.changed();
    Ok(())
}

/// Whether `mount` is `top` or mounted somewhere on it.
fn is_within(mount: &Arc<Mount>, top: &Arc<Mount>) -> bool {
    let mut at = Some(mount.clone());
    while let Some(mount) = at {
        if Arc::ptr_eq(&mount, top) {
            return true;
        }
        at = mount.mountpoint().map(|point| point.mnt);
    }
    false
}

/// What `MOVE_MOUNT_BENEATH` asks of the mount at `to` (on `at`) and of the one that goes under it.
fn may_go_beneath(ctx: &LookupContext<'_>, from: &Path, to: &Path, at: &Path) -> Result<()> {
    let covered = from.mnt.child(&from.dentry).is_some();
    if !to.is_mount_root() || to.mnt.locked.load(Ordering::Relaxed) || covered {
        return Err(Errno::EINVAL);
    }
    // Under a root directory nothing could ever be seen.
    if Arc::ptr_eq(&to.mnt, &ctx.fs.root()?.mnt) || ctx.ns.is_root(&at.mnt) {
        return Err(Errno::EINVAL);
    }
    if is_within(&from.mnt, &to.mnt) {
        return Err(Errno::EINVAL);
    }
    // The event of the new mount must not travel to the very mounts that it goes beneath, or comes from.
    let ours = from.mnt.is_in(ctx.ns);
    if propagate::would_cover(at, &to.mnt) || ours && propagate::would_cover(at, &from.mnt) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// `MOVE_MOUNT_SET_GROUP`: the mount at `to` joins the peer group of the one at `from`, and becomes a slave of the same.
///
/// # Errors
/// `EPERM` without rights over both namespaces; `EINVAL` for all that does not fit.
pub fn set_group(ctx: &LookupContext<'_>, from: &Path, to: &Path) -> Result<()> {
    let _shape = super::change();
    let namespaces = [&from.mnt, &to.mnt].map(|mount| mount.namespace());
    let [Some(from_ns), Some(to_ns)] = namespaces else { return Err(Errno::EINVAL) };
    for ns in [from_ns, to_ns] {
        if !ctx.cred.ns_capable(ns.user_ns(), Cap::SysAdmin) {
            return Err(Errno::EPERM);
        }
    }
    let (from_group, from_master) = propagate::groups(&from.mnt);
    let fits = from.is_mount_root()
        && to.is_mount_root()
        && Arc::ptr_eq(from.mnt.sb(), to.mnt.sb())
        && to.mnt.root().is_below(from.mnt.root())
        && !tree::has_locked_children(&from.mnt, to.mnt.root())
        && propagate::groups(&to.mnt) == (0, 0)
        && (from_group, from_master) != (0, 0);
    if !fits {
        return Err(Errno::EINVAL);
    }
    propagate::join(&from.mnt, &to.mnt);
    Ok(())
}
