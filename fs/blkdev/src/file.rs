//! An open block special file.

use alloc::sync::Arc;

use abi::{Errno, Result, raw};
use block::bio::SECTOR_SHIFT;
use block::disk::{Access, Opened, Zeroing};
use block::{BlockDevice, OpFlags};
use mm::IovIter;
use mm::filemap::{Mapping, ReadMode};
use vfs::cred::Credentials;
use vfs::file::File;
use vfs::file_ops::{FileOps, IoFlags, Whence};

use crate::{cache, direct, ioctl};

/// An open block special file.
pub struct BlockFile {
    device: Opened,
    access: Access,
    mapping: Arc<Mapping>,
}

impl BlockFile {
    pub(crate) fn new(device: Opened, access: Access) -> Result<Self> {
        let mapping = cache::of(device.device())?;
        Ok(Self { device, access, mapping })
    }

    /// The device.
    pub fn device(&self) -> &Arc<BlockDevice> {
        self.device.device()
    }

    /// The page cache.
    pub(crate) fn cache(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// For what it is open.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// Whether it was opened with `O_EXCL`.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.device.is_exclusive()
    }

    /// The bytes of `range` leave the page cache: the device is to be changed there.
    pub(crate) fn forget(&self, start: u64, len: u64) {
        self.mapping.punch_hole(start..start.saturating_add(len));
    }

    /// Leaves `iter` no more than the device has from `pos` on; what that takes away.
    fn cut(&self, iter: &mut IovIter<'_>, pos: u64) -> usize {
        let before = iter.count();
        let left = self.device().bytes().saturating_sub(pos);
        iter.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        before - iter.count()
    }

    fn write_some(&self, iter: &mut IovIter<'_>, pos: u64, flags: IoFlags) -> Result<usize> {
        if !flags.contains(IoFlags::DIRECT) {
            return self.mapping.write(iter, pos);
        }
        direct::check(self.device(), iter, pos)?;
        let len = iter.count() as u64;
        cache::write_and_drop(&self.mapping, pos, len)?;
        let done = direct::write(self.device(), iter, pos, OpFlags::SYNC);
        // Somebody may have read it meanwhile.
        cache::write_and_drop(&self.mapping, pos, len)?;
        done
    }
}

impl FileOps for BlockFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, flags: IoFlags) -> Result<usize> {
        if *pos >= self.device().bytes() || iter.is_empty() {
            return Ok(0);
        }
        let cut = self.cut(iter, *pos);
        let result = if flags.contains(IoFlags::DIRECT) {
            direct::check(self.device(), iter, *pos).and_then(|()| {
                self.mapping.write_back(*pos..*pos + iter.count() as u64)?;
                direct::read(self.device(), iter, *pos, OpFlags::SYNC)
            })
        } else {
            self.mapping.read_with(iter, *pos, Some(&file.readahead), ReadMode::Wait)
        };
        iter.reexpand(iter.count() + cut);
        let count = result?;
        *pos += count as u64;
        vfs::attr::file_accessed(file);
        Ok(count)
    }

    fn write_iter(
        &self,
        file: &File,
        iter: &mut IovIter<'_>,
        pos: &mut u64,
        flags: IoFlags,
    ) -> Result<usize> {
        if self.device().is_read_only() {
            return Err(Errno::EPERM);
        }
        if iter.is_empty() {
            return Ok(0);
        }
        let size = self.device().bytes();
        if flags.contains(IoFlags::APPEND) {
            *pos = size;
        }
        if *pos >= size {
            return Err(Errno::ENOSPC);
        }
        let cut = self.cut(iter, *pos);
        vfs::attr::file_modified(file)?;
        let result = self.write_some(iter, *pos, flags);
        iter.reexpand(iter.count() + cut);
        let count = result?;
        let start = *pos;
        *pos += count as u64;
        if count > 0 && flags.intersects(IoFlags::DSYNC | IoFlags::SYNC) {
            self.fsync(file, start, *pos - 1, true)?;
        }
        Ok(count)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        let size = self.device().bytes() as i64;
        let target = match whence {
            Whence::Set => Some(offset),
            Whence::Cur => offset.checked_add(file.pos() as i64),
            Whence::End => offset.checked_add(size),
            Whence::Data | Whence::Hole => None,
        };
        let target = target.filter(|at| (0..=size).contains(at)).ok_or(Errno::EINVAL)? as u64;
        file.set_pos(target);
        Ok(target)
    }

    fn ioctl_by(&self, file: &File, cred: &Credentials, cmd: u32, arg: usize) -> Result<isize> {
        ioctl::ioctl(self, file, cred, cmd, arg)
    }

    fn mapping(&self, _: &File) -> Option<Arc<Mapping>> {
        Some(self.mapping.clone())
    }

    fn fsync(&self, file: &File, start: u64, end: u64, _: bool) -> Result<()> {
        file.write_and_wait(start, end)?;
        self.device().flush()
    }

    fn fallocate(&self, _: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        const KEEP: u32 = raw::FALLOC_FL_KEEP_SIZE;
        if mode & !(KEEP | raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_ZERO_RANGE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let device = self.device();
        let size = device.bytes();
        if offset >= size {
            return Err(Errno::EINVAL);
        }
        let len = match size - offset {
            left if len <= left => len,
            left if mode & KEEP != 0 => left,
            _ => return Err(Errno::EINVAL),
        };
        if !(offset | len).is_multiple_of(u64::from(device.limits().logical_block_size)) {
            return Err(Errno::EINVAL);
        }
        let how = match mode & !KEEP {
            raw::FALLOC_FL_ZERO_RANGE => Zeroing { keep_space: true, no_fallback: false },
            raw::FALLOC_FL_PUNCH_HOLE if mode & KEEP != 0 => Zeroing { keep_space: false, no_fallback: true },
            _ => return Err(Errno::EOPNOTSUPP),
        };
        self.forget(offset, len);
        device.write_zeroes(offset >> SECTOR_SHIFT, len >> SECTOR_SHIFT, how)
    }
}
