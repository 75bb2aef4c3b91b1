//! `read(2)`, `write(2)`, their relatives, and `lseek(2)`.
//!
//! The functions take an [`IovIter`] over the caller's memory. Positions: files with `ATOMIC_POS` lock
//! theirs over the call, so two threads that share a description do not read the same bytes.

use alloc::sync::Arc;

use abi::{Errno, Result, raw};
use mm::IovIter;
use mm::filemap::{ReadMode, SyncMode};
use mm::readahead::Advice;

use crate::attr;
use crate::file::{File, FileMode};
use crate::file_ops::{IoFlags, Whence};
use crate::inode::InodeFlags;
use crate::notify;
use crate::types::MAX_LFS_FILESIZE;

/// `RWF_*` flags as [`IoFlags`], with what the file's own flags imply.
pub fn io_flags(file: &File, rwf: u32, write: Access) -> Result<IoFlags> {
    let flags = file.flags();
    let mut io = if rwf == 0 {
        IoFlags::empty()
    } else {
        let known = IoFlags::HIPRI
            | IoFlags::DSYNC
            | IoFlags::SYNC
            | IoFlags::NOWAIT
            | IoFlags::APPEND
            | IoFlags::NOAPPEND;
        let io = IoFlags::from_bits(rwf).filter(|io| known.contains(*io)).ok_or(Errno::EOPNOTSUPP)?;
        if io.contains(IoFlags::APPEND | IoFlags::NOAPPEND) {
            return Err(Errno::EINVAL);
        }
        if io.contains(IoFlags::NOWAIT) && !file.mode().contains(FileMode::NOWAIT) {
            return Err(Errno::EOPNOTSUPP);
        }
        io
    };
    if flags & (raw::O_APPEND | raw::O_DIRECT | raw::O_DSYNC) != 0 {
        if flags & raw::O_APPEND != 0 && write == Access::Write && !io.contains(IoFlags::NOAPPEND) {
            io |= IoFlags::APPEND;
        }
        if io.contains(IoFlags::NOAPPEND) && file.inode().flags().contains(InodeFlags::APPEND) {
            return Err(Errno::EPERM);
        }
        if flags & raw::O_DIRECT != 0 {
            io |= IoFlags::DIRECT;
        }
        if flags & raw::O_DSYNC != 0 {
            io |= IoFlags::DSYNC;
        }
    }
    Ok(io)
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
}

/// `read(2)`, `readv(2)`: at the file's position.
#[inline]
pub fn read(file: &Arc<File>, iter: &mut IovIter<'_>, rwf: u32) -> Result<usize> {
    file.want_read()?;
    let flags = io_flags(file, rwf, Access::Read)?;
    let _pos = file.lock_pos();
    let mut pos = file.pos();
    let result = read_at(file, iter, &mut pos, flags);
    if !file.mode().contains(FileMode::STREAM) {
        file.set_pos(pos);
    }
    result
}

/// `write(2)`, `writev(2)`: at the file's position, or at the end.
#[inline]
pub fn write(file: &Arc<File>, iter: &mut IovIter<'_>, rwf: u32) -> Result<usize> {
    file.want_write()?;
    let flags = io_flags(file, rwf, Access::Write)?;
    let _pos = file.lock_pos();
    let mut pos = file.pos();
    let result = write_at(file, iter, &mut pos, flags);
    if !file.mode().contains(FileMode::STREAM) {
        file.set_pos(pos);
    }
    result
}

/// `pread64(2)`, `preadv2(2)` with a position.
pub fn pread(file: &File, iter: &mut IovIter<'_>, pos: i64, rwf: u32) -> Result<usize> {
    let mut pos = u64::try_from(pos).map_err(|_| Errno::EINVAL)?;
    file.want_read()?;
    if !file.mode().contains(FileMode::PREAD) {
        return Err(Errno::ESPIPE);
    }
    let flags = io_flags(file, rwf, Access::Read)?;
    read_at(file, iter, &mut pos, flags)
}

/// `pwrite64(2)`, `pwritev2(2)` with a position.
pub fn pwrite(file: &File, iter: &mut IovIter<'_>, pos: i64, rwf: u32) -> Result<usize> {
    let mut pos = u64::try_from(pos).map_err(|_| Errno::EINVAL)?;
    file.want_write()?;
    if !file.mode().contains(FileMode::PWRITE) {
        return Err(Errno::ESPIPE);
    }
    let flags = io_flags(file, rwf, Access::Write)?;
    write_at(file, iter, &mut pos, flags)
}

