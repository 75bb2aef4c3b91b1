//! Where the blocks of a file without extents are: twelve addresses in the inode, and trees of addresses with one, two and three levels.

use abi::Result;

use crate::disk::inode::DIRECT_BLOCKS;
use crate::error::{EFSCORRUPTED, place, there};
use crate::inode::Node;
use crate::map::{Mapped, State};

/// The addresses on the way to a block: the slot in the inode, then one in each level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Slots, of which `levels + 1` count.
    pub slots: [u32; 4],
    /// Blocks of addresses on the way.
    pub levels: usize,
}

/// The way to `block`, with addresses of `1 << bits` per block; none for what three levels do not reach.
pub fn way(block: u32, bits: u32) -> Option<Way> {
    let mut rest = u64::from(block);
    if block < DIRECT_BLOCKS {
        return Some(Way { slots: [block, 0, 0, 0], levels: 0 });
    }
    rest -= u64::from(DIRECT_BLOCKS);
    for levels in 1..=3u32 {
        let reach = 1u64 << (bits * levels);
        if rest < reach {
            let slot = |level: u32| match level {
                0 => DIRECT_BLOCKS + levels - 1,
                _ if level > levels => 0,
                _ => (rest >> (bits * (levels - level)) & ((1 << bits) - 1)) as u32,
            };
            return Some(Way { slots: [slot(0), slot(1), slot(2), slot(3)], levels: levels as usize });
        }
        rest -= reach;
    }
    None
}

/// The run of addresses in `table` from `at` on that are like the first: all zero, or one behind the other.
fn run(table: &[[u8; 4]], at: usize) -> Option<Mapped> {
    let rest = table.get(at..)?;
    let address = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    let start = address(rest.first()?);
    if start == 0 {
        let len = rest.iter().take_while(|bytes| address(bytes) == 0).count();
        return Some(Mapped::hole(len as u32));
    }
    let len = rest.iter().zip(start..).take_while(|(bytes, next)| address(bytes) == *next).count();
    Some(Mapped { start, len: len as u32, state: State::Written })
}

impl Node {
    /// Where `block` is, from the addresses.
    pub(crate) fn find_address(&self, block: u32) -> Result<Mapped> {
        let bits = self.fs.layout.block_bits - 2;
        let Some(way) = way(block, bits) else {
            let text = format_args!("block {block} > max in inode {}", self.ino);
            self.fs.warning(place!("ext4_block_to_path", self.ino), text);
            return Err(abi::Errno::EIO);
        };
        let root = self.root();
        let slots = root.as_chunks::<4>().0;
        let [first, below @ ..] = way.slots;
        // The direct addresses are a table of their own.
        let table = if way.levels == 0 { slots.get(..DIRECT_BLOCKS as usize) } else { Some(slots) };
        if way.levels == 0 {
            return self.checked(there(run(there(table)?, first as usize))?);
        }
        let mut next = u64::from(u32::from_le_bytes(*there(slots.get(first as usize))?));
        for (level, slot) in (1..=way.levels).zip(below) {
            if next == 0 {
                // All that the missing table would reach is a hole: from here to its end.
                let left = (way.levels - level + 1) as u32;
                let within = below.into_iter().skip(level - 1).take(left as usize);
                let done = within.fold(0u64, |done, slot| done << bits | u64::from(slot));
                let len = (1u64 << (bits * left)) - done;
                return Ok(Mapped::hole(len.min(u64::from(u32::MAX - block).max(1)) as u32));
            }
            if !self.fs.layout.is_valid(next, 1) {
                return Err(self.bad_address(next));
            }
            let data = self.fs.cache.read(next)?.data();
            let table = data.bytes().as_chunks::<4>().0;
            if level == way.levels {
                return self.checked(there(run(table, slot as usize))?);
            }
            next = u64::from(u32::from_le_bytes(*there(table.get(slot as usize))?));
        }
        Err(EFSCORRUPTED)
    }

    fn checked(&self, mapped: Mapped) -> Result<Mapped> {
        if mapped.state == State::Written && !self.fs.layout.is_valid(mapped.start, mapped.len.into()) {
            return Err(self.bad_address(mapped.start));
        }
        Ok(mapped)
    }

    fn bad_address(&self, block: u64) -> abi::Errno {
        let text = format_args!("invalid block");
        self.fs.error(place!("ext4_get_branch", self.ino, block), EFSCORRUPTED, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways() {
        let is = |block, slots, levels| assert_eq!(way(block, 8), Some(Way { slots, levels }), "{block}");
        is(0, [0, 0, 0, 0], 0);
        is(11, [11, 0, 0, 0], 0);
        is(12, [12, 0, 0, 0], 1);
        is(12 + 255, [12, 255, 0, 0], 1);
        is(12 + 256, [13, 0, 0, 0], 2);
        is(12 + 256 + 65535, [13, 255, 255, 0], 2);
        is(12 + 256 + 65536, [14, 0, 0, 0], 3);
        is(12 + 256 + 65536 + 0xff_ffff, [14, 255, 255, 255], 3);
        assert_eq!(way(12 + 256 + 65536 + 0x100_0000, 8), None);
        assert_eq!(way(u32::MAX, 10).map(|way| way.levels), None);
    }
}
