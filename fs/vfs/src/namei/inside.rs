//! Names directly in one directory of the kernel's own mounts: what `mq_open(2)` and `mq_unlink(2)` take instead of a path.

use alloc::sync::Arc;

use abi::{Errno, Result, raw};

use super::LookupFlags;
use super::create::attach;
use super::lookup::lookup_locked;
use super::open::{OpenArgs, do_open};
use super::remove::unlink_entry;
use crate::file::{File, FileMode};
use crate::inode::Inode;
use crate::notify::{self, Data};
use crate::path::{LookupContext, Path};
use crate::permission::{inode_permission, may_create};
use crate::types::{MayAccess, NAME_MAX};

/// A name must be one component.
fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Errno::EACCES);
    }
    if name.len() > NAME_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
}

/// Opens `name` in the directory `dir`; with `O_CREAT` in `flags`, `make(dir, name, mode)` makes it if it does not exist, with
/// permissions `mode` less the mask.
///
/// # Errors
/// `EACCES` for a name that is a path; `ENOENT`, `EEXIST`, `EINVAL` for an access mode that is none; those of `make`.
pub fn open_inside(
    ctx: &LookupContext<'_>,
    dir: &Path,
    name: &[u8],
    flags: u32,
    mode: u32,
    make: impl FnOnce(&Arc<Inode>, &[u8], u32) -> Result<Arc<Inode>>,
) -> Result<Arc<File>> {
    check_name(name)?;
    let inode = dir.inode()?;
    let write = dir.mnt.get_write();
    let found = (|| {
        let _names = inode.rwsem.write();
        inode_permission(inode, ctx.cred, MayAccess::EXEC)?;
        let dentry = lookup_locked(&dir.dentry, inode, name)?;
        if let Some(existing) = dentry.inode() {
            if flags & (raw::O_CREAT | raw::O_EXCL) == raw::O_CREAT | raw::O_EXCL {
                return Err(Errno::EEXIST);
            }
            let access = match flags & raw::O_ACCMODE {
                raw::O_RDONLY => MayAccess::READ,
                raw::O_WRONLY => MayAccess::WRITE,
                raw::O_RDWR => MayAccess::READ | MayAccess::WRITE,
                _ => return Err(Errno::EINVAL),
            };
            inode_permission(existing, ctx.cred, access)?;
            return Ok((dentry, FileMode::empty()));
        }
        if flags & raw::O_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        write?;
        may_create(inode, ctx.cred)?;
        let made = make(inode, name, raw::S_IFREG | mode & 0o7777 & !ctx.fs.umask())?;
        let dentry = attach(&dir.dentry, &dentry, name, made)?;
        notify::on_entry(&dir.dentry, Data::Dentry(&dentry), notify::mask::CREATE, name);
        Ok((dentry, FileMode::CREATED))
    })();
    if write.is_ok() {
        dir.mnt.put_write();
    }
    let (dentry, extra) = found?;
    let path = Path::new(dir.mnt.clone(), dentry);
    let flags = flags & !(raw::O_CREAT | raw::O_EXCL | raw::O_TRUNC | raw::O_NOCTTY | raw::O_PATH);
    do_open(ctx.cred, &path, &OpenArgs { flags, mode: 0, resolve: LookupFlags::empty() }, extra)
}

/// Removes `name` from the directory `dir`.
///
/// # Errors
/// `EACCES` for a name that is a path; `ENOENT`; those of `unlink(2)`.
pub fn unlink_inside(ctx: &LookupContext<'_>, dir: &Path, name: &[u8]) -> Result<()> {
    dir.mnt.get_write()?;
    let result = check_name(name).and_then(|()| unlink_entry(ctx, dir, name, super::remove::Spelling::Alone));
    dir.mnt.put_write();
    result
}
