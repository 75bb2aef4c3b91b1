//! Block special files: a disk or a partition as a file (`Documentation/admin-guide/devices.txt`, open(2), the ioctls of `linux/fs.h`).
//!
//! | file | what |
//! |---|---|
//! | `file` | an open special file |
//! | `cache` | its page cache, which all who have the device open share |
//! | `direct` | transfers past it (`O_DIRECT`) |
//! | `ioctl` | ioctl(2) |
//!
//! The page cache lives as long as somebody has the device open: the last one to close it writes back what is newer than the device, and
//! empties it. What a mounted file system keeps of its own metadata is another cache.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![forbid(unsafe_code)]

extern crate alloc;

mod cache;
mod direct;
mod file;
mod ioctl;

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use block::disk::{self, Access, Claim, HolderId};
use mm::fallible::try_box;
use vfs::chrdev::DeviceDriver;
use vfs::file::{FileImpl, OpenFile};

pub use file::BlockFile;

struct Driver;

impl DeviceDriver for Driver {
    fn open(&self, dev: DevId, open: &mut OpenFile<'_>) -> Result<FileImpl> {
        let device = disk::by_number(dev).ok_or(Errno::ENXIO)?;
        let access = Access { read: open.readable(), write: open.writable() };
        let claim = (open.flags & raw::O_EXCL != 0).then(|| Claim::new(HolderId::new()));
        let opened = device.open(access, claim)?;
        Ok(FileImpl::Owned(try_box(BlockFile::new(opened, access)?)?))
    }
}

/// Opens block special files from now on.
pub fn init() {
    vfs::chrdev::set_block_driver(&Driver);
}

/// Writes what the special files of all devices have in their page caches (sync(2)). Failures are logged.
pub fn sync_all() {
    for device in disk::all().unwrap_or_default() {
        if let Some(mapping) = device.mapping()
            && let Err(error) = mapping.write_back(0..u64::MAX).and_then(|()| device.flush())
        {
            log::warn!("{}: sync failed: {error:?}", device.name());
        }
    }
}
