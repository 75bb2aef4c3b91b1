//! Contents of files: what `iomap` asks of an inode, and blocks of what is not in the page cache (links, values of attributes).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use block::BlockDevice;
use iomap::{Extent, IomapOps, Kind, Mapper, Purpose};
use mm::Mapping;
use mm::fallible::{TryVec, try_arc, try_with_capacity};

use crate::disk::inode::Flags;
use crate::inode::Node;
use crate::map::State;

/// What is behind the last block that a file can have.
const END: u64 = i64::MAX as u64;

impl Mapper for Node {
    fn device(&self) -> Result<Arc<BlockDevice>> {
        Ok(self.fs.device.clone())
    }

    fn block_size(&self) -> u32 {
        self.fs.layout.block_size() as u32
    }

    fn map(&self, pos: u64, _: u64, purpose: Purpose) -> Result<Extent> {
        match purpose {
            Purpose::Read | Purpose::Report | Purpose::Zero => {}
            Purpose::BufferedWrite | Purpose::DirectWrite | Purpose::WriteBack => return Err(Errno::EROFS),
        }
        if self.is_inline() {
            let size = self.disk_size.load(Ordering::Relaxed);
            return Ok(match pos < size {
                true => Extent { offset: 0, len: size, kind: Kind::Inline, addr: 0, new: false },
                false => hole(size),
            });
        }
        let bits = self.fs.layout.block_bits;
        let Ok(block) = u32::try_from(pos >> bits) else { return Ok(hole(pos >> bits << bits)) };
        let mapped = Self::map(self, block)?;
        let kind = match mapped.state {
            State::Hole => Kind::Hole,
            State::Written => Kind::Mapped,
            State::Unwritten => Kind::Unwritten,
        };
        let (offset, len) = (u64::from(block) << bits, u64::from(mapped.len) << bits);
        Ok(Extent { offset, len, kind, addr: mapped.start << bits, new: false })
    }

    fn disk_size(&self) -> u64 {
        self.disk_size.load(Ordering::Relaxed)
    }

    fn read_inline(&self, pos: u64, to: &mut [u8]) -> Result<usize> {
        let data = self.inline_data()?;
        let from = usize::try_from(pos).ok().and_then(|pos| data.get(pos..)).unwrap_or_default();
        let len = from.len().min(to.len());
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(len)
    }
}

/// Nothing, from `offset` on.
fn hole(offset: u64) -> Extent {
    Extent { offset, len: END.saturating_sub(offset).max(1), kind: Kind::Hole, addr: 0, new: false }
}

impl Node {
    /// The page cache of a regular file of `size` bytes.
    pub(crate) fn new_mapping(self: &Arc<Self>, size: u64) -> Result<Arc<Mapping>> {
        let ops = IomapOps::plain(self.clone()).with_max_bytes(self.largest());
        Ok(try_arc(Mapping::new(try_arc(ops)?, size))?)
    }

    /// The largest that the file can become.
    pub fn largest(&self) -> u64 {
        match self.flags().contains(Flags::EXTENTS) {
            true => self.fs.layout.max_bytes,
            false => self.fs.layout.max_bytes_mapped,
        }
    }

    /// One block of a directory or a link: its contents, or none for a hole.
    ///
    /// # Errors
    /// Those of [`Node::map`] and of the device.
    pub(crate) fn read_block(
        &self,
        block: u32,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<Option<Arc<mm::Block>>> {
        let Some(run) = Self::map(self, block)?.on_device() else { return Ok(None) };
        Ok(Some(self.fs.read_checked(run.start, check)?.data()))
    }

    /// The first `len` bytes of the file, by whole blocks: for what is not in the page cache. Holes are zeros.
    ///
    /// # Errors
    /// As [`Self::read_block`].
    pub(crate) fn read_bytes(&self, len: usize) -> Result<Vec<u8>> {
        let size = self.fs.layout.block_size();
        let mut bytes = try_with_capacity(len)?;
        let mut block = 0;
        while bytes.len() < len {
            let want = (len - bytes.len()).min(size);
            match self.read_block(block, |_| Ok(()))? {
                Some(data) => bytes.try_extend_from_slice(data.bytes().get(..want).unwrap_or_default())?,
                None => bytes.try_resize(bytes.len() + want, 0)?,
            }
            block += 1;
        }
        Ok(bytes)
    }
}
