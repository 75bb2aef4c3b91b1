//! sysinfo(2), getcpu(2).

use crate::process::init_pid_ns;
use crate::syscall::Syscall;
use abi::Result;
use abi::system::Sysinfo;
use abi::time::NSEC_PER_SEC;
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SYSINFO, GETCPU];

#[macros::syscall(sysinfo)]
fn sys_sysinfo(info: UserPtr<Sysinfo>) -> Result<()> {
    let memory = mm::stats::meminfo();
    let page = arch::addr::PAGE_SIZE as u64;
    let bytes = |pages: usize| pages as u64 * page;
    info.write(&Sysinfo {
        uptime: (crate::time::clock::namespace_boottime_ns().div_ceil(NSEC_PER_SEC)) as i64,
        loads: sched_loads(),
        totalram: bytes(memory.total),
        freeram: bytes(memory.free),
        sharedram: bytes(mm::stats::item(mm::stats::Item::Shmem)),
        bufferram: 0,
        totalswap: 0,
        freeswap: 0,
        procs: init_pid_ns().population().min(u16::MAX.into()) as u16,
        mem_unit: 1,
        ..Sysinfo::default()
    })
}

/// Load averages with 16 fraction bits.
fn sched_loads() -> [u64; 3] {
    sched::loadavg::averages().map(|load| load << 5)
}

#[macros::syscall(getcpu)]
fn sys_getcpu(cpu: UserPtr<u32>, node: UserPtr<u32>, _unused: usize) -> Result<()> {
    let now = arch::cpu::current();
    cpu.write_opt(&now.0)?;
    node.write_opt(&arch::cpu::node_of(now))
}
