//! The memory of a port: its list of commands, their tables, and where frames arrive.

use abi::Result;
use block::Status;
use mm::dma::{Coherent, Reach};

use super::ata::{Command, FRAME_DWORDS, TRIM_ENTRIES};
use super::regs::{
    HEADER_DWORDS, HEADER_WRITE, PIECE_BYTES, PIECE_DWORDS, PIECES, RECEIVED_DWORDS, TABLE_DWORDS,
    TABLE_HEAD_DWORDS,
};

/// Slots of a port.
pub const SLOTS: usize = 32;
/// Words of a sector.
pub const SECTOR_WORDS: usize = 256;

/// See the module text.
pub struct Slots {
    list: Coherent<u32>,
    received: Coherent<u32>,
    tables: Coherent<u32>,
    /// For each slot, the ranges of a trim.
    trims: Coherent<u64>,
    /// For what the driver asks itself.
    sector: Coherent<u16>,
}

impl Slots {
    /// Memory for a port.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Ok(Self {
            list: Coherent::new(SLOTS * HEADER_DWORDS, Reach::Full)?,
            received: Coherent::new(RECEIVED_DWORDS, Reach::Full)?,
            tables: Coherent::new(SLOTS * TABLE_DWORDS, Reach::Full)?,
            trims: Coherent::new(SLOTS * TRIM_ENTRIES, Reach::Full)?,
            sector: Coherent::new(SECTOR_WORDS, Reach::Full)?,
        })
    }

    /// Where the list is.
    pub fn list_at(&self) -> u64 {
        self.list.device_addr().0
    }

    /// Where frames arrive.
    pub fn received_at(&self) -> u64 {
        self.received.device_addr().0
    }

    /// Where the driver's own sector is: address and length.
    pub fn sector_at(&self) -> (u64, u32) {
        (self.sector.device_addr().0, (SECTOR_WORDS * size_of::<u16>()) as u32)
    }

    /// A word of it.
    pub fn word(&self, index: usize) -> u16 {
        self.sector.read(index).unwrap_or_default()
    }

    /// Writes the ranges of a trim for `slot`; where they are.
    pub fn put_trim(&self, slot: u32, entries: impl Iterator<Item = u64>) -> (u64, u32) {
        let first = slot as usize * TRIM_ENTRIES;
        let filled = entries.chain(core::iter::repeat(0)).take(TRIM_ENTRIES);
        for (at, entry) in (first..).zip(filled) {
            self.trims.write(at, entry);
        }
        let bytes = TRIM_ENTRIES * size_of::<u64>();
        (self.trims.device_addr().0 + (slot as usize * bytes) as u64, bytes as u32)
    }

    /// Makes `slot` the command, with this memory.
    ///
    /// # Errors
    /// Memory that cannot be said: a bug of the layers above.
    pub fn put(
        &self,
        slot: u32,
        command: &Command,
        pieces: impl Iterator<Item = (u64, u32)>,
    ) -> Result<(), Status> {
        let slot = slot as usize;
        let table = slot * TABLE_DWORDS;
        for (at, dword) in (table..).zip(command.frame()) {
            self.tables.write(at, dword);
        }
        let mut count = 0;
        for (phys, len) in pieces {
            if count == PIECES || len == 0 || (phys | u64::from(len)) & 1 != 0 || len > PIECE_BYTES {
                return Err(Status::IoError);
            }
            let at = table + TABLE_HEAD_DWORDS + count * PIECE_DWORDS;
            for (at, dword) in (at..).zip([phys as u32, (phys >> 32) as u32, 0, len - 1]) {
                self.tables.write(at, dword);
            }
            count += 1;
        }
        let address = self.tables.device_addr().0 + (table * size_of::<u32>()) as u64;
        let flags = if command.write { HEADER_WRITE } else { 0 };
        let header =
            [(count as u32) << 16 | flags | FRAME_DWORDS as u32, 0, address as u32, (address >> 32) as u32];
        for (at, dword) in (slot * HEADER_DWORDS..).zip(header) {
            self.list.write(at, dword);
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn header(&self, slot: usize) -> [u32; 4] {
        core::array::from_fn(|at| self.list.read(slot * HEADER_DWORDS + at).unwrap())
    }

    #[cfg(test)]
    pub fn table(&self, slot: usize, dword: usize) -> u32 {
        self.tables.read(slot * TABLE_DWORDS + dword).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ahci::ata::command;
    use block::{Op, OpFlags};

    #[test]
    fn commands_in_memory() {
        mm::testing::init();
        let slots = Slots::new().unwrap();
        assert_eq!(slots.list_at() % 1024, 0);
        assert_eq!(slots.received_at() % 256, 0);
        let write = Command::transfer(Op::Write, OpFlags::empty(), 0x99, 16, Some(5)).unwrap();
        slots.put(5, &write, [(0x1_0000_2000, 4096), (0x5000, 4096)].into_iter()).unwrap();
        let [flags, moved, low, high] = slots.header(5);
        assert_eq!((flags, moved), (2 << 16 | 1 << 6 | 5, 0));
        let table = u64::from(high) << 32 | u64::from(low);
        assert_eq!(table % 128, 0);
        assert_eq!(slots.table(5, 0) >> 16 & 0xff, u32::from(command::WRITE_FPDMA_QUEUED));
        assert_eq!([0, 1, 2, 3].map(|at| slots.table(5, 32 + at)), [0x2000, 1, 0, 4095]);
        assert_eq!([4, 5, 6, 7].map(|at| slots.table(5, 32 + at)), [0x5000, 0, 0, 4095]);
        let read = Command::plain(command::IDENTIFY_DEVICE);
        assert!(slots.put(0, &read, [(0x5001, 512)].into_iter()).is_err());
        assert!(slots.put(0, &read, [(0x5000, 0)].into_iter()).is_err());
        assert!(slots.put(0, &read, (0..121).map(|n| (n * 8192, 512))).is_err());
        slots.put(0, &read, (0..120).map(|n| (n * 8192, 512))).unwrap();
        let (at, len) = slots.put_trim(31, [1, 2, 3].into_iter());
        assert_eq!((at % 512, len), (0, 512));
    }
}
