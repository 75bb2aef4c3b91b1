//! From blocks of a file to blocks of the device, and taking them: what write-back, direct writes and `fallocate(2)` ask for.

use core::ops::Range;

use abi::{Errno, Result};

use super::{Kind, Map, Mapping};
use crate::disk::extent::{Extent, MAX_LEN, MAX_UNWRITTEN_LEN};
use crate::raw::mode;
use crate::space::{Request, Reserve};
use crate::tx::Handle;

/// What is wanted where there is nothing.
#[derive(Clone, Copy, Debug)]
pub struct Create {
    /// Blocks that read as zeros until [`Map::convert`] says that they were written.
    pub unwritten: bool,
    /// Who pays.
    pub reserve: Reserve,
    /// The blocks were promised ([`crate::space::Space::promise`]).
    pub promised: bool,
}

/// Blocks of a flexible group from which on the first one is left to directories.
const FLEX_DIR_SCHEME: u32 = 4;

impl Map<'_> {
    /// What the file is from `block` on: a range of one kind, of up to `len` blocks and at least one.
    ///
    /// # Errors
    /// `EIO`; what a damaged file is answered.
    pub fn lookup(&self, block: u32, len: u32) -> Result<Mapping> {
        if self.node.has_extents() {
            self.lookup_extent(block, len.max(1))
        } else {
            self.lookup_indirect(block, len.max(1))
        }
    }

    /// Blocks that one [`create`](Self::create) changes at most: for the handle.
    ///
    /// # Errors
    /// `EFSCORRUPTED`.
    pub fn create_credits(&self) -> Result<u32> {
        // Bitmap and descriptor of the data.
        Ok(2 + if self.node.has_extents() { self.insert_credits()? } else { super::indirect::CREDITS })
    }

    /// The same, and takes blocks where there is a hole: as many as are free in one place. Blocks that are there are not changed, also if they
    /// are unwritten.
    ///
    /// # Errors
    /// `ENOSPC`; `EIO`, `ENOMEM`; what a damaged file is answered.
    pub fn create(&self, tx: &mut Handle, block: u32, len: u32, how: &Create) -> Result<Mapping> {
        let found = self.lookup(block, len)?;
        if found.kind != Kind::Hole {
            return Ok(found);
        }
        if !self.node.has_extents() {
            return self.create_indirect(tx, &found, how);
        }
        let most = if how.unwritten { MAX_UNWRITTEN_LEN } else { MAX_LEN };
        let (goal, append) = self.goal_for(block)?;
        let request =
            Request { goal, len: found.len.min(most), append, reserve: how.reserve, promised: how.promised };
        let run = self.volume.allocate(tx, &request)?;
        let inserted = self
            .insert(tx, Extent::new(block, run.len, run.start, how.unwritten))
            .and_then(|()| self.node.add_blocks(self.volume, tx, run.len.into()));
        if let Err(error) = inserted {
            self.volume.free(tx, run)?;
            return Err(error);
        }
        let kind = if how.unwritten { Kind::Unwritten } else { Kind::Mapped };
        Ok(Mapping { block, len: run.len, start: run.start, kind, new: true })
    }

    /// The data of a range is on the device: it does not read as zeros any more. May end the handle's change and begin another.
    ///
    /// # Errors
    /// `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn convert(&self, tx: &mut Handle, range: Range<u32>) -> Result<()> {
        if self.node.has_extents() { self.convert_extents(tx, range, false) } else { Ok(()) }
    }

    /// What is there of a range reads as zeros from now on (`FALLOC_FL_ZERO_RANGE`). May end the handle's change and begin another.
    ///
    /// # Errors
    /// `EOPNOTSUPP` without extents; `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn unwrite(&self, tx: &mut Handle, range: Range<u32>) -> Result<()> {
        if !self.node.has_extents() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.convert_extents(tx, range, true)
    }

    /// Frees what is there of a range. May end the handle's change and begin another: who truncates has noted the inode as an orphan before.
    ///
    /// # Errors
    /// `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn remove(&self, tx: &mut Handle, range: Range<u32>) -> Result<()> {
        if self.node.has_extents() { self.remove_extents(tx, range) } else { self.remove_indirect(tx, range) }
    }

    /// Takes a range out of the file: what is behind it moves to its place.
    ///
    /// # Errors
    /// `EOPNOTSUPP` without extents; `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn collapse(&self, tx: &mut Handle, range: Range<u32>) -> Result<()> {
        if !self.node.has_extents() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.remove_extents(tx, range.clone())?;
        self.shift_left(tx, range.end, range.end - range.start)
    }

    /// Puts a hole of `len` blocks into the file.
    ///
    /// # Errors
    /// `EOPNOTSUPP` without extents; `EFBIG`, `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn make_room(&self, tx: &mut Handle, at: u32, len: u32) -> Result<()> {
        if !self.node.has_extents() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.extend(tx, super::splice::credits(self.depth()?))?;
        self.cut_at(tx, at)?;
        self.shift_right(tx, at, len)
    }

    /// Where the first block of the file should be.
    pub(crate) fn goal(&self) -> u64 {
        let layout = &self.volume.layout;
        let (mut group, _) = layout.inode_group(self.node.ino);
        let flex = 1u32 << layout.flex_bits.min(16);
        if flex >= FLEX_DIR_SCHEME {
            group &= !(flex - 1);
            if self.node.mode() & mode::MASK == mode::REG && group + 1 < layout.groups {
                group += 1;
            }
        }
        layout.group_start(group)
    }

    /// Where `block` should be: as far from its neighbour as in the file. The second: something would go on there.
    fn goal_for(&self, block: u32) -> Result<(u64, bool)> {
        let path = self.find(block)?;
        let at = path.last().map_or(0, |leaf| leaf.at);
        if let Some(before) = at.checked_sub(1).and_then(|at| self.extent(&path, at)) {
            let goal = before.start() + u64::from(block - before.block.get());
            return Ok((goal, before.block.get() + before.len() == block));
        }
        if let Some(after) = self.extent(&path, at) {
            return Ok((after.start().saturating_sub((after.block.get() - block).into()), false));
        }
        let near = path.last().and_then(|leaf| leaf.buffer.as_ref()).map(|buffer| buffer.block() + 1);
        Ok((near.unwrap_or_else(|| self.goal()), false))
    }
}
