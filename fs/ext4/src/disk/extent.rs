//! Extent trees: runs of blocks of a file, in the inode (four of them) or in blocks of their own.
//!
//! A node is a [`Header`] and entries of 12 bytes: [`Index`]es above, [`Extent`]s in the leaves; in a block of its own a [`Tail`]
//! with the checksum follows.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{U16, U32, join48};

/// `magic` of a node.
pub const MAGIC: u16 = 0xf30a;
/// Size of a header and of an entry.
pub const ENTRY_SIZE: usize = 12;
/// Entries of the node in the inode.
pub const ROOT_ENTRIES: u16 = 4;
/// Levels below the root.
pub const MAX_DEPTH: u16 = 5;
/// Longest extent that is written.
pub const MAX_LEN: u32 = 1 << 15;
/// Longest extent that is not written.
pub const MAX_UNWRITTEN_LEN: u32 = MAX_LEN - 1;
/// The last block that a file can have is the one before.
pub const MAX_BLOCKS: u32 = u32::MAX;

/// `struct ext4_extent_header`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct Header {
    pub magic: U16,
    pub entries: U16,
    /// Entries there is room for.
    pub max: U16,
    /// Levels below; 0: the entries are extents.
    pub depth: U16,
    pub generation: U32,
}

/// `struct ext4_extent_idx`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Index {
    /// First block of the file that is below.
    pub block: U32,
    /// Where the node is.
    pub leaf_lo: U32,
    /// Its upper 16 bits.
    pub leaf_hi: U16,
    /// Nothing.
    pub unused: U16,
}

/// `struct ext4_extent`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Extent {
    /// First block in the file.
    pub block: U32,
    /// Blocks; more than [`MAX_LEN`] means so many less that, and that they read as zeros.
    pub len: U16,
    /// Upper 16 bits of the first block on the device.
    pub start_hi: U16,
    /// First block on the device.
    pub start_lo: U32,
}

/// `struct ext4_extent_tail`, behind the last entry that there is room for.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tail {
    /// CRC32c of what is before it.
    pub checksum: U32,
}

const _: () = assert!(size_of::<Header>() == ENTRY_SIZE && size_of::<Index>() == ENTRY_SIZE);
const _: () = assert!(size_of::<Extent>() == ENTRY_SIZE);

/// Entries that a node in a block of `block_size` bytes has room for: [`Header::max`] there.
pub fn entries_in_block(block_size: usize) -> u16 {
    // What is left over has room for the tail.
    (block_size.saturating_sub(ENTRY_SIZE) / ENTRY_SIZE).min(u16::MAX.into()) as u16
}

/// Where the tail of a node is that has room for `max` entries.
pub fn tail_offset(max: u16) -> usize {
    ENTRY_SIZE * (1 + usize::from(max))
}

impl Header {
    /// The header of an empty node.
    pub fn new(max: u16, depth: u16) -> Self {
        Self {
            magic: U16::new(MAGIC),
            entries: U16::ZERO,
            max: U16::new(max),
            depth: U16::new(depth),
            generation: U32::ZERO,
        }
    }
}

impl Index {
    /// An entry for the node at `leaf`, with what begins at `block`.
    pub fn new(block: u32, leaf: u64) -> Self {
        Self {
            block: U32::new(block),
            leaf_lo: U32::new(leaf as u32),
            leaf_hi: U16::new((leaf >> 32) as u16),
            unused: U16::ZERO,
        }
    }

    /// Where the node is.
    pub fn leaf(&self) -> u64 {
        join48(self.leaf_lo, self.leaf_hi)
    }
}

impl Extent {
    /// An extent. `len` is not more than [`MAX_LEN`], or [`MAX_UNWRITTEN_LEN`].
    pub fn new(block: u32, len: u32, start: u64, unwritten: bool) -> Self {
        let len = if unwritten { len + MAX_LEN } else { len };
        Self {
            block: U32::new(block),
            len: U16::new(len as u16),
            start_hi: U16::new((start >> 32) as u16),
            start_lo: U32::new(start as u32),
        }
    }

    /// Number of blocks; 0 is not valid.
    pub fn len(&self) -> u32 {
        let len = u32::from(self.len.get());
        if len > MAX_LEN { len - MAX_LEN } else { len }
    }

    /// Whether the extent has no blocks, which is not valid.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the blocks are allocated but not written: they read as zeros.
    pub fn is_unwritten(&self) -> bool {
        u32::from(self.len.get()) > MAX_LEN
    }

    /// First block on the device.
    pub fn start(&self) -> u64 {
        join48(self.start_lo, self.start_hi)
    }
}

/// A node's header, if it says what is possible: the magic number, `depth`, and not more entries than the node has room for.
/// `Err`: what is wrong, in Linux's words.
pub fn check_header(node: &[u8], depth: u16, in_inode: bool) -> Result<&Header, &'static str> {
    let header: &Header = super::at(node, 0).ok_or("too large eh_max")?;
    let room = match in_inode {
        true => ROOT_ENTRIES,
        false => entries_in_block(node.len()),
    };
    if header.magic.get() != MAGIC {
        return Err("invalid magic");
    }
    if header.depth.get() != depth {
        return Err("unexpected eh_depth");
    }
    if header.max.get() == 0 {
        return Err("invalid eh_max");
    }
    if header.max.get() > room {
        return Err("too large eh_max");
    }
    if header.entries.get() > header.max.get() {
        return Err("invalid eh_entries");
    }
    if header.entries.get() == 0 && depth > 0 {
        return Err("eh_entries is 0 but eh_depth is > 0");
    }
    if depth > MAX_DEPTH {
        return Err("too large eh_depth");
    }
    Ok(header)
}

/// The entries of a node whose header was checked.
pub fn entries<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(
    node: &'a [u8],
    header: &Header,
) -> &'a [T] {
    let bytes = node.get(ENTRY_SIZE..ENTRY_SIZE * (1 + usize::from(header.entries.get())));
    bytes.and_then(|bytes| <[T]>::ref_from_bytes(bytes).ok()).unwrap_or_default()
}

/// All places for entries of a node whose header was checked, to be changed.
pub fn entries_mut<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned>(
    node: &mut [u8],
) -> &mut [T] {
    let max = super::at::<Header>(node, 0).map_or(0, |header| usize::from(header.max.get()));
    let bytes = node.get_mut(ENTRY_SIZE..ENTRY_SIZE * (1 + max));
    bytes.and_then(|bytes| <[T]>::mut_from_bytes(bytes).ok()).unwrap_or_default()
}
