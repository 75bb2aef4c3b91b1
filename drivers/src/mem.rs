//! `/dev/null`, `/dev/zero` and `/dev/full`: `null(4)`, `full(4)`.

use abi::fs::DevId;
use abi::{Errno, Result};
use mm::IovIter;
use mm::vma::MmapSetup;
use vfs::chrdev::{CHAR_DEVICES, DeviceDriver};
use vfs::file::{File, FileImpl, FileMode, OpenFile};
use vfs::file_ops::{FileOps, IoFlags, Whence};

/// Major number of the memory devices.
pub const MAJOR: u32 = 1;
/// Minor number of `/dev/null`.
pub const NULL: u32 = 3;
/// Minor number of `/dev/zero`.
pub const ZERO: u32 = 5;
/// Minor number of `/dev/full`.
pub const FULL: u32 = 7;

/// Bytes of zeroes handed out before looking for a signal again.
const STRIDE: usize = 64 * 1024;

/// `/dev/null`.
pub struct Null;

/// `/dev/zero`.
pub struct Zero;

/// `/dev/full`.
pub struct Full;

/// Every position is as good as any other, and always the start.
fn seek_nowhere(file: &File) -> Result<u64> {
    file.set_pos(0);
    Ok(0)
}

fn swallow(iter: &mut IovIter<'_>) -> Result<usize> {
    let count = iter.count();
    iter.advance(count);
    Ok(count)
}

fn zeroes(iter: &mut IovIter<'_>) -> Result<usize> {
    let mut done = 0;
    while !iter.is_empty() {
        let size = iter.count().min(STRIDE);
        let count = iter.zero(size);
        done += count;
        if count < size {
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
        if sched::current().has_pending_signal() && !iter.is_empty() {
            break;
        }
        sched::cond_resched();
    }
    Ok(done)
}

impl FileOps for Null {
    fn read_iter(&self, _: &File, _: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        Ok(0)
    }

    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        swallow(iter)
    }

    fn llseek(&self, file: &File, _: i64, _: Whence) -> Result<u64> {
        seek_nowhere(file)
    }
}

impl FileOps for Zero {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        zeroes(iter)
    }

    fn write_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        swallow(iter)
    }

    fn llseek(&self, file: &File, _: i64, _: Whence) -> Result<u64> {
        seek_nowhere(file)
    }

    /// A mapping of it is anonymous memory.
    fn mmap(&self, _: &File, setup: &mut MmapSetup) -> Result<()> {
        setup.anonymous = true;
        Ok(())
    }
}

impl FileOps for Full {
    fn read_iter(&self, _: &File, iter: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        zeroes(iter)
    }

    fn write_iter(&self, _: &File, _: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        Err(Errno::ENOSPC)
    }

    fn llseek(&self, file: &File, _: i64, _: Whence) -> Result<u64> {
        seek_nowhere(file)
    }
}

struct Memory;

impl DeviceDriver for Memory {
    fn open(&self, dev: DevId, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        open.mode.insert(FileMode::NOWAIT);
        Ok(FileImpl::Static(match dev.minor {
            NULL => &Null,
            ZERO => &Zero,
            FULL => &Full,
            _ => return Err(Errno::ENXIO),
        }))
    }
}

/// Registers the device numbers.
///
/// # Errors
/// `EBUSY` if somebody has them, `ENOMEM`.
pub fn init() -> Result<()> {
    for minor in [NULL, ZERO, FULL] {
        CHAR_DEVICES.register("mem", MAJOR, minor, 1, &Memory)?;
    }
    Ok(())
}
