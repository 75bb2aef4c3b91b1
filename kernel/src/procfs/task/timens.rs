//! `timens_offsets`: what the time namespace that is meant for children adds to clocks. time_namespaces(7).

use core::fmt::Write;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::time::NSEC_PER_SEC;
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use kernfs::Text;

use super::View;
use crate::process::nsproxy::TimeNamespace;

const SECOND: i64 = NSEC_PER_SEC as i64;
/// Most seconds that a count of nanoseconds can hold.
const MAX_SECONDS: i64 = i64::MAX / SECOND;

fn namespace(view: &View<'_>) -> Result<Arc<TimeNamespace>> {
    let proxy = view.with_thread(|_, thread| thread.nsproxy())?;
    Ok(proxy.ok_or(Errno::ESRCH)?.time_for_children.clone())
}

/// A line for each clock: name, seconds, nanoseconds.
pub(super) fn show(view: &View<'_>, out: &mut Text) -> Result<()> {
    let ns = namespace(view)?;
    for (name, offset) in [("monotonic", &ns.monotonic_ns), ("boottime", &ns.boottime_ns)] {
        let offset = offset.load(Ordering::Relaxed);
        let (seconds, rest) = (offset.div_euclid(SECOND), offset.rem_euclid(SECOND));
        writeln!(out, "{name:<10} {seconds:10} {rest:9}").map_err(|_| Errno::ENOMEM)?;
    }
    Ok(())
}

/// Which clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clock {
    Monotonic,
    Boottime,
}

/// `CLOCK SECONDS NANOSECONDS`; the nanoseconds count upwards.
fn parse_line(line: &str) -> Option<(Clock, i64, i64)> {
    let mut words = line.split_ascii_whitespace();
    let clock = match words.next()? {
        "monotonic" | "1" => Clock::Monotonic,
        "boottime" | "7" => Clock::Boottime,
        _ => return None,
    };
    let seconds = words.next()?.parse().ok()?;
    let nanoseconds = words.next()?.parse::<u64>().ok().filter(|ns| *ns < NSEC_PER_SEC)?;
    Some((clock, seconds, nanoseconds as i64))
}

/// The offset in nanoseconds, if the clock that shows `now_ns` neither goes below 0 with it nor comes near its end.
fn checked(now_ns: u64, seconds: i64, nanoseconds: i64) -> Result<i64> {
    if seconds.unsigned_abs() > MAX_SECONDS.unsigned_abs() {
        return Err(Errno::ERANGE);
    }
    let offset = i128::from(seconds) * i128::from(SECOND) + i128::from(nanoseconds);
    let shown = (offset + i128::from(now_ns)).div_euclid(i128::from(SECOND));
    if !(0..=i128::from(MAX_SECONDS / 2)).contains(&shown) {
        return Err(Errno::ERANGE);
    }
    i64::try_from(offset).map_err(|_| Errno::ERANGE)
}

/// Sets them.
///
/// # Errors
/// `EINVAL`: not such lines; `EPERM`: the opener lacks `CAP_SYS_TIME` over the namespace; `ERANGE`: see [`checked`]; `EACCES`:
/// a process has entered the namespace.
pub(super) fn store(view: &View<'_>, data: &[u8]) -> Result<()> {
    if data.len() >= PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut lines = [None; 2];
    // What follows the second line is not looked at.
    for (place, line) in lines.iter_mut().zip(text.split('\n')) {
        *place = Some(parse_line(line).ok_or(Errno::EINVAL)?);
    }
    let ns = namespace(view)?;
    if !view.cred.ns_capable(&ns.user_ns, Cap::SysTime) {
        return Err(Errno::EPERM);
    }
    let (mut monotonic, mut boottime) = (None, None);
    for (clock, seconds, nanoseconds) in lines.into_iter().flatten() {
        match clock {
            Clock::Monotonic => {
                monotonic = Some(checked(sched::time::monotonic_ns(), seconds, nanoseconds)?);
            }
            Clock::Boottime => boottime = Some(checked(sched::time::boottime_ns(), seconds, nanoseconds)?),
        }
    }
    ns.set_offsets(monotonic, boottime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_limits() {
        assert_eq!(parse_line("monotonic 5 7"), Some((Clock::Monotonic, 5, 7)));
        assert_eq!(parse_line(" 7 -3\t999999999 "), Some((Clock::Boottime, -3, 999_999_999)));
        for bad in ["", "monotonic", "monotonic 1", "boottime 1 1000000000", "realtime 1 1", "7 1 -1"] {
            assert_eq!(parse_line(bad), None, "{bad}");
        }
        let now = 10 * NSEC_PER_SEC;
        assert_eq!(checked(now, -10, 0), Ok(-10 * SECOND));
        assert_eq!(checked(now, -11, 999_999_999), Err(Errno::ERANGE));
        assert_eq!(checked(now, MAX_SECONDS / 2 - 10, 0), Ok((MAX_SECONDS / 2 - 10) * SECOND));
        assert_eq!(checked(now, MAX_SECONDS / 2 - 9, 0), Err(Errno::ERANGE));
        assert_eq!(checked(now, i64::MIN, 0), Err(Errno::ERANGE));
    }
}
