//! Parts of blocks become zero, through the page cache.

use core::ops::Range;

use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use mm::iov::Direction;
use mm::{IovIter, Mapping};

use crate::extent::{Kind, Mapper, Purpose, map};

const PAGE: u64 = PAGE_SIZE as u64;

/// Makes `range` of the file zero where there is data; holes stay. The size does not change. The caller holds the inode's lock exclusively.
///
/// # Errors
/// Those of reading what is kept of a page, and of the file system.
pub fn zero_range<M: Mapper>(mapper: &M, mapping: &Mapping, range: Range<u64>) -> Result<()> {
    let end = range.end.min(mapping.size());
    let mut at = range.start;
    while at < end {
        let extent = map(mapper, at, end - at, Purpose::Zero)?;
        let stop = extent.end().min(end);
        let zero_already = matches!(extent.kind, Kind::Hole | Kind::Unwritten);
        if !zero_already || mapping.needs_writeback(at..stop) {
            while at < stop {
                let len = (stop - at).min(PAGE - at % PAGE);
                let cached = mapping.get(at / PAGE).is_some();
                if !zero_already || cached {
                    let mut zeros = IovIter::null(Direction::Source, len as usize);
                    if mapping.write(&mut zeros, at)? as u64 != len {
                        return Err(Errno::EIO);
                    }
                }
                at += len;
            }
        }
        at = stop;
    }
    Ok(())
}

/// The rest of the block that `pos` is in becomes zero: before a file is truncated to `pos`.
///
/// # Errors
/// Those of [`zero_range`].
pub fn truncate_page<M: Mapper>(mapper: &M, mapping: &Mapping, pos: u64) -> Result<()> {
    let block = u64::from(mapper.block_size());
    if pos.is_multiple_of(block) {
        Ok(())
    } else {
        zero_range(mapper, mapping, pos..pos.next_multiple_of(block))
    }
}
