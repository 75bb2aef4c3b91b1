//! Open files: each has the real one open. What is opened for writing is copied up first. A file that was opened for reading while it
//! was in a lower layer reads the copy as soon as there is one; what it has mapped stays as it was.

use alloc::sync::Arc;
use core::any::Any;

use abi::{Errno, Result, raw};
use mm::fallible::try_box;
use mm::vma::{DevicePage, MmapSetup, VmFlags};
use mm::{IovIter, Mapping};
use sync::Once;
use vfs::attr::{file_accessed, remove_privileges};
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::{FileOps, IoFlags, Whence};
use vfs::inode::Inode;
use vfs::namei::layer;
use vfs::rw::vfs_fsync;

use crate::copy_up::{Contents, copy_up};
use crate::inode::{Node, node};
use crate::readdir::OvlDir;

/// Flags of an open that do not concern the real file.
const NOT_PASSED: u32 = raw::O_CREAT | raw::O_EXCL | raw::O_TRUNC | raw::O_NOCTTY | raw::FASYNC;

/// Opens `inode`, which `node` belongs to.
pub(crate) fn open(node: &Node, inode: &Arc<Inode>, open: &mut OpenFile<'_>) -> Result<FileImpl> {
    let flags = open.flags & !NOT_PASSED;
    if inode.is_dir() {
        return Ok(FileImpl::Owned(try_box(OvlDir::open(node, flags)?)?));
    }
    if open.writable() || open.flags & raw::O_TRUNC != 0 {
        let contents = if open.flags & raw::O_TRUNC != 0 { Contents::Nothing } else { Contents::All };
        copy_up(inode, contents)?;
    }
    let real = layer::open(&node.fs.cred, &node.real_path()?, flags | raw::O_NOATIME)?;
    Ok(FileImpl::Owned(try_box(OvlFile { real, copy: Once::new() })?))
}

/// An open regular file.
struct OvlFile {
    /// As it was when it was opened.
    real: Arc<File>,
    /// The copy that was made of it since.
    copy: Once<Arc<File>>,
}

impl OvlFile {
    /// The real file as it is now.
    fn real(&self, file: &File) -> Result<&Arc<File>> {
        let node = node(file.inode())?;
        if Arc::ptr_eq(self.real.inode(), node.real_inode()?) {
            return Ok(&self.real);
        }
        if let Some(copy) = self.copy.get() {
            return Ok(copy);
        }
        let flags = file.flags() & !NOT_PASSED | raw::O_NOATIME;
        let copy = layer::open(&node.fs.cred, &node.real_path()?, flags)?;
        Ok(self.copy.call_once(|| copy))
    }

    /// Changes the contents through the real file.
    fn change<R>(&self, file: &File, change: impl FnOnce(&Arc<File>) -> Result<R>) -> Result<R> {
        let inode = file.inode();
        let real = self.real(file)?;
        let _exclusive = inode.rwsem.write();
        remove_privileges(&file.path().dentry, file.cred())?;
        let done = change(real);
        node(inode)?.copy_attributes(inode)?;
        done
    }
}

impl FileOps for OvlFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, flags: IoFlags) -> Result<usize> {
        if iter.is_empty() {
            return Ok(0);
        }
        let real = self.real(file)?;
        let count = real.ops().read_iter(real, iter, pos, flags)?;
        file_accessed(file);
        Ok(count)
    }

    fn write_iter(
        &self,
        file: &File,
        iter: &mut IovIter<'_>,
        pos: &mut u64,
        mut flags: IoFlags,
    ) -> Result<usize> {
        if iter.is_empty() {
            return Ok(0);
        }
        if !node(file.inode())?.fs.syncs() {
            flags.remove(IoFlags::DSYNC | IoFlags::SYNC);
        }
        self.change(file, |real| real.ops().write_iter(real, iter, pos, flags))
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        // Where it is has nothing to do with the real file.
        match (whence, offset) {
            (Whence::Cur, 0) => return Ok(file.pos()),
            (Whence::Set, 0) => {
                file.set_pos(0);
                return Ok(0);
            }
            _ => {}
        }
        let real = self.real(file)?;
        real.set_pos(file.pos());
        let pos = real.ops().llseek(real, offset, whence)?;
        file.set_pos(pos);
        Ok(pos)
    }

    fn mapping(&self, file: &File) -> Option<Arc<Mapping>> {
        self.real(file).ok()?.mapping()
    }

    /// What is mapped is what was opened.
    fn mmap_mapping(&self, _: &File) -> Option<Arc<Mapping>> {
        self.real.ops().mmap_mapping(&self.real)
    }

    fn mmap(&self, _: &File, setup: &mut MmapSetup) -> Result<()> {
        self.real.ops().mmap(&self.real, setup)
    }

    fn mmap_fault(&self, _: &File, pgoff: u64) -> Result<DevicePage> {
        self.real.ops().mmap_fault(&self.real, pgoff)
    }

    fn mapped(&self, _: &File, flags: VmFlags, appeared: bool) {
        self.real.ops().mapped(&self.real, flags, appeared);
    }

    fn flush(&self, file: &File) -> Result<()> {
        let real = self.real(file)?;
        real.ops().flush(real)
    }

    fn fsync(&self, file: &File, start: u64, end: u64, datasync: bool) -> Result<()> {
        let node = node(file.inode())?;
        // A lower file has nothing to be written.
        if node.upper().is_none() || !node.fs.syncs() {
            return Ok(());
        }
        vfs_fsync(self.real(file)?, start, end, datasync)
    }

    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        self.change(file, |real| real.ops().fallocate(real, mode, offset, len))
    }

    fn fadvise(&self, file: &File, offset: u64, len: u64, advice: u32) -> Result<()> {
        let real = self.real(file)?;
        real.ops().fadvise(real, offset, len, advice)
    }

    fn copy_file_range(
        &self,
        file: &File,
        pos_in: u64,
        out: &File,
        pos_out: u64,
        len: usize,
    ) -> Result<usize> {
        let from = self.real(file)?;
        let ops: &dyn Any = out.ops();
        let to: &Self = ops.downcast_ref().ok_or(Errno::EXDEV)?;
        to.change(out, |to| from.ops().copy_file_range(from, pos_in, to, pos_out, len))
    }

    fn supports_direct(&self) -> bool {
        self.real.ops().supports_direct()
    }

    fn waits_for_storage(&self) -> bool {
        self.real.ops().waits_for_storage()
    }
}
