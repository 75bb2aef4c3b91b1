//! `ioctl(2)`: what concerns the descriptor is done here, the rest by `vfs` and the file.

use alloc::sync::Arc;

use abi::{Errno, Result};
use vfs::fdtable::Fd;
use vfs::file::{File, FileMode};
use vfs::ioctl::Handled;
use vfs::types::FileType;

use super::context::{fd_flags, files};
use super::owner;
use crate::process::current;

/// Runs a request on the file behind `fd`.
pub fn ioctl(fd: Fd, file: &Arc<File>, cmd: u32, arg: usize) -> Result<isize> {
    if file.mode().contains(FileMode::PATH) {
        return Err(Errno::EBADF);
    }
    if file.file_type() == FileType::Socket
        && let Some(result) = owner::ioctl(file, cmd, arg)
    {
        return result;
    }
    match vfs::ioctl::ioctl(file, fd.raw(), &current().cred(), cmd, arg)? {
        Handled::Done(result) => Ok(result),
        Handled::SetCloexec(on) => files()?.set_flags(fd, fd_flags(on)).map(|()| 0),
    }
}
