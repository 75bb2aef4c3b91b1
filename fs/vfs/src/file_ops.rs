//! What a file system, device or kernel object implements for its open files.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

use abi::poll::PollEvents;
use abi::{Errno, Result};
use bitflags::bitflags;
use mm::vma::{DevicePage, MmapSetup, VmFlags};
use mm::{IovIter, Mapping};

use crate::cred::Credentials;
use crate::dir::DirContext;
use crate::fasync::FasyncList;
use crate::file::{File, FileMode};
use crate::poll::PollTable;

bitflags! {
    /// How one transfer is to be done (`IOCB_*`): from `RWF_*` and the file's flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IoFlags: u32 {
        /// Poll for completion.
        const HIPRI = 1;
        /// Data is on stable storage when the call returns.
        const DSYNC = 2;
        /// Data and attributes are.
        const SYNC = 4;
        /// Fail with `EAGAIN` instead of waiting.
        const NOWAIT = 8;
        /// Write at the end.
        const APPEND = 16;
        /// Write at the position although the file is open for appending.
        const NOAPPEND = 32;
        /// Bypass the page cache.
        const DIRECT = 1 << 16;
    }
}

/// `whence` of `lseek(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Whence {
    Set,
    Cur,
    End,
    Data,
    Hole,
}

impl Whence {
    /// From the number; `EINVAL` for others.
    pub fn from_raw(whence: u32) -> Result<Self> {
        Ok(match whence {
            0 => Self::Set,
            1 => Self::Cur,
            2 => Self::End,
            3 => Self::Data,
            4 => Self::Hole,
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// Operations on an open file; `self` is the object that `InodeOps::open` returned. A method that is
/// not implemented returns the error that Linux gives.
#[allow(unused_variables)]
pub trait FileOps: Any + Send + Sync {
    /// Reads at `pos` and advances it.
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, flags: IoFlags) -> Result<usize> {
        Err(if file.inode().is_dir() { Errno::EISDIR } else { Errno::EINVAL })
    }

    /// Writes at `pos` (or at the end, by flag) and advances it.
    fn write_iter(
        &self,
        file: &File,
        iter: &mut IovIter<'_>,
        pos: &mut u64,
        flags: IoFlags,
    ) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Moves the position; returns the new one.
    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        crate::rw::generic_llseek(file, offset, whence)
    }

    /// Lists a directory from `ctx.pos` on.
    fn iterate(&self, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Device control; `ENOTTY` for a command that the file does not know.
    fn ioctl(&self, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        Err(Errno::ENOTTY)
    }

    /// The same, for those whose answer depends on who asks.
    fn ioctl_by(&self, file: &File, cred: &Credentials, cmd: u32, arg: usize) -> Result<isize> {
        self.ioctl(file, cmd, arg)
    }

    /// The page cache, if it is not the inode's: a device's own.
    fn mapping(&self, file: &File) -> Option<Arc<Mapping>> {
        file.inode().mapping().cloned()
    }

    /// What the file is ready for; registers with the table's queues first.
    fn poll(&self, file: &File, table: &mut PollTable<'_>) -> PollEvents {
        crate::poll::DEFAULT_POLLMASK
    }

    /// Whether `poll` means anything (`epoll_ctl` gives `EPERM` otherwise).
    fn can_poll(&self, file: &File) -> bool {
        !file.inode().is_regular() && !file.inode().is_dir()
    }

    /// Checks and completes a new mapping (`ENODEV` if the file cannot be mapped).
    fn mmap(&self, file: &File, setup: &mut MmapSetup) -> Result<()> {
        if self.mmap_mapping(file).is_some() { Ok(()) } else { Err(Errno::ENODEV) }
    }

    /// The page cache that memory mappings of the file show.
    fn mmap_mapping(&self, file: &File) -> Option<Arc<Mapping>> {
        self.mapping(file)
    }

    /// The page of a mapping of a file that has no page cache (devices).
    fn mmap_fault(&self, file: &File, pgoff: u64) -> Result<DevicePage> {
        Err(Errno::ENODEV)
    }

    /// A mapping of the file appeared or went.
    fn mapped(&self, file: &File, flags: VmFlags, appeared: bool) {}

    /// A descriptor is closed.
    fn flush(&self, file: &File) -> Result<()> {
        Ok(())
    }

    /// The last reference is gone.
    fn release(&self, file: &File) {}

    /// Writes data (and attributes unless `datasync`) of `start..=end` to stable storage.
    fn fsync(&self, file: &File, start: u64, end: u64, datasync: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Allocates, punches or zeroes space (`FALLOC_FL_*`).
    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Advice about access (`POSIX_FADV_*`).
    fn fadvise(&self, file: &File, offset: u64, len: u64, advice: u32) -> Result<()> {
        crate::rw::generic_fadvise(file, offset, len, advice)
    }

    /// Copies within the file system without going through memory; `EOPNOTSUPP` falls back.
    fn copy_file_range(
        &self,
        file: &File,
        pos_in: u64,
        out: &File,
        pos_out: u64,
        len: usize,
    ) -> Result<usize> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether the status flags may become `flags`.
    fn check_flags(&self, file: &File, flags: u32) -> Result<()> {
        Ok(())
    }

    /// The lists of those who want a signal when the object is ready (`O_ASYNC`), one for each direction; none for files that
    /// never signal.
    fn fasync_lists(&self, file: &File) -> [Option<&FasyncList>; 2] {
        [None, None]
    }

    /// The seals of a memfd (`F_GET_SEALS`, `F_ADD_SEALS`); `EINVAL` for files that have none.
    fn get_seals(&self, file: &File) -> Result<u32> {
        Err(Errno::EINVAL)
    }

    /// Adds seals.
    fn add_seals(&self, file: &File, seals: u32) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Lines of `/proc/PID/fdinfo/N` beyond the common ones.
    fn show_fdinfo(&self, file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    /// Whether `O_DIRECT` is accepted for a regular file.
    fn supports_direct(&self) -> bool {
        false
    }

    /// Whether transfers may wait for a device or a server. Where they cannot, another thread is not worth its while
    /// (`io_uring(7)`).
    fn waits_for_storage(&self) -> bool {
        true
    }

    /// Whether the file's data may be spliced (sendfile source).
    fn can_splice(&self, file: &File) -> bool {
        file.mode().intersects(FileMode::READ | FileMode::WRITE)
    }
}

/// Operations of files that offer nothing (`O_PATH`).
pub struct NoOps;

impl FileOps for NoOps {}

/// Operations of directories that only hold entries: `iterate` is the file system's own.
#[derive(Debug)]
pub struct NoFileOps;

impl FileOps for NoFileOps {
    fn fsync(&self, _: &File, _: u64, _: u64, _: bool) -> Result<()> {
        Ok(())
    }
}
