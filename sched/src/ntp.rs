//! The discipline of the wall clock: what adjtimex(2) keeps, and what it makes of each second.
//!
//! The kernel model of a network time daemon (RFC 5905, section 12 and its appendix; RFC 1589): a daemon reports how far the
//! clock is off, and the model turns that into a correction of its rate. A phase-locked loop ([`STA_PLL`]) takes off a part of
//! the remaining offset each second and learns the frequency from offset times interval; with long intervals a frequency-locked
//! loop takes offset by interval. Beside them stand the slew of adjtime(3), the coarse step of `ADJ_TICK`, leap seconds at the
//! end of a UTC day, and the estimates of error, of which the largest grows on its own.
//!
//! It is a state machine without a clock: [`Ntp::adjust`] is the call, [`Ntp::second`] the beginning of a second, and
//! [`Ntp::rate`] what [`crate::time`] steers by. Lengths are nanoseconds in each second with 32 fractional bits.

use abi::time::Timex;
use abi::{Errno, Result};

/// `modes` of adjtimex(2).
mod adj {
    pub const OFFSET: u32 = 0x0001;
    pub const FREQUENCY: u32 = 0x0002;
    pub const MAXERROR: u32 = 0x0004;
    pub const ESTERROR: u32 = 0x0008;
    pub const STATUS: u32 = 0x0010;
    pub const TIMECONST: u32 = 0x0020;
    pub const TAI: u32 = 0x0080;
    pub const MICRO: u32 = 0x1000;
    pub const NANO: u32 = 0x2000;
    pub const TICK: u32 = 0x4000;
    /// Marks those of adjtime(3); beside it `OFFSET` must stand, and `NANO` means only to ask.
    pub const ADJTIME: u32 = 0x8000;
}

/// The phase-locked loop is on.
pub const STA_PLL: i32 = 0x0001;
/// The frequency-locked loop is preferred.
const STA_FLL: i32 = 0x0008;
/// A second is to be inserted at the end of the day.
pub const STA_INS: i32 = 0x0010;
/// The last second of the day is to be left out.
pub const STA_DEL: i32 = 0x0020;
/// Nobody disciplines the clock.
const STA_UNSYNC: i32 = 0x0040;
/// Offsets leave the frequency alone.
const STA_FREQHOLD: i32 = 0x0080;
const STA_CLOCKERR: i32 = 0x1000;
/// Times are in nanoseconds.
pub const STA_NANO: i32 = 0x2000;
/// The frequency-locked loop was used last.
const STA_MODE: i32 = 0x4000;
/// Bits that `ADJ_STATUS` leaves alone.
const STA_RONLY: i32 = 0xff00;

/// What the calls return (`TIME_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
enum State {
    Ok = 0,
    /// A second will be inserted at the end of the day.
    Insert = 1,
    /// One will be left out.
    Delete = 2,
    /// The inserted one is running.
    Leap = 3,
    /// It is over; `STA_INS` and `STA_DEL` are still set.
    Wait = 4,
}

/// The clock is not synchronised.
const TIME_ERROR: i32 = 5;

/// Parts per million with 16 fractional bits, the unit of frequencies in calls, as a length.
const PPM16: i64 = 1000 << 16;
/// Largest frequency correction, 500 ppm.
const MAX_FREQUENCY: i64 = 500_000 << 32;
/// Largest offset that the loops take, nanoseconds.
const MAX_PHASE_NS: i64 = 500_000_000;
/// An error of this many microseconds says nothing about the time.
const MAX_ERROR_US: i64 = 16_000_000;
/// What the largest error grows by in a second, microseconds.
const ERROR_GROWTH_US: i64 = 500;
const MAX_CONSTANT: i64 = 10;
const MAX_TAI: i64 = 100_000;
/// What adjtime(3) slews in a second, microseconds.
const SLEW_US: i64 = 500;
/// Microseconds in a hundredth of a second, and their range.
const TICK_US: i64 = 10_000;
const TICKS_US: core::ops::RangeInclusive<i64> = 9_000..=11_000;
/// Binary logarithm of the damping of the phase-locked loop.
const SHIFT_PLL: u32 = 2;
/// The same of the frequency-locked loop.
const SHIFT_FLL: u32 = 2;
/// Intervals in seconds: shorter than the first only the phase-locked loop is used, longer than the second only the other.
const MIN_INTERVAL_S: i64 = 256;
const MAX_INTERVAL_S: i64 = 2048;
const DAY_S: u64 = 86_400;
/// No leap second is planned.
const NEVER: u64 = u64::MAX;

