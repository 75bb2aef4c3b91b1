//! The page cache of a special file, over bios.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use block::bio::SECTOR_SHIFT;
use block::{Bio, BlockDevice, End, Op, OpFlags};
use mm::fallible::{TryVec, try_arc, try_with_capacity};
use mm::filemap::{AddressSpaceOps, Mapping};
use mm::folio_lock::FolioGuard;
use mm::page::PageFlags;

const PAGE: u64 = PAGE_SIZE as u64;

/// Reads and writes pages of a device.
struct Pages {
    /// The device holds its mapping, which holds this.
    device: Weak<BlockDevice>,
}

/// The page cache of `device`.
///
/// # Errors
/// `ENOMEM`.
pub fn of(device: &Arc<BlockDevice>) -> Result<Arc<Mapping>> {
    let make = || {
        let ops = try_arc(Pages { device: Arc::downgrade(device) })?;
        Ok(try_arc(Mapping::new(ops, device.bytes()))?)
    };
    device.mapping_or_init(make).cloned()
}

impl Pages {
    fn device(&self) -> Result<Arc<BlockDevice>> {
        self.device.upgrade().ok_or(Errno::EIO)
    }
}

/// How many bytes of the page at `index` the device has.
fn bytes_of_page(device: &BlockDevice, index: u64) -> usize {
    device.bytes().saturating_sub(index.saturating_mul(PAGE)).min(PAGE) as usize
}

/// Transfers locked folios one behind the other in one bio; what is beyond the end of the device becomes zero.
fn transfer(device: &BlockDevice, op: Op, flags: OpFlags, folios: &[FolioGuard]) -> Result<()> {
    let Some(first) = folios.first() else { return Ok(()) };
    let sector = first.index() * (PAGE >> SECTOR_SHIFT);
    let mut bio = Bio::new(op, flags, sector, folios.len(), End::Nobody)?;
    for guard in folios {
        let len = bytes_of_page(device, guard.index());
        if len > 0 {
            bio.push(guard.folio(), 0, len)?;
        }
        if op == Op::Read {
            guard.zero(len..PAGE_SIZE);
        }
    }
    if !bio.is_empty() {
        device.submit_and_wait(bio)?;
    }
    if op == Op::Read {
        folios.iter().for_each(FolioGuard::mark_uptodate);
    }
    Ok(())
}

impl AddressSpaceOps for Pages {
    fn read_folio(&self, _: &Mapping, folio: &FolioGuard) -> Result<()> {
        let device = self.device()?;
        transfer(&device, Op::Read, OpFlags::SYNC, core::slice::from_ref(folio))
    }

    /// Reads pages that are missing in one transfer. One that fails is read again alone, by whoever wants it.
    fn readahead(&self, mapping: &Mapping, index: u64, pages: usize) {
        let Ok(device) = self.device() else { return };
        let most = (device.disk().read_ahead() as usize / PAGE_SIZE).max(1);
        let end = device.bytes().div_ceil(PAGE).min(index.saturating_add(pages.min(most) as u64));
        let Ok(mut folios) = try_with_capacity::<FolioGuard>(pages.min(most)) else { return };
        for at in index..end {
            if mapping.get(at).is_some() {
                break;
            }
            match mapping.find_or_create_locked(at) {
                Ok(guard) if !guard.page().test(PageFlags::UPTODATE) => {
                    if folios.try_push(guard).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        let _ = transfer(&device, Op::Read, OpFlags::RAHEAD, &folios);
    }

    fn write_folio(&self, _: &Mapping, folio: &FolioGuard) -> Result<()> {
        let device = self.device()?;
        transfer(&device, Op::Write, OpFlags::empty(), core::slice::from_ref(folio))
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
