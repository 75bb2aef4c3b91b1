//! Dates as the real-time clock's registers hold them: pure arithmetic, tested on the build machine.

/// Status B: numbers are binary, not BCD.
const BINARY: u8 = 1 << 2;
/// Status B: hours count to 24.
const HOURS_24: u8 = 1 << 1;

/// Seconds since the epoch from the registers second, minute, hour, day, month, year and status B.
pub fn epoch_s(raw: [u8; 6], status: u8) -> u64 {
    let number = |v: u8| if status & BINARY != 0 { v } else { (v >> 4) * 10 + (v & 15) };
    let [second, minute, hour, day, month, year] = raw;
    let hour = match (status & HOURS_24 != 0, hour & 0x80 != 0) {
        (true, _) => number(hour),
        (false, pm) => number(hour & 0x7f) % 12 + if pm { 12 } else { 0 },
    };
    let year = 2000 + u64::from(number(year)) - if number(year) >= 70 { 100 } else { 0 };
    let days = days_since_epoch(year, u64::from(number(month)), u64::from(number(day)));
    ((days * 24 + u64::from(hour)) * 60 + u64::from(number(minute))) * 60 + u64::from(number(second))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    (365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day).saturating_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(days_since_epoch(1970, 1, 1), 0);
        assert_eq!(days_since_epoch(2000, 3, 1), 11_017);
        assert_eq!(epoch_s([0, 0, 0, 0x01, 0x01, 0x24], HOURS_24), 1_704_067_200);
        assert_eq!(epoch_s([59, 59, 23, 29, 2, 24], HOURS_24 | BINARY), 1_709_251_199);
        assert_eq!(epoch_s([0, 0, 0x92, 1, 1, 0x70], 0), 12 * 3600);
        assert_eq!(epoch_s([0, 0, 0x12, 1, 1, 0x70], 0), 0);
    }
}
