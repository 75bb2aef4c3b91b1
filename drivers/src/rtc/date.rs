//! Dates of the Gregorian calendar, as clocks and programs hold them.

const DAY: i64 = 86_400;

/// A date and a time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Date {
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

/// Days from 1970-01-01 to a date. Years begin in March here, so that the leap day is the last.
fn days(year: i64, month: u8, day: u8) -> i64 {
    let (y, m) = if month > 2 { (year, i64::from(month) - 3) } else { (year - 1, i64::from(month) + 9) };
    365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + i64::from(day)
        - 719_469
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Date {
    /// The date `seconds` after the epoch.
    pub fn of(seconds: i64) -> Self {
        let (mut day, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Near enough, and then to the right year.
        let mut year = 1970 + day.div_euclid(366);
        while days(year + 1, 1, 1) <= day {
            year += 1;
        }
        day -= days(year, 1, 1);
        let mut month = 1;
        while day >= i64::from(days_in(year, month)) {
            day -= i64::from(days_in(year, month));
            month += 1;
        }
        Self {
            year,
            month,
            day: day as u8 + 1,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }

    /// Seconds since the epoch.
    pub fn seconds(&self) -> i64 {
        let time = (i64::from(self.hour) * 60 + i64::from(self.minute)) * 60 + i64::from(self.second);
        days(self.year, self.month, self.day) * DAY + time
    }

    /// Whether there is such a date.
    pub fn is_valid(&self) -> bool {
        (1..=12).contains(&self.month)
            && (1..=days_in(self.year, self.month)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
    }

    /// As `struct rtc_time` holds it: second to year, day of the week, day of the year, summer time.
    pub fn to_rtc_time(&self) -> [i32; 9] {
        let day = days(self.year, self.month, self.day);
        let yday = day - days(self.year, 1, 1);
        // The epoch was a Thursday.
        let wday = (day + 4).rem_euclid(7);
        [
            self.second.into(),
            self.minute.into(),
            self.hour.into(),
            self.day.into(),
            i32::from(self.month) - 1,
            (self.year - 1900) as i32,
            wday as i32,
            yday as i32,
            0,
        ]
    }

    /// From a program's `struct rtc_time`, of which the last three do not count; `None` if there is no such date after 1970.
    pub fn from_rtc_time(time: &[i32; 9]) -> Option<Self> {
        let [second, minute, hour, day, month, year, ..] = *time;
        let small = |value: i32| u8::try_from(value).ok();
        let date = Self {
            year: i64::from(year) + 1900,
            month: small(month.checked_add(1)?)?,
            day: small(day)?,
            hour: small(hour)?,
            minute: small(minute)?,
            second: small(second)?,
        };
        (year >= 70 && date.is_valid()).then_some(date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for seconds in (0..8_000_000_000_i64).step_by(7_654_321) {
            let date = Date::of(seconds);
            assert!(date.is_valid());
            assert_eq!(date.seconds(), seconds);
            assert_eq!(Date::from_rtc_time(&date.to_rtc_time()), Some(date));
        }
    }

    #[test]
    fn known_days() {
        // Thursday, 29 February 2024, 23:59:59.
        let date = Date::of(1_709_251_199);
        assert_eq!(date.to_rtc_time(), [59, 59, 23, 29, 1, 124, 4, 59, 0]);
        assert_eq!(Date::of(1_709_251_200).to_rtc_time()[3..8], [1, 2, 124, 5, 60]);
        assert_eq!(Date::of(0).to_rtc_time(), [0, 0, 0, 1, 0, 70, 4, 0, 0]);
    }

    #[test]
    fn no_dates() {
        let good = [0, 0, 0, 1, 0, 100, 0, 0, 0];
        assert!(Date::from_rtc_time(&good).is_some());
        for (at, bad) in [(0, 60), (1, -1), (2, 24), (3, 0), (3, 32), (4, 12), (4, i32::MAX), (5, 69)] {
            let mut time = good;
            time[at] = bad;
            assert_eq!(Date::from_rtc_time(&time), None, "{at} {bad}");
        }
        assert_eq!(Date::from_rtc_time(&[0, 0, 0, 29, 1, 101, 0, 0, 0]), None);
    }
}
