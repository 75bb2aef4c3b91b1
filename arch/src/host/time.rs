//! Cycle counter, one-shot timer, wall clock: the build machine's.

use super::hosted;

/// The cycle counter: nanoseconds since its first use.
#[inline]
pub fn now_raw() -> u64 {
    hosted::now()
}

/// Programs this CPU's timer to fire at a time of [`crate::time::now_ns`]; the past fires at once; `u64::MAX`: never.
pub fn set_oneshot_ns(deadline_ns: u64) {
    hosted::set_alarm(hosted::cpu(), deadline_ns);
}

/// Wall clock when [`crate::time::now_ns`] was 0, in nanoseconds since the epoch.
pub fn boot_epoch_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64).wrapping_sub(hosted::now())
}

/// Name of the clock source, as in `/sys/devices/system/clocksource`.
pub fn clocksource_name() -> &'static str {
    "host"
}
