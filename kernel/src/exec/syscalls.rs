//! execve(2), execveat(2).

use super::args::{Strings, Vectors};
use super::{Program, exec};
use crate::process::current;
use crate::syscall::{Fd, Syscall};
use abi::{Errno, Result, raw};
use arch::trap::TrapFrame;
use mm::user::UserStr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[EXECVE, EXECVEAT];

#[macros::syscall(execve)]
fn sys_execve(frame: &mut TrapFrame, path: usize, argv: usize, envp: usize) -> Result<isize> {
    execveat(frame, raw::AT_FDCWD, UserStr::new(path), argv, envp, 0)
}

#[macros::syscall(execveat)]
fn sys_execveat(
    frame: &mut TrapFrame,
    dirfd: Fd,
    path: usize,
    argv: usize,
    envp: usize,
    flags: u32,
) -> Result<isize> {
    execveat(frame, dirfd.0, UserStr::new(path), argv, envp, flags)
}

fn execveat(
    frame: &mut TrapFrame,
    dirfd: i32,
    path: UserStr,
    argv: usize,
    envp: usize,
    flags: u32,
) -> Result<isize> {
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path.read_path()?;
    crate::cred::check_nproc_at_exec(&current())?;
    let program = Program::open(dirfd, &path, flags)?;
    let limits = super::args::Limits::of_current();
    let argv = Strings::from_user(argv, &limits)?;
    let envp = Strings::from_user(envp, &limits)?;
    exec(frame, program, Vectors::new(argv, envp, &limits)?)?;
    // The result register belongs to the new program now; it is what the loader put there.
    Ok(frame.return_value())
}
