//! pkey_alloc(2), pkey_free(2), pkey_mprotect(2) on processors whose protection keys are not in use: there is no key to be had, and
//! no key (-1) is all that `pkey_mprotect` knows.

use super::space;
use crate::process::current;
use crate::syscall::Syscall;
use abi::{Errno, Result};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[PKEY_ALLOC, PKEY_FREE, PKEY_MPROTECT];

/// `PKEY_DISABLE_ACCESS | PKEY_DISABLE_WRITE`.
const ACCESS_MASK: usize = 3;

#[macros::syscall(pkey_alloc)]
fn sys_pkey_alloc(flags: usize, access_rights: usize) -> Result<i32> {
    if flags != 0 || access_rights & !ACCESS_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    Err(Errno::ENOSPC)
}

#[macros::syscall(pkey_free)]
fn sys_pkey_free(_pkey: i32) -> Result<()> {
    Err(Errno::EINVAL)
}

#[macros::syscall(pkey_mprotect)]
fn sys_pkey_mprotect(addr: usize, len: usize, prot: u32, pkey: i32) -> Result<()> {
    // Without a length there is nothing to refuse.
    if pkey != -1 && len != 0 {
        return Err(Errno::EINVAL);
    }
    space()?.mprotect(addr, len, super::map::with_personality(prot), &current().process.mm_limits())
}
