//! The parts of a folio that a transfer consists of.

use abi::{Errno, Result};

/// Blocks of a page at most.
const MOST: usize = 8;

/// A part of a folio and its place on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// In the folio.
    pub offset: usize,
    pub len: usize,
    /// On the device, in bytes.
    pub addr: u64,
    /// The extent is unwritten.
    pub unwritten: bool,
}

/// The parts, in order; what continues the last one joins it.
#[derive(Default)]
pub(crate) struct Pieces {
    list: [Piece; MOST],
    len: usize,
}

impl Pieces {
    pub(crate) fn push(&mut self, piece: Piece) -> Result<()> {
        if let Some(last) = self.len.checked_sub(1).and_then(|at| self.list.get_mut(at))
            && last.offset + last.len == piece.offset
            && last.addr + last.len as u64 == piece.addr
            && last.unwritten == piece.unwritten
        {
            last.len += piece.len;
            return Ok(());
        }
        // More than blocks: the file system's extents do not end with blocks.
        *self.list.get_mut(self.len).ok_or(Errno::EIO)? = piece;
        self.len += 1;
        Ok(())
    }

    pub(crate) fn as_slice(&self) -> &[Piece] {
        self.list.get(..self.len).unwrap_or_default()
    }
}

/// The first sector of a place on the device.
pub(crate) fn sector(addr: u64) -> u64 {
    addr >> block::bio::SECTOR_SHIFT
}
