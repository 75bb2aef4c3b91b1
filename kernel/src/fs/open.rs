//! Calls that open and close files: `open(2)`, `openat2(2)`, `close(2)`, `close_range(2)`, `memfd_create(2)`.

use abi::fs::OpenHow;
use abi::{Errno, Result, raw};
use macros::syscall;
use mm::user::{UserStr, copy_struct_from_user};
use vfs::namei::{self, OpenArgs};

use super::context::{at, path};
use crate::process::{Resource, current};
use crate::syscall::{Fd, Syscall};

/// `AT_FDCWD` as a descriptor.
const CWD: Fd = Fd(raw::AT_FDCWD);

fn open(dirfd: Fd, name: UserStr, args: &OpenArgs, cloexec: bool) -> Result<Fd> {
    let name = path(name)?;
    let thread = current();
    let files = thread.files().ok_or(Errno::EMFILE)?;
    let slot = files.reserve(0, thread.process.limits.cur(Resource::Nofile), cloexec)?;
    let file = at(dirfd, &name, |ctx, at| namei::open(ctx, at, &name, args))?;
    Ok(Fd(slot.install(file)))
}

#[syscall(openat)]
fn sys_openat(dirfd: Fd, name: UserStr, flags: u32, mode: u32) -> Result<Fd> {
    open(dirfd, name, &OpenArgs::from_open(flags, mode)?, flags & raw::O_CLOEXEC != 0)
}

#[syscall(open)]
fn sys_open(name: UserStr, flags: u32, mode: u32) -> Result<Fd> {
    sys_openat(CWD, name, flags, mode)
}

#[syscall(creat)]
fn sys_creat(name: UserStr, mode: u32) -> Result<Fd> {
    sys_openat(CWD, name, raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC, mode)
}

#[syscall(openat2)]
fn sys_openat2(dirfd: Fd, name: UserStr, how: usize, size: usize) -> Result<Fd> {
    if size < size_of::<OpenHow>() {
        return Err(Errno::EINVAL);
    }
    let how: OpenHow = copy_struct_from_user(how, size)?;
    open(dirfd, name, &OpenArgs::from_how(&how)?, how.flags & u64::from(raw::O_CLOEXEC) != 0)
}

#[syscall(close)]
fn sys_close(fd: Fd) -> Result<()> {
    current().files().ok_or(Errno::EBADF)?.close(fd.0)
}

#[syscall(close_range)]
fn sys_close_range(first: u32, last: u32, flags: u32) -> Result<()> {
    const UNSHARE: u32 = raw::CLOSE_RANGE_UNSHARE;
    const CLOEXEC: u32 = raw::CLOSE_RANGE_CLOEXEC;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    let thread = current();
    if flags & UNSHARE != 0 {
        thread.unshare_files()?;
    }
    let files = thread.files().ok_or(Errno::EBADF)?;
    if flags & CLOEXEC != 0 {
        files.set_cloexec_range(first, last);
    } else {
        files.close_range(first, last);
    }
    Ok(())
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[OPENAT, OPEN, CREAT, OPENAT2, CLOSE, CLOSE_RANGE];
