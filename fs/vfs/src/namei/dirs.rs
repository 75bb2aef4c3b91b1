//! `chdir(2)`, `chroot(2)`, `readlink(2)`, `access(2)`.

use alloc::vec::Vec;

use abi::cap::{Cap, CapSet};
use abi::{Errno, Result, raw};

use super::{At, LookupFlags, path_lookup};
use crate::cred::{Credentials, securebits};
use crate::file::File;
use crate::path::LookupContext;
use crate::permission::inode_permission;
use crate::types::{FileType, MayAccess};
use mm::fallible::try_arc;

const DIRECTORY: LookupFlags = LookupFlags::FOLLOW.union(LookupFlags::DIRECTORY);

/// `chdir(2)`.
pub fn chdir(ctx: &LookupContext<'_>, name: &[u8]) -> Result<()> {
    let path = path_lookup(ctx, At::Cwd, name, DIRECTORY)?;
    inode_permission(path.inode()?, ctx.cred, MayAccess::EXEC | MayAccess::CHDIR)?;
    ctx.fs.set_cwd(path)
}

/// `fchdir(2)`.
pub fn fchdir(ctx: &LookupContext<'_>, file: &File) -> Result<()> {
    if !file.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    inode_permission(file.inode(), ctx.cred, MayAccess::EXEC | MayAccess::CHDIR)?;
    ctx.fs.set_cwd(file.path().clone())
}

/// `chroot(2)`.
pub fn chroot(ctx: &LookupContext<'_>, name: &[u8]) -> Result<()> {
    let path = path_lookup(ctx, At::Cwd, name, DIRECTORY)?;
    inode_permission(path.inode()?, ctx.cred, MayAccess::EXEC | MayAccess::CHDIR)?;
    if !ctx.cred.ns_capable(&ctx.cred.user_ns, Cap::SysChroot) {
        return Err(Errno::EPERM);
    }
    ctx.fs.set_root(path)
}

/// `readlinkat(2)`: the whole text; the caller cuts it to the user's buffer. An empty name reads the
/// link that `at` was opened on.
pub fn readlink(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let path = path_lookup(ctx, at, name, LookupFlags::EMPTY).map_err(|error| match error {
        Errno::ENOENT if name.is_empty() => Errno::ENOENT,
        other => other,
    })?;
    let inode = path.inode()?;
    if !inode.is_symlink() {
        return Err(if name.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
    }
    crate::attr::touch_atime(&path);
    match inode.cached_link() {
        Some(text) => crate::util::try_to_vec(text),
        None => inode.ops().readlink(inode, ctx.cred),
    }
}

/// `faccessat2(2)`: flags are `AT_EACCESS`, `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`.
pub fn access(ctx: &LookupContext<'_>, at: At<'_>, name: &[u8], mode: u32, flags: u32) -> Result<()> {
    if mode & !7 != 0 || flags & !(raw::AT_EACCESS | raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let real;
    let cred = if flags & raw::AT_EACCESS != 0 || is_plain(ctx.cred) {
        ctx.cred
    } else {
        real = try_arc(real_credentials(ctx.cred))?;
        &real
    };
    let ctx = LookupContext { cred, ..*ctx };
    let path = path_lookup(&ctx, at, name, LookupFlags::from_at(flags))?;
    let inode = path.inode()?;
    let wanted = MayAccess::from_bits_truncate(mode);
    if wanted.contains(MayAccess::EXEC) && inode.is_regular() && path.mnt.flags() & raw::MS_NOEXEC != 0 {
        return Err(Errno::EACCES);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    inode_permission(inode, cred, wanted | MayAccess::ACCESS)?;
    let on_disk = !matches!(
        inode.file_type(),
        FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket
    );
    if wanted.contains(MayAccess::WRITE) && on_disk && path.mnt.is_read_only() {
        return Err(Errno::EROFS);
    }
    Ok(())
}

/// Whether real and effective identity agree, so that no copy is needed.
fn is_plain(cred: &Credentials) -> bool {
    cred.fsuid == cred.uid
        && cred.fsgid == cred.gid
        && if cred.uid.0 == 0 {
            cred.cap_effective == cred.cap_permitted
        } else {
            cred.cap_effective == CapSet::EMPTY
        }
}

fn real_credentials(cred: &Credentials) -> Credentials {
    let mut real = cred.clone();
    real.fsuid = cred.uid;
    real.fsgid = cred.gid;
    if cred.securebits & securebits::NO_SETUID_FIXUP == 0 {
        real.cap_effective = if cred.uid.0 == 0 { cred.cap_permitted } else { CapSet::EMPTY };
    }
    real
}
