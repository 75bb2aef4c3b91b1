//! Keeping programs from filling the log.

use abi::time::NSEC_PER_SEC;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `kernel.printk_ratelimit_burst`: lines that may come in [`INTERVAL_S`].
pub static BURST: AtomicU32 = AtomicU32::new(10);
/// `kernel.printk_ratelimit`, in seconds; 0: no limit.
pub static INTERVAL_S: AtomicU32 = AtomicU32::new(5);

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
        let interval_ns = u64::from(INTERVAL_S.load(Ordering::Relaxed)) * NSEC_PER_SEC;
        let Some(window) = now_ns.checked_div(interval_ns) else { return true };
        if self.window.swap(window, Ordering::Relaxed) != window {
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < BURST.load(Ordering::Relaxed).into()
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
        assert_eq!(allowed(5 * NSEC_PER_SEC), 10);
        assert_eq!(allowed(5 * NSEC_PER_SEC + 1), 0);
        assert_eq!(allowed(10 * NSEC_PER_SEC), 10);
    }
}
