//! Directory blocks: entries one behind the other, each as long as it says, until the block is full.
//!
//! With `metadata_csum` the last 12 bytes are a [`Tail`] that looks like an unused entry.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{U16, U32};

/// Longest name.
pub const NAME_LEN: usize = 255;
/// What entries are aligned to.
pub const ALIGN: usize = 4;
/// Bytes before the name.
pub const HEADER_SIZE: usize = 8;

/// `struct ext4_dir_entry_2` without its name.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Inode; 0 for an entry that is not in use.
    pub inode: U32,
    /// From this entry to the next.
    pub rec_len: U16,
    /// Length of the name.
    pub name_len: u8,
    /// [`FileType`] with the feature `filetype`; otherwise the upper half of the length.
    pub file_type: u8,
}

/// `struct ext4_dir_entry_tail`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tail {
    /// 0, like the inode of an unused entry.
    pub reserved_zero1: U32,
    /// [`TAIL_SIZE`].
    pub rec_len: U16,
    /// 0.
    pub reserved_zero2: u8,
    /// [`TAIL_TYPE`].
    pub reserved_ft: u8,
    /// CRC32c of what is before the tail.
    pub checksum: U32,
}

/// Size of a [`Tail`].
pub const TAIL_SIZE: usize = 12;
/// `reserved_ft` of a [`Tail`].
pub const TAIL_TYPE: u8 = 0xde;

const _: () = assert!(size_of::<Header>() == HEADER_SIZE && size_of::<Tail>() == TAIL_SIZE);

/// `file_type`.
pub mod file_type {
    /// Not known.
    pub const UNKNOWN: u8 = 0;
    /// Regular file.
    pub const REG_FILE: u8 = 1;
    /// Directory.
    pub const DIR: u8 = 2;
    /// Character device.
    pub const CHRDEV: u8 = 3;
    /// Block device.
    pub const BLKDEV: u8 = 4;
    /// FIFO.
    pub const FIFO: u8 = 5;
    /// Socket.
    pub const SOCK: u8 = 6;
    /// Symbolic link.
    pub const SYMLINK: u8 = 7;
}

impl Tail {
    /// A tail without its checksum.
    pub fn new() -> Self {
        Self {
            reserved_zero1: U32::ZERO,
            rec_len: U16::new(TAIL_SIZE as u16),
            reserved_zero2: 0,
            reserved_ft: TAIL_TYPE,
            checksum: U32::ZERO,
        }
    }

    /// Whether it looks like one.
    pub fn is_valid(&self) -> bool {
        self.reserved_zero1.get() == 0
            && usize::from(self.rec_len.get()) == TAIL_SIZE
            && self.reserved_zero2 == 0
            && self.reserved_ft == TAIL_TYPE
    }
}

impl Default for Tail {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that an entry with a name of `name_len` bytes needs at least.
pub fn entry_size(name_len: usize) -> usize {
    (HEADER_SIZE + name_len).next_multiple_of(ALIGN)
}

/// A length in `rec_len`. Blocks have not more than 32 KiB, so no length needs the encoding of larger ones.
pub fn rec_len(stored: U16) -> usize {
    stored.get().into()
}

/// An entry, where a block has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it begins in the block.
    pub offset: usize,
    /// How long it is, with the room behind it.
    pub rec_len: usize,
    /// Inode; 0 for an entry that is not in use.
    pub inode: u32,
    /// The name.
    pub name: &'a [u8],
    /// [`file_type`].
    pub file_type: u8,
}

/// What is wrong with an entry, in the order in which it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub offset: usize,
    /// Linux's words.
    pub what: &'static str,
    /// Inode that it names.
    pub inode: u32,
    /// Length that it has.
    pub rec_len: usize,
    /// Length of its name.
    pub name_len: usize,
}

/// Facts that are needed to read entries.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The feature `filetype`.
    pub has_types: bool,
    /// Inodes of the file system.
    pub inodes_count: u32,
    /// The block ends with a [`Tail`] (`metadata_csum`). Not in the data of an inode.
    pub has_tail: bool,
}

impl Format {
    /// Bytes of a block of `len` bytes that have entries.
    pub fn entry_bytes(&self, len: usize) -> usize {
        len - if self.has_tail { TAIL_SIZE.min(len) } else { 0 }
    }
}

/// The entry at `offset` of a block, if it says what is possible.
pub fn entry_at<'a>(block: &'a [u8], offset: usize, format: &Format) -> Result<Entry<'a>, Damage> {
    let header: Header = match super::at(block, offset) {
        Some(header) => *header,
        None => {
            return Err(Damage {
                offset,
                what: "directory entry overrun",
                inode: 0,
                rec_len: 0,
                name_len: 0,
            });
        }
    };
    let rec_len = rec_len(header.rec_len);
    let name_len = match format.has_types {
        true => header.name_len.into(),
        false => usize::from(header.name_len) | usize::from(header.file_type) << 8,
    };
    let inode = header.inode.get();
    let left = block.len() - offset;
    let what = if rec_len < entry_size(1) {
        "rec_len is smaller than minimal"
    } else if !rec_len.is_multiple_of(ALIGN) {
        "rec_len % 4 != 0"
    } else if name_len > NAME_LEN || rec_len < entry_size(name_len) {
        "rec_len is too small for name_len"
    } else if rec_len > left {
        "directory entry overrun"
    } else if rec_len < left && rec_len + entry_size(1) > left {
        // What is left has no room for one more.
        "directory entry too close to block end"
    } else if inode > format.inodes_count {
        "inode out of bounds"
    } else {
        let name = block.get(offset + HEADER_SIZE..offset + HEADER_SIZE + name_len).unwrap_or_default();
        let file_type = if format.has_types { header.file_type } else { file_type::UNKNOWN };
        return Ok(Entry { offset, rec_len, inode, name, file_type });
    };
    Err(Damage { offset, what, inode, rec_len, name_len })
}

/// All entries of a block, those not in use as well, from `offset` on. Ends after the first that is damaged.
pub fn entries<'a>(
    block: &'a [u8],
    mut offset: usize,
    format: Format,
) -> impl Iterator<Item = Result<Entry<'a>, Damage>> {
    let end = format.entry_bytes(block.len());
    core::iter::from_fn(move || {
        if offset >= end {
            return None;
        }
        let entry = entry_at(block, offset, &format);
        offset = match &entry {
            Ok(entry) => entry.offset + entry.rec_len,
            Err(_) => end,
        };
        Some(entry)
    })
}

/// Writes an entry at `offset` of a block. `None` if it has no room.
pub fn put_entry(
    block: &mut [u8],
    offset: usize,
    rec_len: usize,
    inode: u32,
    name: &[u8],
    file_type: u8,
    format: &Format,
) -> Option<()> {
    if entry_size(name.len()) > rec_len || offset.checked_add(rec_len)? > block.len() {
        return None;
    }
    let file_type = if format.has_types { file_type } else { 0 };
    *super::at_mut::<Header>(block, offset)? = Header {
        inode: U32::new(inode),
        rec_len: U16::new(rec_len as u16),
        name_len: u8::try_from(name.len()).ok()?,
        file_type,
    };
    block.get_mut(offset + HEADER_SIZE..offset + HEADER_SIZE + name.len())?.copy_from_slice(name);
    Some(())
}

/// The tail of a block, if it looks like one.
pub fn tail(block: &[u8]) -> Option<&Tail> {
    super::at::<Tail>(block, block.len().checked_sub(TAIL_SIZE)?).filter(|tail| tail.is_valid())
}
