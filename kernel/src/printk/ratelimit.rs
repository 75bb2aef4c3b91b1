//! Keeping programs from filling the log.

use core::sync::atomic::{AtomicU64, Ordering};

/// Lines that may come in [`INTERVAL_NS`]: Linux's defaults for `kernel.printk_ratelimit` and its burst.
const BURST: u64 = 10;
const INTERVAL_NS: u64 = 5_000_000_000;

/// How many lines one place in the kernel wrote lately.
pub struct RateLimit {
    window: AtomicU64,
    count: AtomicU64,
}

impl RateLimit {
    /// None yet.
    pub const fn new() -> Self {
        Self { window: AtomicU64::new(0), count: AtomicU64::new(0) }
    }

    /// Whether another line may be written now. It is then counted.
    pub fn allows(&self) -> bool {
        self.allows_at(sched::time::boottime_ns())
    }

    fn allows_at(&self, now_ns: u64) -> bool {
        let window = now_ns / INTERVAL_NS;
        if self.window.swap(window, Ordering::Relaxed) != window {
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < BURST
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_per_interval() {
        let limit = RateLimit::new();
        let allowed = |now| (0..20).filter(|_| limit.allows_at(now)).count() as u64;
        assert_eq!(allowed(INTERVAL_NS), BURST);
        assert_eq!(allowed(INTERVAL_NS + 1), 0);
        assert_eq!(allowed(2 * INTERVAL_NS), BURST);
    }
}
