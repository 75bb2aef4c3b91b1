//! The hash tree of a directory (`dir_index`): block 0 is the root, and to who does not know of trees looks like a block with
//! `.` and `..`; inner nodes look like one unused entry; leaves are directory blocks.
//!
//! The places of a node are pairs of hash and block, in order of hash. The first has no hash (all that is smaller than the second),
//! but how many there are and could be.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{U16, U32};

/// Where [`RootInfo`] is.
pub const ROOT_INFO_OFFSET: usize = 24;
/// `info_length`.
pub const ROOT_INFO_SIZE: usize = 8;
/// Where the places of an inner node are.
pub const NODE_PLACES_OFFSET: usize = 8;
/// Where those of the root are.
pub const ROOT_PLACES_OFFSET: usize = ROOT_INFO_OFFSET + ROOT_INFO_SIZE;
/// Levels of inner nodes, the root included, without `large_dir`.
pub const MAX_LEVELS: u8 = 2;
/// The same with `large_dir`.
pub const MAX_LEVELS_LARGE: u8 = 3;
/// Bits of `block` that count (28; 32 with `large_dir` would be possible, the format has 28).
pub const BLOCK_MASK: u32 = 0x0fff_ffff;

/// `struct dx_root_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RootInfo {
    /// 0.
    pub reserved_zero: U32,
    /// [`super::hash::Version`].
    pub hash_version: u8,
    /// [`ROOT_INFO_SIZE`].
    pub info_length: u8,
    /// Levels of inner nodes below the root.
    pub indirect_levels: u8,
    /// Nothing.
    pub unused_flags: u8,
}

/// `struct dx_entry`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Place {
    /// Smallest hash below; bit 0 says that the block before has entries with the same hash.
    pub hash: U32,
    /// Block of the directory.
    pub block: U32,
}

/// `struct dx_countlimit`: in the place of the first hash.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CountLimit {
    /// Places there is room for.
    pub limit: U16,
    /// Places that are used, this one included.
    pub count: U16,
}

/// `struct dx_tail`, behind the last place that there is room for.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tail {
    /// 0.
    pub reserved: U32,
    /// CRC32c.
    pub checksum: U32,
}

const _: () = assert!(size_of::<RootInfo>() == ROOT_INFO_SIZE);
const _: () = assert!(size_of::<Place>() == 8 && size_of::<CountLimit>() == 4 && size_of::<Tail>() == 8);

/// Places that a node whose places begin at `offset` of a block of `block_size` bytes has room for.
pub fn limit(block_size: usize, offset: usize, has_tail: bool) -> usize {
    let tail = if has_tail { size_of::<Tail>() } else { 0 };
    block_size.saturating_sub(offset + tail) / size_of::<Place>()
}

/// Where the places of a block are, which looks like a root or like an inner node; none if like neither.
pub fn places_offset(block: &[u8]) -> Option<usize> {
    let first: &super::dir::Header = super::at(block, 0)?;
    if usize::from(first.rec_len.get()) == block.len() {
        return Some(NODE_PLACES_OFFSET);
    }
    if first.rec_len.get() != 12 {
        return None;
    }
    let second: &super::dir::Header = super::at(block, 12)?;
    if usize::from(second.rec_len.get()) != block.len() - 12 {
        return None;
    }
    let info: &RootInfo = super::at(block, ROOT_INFO_OFFSET)?;
    let usual = info.reserved_zero.get() == 0 && usize::from(info.info_length) == ROOT_INFO_SIZE;
    usual.then_some(ROOT_PLACES_OFFSET)
}

/// The places of a node that begin at `offset`: those in use. None if count and limit are not possible.
pub fn places(block: &[u8], offset: usize, has_tail: bool) -> Option<&[Place]> {
    let counts: &CountLimit = super::at(block, offset)?;
    let (count, most) = (usize::from(counts.count.get()), usize::from(counts.limit.get()));
    if most != limit(block.len(), offset, has_tail) || count == 0 || count > most {
        return None;
    }
    <[Place]>::ref_from_bytes(block.get(offset..offset + count * size_of::<Place>())?).ok()
}
