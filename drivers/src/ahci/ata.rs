//! ATA: commands as they travel to a disk, and what a disk says of itself (*ATA Command Set*, ACS-3; *Serial ATA* 3.1).

use alloc::string::String;

use abi::{Errno, Result};
use block::{Op, OpFlags};

use crate::text::printable;

/// Commands.
pub mod command {
    #![allow(missing_docs)]
    pub const DATA_SET_MANAGEMENT: u8 = 0x06;
    pub const READ_DMA_EXT: u8 = 0x25;
    pub const READ_LOG_EXT: u8 = 0x2f;
    pub const WRITE_DMA_EXT: u8 = 0x35;
    pub const WRITE_DMA_FUA_EXT: u8 = 0x3d;
    pub const READ_FPDMA_QUEUED: u8 = 0x60;
    pub const WRITE_FPDMA_QUEUED: u8 = 0x61;
    pub const FLUSH_CACHE_EXT: u8 = 0xea;
    pub const IDENTIFY_DEVICE: u8 = 0xec;
}

/// A frame from the host to the device: a command.
const HOST_TO_DEVICE: u8 = 0x27;
const IS_COMMAND: u8 = 1 << 7;
/// In the device register: a sector's address is a number.
const LBA: u8 = 1 << 6;
/// In the device register of queued commands: past the write cache.
const FUA: u8 = 1 << 7;
/// In the features of `DATA SET MANAGEMENT`: blocks hold nothing of use.
const TRIM: u16 = 1;
/// Sectors of one entry of a trim.
const TRIM_SECTORS: u64 = 0xffff;
/// Entries of a block of a trim.
pub const TRIM_ENTRIES: usize = 64;

/// Bytes of a command.
pub const FRAME_DWORDS: usize = 5;

/// A command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Which.
    pub command: u8,
    /// Its features.
    pub features: u16,
    /// The first sector.
    pub lba: u64,
    /// How many, or what the command has there.
    pub count: u16,
    /// The device register.
    pub device: u8,
    /// Data goes to the device.
    pub write: bool,
    /// It is one of several under way ([native command queuing](self)).
    pub queued: bool,
}

impl Command {
    /// A command without data or sectors.
    pub fn plain(command: u8) -> Self {
        Self { command, device: LBA, ..Self::default() }
    }

    /// A transfer of `sectors` sectors of the disk from `lba` on.
    ///
    /// # Errors
    /// `EINVAL` for more than a command can say, or none.
    pub fn transfer(op: Op, flags: OpFlags, lba: u64, sectors: u32, queued: Option<u32>) -> Result<Self> {
        // 0 stands for 65536.
        if sectors == 0 || sectors > 1 << 16 || lba >> 48 != 0 {
            return Err(Errno::EINVAL);
        }
        let (write, fua) = (op == Op::Write, flags.contains(OpFlags::FUA));
        let count = sectors as u16;
        if let Some(tag) = queued {
            let command = if write { command::WRITE_FPDMA_QUEUED } else { command::READ_FPDMA_QUEUED };
            let device = if fua { LBA | FUA } else { LBA };
            let tag = (tag as u16) << 3;
            return Ok(Self { command, features: count, lba, count: tag, device, write, queued: true });
        }
        let command = match (write, fua) {
            (false, _) => command::READ_DMA_EXT,
            (true, false) => command::WRITE_DMA_EXT,
            (true, true) => command::WRITE_DMA_FUA_EXT,
        };
        Ok(Self { command, lba, count, device: LBA, write, ..Self::default() })
    }

    /// A trim by one block of ranges.
    pub fn trim() -> Self {
        Self {
            command: command::DATA_SET_MANAGEMENT,
            features: TRIM,
            count: 1,
            device: LBA,
            write: true,
            ..Self::default()
        }
    }

