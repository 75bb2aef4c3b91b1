//! Descriptors and what belongs to open files: `dup(2)`, `fcntl(2)`, `flock(2)`.

use alloc::sync::Arc;

use abi::fs::{FOwnerEx, Flock};
use abi::{Errno, Result, raw};
use macros::syscall;
use mm::user::UserPtr;
use vfs::fcntl;
use vfs::fdtable::{Fd, FdFlags};
use vfs::file::{File, FileMode};
use vfs::lock::flock::{IfBusy, flock};
use vfs::lock::{LockKind, posix};

use super::context::{fd_flags, file, file_raw, files, nofile};
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
    matches!(cmd, raw::F_DUPFD | raw::F_DUPFD_CLOEXEC | raw::F_GETFD | raw::F_SETFD | raw::F_GETFL)
}

/// Missing: leases (`F_SETLEASE`), `F_NOTIFY`, hints (`F_GET_RW_HINT` and relatives).
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
        raw::F_SETFL => fcntl::setfl(&file, &current().cred(), arg as u32)?,
        raw::F_GETLK
        | raw::F_SETLK
        | raw::F_SETLKW
        | raw::F_OFD_GETLK
        | raw::F_OFD_SETLK
        | raw::F_OFD_SETLKW => {
            record_lock(&file, cmd, arg)?;
        }
        raw::F_GETOWN => return Ok(file.owner().map_or(0, |owner| owner.pid as isize)),
        raw::F_SETOWN => set_owner(&file, arg as i32)?,
        raw::F_GETOWN_EX => {
            let owner = file.owner().unwrap_or_default();
            let ex = FOwnerEx { type_: owner.kind as i32, pid: owner.pid.abs() };
            UserPtr::<FOwnerEx>::new(arg).write(&ex)?;
        }
        raw::F_SETOWN_EX => {
            let ex = UserPtr::<FOwnerEx>::new(arg).read()?;
            set_owner_ex(&file, ex.type_ as u32, ex.pid)?;
        }
        raw::F_GETSIG => return Ok(file.owner().map_or(0, |owner| owner.signal as isize)),
        raw::F_SETSIG => {
            let signal =
                i32::try_from(arg).ok().filter(|signal| (0..=64).contains(signal)).ok_or(Errno::EINVAL)?;
            file.update_owner(|owner| owner.signal = signal);
        }
        raw::F_GETPIPE_SZ => return fcntl::pipe_size(&file).map(|size| size as isize),
        raw::F_SETPIPE_SZ => {
            return fcntl::set_pipe_size(&file, &current().cred(), arg).map(|size| size as isize);
        }
        raw::F_GET_SEALS => return fcntl::get_seals(&file).map(|seals| seals as isize),
        raw::F_ADD_SEALS => fcntl::add_seals(&file, arg as u32)?,
        raw::F_GETLEASE => return Ok(raw::F_UNLCK as isize),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `F_SETOWN`: a positive number is a process, a negative one a group.
fn set_owner(file: &Arc<File>, pid: i32) -> Result<()> {
    match pid {
        0.. => set_owner_ex(file, raw::F_OWNER_PID, pid),
        i32::MIN => Err(Errno::EINVAL),
        _ => set_owner_ex(file, raw::F_OWNER_PGRP, -pid),
    }
}

fn set_owner_ex(file: &Arc<File>, kind: u32, pid: i32) -> Result<()> {
    if !matches!(kind, raw::F_OWNER_TID | raw::F_OWNER_PID | raw::F_OWNER_PGRP) {
        return Err(Errno::EINVAL);
    }
    let target = match pid {
        0 => None,
        _ => Some(current().pid_ns().find(pid).ok_or(Errno::ESRCH)?),
    };
    let (uid, euid) = current().with_cred(|cred| (cred.uid.0, cred.euid.0));
    file.update_owner(|owner| {
        owner.kind = kind;
        owner.target = target.map(|pid| pid as Arc<dyn core::any::Any + Send + Sync>);
        owner.pid = if kind == raw::F_OWNER_PGRP { -pid } else { pid };
        owner.uid = uid;
        owner.euid = euid;
    });
    Ok(())
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
