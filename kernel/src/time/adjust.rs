//! Steering the wall clock: adjtimex(2), clock_adjtime(2).
//!
//! What a time daemon says of the clock's quality (status, errors, time constant) is kept in [`Discipline`] for others to read; offset,
//! frequency and tick are what [`sched::time`] steers by. An offset is slewed at a constant rate, however long the time constant.

use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::time::{NSEC_PER_SEC, Timeval, Timex};
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use mm::user::UserPtr;
use sched::time;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[ADJTIMEX, CLOCK_ADJTIME];

const ADJ_OFFSET: u32 = 0x0001;
const ADJ_FREQUENCY: u32 = 0x0002;
const ADJ_MAXERROR: u32 = 0x0004;
const ADJ_ESTERROR: u32 = 0x0008;
const ADJ_STATUS: u32 = 0x0010;
const ADJ_TIMECONST: u32 = 0x0020;
const ADJ_TAI: u32 = 0x0080;
const ADJ_SETOFFSET: u32 = 0x0100;
const ADJ_MICRO: u32 = 0x1000;
const ADJ_NANO: u32 = 0x2000;
const ADJ_TICK: u32 = 0x4000;
/// Marks the modes of adjtime(3).
const ADJ_ADJTIME: u32 = 0x8000;
const ADJ_OFFSET_SINGLESHOT: u32 = 0x8001;
const ADJ_OFFSET_SS_READ: u32 = 0xa001;

/// The clock is steered by offsets.
const STA_PLL: i32 = 0x0001;
/// Nobody disciplines the clock.
const STA_UNSYNC: i32 = 0x0040;
const STA_CLOCKERR: i32 = 0x1000;
/// Times are in nanoseconds.
const STA_NANO: i32 = 0x2000;
/// Bits that `ADJ_STATUS` leaves alone.
const STA_RONLY: i32 = 0xff00;

/// What the calls return: all is well.
const TIME_OK: i32 = 0;
/// The clock is not synchronised.
const TIME_ERROR: i32 = 5;

/// Largest frequency correction: 500 parts per million, in 2^-16 ppm.
const MAX_FREQUENCY: i64 = 500 << 16;
/// Largest offset that `ADJ_OFFSET` slews; more is cut off.
const MAX_PHASE_NS: i64 = 500_000_000;
/// An error of this many microseconds says nothing about the time.
const MAX_ERROR_US: i64 = 16_000_000;
/// What the largest error grows by in a second, in microseconds.
const ERROR_GROWTH_US: i64 = 500;
/// Largest time constant.
const MAX_CONSTANT: i64 = 10;
/// Largest offset of TAI, in seconds.
const MAX_TAI: i64 = 100_000;
/// Microseconds of a hundredth of a second, and their range.
const TICK_US: i64 = 10_000;
const TICKS_US: core::ops::RangeInclusive<i64> = 9_000..=11_000;

/// How good the clock is, in the words of who disciplines it.
struct Discipline {
    status: i32,
    /// As it was at `since_ns` on the monotonic clock; it grows.
    maxerror_us: i64,
    since_ns: u64,
    esterror_us: i64,
    constant: i64,
    tick_us: i64,
}

static DISCIPLINE: SpinLock<Discipline> = SpinLock::new(Discipline {
    status: STA_UNSYNC,
    maxerror_us: MAX_ERROR_US,
    since_ns: 0,
    esterror_us: MAX_ERROR_US,
    constant: 2,
    tick_us: TICK_US,
});

impl Discipline {
    /// The largest error has grown; one that says nothing means that the clock is left alone.
    fn age(&mut self, now_ns: u64) {
        let seconds = now_ns.saturating_sub(self.since_ns) / NSEC_PER_SEC;
        self.since_ns += seconds * NSEC_PER_SEC;
        let growth = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(ERROR_GROWTH_US);
        self.maxerror_us = self.maxerror_us.saturating_add(growth);
        if self.maxerror_us > MAX_ERROR_US {
            self.maxerror_us = MAX_ERROR_US;
            self.status |= STA_UNSYNC;
        }
    }

