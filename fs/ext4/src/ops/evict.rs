//! Inodes that nobody has any more.

use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::TryVec;

use crate::disk::inode::BLOCK_BYTES;
use crate::extent_write::Map;
use crate::raw::{RawInode, mode};
use crate::space::inodes::FREE_CREDITS;
use crate::volume::Volume;

/// What was done about orphans when the file system was mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Inodes that were freed.
    pub freed: u32,
    /// Inodes whose blocks behind their size were freed.
    pub truncated: u32,
}

impl Volume {
    /// Whether the blocks of an inode are listed in it: not of devices and short links.
    fn has_map(node: &RawInode) -> bool {
        let core = node.core();
        let kind = core.mode.get() & mode::MASK;
        let short = kind == mode::LINK && core.size() < BLOCK_BYTES as u64;
        matches!(kind, mode::REG | mode::DIR | mode::LINK) && !short && !node.is_inline()
    }

    /// Frees an inode without a name that nobody uses any more, with all its blocks.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`: it stays noted as an orphan; what a damaged file system is answered.
    pub fn evict_node(self: &Arc<Self>, node: &RawInode, now: u32) -> Result<()> {
        let map = Map { volume: self, node };
        self.change("evict_node", 1, |tx| {
            if Self::has_map(node) || node.is_dir() && !node.is_inline() {
                map.remove(tx, 0..u32::MAX)?;
            }
            map.extend(tx, crate::xattr_write::block::DROP_CREDITS)?;
            self.drop_attributes(tx, node)?;
            map.extend(tx, crate::orphan::CREDITS + FREE_CREDITS + 1)?;
            node.update(self, tx, |core| core.set_size(0))?;
            self.remove_orphan(tx, node)?;
            self.free_inode(tx, node, now)
        })
    }

    /// Finds what a crash left behind, after the journal was replayed: inodes without names are freed, others lose what is behind their size.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`; what a damaged file system is answered.
    pub fn recover_orphans(self: &Arc<Self>, now: u32) -> Result<Recovered> {
        let mut all: Vec<u32> = Vec::new();
        {
            let mut state = self.orphans.state.lock();
            self.read_list(&mut state)?;
            if self.orphans.file != 0 {
                self.read_orphan_file(&mut state)?;
            }
            all.try_extend_from_slice(&state.list)?;
            for (ino, _) in state.placed.iter() {
                all.try_push(*ino)?;
            }
        }
        let mut recovered = Recovered::default();
        for ino in all {
            let node = RawInode::open(self, ino)?;
            if node.core().links_count.get() == 0 {
                self.evict_node(&node, now)?;
                recovered.freed += 1;
            } else {
                if Self::has_map(&node) {
                    self.trim_node(&node)?;
                }
                self.change("recover_orphans", crate::orphan::CREDITS, |tx| self.remove_orphan(tx, &node))?;
                recovered.truncated += 1;
            }
        }
        Ok(recovered)
    }
}
