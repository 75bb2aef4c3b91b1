//! Watching files: `inotify(7)`, `fanotify(7)`.

use alloc::sync::Arc;

use abi::{Errno, Result, fanotify as fan, raw};
use macros::syscall;
use mm::user::UserStr;
use vfs::cred::Credentials;
use vfs::fanotify::{self, Actor, Host, Target, Who};
use vfs::fdtable::{Fd, FdTable};
use vfs::file::File;
use vfs::inotify;

use super::context::{Caller, DirFd, at, file, files, install, nofile, path};
use crate::process::{Pid, current};
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
    inotify::check_mask(mask)?;
    let file = file(fd)?;
    let name = path(name)?;
    inotify::add_watch(&Caller::current()?.ctx(), &file, &name, mask)
}

#[syscall(inotify_rm_watch)]
fn sys_inotify_rm_watch(fd: Fd, wd: i32) -> Result<()> {
    inotify::rm_watch(&*file(fd)?, wd)
}

#[syscall(fanotify_init)]
fn sys_fanotify_init(flags: u32, event_f_flags: u32) -> Result<Fd> {
    let group = fanotify::fanotify_init(Caller::current()?.cred(), flags, event_f_flags)?;
    install(group, flags & fan::init::CLOEXEC != 0)
}

#[syscall(fanotify_mark)]
fn sys_fanotify_mark(fd: Fd, flags: u32, mask: u64, dirfd: DirFd, name: UserStr) -> Result<()> {
    fanotify::check_arguments(flags, mask)?;
    let group = file(fd)?;
    let mask = mask as u32;
    let caller = Caller::current()?;
    let mark = |target: Target<'_>| fanotify::fanotify_mark(&caller.ctx(), &group, flags, mask, target);
    if flags & fan::mark::FLUSH != 0 {
        // Names nothing; the working directory will not be looked at.
        return mark(Target::Place(&caller.fs().cwd()?));
    }
    if name.addr() == 0 {
        let place = file(Fd::from_raw(dirfd.0)?)?;
        return mark(Target::Place(place.path()));
    }
    let name = path(name)?;
    at(dirfd, &name, |_, start| mark(Target::Name(start, &name)))
}

/// What fanotify wants to know of processes.
pub struct FanotifyHost;

fn pid_of(who: &Who) -> Option<Arc<Pid>> {
    who.clone().downcast::<Pid>().ok()
}

impl Host for FanotifyHost {
    fn acting(&self, kind: Actor) -> Option<Who> {
        let me = current();
        Some(match kind {
            Actor::Process => me.process.pid.clone(),
            Actor::Thread => me.pid(),
        })
    }

    fn number(&self, who: &Who) -> i32 {
        pid_of(who).map_or(0, |pid| pid.nr_in(&current().pid_ns()))
    }

    fn pidfd(&self, who: &Who) -> Result<Arc<File>> {
        let pid = pid_of(who).ok_or(Errno::ESRCH)?;
        crate::pidfd::for_process(&pid)
    }

    fn files(&self) -> Result<(Arc<FdTable>, u64)> {
        Ok((files()?, nofile()))
    }

    fn cred(&self) -> Arc<Credentials> {
        current().cred()
    }
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[INOTIFY_INIT1, INOTIFY_INIT, INOTIFY_ADD_WATCH, INOTIFY_RM_WATCH, FANOTIFY_INIT, FANOTIFY_MARK];
