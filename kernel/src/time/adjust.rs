//! Steering the wall clock: adjtimex(2), clock_adjtime(2).

use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::time::{Timeval, Timex};
use abi::{Errno, Result, raw};
use mm::user::UserPtr;
use sched::time;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[ADJTIMEX, CLOCK_ADJTIME];

const ADJ_OFFSET: u32 = 0x0001;
const ADJ_FREQUENCY: u32 = 0x0002;
const ADJ_SETOFFSET: u32 = 0x0100;
const ADJ_NANO: u32 = 0x2000;
const ADJ_TAI: u32 = 0x0080;
const ADJ_OFFSET_SINGLESHOT: u32 = 0x8001;
const ADJ_OFFSET_SS_READ: u32 = 0xa001;

/// `STA_UNSYNC`: nobody disciplines the clock.
const STA_UNSYNC: i32 = 0x40;
/// `TIME_ERROR`: what the calls return for an unsynchronised clock.
const TIME_ERROR: i32 = 5;

/// Largest frequency correction: 500 parts per million, in 2^-16 ppm.
const MAX_FREQUENCY: i64 = 500 << 16;

/// Largest offset that `ADJ_OFFSET` slews; more is cut off.
const MAX_PHASE_NS: i64 = 500_000_000;

fn adjust(tx: &mut Timex) -> Result<i32> {
    let modes = tx.modes;
    let reads = modes == 0 || modes == ADJ_OFFSET_SS_READ;
    if !reads {
        current().with_cred(|c| c.require(Cap::SysTime))?;
    }
    let mut remaining = time::slew_remaining();
    if modes & 0x8000 != 0 {
        if modes & ADJ_OFFSET_SINGLESHOT != ADJ_OFFSET_SINGLESHOT {
            return Err(Errno::EINVAL);
        }
        if modes == ADJ_OFFSET_SINGLESHOT {
            remaining = time::slew(tx.offset.saturating_mul(1000));
        }
        tx.offset = remaining / 1000;
    } else {
        if modes & ADJ_SETOFFSET != 0 {
            step(tx, modes & ADJ_NANO != 0)?;
        }
        if modes & ADJ_FREQUENCY != 0 {
            time::set_frequency(tx.freq.clamp(-MAX_FREQUENCY, MAX_FREQUENCY));
        }
        if modes & ADJ_OFFSET != 0 {
            let unit = if modes & ADJ_NANO != 0 { 1 } else { 1000 };
            time::slew(tx.offset.saturating_mul(unit).clamp(-MAX_PHASE_NS, MAX_PHASE_NS));
        }
        if modes & ADJ_TAI != 0 && tx.constant >= 0 {
            time::set_tai_offset(tx.constant as i32);
        }
        tx.offset = 0;
    }
    tx.freq = time::frequency();
    tx.maxerror = 16_000_000;
    tx.esterror = 16_000_000;
    tx.status = STA_UNSYNC;
    tx.constant = 2;
    tx.precision = 1;
    tx.tolerance = MAX_FREQUENCY;
    tx.tick = 10_000;
    tx.tai = time::tai_offset();
    tx.time = Timeval::from_ns(time::realtime_ns());
    Ok(TIME_ERROR)
}

fn step(tx: &Timex, nano: bool) -> Result<()> {
    let unit = if nano { 1 } else { 1000 };
    if tx.time.usec < 0 || tx.time.usec >= 1_000_000_000 / unit {
        return Err(Errno::EINVAL);
    }
    let delta = tx.time.sec.checked_mul(1_000_000_000).and_then(|s| s.checked_add(tx.time.usec * unit));
    let wall = delta.and_then(|delta| time::realtime_ns().checked_add_signed(delta));
    super::clock::set_wall_ns(wall.ok_or(Errno::EINVAL)?)
}

/// Missing: `ADJ_MAXERROR`, `ADJ_ESTERROR`, `ADJ_STATUS`, `ADJ_TIMECONST`, `ADJ_TICK`, leap seconds.
#[macros::syscall(adjtimex)]
fn sys_adjtimex(buf: UserPtr<Timex>) -> Result<i32> {
    let mut tx = buf.read()?;
    let state = adjust(&mut tx)?;
    buf.write(&tx)?;
    Ok(state)
}

/// Missing: as for `adjtimex`.
#[macros::syscall(clock_adjtime)]
fn sys_clock_adjtime(clockid: i32, buf: UserPtr<Timex>) -> Result<i32> {
    match super::clock::ClockId::new(clockid)? {
        super::clock::ClockId::System(id) if id as u32 == raw::CLOCK_REALTIME => sys_adjtimex(buf),
        _ => Err(Errno::EOPNOTSUPP),
    }
}
