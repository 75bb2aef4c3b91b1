//! Open files.

use abi::{Errno, Result};
use mm::IovIter;
use vfs::File;
use vfs::file_ops::{FileOps, IoFlags, Whence};

use crate::inode::{Node, node};
use crate::map::State;

/// Operations of regular files.
pub struct Ext4File;

/// The one object for all files.
pub static FILE_OPS: Ext4File = Ext4File;

/// `fsync(2)`. Nothing is written, so everything is where it belongs.
pub(crate) fn sync(file: &File, _: u64, _: u64, _: bool) -> Result<()> {
    if file.inode().sb().is_read_only() { Ok(()) } else { Err(Errno::EIO) }
}

impl FileOps for Ext4File {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        vfs::rw::generic_file_read(file, iter, pos)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        let data = match whence {
            Whence::Data => true,
            Whence::Hole => false,
            _ => return vfs::rw::generic_llseek(file, offset, whence),
        };
        let node = node(file.inode())?;
        let position = node.seek(u64::try_from(offset).map_err(|_| Errno::ENXIO)?, data)?;
        file.set_pos(position);
        Ok(position)
    }

    fn fsync(&self, file: &File, start: u64, end: u64, datasync: bool) -> Result<()> {
        sync(file, start, end, datasync)
    }

    fn ioctl(&self, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        crate::ioctl::ioctl(file, cmd, arg)
    }
}

impl Node {
    /// `SEEK_DATA` (`data`) and `SEEK_HOLE`: `ENXIO` beyond the end.
    pub(crate) fn seek(&self, offset: u64, data: bool) -> Result<u64> {
        let size = self.disk_size.load(core::sync::atomic::Ordering::Relaxed);
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        if self.is_inline() {
            return Ok(if data { offset } else { size });
        }
        let bits = self.fs.layout.block_bits;
        let mut at = offset;
        while at < size {
            let block = u32::try_from(at >> bits).map_err(|_| Errno::ENXIO)?;
            let mapped = self.map(block)?;
            // What is not written is a hole, as long as no page of it is dirty.
            if (mapped.state == State::Written) == data {
                return Ok(at);
            }
            at = (u64::from(block) + u64::from(mapped.len)) << bits;
        }
        if data { Err(Errno::ENXIO) } else { Ok(size) }
    }
}