    /// As a frame.
    pub fn frame(&self) -> [u32; FRAME_DWORDS] {
        let [f0, f1] = self.features.to_le_bytes();
        let [c0, c1] = self.count.to_le_bytes();
        let lba = self.lba.to_le_bytes();
        [
            u32::from_le_bytes([HOST_TO_DEVICE, IS_COMMAND, self.command, f0]),
            u32::from_le_bytes([lba[0], lba[1], lba[2], self.device]),
            u32::from_le_bytes([lba[3], lba[4], lba[5], f1]),
            u32::from_le_bytes([c0, c1, 0, 0]),
            0,
        ]
    }
}

/// The entries of a trim of `sectors` sectors from `lba` on.
///
/// # Errors
/// `EINVAL`: it does not fit into a block.
pub fn trim_entries(lba: u64, sectors: u64) -> Result<impl Iterator<Item = u64>> {
    let entries = sectors.div_ceil(TRIM_SECTORS);
    if entries > TRIM_ENTRIES as u64 || lba.checked_add(sectors).is_none_or(|end| end >> 48 != 0) {
        return Err(Errno::EINVAL);
    }
    Ok((0..entries).map(move |entry| {
        let done = entry * TRIM_SECTORS;
        (sectors - done).min(TRIM_SECTORS) << 48 | (lba + done)
    }))
}

/// The longest trim, in sectors of the disk.
pub const MAX_TRIM: u64 = TRIM_SECTORS * TRIM_ENTRIES as u64;

/// What a disk says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of what kind it is.
    pub model: String,
    /// Which one of them.
    pub serial: String,
    /// What runs on it.
    pub firmware: String,
    /// Its sectors.
    pub sectors: u64,
    /// log2 of a sector's bytes.
    pub shift: u32,
    /// log2 of the sectors that it writes at once.
    pub physical_shift: u32,
    /// Commands that it can have at a time; 1: no queue.
    pub depth: u32,
    /// Whether it may keep data in a volatile cache.
    pub write_cache: bool,
    /// Whether it can write past that.
    pub fua: bool,
    /// Whether it takes back unused sectors.
    pub trim: bool,
    /// Whether seeking costs time.
    pub rotational: bool,
}

impl Identity {
    /// From the 256 words of `IDENTIFY DEVICE`.
    ///
    /// # Errors
    /// `ENODEV`: a disk without 48-bit addresses, or whose sectors cannot be used; `ENOMEM`.
    pub fn parse(word: impl Fn(usize) -> u16) -> Result<Self> {
        let bit = |index: usize, bit: u16| word(index) & 1 << bit != 0;
        // Words 82 to 87 say something if two bits of word 83 are 01.
        if word(83) >> 14 != 1 || !bit(83, 10) {
            return Err(Errno::ENODEV);
        }
        let number = |index: usize, words: usize| {
            (0..words).fold(0_u64, |number, at| number | u64::from(word(index + at)) << (16 * at))
        };
        let sizes = word(106);
        let sizes_valid = sizes >> 14 == 1;
        let bytes = if sizes_valid && sizes & 1 << 12 != 0 { number(117, 2) * 2 } else { 512 };
        if !bytes.is_power_of_two() || !(512..=4096).contains(&bytes) {
            return Err(Errno::ENODEV);
        }
        let queue = bit(76, 8) && word(76) != 0xffff;
        Ok(Self {
            model: text(&word, 27, 20)?,
            serial: text(&word, 10, 10)?,
            firmware: text(&word, 23, 4)?,
            sectors: number(100, 4) & ((1 << 48) - 1),
            shift: bytes.trailing_zeros(),
            physical_shift: if sizes_valid && sizes & 1 << 13 != 0 { u32::from(sizes & 7) } else { 0 },
            depth: if queue { u32::from(word(75) & 0x1f) + 1 } else { 1 },
            write_cache: word(87) >> 14 == 1 && bit(85, 5),
            fua: word(84) >> 14 == 1 && bit(84, 6),
            trim: bit(169, 0),
            rotational: word(217) != 1,
        })
    }
}

/// Text of two characters in each word, the first in the upper half.
fn text(word: &impl Fn(usize) -> u16, first: usize, words: usize) -> Result<String> {
    printable((first..first + words).flat_map(|at| word(at).to_be_bytes()))
}

