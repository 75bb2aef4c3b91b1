//! Watching files: `inotify(7)`.

use abi::{Result, raw};
use macros::syscall;
use mm::user::UserStr;
use vfs::fdtable::Fd;
use vfs::inotify;

use super::context::{Caller, file, install, path};
use crate::syscall::Syscall;

#[syscall(inotify_init1)]
fn sys_inotify_init1(flags: u32) -> Result<Fd> {
    install(inotify::inotify_init(Caller::current()?.cred(), flags)?, flags & raw::IN_CLOEXEC != 0)
}

#[syscall(inotify_init)]
fn sys_inotify_init() -> Result<Fd> {
    sys_inotify_init1(0)
}

#[syscall(inotify_add_watch)]
fn sys_inotify_add_watch(fd: Fd, name: UserStr, mask: u32) -> Result<i32> {
    let file = file(fd)?;
    let name = path(name)?;
    inotify::add_watch(&Caller::current()?.ctx(), &file, &name, mask)
}

#[syscall(inotify_rm_watch)]
fn sys_inotify_rm_watch(fd: Fd, wd: i32) -> Result<()> {
    inotify::rm_watch(&*file(fd)?, wd)
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[INOTIFY_INIT1, INOTIFY_INIT, INOTIFY_ADD_WATCH, INOTIFY_RM_WATCH];
