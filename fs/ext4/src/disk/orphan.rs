//! The orphan file (`orphan_file`): inodes that are open without a name, or are being truncated, so that a crash does not leave
//! them behind. Each block is a list of inode numbers (0: free) and a [`Tail`]. Without the feature they are a list that
//! begins in the super block and goes on in `dtime` of the inodes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::U32;

/// `magic` of a block.
pub const MAGIC: u32 = 0x0b10_ca04;

/// `struct ext4_orphan_block_tail`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tail {
    /// [`MAGIC`].
    pub magic: U32,
    /// CRC32c of the file's seed, the block's number and the inode numbers.
    pub checksum: U32,
}

const _: () = assert!(size_of::<Tail>() == 8);

/// Inode numbers in a block of `block_size` bytes.
pub fn inodes_in_block(block_size: usize) -> usize {
    block_size.saturating_sub(size_of::<Tail>()) / 4
}

/// The inode numbers and the tail of a block; none if it is no block of an orphan file.
pub fn read(block: &[u8]) -> Option<(&[U32], &Tail)> {
    let (inodes, tail) = block.split_at_checked(block.len().checked_sub(size_of::<Tail>())?)?;
    let tail = Tail::ref_from_bytes(tail).ok()?;
    (tail.magic.get() == MAGIC).then_some((<[U32]>::ref_from_bytes(inodes).ok()?, tail))
}

/// The same, to be changed.
pub fn read_mut(block: &mut [u8]) -> Option<(&mut [U32], &mut Tail)> {
    let at = block.len().checked_sub(size_of::<Tail>())?;
    let (inodes, tail) = block.split_at_mut_checked(at)?;
    let tail = Tail::mut_from_bytes(tail).ok()?;
    (tail.magic.get() == MAGIC).then_some((<[U32]>::mut_from_bytes(inodes).ok()?, tail))
}
