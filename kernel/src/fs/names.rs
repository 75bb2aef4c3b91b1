//! Calls that make and remove names: `mkdir(2)`, `mknod(2)`, `link(2)`, `symlink(2)`, `unlink(2)`,
//! `rmdir(2)`, `rename(2)`, `readlink(2)`.

use abi::fs::DevId;
use abi::{Errno, Result, raw};
use macros::syscall;
use mm::user::{UserSlice, UserStr};
use vfs::namei;

use super::context::{DirFd, at, path};
use crate::syscall::Syscall;

#[syscall(mkdirat)]
fn sys_mkdirat(dirfd: DirFd, name: UserStr, mode: u32) -> Result<()> {
    let name = path(name)?;
    at(dirfd, &name, |ctx, at| namei::mkdir(ctx, at, &name, mode).map(drop))
}

#[syscall(mkdir)]
fn sys_mkdir(name: UserStr, mode: u32) -> Result<()> {
    sys_mkdirat(DirFd::CWD, name, mode)
}

#[syscall(mknodat)]
fn sys_mknodat(dirfd: DirFd, name: UserStr, mode: u32, dev: u32) -> Result<()> {
    let name = path(name)?;
    at(dirfd, &name, |ctx, at| namei::mknod(ctx, at, &name, mode, DevId::decode(dev)).map(drop))
}

#[syscall(mknod)]
fn sys_mknod(name: UserStr, mode: u32, dev: u32) -> Result<()> {
    sys_mknodat(DirFd::CWD, name, mode, dev)
}

#[syscall(symlinkat)]
fn sys_symlinkat(target: UserStr, dirfd: DirFd, name: UserStr) -> Result<()> {
    let target = path(target)?;
    let name = path(name)?;
    at(dirfd, &name, |ctx, at| namei::symlink(ctx, &target, at, &name).map(drop))
}

#[syscall(symlink)]
fn sys_symlink(target: UserStr, name: UserStr) -> Result<()> {
    sys_symlinkat(target, DirFd::CWD, name)
}

#[syscall(linkat)]
fn sys_linkat(old_dir: DirFd, old: UserStr, new_dir: DirFd, new: UserStr, flags: u32) -> Result<()> {
    if flags & !(raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let old = path(old)?;
    let new = path(new)?;
    at(old_dir, &old, |ctx, old_at| {
        at(new_dir, &new, |_, new_at| namei::link(ctx, old_at, &old, new_at, &new, flags).map(drop))
    })
}

#[syscall(link)]
fn sys_link(old: UserStr, new: UserStr) -> Result<()> {
    sys_linkat(DirFd::CWD, old, DirFd::CWD, new, 0)
}

#[syscall(unlinkat)]
fn sys_unlinkat(dirfd: DirFd, name: UserStr, flags: u32) -> Result<()> {
    if flags & !raw::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let name = path(name)?;
    at(dirfd, &name, |ctx, at| match flags {
        0 => namei::unlink(ctx, at, &name),
        _ => namei::rmdir(ctx, at, &name),
    })
}

#[syscall(unlink)]
fn sys_unlink(name: UserStr) -> Result<()> {
    sys_unlinkat(DirFd::CWD, name, 0)
}

#[syscall(rmdir)]
fn sys_rmdir(name: UserStr) -> Result<()> {
    sys_unlinkat(DirFd::CWD, name, raw::AT_REMOVEDIR)
}

#[syscall(renameat2)]
fn sys_renameat2(old_dir: DirFd, old: UserStr, new_dir: DirFd, new: UserStr, flags: u32) -> Result<()> {
    let old = path(old)?;
    let new = path(new)?;
    at(old_dir, &old, |ctx, old_at| {
        at(new_dir, &new, |_, new_at| namei::rename(ctx, old_at, &old, new_at, &new, flags))
    })
}

#[syscall(renameat)]
fn sys_renameat(old_dir: DirFd, old: UserStr, new_dir: DirFd, new: UserStr) -> Result<()> {
    sys_renameat2(old_dir, old, new_dir, new, 0)
}

#[syscall(rename)]
fn sys_rename(old: UserStr, new: UserStr) -> Result<()> {
    sys_renameat2(DirFd::CWD, old, DirFd::CWD, new, 0)
}

#[syscall(readlinkat)]
fn sys_readlinkat(dirfd: DirFd, name: UserStr, buf: usize, size: i32) -> Result<usize> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    let name = path(name)?;
    let target = at(dirfd, &name, |ctx, at| namei::readlink(ctx, at, &name))?;
    let count = target.len().min(size as usize);
    UserSlice::<u8>::new(buf, count).copy_from(target.get(..count).unwrap_or_default())?;
    Ok(count)
}

#[syscall(readlink)]
fn sys_readlink(name: UserStr, buf: usize, size: i32) -> Result<usize> {
    sys_readlinkat(DirFd::CWD, name, buf, size)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[
    MKDIRAT, MKDIR, MKNODAT, MKNOD, SYMLINKAT, SYMLINK, LINKAT, LINK, UNLINKAT, UNLINK, RMDIR, RENAMEAT2,
    RENAMEAT, RENAME, READLINKAT, READLINK,
];
