//! Calls that open and close files: `open(2)`, `openat2(2)`, `close(2)`, `close_range(2)`, `memfd_create(2)`.

use abi::fs::OpenHow;
use abi::{Errno, Result, raw};
use macros::syscall;
use mm::user::{UserPtr, UserStr, copy_struct_from_user};
use tmpfs::memfd;
use vfs::fdtable::Fd;
use vfs::namei::{self, At, OpenArgs};
use vfs::path::LookupContext;

use super::context::{Caller, DirFd, at, at_dir, fd_flags, files, install, nofile, path};
use crate::process::current;
use crate::syscall::Syscall;

fn open(dirfd: DirFd, name: UserStr, args: &OpenArgs, cloexec: bool) -> Result<Fd> {
    let name = path(name)?;
    let files = files()?;
    let slot = files.reserve(nofile(), fd_flags(cloexec))?;
    let open = |ctx: &LookupContext<'_>, at: At<'_>| namei::open(ctx, at, &name, args);
    // A scoped walk starts at the directory even if the name is absolute.
    let file = if args.resolve.is_scoped() { at_dir(dirfd, open)? } else { at(dirfd, &name, open)? };
    Ok(slot.install(file))
}

#[syscall(openat)]
fn sys_openat(dirfd: DirFd, name: UserStr, flags: u32, mode: u32) -> Result<Fd> {
    // A 64-bit system has no other files.
    open(dirfd, name, &OpenArgs::from_open(flags | raw::O_LARGEFILE, mode)?, flags & raw::O_CLOEXEC != 0)
}

#[syscall(open)]
fn sys_open(name: UserStr, flags: u32, mode: u32) -> Result<Fd> {
    sys_openat(DirFd::CWD, name, flags, mode)
}

#[syscall(creat)]
fn sys_creat(name: UserStr, mode: u32) -> Result<Fd> {
    sys_openat(DirFd::CWD, name, raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC, mode)
}

#[syscall(openat2)]
fn sys_openat2(dirfd: DirFd, name: UserStr, how: UserPtr<OpenHow>, size: usize) -> Result<Fd> {
    if size < size_of::<OpenHow>() {
        return Err(Errno::EINVAL);
    }
    let how: OpenHow = copy_struct_from_user(how, size)?;
    open(dirfd, name, &OpenArgs::from_how(&how)?, how.flags & u64::from(raw::O_CLOEXEC) != 0)
}

#[syscall(close)]
fn sys_close(fd: Fd) -> Result<()> {
    files()?.close(fd)
}

#[syscall(close_range)]
fn sys_close_range(first: u32, last: u32, flags: u32) -> Result<()> {
    const UNSHARE: u32 = 1 << 1;
    const CLOEXEC: u32 = 1 << 2;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        crate::process::unshare_files()?;
    }
    let files = files()?;
    if flags & CLOEXEC != 0 {
        return files.cloexec_range(first, last);
    }
    files.close_range(first, last);
    Ok(())
}

#[syscall(memfd_create)]
fn sys_memfd_create(name: UserStr, flags: u32) -> Result<Fd> {
    const CLOEXEC: u32 = 1;
    let flags = memfd::check_flags(flags, current().pid_ns().memfd_noexec())?;
    let name = name.read(memfd::NAME_LIMIT + 1, Errno::EINVAL)?;
    let file = memfd::memfd_create(Caller::current()?.cred(), &name, flags)?;
    install(file, flags & CLOEXEC != 0)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[OPENAT, OPEN, CREAT, OPENAT2, CLOSE, CLOSE_RANGE, MEMFD_CREATE];
