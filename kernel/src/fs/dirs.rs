//! Directories: `chdir(2)`, `chroot(2)`, `getcwd(2)`, `getdents(2)`, `umask(2)`.

use abi::{Errno, Result};
use macros::syscall;
use mm::IovIter;
use mm::fallible::TryVec;
use mm::iov::Direction;
use mm::user::{UserSlice, UserStr};
use vfs::dir::{self, Layout};
use vfs::fdtable::Fd;
use vfs::namei;

use super::context::{Caller, file, file_raw, path};
use crate::syscall::Syscall;

#[syscall(chdir)]
fn sys_chdir(name: UserStr) -> Result<()> {
    let name = path(name)?;
    namei::chdir(&Caller::current()?.ctx(), &name)
}

#[syscall(fchdir)]
fn sys_fchdir(fd: Fd) -> Result<()> {
    let file = file_raw(fd)?;
    namei::fchdir(&Caller::current()?.ctx(), &file)
}

#[syscall(chroot)]
fn sys_chroot(name: UserStr) -> Result<()> {
    let name = path(name)?;
    namei::chroot(&Caller::current()?.ctx(), &name)
}

#[syscall(getcwd)]
fn sys_getcwd(buf: usize, size: usize) -> Result<usize> {
    let mut name = vfs::path::getcwd(&Caller::current()?.ctx())?;
    name.try_push(0)?;
    if name.len() > vfs::types::PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if name.len() > size {
        return Err(Errno::ERANGE);
    }
    UserSlice::<u8>::new(buf, name.len()).copy_from(&name)?;
    Ok(name.len())
}

#[syscall(umask)]
fn sys_umask(mask: u32) -> Result<u32> {
    Ok(Caller::current()?.fs().set_umask(mask))
}

#[syscall(getdents64)]
fn sys_getdents64(fd: Fd, buf: usize, size: u32) -> Result<usize> {
    let file = file(fd)?;
    let mut out = IovIter::user(Direction::Dest, buf, size as usize)?;
    dir::getdents(&file, &mut out, Layout::TypeBeforeName)
}

#[syscall(getdents)]
fn sys_getdents(fd: Fd, buf: usize, size: u32) -> Result<usize> {
    let file = file(fd)?;
    let mut out = IovIter::user(Direction::Dest, buf, size as usize)?;
    dir::getdents(&file, &mut out, Layout::TypeLast)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[CHDIR, FCHDIR, CHROOT, GETCWD, UMASK, GETDENTS64, GETDENTS];
