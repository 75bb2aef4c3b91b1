//! `mount(2)`, `umount2(2)`, `pivot_root(2)`, new namespaces.
//!
//! Each call resolves its names first, then takes the mount point's `rwsem` (so that it cannot be
//! removed) and [`NAMESPACE`] for writing, checks, and changes the tree.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::{Errno, Result, raw};

use super::propagate::{self, Kind};
use super::tree::{self, CopyWhat};
use super::{Mount, MountNamespace, NAMESPACE, flags};
use crate::cred::UserNamespace;
use crate::dentry::DentryFlags;
use crate::fs_type::{FsFlags, FsType, get_fs_type};
use crate::inode::InodeFlags;
use crate::namei::lookup::follow_down;
use crate::namei::{At, LookupFlags, path_lookup};
use crate::path::{FsStruct, LookupContext, Path};
use crate::super_block::{MS_RMT_MASK, MountRequest, SuperBlock};

/// Flags of `mount(2)` that name an operation other than a new mount.
const OPERATION: u32 = raw::MS_REMOUNT
    | raw::MS_BIND
    | raw::MS_MOVE
    | raw::MS_SHARED
    | raw::MS_PRIVATE
    | raw::MS_SLAVE
    | raw::MS_UNBINDABLE;
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

fn mnt_flags_from(ms: u32) -> u32 {
    let mut set = ms & (flags::ALL & !flags::RELATIME);
    if ms & raw::MS_NOATIME == 0 {
        set |= flags::RELATIME;
    }
    if ms & raw::MS_STRICTATIME != 0 {
        set &= !(flags::RELATIME | flags::NOATIME);
    }
    set
}

fn check_mnt(ctx: &LookupContext<'_>, mount: &Arc<Mount>) -> Result<()> {
    match mount.namespace() {
        Some(ns) if Arc::ptr_eq(&ns, ctx.ns) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
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
        let from = path_lookup(ctx, At::Cwd, source, LookupFlags::FOLLOW)?;
        return move_mount(ctx, &from, at);
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
    if !ctx.cred.user_ns.is_initial() && !fs.flags().contains(FsFlags::USERNS_MOUNT) {
        return Err(Errno::EPERM);
    }
    let request = MountRequest {
        flags: ms & SB_MASK & !OPERATION,
        source,
        options,
        user_ns: &ctx.cred.user_ns,
        private,
    };
    let sb = fs.mount(&request)?;
    kernel_mount(&sb, mnt_flags_from(ms), source)
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
        attach_checked(mount, at, false)?;
        ctx.ns.changed();
        Ok(())
    })
}

/// Attaches with the checks that all attachments share. `moving`: the tree was attached before.
fn attach_checked(mount: &Arc<Mount>, at: &Path, moving: bool) -> Result<()> {
    let dir = |dentry: &crate::dentry::Dentry| dentry.inode().is_some_and(|inode| inode.is_dir());
    if dir(mount.root()) != dir(&at.dentry) {
        return Err(Errno::ENOTDIR);
    }
    let shared = propagate::groups(&at.mnt).0 != 0;
    if shared {
        if moving && tree::subtree(mount).iter().any(|m| m.propagation.lock().unbindable) {
            return Err(Errno::EINVAL);
        }
        propagate::propagate_mount(mount, at)?;
    }
    tree::attach(mount, at);
    Ok(())
}

