//! madvise(2), mlock(2) and relatives, mincore(2), msync(2), mseal(2).

use super::space;
use crate::process::current;
use crate::syscall::Syscall;
use abi::{Errno, Result, raw};
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[MADVISE, MLOCK, MLOCK2, MUNLOCK, MLOCKALL, MUNLOCKALL, MINCORE, MSYNC, MSEAL];

/// As Linux without `CONFIG_KSM`, `CONFIG_MEMORY_FAILURE` and `CONFIG_TRANSPARENT_HUGEPAGE`: `MADV_MERGEABLE`, `MADV_HWPOISON`,
/// `MADV_COLLAPSE` and their relatives are `EINVAL`.
#[macros::syscall(madvise)]
fn sys_madvise(addr: usize, length: usize, advice: u32) -> Result<()> {
    space()?.madvise(addr, length, advice)
}

#[macros::syscall(mlock)]
fn sys_mlock(addr: usize, len: usize) -> Result<()> {
    space()?.mlock(addr, len, 0, &current().process.mm_limits())
}

#[macros::syscall(mlock2)]
fn sys_mlock2(addr: usize, len: usize, flags: u32) -> Result<()> {
    if flags & !raw::MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    space()?.mlock(addr, len, flags, &current().process.mm_limits())
}

#[macros::syscall(munlock)]
fn sys_munlock(addr: usize, len: usize) -> Result<()> {
    space()?.munlock(addr, len)
}

#[macros::syscall(mlockall)]
fn sys_mlockall(flags: u32) -> Result<()> {
    space()?.mlockall(flags, &current().process.mm_limits())
}

#[macros::syscall(munlockall)]
fn sys_munlockall() -> Result<()> {
    space()?.munlockall()
}

#[macros::syscall(mincore)]
fn sys_mincore(addr: usize, length: usize, vec: UserPtr<u8>) -> Result<()> {
    let mut at = vec;
    space()?.mincore(addr, length, &mut |bytes| {
        at.slice(bytes.len()).copy_from(bytes)?;
        at = at.add(bytes.len());
        Ok(())
    })
}

#[macros::syscall(msync)]
fn sys_msync(addr: usize, length: usize, flags: u32) -> Result<()> {
    space()?.msync(addr, length, flags)
}

#[macros::syscall(mseal)]
fn sys_mseal(addr: usize, len: usize, flags: usize) -> Result<()> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    space()?.mseal(addr, len)
}
