//! Extended attributes: `xattr(7)`.

use alloc::vec::Vec;

use abi::{Errno, Result};
use macros::syscall;
use mm::user::{UserSlice, UserStr};
use vfs::fdtable::Fd;
use vfs::namei::{At, LookupFlags, path_lookup};
use vfs::path::Path;
use vfs::xattr;

use super::context::Caller;
use crate::syscall::Syscall;

/// The longest name, its NUL included.
const NAME_MAX: usize = 256;
/// The largest value.
const SIZE_MAX: usize = 65536;

/// Reads the name of an attribute.
///
/// # Errors
/// `ERANGE`, `EFAULT`.
pub fn name(user: UserStr) -> Result<Vec<u8>> {
    let name = user.read(NAME_MAX, Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

fn by_name<R>(user: UserStr, lookup: LookupFlags, f: impl FnOnce(&Caller, &Path) -> Result<R>) -> Result<R> {
    let text = user.read_path()?;
    let caller = Caller::current()?;
    let path = path_lookup(&caller.ctx(), At::Cwd, &text, lookup)?;
    f(&caller, &path)
}

fn by_fd<R>(fd: Fd, f: impl FnOnce(&Caller, &Path) -> Result<R>) -> Result<R> {
    let file = super::context::file(fd)?;
    f(&Caller::current()?, file.path())
}

/// Hands out a value or list: the size alone when the user gave no room.
///
/// # Errors
/// `ERANGE`: the room is too small; `EFAULT`.
pub fn put(value: &[u8], buf: usize, size: usize) -> Result<usize> {
    if size == 0 {
        return Ok(value.len());
    }
    if value.len() > size {
        return Err(Errno::ERANGE);
    }
    UserSlice::<u8>::new(buf, value.len()).copy_from(value)?;
    Ok(value.len())
}

fn set(caller: &Caller, path: &Path, key: UserStr, value: usize, size: usize, flags: u32) -> Result<()> {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    let key = name(key)?;
    let value = read_value(value, size, flags)?;
    xattr::setxattr(caller.cred(), path, &key, &value, flags)
}

/// Reads the value of an attribute to be set.
///
/// # Errors
/// `EINVAL` for unknown flags, `E2BIG`, `EFAULT`.
pub fn read_value(value: usize, size: usize, flags: u32) -> Result<Vec<u8>> {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    if size > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    UserSlice::<u8>::new(value, size).to_vec()
}

fn get(caller: &Caller, path: &Path, key: UserStr, buf: usize, size: usize) -> Result<usize> {
    put(&xattr::getxattr(caller.cred(), path, &name(key)?)?, buf, size)
}

fn list(caller: &Caller, path: &Path, buf: usize, size: usize) -> Result<usize> {
    put(&xattr::listxattr(caller.cred(), path)?, buf, size)
}

fn remove(caller: &Caller, path: &Path, key: UserStr) -> Result<()> {
    xattr::removexattr(caller.cred(), path, &name(key)?)
}

const FOLLOW: LookupFlags = LookupFlags::FOLLOW;
const NOFOLLOW: LookupFlags = LookupFlags::empty();

#[syscall(setxattr)]
fn sys_setxattr(path: UserStr, key: UserStr, value: usize, size: usize, flags: u32) -> Result<()> {
    by_name(path, FOLLOW, |caller, path| set(caller, path, key, value, size, flags))
}

#[syscall(lsetxattr)]
fn sys_lsetxattr(path: UserStr, key: UserStr, value: usize, size: usize, flags: u32) -> Result<()> {
    by_name(path, NOFOLLOW, |caller, path| set(caller, path, key, value, size, flags))
}

#[syscall(fsetxattr)]
fn sys_fsetxattr(fd: Fd, key: UserStr, value: usize, size: usize, flags: u32) -> Result<()> {
    by_fd(fd, |caller, path| set(caller, path, key, value, size, flags))
}

#[syscall(getxattr)]
fn sys_getxattr(path: UserStr, key: UserStr, buf: usize, size: usize) -> Result<usize> {
    by_name(path, FOLLOW, |caller, path| get(caller, path, key, buf, size))
}

#[syscall(lgetxattr)]
fn sys_lgetxattr(path: UserStr, key: UserStr, buf: usize, size: usize) -> Result<usize> {
    by_name(path, NOFOLLOW, |caller, path| get(caller, path, key, buf, size))
}

#[syscall(fgetxattr)]
fn sys_fgetxattr(fd: Fd, key: UserStr, buf: usize, size: usize) -> Result<usize> {
    by_fd(fd, |caller, path| get(caller, path, key, buf, size))
}

#[syscall(listxattr)]
fn sys_listxattr(path: UserStr, buf: usize, size: usize) -> Result<usize> {
    by_name(path, FOLLOW, |caller, path| list(caller, path, buf, size))
}

#[syscall(llistxattr)]
fn sys_llistxattr(path: UserStr, buf: usize, size: usize) -> Result<usize> {
    by_name(path, NOFOLLOW, |caller, path| list(caller, path, buf, size))
}

#[syscall(flistxattr)]
fn sys_flistxattr(fd: Fd, buf: usize, size: usize) -> Result<usize> {
    by_fd(fd, |caller, path| list(caller, path, buf, size))
}

#[syscall(removexattr)]
fn sys_removexattr(path: UserStr, key: UserStr) -> Result<()> {
    by_name(path, FOLLOW, |caller, path| remove(caller, path, key))
}

#[syscall(lremovexattr)]
fn sys_lremovexattr(path: UserStr, key: UserStr) -> Result<()> {
    by_name(path, NOFOLLOW, |caller, path| remove(caller, path, key))
}

#[syscall(fremovexattr)]
fn sys_fremovexattr(fd: Fd, key: UserStr) -> Result<()> {
    by_fd(fd, |caller, path| remove(caller, path, key))
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[
    SETXATTR,
    LSETXATTR,
    FSETXATTR,
    GETXATTR,
    LGETXATTR,
    FGETXATTR,
    LISTXATTR,
    LLISTXATTR,
    FLISTXATTR,
    REMOVEXATTR,
    LREMOVEXATTR,
    FREMOVEXATTR,
];
