//! How fast a device writes, estimated from what it has written.

use core::sync::atomic::{AtomicU64, Ordering};

/// How often the estimate is renewed at most, in milliseconds (`BANDWIDTH_INTERVAL`: 200 ms).
const INTERVAL_MS: u64 = 200;
/// The time over which it is averaged, in milliseconds.
const PERIOD_MS: u64 = 3000;
/// What a device is taken for that has not written yet: 100 MiB/s, in pages per second.
const FIRST: u64 = (100 << 20) / 4096;

/// The estimate. Races make it a little wrong, which does no harm.
pub(super) struct Bandwidth {
    /// Pages per second, of late.
    now: AtomicU64,
    /// The same, smoothed.
    average: AtomicU64,
    stamp_ms: AtomicU64,
    written: AtomicU64,
}

impl Bandwidth {
    pub(super) const fn new() -> Self {
        Self {
            now: AtomicU64::new(FIRST),
            average: AtomicU64::new(FIRST),
            stamp_ms: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// Pages per second, not 0.
    pub(super) fn average(&self) -> u64 {
        self.average.load(Ordering::Relaxed).max(1)
    }

    /// The device was idle until now: what it did not write then says nothing.
    pub(super) fn begin(&self, written: u64, now_ms: u64) {
        let stamp = self.stamp_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(stamp) > 1000 {
            self.stamp_ms.store(now_ms, Ordering::Relaxed);
            self.written.store(written, Ordering::Relaxed);
        }
    }

    /// The device is busy and has written `written` pages, ever.
    pub(super) fn update(&self, written: u64, now_ms: u64) {
        let stamp = self.stamp_ms.load(Ordering::Relaxed);
        let elapsed = now_ms.saturating_sub(stamp);
        if elapsed < INTERVAL_MS
            || self.stamp_ms.compare_exchange(stamp, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let pages = written.saturating_sub(self.written.swap(written, Ordering::Relaxed));
        let rate = pages * 1000 / elapsed;
        let old = self.now.load(Ordering::Relaxed);
        // The new rate counts for the time that it was measured over.
        let new = if elapsed >= PERIOD_MS {
            rate
        } else {
            (rate * elapsed + old * (PERIOD_MS - elapsed)) / PERIOD_MS
        };
        let average = self.average.load(Ordering::Relaxed);
        // Follows where three values in a row go the same way.
        let followed = if average > old && old >= new {
            average - (average - old) / 8
        } else if average < old && old <= new {
            average + (old - average) / 8
        } else {
            average
        };
        self.now.store(new, Ordering::Relaxed);
        self.average.store(followed.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_to_what_the_device_does() {
        let bandwidth = Bandwidth::new();
        let mut written = 0;
        bandwidth.begin(0, 5000);
        for step in 1..200 {
            written += 1000;
            bandwidth.update(written, 5000 + step * 200);
        }
        let average = bandwidth.average();
        assert!((4900..=5600).contains(&average), "{average}");
        // Idle time does not count.
        bandwidth.begin(written, 1_000_000);
        bandwidth.update(written + 1000, 1_000_200);
        assert!(bandwidth.average() >= 4900);
    }
}
