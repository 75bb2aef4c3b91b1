//! The calls that take one operation each, with the size and scope of the word in their flags: futex_wait(2), futex_wake(2),
//! futex_requeue(2). (futex_waitv(2) has a file of its own.)

use super::syscalls::absolute;
use super::waitv::{read_words, scope_of};
use super::{requeue, wait, wake};
use crate::syscall::Syscall;
use abi::process::FutexWaitv;
use abi::time::Timespec;
use abi::{Errno, Result};
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[FUTEX_WAKE, FUTEX_WAIT, FUTEX_REQUEUE];

/// A value or mask for a word of 32 bits.
///
/// # Errors
/// `EINVAL`: it has more.
fn word(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

#[macros::syscall(futex_wake)]
fn sys_futex_wake(uaddr: usize, mask: usize, nr: i32, flags: u32) -> Result<usize> {
    let scope = scope_of(flags)?;
    let mask = word(mask)?;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    let key = super::Key::of(uaddr, scope)?;
    // Unlike FUTEX_WAKE, none means none.
    if nr == 0 {
        return Ok(0);
    }
    wake::wake_key(&key, nr.max(1) as usize, mask)
}

#[macros::syscall(futex_wait)]
fn sys_futex_wait(
    uaddr: usize,
    val: usize,
    mask: usize,
    flags: u32,
    timeout: UserPtr<Timespec>,
    clockid: i32,
) -> Result<()> {
    let scope = scope_of(flags)?;
    let (val, mask) = (word(val)?, word(mask)?);
    let deadline = match timeout.is_null() {
        true => None,
        false => {
            absolute(clockid, 0)?;
            Some(absolute(clockid, timeout.read()?.to_ns()?)?)
        }
    };
    wait::wait(uaddr, scope, val, deadline, mask)
}

#[macros::syscall(futex_requeue)]
fn sys_futex_requeue(
    waiters: UserPtr<FutexWaitv>,
    flags: u32,
    nr_wake: i32,
    nr_requeue: i32,
) -> Result<usize> {
    if flags != 0 || waiters.is_null() {
        return Err(Errno::EINVAL);
    }
    let words = read_words(waiters, 2)?;
    let [from, to] = words.as_slice() else { return Err(Errno::EINVAL) };
    requeue::requeue(from.addr, from.scope, to.addr, to.scope, (nr_wake, nr_requeue), Some(from.val))
}
