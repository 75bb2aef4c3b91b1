//! Commands as they go over the wire: SCSI Primary Commands 4 (SPC-4), SCSI Block Commands 3 (SBC-3).

/// A command: its bytes and how many count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    bytes: [u8; Self::MAX],
    len: u8,
}

/// `TEST UNIT READY`
pub const TEST_UNIT_READY: u8 = 0x00;
/// `INQUIRY`
pub const INQUIRY: u8 = 0x12;
/// `MODE SENSE(6)`
pub const MODE_SENSE_6: u8 = 0x1a;
/// `READ CAPACITY(10)`
pub const READ_CAPACITY_10: u8 = 0x25;
/// `READ(10)`
pub const READ_10: u8 = 0x28;
/// `WRITE(10)`
pub const WRITE_10: u8 = 0x2a;
/// `SYNCHRONIZE CACHE(10)`
pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
/// `UNMAP`
pub const UNMAP: u8 = 0x42;
/// `READ(16)`
pub const READ_16: u8 = 0x88;
/// `WRITE(16)`
pub const WRITE_16: u8 = 0x8a;
/// `WRITE SAME(16)`
pub const WRITE_SAME_16: u8 = 0x93;
/// `SERVICE ACTION IN(16)`
pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
/// `REPORT LUNS`
pub const REPORT_LUNS: u8 = 0xa0;

/// Of [`SERVICE_ACTION_IN_16`]: `READ CAPACITY(16)`.
const READ_CAPACITY_16: u8 = 0x10;
/// The data has to be on the medium.
const FUA: u8 = 1 << 3;

impl Command {
    /// The longest.
    pub const MAX: usize = 16;

    fn new<const N: usize>(bytes: [u8; N]) -> Self {
        let mut command = Self { bytes: [0; Self::MAX], len: N as u8 };
        for (to, from) in command.bytes.iter_mut().zip(bytes) {
            *to = from;
        }
        command
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// Is it ready?
    pub fn test_unit_ready() -> Self {
        Self::new([TEST_UNIT_READY, 0, 0, 0, 0, 0])
    }

    /// What are you?
    pub fn inquiry(len: u16) -> Self {
        let [high, low] = len.to_be_bytes();
        Self::new([INQUIRY, 0, 0, high, low, 0])
    }

    /// A page of vital product data.
    pub fn vital(page: u8, len: u16) -> Self {
        let [high, low] = len.to_be_bytes();
        Self::new([INQUIRY, 1, page, high, low, 0])
    }

    /// A mode page, without block descriptors.
    pub fn mode_sense(page: u8, len: u8) -> Self {
        Self::new([MODE_SENSE_6, 8, page, 0, len, 0])
    }

    /// Which logical units are there?
    pub fn report_luns(len: u32) -> Self {
        let [a, b, c, d] = len.to_be_bytes();
        Self::new([REPORT_LUNS, 0, 0, 0, 0, 0, a, b, c, d, 0, 0])
    }

    /// How large is it? 32 bits.
    pub fn read_capacity_10() -> Self {
        Self::new([READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// How large is it?
    pub fn read_capacity_16(len: u8) -> Self {
        Self::new([SERVICE_ACTION_IN_16, READ_CAPACITY_16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, len, 0, 0])
    }

    /// Reads or writes `blocks` blocks from `lba`; the shortest form that can say so.
    pub fn transfer(write: bool, lba: u64, blocks: u32, fua: bool) -> Self {
        let flags = if fua { FUA } else { 0 };
        if let (Ok(lba), Ok(blocks)) = (u32::try_from(lba), u16::try_from(blocks)) {
            let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), blocks.to_be_bytes());
            return Self::new([if write { WRITE_10 } else { READ_10 }, flags, a, b, c, d, 0, e, f, 0]);
        }
        Self::wide(if write { WRITE_16 } else { READ_16 }, flags, lba, blocks)
    }

    fn wide(operation: u8, flags: u8, lba: u64, blocks: u32) -> Self {
        let mut command = Self::new([operation, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let number = lba.to_be_bytes().into_iter().chain(blocks.to_be_bytes());
        for (to, from) in command.bytes.iter_mut().skip(2).zip(number) {
            *to = from;
        }
        command
    }

    /// Writes the block that follows `blocks` times from `lba`; `unmap`: they may be given up instead, if that reads the same.
    pub fn write_same(lba: u64, blocks: u32, unmap: bool) -> Self {
        Self::wide(WRITE_SAME_16, if unmap { 1 << 3 } else { 0 }, lba, blocks)
    }

    /// Everything in the cache goes to the medium.
    pub fn synchronize_cache() -> Self {
        Self::new([SYNCHRONIZE_CACHE_10, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The blocks in a list of `len` bytes are not needed.
    pub fn unmap(len: u16) -> Self {
        let [high, low] = len.to_be_bytes();
        Self::new([UNMAP, 0, 0, 0, 0, 0, 0, high, low, 0])
    }
}

/// The list of `UNMAP` with one range.
pub fn unmap_list(lba: u64, blocks: u32) -> [u8; 24] {
    let mut list = [0; 24];
    list[1] = 22;
    list[3] = 16;
    list[8..16].copy_from_slice(&lba.to_be_bytes());
    list[16..20].copy_from_slice(&blocks.to_be_bytes());
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_as_short_as_they_can_be() {
        assert_eq!(
            Command::transfer(false, 0x1234_5678, 8, false).bytes(),
            [0x28, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 8, 0]
        );
        assert_eq!(Command::transfer(true, 1, 0xffff, true).bytes(), [0x2a, 8, 0, 0, 0, 1, 0, 0xff, 0xff, 0]);
        assert_eq!(
            Command::transfer(true, 1 << 32, 0x1_0000, false).bytes(),
            [0x8a, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
        );
        assert_eq!(Command::transfer(false, 0, 0x1_0000, false).bytes().len(), 16);
    }

    #[test]
    fn other_commands() {
        assert_eq!(Command::vital(0xb0, 64).bytes(), [0x12, 1, 0xb0, 0, 64, 0]);
        assert_eq!(Command::read_capacity_16(32).bytes()[..2], [0x9e, 0x10]);
        assert_eq!(
            Command::write_same(2, 3, true).bytes(),
            [0x93, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0]
        );
        let list = unmap_list(0x0102_0304_0506_0708, 9);
        assert_eq!(list[..8], [0, 22, 0, 16, 0, 0, 0, 0]);
        assert_eq!(list[8..20], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]);
    }
}
