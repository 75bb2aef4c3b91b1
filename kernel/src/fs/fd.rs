//! Descriptors and what belongs to open files: `dup(2)`, `fcntl(2)`, `flock(2)`.

use alloc::sync::Arc;

use abi::fs::Flock;
use abi::{Errno, Result, raw};
use macros::syscall;
use mm::user::UserPtr;
use vfs::fdtable::{Fd, FdFlags};
use vfs::file::{File, FileMode};
use vfs::lock::flock::{IfBusy, flock};
use vfs::lock::{LockKind, lease, posix};
use vfs::{dnotify, fcntl};

use super::context::{fd_flags, file, file_raw, files, nofile};
use super::owner;
use crate::process::{current, init_pid_ns};
use crate::syscall::Syscall;

#[syscall(dup)]
fn sys_dup(fd: Fd) -> Result<Fd> {
    files()?.dup(fd, nofile())
}

#[syscall(dup2)]
fn sys_dup2(from: Fd, to: Fd) -> Result<Fd> {
    if from == to {
        file_raw(from)?;
        return Ok(to);
    }
    files()?.dup_to(from, to, nofile(), FdFlags::empty())
}

#[syscall(dup3)]
fn sys_dup3(from: Fd, to: Fd, flags: u32) -> Result<Fd> {
    if flags & !raw::O_CLOEXEC != 0 || from == to {
        return Err(Errno::EINVAL);
    }
    files()?.dup_to(from, to, nofile(), fd_flags(flags & raw::O_CLOEXEC != 0))
}

fn dup_from(fd: Fd, from: usize, cloexec: bool) -> Result<Fd> {
    let from = u32::try_from(from).map_err(|_| Errno::EINVAL)?;
    if u64::from(from) >= nofile() {
        return Err(Errno::EINVAL);
    }
    files()?.dup_from(fd, from, nofile(), fd_flags(cloexec))
}

/// The number of process `global` in the caller's namespace; 0 if it is not visible there.
fn seen(global: i32) -> i32 {
    if global <= 0 {
        return global;
    }
    init_pid_ns().find(global).map_or(0, |pid| pid.nr_in(&current().pid_ns()))
}

/// Record locks: `F_GETLK` and its five relatives.
fn record_lock(file: &Arc<File>, cmd: u32, arg: usize) -> Result<()> {
    let user = UserPtr::<Flock>::new(arg);
    let mut lock = user.read()?;
    let ofd = matches!(cmd, raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW);
    if ofd && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = posix::owner_for(file, files()?.posix_owner(), ofd);
    if matches!(cmd, raw::F_GETLK | raw::F_OFD_GETLK) {
        posix::getlk(file, owner, &mut lock)?;
        if lock.type_ as u32 != raw::F_UNLCK {
            lock.pid = seen(lock.pid);
        }
        return user.write(&lock);
    }
    let wait = matches!(cmd, raw::F_SETLKW | raw::F_OFD_SETLKW);
    let pid = if ofd { -1 } else { current().process.pid.global() };
    posix::setlk(file, owner, &lock, if wait { IfBusy::Wait } else { IfBusy::Fail }, pid)
}

/// What works on a file opened with `O_PATH`.
fn allowed_on_path(cmd: u32) -> bool {
    matches!(
        cmd,
        raw::F_DUPFD
            | raw::F_DUPFD_CLOEXEC
            | raw::F_DUPFD_QUERY
            | raw::F_CREATED_QUERY
            | raw::F_GETFD
            | raw::F_SETFD
            | raw::F_GETFL
    )
}

#[syscall(fcntl)]
fn sys_fcntl(fd: Fd, cmd: u32, arg: usize) -> Result<isize> {
    let file = file_raw(fd)?;
    if file.mode().contains(FileMode::PATH) && !allowed_on_path(cmd) {
        return Err(Errno::EBADF);
    }
    match cmd {
        raw::F_DUPFD => return dup_from(fd, arg, false).map(|fd| fd.raw() as isize),
        raw::F_DUPFD_CLOEXEC => return dup_from(fd, arg, true).map(|fd| fd.raw() as isize),
        raw::F_GETFD => return Ok(files()?.flags(fd)?.bits() as isize),
        raw::F_SETFD => files()?.set_flags(fd, FdFlags::from_bits_truncate(arg as u32))?,
        raw::F_GETFL => return Ok(file.flags() as isize),
        raw::F_SETFL => fcntl::setfl(&file, fd.raw(), &current().cred(), arg as u32)?,
        raw::F_GETLK
        | raw::F_SETLK
        | raw::F_SETLKW
        | raw::F_OFD_GETLK
        | raw::F_OFD_SETLK
        | raw::F_OFD_SETLKW => {
            record_lock(&file, cmd, arg)?;
        }
        raw::F_GETOWN
        | raw::F_SETOWN
        | raw::F_GETOWN_EX
        | raw::F_SETOWN_EX
        | raw::F_GETSIG
        | raw::F_SETSIG
        | owner::F_GETOWNER_UIDS => return owner::fcntl(&file, cmd, arg),
        raw::F_GETPIPE_SZ => return fcntl::pipe_size(&file).map(|size| size as isize),
        raw::F_SETPIPE_SZ => {
            return fcntl::set_pipe_size(&file, &current().cred(), arg).map(|size| size as isize);
        }
        raw::F_GET_SEALS => return fcntl::get_seals(&file).map(|seals| seals as isize),
        raw::F_ADD_SEALS => fcntl::add_seals(&file, arg as u32)?,
        raw::F_GETLEASE => return Ok(lease::getlease(&file) as isize),
        raw::F_SETLEASE => {
            let pid = current().process.pid.global();
            fcntl::set_lease(&file, fd.raw(), &current().cred(), arg as u32, pid)?;
            if arg as u32 != raw::F_UNLCK {
                owner::assign_if_none(&file)?;
            }
        }
        raw::F_NOTIFY => {
            if arg as u32 & !raw::DN_MULTISHOT != 0 && file.inode().is_dir() {
                owner::assign_if_none(&file)?;
            }
            dnotify::notify(&file, fd.raw(), files()?.posix_owner(), arg as u32)?;
        }
        raw::F_GET_RW_HINT => UserPtr::<u64>::new(arg).write(&fcntl::rw_hint(&file))?,
        raw::F_SET_RW_HINT => fcntl::set_rw_hint(&file, UserPtr::<u64>::new(arg).read()?)?,
        raw::F_DUPFD_QUERY => {
            let other = Fd::from_raw(arg as i32).and_then(file_raw);
            return Ok(isize::from(other.is_ok_and(|other| Arc::ptr_eq(&other, &file))));
        }
        raw::F_CREATED_QUERY => return Ok(isize::from(file.mode().contains(FileMode::CREATED))),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

#[syscall(flock)]
fn sys_flock(fd: Fd, operation: u32) -> Result<()> {
    let busy = if operation & raw::LOCK_NB != 0 { IfBusy::Fail } else { IfBusy::Wait };
    let kind = match operation & !raw::LOCK_NB {
        raw::LOCK_SH => Some(LockKind::Read),
        raw::LOCK_EX => Some(LockKind::Write),
        raw::LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    flock(&*file(fd)?, kind, busy, current().process.pid.global())
}

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[DUP, DUP2, DUP3, FCNTL, FLOCK];
