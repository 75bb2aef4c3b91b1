//! POSIX access control lists: the check, and the format of `system.posix_acl_access`. `acl(5)`.
//!
//! The list is kept as the extended attribute that holds it; a file system that has one sets
//! `InodeFlags::HAS_ACL` on the inode.

use alloc::vec::Vec;

use abi::creds::{Gid, Uid};
use abi::{Errno, Result};

use crate::cred::Credentials;
use crate::inode::Inode;
use mm::OutOfMemory;
use mm::fallible::{TryVec, try_with_capacity};

/// Name of the attribute that holds the access list.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// Name of the attribute that holds what new entries of a directory inherit.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
const VERSION: u32 = 2;

/// Whom an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// The owner.
    UserObj,
    /// A named user.
    User(Uid),
    /// The group of the file.
    GroupObj,
    /// A named group.
    Group(Gid),
    /// The most that named users and all groups can have.
    Mask,
    /// Everybody else.
    Other,
}

/// One entry: whom, and read/write/execute bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// Whom.
    pub tag: Tag,
    /// Bits as in a mode.
    pub perm: u32,
}

/// Reads the attribute format: a version and entries of tag, permission, id.
pub fn parse(value: &[u8]) -> Result<Vec<AclEntry>> {
    let (version, rest) = value.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
    if u32::from_le_bytes(*version) != VERSION || rest.len() % 8 != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut entries = try_with_capacity(rest.len() / 8)?;
    for entry in rest.as_chunks::<8>().0 {
        let [t0, t1, p0, p1, i0, i1, i2, i3] = *entry;
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let tag = match u16::from_le_bytes([t0, t1]) {
            0x01 => Tag::UserObj,
            0x02 => Tag::User(Uid(id)),
            0x04 => Tag::GroupObj,
            0x08 => Tag::Group(Gid(id)),
            0x10 => Tag::Mask,
            0x20 => Tag::Other,
            _ => return Err(Errno::EINVAL),
        };
        let perm = u32::from(u16::from_le_bytes([p0, p1]));
        if perm & !7 != 0 {
            return Err(Errno::EINVAL);
        }
        entries.push_reserved(AclEntry { tag, perm });
    }
    validate(&entries)?;
    Ok(entries)
}

