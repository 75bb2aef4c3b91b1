//! The GUID partition table: *UEFI Specification* 2.10, chapter 5.
//!
//! Its header is in block 1, and again in the last block: if the first is damaged, the other counts.

use alloc::vec::Vec;
use core::fmt::Write;

use abi::Result;
use mm::fallible::{TryVec, try_vec};

use super::{Label, MAX, Medium, Partition, block, le32, le64, sectors_per_block};

const SIGNATURE: &[u8] = b"EFI PART";
const HEADER: usize = 92;
const ENTRY: usize = 128;
/// More than this no table takes in memory, in bytes.
const LARGEST: u64 = 1 << 20;

struct Header {
    first_usable: u64,
    last_usable: u64,
    entries_at: u64,
    entries: u32,
    entry_size: u32,
    entries_crc: u32,
}

/// The header in block `at`, if it is one and is what it was when it was written.
fn header(medium: &dyn Medium, at: u64) -> Option<Header> {
    let bytes = block(medium, at).ok()?;
    let size = le32(&bytes, 12) as usize;
    if bytes.get(..8) != Some(SIGNATURE) || size < HEADER {
        return None;
    }
    // The sum is made with zero in its own place.
    let mut crc = crc32fast::Hasher::new();
    crc.update(bytes.get(..16)?);
    crc.update(&[0; 4]);
    crc.update(bytes.get(20..size)?);
    if crc.finalize() != le32(&bytes, 16) || le64(&bytes, 24) != at {
        return None;
    }
    let header = Header {
        first_usable: le64(&bytes, 40),
        last_usable: le64(&bytes, 48),
        entries_at: le64(&bytes, 72),
        entries: le32(&bytes, 80),
        entry_size: le32(&bytes, 84),
        entries_crc: le32(&bytes, 88),
    };
    let fits = header.first_usable <= header.last_usable && header.last_usable < medium.blocks();
    let size = u64::from(header.entries) * u64::from(header.entry_size);
    (fits && header.entry_size as usize >= ENTRY && size > 0 && size <= LARGEST).then_some(header)
}

/// The entries that a header tells of, if they are what they were.
fn entries(medium: &dyn Medium, header: &Header) -> Result<Option<Vec<u8>>> {
    let size = header.entries as usize * header.entry_size as usize;
    let block_size = medium.block_size() as usize;
    let blocks = size.div_ceil(block_size);
    if header.entries_at.checked_add(blocks as u64).is_none_or(|end| end > medium.blocks()) {
        return Ok(None);
    }
    let mut bytes = try_vec(0, blocks * block_size)?;
    if medium.read(header.entries_at, &mut bytes).is_err() {
        return Ok(None);
    }
    bytes.truncate(size);
    Ok((crc32fast::hash(&bytes) == header.entries_crc).then_some(bytes))
}

/// The text form of a GUID, whose first three parts are little-endian.
fn uuid(bytes: &[u8]) -> Label<36> {
    let mut text = Label::EMPTY;
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    for (n, at) in order.into_iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            let _ = text.write_str("-");
        }
        let _ = write!(text, "{:02x}", bytes.get(at).copied().unwrap_or(0));
    }
    text
}

/// A name in UTF-16, up to its end or the first character that is not one.
fn label(bytes: &[u8]) -> Label<108> {
    let mut text = Label::EMPTY;
    let units = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|&unit| unit != 0);
    for c in char::decode_utf16(units) {
        let Ok(c) = c else { break };
        if !text.push(c) {
            break;
        }
    }
    text
}

