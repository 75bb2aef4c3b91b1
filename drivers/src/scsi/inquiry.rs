//! What devices answer about themselves, read without believing any length in it (SPC-4, 6.4 and 7.8; SBC-3, 5.15 and 6.6).

use alloc::string::String;

use abi::{Errno, Result};

/// Big-endian numbers at offsets; `None` beyond the end.
#[derive(Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// One byte.
    pub fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// Two.
    pub fn u16(self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.0.get(at..at + 2)?.try_into().ok()?))
    }

    /// Four.
    pub fn u32(self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.0.get(at..at + 4)?.try_into().ok()?))
    }

    /// Eight.
    pub fn u64(self, at: usize) -> Option<u64> {
        Some(u64::from_be_bytes(self.0.get(at..at + 8)?.try_into().ok()?))
    }
}

/// Kind of device: a disk.
pub const DISK: u8 = 0;

/// The standard answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Whether there is a device: 0.
    pub qualifier: u8,
    /// Its kind.
    pub kind: u8,
    /// Its medium can be taken out.
    pub removable: bool,
    /// The standard that it follows.
    pub version: u8,
    /// Who made it.
    pub vendor: String,
    /// What it is called.
    pub product: String,
    /// Which one.
    pub revision: String,
}

/// Printable text of a fixed width, without what fills it up.
fn text(bytes: &[u8]) -> Result<String> {
    let mut text = String::new();
    text.try_reserve(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    text.extend(bytes.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { ' ' }));
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// Reads the standard answer.
///
/// # Errors
/// `EIO`: it is too short; `ENOMEM`.
pub fn inquiry(data: &[u8]) -> Result<Inquiry> {
    let part = |from: usize, to: usize| data.get(from..to).unwrap_or(&[]);
    let &[first, second, version, _, _, ..] = data else { return Err(Errno::EIO) };
    Ok(Inquiry {
        qualifier: first >> 5,
        kind: first & 0x1f,
        removable: second & 0x80 != 0,
        version,
        vendor: text(part(8, 16))?,
        product: text(part(16, 32))?,
        revision: text(part(32, 36))?,
    })
}

/// The logical units of `REPORT LUNS`: those that are plain numbers.
pub fn luns(data: &[u8]) -> impl Iterator<Item = u16> {
    let len = Bytes(data).u32(0).unwrap_or(0) as usize;
    let list = data.get(8..).unwrap_or(&[]);
    list.get(..len.min(list.len())).unwrap_or(&[]).chunks_exact(8).filter_map(|entry| {
        let first = Bytes(entry).u16(0)?;
        // Peripheral or flat addressing, nothing behind it.
        let plain = matches!(first >> 14, 0 | 1) && entry.iter().skip(2).all(|byte| *byte == 0);
        plain.then_some(first & 0x3fff)
    })
}

/// How large a disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of each.
    pub block_size: u32,
    /// Physical blocks have so many, as a power of two.
    pub physical_exponent: u8,
    /// Blocks that were never written need no room.
    pub thin: bool,
}

/// `READ CAPACITY(10)`; `None` in the number of blocks means: ask with 16 bytes.
pub fn capacity_10(data: &[u8]) -> Option<(Option<u64>, u32)> {
    let last = Bytes(data).u32(0)?;
    let blocks = last.checked_add(1).map(u64::from);
    Some((blocks, Bytes(data).u32(4)?))
}

/// `READ CAPACITY(16)`.
pub fn capacity_16(data: &[u8]) -> Option<Capacity> {
    let bytes = Bytes(data);
    Some(Capacity {
        blocks: bytes.u64(0)?.checked_add(1)?,
        block_size: bytes.u32(8)?,
        physical_exponent: bytes.u8(13).unwrap_or(0) & 15,
        thin: bytes.u8(14).unwrap_or(0) & 0x80 != 0,
    })
}

/// Page 0xb0: what a command may do, in blocks; 0: it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// Multiples of this are good transfers.
    pub granularity: u16,
    /// The most of a transfer.
    pub max_transfer: u32,
    /// The best.
    pub best_transfer: u32,
    /// The most of an `UNMAP`.
    pub max_unmap: u32,
    /// Ranges of one.
    pub max_unmap_ranges: u32,
    /// What it is done in.
    pub unmap_granularity: u32,
    /// The most of a `WRITE SAME`.
    pub max_write_same: u64,
}

