//! Transferring data: `read(2)`, `write(2)` and their vectored and positioned forms, `lseek(2)`,
//! `fsync(2)`, `fallocate(2)`, `posix_fadvise(2)`, `cachestat(2)`.

use alloc::sync::Arc;

use abi::fs::{Cachestat, CachestatRange};
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use macros::syscall;
use mm::IovIter;
use mm::iov::{Direction, import_iovec};
use mm::user::UserPtr;
use vfs::fdtable::Fd;
use vfs::file::{File, FileMode};
use vfs::file_ops::Whence;
use vfs::permission::{inode_permission, owner_or_capable};
use vfs::rw;
use vfs::types::MayAccess;

use super::context::{Caller, file, file_raw};
use crate::process::current;
use crate::signal;
use crate::syscall::Syscall;

/// Counts a read call.
#[inline]
pub(super) fn done_reading(result: Result<usize>) -> Result<usize> {
    current().io.read(&result);
    result
}

/// Counts a write call. A writer to a broken pipe gets `SIGPIPE` with its `EPIPE`.
fn written(result: Result<usize>) -> Result<usize> {
    current().io.write(&result);
    if result == Err(Errno::EPIPE) {
        signal::raise_sigpipe();
    }
    result
}

#[syscall(read)]
fn sys_read(fd: Fd, buf: usize, count: usize) -> Result<usize> {
    let file = file(fd)?;
    done_reading(rw::read(&file, &mut IovIter::user(Direction::Dest, buf, count)?, 0))
}

#[syscall(write)]
fn sys_write(fd: Fd, buf: usize, count: usize) -> Result<usize> {
    let file = file(fd)?;
    written(rw::write(&file, &mut IovIter::user(Direction::Source, buf, count)?, 0))
}

#[syscall(readv)]
fn sys_readv(fd: Fd, iov: usize, count: usize) -> Result<usize> {
    let file = file(fd)?;
    done_reading(rw::read(&file, &mut import_iovec(Direction::Dest, iov, count)?, 0))
}

#[syscall(writev)]
fn sys_writev(fd: Fd, iov: usize, count: usize) -> Result<usize> {
    let file = file(fd)?;
    written(rw::write(&file, &mut import_iovec(Direction::Source, iov, count)?, 0))
}

#[syscall(pread64)]
fn sys_pread64(fd: Fd, buf: usize, count: usize, pos: i64) -> Result<usize> {
    if pos < 0 {
        return Err(Errno::EINVAL);
    }
    let file = file(fd)?;
    done_reading(rw::pread(&file, &mut IovIter::user(Direction::Dest, buf, count)?, pos, 0))
}

#[syscall(pwrite64)]
fn sys_pwrite64(fd: Fd, buf: usize, count: usize, pos: i64) -> Result<usize> {
    if pos < 0 {
        return Err(Errno::EINVAL);
    }
    let file = file(fd)?;
    written(rw::pwrite(&file, &mut IovIter::user(Direction::Source, buf, count)?, pos, 0))
}

#[syscall(preadv)]
fn sys_preadv(fd: Fd, iov: usize, count: usize, pos: i64) -> Result<usize> {
    let file = file(fd)?;
    done_reading(rw::pread(&file, &mut import_iovec(Direction::Dest, iov, count)?, pos, 0))
}

#[syscall(pwritev)]
fn sys_pwritev(fd: Fd, iov: usize, count: usize, pos: i64) -> Result<usize> {
    let file = file(fd)?;
    written(rw::pwrite(&file, &mut import_iovec(Direction::Source, iov, count)?, pos, 0))
}

#[syscall(preadv2)]
fn sys_preadv2(fd: Fd, iov: usize, count: usize, pos: i64, _high: usize, flags: u32) -> Result<usize> {
    let file = file(fd)?;
    let mut iter = import_iovec(Direction::Dest, iov, count)?;
    done_reading(if pos == -1 {
        rw::read(&file, &mut iter, flags)
    } else {
        rw::pread(&file, &mut iter, pos, flags)
    })
}

#[syscall(pwritev2)]
fn sys_pwritev2(fd: Fd, iov: usize, count: usize, pos: i64, _high: usize, flags: u32) -> Result<usize> {
    let file = file(fd)?;
    let mut iter = import_iovec(Direction::Source, iov, count)?;
    written(if pos == -1 {
        rw::write(&file, &mut iter, flags)
    } else {
        rw::pwrite(&file, &mut iter, pos, flags)
    })
}

#[syscall(lseek)]
fn sys_lseek(fd: Fd, offset: i64, whence: u32) -> Result<u64> {
    let file = file(fd)?;
    rw::lseek(&file, offset, Whence::from_raw(whence)?)
}

fn sync_file(file: &Arc<File>, datasync: bool) -> Result<()> {
    rw::vfs_fsync(file, 0, u64::MAX, datasync)
}

#[syscall(fsync)]
fn sys_fsync(fd: Fd) -> Result<()> {
    sync_file(&file(fd)?, false)
}

#[syscall(fdatasync)]
fn sys_fdatasync(fd: Fd) -> Result<()> {
    sync_file(&file(fd)?, true)
}