/// The partitions; `None`: there is no valid table.
pub(super) fn scan(medium: &dyn Medium) -> Result<Option<Vec<Partition>>> {
    let mut table = None;
    for at in [1, medium.blocks().saturating_sub(1)] {
        if let Some(header) = header(medium, at)
            && let Some(entries) = entries(medium, &header)?
        {
            if at != 1 {
                log::warn!("GPT: the primary table is damaged, the alternate one is used");
            }
            table = Some((header, entries));
            break;
        }
    }
    let Some((header, entries)) = table else { return Ok(None) };
    let unit = sectors_per_block(medium);
    let mut found = Vec::new();
    for (index, entry) in entries.chunks_exact(header.entry_size as usize).take(MAX).enumerate() {
        let used = entry.iter().take(16).any(|&byte| byte != 0);
        let (first, last) = (le64(entry, 32), le64(entry, 40));
        if !used || first < header.first_usable || last > header.last_usable || first > last {
            continue;
        }
        found.try_push(Partition {
            number: index as u32 + 1,
            start: first * unit,
            sectors: (last - first + 1) * unit,
            uuid: uuid(entry.get(16..32).unwrap_or_default()),
            label: label(entry.get(56..ENTRY).unwrap_or_default()),
        })?;
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::super::testing::Sparse;
    use super::*;
    use proptest::prelude::*;

    /// A table as the specification has it, both copies.
    fn table(disk: &Sparse, partitions: &[(u64, u64, &str)]) {
        let last = disk.blocks - 1;
        let per_block = disk.block as usize / ENTRY;
        let blocks = 128 / per_block as u64;
        let mut entries = vec![0u8; 128 * ENTRY];
        for (n, (first, last, name)) in partitions.iter().enumerate() {
            let entry = &mut entries[n * ENTRY..(n + 1) * ENTRY];
            entry[..16].fill(0x0f);
            entry[16..32].copy_from_slice(&(0..16).map(|i| i * 16 + n as u8).collect::<Vec<u8>>());
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            for (i, unit) in name.encode_utf16().take(36).enumerate() {
                entry[56 + i * 2..58 + i * 2].copy_from_slice(&unit.to_le_bytes());
            }
        }
        for (at, other, entries_at) in [(1, last, 2), (last, 1, last - blocks)] {
            for (n, part) in entries.chunks(disk.block as usize).enumerate() {
                disk.write(entries_at + n as u64, 0, part);
            }
            let mut header = vec![0u8; HEADER];
            header[..8].copy_from_slice(SIGNATURE);
            header[8..12].copy_from_slice(&0x1_0000u32.to_le_bytes());
            header[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
            header[24..32].copy_from_slice(&u64::to_le_bytes(at));
            header[32..40].copy_from_slice(&u64::to_le_bytes(other));
            header[40..48].copy_from_slice(&(2 + blocks).to_le_bytes());
            header[48..56].copy_from_slice(&(last - blocks - 1).to_le_bytes());
            header[72..80].copy_from_slice(&u64::to_le_bytes(entries_at));
            header[80..84].copy_from_slice(&128u32.to_le_bytes());
            header[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
            header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
            let crc = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            disk.write(at, 0, &header);
        }
        disk.write(0, 446 + 4, &[0xee]);
        disk.write(0, 446 + 8, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        disk.write(0, 510, &[0x55, 0xaa]);
    }

    fn three() -> Sparse {
        let disk = Sparse::new(512, 10_000);
        table(
            &disk,
            &[(40, 99, "EFI system"), (100, 100, "wurzel \u{1f333}"), (5, 7, "outside"), (200, 9000, "")],
        );
        disk
    }

    fn check(disk: &Sparse) {
        let found = scan(disk).unwrap();
        let places: Vec<_> = found.iter().map(|p| (p.number, p.start, p.sectors, p.label.as_str())).collect();
        assert_eq!(places, [(1, 40, 60, "EFI system"), (2, 100, 1, "wurzel \u{1f333}"), (4, 200, 8801, "")]);
        assert_eq!(found[0].uuid.as_str(), "30201000-5040-7060-8090-a0b0c0d0e0f0");
    }

    #[test]
    fn entries_and_names() {
        check(&three());
        let large = Sparse::new(4096, 1000);
        table(&large, &[(10, 19, "x")]);
        assert_eq!(scan(&large).unwrap()[0].start, 80);
    }

    #[test]
    fn the_alternate_counts_when_the_first_is_damaged() {
        for (block, at) in [(1, 0), (1, 50), (1, 16), (2, 33), (1, 24)] {
            let disk = three();
            disk.write(block, at, &[0xa5]);
            check(&disk);
            // Both damaged: what the protective MBR says is all there is.
            disk.write(disk.blocks - 1, 20, &[1]);
            let found = scan(&disk).unwrap();
            assert_eq!((found.len(), found[0].start, found[0].sectors), (1, 1, 9999));
        }
    }

    proptest! {
        /// A header that says anything, with sums that are right.
        #[test]
        fn anything_may_be_there(fields in proptest::collection::vec((24usize..92, any::<u8>()), 0..12), size in 92u32..600) {
            let disk = three();
            let mut header = disk.written.borrow()[&1].clone();
            for (at, byte) in fields {
                header[at] = byte;
            }
            header[12..16].copy_from_slice(&size.to_le_bytes());
            header[16..20].fill(0);
            let crc = crc32fast::hash(&header[..(size as usize).min(512)]);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            disk.write(1, 0, &header);
            for partition in scan(&disk).unwrap() {
                prop_assert!(partition.sectors > 0 && partition.start + partition.sectors <= disk.blocks);
            }
        }
    }
}
