//! Files without extents (ext2, ext3): twelve addresses in the inode, then tables of addresses, of one to three levels.

use core::ops::Range;

use abi::{Errno, Result};
use alloc::sync::Arc;
use buffer::Buffer;
use smallvec::SmallVec;

use super::map::Create;
use super::{Kind, Map, Mapping};
use crate::disk::inode::{Core, DIRECT_BLOCKS};
use crate::space::{Request, Run};
use crate::tx::Handle;
use crate::volume::CORRUPT;

/// Blocks that taking some changes: up to three tables, each with bitmap and descriptor, one that is there, and the inode.
pub const CREDITS: u32 = 3 * 3 + 2;

/// Where an address is.
#[derive(Clone)]
enum Table {
    Inode,
    Block(Arc<Buffer>),
}

/// The places on the way to a block: in the inode, then in each table.
type Way = SmallVec<[u32; 4]>;

impl Map<'_> {
    fn per_table(&self) -> u32 {
        self.volume.block_size() as u32 / 4
    }

    /// The way to a block of the file; none if no table goes so far.
    fn way(&self, block: u32) -> Option<Way> {
        let per = u64::from(self.per_table());
        let mut way = Way::new();
        if block < DIRECT_BLOCKS {
            way.push(block);
            return Some(way);
        }
        let mut at = u64::from(block - DIRECT_BLOCKS);
        for level in 1..=3u32 {
            let reach = per.pow(level);
            if at < reach {
                way.push(DIRECT_BLOCKS + level - 1);
                for below in (0..level).rev() {
                    way.push((at / per.pow(below) % per) as u32);
                }
                return Some(way);
            }
            at -= reach;
        }
        None
    }

    fn address(&self, table: &Table, at: u32) -> u32 {
        match table {
            Table::Inode => self.node.core().address(at as usize).unwrap_or(0),
            Table::Block(buffer) => word(buffer.lock().data().bytes(), at),
        }
    }

    fn set_addresses(
        &self,
        tx: &mut Handle,
        table: &Table,
        at: u32,
        new: impl Iterator<Item = u32>,
    ) -> Result<()> {
        match table {
            Table::Inode => self.node.update(self.volume, tx, |core: &mut Core| {
                put_words(&mut core.block, at, new);
            }),
            Table::Block(buffer) => tx.modify(buffer, |bytes| put_words(bytes, at, new)),
        }
    }

    fn read_table(&self, block: u32) -> Result<Table> {
        if !self.volume.is_valid(block.into(), 1) {
            return Err(self.bad_address(block));
        }
        Ok(Table::Block(self.volume.cache.read(block.into())?))
    }

    #[cold]
    fn bad_address(&self, block: u32) -> Errno {
        let text = format_args!("invalid block {block}");
        self.volume.damaged("ext4_check_blockref", self.node.ino, block.into(), text)
    }

    /// What the file is from `block` on.
    pub(super) fn lookup_indirect(&self, block: u32, len: u32) -> Result<Mapping> {
        let way = self.way(block).ok_or(Errno::EFBIG)?;
        let mut table = Table::Inode;
        let (last, above) = way.split_last().ok_or(CORRUPT)?;
        for (depth, at) in above.iter().enumerate() {
            let address = self.address(&table, *at);
            if address == 0 {
                // The rest of what the missing table would have.
                let below = way.get(depth + 1..).unwrap_or_default();
                let left = self.left_below(below).min(len.into()) as u32;
                return Ok(Mapping { block, len: left.max(1), start: 0, kind: Kind::Hole, new: false });
            }
            table = self.read_table(address)?;
        }
        let end = if above.is_empty() { DIRECT_BLOCKS } else { self.per_table() };
        let most = len.min(end - last);
        let first = self.address(&table, *last);
        let mut count = 1;
        while count < most {
            let next = self.address(&table, last + count);
            let same = if first == 0 { next == 0 } else { first.checked_add(count) == Some(next) };
            if !same {
                break;
            }
            count += 1;
        }
        if first != 0 && !self.volume.is_valid(first.into(), count.into()) {
            return Err(self.bad_address(first));
        }
        let kind = if first == 0 { Kind::Hole } else { Kind::Mapped };
        Ok(Mapping { block, len: count, start: first.into(), kind, new: false })
    }

    /// Blocks from a place in missing tables to their end.
    fn left_below(&self, below: &[u32]) -> u64 {
        let per = u64::from(self.per_table());
        let at = below.iter().fold(0, |at, place| at * per + u64::from(*place));
        per.pow(below.len() as u32) - at
    }

    /// Takes blocks for a hole that was found, and tables for them.
    pub(super) fn create_indirect(&self, tx: &mut Handle, hole: &Mapping, how: &Create) -> Result<Mapping> {
        if how.unwritten {
            return Err(Errno::EOPNOTSUPP);
        }
        let way = self.way(hole.block).ok_or(Errno::EFBIG)?;
        let (last, above) = way.split_last().ok_or(CORRUPT)?;
        let end = if above.is_empty() { DIRECT_BLOCKS } else { self.per_table() };
        let mut table = Table::Inode;
        let mut depth = 0;
        let mut goal = self.goal();
        while let Some(at) = above.get(depth) {
            let address = self.address(&table, *at);
            if address == 0 {
                break;
            }
            goal = u64::from(address) + 1;
            table = self.read_table(address)?;
            depth += 1;
        }
        // Behind what is there before it.
        let anchor = way.get(depth).copied().unwrap_or(0);
        if let Some(before) = anchor.checked_sub(1).filter(|_| depth == above.len()) {
            let address = self.address(&table, before);
            if address != 0 {
                goal = u64::from(address) + 1;
            }
        }
        let take = |tx: &mut Handle, goal: u64, len: u32, promised: bool| {
            let request = Request { goal, len, append: true, reserve: how.reserve, promised };
            let run = self.volume.allocate(tx, &request)?;
            if run.start + u64::from(run.len) > u64::from(u32::MAX) {
                self.volume.free(tx, run)?;
                return Err(Errno::ENOSPC);
            }
            Ok(run)
        };
        // Missing tables, then the data; nothing is seen of them until the last step.
        let mut tables: SmallVec<[u64; 3]> = SmallVec::new();
        let result = (|| {
            for _ in depth..above.len() {
                let run = take(tx, goal, 1, false)?;
                goal = run.start + 1;
                tables.push(run.start);
            }
            take(tx, goal, hole.len.min(end - last), how.promised)
        })();
        let data = match result {
            Ok(run) => run,
            Err(error) => {
                for block in tables {
                    self.volume.free(tx, Run { start: block, len: 1 })?;
                }
                return Err(error);
            }
        };
        let addresses = (0..data.len).map(|n| data.start as u32 + n);
        let missing = way.get(depth + 1..).unwrap_or_default();
        for (number, block) in tables.iter().enumerate() {
            let at = missing.get(number).copied().unwrap_or(0);
            let below = tables.get(number + 1).copied();
            let buffer = self.volume.cache.get(*block)?;
            tx.create(&buffer, |bytes| match below {
                Some(below) => put_words(bytes, at, core::iter::once(below as u32)),
                None => put_words(bytes, at, addresses.clone()),
            })?;
        }
        match tables.first() {
            Some(first) => self.set_addresses(tx, &table, anchor, core::iter::once(*first as u32))?,
            None => self.set_addresses(tx, &table, anchor, addresses)?,
        }
        self.node.add_blocks(self.volume, tx, i64::from(data.len) + tables.len() as i64)?;
        Ok(Mapping { block: hole.block, len: data.len, start: data.start, kind: Kind::Mapped, new: true })
    }

    /// Frees what is there of a range, and tables that have nothing any more.
    pub(super) fn remove_indirect(&self, tx: &mut Handle, range: Range<u32>) -> Result<()> {
        let per = u64::from(self.per_table());
        let (from, to) = (u64::from(range.start), u64::from(range.end));
        let mut first = u64::from(DIRECT_BLOCKS);
        self.remove_in(tx, &Table::Inode, 0..DIRECT_BLOCKS, 0, 0, from, to)?;
        for level in 1..=3u32 {
            let reach = per.pow(level);
            if from < first + reach && first < to {
                let slot = DIRECT_BLOCKS + level - 1;
                self.remove_in(tx, &Table::Inode, slot..slot + 1, first, level, from, to)?;
            }
            first += reach;
        }
        Ok(())
    }

    /// Frees what `slots` of a table have of the blocks `from..to`; the first slot is for block `first`, and what they point to has `level`
    /// levels. Whether nothing is left in these slots.
    #[expect(clippy::too_many_arguments, reason = "a recursion's state")]
    fn remove_in(
        &self,
        tx: &mut Handle,
        table: &Table,
        slots: Range<u32>,
        first: u64,
        level: u32,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let reach = u64::from(self.per_table()).pow(level);
        let mut run: Option<(u32, Run)> = None;
        let base = slots.start;
        for slot in slots {
            let begin = first + u64::from(slot - base) * reach;
            let (low, high) = (from.max(begin), to.min(begin + reach));
            let address = if low < high { self.address(table, slot) } else { 0 };
            if let Some((at, whole)) = run
                && (level > 0 || address == 0 || whole.start + u64::from(whole.len) != u64::from(address))
            {
                self.remove_run(tx, table, at, whole)?;
                run = None;
            }
            if address == 0 {
                continue;
            }
            if level == 0 {
                match &mut run {
                    Some((_, run)) => run.len += 1,
                    None => run = Some((slot, Run { start: address.into(), len: 1 })),
                }
                continue;
            }
            let below = self.read_table(address)?;
            self.remove_in(tx, &below, 0..self.per_table(), begin, level - 1, from, to)?;
            let Table::Block(buffer) = &below else { return Err(CORRUPT) };
            if buffer.data().bytes().iter().all(|byte| *byte == 0) {
                self.extend(tx, 6)?;
                self.set_addresses(tx, table, slot, core::iter::once(0))?;
                tx.revoke(address.into(), Some(buffer))?;
                self.volume.free(tx, Run { start: address.into(), len: 1 })?;
                self.node.add_blocks(self.volume, tx, -1)?;
            }
        }
        if let Some((at, whole)) = run {
            self.remove_run(tx, table, at, whole)?;
        }
        Ok(())
    }

    fn remove_run(&self, tx: &mut Handle, table: &Table, at: u32, run: Run) -> Result<()> {
        self.extend(tx, 6)?;
        self.forget_data(tx, run, 6)?;
        self.set_addresses(tx, table, at, (0..run.len).map(|_| 0))?;
        self.volume.free(tx, run)?;
        self.node.add_blocks(self.volume, tx, -i64::from(run.len))
    }
}

fn word(bytes: &[u8], at: u32) -> u32 {
    bytes.as_chunks::<4>().0.get(at as usize).map_or(0, |word| u32::from_le_bytes(*word))
}

fn put_words(bytes: &mut [u8], at: u32, new: impl Iterator<Item = u32>) {
    for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().skip(at as usize).zip(new) {
        *place = word.to_le_bytes();
    }
}
