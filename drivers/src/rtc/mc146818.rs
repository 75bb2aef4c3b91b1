//! Motorola's MC146818 and its successors: the clock of the PC.
//!
//! Registers are read by writing an index to one port and using the other; bit 7 of the index keeps NMIs off. Numbers are binary or
//! two decimal digits, hours count to 24 or to 12, as status register B says: the firmware's choice, which is kept.

use super::{Chip, Date};
use abi::{Errno, Result};
use arch::ioport::PortRegion;
use arch::sync::SpinLockIrq;

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY_OF_WEEK: u8 = 6;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
const NMI_OFF: u8 = 1 << 7;

/// Status A: the registers change.
const UPDATING: u8 = 1 << 7;
/// Status B: the registers are being set.
const SETTING: u8 = 1 << 7;
/// Status B: numbers are binary.
const BINARY: u8 = 1 << 2;
/// Status B: hours count to 24.
const HOURS_24: u8 = 1 << 1;
/// In the hours: the second half of the day.
const PM: u8 = 1 << 7;

/// Two digits of the year are this and the following 99.
const FIRST_YEAR: i64 = 1970;

/// The chip.
pub(super) struct Mc146818(SpinLockIrq<PortRegion>);

fn get(ports: &PortRegion, register: u8) -> u8 {
    ports.write8(0, register | NMI_OFF);
    ports.read8(1)
}

fn put(ports: &PortRegion, register: u8, value: u8) {
    ports.write8(0, register | NMI_OFF);
    ports.write8(1, value);
}

fn from_register(value: u8, status: u8) -> u8 {
    if status & BINARY != 0 { value } else { (value >> 4).wrapping_mul(10).wrapping_add(value & 15) }
}

fn to_register(value: u8, status: u8) -> u8 {
    if status & BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
}

/// The date that registers show.
fn decode(raw: [u8; 6], status: u8) -> Option<Date> {
    let [second, minute, hour, day, month, year] = raw;
    let number = |value| from_register(value, status);
    let hour = match status & HOURS_24 != 0 {
        true => number(hour),
        false => number(hour & !PM) % 12 + if hour & PM != 0 { 12 } else { 0 },
    };
    let short = i64::from(number(year));
    let century = if 1900 + short < FIRST_YEAR { 2000 } else { 1900 };
    let date = Date {
        year: century + short,
        month: number(month),
        day: number(day),
        hour,
        minute: number(minute),
        second: number(second),
    };
    date.is_valid().then_some(date)
}

/// The registers of a date.
fn encode(date: &Date, status: u8) -> [u8; 6] {
    let number = |value| to_register(value, status);
    let hour = match status & HOURS_24 != 0 {
        true => number(date.hour),
        false => {
            let half = if date.hour.is_multiple_of(12) { 12 } else { date.hour % 12 };
            number(half) | if date.hour >= 12 { PM } else { 0 }
        }
    };
    let year = date.year.rem_euclid(100) as u8;
    [number(date.second), number(date.minute), hour, number(date.day), number(date.month), number(year)]
}

const FIELDS: [u8; 6] = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR];

impl Mc146818 {
    /// The chip, if it answers.
    pub(super) fn probe(ports: PortRegion) -> Option<Self> {
        if get(&ports, STATUS_B) == 0xff { None } else { Some(Self(SpinLockIrq::new(ports))) }
    }
}

impl Chip for Mc146818 {
    fn name(&self) -> &'static str {
        "rtc_cmos"
    }

    fn read(&self) -> Result<i64> {
        // Two equal readings outside of an update, which takes 2 ms.
        let mut last = None;
        for _ in 0..1000 {
            let now = {
                let ports = self.0.lock();
                if get(&ports, STATUS_A) & UPDATING != 0 {
                    None
                } else {
                    Some(FIELDS.map(|field| get(&ports, field)))
                }
            };
            if let Some(raw) = now
                && last == now
            {
                let status = get(&self.0.lock(), STATUS_B);
                return decode(raw, status).map(|date| date.seconds()).ok_or(Errno::EINVAL);
            }
            if now.is_none() {
                arch::time::delay_ns(10_000);
            }
            last = now;
        }
        Err(Errno::EIO)
    }

    fn set(&self, seconds: i64) -> Result<()> {
        let date = Date::of(seconds);
        if !(FIRST_YEAR..FIRST_YEAR + 100).contains(&date.year) {
            return Err(Errno::ERANGE);
        }
        let weekday = date.to_rtc_time()[6] as u8 + 1;
        let ports = self.0.lock();
        let status = get(&ports, STATUS_B);
        put(&ports, STATUS_B, status | SETTING);
        for (register, value) in FIELDS.iter().zip(encode(&date, status)) {
            put(&ports, *register, value);
        }
        put(&ports, DAY_OF_WEEK, weekday);
        put(&ports, STATUS_B, status & !SETTING);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers() {
        for status in [0, BINARY, HOURS_24, BINARY | HOURS_24] {
            for seconds in (0..3_000_000_000_i64).step_by(12_345_678) {
                let date = Date::of(seconds);
                assert_eq!(decode(encode(&date, status), status), Some(date), "{status}");
            }
        }
        let noon = Date { year: 2024, month: 12, day: 31, hour: 12, minute: 0, second: 9 };
        assert_eq!(encode(&noon, 0), [9, 0, 0x92, 0x31, 0x12, 0x24]);
        assert_eq!(decode([0xff; 6], HOURS_24 | BINARY), None);
    }
}
