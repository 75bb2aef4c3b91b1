//! The dimensions of a file system, derived from its super block and checked: from here on they are true.
//!
//! [`Layout::new`] refuses what is impossible, with Linux's messages, and in its order where several things are wrong.

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;

use crate::disk::features::{Incompat, RoCompat};
use crate::disk::group;
use crate::disk::inode::{CORE_SIZE, Extra};
use crate::disk::super_block::{REV_GOOD_OLD, SuperBlock};
use crate::messages::Messages;

/// Smallest block.
pub const MIN_BLOCK_BITS: u32 = 10;
/// Largest `log_block_size` and `log_cluster_size`.
const MAX_LOG_BLOCK: u32 = 6;
const MAX_LOG_CLUSTER: u32 = 30 - MIN_BLOCK_BITS;

/// The dimensions of a file system. All numbers fit with each other and with the device.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// log2 of the block size.
    pub block_bits: u32,
    /// log2 of the number of blocks in a cluster.
    pub cluster_ratio_bits: u32,
    /// Blocks of the file system.
    pub blocks_count: u64,
    /// The first block of group 0.
    pub first_data_block: u32,
    /// Blocks in a group.
    pub blocks_per_group: u32,
    /// Clusters in a group.
    pub clusters_per_group: u32,
    /// Inodes in a group.
    pub inodes_per_group: u32,
    /// Inodes of the file system.
    pub inodes_count: u32,
    /// Bytes of an inode.
    pub inode_size: u16,
    /// First inode that is not the file system's own.
    pub first_ino: u32,
    /// Bytes of the inode's extra fields that new inodes get.
    pub want_extra_isize: u16,
    /// Groups.
    pub groups: u32,
    /// Bytes of a group descriptor.
    pub desc_size: u16,
    /// Blocks of group descriptors.
    pub desc_blocks: u32,
    /// The first meta block group; [`u32::MAX`] without the feature.
    pub first_meta_bg: u32,
    /// Groups of a flexible group, as log2; 0 without the feature.
    pub flex_bits: u32,
    /// Block with the super block, and where it begins there.
    pub sb_block: u64,
    /// The largest file of extents.
    pub max_bytes: u64,
    /// The largest file without extents.
    pub max_bytes_mapped: u64,
    /// The feature `huge_file`.
    pub huge_file: bool,
    sparse: Sparse,
}

/// Which groups have copies of the super block and descriptors.
#[derive(Clone, Copy, Debug)]
enum Sparse {
    All,
    Powers,
    Two([u32; 2]),
}

/// log2 of the block size, if it is one that can be mounted.
///
/// # Errors
/// `EINVAL`.
pub fn block_bits(sb: &SuperBlock, messages: &Messages<'_>) -> Result<u32> {
    let log = sb.log_block_size.get();
    if log > MAX_LOG_BLOCK {
        return Err(messages.invalid(format_args!("Invalid log block size: {log}")));
    }
    let cluster = sb.log_cluster_size.get();
    if cluster > MAX_LOG_CLUSTER {
        return Err(messages.invalid(format_args!("Invalid log cluster size: {cluster}")));
    }
    if 1usize << (MIN_BLOCK_BITS + log) > PAGE_SIZE {
        return Err(messages.invalid(format_args!("bad block size {}", 1u64 << (MIN_BLOCK_BITS + log))));
    }
    Ok(MIN_BLOCK_BITS + log)
}

