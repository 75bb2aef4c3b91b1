//! The journal's super block: the first block of the log.

use alloc::sync::Arc;

use abi::{Errno, Result};
use block::OpFlags;
use mm::{Block, try_arc};

use crate::checksum::crc32c;
use crate::format::{self, COMPAT_CHECKSUM, Format, Incompat, TYPE_CRC32C, be32, kind, put, sb};
use crate::log::Log;

/// What a file system wants of its journal's format; set when the log is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Features {
    /// Block numbers of more than 32 bits.
    pub big_blocks: bool,
    /// Checksums (version 3).
    pub checksums: bool,
}

pub(crate) struct SuperBlock {
    block: Arc<Block>,
}

/// What is wrong with a super block, for the log.
macro_rules! bad {
    ($errno:ident, $($what:tt)*) => {{
        log::error!("jbd2: {}", format_args!($($what)*));
        return Err(Errno::$errno);
    }};
}

impl SuperBlock {
    /// Reads and checks it.
    pub(crate) fn read(log: &Log) -> Result<Self> {
        let block = log.read(0, 1)?.pop().ok_or(Errno::EIO)??;
        let this = Self { block: try_arc(block)? };
        this.check(log)?;
        Ok(this)
    }

    fn check(&self, log: &Log) -> Result<()> {
        let bytes = self.block.bytes();
        let version = match format::header(bytes) {
            Some((kind::SUPER_V1, _)) => 1,
            Some((kind::SUPER_V2, _)) => 2,
            _ => bad!(EINVAL, "no journal superblock found"),
        };
        if self.get(sb::BLOCK_SIZE) as usize != log.block_size {
            bad!(EINVAL, "journal block size {} is not the file system's", self.get(sb::BLOCK_SIZE));
        }
        if self.blocks() > log.blocks {
            bad!(EINVAL, "journal file too short: {} of {} blocks", log.blocks, self.blocks());
        }
        if version == 2 {
            let (ro_compat, incompat) = (self.get(sb::RO_COMPAT), self.get(sb::INCOMPAT));
            if ro_compat != 0 || Incompat::from_bits(incompat).is_none() {
                bad!(EINVAL, "unrecognised features {incompat:#x} {ro_compat:#x} on journal");
            }
        }
        let incompat = self.incompat();
        let old = self.compat() & COMPAT_CHECKSUM != 0;
        if incompat.contains(Incompat::CSUM_V2 | Incompat::CSUM_V3)
            || old && incompat.intersects(Incompat::CSUM_V2 | Incompat::CSUM_V3)
        {
            bad!(EINVAL, "two kinds of checksums enabled at the same time");
        }
        if incompat.intersects(Incompat::CSUM_V2 | Incompat::CSUM_V3) {
            if bytes.get(sb::CHECKSUM_TYPE) != Some(&TYPE_CRC32C) {
                bad!(EINVAL, "unknown checksum type");
            }
            if self.get(sb::CHECKSUM) != self.checksum() {
                bad!(EBADMSG, "journal checksum error");
            }
        }
        let (first, start, end) = (self.first(), self.start(), self.end());
        if first == 0 || first >= end || end - first < 16 || start != 0 && !(first..end).contains(&start) {
            bad!(EINVAL, "invalid position in log: first {first}, start {start}, end {end}");
        }
        Ok(())
    }

    fn get(&self, at: usize) -> u32 {
        be32(self.block.bytes(), at)
    }

    fn is_v1(&self) -> bool {
        self.get(4) == kind::SUPER_V1
    }

    fn compat(&self) -> u32 {
        if self.is_v1() { 0 } else { self.get(sb::COMPAT) }
    }

    /// Whether commit blocks have the first kind of checksum.
    pub(crate) fn has_old_checksums(&self) -> bool {
        self.compat() & COMPAT_CHECKSUM != 0
    }

    pub(crate) fn incompat(&self) -> Incompat {
        if self.is_v1() {
            return Incompat::empty();
        }
        Incompat::from_bits_truncate(self.get(sb::INCOMPAT))
    }

    pub(crate) fn blocks(&self) -> u32 {
        self.get(sb::MAX_LEN)
    }

    /// The first block of the log proper.
    pub(crate) fn first(&self) -> u32 {
        self.get(sb::FIRST)
    }

