//! The super block: 1024 bytes at byte 1024 of the device, with copies in other groups.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::features::{Compat, Incompat, RoCompat};
use super::{U16, U32, U64, join64};

/// Where it is, in bytes from the start of the device.
pub const OFFSET: u64 = 1024;
/// Its size in bytes.
pub const SIZE: usize = 1024;
/// `magic` of ext2, ext3 and ext4.
pub const MAGIC: u16 = 0xef53;

/// `state`: it was unmounted in order.
pub const STATE_VALID: u16 = 1;
/// `state`: errors were found.
pub const STATE_ERROR: u16 = 2;
/// `state`: orphans are being recovered.
pub const STATE_ORPHANS: u16 = 4;
/// `state`: there were fast commits to replay.
pub const STATE_FC_REPLAY: u16 = 0x20;

/// `errors`: go on.
pub const ERRORS_CONTINUE: u16 = 1;
/// `errors`: become read-only.
pub const ERRORS_RO: u16 = 2;
/// `errors`: stop the machine.
pub const ERRORS_PANIC: u16 = 3;

/// `rev_level`: fixed sizes, no features.
pub const REV_GOOD_OLD: u32 = 0;
/// `rev_level`: inode size and features are in the super block.
pub const REV_DYNAMIC: u32 = 1;
/// Size of an inode of the first revision.
pub const GOOD_OLD_INODE_SIZE: u16 = 128;
/// First inode for files of the first revision.
pub const GOOD_OLD_FIRST_INO: u32 = 11;

/// `flags`: hashes of names take characters as signed.
pub const FLAG_SIGNED_HASH: u32 = 1;
/// `flags`: hashes of names take characters as unsigned.
pub const FLAG_UNSIGNED_HASH: u32 = 2;
/// `flags`: it may be mounted by code under development.
pub const FLAG_TEST_FILESYS: u32 = 4;

/// `default_mount_opts`.
pub mod default_opts {
    /// `debug`.
    pub const DEBUG: u32 = 1;
    /// `bsdgroups`.
    pub const BSDGROUPS: u32 = 2;
    /// `user_xattr`.
    pub const XATTR_USER: u32 = 4;
    /// `acl`.
    pub const ACL: u32 = 8;
    /// No 32-bit user ids.
    pub const UID16: u32 = 0x10;
    /// The mode of data journaling.
    pub const JOURNAL_MODE: u32 = 0x60;
    /// `data=journal`.
    pub const DATA_JOURNAL: u32 = 0x20;
    /// `data=ordered`.
    pub const DATA_ORDERED: u32 = 0x40;
    /// `data=writeback`.
    pub const DATA_WRITEBACK: u32 = 0x60;
    /// `nobarrier`.
    pub const NOBARRIER: u32 = 0x100;
    /// `block_validity`.
    pub const BLOCK_VALIDITY: u32 = 0x200;
    /// `discard`.
    pub const DISCARD: u32 = 0x400;
    /// `nodelalloc`.
    pub const NODELALLOC: u32 = 0x800;
}

