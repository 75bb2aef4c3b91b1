//! Extended attributes: `xattr(7)`. Who may touch which namespace, sizes, lists.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::cap::Cap;
use abi::{Errno, Result, raw};

use crate::acl;
use crate::cred::Credentials;
use crate::inode::{Inode, InodeFlags};
use crate::notify;
use crate::path::Path;
use crate::permission::{check_sticky, inode_permission, owner_or_capable};
use crate::types::MayAccess;
use mm::fallible::TryVec;

/// The longest name.
pub const XATTR_NAME_MAX: usize = 255;
/// The largest value.
pub const XATTR_SIZE_MAX: usize = 65536;
/// Where the capabilities of a file are: `capabilities(7)`.
pub const CAPABILITIES: &[u8] = b"security.capability";
/// The longest list of names.
pub const XATTR_LIST_MAX: usize = 65536;

fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX { Err(Errno::ERANGE) } else { Ok(()) }
}

fn xattr_permission(inode: &Inode, cred: &Credentials, name: &[u8], access: MayAccess) -> Result<()> {
    let writes = access.contains(MayAccess::WRITE);
    if writes && inode.flags().intersects(InodeFlags::IMMUTABLE | InodeFlags::APPEND) {
        return Err(Errno::EPERM);
    }
    if name.starts_with(b"security.") || name.starts_with(b"system.") {
        return Ok(());
    }
    if name.starts_with(b"trusted.") {
        if !cred.capable(Cap::SysAdmin) {
            return Err(if writes { Errno::EPERM } else { Errno::ENODATA });
        }
        return Ok(());
    }
    if name.starts_with(b"user.") {
        if !inode.is_regular() && !inode.is_dir() {
            return Err(if writes { Errno::EPERM } else { Errno::ENODATA });
        }
        if inode.is_dir() && writes && inode.mode() & raw::S_ISVTX != 0 && !owner_or_capable(inode, cred) {
            return Err(Errno::EPERM);
        }
    }
    let _ = check_sticky;
    inode_permission(inode, cred, access)
}

fn known_prefix(name: &[u8]) -> Result<()> {
    let prefixes: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system."];
    match prefixes.iter().find(|p| name.starts_with(p)) {
        Some(prefix) if name.len() > prefix.len() => Ok(()),
        Some(_) => Err(Errno::EINVAL),
        None => Err(Errno::EOPNOTSUPP),
    }
}

/// `getxattr(2)` of a place: the whole value.
pub fn getxattr(cred: &Credentials, path: &Path, name: &[u8]) -> Result<Vec<u8>> {
    check_name(name)?;
    let inode = path.inode()?;
    xattr_permission(inode, cred, name, MayAccess::READ)?;
    known_prefix(name)?;
    inode.ops().getxattr(inode, name)
}

