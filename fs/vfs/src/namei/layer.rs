//! What a file system that stands on others does in them: single names in directories that it knows already.
//!
//! All of it is done with credentials that the caller gives (those of who mounted it), without a file mode mask, and without the
//! rules about paths ([`crate::security`]): users are checked where they came in. The caller holds a write reference of the mount
//! through which it uses the layer.

use alloc::sync::Arc;

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use mm::fallible::try_format;

use super::LookupFlags;
use super::OpenArgs;
use super::create::attach;
use super::lookup::{lookup_locked, lookup_one};
use super::open::do_open;
use super::rename::{RenameFlags, Step, locked};
use crate::attr::new_entry_mode;
use crate::cred::Credentials;
use crate::dcache;
use crate::dentry::{Dentry, DentryFlags};
use crate::file::{File, FileMode};
use crate::inode::InodeFlags;
use crate::mount;
use crate::notify::{self, Data};
use crate::path::Path;
use crate::permission::{Removal, inode_permission, may_create, may_delete};
use crate::types::{MayAccess, NAME_MAX};

/// What [`make`] makes.
#[derive(Clone, Copy, Debug)]
pub enum New<'a> {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this text.
    Symlink(&'a [u8]),
    /// A device node, FIFO or socket.
    Special(DevId),
}

/// The entry `name` of `parent`, if there is one.
///
/// # Errors
/// `EACCES`; `ENAMETOOLONG`; `ENOTDIR`; those of the file system.
pub fn lookup(cred: &Credentials, parent: &Arc<Dentry>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
    let dir = parent.inode().ok_or(Errno::ENOENT)?;
    if !dir.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    inode_permission(dir, cred, MayAccess::EXEC)?;
    let found = match lookup_one(parent, name) {
        Err(Errno::ENOENT) => return Ok(None),
        found => found?,
    };
    Ok((!found.is_negative()).then_some(found))
}

/// Makes `name` in `parent` with type and permissions `mode`.
///
/// # Errors
/// `EEXIST`; those of the file system.
pub fn make(
    cred: &Credentials,
    parent: &Arc<Dentry>,
    name: &[u8],
    mode: u32,
    new: New<'_>,
) -> Result<Arc<Dentry>> {
    let dir = parent.inode().ok_or(Errno::ENOENT)?;
    let _names = dir.rwsem.write();
    let dentry = lookup_locked(parent, dir, name)?;
    if !dentry.is_negative() {
        return Err(Errno::EEXIST);
    }
    may_create(dir, cred)?;
    let mode = new_entry_mode(dir, cred, mode);
    let inode = match new {
        New::File => dir.ops().create(cred, dir, name, mode)?,
        New::Directory => dir.ops().mkdir(cred, dir, name, mode)?,
        New::Symlink(target) => dir.ops().symlink(cred, dir, name, target)?,
        New::Special(dev) => dir.ops().mknod(cred, dir, name, mode, dev)?,
    };
    let dentry = attach(parent, &dentry, name, inode)?;
    notify::on_entry(parent, Data::Dentry(&dentry), notify::mask::CREATE, name);
    Ok(dentry)
}

/// Makes a regular file without a name, which may get one ([`link`]).
///
/// # Errors
/// `EOPNOTSUPP`; those of the file system.
pub fn tmpfile(cred: &Credentials, parent: &Arc<Dentry>, mode: u32) -> Result<Arc<Dentry>> {
    let dir = parent.inode().ok_or(Errno::ENOENT)?;
    inode_permission(dir, cred, MayAccess::WRITE | MayAccess::EXEC)?;
    let inode = dir.ops().tmpfile(cred, dir, new_entry_mode(dir, cred, raw::S_IFREG | mode))?;
    let text = try_format(format_args!("#{}", inode.ino()))?;
    Dentry::new_unnamed(parent, text.as_bytes(), inode, true)
}

