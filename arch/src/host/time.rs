//! Cycle counter, one-shot timer, wall clock.

/// The cycle counter.
#[inline]
pub fn now_raw() -> u64 {
    todo!()
}

/// Programs this CPU's timer to fire at a time of [`crate::time::now_ns`]; the past fires at once; `u64::MAX`: never.
pub fn set_oneshot_ns(_deadline_ns: u64) {
    todo!()
}

/// Wall clock when [`crate::time::now_ns`] was 0, in nanoseconds since the epoch.
pub fn boot_epoch_ns() -> u64 {
    todo!()
}

/// Name of the clock source, as in `/sys/devices/system/clocksource`.
pub fn clocksource_name() -> &'static str {
    "host"
}
