//! `fcntl(2)`, the part that concerns the open file. Commands about the descriptor (`F_DUPFD`, `F_GETFD` …) are
//! [`crate::fdtable`]'s, those with a `struct flock` are [`crate::lock::posix`]'s; owners (`F_SETOWN`) are resolved by the
//! kernel, which knows processes.

use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::{Errno, Result, raw};

use crate::cred::Credentials;
use crate::file::File;
use crate::ioctl::set_async;
use crate::lock::{LockKind, lease};
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

/// `F_SETLEASE`: for the owner of a regular file.
///
/// # Errors
/// `EINVAL` for a kind that is none; `EACCES`; those of [`lease::setlease`].
pub fn set_lease(file: &File, fd: i32, cred: &Credentials, kind: u32, pid: i32) -> Result<()> {
    let kind = match kind {
        raw::F_RDLCK => Some(LockKind::Read),
        raw::F_WRLCK => Some(LockKind::Write),
        raw::F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    if file.inode().uid() != cred.fsuid && !cred.capable(Cap::Lease) {
        return Err(Errno::EACCES);
    }
    if !file.inode().is_regular() {
        return Err(Errno::EINVAL);
    }
    lease::setlease(file, fd, kind, pid)
}

/// `F_GET_RW_HINT`.
pub fn rw_hint(file: &File) -> u64 {
    u64::from(file.inode().write_hint.load(Ordering::Relaxed))
}

/// `F_SET_RW_HINT`.
///
/// # Errors
/// `EINVAL` for one that is none.
pub fn set_rw_hint(file: &File, hint: u64) -> Result<()> {
    if hint > u64::from(raw::RWH_WRITE_LIFE_EXTREME) {
        return Err(Errno::EINVAL);
    }
    file.inode().write_hint.store(hint as u8, Ordering::Relaxed);
    Ok(())
}
