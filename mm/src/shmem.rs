//! The object behind `MAP_SHARED | MAP_ANONYMOUS`, and behind a shared mapping of `/dev/zero`.
//!
//! It is a page cache without a backing store and without a name in any file system; it lives as long as something maps it.

use crate::fallible::try_arc;
use crate::filemap::{Mapping, MemoryOps};
use crate::overcommit;
use crate::vma::{MmapSetup, VmFile, VmFileId};
use abi::Result;
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use core::fmt;

/// Whether memory is promised beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// It counts against the commit limit.
    Yes,
    /// `MAP_NORESERVE`.
    No,
}

/// A shared anonymous object.
pub struct AnonShared {
    mapping: Arc<Mapping>,
    /// Pages that count against the commit limit.
    charged: usize,
}

impl Drop for AnonShared {
    fn drop(&mut self) {
        overcommit::uncharge(self.charged);
    }
}

impl AnonShared {
    /// An object of `len` bytes, whose pages are promised unless `MAP_NORESERVE` says otherwise.
    pub fn create(len: usize, reserve: Reserve) -> Result<Arc<dyn VmFile>> {
        Ok(Self::new(len, reserve)?)
    }

    /// The same, for others who put their own name on it (System V shared memory).
    pub fn new(len: usize, reserve: Reserve) -> Result<Arc<Self>> {
        let charged = if reserve == Reserve::Yes { len.div_ceil(PAGE_SIZE) } else { 0 };
        let mapping = try_arc(Mapping::new(try_arc(MemoryOps)?, len as u64))?;
        overcommit::charge_object(charged)?;
        Ok(try_arc(Self { mapping, charged })?)
    }

    /// Its pages.
    pub fn cache(&self) -> &Arc<Mapping> {
        &self.mapping
    }
}

impl VmFile for AnonShared {
    fn mapping(&self) -> Option<Arc<Mapping>> {
        Some(self.mapping.clone())
    }
    fn readable(&self) -> bool {
        true
    }
    fn writable(&self) -> bool {
        true
    }
    fn mmap(&self, _setup: &mut MmapSetup) -> Result<()> {
        Ok(())
    }
    fn id(&self) -> VmFileId {
        // Linux shows the kernel's own shmem mount: device 0:1.
        VmFileId { major: 0, minor: 1, ino: self.mapping.id() }
    }
    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/dev/zero (deleted)")
    }
    fn punch_hole(&self, range: core::ops::Range<u64>) -> Result<()> {
        self.mapping.punch_hole(range);
        Ok(())
    }
    fn as_any(self: Arc<Self>) -> Arc<dyn core::any::Any + Send + Sync> {
        self
    }
}
