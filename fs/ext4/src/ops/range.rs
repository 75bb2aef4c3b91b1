//! Sizes and ranges of files. What of a block is beyond a size or at the edge of a range is zeroed in the page cache, by who calls.

use core::ops::Range;

use abi::{Errno, Result};
use alloc::sync::Arc;

use super::Now;
use crate::disk::at_mut;
use crate::disk::inode::{BLOCK_BYTES, Core};
use crate::extent_write::map::Create;
use crate::extent_write::{Kind, Map, Mapping};
use crate::raw::{RawInode, Time};
use crate::space::Reserve;
use crate::tx::Handle;
use crate::volume::Volume;

impl Volume {
    fn map<'a>(self: &'a Arc<Self>, node: &'a RawInode) -> Map<'a> {
        Map { volume: self, node }
    }

    /// The blocks from the one behind the last byte of `size`.
    fn behind(&self, size: u64) -> Range<u32> {
        u32::try_from(self.layout.blocks_of(size)).unwrap_or(u32::MAX)..u32::MAX
    }

    /// Sets the size of a file; what is behind it is freed.
    ///
    /// # Errors
    /// `ENOSPC`, `EIO`, `ENOMEM`: the file is noted as an orphan, and the rest is freed at the next mount; what a damaged file is answered.
    pub fn truncate_node(self: &Arc<Self>, node: &RawInode, size: u64, now: Now) -> Result<()> {
        self.change("truncate_node", 1 + crate::orphan::CREDITS, |tx| {
            let times = [Time::Change, Time::Modify];
            if node.is_inline() {
                return node.modify(self, tx, |raw| {
                    if let Some(core) = at_mut::<Core>(raw, 0) {
                        let keep = usize::try_from(size).unwrap_or(usize::MAX).min(BLOCK_BYTES);
                        core.block.get_mut(keep..).unwrap_or_default().fill(0);
                        core.set_size(size);
                    }
                    times.iter().for_each(|time| crate::raw::put_time(raw, *time, now));
                });
            }
            let shrinks = size < node.size();
            if shrinks {
                self.add_orphan(tx, node)?;
            }
            node.update(self, tx, |core| core.set_size(size))?;
            node.set_times(self, tx, &times, now)?;
            if shrinks {
                self.map(node).remove(tx, self.behind(size))?;
                self.unnote(tx, node)?;
            }
            Ok(())
        })
    }

    /// An inode is as it should be again. One without a name stays noted.
    pub(super) fn unnote(self: &Arc<Self>, tx: &mut Handle, node: &RawInode) -> Result<()> {
        if node.core().links_count.get() == 0 {
            return Ok(());
        }
        self.map(node).extend(tx, crate::orphan::CREDITS)?;
        self.remove_orphan(tx, node)
    }

    /// Frees what is behind the size: blocks that were taken in advance, or by a write that failed.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`; what a damaged file is answered.
    pub fn trim_node(self: &Arc<Self>, node: &RawInode) -> Result<()> {
        self.change("trim_node", 0, |tx| self.map(node).remove(tx, self.behind(node.size())))
    }

    /// Takes blocks for data: what of `len` blocks from `block` on is one piece. For write-back and for direct writes.
    ///
    /// # Errors
    /// `ENOSPC`, `EIO`, `ENOMEM`; what a damaged file is answered.
    pub fn map_for_write(
        self: &Arc<Self>,
        node: &RawInode,
        block: u32,
        len: u32,
        how: &Create,
    ) -> Result<Mapping> {
        self.with_room(|| {
            let map = self.map(node);
            // Most blocks that are rewritten are there: no change for them.
            let found = map.lookup(block, len)?;
            if found.kind != Kind::Hole {
                return Ok(found);
            }
            let how = Create { unwritten: how.unwritten && node.has_extents(), ..*how };
            self.change("map_for_write", map.create_credits()?, |tx| map.create(tx, block, len, &how))
        })
    }