    /// Takes what `tx` says, in the order of the bits' meaning: the status tells the unit of the rest.
    fn set(&mut self, tx: &Timex, now_ns: u64) {
        let has = |mode: u32| tx.modes & mode != 0;
        if has(ADJ_STATUS) {
            if self.status & STA_PLL != 0 && tx.status & STA_PLL == 0 {
                self.status = STA_UNSYNC;
            }
            self.status = self.status & STA_RONLY | tx.status & !STA_RONLY;
        }
        if has(ADJ_NANO) {
            self.status |= STA_NANO;
        }
        if has(ADJ_MICRO) {
            self.status &= !STA_NANO;
        }
        if has(ADJ_MAXERROR) {
            (self.maxerror_us, self.since_ns) = (tx.maxerror.clamp(0, MAX_ERROR_US), now_ns);
        }
        if has(ADJ_ESTERROR) {
            self.esterror_us = tx.esterror.clamp(0, MAX_ERROR_US);
        }
        if has(ADJ_TIMECONST) {
            // In microseconds the numbers of the older algorithm are meant.
            let scale = if self.status & STA_NANO != 0 { 0 } else { 4 };
            self.constant = (tx.constant.clamp(0, MAX_CONSTANT) + scale).clamp(0, MAX_CONSTANT);
        }
        if has(ADJ_TICK) {
            self.tick_us = tx.tick;
        }
    }
}

/// Whether the caller may do what `modes` say, and the values make sense.
fn check(tx: &Timex) -> Result<()> {
    let modes = tx.modes;
    if modes & ADJ_ADJTIME != 0 && modes & ADJ_OFFSET_SINGLESHOT != ADJ_OFFSET_SINGLESHOT {
        return Err(Errno::EINVAL);
    }
    if modes != 0 && modes != ADJ_OFFSET_SS_READ {
        current().with_cred(|c| c.require(Cap::SysTime))?;
    }
    if modes & ADJ_ADJTIME == 0 && modes & ADJ_TICK != 0 && !TICKS_US.contains(&tx.tick) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn adjust(tx: &mut Timex) -> Result<i32> {
    check(tx)?;
    let modes = tx.modes;
    let now_ns = time::monotonic_ns();
    if modes & ADJ_ADJTIME != 0 {
        let remaining = match modes {
            ADJ_OFFSET_SINGLESHOT => time::slew(tx.offset.saturating_mul(1000)),
            _ => time::slew_remaining(),
        };
        tx.offset = remaining / 1000;
    } else {
        if modes & ADJ_SETOFFSET != 0 {
            step(tx, modes & ADJ_NANO != 0)?;
        }
        let status = {
            let mut discipline = DISCIPLINE.lock();
            discipline.age(now_ns);
            discipline.set(tx, now_ns);
            discipline.status
        };
        steer(tx, status);
    }
    let mut discipline = DISCIPLINE.lock();
    discipline.age(now_ns);
    tx.maxerror = discipline.maxerror_us;
    tx.esterror = discipline.esterror_us;
    tx.status = discipline.status;
    tx.constant = discipline.constant;
    tx.tick = discipline.tick_us;
    drop(discipline);
    let nano = tx.status & STA_NANO != 0;
    tx.freq = time::frequency();
    tx.precision = 1;
    tx.tolerance = MAX_FREQUENCY;
    tx.tai = time::tai_offset();
    let wall = time::realtime_ns();
    tx.time = Timeval::from_ns(wall);
    if nano {
        tx.time.usec = (wall % NSEC_PER_SEC) as i64;
    }
    Ok(if tx.status & (STA_UNSYNC | STA_CLOCKERR) != 0 { TIME_ERROR } else { TIME_OK })
}

/// Changes how the clock runs; `tx.offset` becomes what is left of the offset.
fn steer(tx: &mut Timex, status: i32) {
    let modes = tx.modes;
    let unit = if status & STA_NANO != 0 { 1 } else { 1000 };
    if modes & ADJ_FREQUENCY != 0 {
        time::set_frequency(tx.freq.clamp(-MAX_FREQUENCY, MAX_FREQUENCY));
    }
    if modes & ADJ_TAI != 0 && (0..=MAX_TAI).contains(&tx.constant) {
        time::set_tai_offset(tx.constant as i32);
    }
    // Without the loop an offset is nothing to steer by.
    if modes & ADJ_OFFSET != 0 && status & STA_PLL != 0 {
        time::slew(tx.offset.saturating_mul(unit).clamp(-MAX_PHASE_NS, MAX_PHASE_NS));
    }
    if modes & ADJ_TICK != 0 {
        time::set_tick_us(tx.tick);
    }
    tx.offset = if status & STA_PLL != 0 { time::slew_remaining() / unit } else { 0 };
}

fn step(tx: &Timex, nano: bool) -> Result<()> {
    let unit = if nano { 1 } else { 1000 };
    if tx.time.usec < 0 || tx.time.usec >= 1_000_000_000 / unit {
        return Err(Errno::EINVAL);
    }
    let delta =
        tx.time.sec.checked_mul(NSEC_PER_SEC.cast_signed()).and_then(|s| s.checked_add(tx.time.usec * unit));
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
