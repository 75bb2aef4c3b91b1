//! `SEEK_DATA`, `SEEK_HOLE`.

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use mm::{Mapping, PageFlags};

use crate::extent::{Kind, Mapper, Purpose, map};

const PAGE: u64 = PAGE_SIZE as u64;

/// The first byte at or after `pos` that is data (or a hole): the end of the file counts as a hole.
fn seek<M: Mapper>(mapper: &M, mapping: &Mapping, pos: u64, data: bool) -> Result<u64> {
    let size = mapping.size();
    if pos >= size {
        return Err(Errno::ENXIO);
    }
    let mut at = pos;
    while at < size {
        let extent = map(mapper, at, size - at, Purpose::Report)?;
        let stop = extent.end().min(size);
        match extent.kind {
            Kind::Hole if data => {}
            Kind::Hole => return Ok(at),
            // Data only as far as there are pages that say something.
            Kind::Unwritten => {
                if let Some(found) = cached(mapping, at, stop, data) {
                    return Ok(found);
                }
            }
            _ if data => return Ok(at),
            _ => {}
        }
        at = stop;
    }
    if data { Err(Errno::ENXIO) } else { Ok(size) }
}

/// The first byte of `at..end` of which there is a valid or dirty page (or is not).
fn cached(mapping: &Mapping, mut at: u64, end: u64, wanted: bool) -> Option<u64> {
    while at < end {
        let is = mapping
            .get(at / PAGE)
            .is_some_and(|folio| folio.flags().intersects(PageFlags::DIRTY | PageFlags::WRITEBACK));
        if is == wanted {
            return Some(at);
        }
        at = (at / PAGE + 1) * PAGE;
        if !is {
            // Over what is not cached in one step.
            at = mapping.next_cached(at / PAGE).map_or(end, |index| index * PAGE).max(at);
        }
    }
    None
}

/// `SEEK_DATA`. The caller holds the inode's lock shared.
///
/// # Errors
/// `ENXIO`: there is none up to the end of the file.
pub fn seek_data<M: Mapper>(mapper: &M, mapping: &Mapping, pos: u64) -> Result<u64> {
    seek(mapper, mapping, pos, true)
}

/// `SEEK_HOLE`.
///
/// # Errors
/// `ENXIO`: `pos` is not inside the file.
pub fn seek_hole<M: Mapper>(mapper: &M, mapping: &Mapping, pos: u64) -> Result<u64> {
    seek(mapper, mapping, pos, false)
}
