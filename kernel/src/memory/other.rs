//! process_madvise(2), process_mrelease(2): another process's memory, by pidfd.

use crate::cred::access::may_inspect;
use crate::process::{Process, Thread, current, init_pid_ns};
use crate::syscall::{Fd, Syscall};
use abi::cap::Cap;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::layout::TASK_SIZE;
use mm::iov::import_remote_iovec;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[PROCESS_MADVISE, PROCESS_MRELEASE];

/// The process that a pidfd stands for.
///
/// # Errors
/// `EBADF`, `ESRCH`.
fn process_of(pidfd: Fd) -> Result<Arc<Process>> {
    let (pid, _) = crate::pidfd::pid_of(pidfd.0)?;
    match pid.process() {
        Some(process) => Ok(process),
        None => pid.task().and_then(|t| Some(t.data::<Thread>()?.process.clone())).ok_or(Errno::ESRCH),
    }
}

#[macros::syscall(process_madvise)]
fn sys_process_madvise(pidfd: Fd, vec: usize, vlen: usize, advice: u32, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let ranges = import_remote_iovec(vec, vlen)?;
    if ranges.iter().any(|r| r.base > TASK_SIZE || r.len > TASK_SIZE - r.base) {
        return Err(Errno::EFAULT);
    }
    let process = process_of(pidfd)?;
    // What others are told of their memory must not take anything away from them.
    if !matches!(advice, raw::MADV_COLD | raw::MADV_PAGEOUT | raw::MADV_WILLNEED | raw::MADV_COLLAPSE) {
        return Err(Errno::EINVAL);
    }
    let me = current();
    process
        .with_thread(|_, thread| may_inspect(&me, thread, Cap::SysPtrace))
        .ok_or(Errno::ESRCH)?
        .map_err(|_| Errno::EACCES)?;
    let space = process.mm().ok_or(Errno::ESRCH)?;
    if !me.with_cred(|cred| cred.capable(Cap::SysNice)) {
        return Err(Errno::EPERM);
    }
    let mut done = 0;
    for range in &ranges {
        match space.madvise(range.base, range.len, advice) {
            Ok(()) => done += range.len,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

#[macros::syscall(process_mrelease)]
fn sys_process_mrelease(pidfd: Fd, flags: u32) -> Result<()> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let process = process_of(pidfd)?;
    let space = process.mm().ok_or(Errno::ESRCH)?;
    let is_dying = |process: &Process| process.sig.lock().group_exit.is_some();
    // Whoever else has the memory must be dying as well.
    let sharers_die = || {
        init_pid_ns()
            .processes()
            .all(|other| is_dying(&other) || other.mm().is_none_or(|theirs| !Arc::ptr_eq(&theirs, &space)))
    };
    if is_dying(&process) && sharers_die() {
        space.reap();
        return Ok(());
    }
    if space.is_oom_reaped() { Ok(()) } else { Err(Errno::EINVAL) }
}
