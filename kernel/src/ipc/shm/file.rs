//! An attached segment as memory mappings see it.
//!
//! Each `shmat(2)` makes a file of its own, with its own rights, over the memory of the segment. It keeps the namespace alive.

use super::Segment;
use crate::ipc::IpcNamespace;
use crate::ipc::ids::Object;
use abi::Result;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::ops::Range;
use mm::Mapping;
use mm::shmem::AnonShared;
use mm::vma::{MmapSetup, VmFile, VmFileId, VmFlags};

/// What an attachment allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `SHM_RDONLY`.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// An attached segment.
pub struct ShmFile {
    ns: Arc<IpcNamespace>,
    segment: Arc<Segment>,
    object: Arc<AnonShared>,
    /// Of the time of attaching: the name keeps it when the segment loses it.
    key: i32,
    access: Access,
}

impl ShmFile {
    /// A file over `object`, the memory of `segment`.
    pub fn new(
        ns: Arc<IpcNamespace>,
        segment: Arc<Segment>,
        object: Arc<AnonShared>,
        access: Access,
    ) -> Self {
        let key = segment.creation_key();
        Self { ns, segment, object, key, access }
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.segment.size()
    }
}

impl VmFile for ShmFile {
    fn mapping(&self) -> Option<Arc<Mapping>> {
        self.object.mapping()
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    fn mmap(&self, _: &mut MmapSetup) -> Result<()> {
        Ok(())
    }

    fn id(&self) -> VmFileId {
        VmFileId { ino: self.segment.perm().id() as u64, ..self.object.id() }
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/SYSV{:08x} (deleted)", self.key)
    }

    fn mapped(&self, _: VmFlags) {
        self.segment.attached();
    }

    fn unmapped(&self, _: VmFlags) {
        self.segment.detached(&self.ns);
    }

    fn punch_hole(&self, range: Range<u64>) -> Result<()> {
        self.object.punch_hole(range)
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
