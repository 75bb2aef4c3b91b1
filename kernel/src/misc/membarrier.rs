//! membarrier(2): a memory barrier on all threads, so that their fast paths need none.
//!
//! The expedited commands interrupt the CPUs that run threads of the process: returning from an interrupt is a full
//! barrier. The global command waits for an RCU grace period, in which every CPU passes a context switch or is in
//! user mode.

use crate::process::current;
use crate::process::thread::flags;
use crate::syscall::Syscall;
use abi::{Errno, Result};
use core::sync::atomic::{Ordering, fence};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[MEMBARRIER];

/// `MEMBARRIER_CMD_*`.
mod cmd {
    pub const QUERY: u32 = 0;
    pub const GLOBAL: u32 = 1;
    pub const GLOBAL_EXPEDITED: u32 = 1 << 1;
    pub const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
    pub const PRIVATE_EXPEDITED: u32 = 1 << 3;
    pub const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
    pub const PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 5;
    pub const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 6;
    pub const ALL: u32 = 0x7f;
}

fn barrier_everywhere() {
    fence(Ordering::SeqCst);
    let all = arch::cpu::online();
    arch::smp::call_on(all, |_| fence(Ordering::SeqCst), 0);
}

/// Missing: `MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ`, `MEMBARRIER_CMD_GET_REGISTRATIONS`.
#[macros::syscall(membarrier)]
fn sys_membarrier(command: u32, options: u32, _cpu: i32) -> Result<u32> {
    if options != 0 {
        return Err(Errno::EINVAL);
    }
    let me = current();
    match command {
        cmd::QUERY => return Ok(cmd::ALL),
        cmd::GLOBAL => sched::rcu::synchronize(),
        cmd::GLOBAL_EXPEDITED => barrier_everywhere(),
        cmd::REGISTER_GLOBAL_EXPEDITED => {}
        cmd::REGISTER_PRIVATE_EXPEDITED | cmd::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE => {
            me.set(flags::MEMBARRIER)
        }
        cmd::PRIVATE_EXPEDITED | cmd::PRIVATE_EXPEDITED_SYNC_CORE => {
            if !me.has(flags::MEMBARRIER) {
                return Err(Errno::EPERM);
            }
            barrier_everywhere();
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
