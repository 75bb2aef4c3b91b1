//! Group descriptors: read, and checked against the dimensions.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Result;
use buffer::{Buffer, BufferCache};
use mm::fallible::{TryVec, try_into_boxed_slice, try_with_capacity};

use crate::disk::checksum::Checksums;
use crate::disk::features::{Compat, Incompat};
use crate::disk::group::GroupDesc;
use crate::disk::super_block::SuperBlock;
use crate::error::{EFSCORRUPTED, there};
use crate::layout::Layout;
use crate::messages::Messages;

/// Blocks that are read ahead.
const AHEAD: usize = 64;

/// Reads all group descriptors.
///
/// # Errors
/// `EUCLEAN`: they are impossible; `EIO`, `ENOMEM`.
pub fn read(
    cache: &BufferCache,
    layout: &Layout,
    checksums: &Checksums,
    sb: &SuperBlock,
    read_only: bool,
    messages: &Messages<'_>,
) -> Result<Box<[Arc<Buffer>]>> {
    let mut blocks: Vec<Arc<Buffer>> = try_with_capacity(layout.desc_blocks as usize)?;
    let mut ahead = [0; AHEAD];
    for first in (0..layout.desc_blocks).step_by(AHEAD) {
        let count = (layout.desc_blocks - first).min(AHEAD as u32);
        let some = ahead.get_mut(..count as usize).unwrap_or_default();
        some.iter_mut().zip(first..).for_each(|(slot, index)| *slot = layout.desc_block(index));
        cache.readahead(some);
        for index in first..first + count {
            let buffer = cache.read(layout.desc_block(index)).inspect_err(|_| {
                messages.error(format_args!("can't read group descriptor {index}"));
            })?;
            blocks.try_push(buffer)?;
        }
    }
    let blocks = try_into_boxed_slice(blocks)?;
    if check(&blocks, layout, checksums, sb, read_only, messages)?.is_none() {
        messages.error(format_args!("group descriptors corrupted!"));
        return Err(EFSCORRUPTED);
    }
    Ok(blocks)
}

/// Checks all descriptors (`ext4_check_descriptors`); `None`: they are not to be used.
fn check(
    blocks: &[Arc<Buffer>],
    layout: &Layout,
    checksums: &Checksums,
    sb: &SuperBlock,
    read_only: bool,
    messages: &Messages<'_>,
) -> Result<Option<()>> {
    let flex = sb.incompat().contains(Incompat::FLEX_BG);
    let (per_block, size) = (layout.descs_per_block(), usize::from(layout.desc_size));
    let descs_end = layout.sb_block + u64::from(layout.desc_blocks_in(0));
    let say = |what: core::fmt::Arguments<'_>| messages.error(format_args!("ext4_check_descriptors: {what}"));
    for (first, buffer) in (0..layout.groups).step_by(per_block as usize).zip(blocks) {
        let block = buffer.data();
        for (group, bytes) in (first..layout.groups).zip(block.bytes().chunks_exact(size)) {
            let desc = there(GroupDesc::read(bytes))?;
            let start = if flex { layout.first_data_block.into() } else { layout.group_start(group) };
            let last = match flex || group == layout.groups - 1 {
                true => layout.blocks_count - 1,
                false => layout.group_start(group) + u64::from(layout.blocks_per_group) - 1,
            };
            let table = u64::from(layout.table_blocks());
            for (what, at, len) in [
                ("Block bitmap", desc.block_bitmap, 1),
                ("Inode bitmap", desc.inode_bitmap, 1),
                ("Inode table", desc.inode_table, table),
            ] {
                let overlaps = if at == layout.sb_block {
                    Some("superblock")
                } else if at > layout.sb_block && at <= descs_end {
                    Some("block group descriptors")
                } else {
                    None
                };
                if let Some(overlaps) = overlaps {
                    say(format_args!("{what} for group {group} overlaps {overlaps}"));
                    if !read_only {
                        return Ok(None);
                    }
                }
                if at < start || at.checked_add(len - 1).is_none_or(|end| end > last) {
                    say(format_args!("{what} for group {group} not in group (block {at})!"));
                    return Ok(None);
                }
            }
            if checksums.has_groups() {
                let right = checksums.group(group, bytes);
                if right != desc.checksum {
                    say(format_args!("Checksum for group {group} failed ({right}!={})", desc.checksum));
                    if !read_only {
                        return Ok(None);
                    }
                }
            }
        }
        sched::cond_resched();
    }
    Ok(Some(()))
}

/// Blocks that are the file system's own (`f_blocks` of `statfs(2)` does not count them): as the super block says, or else counted.
pub fn overhead(sb: &SuperBlock, layout: &Layout) -> u64 {
    let noted = u64::from(sb.overhead_clusters.get()) << layout.cluster_ratio_bits;
    if noted != 0 && noted < layout.blocks_count {
        return noted;
    }
    let reserved = u64::from(sb.reserved_gdt_blocks.get());
    let mut all = u64::from(layout.first_data_block);
    for group in 0..layout.groups {
        let head = u64::from(layout.has_super(group));
        let of_table = u64::from(layout.table_blocks()) + 2;
        all += head * (1 + reserved) + u64::from(layout.desc_blocks_in(group)) + of_table;
    }
    if sb.compat().contains(Compat::HAS_JOURNAL) && sb.journal_inum.get() != 0 {
        // The size of the journal is in the copy of its inode.
        let [.., high, low] = sb.jnl_blocks;
        let bytes = u64::from(high.get()) << 32 | u64::from(low.get());
        all = all.saturating_add(layout.blocks_of(bytes));
    }
    all.min(layout.blocks_count)
}

/// Free clusters and inodes, as the descriptors count them.
///
/// # Errors
/// `EUCLEAN`.
pub fn free(blocks: &[Arc<Buffer>], layout: &Layout) -> Result<(u64, u64)> {
    let (mut clusters, mut inodes) = (0u64, 0u64);
    let mut left = layout.groups as usize;
    for buffer in blocks {
        let block = buffer.data();
        for bytes in block.bytes().chunks_exact(usize::from(layout.desc_size)).take(left) {
            let desc = there(GroupDesc::read(bytes))?;
            clusters += u64::from(desc.free_clusters);
            inodes += u64::from(desc.free_inodes);
        }
        left = left.saturating_sub(layout.descs_per_block() as usize);
    }
    Ok((clusters, inodes))
}
