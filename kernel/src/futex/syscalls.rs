//! futex(2): the multiplexer, its flags and timeouts.

use super::{Scope, pi, pi_requeue, requeue, wait, wake};
use crate::process::current;
use crate::process::thread::Restart;
use crate::syscall::Syscall;
use crate::time::clock::from_namespace;
use crate::time::sleep::deadline;
use abi::time::Timespec;
use abi::{Errno, Result, raw};
use mm::user::UserPtr;
use sched::Deadline;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[FUTEX];

/// A deadline on `CLOCK_MONOTONIC` or `CLOCK_REALTIME`, as the program reads them.
///
/// # Errors
/// `EINVAL` for another clock.
pub fn absolute(clock: i32, ns: u64) -> Result<Deadline> {
    match clock as u32 {
        raw::CLOCK_MONOTONIC | raw::CLOCK_REALTIME => Ok(deadline(clock, from_namespace(clock, ns))),
        _ => Err(Errno::EINVAL),
    }
}

const ANY: u32 = raw::FUTEX_BITSET_MATCH_ANY;

#[macros::syscall(futex)]
fn sys_futex(
    uaddr: usize,
    futex_op: i32,
    val: u32,
    timeout: usize,
    uaddr2: usize,
    val3: u32,
) -> Result<usize> {
    let op = futex_op as u32;
    let command = op & raw::FUTEX_CMD_MASK as u32;
    let scope = if op & raw::FUTEX_PRIVATE_FLAG != 0 { Scope::Private } else { Scope::Shared };
    let realtime = op & raw::FUTEX_CLOCK_REALTIME != 0;
    let may_be_realtime =
        matches!(command, raw::FUTEX_WAIT_BITSET | raw::FUTEX_WAIT_REQUEUE_PI | raw::FUTEX_LOCK_PI2);
    if realtime && !may_be_realtime {
        return Err(Errno::ENOSYS);
    }
    match command {
        raw::FUTEX_WAIT | raw::FUTEX_WAIT_BITSET => {
            let bitset = if command == raw::FUTEX_WAIT { ANY } else { val3 };
            futex_wait(uaddr, op, scope, val, timeout, bitset)
        }
        raw::FUTEX_WAKE => wake::wake(uaddr, scope, val as i32, ANY),
        raw::FUTEX_WAKE_BITSET => wake::wake(uaddr, scope, val as i32, val3),
        raw::FUTEX_WAKE_OP => wake::wake_op(uaddr, scope, val as i32, uaddr2, timeout as i32, val3),
        raw::FUTEX_REQUEUE => {
            requeue::requeue(uaddr, scope, uaddr2, scope, (val as i32, timeout as i32), None)
        }
        raw::FUTEX_CMP_REQUEUE => {
            requeue::requeue(uaddr, scope, uaddr2, scope, (val as i32, timeout as i32), Some(val3))
        }
        raw::FUTEX_LOCK_PI | raw::FUTEX_LOCK_PI2 => {
            // The original call measures its deadline on the real-time clock.
            let clock = if command == raw::FUTEX_LOCK_PI || realtime {
                raw::CLOCK_REALTIME
            } else {
                raw::CLOCK_MONOTONIC
            };
            let deadline = match read_timeout(timeout)? {
                Some(time) => Some(absolute(clock as i32, time)?),
                None => None,
            };
            pi::lock(uaddr, scope, pi::Busy::Wait(deadline)).map(|()| 0)
        }
        raw::FUTEX_TRYLOCK_PI => pi::lock(uaddr, scope, pi::Busy::Fail).map(|()| 0),
        raw::FUTEX_UNLOCK_PI => pi::unlock(uaddr, scope).map(|()| 0),
        raw::FUTEX_WAIT_REQUEUE_PI => {
            let clock = if realtime { raw::CLOCK_REALTIME } else { raw::CLOCK_MONOTONIC };
            let deadline = read_timeout(timeout)?.map(|ns| absolute(clock as i32, ns)).transpose()?;
            pi_requeue::wait(uaddr, scope, val, deadline, uaddr2).map(|()| 0)
        }
        raw::FUTEX_CMP_REQUEUE_PI => {
            pi_requeue::requeue(uaddr, scope, val as i32, timeout as i32, uaddr2, val3)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn read_timeout(addr: usize) -> Result<Option<u64>> {
    UserPtr::<Timespec>::new(addr).read_opt()?.map(Timespec::to_ns).transpose()
}

fn futex_wait(uaddr: usize, op: u32, scope: Scope, val: u32, timeout: usize, bitset: u32) -> Result<usize> {
    let relative = op & raw::FUTEX_CMD_MASK as u32 == raw::FUTEX_WAIT;
    // On the machine's own clock.
    let deadline_ns = read_timeout(timeout)?.map(|ns| match relative {
        true => sched::time::monotonic_ns().saturating_add(ns),
        false => from_namespace(clock_of(op), ns),
    });
    let Some(deadline_ns) = deadline_ns else {
        return wait::wait(uaddr, scope, val, None, bitset).map(|()| 0);
    };
    resume_wait(uaddr, val, op, deadline_ns, bitset)
}

/// The clock of a wait with a deadline; a time to wait (`FUTEX_WAIT`) is never with `FUTEX_CLOCK_REALTIME`.
fn clock_of(op: u32) -> i32 {
    let realtime = op & raw::FUTEX_CLOCK_REALTIME != 0;
    (if realtime { raw::CLOCK_REALTIME } else { raw::CLOCK_MONOTONIC }) as i32
}

/// A wait until `deadline_ns` on the machine's own clock; also for `restart_syscall(2)`, as a signal's handler ends such a wait.
pub fn resume_wait(uaddr: usize, val: u32, op: u32, deadline_ns: u64, bitset: u32) -> Result<usize> {
    let scope = if op & raw::FUTEX_PRIVATE_FLAG != 0 { Scope::Private } else { Scope::Shared };
    match wait::wait(uaddr, scope, val, Some(deadline(clock_of(op), deadline_ns)), bitset) {
        Ok(()) => Ok(0),
        Err(Errno::ERESTARTSYS) => {
            *current().restart.lock() = Restart::Futex { uaddr, val, op, deadline_ns, bitset };
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        Err(errno) => Err(errno),
    }
}
