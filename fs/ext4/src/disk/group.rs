//! Group descriptors: where the bitmaps and the inode table of a group are, and how much is free.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{U16, U32, join64};

/// Size of a descriptor without the feature `64bit`.
pub const SIZE_32: usize = 32;
/// Smallest size with it.
pub const SIZE_64: usize = 64;
/// Where the checksum is.
pub const CHECKSUM_OFFSET: usize = 0x1e;
/// `flags`: the inode bitmap and table are not written yet: all free.
pub const INODE_UNINIT: u16 = 1;
/// `flags`: the block bitmap is not written yet: what is in use follows from the layout.
pub const BLOCK_UNINIT: u16 = 2;
/// `flags`: the inode table is zeroed.
pub const INODE_ZEROED: u16 = 4;

/// The first 32 bytes of `struct ext4_group_desc`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct Low {
    pub block_bitmap: U32,
    pub inode_bitmap: U32,
    pub inode_table: U32,
    pub free_blocks_count: U16,
    pub free_inodes_count: U16,
    pub used_dirs_count: U16,
    pub flags: U16,
    pub exclude_bitmap: U32,
    pub block_bitmap_csum: U16,
    pub inode_bitmap_csum: U16,
    pub itable_unused: U16,
    pub checksum: U16,
}

/// The 32 bytes behind them, with the feature `64bit`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct High {
    pub block_bitmap: U32,
    pub inode_bitmap: U32,
    pub inode_table: U32,
    pub free_blocks_count: U16,
    pub free_inodes_count: U16,
    pub used_dirs_count: U16,
    pub itable_unused: U16,
    pub exclude_bitmap: U32,
    pub block_bitmap_csum: U16,
    pub inode_bitmap_csum: U16,
    pub reserved: U32,
}

const _: () = assert!(size_of::<Low>() == SIZE_32 && size_of::<High>() == SIZE_64 - SIZE_32);

/// A descriptor as its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct GroupDesc {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    /// In clusters.
    pub free_clusters: u32,
    pub free_inodes: u32,
    pub used_dirs: u32,
    /// Inodes at the end of the table that were never used.
    pub itable_unused: u32,
    pub flags: u16,
    pub block_bitmap_csum: u32,
    pub inode_bitmap_csum: u32,
    pub checksum: u16,
}

impl GroupDesc {
    /// Reads a descriptor of `bytes.len()` bytes; none if that is less than [`SIZE_32`]. The second half counts where it is there whole.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (low, rest) = Low::ref_from_prefix(bytes).ok()?;
        let high = High::ref_from_prefix(rest).ok().map(|(high, _)| high);
        let wide = |low: U32, f: fn(&High) -> U32| join64(low, high.map_or(U32::ZERO, f));
        let count = |low: U16, f: fn(&High) -> U16| {
            u32::from(high.map_or(0, |high| f(high).get())) << 16 | u32::from(low.get())
        };
        Some(Self {
            block_bitmap: wide(low.block_bitmap, |h| h.block_bitmap),
            inode_bitmap: wide(low.inode_bitmap, |h| h.inode_bitmap),
            inode_table: wide(low.inode_table, |h| h.inode_table),
            free_clusters: count(low.free_blocks_count, |h| h.free_blocks_count),
            free_inodes: count(low.free_inodes_count, |h| h.free_inodes_count),
            used_dirs: count(low.used_dirs_count, |h| h.used_dirs_count),
            itable_unused: count(low.itable_unused, |h| h.itable_unused),
            flags: low.flags.get(),
            block_bitmap_csum: count(low.block_bitmap_csum, |h| h.block_bitmap_csum),
            inode_bitmap_csum: count(low.inode_bitmap_csum, |h| h.inode_bitmap_csum),
            checksum: low.checksum.get(),
        })
    }

    /// Writes it into a descriptor's bytes; what it does not know stays. The checksum of the descriptor is not made here
    /// ([`super::checksum::Checksums::group`]). `None` if there is no room.
    pub fn write(&self, bytes: &mut [u8]) -> Option<()> {
        let (low, rest) = Low::mut_from_prefix(bytes).ok()?;
        low.block_bitmap.set(self.block_bitmap as u32);
        low.inode_bitmap.set(self.inode_bitmap as u32);
        low.inode_table.set(self.inode_table as u32);
        low.free_blocks_count.set(self.free_clusters as u16);
        low.free_inodes_count.set(self.free_inodes as u16);
        low.used_dirs_count.set(self.used_dirs as u16);
        low.itable_unused.set(self.itable_unused as u16);
        low.flags.set(self.flags);
        low.block_bitmap_csum.set(self.block_bitmap_csum as u16);
        low.inode_bitmap_csum.set(self.inode_bitmap_csum as u16);
        low.checksum.set(self.checksum);
        if let Ok((high, _)) = High::mut_from_prefix(rest) {
            high.block_bitmap.set((self.block_bitmap >> 32) as u32);
            high.inode_bitmap.set((self.inode_bitmap >> 32) as u32);
            high.inode_table.set((self.inode_table >> 32) as u32);
            high.free_blocks_count.set((self.free_clusters >> 16) as u16);
            high.free_inodes_count.set((self.free_inodes >> 16) as u16);
            high.used_dirs_count.set((self.used_dirs >> 16) as u16);
            high.itable_unused.set((self.itable_unused >> 16) as u16);
            high.block_bitmap_csum.set((self.block_bitmap_csum >> 16) as u16);
            high.inode_bitmap_csum.set((self.inode_bitmap_csum >> 16) as u16);
        }
        Some(())
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}
