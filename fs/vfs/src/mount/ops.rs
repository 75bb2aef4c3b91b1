//! `mount(2)`: new mounts, binds, remounts, kinds of propagation.
//!
//! Each call resolves its names first, then takes the mount point's `rwsem` (so that it cannot be
//! removed) and [`NAMESPACE`] for writing, checks, and changes the tree.

use alloc::sync::Arc;
use core::any::Any;

use abi::cap::Cap;
use abi::{Errno, Result, raw};

use super::moving::{self, Side};
use super::propagate::{self, Kind};
use super::tree::{self, CopyWhat};
use super::{Mount, attr, detached};
use crate::dentry::DentryFlags;
use crate::fs_context::{FsContext, Log, Sharing, Value};
use crate::fs_type::{FsFlags, FsType, get_fs_type};
use crate::inode::InodeFlags;
use crate::namei::lookup::follow_down;
use crate::namei::{At, LookupFlags, path_lookup};
use crate::path::{LookupContext, Path};
use crate::super_block::{MS_RMT_MASK, SuperBlock};

pub use super::namespace::{copy_namespace, initial_namespace};
pub use super::pivot::pivot_root;
pub use super::umount::umount;

/// Flags that go to the super block.
const SB_MASK: u32 = raw::MS_RDONLY
    | raw::MS_SYNCHRONOUS
    | raw::MS_MANDLOCK
    | raw::MS_DIRSYNC
    | raw::MS_SILENT
    | raw::MS_POSIXACL
    | raw::MS_LAZYTIME
    | raw::MS_I_VERSION;

/// May the caller change mounts of its namespace?
pub fn may_mount(ctx: &LookupContext<'_>) -> bool {
    ctx.cred.ns_capable(ctx.ns.user_ns(), Cap::SysAdmin)
}

