//! `fcntl(2)`, the part that concerns the open file. Commands about the descriptor (`F_DUPFD`, `F_GETFD` …) are
//! [`crate::fdtable`]'s, those with a `struct flock` are [`crate::lock::posix`]'s; owners (`F_SETOWN`) are resolved by the
//! kernel, which knows processes.

use abi::{Errno, Result, raw};

use crate::cred::Credentials;
use crate::file::File;
use crate::ioctl::set_async;
use crate::permission::owner_or_capable;
use crate::pipe::Pipe;

/// Flags that `F_SETFL` changes.
const SETFL_MASK: u32 = raw::O_APPEND | raw::O_NONBLOCK | raw::O_DIRECT | raw::O_NOATIME;

/// `F_SETFL`.
pub fn setfl(file: &File, fd: i32, cred: &Credentials, flags: u32) -> Result<()> {
    let inode = file.inode();
    let old = file.flags();
    if flags & raw::O_APPEND == 0
        && old & raw::O_APPEND != 0
        && inode.flags().contains(crate::inode::InodeFlags::APPEND)
    {
        return Err(Errno::EPERM);
    }
    if flags & raw::O_NOATIME != 0 && old & raw::O_NOATIME == 0 && !owner_or_capable(inode, cred) {
        return Err(Errno::EPERM);
    }
    if flags & raw::O_DIRECT != 0 && inode.is_regular() && !file.ops().supports_direct() {
        return Err(Errno::EINVAL);
    }
    file.ops().check_flags(file, flags)?;
    // Who never signals takes the flag and forgets it.
    match set_async(file, fd, flags & raw::FASYNC != 0) {
        Ok(()) | Err(Errno::ENOTTY) => {}
        Err(error) => return Err(error),
    }
    file.set_flags(SETFL_MASK, flags);
    Ok(())
}

/// `F_GETFL`.
pub fn getfl(file: &File) -> u32 {
    file.flags()
}

/// `F_SETPIPE_SZ`; returns the new size.
pub fn set_pipe_size(file: &File, cred: &Credentials, bytes: usize) -> Result<usize> {
    file.private::<Pipe>().ok_or(Errno::EBADF)?.set_size(bytes, cred)
}

/// `F_GETPIPE_SZ`.
pub fn pipe_size(file: &File) -> Result<usize> {
    Ok(file.private::<Pipe>().ok_or(Errno::EBADF)?.size())
}

/// `F_ADD_SEALS`.
pub fn add_seals(file: &File, seals: u32) -> Result<()> {
    file.want_write().map_err(|_| Errno::EPERM)?;
    file.ops().add_seals(file, seals)
}

/// `F_GET_SEALS`.
pub fn get_seals(file: &File) -> Result<u32> {
    file.ops().get_seals(file)
}
