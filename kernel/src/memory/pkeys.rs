//! pkey_alloc(2), pkey_free(2), pkey_mprotect(2): see [`mm::pkey`].

use super::space;
use crate::process::current;
use crate::syscall::Syscall;
use abi::{Errno, Result};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[PKEY_ALLOC, PKEY_FREE, PKEY_MPROTECT];

#[macros::syscall(pkey_alloc)]
fn sys_pkey_alloc(flags: usize, access_rights: usize) -> Result<i32> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    space()?.pkey_alloc(access_rights).map(i32::from)
}

#[macros::syscall(pkey_free)]
fn sys_pkey_free(pkey: i32) -> Result<()> {
    space()?.pkey_free(pkey)
}

#[macros::syscall(pkey_mprotect)]
fn sys_pkey_mprotect(addr: usize, len: usize, prot: u32, pkey: i32) -> Result<()> {
    let prot = super::map::with_personality(prot);
    space()?.pkey_mprotect(addr, len, prot, pkey, &current().process.mm_limits())
}
