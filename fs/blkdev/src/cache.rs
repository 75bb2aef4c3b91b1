//! The page cache of a special file: its bytes lie on the device as they are.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use block::BlockDevice;
use iomap::{Endings, Extent, IomapOps, Kind, Mapper, Purpose};
use mm::fallible::try_arc;
use mm::filemap::Mapping;
use sync::Once;

const PAGE: u64 = PAGE_SIZE as u64;

/// A device as a file.
struct Whole {
    /// The device holds its mapping, which holds this.
    device: Weak<BlockDevice>,
    block_size: u32,
}

/// One for all: nothing is to be done behind a write.
fn endings() -> Result<Arc<Endings>> {
    static ENDINGS: Once<Arc<Endings>> = Once::new();
    if let Some(endings) = ENDINGS.get() {
        return Ok(endings.clone());
    }
    let made = Endings::new()?;
    Ok(ENDINGS.call_once(|| made).clone())
}

/// The page cache of `device`.
///
/// # Errors
/// `ENOMEM`.
pub fn of(device: &Arc<BlockDevice>) -> Result<Arc<Mapping>> {
    let make = || {
        let block_size = device.limits().logical_block_size;
        let whole = try_arc(Whole { device: Arc::downgrade(device), block_size })?;
        let ops = IomapOps::new(whole, endings()?);
        iomap::new_mapping(ops, device.bytes(), device.disk().backing().clone())
    };
    device.mapping_or_init(make).cloned()
}

impl Mapper for Whole {
    fn device(&self) -> Result<Arc<BlockDevice>> {
        self.device.upgrade().ok_or(Errno::ENXIO)
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn map(&self, pos: u64, _: u64, _: Purpose) -> Result<Extent> {
        let bytes = self.device()?.bytes();
        Ok(if pos < bytes {
            Extent { offset: 0, len: bytes, kind: Kind::Mapped, addr: 0, new: false }
        } else {
            // The rest of the last page.
            Extent { offset: bytes, len: u64::MAX - bytes, kind: Kind::Hole, addr: 0, new: false }
        })
    }

    fn generation(&self) -> Option<u64> {
        // Where a byte is never changes; whether it is there is found out by the device.
        Some(0)
    }
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