    /// The data of a range is on the device. `size`: the file is at least so long then.
    ///
    /// # Errors
    /// `ENOSPC`, `EIO`, `ENOMEM`; what a damaged file is answered.
    pub fn written(self: &Arc<Self>, node: &RawInode, range: Range<u32>, size: Option<u64>) -> Result<()> {
        self.change("written", 1, |tx| {
            self.map(node).convert(tx, range)?;
            match size {
                Some(size) if size > node.size() => {
                    self.map(node).extend(tx, 1)?;
                    node.update(self, tx, |core| core.set_size(size))
                }
                _ => Ok(()),
            }
        })
    }

    /// Takes blocks that read as zeros for all holes of a range (`fallocate(2)`); `size`: the new size, if that changes.
    ///
    /// # Errors
    /// `EOPNOTSUPP` without extents; `ENOSPC`, with a part of the range done; `EIO`, `ENOMEM`.
    pub fn fallocate_node(
        self: &Arc<Self>,
        node: &RawInode,
        range: Range<u32>,
        size: Option<u64>,
        reserve: Reserve,
        now: Now,
    ) -> Result<()> {
        if !node.has_extents() {
            return Err(Errno::EOPNOTSUPP);
        }
        let map = self.map(node);
        let how = Create { unwritten: true, reserve, promised: false };
        let mut block = range.start;
        while block < range.end {
            let found = self.with_room(|| {
                self.change("fallocate_node", map.create_credits()?, |tx| {
                    map.create(tx, block, range.end - block, &how)
                })
            })?;
            block += found.len;
        }
        self.resize(node, size, now)
    }

    fn resize(&self, node: &RawInode, size: Option<u64>, now: Now) -> Result<()> {
        self.change("resize", 1, |tx| {
            node.set_times(self, tx, &[Time::Change, Time::Modify], now)?;
            match size {
                Some(size) => node.update(self, tx, |core| core.set_size(size)),
                None => Ok(()),
            }
        })
    }

    /// A range reads as zeros, and has blocks (`FALLOC_FL_ZERO_RANGE`).
    ///
    /// # Errors
    /// Like [`fallocate_node`](Self::fallocate_node).
    pub fn zero_node(
        self: &Arc<Self>,
        node: &RawInode,
        range: Range<u32>,
        size: Option<u64>,
        reserve: Reserve,
        now: Now,
    ) -> Result<()> {
        self.map(node).unwrite(&mut self.start(0)?, range.clone())?;
        self.fallocate_node(node, range, size, reserve, now)
    }

    /// Makes a range a hole (`FALLOC_FL_PUNCH_HOLE`).
    ///
    /// # Errors
    /// `ENOSPC`, `EIO`, `ENOMEM`; what a damaged file is answered.
    pub fn punch_node(self: &Arc<Self>, node: &RawInode, range: Range<u32>, now: Now) -> Result<()> {
        self.map(node).remove(&mut self.start(0)?, range)?;
        self.resize(node, None, now)
    }

    /// Takes a range out (`FALLOC_FL_COLLAPSE_RANGE`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` without extents; `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn collapse_node(self: &Arc<Self>, node: &RawInode, range: Range<u32>, now: Now) -> Result<()> {
        let less = u64::from(range.end - range.start) << self.layout.block_bits;
        self.map(node).collapse(&mut self.start(0)?, range)?;
        self.resize(node, Some(node.size().saturating_sub(less)), now)
    }

    /// Puts a hole in (`FALLOC_FL_INSERT_RANGE`). The file is longer before anything moves, so that a crash loses nothing.
    ///
    /// # Errors
    /// `EOPNOTSUPP` without extents; `EFBIG`, `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn insert_node(self: &Arc<Self>, node: &RawInode, at: u32, len: u32, now: Now) -> Result<()> {
        if !node.has_extents() {
            return Err(Errno::EOPNOTSUPP);
        }
        let size = node.size() + (u64::from(len) << self.layout.block_bits);
        if size > self.layout.max_bytes {
            return Err(Errno::EFBIG);
        }
        let before = node.size();
        self.resize(node, Some(size), now)?;
        let done = self.map(node).make_room(&mut self.start(0)?, at, len);
        if done.is_err() {
            self.resize(node, Some(before), now)?;
        }
        done
    }
}
