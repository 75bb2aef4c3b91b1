//! The registry of file system types: `/proc/filesystems` and the type argument of `mount(2)`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use arch::sync::RwSpinLock;
use bitflags::bitflags;

use crate::super_block::{MountRequest, SuperBlock};

bitflags! {
    /// Properties of a file system type (`FS_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FsFlags: u32 {
        /// Needs a block device; shown without `nodev`.
        const REQUIRES_DEV = 1;
        /// May be mounted by the root of a user namespace.
        const USERNS_MOUNT = 8;
        /// Cannot be mounted by users at all (pipefs and the like).
        const NO_USER = 16;
    }
}

/// A type of file system.
pub trait FsType: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Its properties.
    fn flags(&self) -> FsFlags {
        FsFlags::empty()
    }

    /// Makes a super block with its root, or finds the one that already serves the source.
    fn mount(&'static self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>>;

    /// Whether the super block ends with its last mount (false for the one instance of sysfs, devtmpfs …).
    fn kill_on_last_umount(&self, sb: &SuperBlock) -> bool {
        let _ = sb;
        true
    }
}

static TYPES: RwSpinLock<Vec<&'static dyn FsType>> = RwSpinLock::new(Vec::new());

/// Adds a type; `EBUSY` when the name is taken.
pub fn register_filesystem(fs: &'static dyn FsType) -> Result<()> {
    let mut types = TYPES.write();
    if types.iter().any(|t| t.name() == fs.name()) {
        return Err(Errno::EBUSY);
    }
    types.push(fs);
    Ok(())
}

/// The type called `name`; a subtype after a dot (`fuse.sshfs`) is ignored.
pub fn get_fs_type(name: &[u8]) -> Option<&'static dyn FsType> {
    let base = name.split(|b| *b == b'.').next().unwrap_or(name);
    TYPES.read().iter().copied().find(|t| t.name().as_bytes() == base)
}

/// All types in order of registration, for `/proc/filesystems`.
pub fn filesystems() -> Vec<&'static dyn FsType> {
    TYPES.read().clone()
}
