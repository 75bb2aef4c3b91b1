//! May these credentials do that to this inode? `path_resolution(7)`, `capabilities(7)`.

use abi::cap::Cap;
use abi::{Errno, Result, raw};

use crate::acl;
use crate::cred::Credentials;
use crate::inode::{Inode, InodeFlags};
use crate::mount::Mount;
use crate::types::{FileType, MayAccess};

/// The check by mode bits and capabilities that most file systems use.
pub fn generic_permission(inode: &Inode, cred: &Credentials, mask: MayAccess) -> Result<()> {
    match mode_permission(inode, cred, mask) {
        Err(Errno::EACCES) => {}
        other => return other,
    }
    let (uid, gid) = (inode.uid().0, inode.gid().0);
    let wants = mask & (MayAccess::READ | MayAccess::WRITE | MayAccess::EXEC);
    if inode.is_dir() {
        if !wants.contains(MayAccess::WRITE) && cred.capable_wrt(uid, gid, Cap::DacReadSearch) {
            return Ok(());
        }
        if cred.capable_wrt(uid, gid, Cap::DacOverride) {
            return Ok(());
        }
        return Err(Errno::EACCES);
    }
    if wants == MayAccess::READ && cred.capable_wrt(uid, gid, Cap::DacReadSearch) {
        return Ok(());
    }
    // Executing needs an execute bit for somebody, even for root.
    if (!wants.contains(MayAccess::EXEC) || inode.mode() & 0o111 != 0)
        && cred.capable_wrt(uid, gid, Cap::DacOverride)
    {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// The check by mode bits alone.
fn mode_permission(inode: &Inode, cred: &Credentials, mask: MayAccess) -> Result<()> {
    let mode = inode.mode();
    let want = mask.bits() & 7;
    if inode.uid() == cred.fsuid {
        return if mode >> 6 & want == want { Ok(()) } else { Err(Errno::EACCES) };
    }
    if inode.flags().contains(InodeFlags::HAS_ACL) && mode & 0o070 != 0 {
        match acl::check(inode, cred, want) {
            Err(Errno::EAGAIN) => {}
            decided => return decided,
        }
    }
    // The group bits matter only when they differ from those of others in what is asked.
    let shift = if want & (mode ^ mode >> 3) != 0 && cred.in_group(inode.gid()) { 3 } else { 0 };
    if mode >> shift & want == want { Ok(()) } else { Err(Errno::EACCES) }
}

/// The full check: read-only file systems, immutable files, then the file system's own rule.
pub fn inode_permission(inode: &Inode, cred: &Credentials, mask: MayAccess) -> Result<()> {
    if mask.contains(MayAccess::WRITE) {
        if inode.sb().is_read_only()
            && matches!(inode.file_type(), FileType::Regular | FileType::Directory | FileType::Symlink)
        {
            return Err(Errno::EROFS);
        }
        if inode.flags().contains(InodeFlags::IMMUTABLE) {
            return Err(Errno::EPERM);
        }
    }
    if inode.flags().contains(InodeFlags::OP_PERMISSION) {
        inode.ops().permission(inode, cred, mask)
    } else {
        generic_permission(inode, cred, mask)
    }
}

/// Whether `cred` may search directory `dir`: the check of each step of a path walk.
#[inline]
pub fn may_search(dir: &Inode, cred: &Credentials) -> Result<()> {
    const SPECIAL: InodeFlags = InodeFlags::OP_PERMISSION.union(InodeFlags::HAS_ACL);
    if dir.mode() & 0o111 == 0o111 && !dir.flags().intersects(SPECIAL) {
        return Ok(());
    }
    inode_permission(dir, cred, MayAccess::EXEC)
}

/// Whether `cred` acts as the owner of `inode`.
pub fn owner_or_capable(inode: &Inode, cred: &Credentials) -> bool {
    inode.uid() == cred.fsuid || cred.capable_wrt(inode.uid().0, inode.gid().0, Cap::Fowner)
}

/// Whether the sticky bit of `dir` keeps `cred` from removing `inode`.
pub fn check_sticky(dir: &Inode, inode: &Inode, cred: &Credentials) -> bool {
    dir.mode() & raw::S_ISVTX != 0
        && inode.uid() != cred.fsuid
        && dir.uid() != cred.fsuid
        && !cred.capable_wrt(inode.uid().0, inode.gid().0, Cap::Fowner)
}

/// Whether a name may be made in `dir`.
pub fn may_create(dir: &Inode, cred: &Credentials) -> Result<()> {
    if dir.flags().contains(InodeFlags::DEAD) {
        return Err(Errno::ENOENT);
    }
    if !dir.sb().user_ns().has_mapping(cred.fsuid.0, cred.fsgid.0) {
        return Err(Errno::EOVERFLOW);
    }
    inode_permission(dir, cred, MayAccess::WRITE | MayAccess::EXEC)
}

/// Whether `victim` may be removed from `dir`; `want_dir` tells what the caller removes.
pub fn may_delete(dir: &Inode, victim: &Inode, cred: &Credentials, want: Removal) -> Result<()> {
    inode_permission(dir, cred, MayAccess::WRITE | MayAccess::EXEC)?;
    if dir.flags().contains(InodeFlags::APPEND) {
        return Err(Errno::EPERM);
    }
    let special = InodeFlags::APPEND | InodeFlags::IMMUTABLE | InodeFlags::SWAPFILE;
    if check_sticky(dir, victim, cred) || victim.flags().intersects(special) {
        return Err(Errno::EPERM);
    }
    match (want, victim.is_dir()) {
        (Removal::Directory, false) => return Err(Errno::ENOTDIR),
        (Removal::File, true) => return Err(Errno::EISDIR),
        _ => {}
    }
    if dir.flags().contains(InodeFlags::DEAD) {
        return Err(Errno::ENOENT);
    }
    Ok(())
}

/// What a removal expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A directory: `rmdir(2)`.
    Directory,
    /// Anything else: `unlink(2)`.
    File,
}

/// `EROFS` unless both mount and file system may be written.
pub fn want_write(mnt: &Mount) -> Result<()> {
    if mnt.is_read_only() || mnt.sb().is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
}
