//! Names that appear: `mkdir(2)`, `mknod(2)`, `symlink(2)`, `link(2)`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::fs::DevId;
use abi::{Errno, Result, raw};

use super::lookup::lookup_locked;
use super::{At, LookupFlags, path_lookup, path_parent};
use crate::attr::{masked, new_entry_mode};
use crate::cred::Credentials;
use crate::dcache;
use crate::dentry::{Dentry, DentryFlags};
use crate::inode::{Inode, InodeFlags};
use crate::notify::{self, Data};
use crate::path::{LookupContext, Path};
use crate::permission::{inode_permission, may_create, owner_or_capable};
use crate::security::{self, Move, MoveKind, Rights};
use crate::types::{FileType, MayAccess, NAME_MAX};

/// Whether the name to be made may end in a slash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NewKind {
    Directory,
    Other,
}

/// Runs `make(dir, name)` with the directory locked, when `name` does not exist yet, and puts the new inode into the
/// dentry cache.
fn create_with(
    ctx: &LookupContext<'_>,
    at: At<'_>,
    name: &[u8],
    kind: NewKind,
    rights: Rights,
    make: impl FnOnce(&Path, &Arc<Inode>, &[u8]) -> Result<Arc<Inode>>,
) -> Result<Path> {
    let (parent, last) = path_parent(ctx, at, name, LookupFlags::empty())?;
    if !last.is_normal() {
        return Err(Errno::EEXIST);
    }
    if last.name().len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let dir = parent.inode()?;
    inode_permission(dir, ctx.cred, MayAccess::EXEC)?;
    let write = parent.mnt.get_write();
    let result = (|| {
        let _names = dir.rwsem.write();
        let dentry = lookup_locked(&parent.dentry, dir, last.name())?;
        if !dentry.is_negative() {
            return Err(Errno::EEXIST);
        }
        if last.trailing_slash && kind == NewKind::Other {
            return Err(Errno::ENOENT);
        }
        write?;
        security::check(ctx.cred, &parent, rights)?;
        may_create(dir, ctx.cred)?;
        let inode = make(&parent, dir, last.name())?;
        let dentry = attach(&parent.dentry, &dentry, last.name(), inode)?;
        notify::on_entry(&parent.dentry, Data::Dentry(&dentry), notify::mask::CREATE, last.name());
        Ok(Path::new(parent.mnt.clone(), dentry))
    })();
    if write.is_ok() {
        parent.mnt.put_write();
    }
    result
}

/// Makes the negative `dentry` stand for `inode`.
pub(crate) fn attach(
    parent: &Arc<Dentry>,
    dentry: &Arc<Dentry>,
    name: &[u8],
    inode: Arc<Inode>,
) -> Result<Arc<Dentry>> {
    if dentry.is_unlinked() {
        // The file system has the name already.
        let _no_fail = mm::context::NoFailScope::enter();
        return dcache::add(parent, name, Some(inode), 0);
    }
    dentry.instantiate(inode);
    Ok(dentry.clone())
}

/// `mkdirat(2)`.
pub fn mkdir(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], mode: u32) -> Result<Path> {
    create_with(ctx, at, name, NewKind::Directory, Rights::MAKE_DIR, |_, dir, name| {
        if dir.nlink() == u32::MAX {
            return Err(Errno::EMLINK);
        }
        let mode = mode & (raw::S_IRWXU | raw::S_IRWXG | raw::S_IRWXO | raw::S_ISVTX);
        let mode = new_entry_mode(dir, ctx.cred, raw::S_IFDIR | masked(dir, mode, ctx.fs.umask()));
        dir.ops().mkdir(ctx.cred, dir, name, mode)
    })
}

