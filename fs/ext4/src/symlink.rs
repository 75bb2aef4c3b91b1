//! Symbolic links: short targets are in the inode, longer ones in a block, or where inline data is.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use mm::fallible::{try_arc_slice, try_to_vec};
use vfs::Inode;

use crate::disk::inode::{BLOCK_BYTES, Flags};
use crate::inode::Node;

impl Node {
    /// Whether the target is in the inode where addresses would be.
    pub(crate) fn is_fast_symlink(&self, inode: &Inode) -> bool {
        if self.flags().contains(Flags::INLINE_DATA) {
            return false;
        }
        let size = self.disk_size.load(Ordering::Relaxed);
        if self.fs.has_ea_inodes() {
            return size > 0 && size < BLOCK_BYTES as u64;
        }
        // The block of extended attributes is counted too.
        let cluster = 1u64 << (self.fs.layout.block_bits + self.fs.layout.cluster_ratio_bits - 9);
        let of_attributes = if self.file_acl() != 0 { cluster } else { 0 };
        inode.blocks() == of_attributes
    }

    /// Keeps the target of a short link with the inode, so that the path walk finds it without asking.
    pub(crate) fn cache_fast_symlink(&self, inode: &Inode) -> Result<()> {
        inode.set_cached_link(Self::to_link(&self.fast_target())?);
        Ok(())
    }

    fn fast_target(&self) -> [u8; BLOCK_BYTES] {
        let mut target = self.root();
        let size = self.disk_size.load(Ordering::Relaxed).min(BLOCK_BYTES as u64 - 1) as usize;
        target.iter_mut().skip(size).for_each(|byte| *byte = 0);
        target
    }

    fn to_link(target: &[u8]) -> Result<Arc<[u8]>> {
        let len = target.iter().position(|byte| *byte == 0).unwrap_or(target.len());
        Ok(try_arc_slice(target.get(..len).unwrap_or_default())?)
    }

    /// The target of a link that is not short.
    pub(crate) fn read_link(&self, inode: &Inode) -> Result<Arc<[u8]>> {
        let size = self.disk_size.load(Ordering::Relaxed);
        let bytes: Vec<u8> = if self.flags().contains(Flags::INLINE_DATA) {
            self.inline_data()?
        } else if self.is_fast_symlink(inode) {
            try_to_vec(&self.fast_target())?
        } else {
            // One block, with the end of the text in it.
            let most = self.fs.layout.block_size() as u64 - 1;
            if self.map(0)?.on_device().is_none() {
                return Err(crate::error::EFSCORRUPTED);
            }
            self.read_bytes(size.min(most) as usize)?
        };
        let link = Self::to_link(&bytes)?;
        if link.is_empty() {
            return Err(Errno::ENOENT);
        }
        inode.set_cached_link(link.clone());
        Ok(link)
    }
}
