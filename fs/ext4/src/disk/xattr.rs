//! Extended attributes: behind the fields of a large inode, in one block that several inodes can share, and (values only) in
//! inodes of their own (`ea_inode`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{U16, U32};

/// `magic` of both headers.
pub const MAGIC: u32 = 0xea02_0000;
/// Inodes that can share a block.
pub const REFCOUNT_MAX: u32 = 1024;
/// What entries and values are aligned to.
pub const ALIGN: usize = 4;
/// Largest value.
pub const SIZE_MAX: usize = 1 << 16;

/// `struct ext4_xattr_header`, at the start of a block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct BlockHeader {
    pub magic: U32,
    /// Inodes that have the block.
    pub refcount: U32,
    /// 1.
    pub blocks: U32,
    /// Of all attributes; 0 if the block cannot be shared.
    pub hash: U32,
    pub checksum: U32,
    pub reserved: [U32; 3],
}

/// `struct ext4_xattr_ibody_header`, behind the fields of an inode.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BodyHeader {
    /// [`MAGIC`].
    pub magic: U32,
}

/// `struct ext4_xattr_entry` without its name. Four zero bytes are behind the last one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Entry {
    /// Length of the name without its prefix.
    pub name_len: u8,
    /// The prefix, [`index`].
    pub name_index: u8,
    /// Where the value is: from the start of the block, or from the first entry in an inode.
    pub value_offs: U16,
    /// The inode that has the value; 0: it is at `value_offs`.
    pub value_inum: U32,
    /// Size of the value.
    pub value_size: U32,
    /// Of name and value.
    pub hash: U32,
}

/// Size of an [`Entry`] without its name.
pub const ENTRY_SIZE: usize = 16;
/// Size of a [`BlockHeader`].
pub const BLOCK_HEADER_SIZE: usize = 32;
/// Where the checksum of a block is.
pub const CHECKSUM_OFFSET: usize = 16;

const _: () = assert!(size_of::<BlockHeader>() == BLOCK_HEADER_SIZE && size_of::<Entry>() == ENTRY_SIZE);

/// `name_index`.
pub mod index {
    /// The name has its whole prefix.
    pub const NONE: u8 = 0;
    /// `user.`
    pub const USER: u8 = 1;
    /// `system.posix_acl_access`, whole.
    pub const POSIX_ACL_ACCESS: u8 = 2;
    /// `system.posix_acl_default`, whole.
    pub const POSIX_ACL_DEFAULT: u8 = 3;
    /// `trusted.`
    pub const TRUSTED: u8 = 4;
    /// `security.`
    pub const SECURITY: u8 = 6;
    /// `system.`: data of inline files among others.
    pub const SYSTEM: u8 = 7;
    /// `system.richacl`.
    pub const RICHACL: u8 = 8;
    /// The context of encryption.
    pub const ENCRYPTION: u8 = 9;
    /// Of Hurd.
    pub const HURD: u8 = 10;
}

/// Name (behind `system.`) of the rest of a file in its inode.
pub const INLINE_DATA_NAME: &[u8] = b"data";

/// Bytes of an entry with a name of `name_len` bytes.
pub fn entry_size(name_len: usize) -> usize {
    (ENTRY_SIZE + name_len).next_multiple_of(ALIGN)
}

/// Bytes that a value of `len` bytes takes.
pub fn value_size(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// [`Entry::hash`] of a name (without its prefix) and a value in words of four bytes, the last filled up with zeros. For a value in an
/// inode of its own the one word of `value` is the hash of that inode.
pub fn entry_hash(name: &[u8], value: impl IntoIterator<Item = u32>) -> u32 {
    let name = name.iter().fold(0u32, |hash, byte| hash << 5 ^ hash >> 27 ^ u32::from(*byte));
    value.into_iter().fold(name, |hash, word| hash << 16 ^ hash >> 16 ^ word)
}

/// The same with the characters of the name as signed, as some wrote it.
pub fn entry_hash_signed(name: &[u8], value: impl IntoIterator<Item = u32>) -> u32 {
    let name = name.iter().fold(0u32, |hash, byte| hash << 5 ^ hash >> 27 ^ (*byte as i8 as u32));
    value.into_iter().fold(name, |hash, word| hash << 16 ^ hash >> 16 ^ word)
}

/// The words of a value for [`entry_hash`].
pub fn value_words(value: &[u8]) -> impl Iterator<Item = u32> {
    value.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        u32::from_le_bytes(word)
    })
}

/// [`BlockHeader::hash`] of the hashes of all entries.
pub fn block_hash(entries: impl IntoIterator<Item = u32>) -> u32 {
    let mut hash = 0u32;
    for entry in entries {
        if entry == 0 {
            return 0;
        }
        hash = hash << 16 ^ hash >> 16 ^ entry;
    }
    hash
}

/// An attribute as a block or an inode has it.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// Where the entry begins in the bytes that were given.
    pub offset: usize,
    /// The entry.
    pub entry: Entry,
    /// The name without its prefix.
    pub name: &'a [u8],
}

/// The attributes whose entries begin at `first` of `bytes`, until four zero bytes. `None`: the list goes beyond the bytes.
pub fn attributes(bytes: &[u8], first: usize) -> impl Iterator<Item = Option<Attribute<'_>>> {
    let mut next = Some(first);
    core::iter::from_fn(move || {
        let offset = next?;
        let attribute = attribute_at(bytes, offset);
        next = match &attribute {
            Some(Some(attribute)) => Some(offset + entry_size(attribute.name.len())),
            _ => None,
        };
        match attribute {
            Some(None) => None,
            Some(some) => Some(some),
            None => Some(None),
        }
    })
}

/// `Some(None)` at the end of the list.
fn attribute_at(bytes: &[u8], offset: usize) -> Option<Option<Attribute<'_>>> {
    let end = bytes.get(offset..)?.first_chunk::<4>()?;
    if *end == [0; 4] {
        return Some(None);
    }
    let entry: Entry = *super::at(bytes, offset)?;
    let name = bytes.get(offset + ENTRY_SIZE..)?.get(..entry.name_len.into())?;
    // The next one begins within the bytes.
    bytes.get(offset + entry_size(name.len())..)?.first_chunk::<4>()?;
    Some(Some(Attribute { offset, entry, name }))
}