/// Reads page 0xb0.
pub fn block_limits(page: &[u8]) -> Option<BlockLimits> {
    let bytes = Bytes(vital(page, 0xb0)?);
    Some(BlockLimits {
        granularity: bytes.u16(6)?,
        max_transfer: bytes.u32(8)?,
        best_transfer: bytes.u32(12)?,
        max_unmap: bytes.u32(20).unwrap_or(0),
        max_unmap_ranges: bytes.u32(24).unwrap_or(0),
        unmap_granularity: bytes.u32(28).unwrap_or(0),
        max_write_same: bytes.u64(36).unwrap_or(0),
    })
}

/// Page 0xb1: whether seeking costs time.
pub fn is_rotational(page: &[u8]) -> Option<bool> {
    Bytes(vital(page, 0xb1)?).u16(4).map(|rate| rate != 1)
}

/// Page 0xb2: whether there is `UNMAP`, and `WRITE SAME(16)` that unmaps.
pub fn provisioning(page: &[u8]) -> Option<(bool, bool)> {
    Bytes(vital(page, 0xb2)?).u8(5).map(|flags| (flags & 0x80 != 0, flags & 0x40 != 0))
}

/// Page 0x80: the serial number.
///
/// # Errors
/// `EIO`: it is not that page; `ENOMEM`.
pub fn serial(page: &[u8]) -> Result<String> {
    let page = vital(page, 0x80).ok_or(Errno::EIO)?;
    text(page.get(4..).unwrap_or(&[]))
}

/// A page as long as it says, if it is the one that was asked for.
fn vital(page: &[u8], number: u8) -> Option<&[u8]> {
    let len = usize::from(Bytes(page).u16(2)?) + 4;
    (page.get(1) == Some(&number)).then(|| page.get(..len.min(page.len())))?
}

/// The caching mode page in the answer to `MODE SENSE(6)`: whether there is a cache, whether it can be written past, and whether the
/// disk can be written at all.
pub fn caching(data: &[u8]) -> Option<(bool, bool, bool)> {
    let bytes = Bytes(data);
    let flags = bytes.u8(2)?;
    let at = 4 + usize::from(bytes.u8(3)?);
    let cache = bytes.u8(at)? & 0x3f == 8 && bytes.u8(at + 2)? & 4 != 0;
    Some((cache, flags & 0x10 != 0, flags & 0x80 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn standard_answers() {
        let mut data = [b' '; 36];
        data[..5].copy_from_slice(&[0, 0x80, 5, 2, 31]);
        data[8..12].copy_from_slice(b"QEMU");
        data[16..29].copy_from_slice(b"QEMU HARDDISK");
        data[32..36].copy_from_slice(b"2.5+");
        let read = inquiry(&data).unwrap();
        assert_eq!((read.kind, read.qualifier, read.removable, read.version), (DISK, 0, true, 5));
        assert_eq!((&*read.vendor, &*read.product, &*read.revision), ("QEMU", "QEMU HARDDISK", "2.5+"));
        assert_eq!(inquiry(&data[..4]), Err(Errno::EIO));
        assert_eq!(inquiry(&data[..10]).unwrap().vendor, "");
    }

    #[test]
    fn units_and_sizes() {
        let mut data = [0; 40];
        data[3] = 24;
        data[8..16].copy_from_slice(&[0, 3, 0, 0, 0, 0, 0, 0]);
        data[16..24].copy_from_slice(&[0x41, 2, 0, 0, 0, 0, 0, 0]);
        data[24..32].copy_from_slice(&[0xc1, 1, 0, 0, 0, 0, 0, 0]);
        // The last entry is behind what the list says it has.
        data[33] = 9;
        assert_eq!(luns(&data).collect::<std::vec::Vec<_>>(), [3, 0x102]);
        assert_eq!(capacity_10(&[0, 0, 0, 9, 0, 0, 2, 0]), Some((Some(10), 512)));
        assert_eq!(capacity_10(&[0xff, 0xff, 0xff, 0xff, 0, 0, 16, 0]), Some((None, 4096)));
        let mut data = [0; 32];
        (data[7], data[10], data[13], data[14]) = (15, 2, 0x13, 0x80);
        let capacity = Capacity { blocks: 16, block_size: 512, physical_exponent: 3, thin: true };
        assert_eq!(capacity_16(&data), Some(capacity));
        data[..8].fill(0xff);
        assert_eq!(capacity_16(&data), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(data in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = inquiry(&data);
            luns(&data).count();
            let _ = (capacity_10(&data), capacity_16(&data), block_limits(&data), is_rotational(&data));
            let _ = (provisioning(&data), serial(&data), caching(&data));
        }
    }
}
