//! `ioctl(2)` on files and directories.

use abi::{Errno, Result};
use mm::UserPtr;
use vfs::File;

use crate::inode::node;

/// The generation of an inode.
const FS_IOC_GETVERSION: u32 = 0x8008_7601;
/// Its old number.
const EXT4_IOC_GETVERSION_OLD: u32 = 0x8008_6603;

/// Requests that only this file system knows.
///
/// # Errors
/// `ENOTTY` for others; `EFAULT`.
pub(crate) fn ioctl(file: &File, cmd: u32, arg: usize) -> Result<isize> {
    let node = node(file.inode())?;
    match cmd {
        FS_IOC_GETVERSION | EXT4_IOC_GETVERSION_OLD => {
            UserPtr::<u32>::new(arg).write(&node.generation)?;
            Ok(0)
        }
        _ => Err(Errno::ENOTTY),
    }
}