/// `struct ext4_super_block`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are those of the documented structure")]
pub struct SuperBlock {
    pub inodes_count: U32,
    pub blocks_count_lo: U32,
    pub r_blocks_count_lo: U32,
    pub free_blocks_count_lo: U32,
    pub free_inodes_count: U32,
    pub first_data_block: U32,
    pub log_block_size: U32,
    pub log_cluster_size: U32,
    pub blocks_per_group: U32,
    pub clusters_per_group: U32,
    pub inodes_per_group: U32,
    pub mtime: U32,
    pub wtime: U32,
    pub mnt_count: U16,
    pub max_mnt_count: U16,
    pub magic: U16,
    pub state: U16,
    pub errors: U16,
    pub minor_rev_level: U16,
    pub lastcheck: U32,
    pub checkinterval: U32,
    pub creator_os: U32,
    pub rev_level: U32,
    pub def_resuid: U16,
    pub def_resgid: U16,
    pub first_ino: U32,
    pub inode_size: U16,
    pub block_group_nr: U16,
    pub feature_compat: U32,
    pub feature_incompat: U32,
    pub feature_ro_compat: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub last_mounted: [u8; 64],
    pub algorithm_usage_bitmap: U32,
    pub prealloc_blocks: u8,
    pub prealloc_dir_blocks: u8,
    pub reserved_gdt_blocks: U16,
    pub journal_uuid: [u8; 16],
    pub journal_inum: U32,
    pub journal_dev: U32,
    pub last_orphan: U32,
    pub hash_seed: [U32; 4],
    pub def_hash_version: u8,
    pub jnl_backup_type: u8,
    pub desc_size: U16,
    pub default_mount_opts: U32,
    pub first_meta_bg: U32,
    pub mkfs_time: U32,
    pub jnl_blocks: [U32; 17],
    pub blocks_count_hi: U32,
    pub r_blocks_count_hi: U32,
    pub free_blocks_count_hi: U32,
    pub min_extra_isize: U16,
    pub want_extra_isize: U16,
    pub flags: U32,
    pub raid_stride: U16,
    pub mmp_update_interval: U16,
    pub mmp_block: U64,
    pub raid_stripe_width: U32,
    pub log_groups_per_flex: u8,
    pub checksum_type: u8,
    pub encryption_level: u8,
    pub reserved_pad: u8,
    pub kbytes_written: U64,
    pub snapshot_inum: U32,
    pub snapshot_id: U32,
    pub snapshot_r_blocks_count: U64,
    pub snapshot_list: U32,
    pub error_count: U32,
    pub first_error_time: U32,
    pub first_error_ino: U32,
    pub first_error_block: U64,
    pub first_error_func: [u8; 32],
    pub first_error_line: U32,
    pub last_error_time: U32,
    pub last_error_ino: U32,
    pub last_error_line: U32,
    pub last_error_block: U64,
    pub last_error_func: [u8; 32],
    pub mount_opts: [u8; 64],
    pub usr_quota_inum: U32,
    pub grp_quota_inum: U32,
    pub overhead_clusters: U32,
    pub backup_bgs: [U32; 2],
    pub encrypt_algos: [u8; 4],
    pub encrypt_pw_salt: [u8; 16],
    pub lpf_ino: U32,
    pub prj_quota_inum: U32,
    pub checksum_seed: U32,
    pub wtime_hi: u8,
    pub mtime_hi: u8,
    pub mkfs_time_hi: u8,
    pub lastcheck_hi: u8,
    pub first_error_time_hi: u8,
    pub last_error_time_hi: u8,
    pub first_error_errcode: u8,
    pub last_error_errcode: u8,
    pub encoding: U16,
    pub encoding_flags: U16,
    pub orphan_file_inum: U32,
    pub reserved: [U32; 94],
    pub checksum: U32,
}

const _: () = assert!(size_of::<SuperBlock>() == SIZE);

impl SuperBlock {
    /// Features that may be unknown to who reads and writes.
    pub fn compat(&self) -> Compat {
        Compat::from_bits_retain(self.feature_compat.get())
    }

    /// Features without which nobody understands it.
    pub fn incompat(&self) -> Incompat {
        Incompat::from_bits_retain(self.feature_incompat.get())
    }

    /// Features that may be unknown to who only reads.
    pub fn ro_compat(&self) -> RoCompat {
        RoCompat::from_bits_retain(self.feature_ro_compat.get())
    }

    /// Blocks of the file system. The high half counts with the feature only.
    pub fn blocks_count(&self) -> u64 {
        self.counted(self.blocks_count_lo, self.blocks_count_hi)
    }

    /// Blocks that only the administrator gets.
    pub fn reserved_blocks_count(&self) -> u64 {
        self.counted(self.r_blocks_count_lo, self.r_blocks_count_hi)
    }

    /// Free clusters (blocks without `bigalloc`). As of the last orderly unmount.
    pub fn free_clusters_count(&self) -> u64 {
        self.counted(self.free_blocks_count_lo, self.free_blocks_count_hi)
    }

    /// Sets the count of free clusters.
    pub fn set_free_clusters_count(&mut self, clusters: u64) {
        self.free_blocks_count_lo.set(clusters as u32);
        self.free_blocks_count_hi.set((clusters >> 32) as u32);
    }

    fn counted(&self, low: U32, high: U32) -> u64 {
        if self.incompat().contains(Incompat::BITS_64) { join64(low, high) } else { low.get().into() }
    }

    /// Size of an inode in bytes.
    pub fn inode_size(&self) -> u16 {
        if self.rev_level.get() == REV_GOOD_OLD { GOOD_OLD_INODE_SIZE } else { self.inode_size.get() }
    }

    /// First inode that is not the file system's own.
    pub fn first_ino(&self) -> u32 {
        if self.rev_level.get() == REV_GOOD_OLD { GOOD_OLD_FIRST_INO } else { self.first_ino.get() }
    }

    /// The seed of name hashes.
    pub fn hash_seed(&self) -> [u32; 4] {
        self.hash_seed.map(U32::get)
    }
}

/// A time in seconds of a low part and the eight bits above.
pub fn time40(low: U32, high: u8) -> i64 {
    i64::from(high) << 32 | i64::from(low.get())
}
