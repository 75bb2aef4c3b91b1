//! The table of the master boot record: four primary partitions, one of which may be a chain of logical ones, numbered from 5.
//!
//! The layout is that of IBM PC DOS, as in the Wikipedia's "Master boot record" and "Extended boot record". Sectors are counted in logical
//! blocks of the disk.

use alloc::vec::Vec;
use core::fmt::Write;

use abi::Result;
use mm::fallible::TryVec;

use super::{Label, MAX, Medium, Partition, block, le32, sectors_per_block};

const TABLE: usize = 446;
const ENTRY: usize = 16;
const DISK_ID: usize = 440;
const PROTECTIVE: u8 = 0xee;

#[derive(Clone, Copy)]
struct Entry {
    active: u8,
    kind: u8,
    start: u32,
    blocks: u32,
}

impl Entry {
    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

fn entry(sector: &[u8], index: usize) -> Entry {
    let at = TABLE + index * ENTRY;
    Entry {
        active: sector.get(at).copied().unwrap_or(0),
        kind: sector.get(at + 4).copied().unwrap_or(0),
        start: le32(sector, at + 8),
        blocks: le32(sector, at + 12),
    }
}

/// Whether a block ends in the signature that boot records have.
pub(super) fn is_signed(sector: &[u8]) -> bool {
    sector.get(510..512) == Some(&[0x55, 0xaa])
}

/// Whether it only says that there is a GPT.
pub(super) fn is_protective(sector: &[u8]) -> bool {
    (0..4).any(|index| entry(sector, index).kind == PROTECTIVE)
}

/// The partitions of a disk whose first block is `sector`.
pub(super) fn scan(medium: &dyn Medium, sector: &[u8]) -> Result<Vec<Partition>> {
    let mut found = Vec::new();
    // Of a boot sector of a file system the same bytes are code.
    if (0..4).any(|index| entry(sector, index).active & 0x7f != 0) {
        return Ok(found);
    }
    let id = le32(sector, DISK_ID);
    let mut add = |number: u32, start: u64, blocks: u64, most: u64| -> Result<()> {
        let unit = sectors_per_block(medium);
        // What reaches beyond the end of the disk is cut off there.
        let blocks = blocks.min(medium.blocks().saturating_sub(start)).min(most);
        if blocks == 0 || start == 0 {
            return Ok(());
        }
        let mut uuid = Label::EMPTY;
        let _ = write!(uuid, "{id:08x}-{number:02x}");
        found.try_push(Partition {
            number,
            start: start * unit,
            sectors: blocks * unit,
            uuid,
            label: Label::EMPTY,
        })?;
        Ok(())
    };
    let mut extended = None;
    for index in 0..4 {
        let entry = entry(sector, index);
        if entry.blocks == 0 || entry.kind == 0 {
            continue;
        }
        let (start, blocks) = (u64::from(entry.start), u64::from(entry.blocks));
        if entry.is_extended() {
            extended.get_or_insert((start, blocks));
            // The device shows the record alone, so that a boot loader can be written there but nobody formats it by mistake.
            add(index as u32 + 1, start, blocks, (1024 / u64::from(medium.block_size())).max(1))?;
        } else {
            add(index as u32 + 1, start, blocks, u64::MAX)?;
        }
    }
    let Some((base, size)) = extended else { return Ok(found) };
    let mut at = base;
    let mut number = 5;
    // A chain that goes round has an end here all the same.
    for _ in 0..MAX {
        let Ok(record) = block(medium, at) else { break };
        if !is_signed(&record) {
            break;
        }
        let mut next = None;
        for index in 0..4 {
            let entry = entry(&record, index);
            if entry.blocks == 0 || entry.kind == 0 {
                continue;
            }
            if entry.is_extended() {
                next.get_or_insert(u64::from(entry.start));
                continue;
            }
            let start = at + u64::from(entry.start);
            // The first two entries are what they should be; others only if they lie within.
            let inside = start >= base && start + u64::from(entry.blocks) <= base + size;
            if (index < 2 || inside) && number < MAX as u32 {
                add(number, start, u64::from(entry.blocks), u64::MAX)?;
                number += 1;
            }
        }
        match next {
            Some(offset) if offset != 0 => at = base + offset,
            _ => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sparse;
    use super::super::{Partition, scan};
    use super::*;
    use proptest::prelude::*;

    fn put(disk: &Sparse, block: u64, index: usize, active: u8, kind: u8, start: u32, blocks: u32) {
        let mut bytes = [0; ENTRY];
        (bytes[0], bytes[4]) = (active, kind);
        bytes[8..12].copy_from_slice(&start.to_le_bytes());
        bytes[12..16].copy_from_slice(&blocks.to_le_bytes());
        disk.write(block, TABLE + index * ENTRY, &bytes);
        disk.write(block, 510, &[0x55, 0xaa]);
    }

    fn places(found: &[Partition]) -> Vec<(u32, u64, u64)> {
        found.iter().map(|p| (p.number, p.start, p.sectors)).collect()
    }

    #[test]
    fn primary_and_logical() {
        let disk = Sparse::new(512, 100_000);
        disk.write(0, DISK_ID, &0xdead_beefu32.to_le_bytes());
        put(&disk, 0, 0, 0x80, 0x83, 2048, 10_000);
        put(&disk, 0, 2, 0, 0x05, 20_000, 50_000);
        put(&disk, 20_000, 0, 0, 0x83, 63, 1000);
        put(&disk, 20_000, 1, 0, 0x05, 30_000, 2000);
        put(&disk, 50_000, 0, 0, 0x82, 2, 1500);
        // Beyond the end: cut off.
        put(&disk, 0, 3, 0, 0x83, 90_000, 20_000);
        let found = scan(&disk).unwrap();
        assert_eq!(
            places(&found),
            [(1, 2048, 10_000), (3, 20_000, 2), (4, 90_000, 10_000), (5, 20_063, 1000), (6, 50_002, 1500)]
        );
        assert_eq!(found[3].uuid.as_str(), "deadbeef-05");
    }

    #[test]
    fn large_blocks() {
        let disk = Sparse::new(4096, 1000);
        put(&disk, 0, 0, 0, 0x83, 10, 20);
        assert_eq!(places(&scan(&disk).unwrap()), [(1, 80, 160)]);
    }

    #[test]
    fn no_table() {
        let disk = Sparse::new(512, 1000);
        assert_eq!(scan(&disk).unwrap(), []);
        put(&disk, 0, 0, 0x33, 0x83, 10, 20);
        assert_eq!(scan(&disk).unwrap(), []);
        assert_eq!(scan(&Sparse::new(512, 0)).unwrap_err(), abi::Errno::EIO);
    }

    #[test]
    fn a_chain_that_goes_round() {
        let disk = Sparse::new(512, 10_000);
        put(&disk, 0, 0, 0, 0x0f, 100, 5000);
        put(&disk, 100, 0, 0, 0x83, 10, 20);
        put(&disk, 100, 1, 0, 0x05, 100, 100);
        put(&disk, 200, 0, 0, 0x83, 10, 20);
        put(&disk, 200, 1, 0, 0x05, 100, 100);
        assert!(scan(&disk).unwrap().len() <= MAX + 1);
    }

    proptest! {
        #[test]
        fn anything_may_be_there(blocks in 1u64..5000, writes in proptest::collection::vec(
            (0u64..20, 0usize..4, 0u8..3, prop_oneof![Just(5u8), Just(0x83), Just(0xee), any::<u8>()],
             prop_oneof![0u32..40, any::<u32>()], any::<u32>()), 0..20)) {
            let disk = Sparse::new(512, blocks);
            for (block, index, active, kind, start, count) in writes {
                put(&disk, block, index, active << 7, kind, start, count);
            }
            for partition in scan(&disk).unwrap() {
                prop_assert!(partition.sectors > 0 && partition.start + partition.sectors <= blocks);
            }
        }
    }
}