/// How a failed command is told to the block layer, by the status and error registers.
pub fn failure(error: u8) -> block::Status {
    const CRC: u8 = 1 << 7;
    const UNCORRECTABLE: u8 = 1 << 6;
    const NOT_FOUND: u8 = 1 << 4;
    if error & UNCORRECTABLE != 0 {
        block::Status::Medium
    } else if error & CRC != 0 {
        block::Status::Transport
    } else if error & NOT_FOUND != 0 {
        block::Status::Target
    } else {
        block::Status::IoError
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn frames() {
        let read = Command::transfer(Op::Read, OpFlags::empty(), 0x1234_5678_9abc, 0x102, Some(7)).unwrap();
        assert_eq!(read.frame(), [0x0260_8027, 0x4078_9abc, 0x0112_3456, 0x38, 0]);
        let write = Command::transfer(Op::Write, OpFlags::FUA, 5, 1 << 16, None).unwrap();
        assert_eq!(write.frame(), [0x003d_8027, 0x4000_0005, 0, 0, 0]);
        let fua = Command::transfer(Op::Write, OpFlags::FUA, 5, 8, Some(31)).unwrap();
        assert_eq!(fua.frame()[1], 0xc000_0005);
        assert_eq!(Command::plain(command::FLUSH_CACHE_EXT).frame(), [0x00ea_8027, 0x4000_0000, 0, 0, 0]);
        assert!(Command::transfer(Op::Read, OpFlags::empty(), 0, 0, None).is_err());
        assert!(Command::transfer(Op::Read, OpFlags::empty(), 1 << 48, 1, None).is_err());
    }

    fn disk() -> [u16; 256] {
        let mut words = [0; 256];
        (words[83], words[84], words[85], words[87]) = (1 << 14 | 1 << 10, 1 << 14 | 1 << 6, 1 << 5, 1 << 14);
        (words[75], words[76], words[100], words[101], words[169], words[217]) =
            (31, 1 << 8, 0x5678, 0x1234, 1, 1);
        for (at, pair) in (27..).zip(b"QEMU HARDDISK   ".chunks(2)) {
            words[at] = u16::from_be_bytes([pair[0], pair[1]]);
        }
        words
    }

    #[test]
    fn a_disk_is_understood() {
        let words = disk();
        let identity = Identity::parse(|at| words[at]).unwrap();
        assert_eq!(
            (identity.model.as_str(), identity.sectors, identity.shift),
            ("QEMU HARDDISK", 0x1234_5678, 9)
        );
        assert_eq!((identity.depth, identity.write_cache, identity.fua), (32, true, true));
        assert!(identity.trim && !identity.rotational);
        let mut large = disk();
        (large[106], large[117]) = (1 << 14 | 1 << 12, 2048);
        assert_eq!(Identity::parse(|at| large[at]).unwrap().shift, 12);
        let mut old = disk();
        old[83] = 1 << 14;
        assert_eq!(Identity::parse(|at| old[at]).unwrap_err(), Errno::ENODEV);
    }

    proptest! {
        #[test]
        fn nothing_that_a_disk_says_is_believed(words in prop::collection::vec(any::<u16>(), 256)) {
            if let Ok(identity) = Identity::parse(|at| words[at]) {
                prop_assert!((9..=12).contains(&identity.shift) && (1..=32).contains(&identity.depth));
                prop_assert!(identity.sectors < 1 << 48);
            }
        }

        #[test]
        fn trims_cover_their_sectors(lba in 0..1_u64 << 47, sectors in 1..=MAX_TRIM) {
            let entries: Vec<u64> = trim_entries(lba, sectors).unwrap().collect();
            let mut at = lba;
            for entry in &entries {
                prop_assert_eq!(entry & ((1 << 48) - 1), at);
                prop_assert!(entry >> 48 > 0);
                at += entry >> 48;
            }
            prop_assert_eq!(at, lba + sectors);
            prop_assert!(entries.len() <= TRIM_ENTRIES);
            prop_assert!(trim_entries(lba, MAX_TRIM + 1).is_err());
        }
    }
}
