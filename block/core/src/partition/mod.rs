//! Partition tables: which parts of a disk are devices of their own.
//!
//! A disk with a GUID partition table ([`gpt`]) has a "protective" MBR as well, so that is looked for first; then the table of the master boot
//! record ([`mbr`]). Everything read here comes from outside and may be anything: numbers are checked against the disk, chains have an
//! end, and what makes no sense is left out.

use alloc::vec::Vec;

use abi::{Errno, Result};
use mm::fallible::try_vec;

pub mod gpt;
pub mod mbr;

/// The most partitions of one disk.
pub const MAX: usize = 256;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// The first sector of 512 bytes.
    pub start: u64,
    /// Its length in such sectors, not 0.
    pub sectors: u64,
    /// `PARTUUID`, in the form that `root=PARTUUID=` takes: 36 characters, or 11 for an MBR.
    pub uuid: Label<36>,
    /// `PARTLABEL` in UTF-8, of a GPT.
    pub label: Label<108>,
}

/// A short text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Label<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Label<N> {
    /// Nothing.
    pub const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..usize::from(self.len))
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// Whether it is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a character; whether there was room.
    fn push(&mut self, c: char) -> bool {
        let at = usize::from(self.len);
        match self.bytes.get_mut(at..at + c.len_utf8()) {
            Some(room) => {
                c.encode_utf8(room);
                self.len += c.len_utf8() as u8;
                true
            }
            None => false,
        }
    }
}

impl<const N: usize> core::fmt::Write for Label<N> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.chars().try_for_each(|c| if self.push(c) { Ok(()) } else { Err(core::fmt::Error) })
    }
}

impl<const N: usize> core::fmt::Debug for Label<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// A disk that is looked at.
pub trait Medium {
    /// The size of a logical block in bytes: a power of two from 512 to 4096.
    fn block_size(&self) -> u32;
    /// How many there are.
    fn blocks(&self) -> u64;
    /// Reads whole blocks from block `first` on.
    ///
    /// # Errors
    /// What the device says.
    fn read(&self, first: u64, to: &mut [u8]) -> Result<()>;
}

/// One block.
fn block(medium: &dyn Medium, number: u64) -> Result<Vec<u8>> {
    if number >= medium.blocks() {
        return Err(Errno::EIO);
    }
    let mut bytes = try_vec(0, medium.block_size() as usize)?;
    medium.read(number, &mut bytes)?;
    Ok(bytes)
}

/// Sectors of 512 bytes in a block.
fn sectors_per_block(medium: &dyn Medium) -> u64 {
    u64::from(medium.block_size() >> crate::bio::SECTOR_SHIFT)
}

/// The partitions of a disk, by number; none if it has no table that is known.
///
/// # Errors
/// `EIO` and others of the device; `ENOMEM`.
pub fn scan(medium: &dyn Medium) -> Result<Vec<Partition>> {
    let first = block(medium, 0)?;
    if !mbr::is_signed(&first) {
        return Ok(Vec::new());
    }
    if mbr::is_protective(&first)
        && let Some(partitions) = gpt::scan(medium)?
    {
        return Ok(partitions);
    }
    mbr::scan(medium, &first)
}

/// Little-endian numbers; 0 beyond the end.
fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::cell::RefCell;

    /// A disk of blocks of which most are zero.
    pub(crate) struct Sparse {
        pub(crate) block: u32,
        pub(crate) blocks: u64,
        pub(crate) written: RefCell<std::collections::BTreeMap<u64, Vec<u8>>>,
    }

    impl Sparse {
        pub(crate) fn new(block: u32, blocks: u64) -> Self {
            Self { block, blocks, written: RefCell::default() }
        }

        pub(crate) fn write(&self, number: u64, at: usize, bytes: &[u8]) {
            let mut written = self.written.borrow_mut();
            let block = written.entry(number).or_insert_with(|| vec![0; self.block as usize]);
            block[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    impl Medium for Sparse {
        fn block_size(&self) -> u32 {
            self.block
        }

        fn blocks(&self) -> u64 {
            self.blocks
        }

        fn read(&self, first: u64, to: &mut [u8]) -> Result<()> {
            for (n, part) in to.chunks_mut(self.block as usize).enumerate() {
                if first + n as u64 >= self.blocks {
                    return Err(Errno::EIO);
                }
                match self.written.borrow().get(&(first + n as u64)) {
                    Some(bytes) => part.copy_from_slice(&bytes[..part.len()]),
                    None => part.fill(0),
                }
            }
            Ok(())
        }
    }
}
