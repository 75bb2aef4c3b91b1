//! Extended attributes: `xattr(7)`.
//!
//! An inode's attributes are in the inode itself, behind its fields, and in one block that it may share with others. A large value can
//! be in an inode of its own.
//!
//! | file | what |
//! |---|---|
//! | this one | names, finding, listing |
//! | [`acl`] | access control lists, which are kept in another form than users see |

pub mod acl;

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use mm::fallible::{TryVec, try_to_vec};
use vfs::Inode;

use crate::disk::at;
use crate::disk::inode::{CORE_SIZE, Extra};
use crate::disk::xattr::{
    self as disk, Attribute, BLOCK_HEADER_SIZE, BlockHeader, BodyHeader, attributes, index,
};
use crate::error::{EFSBADCRC, EFSCORRUPTED, place, there};
use crate::inode::Node;
use crate::inode::load::Purpose;

/// A list of attributes: bytes, where its entries begin, and what the places of values count from.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    bytes: &'a [u8],
    first: usize,
    base: usize,
}

impl<'a> Attributes<'a> {
    const NONE: Attributes<'static> = Attributes { bytes: &[0; 4], first: 0, base: 0 };

    /// All of them.
    fn iter(&self) -> impl Iterator<Item = Result<Attribute<'a>>> + use<'a> {
        attributes(self.bytes, self.first).map(there)
    }

