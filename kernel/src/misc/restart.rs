//! restart_syscall(2): going on with a call whose remaining time is known to the kernel only.

use crate::process::current;
use crate::process::thread::Restart;
use abi::{Errno, Result};

/// Continues what the running thread's last interrupted call left behind.
///
/// # Errors
/// `EINTR` if nothing was left, otherwise those of the call.
pub fn resume() -> Result<isize> {
    let what = core::mem::replace(&mut *current().restart.lock(), Restart::None);
    match what {
        Restart::None => Err(Errno::EINTR),
        Restart::Nanosleep { clock, deadline_ns, rem } => crate::time::sleep::resume(clock, deadline_ns, rem),
        Restart::Futex { uaddr, val, op, deadline_ns, bitset } => {
            crate::futex::syscalls::resume_wait(uaddr, val, op, deadline_ns, bitset)
                .map(|value| value as isize)
        }
        // The poll calls set this when they can go on by themselves.
        Restart::Poll { .. } => Err(Errno::EINTR),
    }
}
