//! The page cache of a special file: the device from its first to its last byte is one extent.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use block::BlockDevice;
use iomap::{Extent, IomapOps, Kind, Mapper, Purpose};
use mm::fallible::try_arc;
use mm::filemap::Mapping;

const PAGE: u64 = PAGE_SIZE as u64;

/// A device as a file.
struct Whole {
    /// The device holds its mapping, which holds this.
    device: Weak<BlockDevice>,
    /// The device's own, in bytes: its length is a multiple of it.
    block_size: u32,
}

impl Mapper for Whole {
    fn device(&self) -> Result<Arc<BlockDevice>> {
        self.device.upgrade().ok_or(Errno::ENXIO)
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn map(&self, pos: u64, _: u64, _: Purpose) -> Result<Extent> {
        let len = self.device()?.bytes();
        if pos >= len {
            return Err(Errno::EIO);
        }
        Ok(Extent { offset: 0, len, kind: Kind::Mapped, addr: 0, new: false })
    }

    /// It is always the same one.
    fn generation(&self) -> Option<u64> {
        Some(0)
    }
}

/// The page cache of `device`.
///
/// # Errors
/// `ENOMEM`.
pub fn of(device: &Arc<BlockDevice>) -> Result<Arc<Mapping>> {
    let make = || {
        let block_size = device.limits().logical_block_size;
        let whole = try_arc(Whole { device: Arc::downgrade(device), block_size })?;
        iomap::new_mapping(IomapOps::plain(whole), device.bytes(), device.disk().backing().clone())
    };
    device.mapping_or_init(make).cloned()
}

/// What the cache has of `len` bytes at `pos` is on the device, and not in the cache if nobody uses it: before the device is read or written
/// past the cache.
pub fn write_and_drop(mapping: &Mapping, pos: u64, len: u64) -> Result<()> {
    if mapping.nr_pages() == 0 || len == 0 {
        return Ok(());
    }
    let end = pos.saturating_add(len);
    mapping.write_back(pos..end)?;
    mapping.invalidate(pos / PAGE..end.div_ceil(PAGE));
    Ok(())
}
