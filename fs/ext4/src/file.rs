//! Open files.

use alloc::sync::Arc;

use abi::{Errno, Result};
use mm::{IovIter, Mapping};
use vfs::File;
use vfs::file_ops::{FileOps, IoFlags, Whence};

use crate::inode::{Node, node};

/// Operations of regular files.
pub struct Ext4File;

/// The one object for all files.
pub static FILE_OPS: Ext4File = Ext4File;

/// `fsync(2)`. Nothing is written, so everything is where it belongs.
pub(crate) fn sync(file: &File, _: u64, _: u64, _: bool) -> Result<()> {
    if file.inode().sb().is_read_only() { Ok(()) } else { Err(Errno::EIO) }
}

/// The inode of an open file and its page cache.
fn of(file: &File) -> Result<(&Arc<Node>, &Arc<Mapping>)> {
    Ok((node(file.inode())?, file.inode().mapping().ok_or(Errno::EINVAL)?))
}

impl FileOps for Ext4File {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, flags: IoFlags) -> Result<usize> {
        if flags.contains(IoFlags::DIRECT) {
            let (node, mapping) = of(file)?;
            // Data in the inode goes through the page cache.
            if !node.is_inline() {
                let count = iomap::direct_read(&**node, mapping, iter, *pos)?;
                *pos += count as u64;
                vfs::attr::file_accessed(file);
                return Ok(count);
            }
        }
        vfs::rw::generic_file_read(file, iter, pos)
    }

    fn supports_direct(&self) -> bool {
        true
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        let data = match whence {
            Whence::Data => true,
            Whence::Hole => false,
            _ => return vfs::rw::generic_llseek(file, offset, whence),
        };
        let (node, mapping) = of(file)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let _shared = file.inode().rwsem.read();
        let position = match data {
            true => iomap::seek_data(&**node, mapping, offset)?,
            false => iomap::seek_hole(&**node, mapping, offset)?,
        };
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
