//! What is done to the extents of a file.

use core::ops::Range;

use abi::{Errno, Result};
use smallvec::SmallVec;

use super::path::Slot;
use super::splice::{Slots, credits};
use super::{Kind, Map, Mapping};
use crate::disk::extent::{Extent, MAX_LEN, MAX_UNWRITTEN_LEN};
use crate::raw::mode;
use crate::space::Run;
use crate::tx::Handle;

/// Extents that one step of a removal takes at most, so that its credits have a limit.
const STEP: usize = 16;

/// Extents in order, neighbours joined where that is possible.
#[derive(Default)]
struct Joined(SmallVec<[Extent; 8]>);

/// The block behind an extent.
fn end(extent: &Extent) -> u32 {
    extent.block.get().saturating_add(extent.len())
}

fn most(unwritten: bool) -> u32 {
    if unwritten { MAX_UNWRITTEN_LEN } else { MAX_LEN }
}

impl Joined {
    fn add(&mut self, extent: Extent) {
        let unwritten = extent.is_unwritten();
        let (mut block, mut len, mut start) = (extent.block.get(), extent.len(), extent.start());
        if let Some(last) = self.0.last_mut()
            && last.is_unwritten() == unwritten
            && end(last) == block
            && last.start() + u64::from(last.len()) == start
        {
            let more = len.min(most(unwritten) - last.len().min(most(unwritten)));
            // Two that are not one: both stay as they are, instead of one growing at the cost of the other.
            if more == len {
                *last = Extent::new(last.block.get(), last.len() + more, last.start(), unwritten);
                return;
            }
        }
        while len > 0 {
            let part = len.min(most(unwritten));
            self.0.push(Extent::new(block, part, start, unwritten));
            (block, len, start) = (block + part, len - part, start + u64::from(part));
        }
    }

    /// A part of an extent, that may be empty.
    fn add_part(&mut self, extent: &Extent, from: u32, to: u32, unwritten: bool) {
        let (from, to) = (from.max(extent.block.get()), to.min(end(extent)));
        if from < to {
            let start = extent.start() + u64::from(from - extent.block.get());
            // Of a length that is possible for one.
            let mut at = from;
            while at < to {
                let len = (to - at).min(most(unwritten));
                self.add(Extent::new(at, len, start + u64::from(at - from), unwritten));
                at += len;
            }
        }
    }

    fn slots(&self) -> Slots {
        self.0.iter().map(|extent| Slot::from(*extent)).collect_slots()
    }
}

trait CollectSlots {
    fn collect_slots(self) -> Slots;
}

impl<I: Iterator<Item = Slot>> CollectSlots for I {
    fn collect_slots(self) -> Slots {
        let mut slots = Slots::new();
        slots.extend(self);
        slots
    }
}

