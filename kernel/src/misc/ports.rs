//! I/O ports for user programs, on the architecture that has them: ioperm(2), iopl(2).
//!
//! Both belong to the thread; children have what their maker has, and exec keeps it.

use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::{Errno, Result};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[IOPERM, IOPL];

/// How many ports there are.
const PORTS: usize = 65536;
/// Highest privilege level.
const MAX_LEVEL: u8 = 3;

#[macros::syscall(ioperm)]
fn sys_ioperm(from: usize, num: usize, turn_on: i32) -> Result<()> {
    let end = from.checked_add(num).filter(|end| *end > from && *end <= PORTS).ok_or(Errno::EINVAL)?;
    let allowed = turn_on != 0;
    if allowed {
        current().with_cred(|cred| cred.require(Cap::SysRawio))?;
    }
    sched::current().with_thread(|thread| thread.set_ports(from..end, allowed))
}

#[macros::syscall(iopl)]
fn sys_iopl(level: u32) -> Result<()> {
    let level = u8::try_from(level).ok().filter(|level| *level <= MAX_LEVEL).ok_or(Errno::EINVAL)?;
    let old = sched::current().with_thread(|thread| thread.io_level());
    if level > old {
        current().with_cred(|cred| cred.require(Cap::SysRawio))?;
    }
    sched::current().with_thread(|thread| thread.set_io_level(level));
    Ok(())
}
