//! membarrier(2): a memory barrier on all threads, so that their fast paths need none.
//!
//! The expedited commands interrupt the CPUs that run threads of the process: returning from an interrupt is a full
//! barrier. The global command waits for an RCU grace period, in which every CPU passes a context switch or is in
//! user mode.

use crate::syscall::Syscall;
use abi::{Errno, Result};
use arch::cpu::{CpuId, CpuMask};
use arch::thread::ThreadFlags;
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
    pub const PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 7;
    pub const REGISTER_PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 8;
    pub const GET_REGISTRATIONS: u32 = 1 << 9;
    pub const ALL: u32 = 0x3ff;
}

/// `MEMBARRIER_CMD_FLAG_CPU`: one CPU is enough.
const FLAG_CPU: u32 = 1;

fn barrier_on(cpus: CpuMask, restart: bool) {
    fence(Ordering::SeqCst);
    let data = usize::from(restart);
    arch::smp::call_on(cpus, interrupt, data);
    if cpus.contains(arch::cpu::current()) {
        interrupt(data);
    }
}

/// What each CPU does; with `restart` a restartable sequence that was interrupted begins anew.
fn interrupt(restart: usize) {
    fence(Ordering::SeqCst);
    if restart != 0 {
        sched::current().thread_flags().set(ThreadFlags::NOTIFY_RESUME);
    }
}

#[macros::syscall(membarrier)]
fn sys_membarrier(command: u32, options: u32, cpu: i32) -> Result<u32> {
    let with_cpu = command == cmd::PRIVATE_EXPEDITED_RSEQ;
    if options != 0 && !(with_cpu && options == FLAG_CPU) {
        return Err(Errno::EINVAL);
    }
    let space = crate::memory::space()?;
    let registered = &space.membarrier;
    let register = || registered.fetch_or(command, Ordering::SeqCst);
    let is_registered = |as_what: u32| registered.load(Ordering::SeqCst) & as_what != 0;
    let online = arch::cpu::online();
    match command {
        cmd::QUERY => return Ok(cmd::ALL),
        cmd::GET_REGISTRATIONS => return Ok(registered.load(Ordering::SeqCst)),
        cmd::GLOBAL => sched::rcu::synchronize(),
        cmd::GLOBAL_EXPEDITED => barrier_on(online, false),
        cmd::REGISTER_GLOBAL_EXPEDITED
        | cmd::REGISTER_PRIVATE_EXPEDITED
        | cmd::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
        | cmd::REGISTER_PRIVATE_EXPEDITED_RSEQ => {
            register();
        }
        cmd::PRIVATE_EXPEDITED | cmd::PRIVATE_EXPEDITED_SYNC_CORE | cmd::PRIVATE_EXPEDITED_RSEQ => {
            // The bit of a registration is the one above that of its command.
            if !is_registered(command << 1) {
                return Err(Errno::EPERM);
            }
            if options == FLAG_CPU {
                // A CPU that is not there runs nothing; a negative number stands for all.
                let one = |cpu: u32| match CpuMask::of(CpuId(cpu)) {
                    mask if (cpu as usize) < arch::cpu::MAX_CPUS => mask.and(online),
                    _ => CpuMask::EMPTY,
                };
                barrier_on(u32::try_from(cpu).map_or(online, one), true);
                return Ok(0);
            }
            barrier_on(online, with_cpu);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