/// Gives the file `source` one more name.
///
/// # Errors
/// `EEXIST`; those of the file system.
pub fn link(
    cred: &Credentials,
    parent: &Arc<Dentry>,
    name: &[u8],
    source: &Arc<Dentry>,
) -> Result<Arc<Dentry>> {
    let dir = parent.inode().ok_or(Errno::ENOENT)?;
    let inode = source.inode().ok_or(Errno::ENOENT)?;
    let _names = dir.rwsem.write();
    let dentry = lookup_locked(parent, dir, name)?;
    if !dentry.is_negative() {
        return Err(Errno::EEXIST);
    }
    may_create(dir, cred)?;
    if inode.flags().intersects(InodeFlags::APPEND | InodeFlags::IMMUTABLE) || inode.is_dir() {
        return Err(Errno::EPERM);
    }
    {
        let _source = inode.rwsem.write_nested();
        if inode.nlink() == 0 && !source.flags().contains(DentryFlags::LINKABLE) {
            return Err(Errno::ENOENT);
        }
        if inode.nlink() == u32::MAX {
            return Err(Errno::EMLINK);
        }
        dir.ops().link(dir, name, inode)?;
    }
    notify::on_inode(inode, Some(source), notify::mask::ATTRIB);
    let dentry = attach(parent, &dentry, name, inode.clone())?;
    notify::on_entry(parent, Data::Dentry(&dentry), notify::mask::CREATE, name);
    Ok(dentry)
}

/// Removes the entry `name` of `parent`: an empty directory or anything else.
///
/// # Errors
/// `ENOENT`; `ENOTEMPTY`; those of the file system.
pub fn remove(cred: &Credentials, parent: &Arc<Dentry>, name: &[u8]) -> Result<()> {
    let dir = parent.inode().ok_or(Errno::ENOENT)?;
    let names = dir.rwsem.write();
    let dentry = lookup_locked(parent, dir, name)?;
    let inode = dentry.inode().ok_or(Errno::ENOENT)?;
    let want = if inode.is_dir() { Removal::Directory } else { Removal::File };
    may_delete(dir, inode, cred, want)?;
    {
        let _victim = inode.rwsem.write_nested();
        match want {
            Removal::Directory => {
                dir.ops().rmdir(dir, name, inode)?;
                inode.insert_flags(InodeFlags::DEAD);
                dentry.insert_flags(DentryFlags::CANT_MOUNT);
            }
            Removal::File => dir.ops().unlink(dir, name, inode)?,
        }
        mount::tree::detach_mounts(&dentry);
    }
    if want == Removal::File {
        notify::on_inode(inode, None, notify::mask::ATTRIB);
    }
    dcache::d_delete(&dentry);
    notify::on_entry(parent, Data::Inode(inode), notify::mask::DELETE, name);
    drop(names);
    dcache::evict_if_unused(&dentry, 1);
    Ok(())
}

/// Moves the entry `old_name` of `old_parent` to `new_name` in `new_parent`, over what is there.
///
/// # Errors
/// `ENOENT`; `EINVAL` for flags that the file system does not know; its own.
pub fn rename(
    cred: &Credentials,
    (old_parent, old_name): (&Arc<Dentry>, &[u8]),
    (new_parent, new_name): (&Arc<Dentry>, &[u8]),
    flags: RenameFlags,
) -> Result<()> {
    locked(old_parent, new_parent, || {
        let old_dir = old_parent.inode().ok_or(Errno::ENOENT)?;
        let new_dir = new_parent.inode().ok_or(Errno::ENOENT)?;
        let source = lookup_locked(old_parent, old_dir, old_name)?;
        let inode = source.inode().ok_or(Errno::ENOENT)?;
        let target = lookup_locked(new_parent, new_dir, new_name)?;
        if flags.contains(RenameFlags::EXCHANGE) && target.is_negative() {
            return Err(Errno::ENOENT);
        }
        if new_parent.is_below(&source) || old_parent.is_below(&target) {
            return Err(Errno::EINVAL);
        }
        let step = Step {
            cred,
            ns: None,
            old_parent,
            old_name,
            source: &source,
            new_parent,
            new_name,
            target: &target,
            flags,
        };
        step.run(old_dir, inode, new_dir)
    })
}

/// Opens the file at `path`; nobody hears of it.
///
/// # Errors
/// Those of `open(2)`.
pub fn open(cred: &Arc<Credentials>, path: &Path, flags: u32) -> Result<Arc<File>> {
    let args = OpenArgs { flags, mode: 0, resolve: LookupFlags::empty() };
    do_open(cred, path, &args, FileMode::NONOTIFY)
}

/// What stands for the file of `dentry` is not used any more, and has the last reference that counts: a file without a name gives
/// up its space.
pub fn release(dentry: &Arc<Dentry>) {
    dcache::evict_if_unused(dentry, 1);
}
