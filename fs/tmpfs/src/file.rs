//! Open files and directories.

use core::sync::atomic::Ordering;

use abi::{Errno, Result, raw};
use arch::addr::PAGE_SIZE;
use mm::IovIter;
use mm::vma::{MmapSetup, VmFlags};
use vfs::file_ops::{FileOps, IoFlags};
use vfs::{DirContext, File};

use crate::inode::data;

/// Operations of regular files.
pub(crate) struct TmpfsFile;
/// Operations of directories.
pub(crate) struct TmpfsDir;

pub(crate) static FILE_OPS: TmpfsFile = TmpfsFile;
pub(crate) static DIR_OPS: TmpfsDir = TmpfsDir;

const PAGE: u64 = PAGE_SIZE as u64;
const WRITE_SEALS: u32 = raw::F_SEAL_WRITE | raw::F_SEAL_FUTURE_WRITE;

fn seals(file: &File) -> Result<u32> {
    Ok(data(file.inode())?.seals.load(Ordering::Acquire))
}

impl FileOps for TmpfsFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        vfs::rw::generic_file_read(file, iter, pos)
    }

    fn write_iter(
        &self,
        file: &File,
        iter: &mut IovIter<'_>,
        pos: &mut u64,
        flags: IoFlags,
    ) -> Result<usize> {
        let seals = seals(file)?;
        if seals & WRITE_SEALS != 0 && !iter.is_empty() {
            return Err(Errno::EPERM);
        }
        if seals & raw::F_SEAL_GROW != 0 {
            let size = file.inode().size();
            let at = if flags.contains(IoFlags::APPEND) { size } else { *pos };
            if at.saturating_add(iter.count() as u64) > size {
                return Err(Errno::EPERM);
            }
        }
        vfs::rw::generic_file_write(file, iter, pos, flags)
    }

    fn mmap(&self, file: &File, setup: &mut MmapSetup) -> Result<()> {
        let seals = seals(file)?;
        if seals & WRITE_SEALS != 0 && setup.flags.contains(VmFlags::SHARED) {
            if setup.flags.contains(VmFlags::WRITE) {
                return Err(Errno::EPERM);
            }
            setup.flags.remove(VmFlags::MAYWRITE);
        }
        Ok(())
    }

    fn fsync(&self, _: &File, _: u64, _: u64, _: bool) -> Result<()> {
        Ok(())
    }

    fn supports_direct(&self) -> bool {
        true
    }

    fn waits_for_storage(&self) -> bool {
        false
    }

    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        let inode = file.inode();
        let mapping = inode.mapping().ok_or(Errno::EINVAL)?;
        let _exclusive = inode.rwsem.write();
        let seals = seals(file)?;
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        match mode & !raw::FALLOC_FL_KEEP_SIZE {
            raw::FALLOC_FL_PUNCH_HOLE => {
                if seals & WRITE_SEALS != 0 {
                    return Err(Errno::EPERM);
                }
                mapping.punch_hole(offset..end);
            }
            0 => {
                // Both look at what would be allocated, whether the size changes or not.
                vfs::rw::may_grow(inode.size(), end)?;
                if end > inode.size() && seals & raw::F_SEAL_GROW != 0 {
                    return Err(Errno::EPERM);
                }
                let grows = mode & raw::FALLOC_FL_KEEP_SIZE == 0 && end > inode.size();
                self.allocate(file, offset / PAGE, end.div_ceil(PAGE))?;
                if grows {
                    mapping.set_size(end);
                }
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        inode.touch_mtime();
        Ok(())
    }

    fn get_seals(&self, file: &File) -> Result<u32> {
        seals(file)
    }

    fn add_seals(&self, file: &File, add: u32) -> Result<()> {
        crate::memfd::add_seals(file, add)
    }
}

impl TmpfsFile {
    /// Makes the pages `first..last` exist; gives back those it made when it fails.
    fn allocate(&self, file: &File, first: u64, last: u64) -> Result<()> {
        let mapping = file.inode().mapping().ok_or(Errno::EINVAL)?;
        for index in first..last {
            if mapping.get(index).is_some() {
                continue;
            }
            let made = mapping.find_or_create_locked(index).and_then(|guard| mapping.fill(&guard));
            if let Err(error) = made {
                // Only what lies beyond the end is certainly ours.
                let size = mapping.size();
                mapping.punch_hole(size.max(first * PAGE).next_multiple_of(PAGE)..index * PAGE);
                return Err(error);
            }
            sched::cond_resched();
        }
        Ok(())
    }
}

/// Entries taken out of the table under one hold of its lock.
const LISTED_AT_ONCE: usize = 16;

impl FileOps for TmpfsDir {
    fn iterate(&self, file: &File, ctx: &mut DirContext<'_>) -> Result<()> {
        if !ctx.emit_dots(file) {
            return Ok(());
        }
        let dir = data(file.inode())?;
        loop {
            // Some at a time, without the lock: the receiver may fault.
            let mut entries = [const { None }; LISTED_AT_ONCE];
            dir.dir.lock().list(ctx.pos, &mut entries);
            for entry in entries {
                let Some(entry) = entry else { return Ok(()) };
                if !ctx.emit(&entry.name, entry.ino, Some(entry.kind), entry.cookie + 1) {
                    return Ok(());
                }
            }
        }
    }

    fn fsync(&self, _: &File, _: u64, _: u64, _: bool) -> Result<()> {
        Ok(())
    }
}