/// State of the discipline.
#[derive(Debug)]
pub struct Ntp {
    status: i32,
    state: State,
    /// The wall clock's second at which the leap is made.
    next_leap_s: u64,
    /// What the loop has still to take off.
    offset: i64,
    /// The wall clock's second of the last offset.
    reference_s: i64,
    frequency: i64,
    constant: i64,
    tick_us: i64,
    /// What adjtime(3) has still to slew, microseconds.
    slew_us: i64,
    maxerror_us: i64,
    esterror_us: i64,
    tai_s: i32,
    /// The correction of the running second.
    length: i64,
}

impl Default for Ntp {
    fn default() -> Self {
        Self::new()
    }
}

impl Ntp {
    /// At boot: nobody disciplines the clock.
    pub const fn new() -> Self {
        Self {
            status: STA_UNSYNC,
            state: State::Ok,
            next_leap_s: NEVER,
            offset: 0,
            reference_s: 0,
            frequency: 0,
            constant: 2,
            tick_us: TICK_US,
            slew_us: 0,
            maxerror_us: MAX_ERROR_US,
            esterror_us: MAX_ERROR_US,
            tai_s: 0,
            length: 0,
        }
    }

    /// The correction of the clock's rate, in units of 2^-32.
    pub fn rate(&self) -> i64 {
        self.length / 1_000_000_000
    }

    /// The offset of TAI to the wall clock, seconds.
    pub fn tai_s(&self) -> i32 {
        self.tai_s
    }

    /// The wall clock was set: what was said of its offset and error is void.
    pub fn clear(&mut self) {
        self.slew_us = 0;
        self.offset = 0;
        self.status |= STA_UNSYNC;
        self.maxerror_us = MAX_ERROR_US;
        self.esterror_us = MAX_ERROR_US;
        self.next_leap_s = NEVER;
        self.length = self.base();
    }

    /// The correction that every second has.
    fn base(&self) -> i64 {
        self.frequency + (((self.tick_us - TICK_US) * 100_000) << 32)
    }

    /// Second `now_s` of the wall clock begins; what to add to it: 1 or -1 at a leap second.
    pub fn second(&mut self, now_s: u64) -> i32 {
        let leap = self.leap(now_s);
        self.maxerror_us += ERROR_GROWTH_US;
        if self.maxerror_us > MAX_ERROR_US {
            self.maxerror_us = MAX_ERROR_US;
            self.status |= STA_UNSYNC;
        }
        // The loop takes off a part of what remains, the smaller the slower it is.
        let part = self.offset >> (SHIFT_PLL + self.constant as u32);
        self.offset -= part;
        let slew_us = self.slew_us.clamp(-SLEW_US, SLEW_US);
        self.slew_us -= slew_us;
        self.length = self.base() + part + ((slew_us * 1000) << 32);
        leap
    }

    /// The state machine of leap seconds, at the beginning of second `now_s`.
    fn leap(&mut self, now_s: u64) -> i32 {
        let (insert, delete) = (self.status & STA_INS != 0, self.status & STA_DEL != 0);
        match self.state {
            State::Ok if insert => {
                self.state = State::Insert;
                self.next_leap_s = now_s + DAY_S - now_s % DAY_S;
            }
            State::Ok if delete => {
                self.state = State::Delete;
                self.next_leap_s = now_s + DAY_S - (now_s + 1) % DAY_S;
            }
            State::Insert if !insert => (self.state, self.next_leap_s) = (State::Ok, NEVER),
            State::Insert if now_s == self.next_leap_s => {
                self.state = State::Leap;
                self.tai_s += 1;
                return -1;
            }
            State::Delete if !delete => (self.state, self.next_leap_s) = (State::Ok, NEVER),
            State::Delete if now_s == self.next_leap_s => {
                (self.state, self.next_leap_s) = (State::Wait, NEVER);
                self.tai_s -= 1;
                return 1;
            }
            State::Leap => (self.state, self.next_leap_s) = (State::Wait, NEVER),
            State::Wait if !insert && !delete => self.state = State::Ok,
            _ => {}
        }
        0
    }

