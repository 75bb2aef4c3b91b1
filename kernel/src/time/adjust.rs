//! Steering the wall clock: adjtimex(2), clock_adjtime(2). The model is [`sched::ntp`]; here is who may do what.

use super::clock::{ClockId, check_wall_ns};
use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::time::{NSEC_PER_SEC, Timex};
use abi::{Errno, Result, raw};
use mm::user::UserPtr;
use sched::ntp::Ntp;
use sched::time;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[ADJTIMEX, CLOCK_ADJTIME];

const ADJ_SETOFFSET: u32 = 0x0100;
const ADJ_NANO: u32 = 0x2000;
/// Marks the modes of adjtime(3).
const ADJ_ADJTIME: u32 = 0x8000;

fn adjust(tx: &mut Timex) -> Result<i32> {
    if !Ntp::only_asks(tx) {
        current().with_cred(|c| c.require(Cap::SysTime))?;
    }
    Ntp::check(tx)?;
    let steps = tx.modes & (ADJ_ADJTIME | ADJ_SETOFFSET) == ADJ_SETOFFSET;
    let step_ns = if steps { Some(step(tx)?) } else { None };
    time::adjtimex(tx, step_ns)
}

/// What `ADJ_SETOFFSET` adds to the wall clock, nanoseconds.
fn step(tx: &Timex) -> Result<i64> {
    let unit = if tx.modes & ADJ_NANO != 0 { 1 } else { 1000 };
    if !(0..NSEC_PER_SEC.cast_signed() / unit).contains(&tx.time.usec) {
        return Err(Errno::EINVAL);
    }
    let seconds = tx.time.sec.checked_mul(NSEC_PER_SEC.cast_signed());
    let step_ns = seconds.and_then(|ns| ns.checked_add(tx.time.usec * unit)).ok_or(Errno::EINVAL)?;
    let wall = time::realtime_ns().checked_add_signed(step_ns).ok_or(Errno::EINVAL)?;
    check_wall_ns(wall)?;
    Ok(step_ns)
}

#[macros::syscall(adjtimex)]
fn sys_adjtimex(buf: UserPtr<Timex>) -> Result<i32> {
    let mut tx = buf.read()?;
    let state = adjust(&mut tx)?;
    buf.write(&tx)?;
    Ok(state)
}

#[macros::syscall(clock_adjtime)]
fn sys_clock_adjtime(clockid: i32, buf: UserPtr<Timex>) -> Result<i32> {
    let mut tx = buf.read()?;
    let state = match ClockId::new(clockid)? {
        ClockId::System(id) if id as u32 == raw::CLOCK_REALTIME => adjust(&mut tx)?,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    buf.write(&tx)?;
    Ok(state)
}
