//! The real-time clock in the CMOS memory (MC146818): read once, at boot.

use super::date::epoch_s;
use super::pio;

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
const UPDATING: u8 = 1 << 7;

fn read(register: u8) -> u8 {
    // SAFETY: index and data port of the CMOS memory; bit 7 keeps NMIs off while the index is set, as it is by default.
    unsafe {
        pio::outb(0x70, register | 0x80);
        pio::inb(0x71)
    }
}

/// Seconds since the epoch; 0 if there is no clock.
pub fn read_epoch_s() -> u64 {
    if read(STATUS_B) == 0xff {
        return 0;
    }
    let fields = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR];
    // Two equal readings outside of an update.
    let mut last = None;
    for _ in 0..1000 {
        if read(STATUS_A) & UPDATING != 0 {
            continue;
        }
        let now = fields.map(read);
        if last == Some(now) {
            break;
        }
        last = Some(now);
    }
    last.map_or(0, |raw| epoch_s(raw, read(STATUS_B)))
}
