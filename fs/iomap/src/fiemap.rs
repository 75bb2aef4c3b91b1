//! `FS_IOC_FIEMAP`: where a file lies (`linux/fiemap.h`, `Documentation/filesystems/fiemap.rst`).

use abi::Result;

use crate::extent::{Kind, Mapper, Purpose, map};

/// `FIEMAP_EXTENT_*`.
pub mod flags {
    /// The last one of the file.
    pub const LAST: u32 = 0x1;
    /// Where it is is not known.
    pub const UNKNOWN: u32 = 0x2;
    /// Space is promised, not allocated.
    pub const DELALLOC: u32 = 0x4;
    /// Its place is not a multiple of a block.
    pub const NOT_ALIGNED: u32 = 0x100;
    /// It is with the inode.
    pub const DATA_INLINE: u32 = 0x200;
    /// Its blocks hold no data.
    pub const UNWRITTEN: u32 = 0x800;
}

/// An extent as `struct fiemap_extent` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// `fe_logical`.
    pub logical: u64,
    /// `fe_physical`.
    pub physical: u64,
    /// `fe_length`.
    pub length: u64,
    /// `fe_flags`.
    pub flags: u32,
}

/// Calls `f` with the extents in `start..start + len`, until it returns false. `size`: of the file, for the mark of the last one.
///
/// # Errors
/// Those of the file system.
pub fn fiemap<M: Mapper>(
    mapper: &M,
    start: u64,
    len: u64,
    size: u64,
    f: &mut dyn FnMut(Reported) -> bool,
) -> Result<()> {
    let end = start.saturating_add(len).min(size.next_multiple_of(u64::from(mapper.block_size())));
    let mut at = start;
    let mut last: Option<Reported> = None;
    while at < end {
        let extent = map(mapper, at, end - at, Purpose::Report)?;
        at = extent.end();
        let flags = match extent.kind {
            Kind::Hole => continue,
            Kind::Delayed => flags::DELALLOC | flags::UNKNOWN,
            Kind::Unwritten => flags::UNWRITTEN,
            Kind::Inline => flags::DATA_INLINE | flags::NOT_ALIGNED,
            Kind::Mapped => 0,
        };
        let physical = if extent.kind == Kind::Delayed { 0 } else { extent.addr };
        let now = Reported { logical: extent.offset, physical, length: extent.len, flags };
        match &mut last {
            // What the file system gave in pieces.
            Some(before)
                if before.flags == now.flags
                    && before.logical + before.length == now.logical
                    && (now.flags & flags::UNKNOWN != 0
                        || before.physical + before.length == now.physical) =>
            {
                before.length += now.length;
            }
            _ => {
                if let Some(before) = last.replace(now)
                    && !f(before)
                {
                    return Ok(());
                }
            }
        }
    }
    if let Some(mut last) = last {
        if at >= size {
            last.flags |= flags::LAST;
        }
        f(last);
    }
    Ok(())
}