#[syscall(sync)]
fn sys_sync() -> Result<()> {
    vfs::super_block::sync_all();
    blkdev::sync_all();
    Ok(())
}

#[syscall(syncfs)]
fn sys_syncfs(fd: Fd) -> Result<()> {
    let file = file(fd)?;
    vfs::super_block::sync_one(file.path().dentry.sb())
}

#[syscall(sync_file_range)]
fn sys_sync_file_range(fd: Fd, offset: i64, count: i64, flags: u32) -> Result<()> {
    sync_range(&file(fd)?, offset, count, flags)
}

/// `sync_file_range(2)` of an open file.
///
/// # Errors
/// `EINVAL`, `ESPIPE`, those of writing.
pub fn sync_range(file: &Arc<File>, offset: i64, count: i64, flags: u32) -> Result<()> {
    const KNOWN: u32 = 7;
    if flags & !KNOWN != 0 || offset < 0 || count < 0 {
        return Err(Errno::EINVAL);
    }
    let end = match count {
        0 => i64::MAX,
        _ => offset.checked_add(count).ok_or(Errno::EINVAL)? - 1,
    };
    use vfs::types::FileType;
    match file.file_type() {
        FileType::Regular | FileType::BlockDevice | FileType::Directory | FileType::Symlink => {}
        _ => return Err(Errno::ESPIPE),
    }
    rw::sync_file_range(file, offset as u64, end as u64, flags)
}

#[syscall(truncate)]
fn sys_truncate(name: mm::user::UserStr, size: i64) -> Result<()> {
    if size < 0 {
        return Err(Errno::EINVAL);
    }
    let name = name.read_path()?;
    vfs::attr::truncate(&Caller::current()?.ctx(), &name, size)
}

#[syscall(ftruncate)]
fn sys_ftruncate(fd: Fd, size: i64) -> Result<()> {
    if size < 0 {
        return Err(Errno::EINVAL);
    }
    vfs::attr::ftruncate(&*file(fd)?, size)
}

#[syscall(fallocate)]
fn sys_fallocate(fd: Fd, mode: u32, offset: i64, len: i64) -> Result<()> {
    rw::fallocate(&*file(fd)?, mode, offset, len)
}

#[syscall(fadvise64)]
fn sys_fadvise64(fd: Fd, offset: i64, len: i64, advice: u32) -> Result<()> {
    fadvise(&file(fd)?, offset, len, advice)
}

/// `posix_fadvise(2)` of an open file.
///
/// # Errors
/// `ESPIPE`, `EINVAL`.
pub fn fadvise(file: &Arc<File>, offset: i64, len: i64, advice: u32) -> Result<()> {
    if file.file_type() == vfs::types::FileType::Fifo {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || advice > 5 {
        return Err(Errno::EINVAL);
    }
    file.ops().fadvise(file, offset as u64, len as u64, advice)
}

#[syscall(readahead)]
fn sys_readahead(fd: Fd, offset: i64, count: usize) -> Result<()> {
    const WILLNEED: u32 = 3;
    let file = file(fd)?;
    file.want_read()?;
    if file.mapping().is_none() || file.file_type() != vfs::types::FileType::Regular {
        return Err(Errno::EINVAL);
    }
    file.ops().fadvise(&file, offset as u64, count as u64, WILLNEED)
}

#[syscall(cachestat)]
fn sys_cachestat(fd: Fd, range: UserPtr<CachestatRange>, out: UserPtr<Cachestat>, flags: u32) -> Result<()> {
    let file = file(fd)?;
    let range = range.read()?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    // Who could not write the file has no business knowing what is cached of it.
    let cred = Caller::current()?.cred().clone();
    let inode = file.inode();
    if !file.mode().contains(FileMode::WRITE)
        && !owner_or_capable(inode, &cred)
        && inode_permission(inode, &cred, MayAccess::WRITE).is_err()
    {
        return Err(Errno::EPERM);
    }
    let page = PAGE_SIZE as u64;
    let first = range.off / page;
    let end = match range.len {
        0 => u64::MAX,
        len => range.off.wrapping_add(len - 1) / page + 1,
    };
    let (nr_cache, nr_dirty) = file.mapping().map_or((0, 0), |mapping| mapping.count_cached(first..end));
    out.write(&Cachestat { nr_cache, nr_dirty, ..Cachestat::default() })
}

#[syscall(ioctl)]
fn sys_ioctl(fd: Fd, cmd: u32, arg: usize) -> Result<isize> {
    let file = file_raw(fd)?;
    super::ioctl::ioctl(fd, &file, cmd, arg)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[
    READ,
    WRITE,
    READV,
    WRITEV,
    PREAD64,
    PWRITE64,
    PREADV,
    PWRITEV,
    PREADV2,
    PWRITEV2,
    LSEEK,
    FSYNC,
    FDATASYNC,
    SYNC,
    SYNCFS,
    SYNC_FILE_RANGE,
    TRUNCATE,
    FTRUNCATE,
    FALLOCATE,
    FADVISE64,
    READAHEAD,
    CACHESTAT,
    IOCTL,
];
