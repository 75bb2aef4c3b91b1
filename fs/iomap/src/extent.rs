//! Where the bytes of a file are.

use alloc::sync::Arc;
use core::ops::Range;

use abi::{Errno, Result};
use block::BlockDevice;

/// What is at a place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: reads as zeros.
    Hole,
    /// Space was promised; the data is in the page cache only.
    Delayed,
    /// Blocks with data.
    Mapped,
    /// Blocks whose contents do not count: reads as zeros.
    Unwritten,
    /// The data is with the inode: [`Mapper::read_inline`].
    Inline,
}

/// Bytes of a file that lie in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
    /// What it is.
    pub kind: Kind,
    /// Where it begins on the device, in bytes; of mapped and unwritten ones.
    pub addr: u64,
    /// It was reserved or allocated by this call: whatever the device has there is not the file's.
    pub new: bool,
}

impl Extent {
    /// The byte behind it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Whether the byte at `pos` is in it.
    pub fn contains(&self, pos: u64) -> bool {
        self.offset <= pos && pos < self.end()
    }

    /// Where the byte at `pos` is on the device.
    pub fn addr_of(&self, pos: u64) -> Option<u64> {
        self.addr.checked_add(pos.checked_sub(self.offset)?)
    }
}

/// What somebody wants to know a place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To read from there.
    Read,
    /// To say what is there: space that is only reserved counts ([`Kind::Delayed`]). Also before a write-back: starts no transaction.
    Report,
    /// To write there through the page cache: space is reserved, or allocated. Never a hole.
    BufferedWrite,
    /// To write there what is in the page cache: what is only reserved ([`Purpose::Report`] says [`Kind::Delayed`]) gets its blocks. May wait for
    /// a journal; nothing that a journal waits for is held back meanwhile.
    WriteBack,
    /// To write there past the page cache: blocks are allocated, unwritten ones if possible; [`Mapper::written`] follows. Never a hole.
    DirectWrite,
    /// To make it zero: holes and unwritten extents are so already, and stay.
    Zero,
}

/// A file system, for one inode. All functions are in task context and may sleep. Positions and lengths are bytes; extents begin and end
/// with blocks.
pub trait Mapper: Send + Sync {
    /// The device that `addr` of extents counts on.
    ///
    /// # Errors
    /// `ENXIO`: it is gone.
    fn device(&self) -> Result<Arc<BlockDevice>>;

    /// The size of blocks in bytes: a power of two from 512 to a page.
    fn block_size(&self) -> u32;

    /// The extent that `pos` is in, or the part of it around `pos`. `len`, not 0, is a hint how much is wanted from there on.
    ///
    /// For [`Purpose::BufferedWrite`] and [`Purpose::DirectWrite`] the inode is locked; for [`Purpose::WriteBack`] the folio at `pos` is.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`, `EDQUOT`, `ENOMEM` …
    fn map(&self, pos: u64, len: u64, purpose: Purpose) -> Result<Extent>;

    /// Changes whenever an extent that [`Purpose::WriteBack`] gave may be another. `None`: not known, each folio is asked for.
    fn generation(&self) -> Option<u64> {
        None
    }

    /// The size of the file as the device has it: [`written`](Self::written) is called for what ends behind it. `u64::MAX`: never for that reason.
    fn disk_size(&self) -> u64 {
        u64::MAX
    }

    /// The device has `range`, or failed: unwritten extents are to be converted, the size on the device raised. Called for what was unwritten, or
    /// ends behind [`disk_size`](Self::disk_size), in a thread.
    ///
    /// # Errors
    /// Those are reported like failures of the device.
    fn written(&self, range: Range<u64>, result: Result<()>) -> Result<()> {
        let _ = range;
        result
    }

    /// A part of what was reserved for a write is not needed: the write ended early.
    fn release_reserved(&self, range: Range<u64>) {
        let _ = range;
    }

    /// Reads an inline extent from `pos` on into `to`; returns how many bytes there were.
    ///
    /// # Errors
    /// `EIO`: there is none.
    fn read_inline(&self, pos: u64, to: &mut [u8]) -> Result<usize> {
        let _ = (pos, to);
        Err(Errno::EIO)
    }

    /// Writes an inline extent.
    ///
    /// # Errors
    /// `EIO`: there is none.
    fn write_inline(&self, pos: u64, from: &[u8]) -> Result<()> {
        let _ = (pos, from);
        Err(Errno::EIO)
    }
}

/// Asks for the extent at `pos`, and does not believe what makes no sense.
///
/// # Errors
/// Those of the file system; `EIO`.
pub(crate) fn map<M: Mapper + ?Sized>(mapper: &M, pos: u64, len: u64, purpose: Purpose) -> Result<Extent> {
    let extent = mapper.map(pos, len.max(1), purpose)?;
    let block = u64::from(mapper.block_size());
    let placed = matches!(extent.kind, Kind::Mapped | Kind::Unwritten);
    let fits = extent.offset.checked_add(extent.len).is_some()
        && extent.contains(pos)
        && (!placed || extent.addr.checked_add(extent.len).is_some())
        && (!placed || (extent.addr | extent.offset).is_multiple_of(block.min(512)));
    let wanted = match purpose {
        Purpose::BufferedWrite => extent.kind != Kind::Hole,
        Purpose::DirectWrite => placed,
        Purpose::WriteBack => extent.kind != Kind::Delayed,
        Purpose::Read | Purpose::Report | Purpose::Zero => true,
    };
    if fits && wanted {
        Ok(extent)
    } else {
        log::error!("iomap: {purpose:?} of {pos}+{len}: {extent:?}");
        Err(Errno::EIO)
    }
}