    /// The one with that prefix and name.
    pub(crate) fn find(&self, name_index: u8, name: &[u8]) -> Result<Option<Attribute<'a>>> {
        for attribute in self.iter() {
            let attribute = attribute?;
            if attribute.entry.name_index == name_index && attribute.name == name {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }

    /// A value that is here, not in an inode of its own.
    pub(crate) fn value(&self, attribute: &Attribute<'_>) -> Option<&'a [u8]> {
        let start = self.base + usize::from(attribute.entry.value_offs.get());
        let len = attribute.entry.value_size.get() as usize;
        self.bytes.get(start..)?.get(..len)
    }

    /// Whether all is as it must be: entries and values within the bytes, values behind the entries.
    fn check(&self) -> core::result::Result<(), &'static str> {
        let mut end = self.first;
        for attribute in attributes(self.bytes, self.first) {
            let Some(attribute) = attribute else { return Err("e_name out of bounds") };
            if attribute.name.contains(&0) {
                return Err("e_name out of bounds");
            }
            end = attribute.offset + disk::entry_size(attribute.name.len());
        }
        for attribute in attributes(self.bytes, self.first).flatten() {
            let size = attribute.entry.value_size.get() as usize;
            if size > 1 << 24 {
                return Err("e_value size too large");
            }
            if size == 0 || attribute.entry.value_inum.get() != 0 {
                continue;
            }
            let start = self.base + usize::from(attribute.entry.value_offs.get());
            if start < end + 4 {
                return Err("overlapping e_value");
            }
            let fits = self.bytes.len().checked_sub(start).is_some_and(|room| disk::value_size(size) <= room);
            if !fits {
                return Err("e_value out of bounds");
            }
        }
        Ok(())
    }
}

/// Prefixes, and what stands for them on the device.
const PREFIXES: [(&[u8], u8); 3] =
    [(b"user.", index::USER), (b"trusted.", index::TRUSTED), (b"security.", index::SECURITY)];

/// What a name is on the device: what stands for its prefix, and the rest.
///
/// # Errors
/// `EOPNOTSUPP`: no such attributes are kept.
pub(crate) fn split_name(name: &[u8]) -> Result<(u8, &[u8])> {
    match name {
        vfs::acl::ACL_ACCESS => return Ok((index::POSIX_ACL_ACCESS, &[])),
        vfs::acl::ACL_DEFAULT => return Ok((index::POSIX_ACL_DEFAULT, &[])),
        _ => {}
    }
    PREFIXES
        .into_iter()
        .find_map(|(prefix, index)| Some((index, name.strip_prefix(prefix)?)))
        .ok_or(Errno::EOPNOTSUPP)
}

impl Node {
    /// The attributes in the inode, whose bytes are `raw`.
    pub(crate) fn body_attributes<'a>(&self, raw: &'a [u8]) -> Result<Attributes<'a>> {
        let Some(extra) = at::<Extra>(raw, CORE_SIZE) else { return Ok(Attributes::NONE) };
        let header = CORE_SIZE + usize::from(extra.extra_isize.get());
        let first = header + size_of::<BodyHeader>();
        let magic = at::<BodyHeader>(raw, header).map(|header| header.magic.get());
        if extra.extra_isize.get() == 0 || magic != Some(disk::MAGIC) || raw.len() < first + 4 {
            return Ok(Attributes::NONE);
        }
        let list = Attributes { bytes: raw, first, base: first };
        list.check().map_err(|what| {
            let text = format_args!("corrupted in-inode xattr: {what}");
            self.fs.error(place!("__xattr_check_inode", self.ino), EFSCORRUPTED, text)
        })?;
        Ok(list)
    }

    /// The block of attributes, checked; none if there is none.
    fn attribute_block(&self) -> Result<Option<Arc<mm::Block>>> {
        let number = self.file_acl();
        if number == 0 {
            return Ok(None);
        }
        let buffer = self.fs.read_checked(number, |bytes| {
            let bad = |error, what: &str| {
                let text = format_args!("corrupted xattr block {number}: {what}");
                Err(self.fs.error(place!("__ext4_xattr_check_block", self.ino), error, text))
            };
            let header: &BlockHeader = there(at(bytes, 0))?;
            if header.magic.get() != disk::MAGIC || header.blocks.get() != 1 {
                return bad(EFSCORRUPTED, "invalid header");
            }
            if !self.fs.checksums.xattr_is_right(number, bytes) {
                return bad(EFSBADCRC, "invalid checksum");
            }
            Self::in_block(bytes).check().or_else(|what| bad(EFSCORRUPTED, what))
        })?;
        let data = buffer.data();
        // It may have been something else when it was checked.
        let magic = at::<BlockHeader>(data.bytes(), 0).map(|header| header.magic.get());
        if magic != Some(disk::MAGIC) {
            return Err(EFSCORRUPTED);
        }
        Ok(Some(data))
    }

    fn in_block(bytes: &[u8]) -> Attributes<'_> {
        Attributes { bytes, first: BLOCK_HEADER_SIZE, base: 0 }
    }

    /// A value, wherever it is.
    fn value_of(&self, inode: &Inode, list: &Attributes<'_>, attribute: &Attribute<'_>) -> Result<Vec<u8>> {
        let ino = attribute.entry.value_inum.get();
        if ino == 0 {
            return Ok(try_to_vec(there(list.value(attribute))?)?);
        }
        let size = attribute.entry.value_size.get() as usize;
        if !self.fs.has_ea_inodes() || size > disk::SIZE_MAX {
            return Err(EFSCORRUPTED);
        }
        let holder = self.fs.iget(inode.sb(), ino, Purpose::Attribute)?;
        let holder = crate::inode::node(&holder)?;
        if holder.disk_size.load(core::sync::atomic::Ordering::Relaxed) != size as u64 {
            let text = format_args!("ea_inode file size={size} entry size={size}");
            self.fs.warning(place!("ext4_xattr_inode_get", self.ino), text);
            return Err(EFSCORRUPTED);
        }
        let value = holder.read_bytes(size)?;
        self.check_value(holder, attribute, &value)?;
        Ok(value)
    }

    /// The hash of a value in an inode of its own is in that inode and in the entry.
    fn check_value(&self, holder: &Node, attribute: &Attribute<'_>, value: &[u8]) -> Result<()> {
        let hash = self.fs.checksums.ea_inode(value);
        let stored = holder.with_raw(|raw| {
            let core: &crate::disk::inode::Core = there(at(raw, 0))?;
            Ok(core.atime.get())
        })?;
        let of_entry =
            [disk::entry_hash(attribute.name, [hash]), disk::entry_hash_signed(attribute.name, [hash])];
        // Lustre's inodes have no hash: they name their parent.
        let lustre = stored == self.ino;
        if !lustre && (stored != hash || !of_entry.contains(&attribute.entry.hash.get())) {
            let text = format_args!("EA inode hash validation failed");
            self.fs.warning(place!("ext4_xattr_inode_verify_hashes", holder.ino), text);
            return Err(EFSCORRUPTED);
        }
        Ok(())
    }

    /// The value of an attribute as it is on the device.
    ///
    /// # Errors
    /// `ENODATA`: there is no such attribute; `EUCLEAN`, `EBADMSG`, `EIO`, `ENOMEM`.
    pub(crate) fn attribute(&self, inode: &Inode, name_index: u8, name: &[u8]) -> Result<Vec<u8>> {
        // What is found in the inode is copied there, a value in another inode is read afterwards.
        let in_body = self.with_raw(|raw| {
            let list = self.body_attributes(raw)?;
            let Some(attribute) = list.find(name_index, name)? else { return Ok(None) };
            Ok(Some(self.value_of(inode, &list, &attribute)?))
        })?;
        if let Some(value) = in_body {
            return Ok(value);
        }
        let block = self.attribute_block()?.ok_or(Errno::ENODATA)?;
        let list = Self::in_block(block.bytes());
        let attribute = list.find(name_index, name)?.ok_or(Errno::ENODATA)?;
        self.value_of(inode, &list, &attribute)
    }

    /// `getxattr(2)`.
    pub(crate) fn getxattr(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        let (name_index, rest) = split_name(name)?;
        let options = self.fs.options();
        match name_index {
            index::USER if !options.user_xattr => return Err(Errno::EOPNOTSUPP),
            index::POSIX_ACL_ACCESS | index::POSIX_ACL_DEFAULT if !options.acl => {
                return Err(Errno::EOPNOTSUPP);
            }
            _ => {}
        }
        let value = self.attribute(inode, name_index, rest);
        if matches!(value, Err(Errno::ENODATA)) {
            self.note_absence(inode, name);
        }
        match name_index {
            index::POSIX_ACL_ACCESS | index::POSIX_ACL_DEFAULT => acl::from_disk(&value?),
            _ => value,
        }
    }

    /// What is not there need not be looked for again (see `load`).
    fn note_absence(&self, inode: &Inode, name: &[u8]) {
        use vfs::InodeFlags;
        match name {
            vfs::acl::ACL_ACCESS => inode.remove_flags(InodeFlags::HAS_ACL | InodeFlags::OP_PERMISSION),
            vfs::acl::ACL_DEFAULT => inode.remove_flags(InodeFlags::HAS_DEFAULT_ACL),
            vfs::xattr::CAPABILITIES => inode.remove_flags(InodeFlags::HAS_CAPS),
            _ => {}
        }
    }

    /// `listxattr(2)`.
    pub(crate) fn listxattr(&self) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        let mut add = |list: Attributes<'_>| -> Result<()> {
            let options = self.fs.options();
            for attribute in list.iter() {
                let attribute = attribute?;
                let whole: &[u8] = match attribute.entry.name_index {
                    index::POSIX_ACL_ACCESS if options.acl => vfs::acl::ACL_ACCESS,
                    index::POSIX_ACL_DEFAULT if options.acl => vfs::acl::ACL_DEFAULT,
                    index::USER if !options.user_xattr => continue,
                    other => match PREFIXES.into_iter().find(|(_, index)| *index == other) {
                        Some((prefix, _)) => {
                            names.try_extend_from_slice(prefix)?;
                            attribute.name
                        }
                        None => continue,
                    },
                };
                names.try_extend_from_slice(whole)?;
                names.try_push(0)?;
            }
            Ok(())
        };
        self.with_raw(|raw| add(self.body_attributes(raw)?))?;
        if let Some(block) = self.attribute_block()? {
            add(Self::in_block(block.bytes()))?;
        }
        Ok(names)
    }
}