/// Reads at `pos` and advances it.
pub fn read_at(file: &File, iter: &mut IovIter<'_>, pos: &mut u64, flags: IoFlags) -> Result<usize> {
    if *pos > MAX_LFS_FILESIZE {
        return Err(Errno::EINVAL);
    }
    notify::may_read(file)?;
    let count = file.ops().read_iter(file, iter, pos, flags)?;
    if count > 0 {
        notify::on_file(file, notify::mask::ACCESS);
    }
    Ok(count)
}

/// As [`read_at`] for a part of a larger transfer, which is announced as a whole by the caller.
pub(crate) fn read_part(file: &File, iter: &mut IovIter<'_>, pos: &mut u64, flags: IoFlags) -> Result<usize> {
    if *pos > MAX_LFS_FILESIZE {
        return Err(Errno::EINVAL);
    }
    file.ops().read_iter(file, iter, pos, flags)
}

/// As [`write_at`] for a part of a larger transfer, which is announced as a whole by the caller.
pub(crate) fn write_part(
    file: &File,
    iter: &mut IovIter<'_>,
    pos: &mut u64,
    flags: IoFlags,
) -> Result<usize> {
    if *pos > MAX_LFS_FILESIZE {
        return Err(Errno::EINVAL);
    }
    file.ops().write_iter(file, iter, pos, flags)
}

/// Writes at `pos` and advances it.
pub fn write_at(file: &File, iter: &mut IovIter<'_>, pos: &mut u64, flags: IoFlags) -> Result<usize> {
    if *pos > MAX_LFS_FILESIZE {
        return Err(Errno::EINVAL);
    }
    let count = file.ops().write_iter(file, iter, pos, flags)?;
    if count > 0 {
        notify::on_file(file, notify::mask::MODIFY);
    }
    Ok(count)
}

/// Reads kernel memory's worth from the file (program headers, `#!` lines).
pub fn kernel_read(file: &File, buf: &mut [u8], pos: u64) -> Result<usize> {
    let mut pos = pos;
    let mut iter = IovIter::dest(buf);
    read_at(file, &mut iter, &mut pos, IoFlags::empty())
}

/// Fills `buf` or fails with `EIO`/the file's error.
pub fn kernel_read_exact(file: &File, buf: &mut [u8], mut pos: u64) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..)
        && !rest.is_empty()
    {
        let count = kernel_read(file, rest, pos)?;
        if count == 0 {
            return Err(Errno::EIO);
        }
        done += count;
        pos += count as u64;
    }
    Ok(())
}

/// Writes all of `buf` at the file's position.
pub fn kernel_write(file: &File, buf: &[u8], pos: &mut u64) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get(done..)
        && !rest.is_empty()
    {
        let mut iter = IovIter::source(rest);
        let count = write_at(file, &mut iter, pos, IoFlags::empty())?;
        if count == 0 {
            return Err(Errno::EIO);
        }
        done += count;
    }
    Ok(())
}

/// The page-cache read that most file systems use for regular files.
pub fn generic_file_read(file: &File, iter: &mut IovIter<'_>, pos: &mut u64) -> Result<usize> {
    if iter.is_empty() {
        return Ok(0);
    }
    let mapping = file.inode().mapping().ok_or(Errno::EINVAL)?;
    let count = mapping.read_with(iter, *pos, Some(&file.readahead), ReadMode::Wait)?;
    *pos += count as u64;
    attr::file_accessed(file);
    Ok(count)
}

/// The page-cache write that most file systems use for regular files: checks limits, moves to the end
/// for appending, clears set-id bits. Takes `inode.rwsem`.
pub fn generic_file_write(
    file: &File,
    iter: &mut IovIter<'_>,
    pos: &mut u64,
    flags: IoFlags,
) -> Result<usize> {
    let inode = file.inode();
    let mapping = inode.mapping().ok_or(Errno::EINVAL)?;
    let _exclusive = inode.rwsem.write();
    if iter.is_empty() {
        return Ok(0);
    }
    if flags.contains(IoFlags::APPEND) {
        *pos = inode.size();
    }
    limit_write(file, iter, *pos)?;
    attr::file_modified(file)?;
    let count = mapping.write(iter, *pos)?;
    *pos += count as u64;
    Ok(count)
}

/// Cuts a write to what the file system and `RLIMIT_FSIZE` admit: `EFBIG` if nothing is left.
pub fn limit_write(file: &File, iter: &mut IovIter<'_>, pos: u64) -> Result<()> {
    let max = file.inode().sb().max_bytes();
    if file.inode().is_regular()
        && let Some(limit) = fsize_limit()
    {
        if pos >= limit {
            return Err(fsize_exceeded());
        }
        iter.truncate(usize::try_from(limit - pos).unwrap_or(usize::MAX));
    }
    if pos >= max {
        return Err(Errno::EFBIG);
    }
    iter.truncate(usize::try_from(max - pos).unwrap_or(usize::MAX));
    Ok(())
}