fn validate(entries: &[AclEntry]) -> Result<()> {
    let count = |want: Tag| entries.iter().filter(|e| e.tag == want).count();
    let named = entries.iter().any(|e| matches!(e.tag, Tag::User(_) | Tag::Group(_)));
    let required = [Tag::UserObj, Tag::GroupObj, Tag::Other].iter().all(|t| count(*t) == 1);
    let masks = count(Tag::Mask);
    if !entries.is_empty() && (!required || masks > 1 || named && masks == 0) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Writes the attribute format.
///
/// # Errors
/// `ENOMEM`.
pub fn render(entries: &[AclEntry]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(4 + 8 * entries.len()).map_err(OutOfMemory::from)?;
    out.try_extend(VERSION.to_le_bytes())?;
    for entry in entries {
        let (tag, id) = match entry.tag {
            Tag::UserObj => (0x01u16, u32::MAX),
            Tag::User(uid) => (0x02, uid.0),
            Tag::GroupObj => (0x04, u32::MAX),
            Tag::Group(gid) => (0x08, gid.0),
            Tag::Mask => (0x10, u32::MAX),
            Tag::Other => (0x20, u32::MAX),
        };
        out.try_extend(tag.to_le_bytes())?;
        out.try_extend((entry.perm as u16).to_le_bytes())?;
        out.try_extend(id.to_le_bytes())?;
    }
    Ok(out)
}

/// The mode bits that a list stands for, if it says no more than a mode can.
pub fn equivalent_mode(entries: &[AclEntry]) -> (u32, bool) {
    let mut mode = 0;
    let mut group = 0;
    let mut mask = None;
    let mut exact = true;
    for entry in entries {
        match entry.tag {
            Tag::UserObj => mode |= entry.perm << 6,
            Tag::GroupObj => group = entry.perm,
            Tag::Other => mode |= entry.perm,
            Tag::Mask => {
                mask = Some(entry.perm);
                exact = false;
            }
            Tag::User(_) | Tag::Group(_) => exact = false,
        }
    }
    (mode | mask.unwrap_or(group) << 3, exact)
}

/// The list after `chmod(2)` to `mode`.
pub fn with_mode(entries: &mut [AclEntry], mode: u32) {
    let has_mask = entries.iter().any(|e| e.tag == Tag::Mask);
    for entry in entries {
        match entry.tag {
            Tag::UserObj => entry.perm = mode >> 6 & 7,
            Tag::Mask => entry.perm = mode >> 3 & 7,
            Tag::GroupObj if !has_mask => entry.perm = mode >> 3 & 7,
            Tag::Other => entry.perm = mode & 7,
            _ => {}
        }
    }
}

/// What a new entry gets from a default access list of its directory.
pub struct Inherited {
    /// Its type and permissions.
    pub mode: u32,
    /// Its access list, if the permissions do not say it all.
    pub access: Option<Vec<u8>>,
}

/// What an entry made with `mode` gets from the default access list `value` of its directory.
///
/// # Errors
/// `EINVAL`, `EOPNOTSUPP`: a bad list; `ENOMEM`.
pub fn inherit(value: &[u8], mode: u32) -> Result<Inherited> {
    let mut list = parse(value)?;
    let (most, exact) = equivalent_mode(&list);
    let mode = mode & (!0o777 | most);
    if exact {
        return Ok(Inherited { mode, access: None });
    }
    with_mode(&mut list, mode & 0o777);
    Ok(Inherited { mode, access: Some(render(&list)?) })
}

/// Decides by the list; `EAGAIN` when there is none. The owner has been dealt with.
pub fn check(inode: &Inode, cred: &Credentials, want: u32) -> Result<()> {
    let value = match inode.ops().getxattr(inode, ACL_ACCESS) {
        Ok(value) => value,
        Err(_) => return Err(Errno::EAGAIN),
    };
    decide(&parse(&value)?, inode.gid(), cred, want)
}

fn decide(entries: &[AclEntry], owner_group: Gid, cred: &Credentials, want: u32) -> Result<()> {
    let mask = entries.iter().find(|e| e.tag == Tag::Mask).map_or(7, |e| e.perm);
    let allow = |perm: u32| if perm & want == want { Ok(()) } else { Err(Errno::EACCES) };
    let mut in_a_group = false;
    for entry in entries {
        match entry.tag {
            Tag::User(uid) if uid == cred.fsuid => return allow(entry.perm & mask),
            Tag::GroupObj if cred.in_group(owner_group) => {
                in_a_group = true;
                if entry.perm & want == want {
                    return allow(entry.perm & mask);
                }
            }
            Tag::Group(gid) if cred.in_group(gid) => {
                in_a_group = true;
                if entry.perm & want == want {
                    return allow(entry.perm & mask);
                }
            }
            Tag::Other if in_a_group => return Err(Errno::EACCES),
            Tag::Other => return allow(entry.perm),
            _ => {}
        }
    }
    Err(Errno::EACCES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_users_groups_and_mask() {
        let list = [
            AclEntry { tag: Tag::UserObj, perm: 7 },
            AclEntry { tag: Tag::User(Uid(5)), perm: 6 },
            AclEntry { tag: Tag::GroupObj, perm: 4 },
            AclEntry { tag: Tag::Group(Gid(9)), perm: 2 },
            AclEntry { tag: Tag::Mask, perm: 4 },
            AclEntry { tag: Tag::Other, perm: 1 },
        ];
        assert_eq!(parse(&render(&list).unwrap()).unwrap(), list);
        let user = |uid, gid| Credentials::user(Uid(uid), Gid(gid), &[]);
        let gid = Gid(100);
        assert_eq!(decide(&list, gid, &user(5, 1), 4), Ok(()));
        assert_eq!(decide(&list, gid, &user(5, 1), 2), Err(Errno::EACCES));
        assert_eq!(decide(&list, gid, &user(6, 100), 4), Ok(()));
        assert_eq!(decide(&list, gid, &user(6, 9), 2), Err(Errno::EACCES));
        assert_eq!(decide(&list, gid, &user(6, 9), 1), Err(Errno::EACCES));
        assert_eq!(decide(&list, gid, &user(6, 6), 1), Ok(()));
        assert_eq!(equivalent_mode(&list), (0o741, false));
        assert!(parse(&render(&list[1..]).unwrap()).is_err());
    }
}