impl Map<'_> {
    /// What the file is from `block` on, for up to `len` blocks.
    pub(super) fn lookup_extent(&self, block: u32, len: u32) -> Result<Mapping> {
        let path = self.find(block)?;
        let at = path.last().map_or(0, |leaf| leaf.at);
        if let Some(extent) = at.checked_sub(1).and_then(|at| self.extent(&path, at))
            && block < end(&extent)
        {
            let within = block - extent.block.get();
            if !self.volume.is_valid(extent.start(), extent.len().into()) {
                let text = format_args!("pblk {} bad header/extent: invalid extent entries", extent.start());
                return Err(self.volume.damaged("ext4_ext_check_inode", self.node.ino, extent.start(), text));
            }
            return Ok(Mapping {
                block,
                len: len.min(extent.len() - within),
                start: extent.start() + u64::from(within),
                kind: if extent.is_unwritten() { Kind::Unwritten } else { Kind::Mapped },
                new: false,
            });
        }
        let next = self.next_key(&path).unwrap_or(u32::MAX);
        let len = len.min(next.saturating_sub(block).max(1));
        Ok(Mapping { block, len, start: 0, kind: Kind::Hole, new: false })
    }

    /// Blocks that an insertion changes.
    pub(super) fn insert_credits(&self) -> Result<u32> {
        Ok(credits(self.depth()?))
    }

    /// Puts an extent into a hole.
    pub(super) fn insert(&self, tx: &mut Handle, extent: Extent) -> Result<()> {
        let path = self.find(extent.block.get())?;
        let at = path.last().map_or(0, |leaf| leaf.at);
        let before = at.checked_sub(1).and_then(|at| self.extent(&path, at));
        let after = self.extent(&path, at);
        if before.is_some_and(|before| end(&before) > extent.block.get())
            || self.next_key(&path).is_some_and(|next| next < end(&extent))
        {
            let text = format_args!("block {} is not in a hole", extent.block.get());
            return Err(self.volume.damaged("ext4_ext_insert_extent", self.node.ino, 0, text));
        }
        let mut joined = Joined::default();
        [before, Some(extent), after].into_iter().flatten().for_each(|extent| joined.add(extent));
        // Neighbours that did not join are left alone.
        let mut slots = joined.slots();
        let (mut first, mut remove) = (at, 0);
        if let Some(before) = before {
            if joined.0.first().is_some_and(|first| first.len() == before.len()) {
                slots.remove(0);
            } else {
                (first, remove) = (at - 1, 1);
            }
        }
        if let Some(after) = after {
            if joined.0.last().is_some_and(|last| last.block == after.block) {
                slots.pop();
            } else {
                remove += 1;
            }
        }
        self.splice(tx, path, first, remove, &slots)
    }

    /// Makes what is there of a range written (`unwritten` false) or not.
    ///
    /// # Errors
    /// `ENOSPC`: a part of the range may be done; `EIO`, `ENOMEM`.
    pub(super) fn convert_extents(&self, tx: &mut Handle, range: Range<u32>, unwritten: bool) -> Result<()> {
        let mut block = range.start;
        while block < range.end {
            let path = self.find(block)?;
            let at = path.last().map_or(0, |leaf| leaf.at);
            let found = at.checked_sub(1).and_then(|at| Some((at, self.extent(&path, at)?)));
            let Some((at, extent)) = found.filter(|(_, extent)| block < end(extent)) else {
                match self.next_key(&path) {
                    Some(next) if next > block => block = next,
                    _ => return Ok(()),
                }
                continue;
            };
            let stop = range.end.min(end(&extent));
            if extent.is_unwritten() != unwritten {
                self.extend(tx, credits(path.len() as u16))?;
                let mut joined = Joined::default();
                let before = at.checked_sub(1).and_then(|at| self.extent(&path, at));
                let after = self.extent(&path, at + 1);
                before.into_iter().for_each(|before| joined.add(before));
                joined.add_part(&extent, 0, block, !unwritten);
                joined.add_part(&extent, block, stop, unwritten);
                joined.add_part(&extent, stop, u32::MAX, !unwritten);
                after.into_iter().for_each(|after| joined.add(after));
                let first = at - usize::from(before.is_some());
                let remove = 1 + usize::from(before.is_some()) + usize::from(after.is_some());
                self.splice(tx, path, first, remove, &joined.slots())?;
            }
            block = stop;
        }
        Ok(())
    }

    /// Frees what is there of a range. May end the handle's change and begin another: the file is consistent then, with a part of the
    /// range, the end first, removed.
    ///
    /// # Errors
    /// `ENOSPC` where a hole in the middle of an extent needs a new node; `EIO`, `ENOMEM`.
    pub(super) fn remove_extents(&self, tx: &mut Handle, range: Range<u32>) -> Result<()> {
        let (low, mut high) = (range.start, range.end);
        while low < high {
            let path = self.find(high - 1)?;
            let last = path.last().map_or(0, |leaf| leaf.at);
            let (mut first, mut joined) = (last, Joined::default());
            let mut gone: SmallVec<[Run; STEP]> = SmallVec::new();
            let mut right = None;
            while let Some(at) = first.checked_sub(1)
                && let Some(extent) = self.extent(&path, at)
                && end(&extent) > low
                && gone.len() < STEP
            {
                first = at;
                let (from, to) = (extent.block.get().max(low), end(&extent).min(high));
                if end(&extent) > high {
                    right = Some(extent);
                }
                if extent.block.get() < low {
                    joined.add_part(&extent, 0, low, extent.is_unwritten());
                }
                let start = extent.start() + u64::from(from - extent.block.get());
                if from < to {
                    gone.push(Run { start, len: to - from });
                }
            }
            if first == last {
                return Ok(());
            }
            if let Some(extent) = right {
                joined.add_part(&extent, high, u32::MAX, extent.is_unwritten());
            }
            // The freed blocks of each may be in two groups.
            let needed = credits(path.len() as u16) + 1 + gone.len() as u32 * 4;
            self.extend(tx, needed)?;
            high = self.extent(&path, first).map_or(0, |extent| extent.block.get());
            for run in &gone {
                self.forget_data(tx, *run, needed)?;
            }
            self.splice(tx, path, first, last - first, &joined.slots())?;
            let blocks: u64 = gone.iter().map(|run| u64::from(run.len)).sum();
            for run in gone {
                self.volume.free(tx, run)?;
            }
            self.node.add_blocks(self.volume, tx, -(blocks as i64))?;
        }
        Ok(())
    }

    /// Blocks of a directory or of a long link, which are about to be freed, are metadata: the journal must not bring them back. Nobody reads
    /// them any more, so this may be in a change before the one that frees them.
    pub(super) fn forget_data(&self, tx: &mut Handle, run: Run, needed: u32) -> Result<()> {
        if !matches!(self.node.mode() & mode::MASK, mode::DIR | mode::LINK) {
            return Ok(());
        }
        for block in run.start..run.start + u64::from(run.len) {
            match tx.revoke(block, None) {
                // As many as one transaction can have.
                Err(Errno::ENOSPC) => {
                    tx.restart(needed)?;
                    tx.revoke(block, None)?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// Joins the extents on both sides of `block`, if that is possible.
    pub(super) fn join_at(&self, tx: &mut Handle, block: u32) -> Result<()> {
        let path = self.find(block)?;
        let at = path.last().map_or(0, |leaf| leaf.at);
        let Some(first) = at.checked_sub(2) else { return Ok(()) };
        let (Some(one), Some(two)) = (self.extent(&path, first), self.extent(&path, first + 1)) else {
            return Ok(());
        };
        let mut joined = Joined::default();
        joined.add(one);
        joined.add(two);
        if joined.0.len() == 1 {
            self.splice(tx, path, first, 2, &joined.slots())?;
        }
        Ok(())
    }

    /// Makes an extent that goes over `block` two.
    pub(super) fn cut_at(&self, tx: &mut Handle, block: u32) -> Result<()> {
        let path = self.find(block)?;
        let at = path.last().map_or(0, |leaf| leaf.at);
        let Some(at) = at.checked_sub(1) else { return Ok(()) };
        let Some(extent) = self.extent(&path, at) else { return Ok(()) };
        if extent.block.get() >= block || end(&extent) <= block {
            return Ok(());
        }
        let (mut left, mut right) = (Joined::default(), Joined::default());
        left.add_part(&extent, 0, block, extent.is_unwritten());
        right.add_part(&extent, block, u32::MAX, extent.is_unwritten());
        let mut slots = left.slots();
        slots.extend(right.slots());
        self.splice(tx, path, at, 1, &slots)
    }

    /// Room for as many blocks more in this change or, if there is none, in another one.
    pub(crate) fn extend(&self, tx: &mut Handle, credits: u32) -> Result<()> {
        let left = tx.credits();
        if left < credits && !tx.extend(credits - left)? {
            tx.restart(credits)?;
        }
        Ok(())
    }
}
