//! The registry of file system types: `/proc/filesystems` and the type argument of `mount(2)`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use arch::sync::RwSpinLock;
use bitflags::bitflags;

use crate::fs_context::{Making, ParamError, ParamResult, Params};
use crate::super_block::{MountRequest, SuperBlock};
use mm::fallible::{TryVec, try_to_vec};

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
        /// Mounts of it can show other owners than it stores (`MOUNT_ATTR_IDMAP`).
        const ALLOW_IDMAP = 32;
        /// Opening its files may wait for others: nobody is asked for permission.
        const NO_PERMISSION_EVENTS = 64;
        /// Looks at each parameter when it is given ([`FsType::check_param`]), not at all of them when it is mounted.
        const CHECKS_PARAMS = 1 << 16;
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

    /// Whether it has the parameter `key`, and whether `value` makes sense for it. Asked of types with
    /// [`FsFlags::CHECKS_PARAMS`]; what it says yes to is part of [`MountRequest::options`] later.
    fn check_param(&self, key: &str, value: Option<&str>) -> ParamResult {
        let _ = (key, value);
        Err(ParamError::Unknown)
    }

    /// Makes a super block with its root, or finds the one that already serves the source.
    fn mount(&'static self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>>;

    /// Where the parameters of a new mount or of a change are kept, if the file system does so itself (which needs
    /// [`FsFlags::CHECKS_PARAMS`]). [`FsType::check_param`] is not asked then.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn params(&self) -> Result<Option<Box<dyn Params>>> {
        Ok(None)
    }

    /// [`FsType::mount`] for a type with [`FsType::params`].
    fn mount_prepared(
        &'static self,
        request: &MountRequest<'_>,
        making: Making<'_>,
    ) -> Result<Arc<SuperBlock>> {
        drop(making);
        self.mount(request)
    }

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
    Ok(types.try_push(fs)?)
}

/// The type called `name`; a subtype after a dot (`fuse.sshfs`) is ignored.
pub fn get_fs_type(name: &[u8]) -> Option<&'static dyn FsType> {
    let base = name.split(|b| *b == b'.').next().unwrap_or(name);
    TYPES.read().iter().copied().find(|t| t.name().as_bytes() == base)
}

/// All types in order of registration, for `/proc/filesystems`.
///
/// # Errors
/// `ENOMEM`.
pub fn filesystems() -> Result<Vec<&'static dyn FsType>> {
    Ok(try_to_vec(&TYPES.read())?)
}
