//! What a process used: times(2), getrusage(2).

use crate::process::syscalls::rusage_of;
use crate::process::{Usage, current};
use crate::syscall::Syscall;
use abi::process::Rusage;
use abi::time::{NSEC_PER_SEC, Tms, USER_HZ};
use abi::{Errno, Result};
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[TIMES, GETRUSAGE];

const TICK_NS: u64 = NSEC_PER_SEC / USER_HZ;

#[macros::syscall(times)]
fn sys_times(buf: UserPtr<Tms>) -> Result<i64> {
    let process = current().process.clone();
    let (own, children) = (process.usage(), process.children_usage());
    let ticks = |ns: u64| (ns / TICK_NS) as i64;
    buf.write_opt(&Tms {
        utime: ticks(own.utime_ns),
        stime: ticks(own.stime_ns),
        cutime: ticks(children.utime_ns),
        cstime: ticks(children.stime_ns),
    })?;
    Ok(ticks(sched::time::boottime_ns()))
}

#[macros::syscall(getrusage)]
fn sys_getrusage(who: i32, usage: UserPtr<Rusage>) -> Result<()> {
    let me = current();
    let found = match who {
        0 => me.process.usage(),
        -1 => me.process.children_usage(),
        1 => {
            let mut own = Usage::of(me.task());
            own.max_rss = me.mm().map_or(0, |mm| mm.counters().hiwater_rss() as u64);
            own
        }
        _ => return Err(Errno::EINVAL),
    };
    usage.write(&rusage_of(&found))
}