impl Layout {
    /// The dimensions that `sb` says, on a device of `device_bytes`. `sb_block`: the block that it is in.
    ///
    /// # Errors
    /// `EINVAL` for what is impossible, `EFBIG` for what is too large.
    pub fn new(sb: &SuperBlock, sb_block: u64, device_bytes: u64, messages: &Messages<'_>) -> Result<Self> {
        let bad = |text: core::fmt::Arguments<'_>| messages.invalid(text);
        let block_bits = block_bits(sb, messages)?;
        let block_size = 1u32 << block_bits;
        let inode_size = Self::inode_size(sb, block_size, messages)?;
        let want_extra_isize = Self::extra_isize(sb, inode_size, messages)?;

        let bits64 = sb.incompat().contains(Incompat::BITS_64);
        let desc_size = if bits64 { sb.desc_size.get() } else { group::SIZE_32 as u16 };
        if bits64 && (!(64..=1024).contains(&desc_size) || !desc_size.is_power_of_two()) {
            return Err(bad(format_args!("unsupported descriptor size {desc_size}")));
        }
        let (blocks_per_group, inodes_per_group) = (sb.blocks_per_group.get(), sb.inodes_per_group.get());
        let inodes_per_block = block_size / u32::from(inode_size);
        if inodes_per_block == 0 || blocks_per_group == 0 {
            return Err(bad(format_args!("VFS: Can't find ext4 filesystem")));
        }
        if inodes_per_group < inodes_per_block || inodes_per_group > block_size * 8 {
            return Err(bad(format_args!("invalid inodes per group: {inodes_per_group}\n")));
        }

        let cluster_bits = MIN_BLOCK_BITS + sb.log_cluster_size.get();
        let (cluster_size, per_group) = (1u64 << cluster_bits, sb.clusters_per_group.get());
        let clusters_per_group = if sb.ro_compat().contains(RoCompat::BIGALLOC) {
            if cluster_bits < block_bits {
                return Err(bad(format_args!(
                    "cluster size ({cluster_size}) smaller than block size ({block_size})"
                )));
            }
            if per_group > block_size * 8 {
                return Err(bad(format_args!("#clusters per group too big: {per_group}")));
            }
            if u64::from(blocks_per_group) != u64::from(per_group) << (cluster_bits - block_bits) {
                return Err(bad(format_args!(
                    "blocks per group ({blocks_per_group}) and clusters per group ({per_group}) inconsistent"
                )));
            }
            per_group
        } else {
            if cluster_bits != block_bits {
                return Err(bad(format_args!(
                    "fragment/cluster size ({cluster_size}) != block size ({block_size})"
                )));
            }
            if blocks_per_group > block_size * 8 {
                return Err(bad(format_args!("#blocks per group too big: {blocks_per_group}")));
            }
            blocks_per_group
        };

        let blocks_count = sb.blocks_count();
        // What a page's index and a sector's number can say.
        if blocks_count >= 1 << (63 - block_bits) {
            bad(format_args!("filesystem too large to mount safely on this system"));
            return Err(Errno::EFBIG);
        }
        let on_device = device_bytes >> block_bits;
        if blocks_count > on_device {
            return Err(bad(format_args!(
                "bad geometry: block count {blocks_count} exceeds size of device ({on_device} blocks)"
            )));
        }
        let first_data_block = sb.first_data_block.get();
        if u64::from(first_data_block) >= blocks_count {
            return Err(bad(format_args!(
                "bad geometry: first data block {first_data_block} is beyond end of filesystem ({blocks_count})"
            )));
        }
        if first_data_block == 0 && block_bits == MIN_BLOCK_BITS && cluster_bits == block_bits {
            return Err(bad(format_args!(
                "bad geometry: first data block is 0 with a 1k block and cluster size"
            )));
        }
        let per_block = block_size / u32::from(desc_size);
        let groups = (blocks_count - u64::from(first_data_block)).div_ceil(blocks_per_group.into());
        if groups > (1 << 32) - u64::from(per_block) {
            return Err(bad(format_args!(
                "groups count too large: {groups} (block count {blocks_count}, first data block \
                 {first_data_block}, blocks per group {blocks_per_group})"
            )));
        }
        let groups = groups as u32;
        let inodes = u64::from(groups) * u64::from(inodes_per_group);
        if inodes != u64::from(sb.inodes_count.get()) {
            return Err(bad(format_args!("inodes count not valid: {} vs {inodes}", sb.inodes_count.get())));
        }
        let desc_blocks = groups.div_ceil(per_block);
        let first_meta_bg = match sb.incompat().contains(Incompat::META_BG) {
            false => u32::MAX,
            true => sb.first_meta_bg.get(),
        };
        if first_meta_bg != u32::MAX && first_meta_bg > desc_blocks {
            return Err(bad(format_args!(
                "first meta block group too large: {first_meta_bg} (group descriptor block count {desc_blocks})"
            )));
        }
        let huge_file = sb.ro_compat().contains(RoCompat::HUGE_FILE);
        let flex = u32::from(sb.log_groups_per_flex);
        let flex_bits = if sb.incompat().contains(Incompat::FLEX_BG) && flex < 32 { flex } else { 0 };
        Ok(Self {
            block_bits,
            cluster_ratio_bits: cluster_bits - block_bits,
            blocks_count,
            first_data_block,
            blocks_per_group,
            clusters_per_group,
            inodes_per_group,
            inodes_count: sb.inodes_count.get(),
            inode_size,
            first_ino: sb.first_ino(),
            want_extra_isize,
            groups,
            desc_size,
            desc_blocks,
            first_meta_bg,
            flex_bits,
            sb_block,
            max_bytes: max_bytes(block_bits, huge_file),
            max_bytes_mapped: max_bytes_mapped(block_bits, huge_file),
            huge_file,
            sparse: match sb {
                _ if sb.compat().contains(crate::disk::features::Compat::SPARSE_SUPER2) => {
                    Sparse::Two(sb.backup_bgs.map(|group| group.get()))
                }
                _ if sb.ro_compat().contains(RoCompat::SPARSE_SUPER) => Sparse::Powers,
                _ => Sparse::All,
            },
        })
    }