/// The acting process as a writer: its `RLIMIT_FSIZE`, and its signals.
pub trait Writer: Sync {
    /// The limit; `None` for none.
    fn limit(&self) -> Option<u64>;
    /// A call went beyond it: the process gets `SIGXFSZ`.
    fn exceeded(&self);
    /// The readers of a pipe left when a part was written: the thread gets `SIGPIPE`.
    fn broken_pipe(&self);
}

static WRITER: sync::Once<&'static dyn Writer> = sync::Once::new();

/// Registers who answers for the acting process.
pub fn set_writer(hook: &'static dyn Writer) {
    let _ = WRITER.set(hook);
}

/// See [`Writer::broken_pipe`].
pub(crate) fn broken_pipe() {
    if let Some(hook) = WRITER.get() {
        hook.broken_pipe();
    }
}

fn fsize_limit() -> Option<u64> {
    WRITER.get().and_then(|hook| hook.limit())
}

fn fsize_exceeded() -> Errno {
    if let Some(hook) = WRITER.get() {
        hook.exceeded();
    }
    Errno::EFBIG
}

/// Whether a file of size `old` may grow to `new`: `RLIMIT_FSIZE`.
///
/// # Errors
/// `EFBIG`, and the process gets `SIGXFSZ`.
pub fn may_grow(old: u64, new: u64) -> Result<()> {
    if new > old && fsize_limit().is_some_and(|limit| new > limit) {
        return Err(fsize_exceeded());
    }
    Ok(())
}

/// `lseek(2)`.
pub fn lseek(file: &Arc<File>, offset: i64, whence: Whence) -> Result<u64> {
    if !file.mode().contains(FileMode::LSEEK) {
        return Err(Errno::ESPIPE);
    }
    let _pos = file.lock_pos();
    file.ops().llseek(file, offset, whence)
}

/// Moves the position of a file that is made as it is read: it has no end to seek from.
///
/// # Errors
/// `EINVAL`: a negative position, or one from the end.
pub fn endless_llseek(file: &File, offset: i64, whence: Whence) -> Result<u64> {
    let target = match whence {
        Whence::Set => Some(offset),
        Whence::Cur => offset.checked_add(file.pos() as i64),
        _ => None,
    };
    let target = target.and_then(|at| u64::try_from(at).ok()).ok_or(Errno::EINVAL)?;
    file.set_pos(target);
    Ok(target)
}

/// Moves the position of a file whose positions are addresses: all 64 bits of them.
///
/// # Errors
/// `EINVAL`: from the end, which there is not.
pub fn memory_llseek(file: &File, offset: i64, whence: Whence) -> Result<u64> {
    let target = match whence {
        Whence::Set => offset as u64,
        Whence::Cur => file.pos().wrapping_add(offset as u64),
        _ => return Err(Errno::EINVAL),
    };
    file.set_pos(target);
    Ok(target)
}

/// The `llseek` of files whose end is the inode's size.
pub fn generic_llseek(file: &File, offset: i64, whence: Whence) -> Result<u64> {
    let inode = file.inode();
    let size = inode.size();
    let max = inode.sb().max_bytes().min(MAX_LFS_FILESIZE);
    let target = match whence {
        Whence::Set => offset,
        Whence::Cur => (file.pos() as i64).checked_add(offset).ok_or(Errno::EOVERFLOW)?,
        Whence::End => (size as i64).checked_add(offset).ok_or(Errno::EOVERFLOW)?,
        Whence::Data | Whence::Hole => {
            let at = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            if at >= size {
                return Err(Errno::ENXIO);
            }
            let found = match (inode.mapping().filter(|m| m.is_memory()), whence) {
                (Some(mapping), Whence::Data) => mapping.seek_data(at).ok_or(Errno::ENXIO)?,
                (Some(mapping), _) => mapping.seek_hole(at).ok_or(Errno::ENXIO)?,
                (None, Whence::Data) => at,
                (None, _) => size,
            };
            found.min(size) as i64
        }
    };
    if target < 0 && !file.mode().contains(FileMode::UNSIGNED_OFFSET) || target as u64 > max {
        return Err(Errno::EINVAL);
    }
    file.set_pos(target as u64);
    Ok(target as u64)
}

/// `fsync(2)`, `fdatasync(2)`, `sync_file_range(2)`: writes `start..=end`.
pub fn vfs_fsync(file: &File, start: u64, end: u64, datasync: bool) -> Result<()> {
    file.ops().fsync(file, start, end, datasync)
}