pub(super) fn check_mnt(ctx: &LookupContext<'_>, mount: &Arc<Mount>) -> Result<()> {
    if mount.is_in(ctx.ns) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `mount(2)`. `options` is the data argument up to its NUL.
pub fn mount(
    ctx: &LookupContext<'_>,
    source: &[u8],
    target: &[u8],
    fs_type: Option<&[u8]>,
    ms: u32,
    options: &[u8],
    private: Option<Arc<dyn Any + Send + Sync>>,
) -> Result<()> {
    let ms =
        if ms & raw::MS_MGC_MSK == raw::MS_MGC_VAL & raw::MS_MGC_MSK { ms & !raw::MS_MGC_MSK } else { ms };
    if ms & raw::MS_NOUSER != 0 {
        return Err(Errno::EINVAL);
    }
    let at = path_lookup(ctx, At::Cwd, target, LookupFlags::FOLLOW)?;
    crate::security::check_mounts(ctx.cred)?;
    if !may_mount(ctx) {
        return Err(Errno::EPERM);
    }
    mount_path(ctx, source, &at, fs_type, ms, options, private)
}

/// [`mount`] on a place that is known already.
pub fn mount_path(
    ctx: &LookupContext<'_>,
    source: &[u8],
    at: &Path,
    fs_type: Option<&[u8]>,
    ms: u32,
    options: &[u8],
    private: Option<Arc<dyn Any + Send + Sync>>,
) -> Result<()> {
    if ms & (raw::MS_REMOUNT | raw::MS_BIND) == raw::MS_REMOUNT | raw::MS_BIND {
        return reconfigure(ctx, at, ms);
    }
    if ms & raw::MS_REMOUNT != 0 {
        return remount(ctx, at, ms, options);
    }
    if ms & raw::MS_BIND != 0 {
        return bind(ctx, source, at, ms & raw::MS_REC != 0);
    }
    if ms & (raw::MS_SHARED | raw::MS_PRIVATE | raw::MS_SLAVE | raw::MS_UNBINDABLE) != 0 {
        return change_type(ctx, at, ms);
    }
    if ms & raw::MS_MOVE != 0 {
        if source.is_empty() {
            return Err(Errno::EINVAL);
        }
        let from = path_lookup(ctx, At::Cwd, source, LookupFlags::FOLLOW)?;
        return moving::move_mount(ctx, &from, at, Side::Above);
    }
    let name = fs_type.ok_or(Errno::EINVAL)?;
    let fs = get_fs_type(name).ok_or(Errno::ENODEV)?;
    let mount = new_mount(ctx, fs, source, ms, options, private)?;
    graft(ctx, &mount, at)
}

/// Makes a mount of a new (or shared) super block, attached nowhere.
pub fn new_mount(
    ctx: &LookupContext<'_>,
    fs: &'static dyn FsType,
    source: &[u8],
    ms: u32,
    options: &[u8],
    private: Option<Arc<dyn Any + Send + Sync>>,
) -> Result<Arc<Mount>> {
    if fs.flags().contains(FsFlags::NO_USER) {
        return Err(Errno::EINVAL);
    }
    let mut context = FsContext::for_mount(fs, ctx.cred, ms & SB_MASK, private, Log::to_console());
    if !source.is_empty() {
        context.set_param(ctx, b"source", Value::Text(crate::util::try_to_vec(source)?))?;
    }
    context.set_monolithic(ctx, options)?;
    context.create(ctx, Sharing::Allowed)?;
    context.mount(attr::from_ms(ms))
}

/// A mount of `sb`, attached nowhere.
pub fn kernel_mount(sb: &Arc<SuperBlock>, mnt_flags: u32, source: &[u8]) -> Result<Arc<Mount>> {
    let root = sb.root().ok_or(Errno::ENOENT)?;
    Mount::new(sb.clone(), root, mnt_flags, source)
}

/// Attaches `mount` (a tree of its own) at `at`, with propagation.
fn graft(ctx: &LookupContext<'_>, mount: &Arc<Mount>, at: &Path) -> Result<()> {
    locked_mountpoint(at, |at| {
        check_mnt(ctx, &at.mnt)?;
        // The same file system on the same place twice in a row is refused.
        if Arc::ptr_eq(at.mnt.root(), mount.root())
            && Arc::ptr_eq(at.mnt.sb(), mount.sb())
            && at.is_mount_root()
        {
            return Err(Errno::EBUSY);
        }
        if mount.root().inode().is_some_and(|inode| inode.is_symlink()) {
            return Err(Errno::EINVAL);
        }
        attach_checked(mount, at)?;
        ctx.ns.changed();
        Ok(())
    })
}

/// Attaches with the checks that all attachments share.
pub(super) fn attach_checked(mount: &Arc<Mount>, at: &Path) -> Result<()> {
    let dir = |dentry: &crate::dentry::Dentry| dentry.inode().is_some_and(|inode| inode.is_dir());
    if dir(mount.root()) != dir(&at.dentry) {
        return Err(Errno::ENOTDIR);
    }
    if let Some(ns) = at.mnt.namespace() {
        ns.room_for(tree::subtree(mount).iter().filter(|member| !member.is_in(&ns)).count())?;
    }
    if propagate::groups(&at.mnt).0 != 0 {
        propagate::propagate_mount(mount, at)?;
    }
    tree::attach(mount, at);
    Ok(())
}

/// Runs `f` on the topmost place at `at`, with its directory and the mount trees locked.
pub(super) fn locked_mountpoint<R>(at: &Path, f: impl FnOnce(&Path) -> Result<R>) -> Result<R> {
    loop {
        let at = follow_down(at.clone());
        let inode = at.inode()?;
        let _place = inode.rwsem.write();
        if at.dentry.flags().contains(DentryFlags::CANT_MOUNT)
            || inode.flags().contains(InodeFlags::DEAD)
            || at.dentry.is_unlinked() && !at.dentry.flags().contains(DentryFlags::DISCONNECTED)
        {
            return Err(Errno::ENOENT);
        }
        let _shape = super::change();
        if at.mnt.child(&at.dentry).is_none() {
            return f(&at);
        }
    }
}

fn bind(ctx: &LookupContext<'_>, source: &[u8], at: &Path, recursive: bool) -> Result<()> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let from = path_lookup(ctx, At::Cwd, source, LookupFlags::FOLLOW)?;
    if tree::keeps(ctx.ns, &from.dentry) {
        return Err(Errno::EINVAL);
    }
    let what = if recursive { CopyWhat::Tree } else { CopyWhat::One };
    locked_mountpoint(at, |at| {
        check_mnt(ctx, &at.mnt)?;
        let top = detached::copy(ctx, &from, what)?;
        if let Err(error) = attach_checked(&top, at) {
            tree::discard(&top);
            return Err(error);
        }
        ctx.ns.changed();
        Ok(())
    })
}

fn change_type(ctx: &LookupContext<'_>, at: &Path, ms: u32) -> Result<()> {
    let kind = Kind::from_ms(ms & !(raw::MS_REC | raw::MS_SILENT)).ok_or(Errno::EINVAL)?;
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let _shape = super::change();
    check_mnt(ctx, &at.mnt)?;
    let members = match ms & raw::MS_REC {
        0 => alloc::vec![at.mnt.clone()],
        _ => tree::subtree(&at.mnt),
    };
    members.iter().try_for_each(|mount| propagate::change_kind(mount, kind))?;
    ctx.ns.changed();
    Ok(())
}

/// `MS_REMOUNT | MS_BIND`: the mount's own flags.
fn reconfigure(ctx: &LookupContext<'_>, at: &Path, ms: u32) -> Result<()> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let _shape = super::change();
    check_mnt(ctx, &at.mnt)?;
    attr::set_mount_flags(&at.mnt, attr::from_remount(&at.mnt, ms))?;
    ctx.ns.changed();
    Ok(())
}

/// `MS_REMOUNT`: the file system's flags and options, and the mount's flags.
fn remount(ctx: &LookupContext<'_>, at: &Path, ms: u32, options: &[u8]) -> Result<()> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    check_mnt(ctx, &at.mnt)?;
    let mnt_flags = attr::from_remount(&at.mnt, ms);
    attr::check_locked(&at.mnt, mnt_flags)?;
    let log = Log::to_console();
    let mut context = FsContext::for_reconfigure(&at.dentry, ctx.cred, ms & SB_MASK, MS_RMT_MASK, log);
    context.set_monolithic(ctx, options)?;
    context.reconfigure(ctx.cred)?;
    let _shape = super::change();
    check_mnt(ctx, &at.mnt)?;
    attr::set_mount_flags(&at.mnt, mnt_flags)?;
    ctx.ns.changed();
    Ok(())
}