    /// Whether the values of a call make sense.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn check(tx: &Timex) -> Result<()> {
        if tx.modes & adj::ADJTIME != 0 {
            return if tx.modes & adj::OFFSET != 0 { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let has = |mode: u32| tx.modes & mode != 0;
        if has(adj::TICK) && !TICKS_US.contains(&tx.tick)
            || has(adj::FREQUENCY) && tx.freq.checked_mul(PPM16).is_none()
        {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// Whether a call only asks.
    pub fn only_asks(tx: &Timex) -> bool {
        if tx.modes & adj::ADJTIME != 0 { tx.modes & adj::NANO != 0 } else { tx.modes == 0 }
    }

    /// The call adjtimex(2) at second `now_s`, after [`Ntp::check`]: does what `tx` says, fills in what there is to know (all but
    /// the time), and returns the state of the clock.
    pub fn adjust(&mut self, tx: &mut Timex, now_s: i64) -> i32 {
        let before = self.base();
        if tx.modes & adj::ADJTIME != 0 {
            let left = self.slew_us;
            if tx.modes & adj::NANO == 0 {
                self.slew_us = tx.offset;
            }
            tx.offset = left;
        } else {
            self.set(tx, now_s);
            tx.offset = self.offset >> 32;
            if self.status & STA_NANO == 0 {
                tx.offset /= 1000;
            }
        }
        self.length += self.base() - before;
        tx.freq = self.frequency / PPM16;
        tx.maxerror = self.maxerror_us;
        tx.esterror = self.esterror_us;
        tx.status = self.status;
        tx.constant = self.constant;
        tx.precision = 1;
        tx.tolerance = MAX_FREQUENCY / PPM16;
        tx.tick = self.tick_us;
        tx.tai = self.tai_s;
        // Nothing gives a pulse each second.
        (tx.ppsfreq, tx.jitter, tx.shift, tx.stabil) = (0, 0, 0, 0);
        (tx.jitcnt, tx.calcnt, tx.errcnt, tx.stbcnt) = (0, 0, 0, 0);
        if self.status & (STA_UNSYNC | STA_CLOCKERR) != 0 { TIME_ERROR } else { self.state as i32 }
    }

    /// Takes what `tx` says, in the order of the bits' meaning: the status tells the unit of the rest.
    fn set(&mut self, tx: &Timex, now_s: i64) {
        let has = |mode: u32| tx.modes & mode != 0;
        if has(adj::STATUS) {
            self.set_status(tx.status, now_s);
        }
        if has(adj::NANO) {
            self.status |= STA_NANO;
        }
        if has(adj::MICRO) {
            self.status &= !STA_NANO;
        }
        if has(adj::FREQUENCY) {
            self.frequency = tx.freq.saturating_mul(PPM16).clamp(-MAX_FREQUENCY, MAX_FREQUENCY);
        }
        if has(adj::MAXERROR) {
            self.maxerror_us = tx.maxerror.clamp(0, MAX_ERROR_US);
        }
        if has(adj::ESTERROR) {
            self.esterror_us = tx.esterror.clamp(0, MAX_ERROR_US);
        }
        if has(adj::TIMECONST) {
            // In microseconds the numbers of the older algorithm are meant.
            let scale = if self.status & STA_NANO != 0 { 0 } else { 4 };
            self.constant = (tx.constant.clamp(0, MAX_CONSTANT) + scale).clamp(0, MAX_CONSTANT);
        }
        if has(adj::TAI) && (0..=MAX_TAI).contains(&tx.constant) {
            self.tai_s = tx.constant as i32;
        }
        if has(adj::OFFSET) && self.status & STA_PLL != 0 {
            let unit = if self.status & STA_NANO != 0 { 1 } else { 1000 };
            let offset = tx.offset.saturating_mul(unit).clamp(-MAX_PHASE_NS, MAX_PHASE_NS);
            self.take_offset(offset, now_s);
        }
        if has(adj::TICK) {
            self.tick_us = tx.tick;
        }
    }

    fn set_status(&mut self, status: i32, now_s: i64) {
        let (was, is) = (self.status & STA_PLL != 0, status & STA_PLL != 0);
        if was && !is {
            self.state = State::Ok;
            self.status = STA_UNSYNC;
            self.next_leap_s = NEVER;
        }
        if !was && is {
            self.reference_s = now_s;
        }
        self.status = self.status & STA_RONLY | status & !STA_RONLY;
    }

    /// The clock is `offset_ns` behind.
    fn take_offset(&mut self, offset_ns: i64, now_s: i64) {
        if self.status & STA_FREQHOLD != 0 {
            self.reference_s = now_s;
        }
        let seconds = now_s.saturating_sub(self.reference_s);
        self.reference_s = now_s;
        let mut change = self.frequency_locked(offset_ns, seconds);
        // Longer than its memory the phase-locked loop learns nothing.
        let memory = 1_i64 << (SHIFT_PLL + 1 + self.constant as u32);
        let learned = i128::from(offset_ns) * i128::from(seconds.min(memory));
        change += learned << (32 - 2 * (SHIFT_PLL + 2 + self.constant as u32));
        let limit = i128::from(MAX_FREQUENCY);
        self.frequency = (i128::from(self.frequency) + change).clamp(-limit, limit) as i64;
        self.offset = offset_ns << 32;
    }

    /// What the frequency-locked loop adds for an offset that `seconds` made.
    fn frequency_locked(&mut self, offset_ns: i64, seconds: i64) -> i128 {
        self.status &= !STA_MODE;
        if seconds < MIN_INTERVAL_S || self.status & STA_FLL == 0 && seconds <= MAX_INTERVAL_S {
            return 0;
        }
        self.status |= STA_MODE;
        (i128::from(offset_ns) << (32 - SHIFT_FLL)) / i128::from(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(ntp: &mut Ntp, now_s: i64, modes: u32, change: impl FnOnce(&mut Timex)) -> (i32, Timex) {
        let mut tx = Timex { modes, ..Timex::default() };
        change(&mut tx);
        Ntp::check(&tx).unwrap();
        let state = ntp.adjust(&mut tx, now_s);
        (state, tx)
    }

    /// Lets `count` seconds pass; the correction that they made together, nanoseconds.
    fn pass(ntp: &mut Ntp, from: u64, count: u64) -> i64 {
        (from..from + count)
            .map(|now| {
                ntp.second(now);
                ntp.length >> 32
            })
            .sum()
    }

    #[test]
    fn the_loop_takes_an_offset_off() {
        let mut ntp = Ntp::new();
        call(&mut ntp, 100, adj::STATUS | adj::NANO | adj::TIMECONST, |tx| tx.status = STA_PLL);
        let (_, tx) = call(&mut ntp, 100, adj::OFFSET, |tx| tx.offset = 1_000_000);
        assert_eq!((tx.offset, tx.freq), (1_000_000, 0));
        // A quarter of what is left, each second.
        assert_eq!(pass(&mut ntp, 101, 1), 250_000);
        assert_eq!(pass(&mut ntp, 102, 1), 187_500);
        let rest = pass(&mut ntp, 103, 100);
        assert!((562_400..=562_500).contains(&rest), "{rest}");
    }

    #[test]
    fn the_loops_learn_the_frequency() {
        let mut ntp = Ntp::new();
        call(&mut ntp, 0, adj::STATUS | adj::NANO | adj::TIMECONST, |tx| tx.status = STA_PLL);
        // Offset times interval, by 2^(2 (SHIFT_PLL + 2)); the memory is 8 s.
        let (_, tx) = call(&mut ntp, 4, adj::OFFSET, |tx| tx.offset = 64_000);
        assert_eq!(tx.freq, (64_000 * 4 / 256) * 65_536 / 1000);
        let (_, tx) = call(&mut ntp, 1004, adj::OFFSET, |tx| tx.offset = 0);
        assert_eq!(tx.status & STA_MODE, 0);
        call(&mut ntp, 1004, adj::STATUS | adj::FREQUENCY, |tx| tx.status = STA_PLL | STA_FLL);
        // 1 ms in 1000 s is 1 ppm, a quarter of which is believed; the other loop adds its part.
        let (_, tx) = call(&mut ntp, 2004, adj::OFFSET, |tx| tx.offset = 1_000_000);
        assert_eq!(tx.status & STA_MODE, STA_MODE);
        assert_eq!(tx.freq, (250 + 1_000_000 * 8 / 256) * 65_536 / 1000);
        // Held, it stays.
        call(&mut ntp, 2004, adj::STATUS, |tx| tx.status = STA_PLL | STA_FREQHOLD);
        let (_, held) = call(&mut ntp, 2300, adj::OFFSET, |tx| tx.offset = -1_000_000);
        assert_eq!(held.freq, tx.freq);
    }

    #[test]
    fn slews_and_ticks() {
        let mut ntp = Ntp::new();
        let (_, tx) = call(&mut ntp, 0, adj::ADJTIME | adj::OFFSET, |tx| tx.offset = -1200);
        assert_eq!(tx.offset, 0);
        assert_eq!(pass(&mut ntp, 1, 1), -500_000);
        let (_, tx) = call(&mut ntp, 0, adj::ADJTIME | adj::OFFSET | adj::NANO, |_| {});
        assert_eq!(tx.offset, -700);
        assert_eq!(pass(&mut ntp, 2, 5), -700_000);
        call(&mut ntp, 0, adj::TICK, |tx| tx.tick = 10_001);
        // At once: 100 ppm.
        assert_eq!(ntp.rate(), (100_000 << 32) / 1_000_000_000);
        assert_eq!(pass(&mut ntp, 7, 1), 100_000);
        assert!(Ntp::check(&Timex { modes: adj::FREQUENCY, freq: i64::MIN, ..Timex::default() }).is_err());
        assert!(Ntp::check(&Timex { modes: adj::ADJTIME, ..Timex::default() }).is_err());
    }

    #[test]
    fn leap_seconds() {
        let mut ntp = Ntp::new();
        let end = 5 * DAY_S;
        call(&mut ntp, 0, adj::STATUS | adj::TAI | adj::MAXERROR, |tx| {
            (tx.status, tx.constant) = (STA_INS, 37)
        });
        let state = |ntp: &mut Ntp| call(ntp, 0, 0, |_| {}).0;
        ntp.second(end - 10);
        assert_eq!(state(&mut ntp), State::Insert as i32);
        assert_eq!((end - 9..end).map(|now| ntp.second(now)).sum::<i32>(), 0);
        // 23:59:60 is 23:59:59 again.
        assert_eq!(ntp.second(end), -1);
        assert_eq!((state(&mut ntp), ntp.tai_s()), (State::Leap as i32, 38));
        assert_eq!(ntp.second(end), 0);
        assert_eq!(state(&mut ntp), State::Wait as i32);
        assert_eq!(ntp.second(end + 1), 0);
        call(&mut ntp, 0, adj::STATUS, |tx| tx.status = STA_DEL);
        ntp.second(end + 2);
        assert_eq!(state(&mut ntp), State::Wait as i32);
        call(&mut ntp, 0, adj::STATUS, |_| {});
        ntp.second(end + 3);
        assert_eq!(state(&mut ntp), State::Ok as i32);
        call(&mut ntp, 0, adj::STATUS, |tx| tx.status = STA_DEL);
        ntp.second(end + 4);
        assert_eq!(ntp.second(end + DAY_S - 2), 0);
        // There is no 23:59:59.
        assert_eq!(ntp.second(end + DAY_S - 1), 1);
        assert_eq!((state(&mut ntp), ntp.tai_s()), (State::Wait as i32, 37));
    }

    #[test]
    fn errors_grow_until_nothing_is_known() {
        let mut ntp = Ntp::new();
        let (state, _) = call(&mut ntp, 0, adj::STATUS | adj::MAXERROR, |tx| tx.maxerror = 15_999_000);
        assert_eq!(state, 0);
        pass(&mut ntp, 1, 2);
        assert_eq!(call(&mut ntp, 0, 0, |_| {}).0, 0);
        pass(&mut ntp, 3, 1);
        let (state, tx) = call(&mut ntp, 0, 0, |_| {});
        assert_eq!((state, tx.maxerror, tx.status), (TIME_ERROR, MAX_ERROR_US, STA_UNSYNC));
    }
}