    /// The block behind the log proper: fast commits have some at the end.
    pub(crate) fn end(&self) -> u32 {
        let fast = if self.incompat().contains(Incompat::FAST_COMMIT) {
            match self.get(sb::FAST_COMMIT_BLOCKS) {
                0 => 256,
                n => n,
            }
        } else {
            0
        };
        self.blocks().saturating_sub(fast)
    }

    /// Where the oldest transaction begins; 0: the log is empty.
    pub(crate) fn start(&self) -> u32 {
        self.get(sb::START)
    }

    /// The oldest transaction that may be in the log.
    pub(crate) fn sequence(&self) -> u32 {
        self.get(sb::SEQUENCE)
    }

    /// The error for which the journal was aborted, as a negative number of Linux.
    pub(crate) fn errno(&self) -> i32 {
        self.get(sb::ERRNO) as i32
    }

    pub(crate) fn format(&self) -> Format {
        let uuid = self.block.bytes().get(sb::UUID..sb::UUID + 16).unwrap_or_default();
        Format { block_size: self.block.len(), incompat: self.incompat(), seed: crc32c(!0, uuid) }
    }

    fn checksum(&self) -> u32 {
        let bytes = self.block.bytes();
        let before = bytes.get(..sb::CHECKSUM).unwrap_or_default();
        let after = bytes.get(sb::CHECKSUM + 4..sb::SIZE).unwrap_or_default();
        crc32c(crc32c(crc32c(!0, before), &[0; 4]), after)
    }

    fn change(&mut self, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut block = self.block.try_clone()?;
        change(block.bytes_mut());
        self.block = try_arc(block)?;
        if self.incompat().intersects(Incompat::CSUM_V2 | Incompat::CSUM_V3) {
            let checksum = self.checksum();
            if let Some(block) = Arc::get_mut(&mut self.block) {
                put(block.bytes_mut(), sb::CHECKSUM, checksum.to_be_bytes());
            }
        }
        Ok(())
    }

    /// Writes where the log begins now, and with which transaction; `start` 0: nowhere, it is empty.
    pub(crate) fn set_tail(&mut self, log: &Log, start: u32, sequence: u32) -> Result<()> {
        self.change(|bytes| {
            put(bytes, sb::START, start.to_be_bytes());
            put(bytes, sb::SEQUENCE, sequence.to_be_bytes());
        })?;
        self.write(log)
    }

    /// Writes why the journal was aborted.
    pub(crate) fn set_errno(&mut self, log: &Log, errno: i32) -> Result<()> {
        self.change(|bytes| put(bytes, sb::ERRNO, errno.to_be_bytes()))?;
        self.write(log)
    }

    /// Makes the format what the file system wants; the log is empty. Written with the next change.
    pub(crate) fn set_features(&mut self, features: Features) -> Result<()> {
        let mut incompat = self.incompat() | Incompat::REVOKE;
        incompat.set(Incompat::BIG_BLOCKS, features.big_blocks || incompat.contains(Incompat::BIG_BLOCKS));
        incompat.remove(Incompat::ASYNC_COMMIT);
        if features.checksums {
            incompat.remove(Incompat::CSUM_V2);
            incompat.insert(Incompat::CSUM_V3);
        } else {
            incompat.remove(Incompat::CSUM_V2 | Incompat::CSUM_V3);
        }
        let (was_v1, checksums) = (self.is_v1(), features.checksums);
        self.change(|bytes| {
            if was_v1 {
                put(bytes, 4, kind::SUPER_V2.to_be_bytes());
                bytes.get_mut(sb::COMPAT..sb::SIZE).unwrap_or_default().fill(0);
                put(bytes, sb::USERS, 1u32.to_be_bytes());
            }
            let compat = be32(bytes, sb::COMPAT) & !COMPAT_CHECKSUM;
            put(bytes, sb::COMPAT, compat.to_be_bytes());
            put(bytes, sb::INCOMPAT, incompat.bits().to_be_bytes());
            put(bytes, sb::CHECKSUM_TYPE, [if checksums { TYPE_CRC32C } else { 0 }]);
            if !checksums {
                put(bytes, sb::CHECKSUM, [0; 4]);
            }
        })
    }

    fn write(&self, log: &Log) -> Result<()> {
        log.write(0, &self.block, OpFlags::FUA)
    }
}