/// `sync_file_range(2)` of `start..=end`: no metadata, and nothing is flushed from the device's own cache.
///
/// # Errors
/// What could not be written.
pub fn sync_file_range(file: &File, start: u64, end: u64, flags: u32) -> Result<()> {
    const WAIT_BEFORE: u32 = 1;
    const WRITE: u32 = 2;
    const WAIT_AFTER: u32 = 4;
    let Some(mapping) = file.ops().mapping(file).filter(|mapping| !mapping.is_memory()) else {
        return Ok(());
    };
    let range = start..end.saturating_add(1);
    if flags & WAIT_BEFORE != 0 {
        mapping.wait_on_writeback(range.clone());
        file.check_write_errors()?;
    }
    if flags & WRITE != 0 {
        let all = WAIT_BEFORE | WRITE | WAIT_AFTER;
        let mode = if flags & all == all { SyncMode::All } else { SyncMode::None };
        mapping.start_write_back(range.clone(), mode)?;
    }
    if flags & WAIT_AFTER != 0 {
        mapping.wait_on_writeback(range);
        file.check_write_errors()?;
    }
    Ok(())
}

/// `posix_fadvise(2)` for files with a page cache.
///
/// # Errors
/// `EINVAL`: advice that there is not.
pub fn generic_fadvise(file: &File, offset: u64, len: u64, advice: u32) -> Result<()> {
    const PAGE: u64 = arch::addr::PAGE_SIZE as u64;
    if advice > 5 {
        return Err(Errno::EINVAL);
    }
    let Some(mapping) = file.ops().mapping(file).filter(|mapping| !mapping.is_memory()) else {
        return Ok(());
    };
    // 0: up to the end, whatever that will be.
    let end = if len == 0 { u64::MAX } else { offset.saturating_add(len) };
    let state = |advice, pages| {
        let mut state = file.readahead.lock();
        (state.advice, state.pages) = (advice, pages);
    };
    match advice {
        0 => state(Advice::Normal, None),
        1 => state(Advice::Random, None),
        2 => state(Advice::Sequential, None),
        3 => {
            let last = end.min(mapping.size()).div_ceil(PAGE);
            mapping.force_read_ahead(offset / PAGE, last.saturating_sub(offset / PAGE));
        }
        4 => {
            let _ = mapping.start_write_back(offset..end, SyncMode::None);
            // A page of which only a part was meant stays, but for the last one of the file.
            let last = if end >= mapping.size() { end.div_ceil(PAGE) } else { end / PAGE };
            mapping.invalidate(offset.div_ceil(PAGE)..last);
        }
        _ => {}
    }
    Ok(())
}

/// `fallocate(2)`.
pub fn fallocate(file: &File, mode: u32, offset: i64, len: i64) -> Result<()> {
    let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
        return Err(Errno::EINVAL);
    };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    const KNOWN: u32 = raw::FALLOC_FL_KEEP_SIZE
        | raw::FALLOC_FL_PUNCH_HOLE
        | raw::FALLOC_FL_COLLAPSE_RANGE
        | raw::FALLOC_FL_ZERO_RANGE
        | raw::FALLOC_FL_INSERT_RANGE
        | raw::FALLOC_FL_UNSHARE_RANGE;
    if mode & !KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let kind = mode & !raw::FALLOC_FL_KEEP_SIZE;
    if kind.count_ones() > 1 {
        return Err(Errno::EOPNOTSUPP);
    }
    let keep = mode & raw::FALLOC_FL_KEEP_SIZE != 0;
    if kind == raw::FALLOC_FL_PUNCH_HOLE && !keep {
        return Err(Errno::EOPNOTSUPP);
    }
    if kind & (raw::FALLOC_FL_COLLAPSE_RANGE | raw::FALLOC_FL_INSERT_RANGE) != 0 && keep {
        return Err(Errno::EOPNOTSUPP);
    }
    file.want_write()?;
    let inode = file.inode();
    if kind != 0 && inode.flags().contains(InodeFlags::APPEND)
        || inode.flags().contains(InodeFlags::IMMUTABLE)
    {
        return Err(Errno::EPERM);
    }
    if inode.flags().contains(InodeFlags::SWAPFILE) {
        return Err(Errno::ETXTBSY);
    }
    match inode.file_type() {
        crate::types::FileType::Fifo => return Err(Errno::ESPIPE),
        crate::types::FileType::Directory => return Err(Errno::EISDIR),
        crate::types::FileType::Regular | crate::types::FileType::BlockDevice => {}
        _ => return Err(Errno::ENODEV),
    }
    let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
    if end > inode.sb().max_bytes() {
        return Err(Errno::EFBIG);
    }
    file.ops().fallocate(file, mode, offset, len)?;
    notify::on_file(file, notify::mask::MODIFY);
    Ok(())
}
