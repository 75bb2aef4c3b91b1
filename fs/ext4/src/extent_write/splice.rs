//! Replacing entries of a node, and what follows from it.

use abi::Result;
use smallvec::SmallVec;

use super::Map;
use super::path::{Level, Path, Slot, slots};
use crate::disk::extent::{Header, Index, MAX_DEPTH, ROOT_ENTRIES, entries_in_block, entries_mut};
use crate::disk::{U16, at, at_mut};
use crate::space::{Request, Reserve, Run};
use crate::tx::Handle;
use crate::volume::CORRUPT;

/// Blocks taken for nodes, or to be freed.
type Blocks = SmallVec<[u64; MAX_DEPTH as usize + 1]>;

/// Entries of a splice: never as many that memory is needed for them.
pub(super) type Slots = SmallVec<[Slot; 8]>;

/// Blocks that a splice changes in a tree of some depth: the nodes on the way and as many new ones, with bitmap and descriptor of
/// each, and the inode.
pub fn credits(depth: u16) -> u32 {
    let levels = u32::from(depth) + 1;
    2 + levels * 4
}

impl Map<'_> {
    /// Replaces `remove` entries of a leaf from `first` on by `insert`. The way is not valid afterwards.
    ///
    /// # Errors
    /// `ENOSPC`, with nothing changed; `EIO`, `ENOMEM`.
    pub(super) fn splice(
        &self,
        tx: &mut Handle,
        mut path: Path,
        first: usize,
        remove: usize,
        insert: &[Slot],
    ) -> Result<()> {
        let mut spare = self.take_nodes(tx, &path, remove, insert.len())?;
        let taken = spare.len();
        let mut freed = Blocks::new();
        let leaf = path.len().checked_sub(1).ok_or(CORRUPT)?;
        let done = self.splice_at(tx, &mut path, leaf, first, remove, insert, &mut spare, &mut freed);
        let used = taken - spare.len();
        freed.extend(spare);
        for block in &freed {
            tx.revoke(*block, None)?;
            self.volume.free(tx, Run { start: *block, len: 1 })?;
        }
        let change = taken as i64 - freed.len() as i64;
        if change != 0 || used != 0 {
            self.node.add_blocks(self.volume, tx, change)?;
        }
        done
    }

    /// Takes the blocks that nodes will be split into.
    fn take_nodes(&self, tx: &mut Handle, path: &Path, remove: usize, insert: usize) -> Result<Blocks> {
        let mut blocks = Blocks::new();
        let (mut less, mut more) = (remove, insert);
        let mut needed = 0;
        for (number, level) in path.iter().enumerate().rev() {
            if level.count + more <= level.max + less {
                break;
            }
            needed += 1;
            // The root of a tree that cannot grow.
            if number == 0 && path.len() > MAX_DEPTH.into() {
                return Err(CORRUPT);
            }
            (less, more) = (0, 1);
        }
        let near = path.last().and_then(|leaf| leaf.buffer.as_ref()).map(|buffer| buffer.block());
        for _ in 0..needed {
            let goal = blocks.last().copied().or(near).map_or_else(|| self.goal(), |block| block + 1);
            let request = Request { goal, len: 1, append: true, reserve: Reserve::Promised, promised: false };
            match self.volume.allocate(tx, &request) {
                Ok(run) => blocks.push(run.start),
                Err(error) => {
                    for block in blocks {
                        self.volume.free(tx, Run { start: block, len: 1 })?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(blocks)
    }

    #[expect(clippy::too_many_arguments, reason = "a recursion's state")]
    fn splice_at(
        &self,
        tx: &mut Handle,
        path: &mut Path,
        number: usize,
        first: usize,
        remove: usize,
        insert: &[Slot],
        spare: &mut Blocks,
        freed: &mut Blocks,
    ) -> Result<()> {
        let level = path.get(number).ok_or(CORRUPT)?;
        if first + remove > level.count {
            return Err(CORRUPT);
        }
        let count = level.count - remove + insert.len();
        if count > level.max {
            return match number {
                0 => self.grow(tx, path, first, remove, insert, spare, freed),
                _ => self.split(tx, path, number, first, remove, insert, spare, freed),
            };
        }
        if count == 0 && number > 0 {
            // A node without entries goes.
            freed.extend(level.buffer.as_ref().map(|buffer| buffer.block()));
            let above = path.get(number - 1).ok_or(CORRUPT)?.at;
            return self.splice_at(tx, path, number - 1, above, 1, &[], spare, freed);
        }
        let key = self.modify_node(tx, level.buffer.as_ref(), |node| {
            replace(node, first, remove, insert);
            if count == 0 {
                *at_mut::<Header>(node, 0)? = Header::new(ROOT_ENTRIES, 0);
            }
            slots(node).first().map(|slot| slot.key.get())
        })?;
        if first == 0
            && let Some(key) = key
        {
            self.fix_keys(tx, path, number, key)?;
        }
        Ok(())
    }

    /// The root is full: its entries go into a block of their own, and the tree has one level more.
    #[expect(clippy::too_many_arguments, reason = "a recursion's state")]
    fn grow(
        &self,
        tx: &mut Handle,
        path: &mut Path,
        first: usize,
        remove: usize,
        insert: &[Slot],
        spare: &mut Blocks,
        freed: &mut Blocks,
    ) -> Result<()> {
        let root = path.first().ok_or(CORRUPT)?;
        let (old, depth) = self.with(root, |node| {
            let depth = at::<Header>(node, 0).map_or(0, |header| header.depth.get());
            (Slots::from_slice(slots(node)), depth)
        });
        let block = spare.pop().ok_or(CORRUPT)?;
        let buffer = self.volume.cache.get(block)?;
        let max = entries_in_block(self.volume.block_size());
        tx.create(&buffer, |node| {
            if let Some(header) = at_mut(node, 0) {
                *header = Header::new(max, depth);
            }
            replace(node, 0, 0, &old);
            self.volume.sums.set_extent(self.node.seed, node);
        })?;
        let key = old.first().map_or(0, |slot| slot.key.get());
        self.modify_node(tx, None, |node| {
            if let Some(header) = at_mut(node, 0) {
                *header = Header::new(ROOT_ENTRIES, depth + 1);
            }
            replace(node, 0, 0, &[Index::new(key, block).into()]);
        })?;
        let at = root.at;
        let count = root.count;
        path.insert(1, Level { buffer: Some(buffer), at, count, max: max.into() });
        if let Some(root) = path.first_mut() {
            (root.at, root.count) = (0, 1);
        }
        self.splice_at(tx, path, 1, first, remove, insert, spare, freed)
    }

    /// A node is full: its second half goes into another block.
    #[expect(clippy::too_many_arguments, reason = "a recursion's state")]
    fn split(
        &self,
        tx: &mut Handle,
        path: &mut Path,
        number: usize,
        first: usize,
        remove: usize,
        insert: &[Slot],
        spare: &mut Blocks,
        freed: &mut Blocks,
    ) -> Result<()> {
        let level = path.get(number).ok_or(CORRUPT)?;
        let mut all = mm::fallible::try_with_capacity(level.count + insert.len())?;
        let depth = self.with(level, |node| {
            let old = slots(node);
            let (before, rest) = old.split_at_checked(first).unwrap_or_default();
            let after = rest.get(remove..).unwrap_or_default();
            for part in [before, insert, after] {
                mm::TryVec::try_extend_from_slice(&mut all, part)?;
            }
            at::<Header>(node, 0).map(|header| header.depth.get()).ok_or(CORRUPT)
        })?;
        // Who appends leaves full nodes behind.
        let middle = if first + remove == level.count { level.max.min(all.len() - 1) } else { all.len() / 2 };
        let (left, right) = all.split_at(middle);
        let block = spare.pop().ok_or(CORRUPT)?;
        let new = self.volume.cache.get(block)?;
        let max = entries_in_block(self.volume.block_size());
        tx.create(&new, |node| {
            if let Some(header) = at_mut(node, 0) {
                *header = Header::new(max, depth);
            }
            replace(node, 0, 0, right);
            self.volume.sums.set_extent(self.node.seed, node);
        })?;
        self.modify_node(tx, level.buffer.as_ref(), |node| replace(node, 0, usize::MAX, left))?;
        if let Some(slot) = left.first() {
            self.fix_keys(tx, path, number, slot.key.get())?;
        }
        let key = right.first().ok_or(CORRUPT)?.key.get();
        let above = path.get(number - 1).ok_or(CORRUPT)?.at + 1;
        let index = [Index::new(key, block).into()];
        self.splice_at(tx, path, number - 1, above, 0, &index, spare, freed)
    }
}

/// Replaces entries in a node's bytes, in which they have room.
fn replace(node: &mut [u8], first: usize, remove: usize, insert: &[Slot]) {
    let count = at::<Header>(node, 0).map_or(0, |header| usize::from(header.entries.get()));
    let remove = remove.min(count.saturating_sub(first));
    let places: &mut [Slot] = entries_mut(node);
    let end = count - remove + insert.len();
    if first + remove > count || end > places.len() {
        return;
    }
    places.copy_within(first + remove..count, first + insert.len());
    for (place, slot) in places.iter_mut().skip(first).zip(insert) {
        *place = *slot;
    }
    if let Some(header) = at_mut::<Header>(node, 0) {
        header.entries = U16::new(end as u16);
    }
}