/// `setxattr(2)` of a place.
pub fn setxattr(cred: &Credentials, path: &Path, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
    if flags & !(raw::XATTR_CREATE | raw::XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    check_name(name)?;
    if value.len() > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    change(cred, path, name, |inode| set_locked(inode, name, value, flags))
}

/// Sets an extended attribute, whoever asks for it, with what belongs to that: an access list changes the mode, and so on. The
/// caller holds `inode.rwsem` for writing.
///
/// # Errors
/// `EINVAL` for a bad value; those of the file system.
pub fn set_locked(inode: &Arc<Inode>, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
    if matches!(name, acl::ACL_ACCESS | acl::ACL_DEFAULT) {
        return set_acl(inode, name, value);
    }
    if name == CAPABILITIES {
        check_capabilities(value)?;
        inode.ops().setxattr(inode, name, value, flags)?;
        inode.insert_flags(InodeFlags::HAS_CAPS);
        return Ok(());
    }
    inode.ops().setxattr(inode, name, value, flags)
}

/// Removes an extended attribute, whoever asks for it. The caller holds `inode.rwsem` for writing.
///
/// # Errors
/// `ENODATA`; those of the file system.
pub fn remove_locked(inode: &Arc<Inode>, name: &[u8]) -> Result<()> {
    inode.ops().removexattr(inode, name)?;
    match name {
        acl::ACL_ACCESS => inode.remove_flags(InodeFlags::HAS_ACL),
        acl::ACL_DEFAULT => inode.remove_flags(InodeFlags::HAS_DEFAULT_ACL),
        CAPABILITIES => inode.remove_flags(InodeFlags::HAS_CAPS),
        _ => {}
    }
    Ok(())
}

/// The forms of file capabilities that can be stored: none, revision 2, and 3 with the root user of a namespace.
fn check_capabilities(value: &[u8]) -> Result<()> {
    let revision = value.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic) & 0xff00_0000);
    match (revision, value.len()) {
        (_, 0) => Ok(()),
        (Some(0x0200_0000), 20) | (Some(0x0300_0000), 24) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// `removexattr(2)` of a place.
pub fn removexattr(cred: &Credentials, path: &Path, name: &[u8]) -> Result<()> {
    check_name(name)?;
    change(cred, path, name, |inode| remove_locked(inode, name))
}

fn change(
    cred: &Credentials,
    path: &Path,
    name: &[u8],
    f: impl FnOnce(&Arc<Inode>) -> Result<()>,
) -> Result<()> {
    let inode = path.inode()?;
    path.mnt.get_write()?;
    let result = (|| {
        let _exclusive = inode.rwsem.write();
        xattr_permission(inode, cred, name, MayAccess::WRITE)?;
        known_prefix(name)?;
        let privileged = if name.starts_with(b"security.") {
            // File capabilities have their own capability.
            let cap = if name == CAPABILITIES { Cap::Setfcap } else { Cap::SysAdmin };
            cred.capable_wrt(inode.uid().0, inode.gid().0, cap)
        } else if name.starts_with(b"system.") {
            owner_or_capable(inode, cred)
        } else {
            true
        };
        if !privileged {
            return Err(Errno::EPERM);
        }
        f(inode)?;
        inode.touch_ctime();
        notify::on_dentry(&path.dentry, notify::mask::ATTRIB);
        Ok(())
    })();
    path.mnt.put_write();
    result
}

/// An access list that a mode can express becomes the mode.
fn set_acl(inode: &Arc<Inode>, name: &[u8], value: &[u8]) -> Result<()> {
    let list = acl::parse(value)?;
    if name == acl::ACL_DEFAULT && !inode.is_dir() {
        return Err(Errno::EACCES);
    }
    if inode.flags().contains(InodeFlags::OP_ACL) {
        return inode.ops().setxattr(inode, name, value, 0);
    }
    if name == acl::ACL_DEFAULT {
        inode.ops().setxattr(inode, name, value, 0)?;
        inode.insert_flags(InodeFlags::HAS_DEFAULT_ACL);
        return Ok(());
    }
    let (mode, exact) = acl::equivalent_mode(&list);
    inode.set_permissions(inode.mode() & !0o777 | mode);
    if exact {
        inode.remove_flags(InodeFlags::HAS_ACL);
        match inode.ops().removexattr(inode, name) {
            Err(Errno::ENODATA) => Ok(()),
            other => other,
        }
    } else {
        inode.ops().setxattr(inode, name, value, 0)?;
        inode.insert_flags(InodeFlags::HAS_ACL);
        Ok(())
    }
}

/// `listxattr(2)` of a place: names with their NULs; `trusted.` ones for the administrator only.
pub fn listxattr(cred: &Credentials, path: &Path) -> Result<Vec<u8>> {
    let inode = path.inode()?;
    let mut list = inode.ops().listxattr(inode)?;
    if !cred.capable(Cap::SysAdmin) {
        let mut kept = Vec::new();
        for name in list.split_inclusive(|b| *b == 0) {
            if !name.starts_with(b"trusted.") {
                kept.try_extend_from_slice(name)?;
            }
        }
        list = kept;
    }
    if list.len() > XATTR_LIST_MAX {
        return Err(Errno::E2BIG);
    }
    Ok(list)
}