/// `mknodat(2)`: a regular file, FIFO, socket or device node.
pub fn mknod(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], mode: u32, dev: DevId) -> Result<Path> {
    let kind = match mode & raw::S_IFMT {
        0 => FileType::Regular,
        raw::S_IFDIR => return Err(Errno::EPERM),
        _ => FileType::from_mode(mode).ok_or(Errno::EINVAL)?,
    };
    if kind == FileType::Symlink {
        return Err(Errno::EINVAL);
    }
    create_with(ctx, at, name, NewKind::Other, Rights::to_make(kind), |_, dir, name| {
        let permissions = masked(dir, mode & 0o7777, ctx.fs.umask());
        let mode = new_entry_mode(dir, ctx.cred, kind as u32 | permissions);
        if kind == FileType::Regular {
            return dir.ops().create(ctx.cred, dir, name, mode);
        }
        // A whiteout of a union mount gives access to nothing.
        let whiteout = kind == FileType::CharDevice && dev == DevId::default();
        if kind.is_device() && !whiteout && !ctx.cred.capable(Cap::Mknod) {
            return Err(Errno::EPERM);
        }
        let dev = if kind.is_device() { dev } else { DevId::default() };
        dir.ops().mknod(ctx.cred, dir, name, mode, dev)
    })
}

/// `symlinkat(2)`.
pub fn symlink(ctx: &LookupContext<'_>, target: &[u8], at: At<'_>, name: &[u8]) -> Result<Path> {
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    if target.len() >= crate::types::PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    create_with(ctx, at, name, NewKind::Other, Rights::MAKE_SYM, |_, dir, name| {
        dir.ops().symlink(ctx.cred, dir, name, target)
    })
}

/// `linkat(2)`; flags are `AT_SYMLINK_FOLLOW` and `AT_EMPTY_PATH`.
pub fn link(
    ctx: &LookupContext<'_>,
    old_at: At<'_>,
    old: &[u8],
    new_at: At<'_>,
    new: &[u8],
    flags: u32,
) -> Result<()> {
    if flags & !(raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & raw::AT_SYMLINK_FOLLOW != 0);
    if flags & raw::AT_EMPTY_PATH != 0 {
        // Allowed to the administrator, and to who opened the file with the same credentials.
        let same = matches!(old_at, At::File(file) if Arc::ptr_eq(file.cred(), ctx.cred));
        if old.is_empty() && !same && !ctx.cred.capable(Cap::DacReadSearch) {
            return Err(Errno::ENOENT);
        }
        lookup |= LookupFlags::EMPTY;
    }
    let source = path_lookup(ctx, old_at, old, lookup)?;
    let inode = source.inode()?.clone();
    create_with(ctx, new_at, new, NewKind::Other, Rights::empty(), |parent, dir, name| {
        if !Arc::ptr_eq(&parent.mnt, &source.mnt) || !Arc::ptr_eq(dir.sb(), inode.sb()) {
            return Err(Errno::EXDEV);
        }
        may_linkat(&inode, ctx.cred)?;
        let request = Move { source: &source.dentry, to: parent, target: None, kind: MoveKind::Link };
        security::check_move(ctx.cred, &request)?;
        if inode.flags().intersects(InodeFlags::APPEND | InodeFlags::IMMUTABLE) || inode.is_dir() {
            return Err(Errno::EPERM);
        }
        let _source = inode.rwsem.write_nested();
        // A file without a name can get one only if `O_TMPFILE` made it so.
        if inode.nlink() == 0 && !source.dentry.flags().contains(DentryFlags::LINKABLE) {
            return Err(Errno::ENOENT);
        }
        if inode.nlink() == u32::MAX {
            return Err(Errno::EMLINK);
        }
        dir.ops().link(dir, name, &inode)?;
        notify::on_inode(&inode, Some(&source.dentry), notify::mask::ATTRIB);
        Ok(inode.clone())
    })
    .map(drop)
}

/// `/proc/sys/fs/protected_hardlinks`: only files that one owns or could write may be linked.
fn may_linkat(inode: &Inode, cred: &Credentials) -> Result<()> {
    if super::PROTECTED_HARDLINKS.load(Ordering::Relaxed) == 0 || owner_or_capable(inode, cred) {
        return Ok(());
    }
    let special = inode.mode() & raw::S_ISUID != 0
        || inode.mode() & (raw::S_ISGID | raw::S_IXGRP) == raw::S_ISGID | raw::S_IXGRP;
    if inode.is_regular()
        && !special
        && inode_permission(inode, cred, MayAccess::READ | MayAccess::WRITE).is_ok()
    {
        return Ok(());
    }
    Err(Errno::EPERM)
}
