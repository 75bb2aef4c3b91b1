//! Scheduling calls that need nothing but the scheduler's own: sched_yield(2).

use crate::syscall::Syscall;
use abi::Result;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SCHED_YIELD];

#[macros::syscall(sched_yield)]
fn sys_sched_yield() -> Result<()> {
    sched::yield_now();
    Ok(())
}