    fn inode_size(sb: &SuperBlock, block_size: u32, messages: &Messages<'_>) -> Result<u16> {
        let size = sb.inode_size();
        if sb.rev_level.get() == REV_GOOD_OLD {
            return Ok(size);
        }
        if sb.first_ino() < crate::disk::super_block::GOOD_OLD_FIRST_INO {
            return Err(messages.invalid(format_args!("invalid first ino: {}", sb.first_ino())));
        }
        if usize::from(size) < CORE_SIZE || !size.is_power_of_two() || u32::from(size) > block_size {
            messages.error(format_args!("unsupported inode size: {size}"));
            return Err(messages.invalid(format_args!("blocksize: {block_size}")));
        }
        Ok(size)
    }

    fn extra_isize(sb: &SuperBlock, inode_size: u16, messages: &Messages<'_>) -> Result<u16> {
        let room = inode_size - CORE_SIZE as u16;
        if room == 0 {
            return Ok(0);
        }
        let mut want = size_of::<Extra>() as u16;
        if sb.ro_compat().contains(RoCompat::EXTRA_ISIZE) {
            for (name, value) in [("want", sb.want_extra_isize.get()), ("min", sb.min_extra_isize.get())] {
                if value > room {
                    return Err(messages.invalid(format_args!("bad s_{name}_extra_isize: {value}")));
                }
                want = want.max(value);
            }
        }
        Ok(want)
    }

    /// Bytes of a block.
    #[inline]
    pub fn block_size(&self) -> usize {
        1 << self.block_bits
    }

    /// Blocks that `bytes` bytes take.
    #[inline]
    pub fn blocks_of(&self, bytes: u64) -> u64 {
        bytes.div_ceil(1 << self.block_bits)
    }

    /// Inodes in a block.
    pub fn inodes_per_block(&self) -> u32 {
        self.block_size() as u32 / u32::from(self.inode_size)
    }

    /// Blocks of the inode table of a group.
    pub fn table_blocks(&self) -> u32 {
        self.inodes_per_group.div_ceil(self.inodes_per_block())
    }

    /// Descriptors in a block.
    pub fn descs_per_block(&self) -> u32 {
        self.block_size() as u32 / u32::from(self.desc_size)
    }

    /// The first block of a group.
    pub fn group_start(&self, group: u32) -> u64 {
        u64::from(group) * u64::from(self.blocks_per_group) + u64::from(self.first_data_block)
    }

    /// Blocks of a group: the last one may have fewer.
    pub fn group_blocks(&self, group: u32) -> u32 {
        let left = self.blocks_count.saturating_sub(self.group_start(group));
        left.min(self.blocks_per_group.into()) as u32
    }

    /// The group that a block is in, and which one it is there.
    pub fn group_of(&self, block: u64) -> (u32, u32) {
        let at = block.saturating_sub(self.first_data_block.into());
        let per_group = u64::from(self.blocks_per_group);
        ((at / per_group) as u32, (at % per_group) as u32)
    }

