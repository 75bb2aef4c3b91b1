//! Names that go: `unlink(2)`, `rmdir(2)`.

use abi::{Errno, Result};

use super::lookup::lookup_locked;
use super::{At, LookupFlags, path_parent};
use crate::dcache;
use crate::dentry::DentryFlags;
use crate::inode::InodeFlags;
use crate::mount;
use crate::notify::{self, Data};
use crate::path::{LookupContext, Path};
use crate::permission::{Removal, may_delete, may_search};
use crate::security::{self, Rights};

/// `unlinkat(2)` without `AT_REMOVEDIR`.
pub fn unlink(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8]) -> Result<()> {
    let (parent, last) = path_parent(ctx, at, name, LookupFlags::empty())?;
    if !last.is_normal() {
        return Err(Errno::EISDIR);
    }
    let dir = parent.inode()?;
    may_search(dir, ctx.cred)?;
    parent.mnt.get_write()?;
    let spelling = if last.trailing_slash { Spelling::TrailingSlash } else { Spelling::Plain };
    let result = unlink_entry(ctx, &parent, last.name(), spelling);
    parent.mnt.put_write();
    result
}

/// How the last name of a path was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Without a slash after it.
    Plain,
    /// With one: it must be a directory.
    TrailingSlash,
    /// Not as a path: no rule about paths applies.
    Alone,
}

/// Removes `name` from the directory `parent`, of which a write reference is held.
pub(super) fn unlink_entry(
    ctx: &LookupContext<'_>,
    parent: &Path,
    name: &[u8],
    spelling: Spelling,
) -> Result<()> {
    let dir = parent.inode()?;
    let names = dir.rwsem.write();
    let dentry = lookup_locked(&parent.dentry, dir, name)?;
    let inode = dentry.inode().ok_or(Errno::ENOENT)?;
    if spelling == Spelling::TrailingSlash {
        return Err(if inode.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    if spelling != Spelling::Alone {
        security::check(ctx.cred, parent, Rights::to_remove(inode))?;
    }
    may_delete(dir, inode, ctx.cred, Removal::File)?;
    {
        let _victim = inode.rwsem.write_nested();
        if dentry.flags().contains(DentryFlags::MOUNTED) {
            if mount::tree::is_local_mountpoint(ctx.ns, &dentry) {
                return Err(Errno::EBUSY);
            }
            mount::tree::detach_mounts(&dentry);
        }
        dir.ops().unlink(dir, name, inode)?;
    }
    notify::on_inode(inode, None, notify::mask::ATTRIB);
    dcache::d_delete(&dentry);
    // The space is given back with the directory free for others, unless somebody watches: the end of the file is told before
    // the end of its name.
    let watched = inode.notify.pins() > 0;
    if watched {
        dcache::evict_if_unused(&dentry, 1);
    }
    notify::on_entry(&parent.dentry, Data::Inode(inode), notify::mask::DELETE, name);
    drop(names);
    if !watched {
        dcache::evict_if_unused(&dentry, 1);
    }
    Ok(())
}

/// `rmdir(2)`, `unlinkat(2)` with `AT_REMOVEDIR`.
pub fn rmdir(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8]) -> Result<()> {
    let (parent, last) = path_parent(ctx, at, name, LookupFlags::empty())?;
    match last.name() {
        b".." => return Err(Errno::ENOTEMPTY),
        b"." => return Err(Errno::EINVAL),
        b"" => return Err(Errno::EBUSY),
        _ => {}
    }
    let dir = parent.inode()?;
    may_search(dir, ctx.cred)?;
    parent.mnt.get_write()?;
    let result = (|| {
        let _names = dir.rwsem.write();
        let dentry = lookup_locked(&parent.dentry, dir, last.name())?;
        let inode = dentry.inode().ok_or(Errno::ENOENT)?;
        security::check(ctx.cred, &parent, Rights::REMOVE_DIR)?;
        may_delete(dir, inode, ctx.cred, Removal::Directory)?;
        {
            let _victim = inode.rwsem.write_nested();
            if dentry.flags().contains(DentryFlags::MOUNTED)
                && mount::tree::is_local_mountpoint(ctx.ns, &dentry)
            {
                return Err(Errno::EBUSY);
            }
            dir.ops().rmdir(dir, last.name(), inode)?;
            inode.insert_flags(InodeFlags::DEAD);
            dentry.insert_flags(DentryFlags::CANT_MOUNT);
            mount::tree::detach_mounts(&dentry);
        }
        dcache::d_delete(&dentry);
        dcache::evict_if_unused(&dentry, 1);
        notify::on_entry(&parent.dentry, Data::Inode(inode), notify::mask::DELETE, last.name());
        Ok(())
    })();
    parent.mnt.put_write();
    result
}
