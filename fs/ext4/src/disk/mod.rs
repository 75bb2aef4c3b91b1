//! The format on the device: structures, constants, checksums and hashes. No state, no I/O.
//!
//! All structures are little-endian, without alignment and without padding, and every bit pattern is a value; they are
//! looked at in place in a block's bytes ([`at`], [`at_mut`]). A value that was read is what somebody wrote, not the truth:
//! whoever uses it for a position or a length checks it.
//!
//! | what | module |
//! |---|---|
//! | super block | [`super_block`] |
//! | feature bits, and which of them are served | [`features`] |
//! | group descriptors | [`group`] |
//! | inodes, times | [`inode`] |
//! | extent trees | [`extent`] |
//! | directory entries and their hash trees | [`dir`], [`htree`] |
//! | hashes of names | [`hash`] |
//! | extended attributes | [`xattr`] |
//! | inodes to be removed or truncated after a crash | [`orphan`] |
//! | protection against being mounted twice | [`mmp`] |
//! | CRC32c, CRC16, and what is checked with them | [`checksum`] |
//!
//! Source: the kernel's *Documentation/filesystems/ext4*; `ext2_fs.h` of e2fsprogs for the numbers.

pub mod checksum;
pub mod dir;
pub mod extent;
pub mod features;
pub mod group;
pub mod hash;
pub mod htree;
pub mod inode;
mod inode_flags;
pub mod mmp;
pub mod orphan;
pub mod super_block;
pub mod xattr;

#[cfg(test)]
mod tests;

pub use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The structure at `offset` of a block; none where it does not fit.
pub fn at<T: FromBytes + KnownLayout + Immutable + Unaligned>(block: &[u8], offset: usize) -> Option<&T> {
    T::ref_from_prefix(block.get(offset..)?).ok().map(|(value, _)| value)
}

/// The structure at `offset` of a block, to be changed.
pub fn at_mut<T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned>(
    block: &mut [u8],
    offset: usize,
) -> Option<&mut T> {
    T::mut_from_prefix(block.get_mut(offset..)?).ok().map(|(value, _)| value)
}

/// A number of 48 bits of a low and a high part.
pub fn join48(low: U32, high: U16) -> u64 {
    u64::from(high.get()) << 32 | u64::from(low.get())
}

/// A number of 64 bits of two halves.
pub fn join64(low: U32, high: U32) -> u64 {
    u64::from(high.get()) << 32 | u64::from(low.get())
}