    /// The group that an inode is in, and which one it is there. `ino` is valid: not 0, and not more than there are.
    pub fn inode_group(&self, ino: u32) -> (u32, u32) {
        let at = ino.saturating_sub(1);
        (at / self.inodes_per_group, at % self.inodes_per_group)
    }

    /// Whether blocks for data and metadata of inodes can be at `start` (`ext4_inode_block_valid` without the zones).
    #[inline]
    pub fn is_valid(&self, start: u64, count: u64) -> bool {
        start > u64::from(self.first_data_block)
            && start.checked_add(count).is_some_and(|end| end <= self.blocks_count)
            && count > 0
    }

    /// Whether a group has a copy of the super block.
    pub fn has_super(&self, group: u32) -> bool {
        let is_power = |base: u32| {
            let mut power = base;
            while power < group {
                match power.checked_mul(base) {
                    Some(next) => power = next,
                    None => return false,
                }
            }
            power == group
        };
        match self.sparse {
            _ if group == 0 => true,
            Sparse::All => true,
            Sparse::Two(groups) => groups.contains(&group),
            Sparse::Powers => group == 1 || group & 1 == 1 && (is_power(3) || is_power(5) || is_power(7)),
        }
    }

    /// Where block `index` of the group descriptors is.
    pub fn desc_block(&self, index: u32) -> u64 {
        if index < self.first_meta_bg {
            return self.sb_block + 1 + u64::from(index);
        }
        let group = index.saturating_mul(self.descs_per_block());
        let mut behind_super = u64::from(self.has_super(group));
        // With blocks of 1 KiB group 0 begins with block 1, unless clusters begin at 0.
        if group == 0 && self.block_bits == MIN_BLOCK_BITS && self.first_data_block == 0 {
            behind_super += 1;
        }
        self.group_start(group) + behind_super
    }

    /// Blocks of group descriptors that a group has (`ext4_bg_num_gdb`).
    pub fn desc_blocks_in(&self, group: u32) -> u32 {
        let meta = group / self.descs_per_block();
        if meta < self.first_meta_bg {
            let all = self.first_meta_bg.min(self.desc_blocks);
            return if self.has_super(group) { all } else { 0 };
        }
        let first = meta * self.descs_per_block();
        let last = first.saturating_add(self.descs_per_block() - 1);
        u32::from(group == first || group == first + 1 || group == last)
    }
}

/// The largest file of extents, in bytes: 2^32 - 1 blocks, or 2^32 - 1 sectors without `huge_file`.
fn max_bytes(block_bits: u32, huge: bool) -> u64 {
    let blocks = (1u64 << 32) - 1;
    let most = if huge { u64::MAX } else { (blocks >> (block_bits - 9)) << block_bits };
    (blocks << block_bits).min(most).min(i64::MAX as u64)
}

/// The largest file without extents: what three levels of addresses reach, or as many blocks as the count of sectors has room for.
fn max_bytes_mapped(block_bits: u32, huge: bool) -> u64 {
    let per_block = 1u64 << (block_bits - 2);
    let (second, third) = (per_block.pow(2), per_block.pow(3));
    let limit = if huge { (1 << 48) - 1 } else { ((1u64 << 32) - 1) >> (block_bits - 9) };
    let all = 12 + per_block + second + third;
    let tables = 3 + 2 * per_block + second;
    let blocks = if all + tables <= limit {
        all
    } else {
        let left = limit - 12 - per_block;
        match left.checked_sub(second) {
            None => limit - (2 + left.div_ceil(per_block)),
            Some(left) => limit - (3 + per_block + left.div_ceil(per_block) + left.div_ceil(second)),
        }
    };
    (blocks << block_bits).min(i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux answers to writing at a large offset (`EFBIG` from there on).
    #[test]
    fn largest_files() {
        assert_eq!(max_bytes(12, true), 17_592_186_040_320);
        assert_eq!(max_bytes(10, true), 4_398_046_510_080);
        assert_eq!(max_bytes_mapped(12, true), 4_402_345_721_856);
        assert_eq!(max_bytes_mapped(11, true), 275_415_851_008);
        assert_eq!(max_bytes_mapped(10, true), 17_247_252_480);
        assert!(max_bytes_mapped(12, false) < 2 << 40);
    }
}
