//! Access control lists on the device: a version and entries, of which those that name nobody have no id.

use alloc::vec::Vec;

use abi::creds::{Gid, Uid};
use abi::{Errno, Result};
use mm::fallible::{TryVec, try_with_capacity};
use vfs::acl::{AclEntry, Tag, render};

/// The version on the device. Users see another one.
const VERSION: u32 = 1;

/// A list from the device as `system.posix_acl_access` shows it.
///
/// # Errors
/// `EINVAL`: it is damaged.
pub(crate) fn from_disk(value: &[u8]) -> Result<Vec<u8>> {
    let (version, mut rest) = value.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
    if u32::from_le_bytes(*version) != VERSION {
        return Err(Errno::EINVAL);
    }
    let mut entries = try_with_capacity(rest.len() / 4)?;
    while let Some((entry, after)) = rest.split_first_chunk::<4>() {
        let [t0, t1, p0, p1] = *entry;
        rest = after;
        let mut id = || {
            let (id, after) = rest.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
            rest = after;
            Ok::<u32, Errno>(u32::from_le_bytes(*id))
        };
        let tag = match u16::from_le_bytes([t0, t1]) {
            0x01 => Tag::UserObj,
            0x02 => Tag::User(Uid(id()?)),
            0x04 => Tag::GroupObj,
            0x08 => Tag::Group(Gid(id()?)),
            0x10 => Tag::Mask,
            0x20 => Tag::Other,
            _ => return Err(Errno::EINVAL),
        };
        entries.push_reserved(AclEntry { tag, perm: u16::from_le_bytes([p0, p1]).into() });
    }
    if !rest.is_empty() {
        return Err(Errno::EINVAL);
    }
    render(&entries)
}

/// A list as it is on the device.
///
/// # Errors
/// `EINVAL`: `value` is no list; `ENOMEM`.
pub fn to_disk(value: &[u8]) -> Result<Vec<u8>> {
    let entries = vfs::acl::parse(value)?;
    let mut out = try_with_capacity(4 + 8 * entries.len())?;
    out.try_extend_from_slice(&VERSION.to_le_bytes())?;
    for entry in entries {
        let (tag, id) = match entry.tag {
            Tag::UserObj => (0x01u16, None),
            Tag::User(uid) => (0x02, Some(uid.0)),
            Tag::GroupObj => (0x04, None),
            Tag::Group(gid) => (0x08, Some(gid.0)),
            Tag::Mask => (0x10, None),
            Tag::Other => (0x20, None),
        };
        out.try_extend_from_slice(&tag.to_le_bytes())?;
        out.try_extend_from_slice(&(entry.perm as u16).to_le_bytes())?;
        if let Some(id) = id {
            out.try_extend_from_slice(&id.to_le_bytes())?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_survive() {
        let list = [
            AclEntry { tag: Tag::UserObj, perm: 7 },
            AclEntry { tag: Tag::User(Uid(5)), perm: 6 },
            AclEntry { tag: Tag::GroupObj, perm: 4 },
            AclEntry { tag: Tag::Mask, perm: 4 },
            AclEntry { tag: Tag::Other, perm: 1 },
        ];
        let shown = render(&list).unwrap();
        let disk = to_disk(&shown).unwrap();
        assert_eq!(disk.len(), 4 + 4 * 4 + 8);
        assert_eq!(from_disk(&disk).unwrap(), shown);
        assert!(from_disk(&disk[..disk.len() - 1]).is_err());
        assert!(from_disk(b"").is_err());
    }
}
