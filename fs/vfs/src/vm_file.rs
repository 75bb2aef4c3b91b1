//! An open file as memory mappings see it: `mm` asks, [`File`] answers.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::ops::Range;

use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::Mapping;
use mm::readahead::ReadState;
use mm::vma::{DevicePage, MmapSetup, VmFile, VmFileId, VmFlags};

use crate::file::{File, FileMode};
use crate::inode::InodeFlags;
use crate::mount::show::mangle_newlines;

impl VmFile for File {
    fn mapping(&self) -> Option<Arc<Mapping>> {
        self.ops().mmap_mapping(self)
    }

    fn readable(&self) -> bool {
        self.mode().contains(FileMode::READ)
    }

    fn writable(&self) -> bool {
        self.mode().contains(FileMode::WRITE)
    }

    fn noexec(&self) -> bool {
        self.path().mnt.flags() & raw::MS_NOEXEC != 0
    }

    fn mmap(&self, setup: &mut MmapSetup) -> Result<()> {
        // What can only grow at its end must not be written anywhere else.
        if setup.flags.contains(VmFlags::MAYSHARE)
            && self.writable()
            && self.inode().flags().contains(InodeFlags::APPEND)
        {
            return Err(Errno::EACCES);
        }
        self.ops().mmap(self, setup)?;
        crate::attr::file_accessed(self);
        Ok(())
    }

    fn fault(&self, pgoff: u64) -> Result<DevicePage> {
        self.ops().mmap_fault(self, pgoff)
    }

    fn id(&self) -> VmFileId {
        let inode = self.inode();
        let dev = inode.sb().dev();
        VmFileId { major: dev.major, minor: dev.minor, ino: inode.ino() }
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match crate::path::d_path(self.path(), None) {
            Ok(text) => mangle_newlines(out, &text),
            Err(_) => Err(fmt::Error),
        }
    }

    fn mapped(&self, flags: VmFlags) {
        self.ops().mapped(self, flags, true);
    }

    fn unmapped(&self, flags: VmFlags) {
        self.ops().mapped(self, flags, false);
    }

    fn read_state(&self) -> Option<&SpinLock<ReadState>> {
        Some(&self.readahead)
    }

    fn sync_range(&self, range: Range<u64>) -> Result<()> {
        self.ops().fsync(self, range.start, range.end.saturating_sub(1), true)
    }

    fn punch_hole(&self, range: Range<u64>) -> Result<()> {
        let mode = raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE;
        self.ops().fallocate(self, mode, range.start, range.end.saturating_sub(range.start))
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