/// Runs `f` on the topmost place at `at`, with its directory and the mount trees locked.
fn locked_mountpoint<R>(at: &Path, f: impl FnOnce(&Path) -> Result<R>) -> Result<R> {
    loop {
        let at = follow_down(at.clone());
        let inode = at.inode()?;
        let _place = inode.rwsem.write();
        if at.dentry.flags().contains(DentryFlags::CANT_MOUNT)
            || inode.flags().contains(InodeFlags::DEAD)
            || at.dentry.is_unlinked()
        {
            return Err(Errno::ENOENT);
        }
        let _shape = NAMESPACE.write();
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
    let what = if recursive { CopyWhat::Tree } else { CopyWhat::One };
    locked_mountpoint(at, |at| {
        check_mnt(ctx, &at.mnt)?;
        // Files of the kernel's own mounts (namespaces) may be bound too.
        if from.mnt.namespace().is_some() {
            check_mnt(ctx, &from.mnt)?;
        }
        let copies = tree::copy_tree(&from, what)?;
        let Some((_, top)) = copies.first() else { return Err(Errno::EINVAL) };
        if let Err(error) = attach_checked(top, at, false) {
            tree::discard(top);
            return Err(error);
        }
        ctx.ns.changed();
        Ok(())
    })
}

fn change_type(ctx: &LookupContext<'_>, at: &Path, ms: u32) -> Result<()> {
    let recursive = ms & raw::MS_REC != 0;
    let kind = match ms & !(raw::MS_REC | raw::MS_SILENT) {
        raw::MS_SHARED => Kind::Shared,
        raw::MS_PRIVATE => Kind::Private,
        raw::MS_SLAVE => Kind::Slave,
        raw::MS_UNBINDABLE => Kind::Unbindable,
        _ => return Err(Errno::EINVAL),
    };
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let _shape = NAMESPACE.write();
    check_mnt(ctx, &at.mnt)?;
    let members = if recursive { tree::subtree(&at.mnt) } else { alloc::vec![at.mnt.clone()] };
    members.iter().try_for_each(|mount| propagate::change_kind(mount, kind))?;
    ctx.ns.changed();
    Ok(())
}

/// `MS_MOVE`.
pub fn move_mount(ctx: &LookupContext<'_>, from: &Path, at: &Path) -> Result<()> {
    if !from.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    locked_mountpoint(at, |at| {
        check_mnt(ctx, &at.mnt)?;
        check_mnt(ctx, &from.mnt)?;
        let Some(old) = from.mnt.mountpoint() else { return Err(Errno::EINVAL) };
        if from.mnt.locked.load(Ordering::Relaxed) || propagate::groups(&old.mnt).0 != 0 {
            return Err(Errno::EINVAL);
        }
        // Not into itself.
        let mut above = Some(at.mnt.clone());
        while let Some(mount) = above {
            if Arc::ptr_eq(&mount, &from.mnt) {
                return Err(Errno::ELOOP);
            }
            above = mount.mountpoint().map(|p| p.mnt);
        }
        tree::detach(&from.mnt);
        if let Err(error) = attach_checked(&from.mnt, at, true) {
            tree::attach(&from.mnt, &old);
            return Err(error);
        }
        ctx.ns.changed();
        Ok(())
    })
}

/// New flags for the mount alone: keeps locked ones; going read-only needs that nobody writes.
fn set_mount_flags(mount: &Arc<Mount>, wanted: u32) -> Result<()> {
    let locked = mount.locked_flags.load(Ordering::Relaxed);
    if mount.flags() & locked & !wanted != 0 {
        return Err(Errno::EPERM);
    }
    let old = mount.flags();
    mount.set_flags(wanted);
    if wanted & flags::RDONLY != 0 && old & flags::RDONLY == 0 && mount.writers.load(Ordering::SeqCst) > 0 {
        mount.set_flags(old);
        return Err(Errno::EBUSY);
    }
    Ok(())
}

/// What a remount that says nothing about access times keeps of them.
fn remount_flags(mount: &Mount, ms: u32) -> u32 {
    const ATIME: u32 = raw::MS_NOATIME | raw::MS_NODIRATIME | raw::MS_RELATIME | raw::MS_STRICTATIME;
    let mut wanted = mnt_flags_from(ms);
    if ms & ATIME == 0 {
        const KEEP: u32 = flags::NOATIME | flags::NODIRATIME | flags::RELATIME;
        wanted = wanted & !KEEP | mount.flags() & KEEP;
    }
    wanted
}

/// `MS_REMOUNT | MS_BIND`: the mount's own flags.
fn reconfigure(ctx: &LookupContext<'_>, at: &Path, ms: u32) -> Result<()> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let _shape = NAMESPACE.write();
    check_mnt(ctx, &at.mnt)?;
    set_mount_flags(&at.mnt, remount_flags(&at.mnt, ms))?;
    ctx.ns.changed();
    Ok(())
}

/// `MS_REMOUNT`: the file system's flags and options, and the mount's flags.
fn remount(ctx: &LookupContext<'_>, at: &Path, ms: u32, options: &[u8]) -> Result<()> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    check_mnt(ctx, &at.mnt)?;
    let sb = at.mnt.sb();
    if !ctx.cred.ns_capable(sb.user_ns(), Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let _exclusive = sb.umount.write();
    let wanted = ms & SB_MASK & MS_RMT_MASK;
    let new = sb.flags() & !MS_RMT_MASK | wanted;
    if new & raw::MS_RDONLY != 0 && !sb.is_read_only() && has_writers(sb) {
        return Err(Errno::EBUSY);
    }
    sb.ops().remount(sb, new, options)?;
    sb.set_flags(new);
    let mnt_flags = remount_flags(&at.mnt, ms);
    set_mount_flags(&at.mnt, mnt_flags)?;
    ctx.ns.changed();
    Ok(())
}

fn has_writers(sb: &Arc<SuperBlock>) -> bool {
    // Every mount of the file system counts its own.
    super::all_of(sb).iter().any(|mount| mount.writers.load(Ordering::SeqCst) > 0)
}

/// References of an attached mount that nobody uses: its parent's vector and the caller's.
const IDLE_REFERENCES: usize = 2;

fn is_busy(mount: &Arc<Mount>) -> bool {
    Arc::strong_count(mount) > IDLE_REFERENCES
}

/// Lets go the references of readers that are just leaving and of old vectors, which are not users. Not under
/// [`NAMESPACE`]: what runs after a grace period may be the end of a namespace, which takes it.
fn settle(mount: &Arc<Mount>) {
    if is_busy(mount) {
        sched::rcu::barrier();
    }
}

/// `umount2(2)`.
pub fn umount(ctx: &LookupContext<'_>, target: &[u8], umount_flags: u32) -> Result<()> {
    const UMOUNT_NOFOLLOW: u32 = 8;
    const KNOWN: u32 = raw::MNT_FORCE | raw::MNT_DETACH | raw::MNT_EXPIRE | UMOUNT_NOFOLLOW;
    if umount_flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let mut lookup = LookupFlags::NO_AUTOMOUNT;
    lookup.set(LookupFlags::FOLLOW, umount_flags & UMOUNT_NOFOLLOW == 0);
    let path = path_lookup(ctx, At::Cwd, target, lookup)?;
    if !may_mount(ctx) {
        return Err(Errno::EPERM);
    }
    if !path.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    check_mnt(ctx, &path.mnt)?;
    if path.mnt.locked.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL);
    }
    if umount_flags & raw::MNT_FORCE != 0 && !ctx.cred.capable(Cap::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let mount = path.mnt.clone();
    drop(path);
    do_umount(ctx, &mount, umount_flags)
}

fn do_umount(ctx: &LookupContext<'_>, mount: &Arc<Mount>, umount_flags: u32) -> Result<()> {
    let lazy = umount_flags & raw::MNT_DETACH != 0;
    if umount_flags & raw::MNT_EXPIRE != 0 {
        let root = ctx.fs.root()?;
        if Arc::ptr_eq(mount, &root.mnt) || umount_flags & (raw::MNT_FORCE | raw::MNT_DETACH) != 0 {
            return Err(Errno::EINVAL);
        }
        settle(mount);
        if is_busy(mount) {
            return Err(Errno::EBUSY);
        }
        if !mount.expiry_mark.swap(true, Ordering::Relaxed) {
            return Err(Errno::EAGAIN);
        }
    }
    if umount_flags & raw::MNT_FORCE != 0 {
        mount.sb().ops().umount_begin(mount.sb());
    }
    if mount.is_namespace_root() {
        if lazy {
            return Err(Errno::EINVAL);
        }
        // The root file system cannot go; it becomes read-only instead.
        let sb = mount.sb();
        if !ctx.cred.ns_capable(sb.user_ns(), Cap::SysAdmin) {
            return Err(Errno::EPERM);
        }
        return match has_writers(sb) {
            true => Err(Errno::EBUSY),
            false => {
                sb.set_flags(sb.flags() | raw::MS_RDONLY);
                Ok(())
            }
        };
    }
    if !lazy {
        settle(mount);
    }
    let gone = {
        let _shape = NAMESPACE.write();
        check_mnt(ctx, mount)?;
        let in_use = || {
            !mount.children().is_empty()
                || is_busy(mount)
                || propagate::mirrors_busy(mount, |m| Arc::strong_count(m) > IDLE_REFERENCES + 1)
        };
        if !lazy && in_use() {
            return Err(Errno::EBUSY);
        }
        tree::umount_tree(mount)
    };
    tree::finish(gone);
    Ok(())
}

/// `pivot_root(2)`: returns the old and the new root; the kernel moves every process that stands in
/// the old one ([`FsStruct::replace_path`]).
pub fn pivot_root(ctx: &LookupContext<'_>, new_root: &[u8], put_old: &[u8]) -> Result<(Path, Path)> {
    if !may_mount(ctx) {
        return Err(Errno::EPERM);
    }
    let directory = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let new = path_lookup(ctx, At::Cwd, new_root, directory)?;
    let put = path_lookup(ctx, At::Cwd, put_old, directory)?;
    let root = ctx.fs.root()?;
    let _place = put.inode()?.rwsem.write();
    let _shape = NAMESPACE.write();
    check_mnt(ctx, &new.mnt)?;
    check_mnt(ctx, &put.mnt)?;
    check_mnt(ctx, &root.mnt)?;
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
    let root_at = tree::detach(&root.mnt);
    tree::detach(&new.mnt);
    match &root_at {
        Some(at) => tree::attach(&new.mnt, at),
        None => ctx.ns.set_root(new.mnt.clone()),
    }
    tree::attach(&root.mnt, &put);
    ctx.ns.changed();
    Ok((root, new))
}

/// Whether `path` lies at or below `top`.
fn is_reachable(path: &Path, top: &Path) -> bool {
    let mut at = path.clone();
    while !Arc::ptr_eq(&at.mnt, &top.mnt) {
        match at.mnt.mountpoint() {
            Some(above) => at = above,
            None => return false,
        }
    }
    at.dentry.is_below(&top.dentry)
}

/// The first namespace: `mount` is its root.
pub fn initial_namespace(mount: &Arc<Mount>) -> Arc<MountNamespace> {
    let ns = MountNamespace::new(UserNamespace::initial().clone());
    let _shape = NAMESPACE.write();
    ns.set_root(mount.clone());
    ns
}

/// `unshare(CLONE_NEWNS)`: a copy of `old`. Root and working directory in `fs` move into it.
pub fn copy_namespace(
    old: &Arc<MountNamespace>,
    user_ns: &Arc<UserNamespace>,
    fs: Option<&FsStruct>,
) -> Result<Arc<MountNamespace>> {
    let ns = MountNamespace::new(user_ns.clone());
    let less_privileged = !Arc::ptr_eq(old.user_ns(), user_ns);
    let shape = NAMESPACE.write();
    let root = old.root()?;
    let pairs = tree::copy_tree(&root.root_path(), CopyWhat::Namespace)?;
    let Some((_, top)) = pairs.first() else { return Err(Errno::EINVAL) };
    ns.set_root(top.clone());
    for (_, copy) in &pairs {
        *copy.ns.lock() = Arc::downgrade(&ns);
        if less_privileged {
            copy.locked.store(!Arc::ptr_eq(copy, top), Ordering::Relaxed);
            copy.locked_flags.store(copy.flags(), Ordering::Relaxed);
            propagate::change_kind(copy, Kind::Slave)?;
        }
    }
    drop(shape);
    if let Some(fs) = fs {
        let moved = |path: &Path| {
            let pair = pairs.iter().find(|(old, _)| Arc::ptr_eq(old, &path.mnt))?;
            Some(Path::new(pair.1.clone(), path.dentry.clone()))
        };
        if let Some(path) = moved(&fs.root()?) {
            fs.set_root(path);
        }
        if let Some(path) = moved(&fs.cwd()?) {
            fs.set_cwd(path);
        }
    }
    Ok(ns)
}
