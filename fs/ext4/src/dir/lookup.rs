//! From a name in a directory to an inode number.

use alloc::vec::Vec;

use abi::{Errno, Result};
use mm::fallible::try_to_vec;

use super::block::Expect;
use super::tree::TreeError;
use crate::disk::dir::{self, Entry, NAME_LEN};
use crate::disk::hash::hash;
use crate::error::{EFSCORRUPTED, place};
use crate::inode::Node;

/// A name that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The inode.
    pub ino: u32,
    /// The block of the directory that has the entry; 0 for names in the inode.
    pub block: u32,
    /// Where the entry begins there.
    pub offset: usize,
}

impl Node {
    /// Blocks of the directory, by its size.
    pub(crate) fn dir_blocks(&self) -> u64 {
        let size = self.disk_size.load(core::sync::atomic::Ordering::Relaxed);
        (size >> self.fs.layout.block_bits).min(u32::MAX.into())
    }

    /// Finds `name`. The directory's `rwsem` is held.
    ///
    /// # Errors
    /// `ENAMETOOLONG`; `EUCLEAN`, `EBADMSG`: the directory is damaged; `EIO`, `ENOMEM`.
    pub(crate) fn find_entry(&self, name: &[u8]) -> Result<Option<Found>> {
        if name.len() > NAME_LEN {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.is_inline() {
            return self.find_inline(name);
        }
        let dots = matches!(name, b"." | b"..");
        if self.has_tree() && !dots {
            match self.find_in_tree(name) {
                Ok(found) => return Ok(found),
                Err(TreeError::Failed(error)) => return Err(error),
                // The blocks can still be searched one by one.
                Err(TreeError::Damaged) => {}
            }
        }
        self.find_in_blocks(name)
    }

    fn find_inline(&self, name: &[u8]) -> Result<Option<Found>> {
        let inline = self.inline_dir()?;
        if name == b".." {
            return Ok(Some(Found { ino: inline.parent, block: 0, offset: 0 }));
        }
        for entry in inline.entries(self.fs.dir_format()) {
            let entry = entry.map_err(|damage| self.bad_entry(&damage, 0, 60))?;
            if entry.inode != 0 && entry.name == name {
                return Ok(Some(Found { ino: entry.inode, block: 0, offset: entry.offset }));
            }
        }
        Ok(None)
    }

    /// Looks through one block.
    fn find_in_block(&self, block: u32, bytes: &[u8], name: &[u8]) -> Result<Option<Found>> {
        for entry in dir::entries(bytes, 0, self.fs.dir_format()) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(damage) => return Err(self.bad_entry(&damage, self.place_of(block), bytes.len())),
            };
            if entry.inode != 0 && entry.name == name {
                return Ok(Some(Found { ino: entry.inode, block, offset: entry.offset }));
            }
        }
        Ok(None)
    }

    fn find_in_blocks(&self, name: &[u8]) -> Result<Option<Found>> {
        let blocks = self.dir_blocks();
        let mut block = 0;
        while u64::from(block) < blocks {
            let Some(data) = self.dir_block(block, Expect::Any)? else {
                // As far as the hole goes.
                block = block.saturating_add(self.map(block)?.len);
                continue;
            };
            // Inner nodes look like one unused entry, and the root has its dots.
            let found = self.find_in_block(block, data.bytes(), name)?;
            if found.is_some() {
                return Ok(found);
            }
            block += 1;
        }
        Ok(None)
    }

    /// A name of inode `ino` in the directory, other than the dots. The directory's `rwsem` is held.
    ///
    /// # Errors
    /// As [`Self::find_entry`].
    pub(crate) fn name_of(&self, ino: u64) -> Result<Option<Vec<u8>>> {
        let is_it = |entry: &Entry<'_>| {
            u64::from(entry.inode) == ino && ino != 0 && !matches!(entry.name, b"." | b"..")
        };
        if self.is_inline() {
            let inline = self.inline_dir()?;
            let found = inline.entries(self.fs.dir_format()).flatten().find(is_it);
            return Ok(found.map(|entry| try_to_vec(entry.name)).transpose()?);
        }
        let blocks = self.dir_blocks();
        let mut block = 0;
        while u64::from(block) < blocks {
            let Some(data) = self.dir_block(block, Expect::Any)? else {
                block = block.saturating_add(self.map(block)?.len);
                continue;
            };
            let found = dir::entries(data.bytes(), 0, self.fs.dir_format()).flatten().find(is_it);
            if let Some(entry) = found {
                return Ok(Some(try_to_vec(entry.name)?));
            }
            block += 1;
        }
        Ok(None)
    }

    fn find_in_tree(&self, name: &[u8]) -> core::result::Result<Option<Found>, TreeError> {
        let mut wanted = 0;
        let mut way = self.probe(|info| {
            wanted = hash(name, info.version, &info.seed).major;
            wanted
        })?;
        // Leaves with names of the same hash; no more than there are blocks.
        for _ in 0..=self.dir_blocks() {
            let block = way.leaf(self)?;
            let data = self.dir_block(block, Expect::Entries)?;
            let data = data.ok_or_else(|| self.hole_in_tree(block))?;
            if let Some(found) = self.find_in_block(block, data.bytes(), name)? {
                return Ok(Some(found));
            }
            if self.next_leaf(&mut way, Some(wanted))?.is_none() {
                return Ok(None);
            }
        }
        let text = format_args!("Corrupt directory, running e2fsck is recommended");
        Err(self.fs.error(place!("ext4_dx_find_entry", self.ino), EFSCORRUPTED, text).into())
    }
}
