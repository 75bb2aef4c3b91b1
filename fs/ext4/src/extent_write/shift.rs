//! Moving extents within the file: `FALLOC_FL_COLLAPSE_RANGE` and `FALLOC_FL_INSERT_RANGE`.
//!
//! Leaf by leaf, in the order in which no two extents ever overlap, so that the change may be ended between them.

use abi::{Errno, Result};

use super::Map;
use super::path::{Path, Slot, slots};
use crate::disk::at;
use crate::disk::extent::{Extent, Header, entries_mut};
use crate::tx::Handle;
use crate::volume::CORRUPT;

impl Map<'_> {
    /// Moves all from block `from` on by `by` blocks to the front, where nothing is.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`.
    pub(super) fn shift_left(&self, tx: &mut Handle, from: u32, by: u32) -> Result<()> {
        let mut next = Some(from);
        while let Some(key) = next {
            let path = self.find(key)?;
            next = self.next_leaf(&path);
            self.extend(tx, path.len() as u32 + 1)?;
            self.shift_leaf(tx, &path, key, |key| key.checked_sub(by))?;
        }
        self.extend(tx, super::splice::credits(self.depth()?))?;
        self.join_at(tx, from.saturating_sub(by))
    }

    /// Moves all from block `from` on by `by` blocks to the end. `from` is no block within an extent.
    ///
    /// # Errors
    /// `EFBIG` if the file would be too long; `EIO`, `ENOMEM`.
    pub(super) fn shift_right(&self, tx: &mut Handle, from: u32, by: u32) -> Result<()> {
        let mut last = u32::MAX;
        loop {
            let path = self.find(last)?;
            if last == u32::MAX
                && let Some(at) = path.last().and_then(|leaf| leaf.at.checked_sub(1))
                && let Some(extent) = self.extent(&path, at)
            {
                let end = extent.block.get().checked_add(extent.len());
                if extent.block.get() >= from && end.and_then(|end| end.checked_add(by)).is_none() {
                    return Err(Errno::EFBIG);
                }
            }
            if path.last().is_none_or(|leaf| leaf.at == 0) {
                return Ok(());
            }
            let first = self.extent(&path, 0);
            self.extend(tx, path.len() as u32 + 1)?;
            self.shift_leaf(tx, &path, from, |key| key.checked_add(by))?;
            match first.and_then(|first| first.block.get().checked_sub(1)) {
                Some(before) if before >= from => last = before,
                _ => return Ok(()),
            }
        }
    }

    /// Gives the entries of a leaf that begin at `from` or behind it other keys.
    fn shift_leaf(
        &self,
        tx: &mut Handle,
        path: &Path,
        from: u32,
        to: impl Fn(u32) -> Option<u32>,
    ) -> Result<()> {
        let leaf = path.last().ok_or(CORRUPT)?;
        let first = self.with(leaf, |node| slots(node).partition_point(|slot| slot.key.get() < from));
        if first == leaf.count {
            return Ok(());
        }
        let key = self.modify_node(tx, leaf.buffer.as_ref(), |node| {
            let count = at::<Header>(node, 0).map_or(0, |header| usize::from(header.entries.get()));
            let slots: &mut [Slot] = entries_mut(node);
            for slot in slots.iter_mut().take(count).skip(first) {
                if let Some(key) = to(slot.key.get()) {
                    slot.key.set(key);
                }
            }
            slots.first().map(|slot| slot.key.get())
        })?;
        match key {
            Some(key) if first == 0 => self.fix_keys(tx, path, path.len() - 1, key),
            _ => Ok(()),
        }
    }

    /// The block behind the last one.
    pub fn end(&self) -> Result<u32> {
        let path = self.find(u32::MAX)?;
        let at = path.last().and_then(|leaf| leaf.at.checked_sub(1));
        let last: Option<Extent> = at.and_then(|at| self.extent(&path, at));
        Ok(last.map_or(0, |last| last.block.get().saturating_add(last.len())))
    }
}
