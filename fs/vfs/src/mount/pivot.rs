//! `pivot_root(2)`.

use core::sync::atomic::Ordering;

use alloc::sync::Arc;

use abi::{Errno, Result};

use super::ops::{check_mnt, may_mount};
use super::tree::is_reachable;
use super::{Mount, propagate, tree};
use crate::namei::{At, LookupFlags, path_lookup};
use crate::path::{LookupContext, Path};

/// `pivot_root(2)`: returns the old and the new root; the kernel moves every process that stands in
/// the old one ([`crate::path::FsStruct::replace_path`]).
pub fn pivot_root(ctx: &LookupContext<'_>, new_root: &[u8], put_old: &[u8]) -> Result<(Path, Path)> {
    if !may_mount(ctx) {
        return Err(Errno::EPERM);
    }
    let directory = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let new = path_lookup(ctx, At::Cwd, new_root, directory)?;
    let put = path_lookup(ctx, At::Cwd, put_old, directory)?;
    crate::security::check_mounts(ctx.cred)?;
    let root = ctx.fs.root()?;
    let _place = put.inode()?.rwsem.write();
    let _shape = super::change();
    check_mnt(ctx, &new.mnt)?;
    check_mnt(ctx, &put.mnt)?;
    check_mnt(ctx, &root.mnt)?;
    if new.mnt.locked.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL);
    }
    if new.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    if Arc::ptr_eq(&new.mnt, &root.mnt) || Arc::ptr_eq(&put.mnt, &root.mnt) {
        return Err(Errno::EBUSY);
    }
    if !root.is_mount_root() || !new.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let Some(new_at) = new.mnt.mountpoint() else { return Err(Errno::EINVAL) };
    let shared = |mount: &Mount| propagate::groups(mount).0 != 0;
    let root_parent_shared = root.mnt.mountpoint().is_some_and(|at| shared(&at.mnt));
    if shared(&put.mnt) || shared(&new_at.mnt) || root_parent_shared {
        return Err(Errno::EINVAL);
    }
    if !is_reachable(&put, &new) || !is_reachable(&new, &root) {
        return Err(Errno::EINVAL);
    }
    // The root of the namespace itself stays where it is.
    let root_at = tree::detach(&root.mnt).ok_or(Errno::EINVAL)?;
    tree::detach(&new.mnt);
    tree::attach(&new.mnt, &root_at);
    // Whatever is at the root of the namespace is what cannot be taken away.
    let locked = root.mnt.locked.swap(false, Ordering::Relaxed);
    new.mnt.locked.fetch_or(locked, Ordering::Relaxed);
    tree::attach(&root.mnt, &put);
    ctx.ns.changed();
    Ok((root, new))
}
