//! How fast the device is: what a budget is worth in time, and how long something interactive takes to load.
//!
//! Sectors that were dispatched in about a second, unless they were few. Slower rates count only if the requests were sequential
//! mostly, for otherwise it is not known how fast the device could have been.

const MS: u64 = 1_000_000;
/// A second's worth is looked at,
const INTERVAL_NS: u64 = 1_000 * MS;
/// or what there is before a pause, if that is of a time
const LEAST_NS: u64 = 300 * MS;
/// and requests enough.
const SAMPLES: u32 = 32;
/// A pause: nothing is dispatched and nothing is under way.
const PAUSE_NS: u64 = 100 * MS;
/// Less than this between a completion and the next dispatch counts as having kept the device busy.
const SHORT_NS: u64 = 2 * MS;
/// Rates are in sectors per microsecond, in parts of 2^16.
const SHIFT: u32 = 16;
/// No device is faster than so many sectors per microsecond: what was measured is wrong.
const MOST: u64 = 20;

/// What a disk and a solid-state device are taken to do in the beginning: rates, and how long it takes until an interactive program on
/// one like it has been loaded.
const REFERENCE: [(u64, u64); 2] = [(22_700, 2_500 * MS), (14_000, 7_000 * MS)];

/// The estimate.
pub(super) struct Rate {
    peak: u64,
    rotational: bool,
    samples: u32,
    sequential: u32,
    sectors: u64,
    first_ns: u64,
    last_dispatch_ns: u64,
    last_completion_ns: u64,
}

impl Rate {
    pub(super) fn new(rotational: bool) -> Self {
        Self {
            peak: REFERENCE[usize::from(rotational)].0,
            rotational,
            samples: 0,
            sequential: 0,
            sectors: 0,
            first_ns: 0,
            last_dispatch_ns: 0,
            last_completion_ns: 0,
        }
    }

    /// A request of so many sectors goes to the device, which has `under_way` others. Whether the estimate was made anew.
    pub(super) fn dispatched(&mut self, sectors: u64, seeks: bool, under_way: u32, now_ns: u64) -> bool {
        let paused =
            under_way == 0 && self.samples > 0 && now_ns.saturating_sub(self.last_dispatch_ns) > PAUSE_NS;
        let mut changed = false;
        if paused || (self.samples > 0 && now_ns.saturating_sub(self.first_ns) >= INTERVAL_NS) {
            changed = self.estimate();
            self.samples = 0;
        }
        if self.samples == 0 {
            (self.sequential, self.sectors, self.first_ns) = (0, 0, now_ns);
        } else if !seeks && (under_way > 0 || now_ns.saturating_sub(self.last_completion_ns) < SHORT_NS) {
            self.sequential += 1;
        }
        self.samples += 1;
        self.sectors += sectors;
        self.last_dispatch_ns = now_ns;
        changed
    }

    pub(super) fn completed(&mut self, now_ns: u64) {
        self.last_completion_ns = now_ns;
    }

    fn estimate(&mut self) -> bool {
        let spent = self.last_dispatch_ns.max(self.last_completion_ns).saturating_sub(self.first_ns);
        if self.samples < SAMPLES || spent < LEAST_NS {
            return false;
        }
        let rate = (self.sectors << SHIFT) / (spent / 1000).max(1);
        let mostly_sequential = self.sequential >= self.samples / 4 * 3;
        if (!mostly_sequential && rate <= self.peak) || rate > MOST << SHIFT {
            return false;
        }
        // The longer it was and the more sequential, the more it counts: up to eight parts of ten.
        let weight = u64::from(9 * self.sequential / self.samples).min(8) * spent.min(INTERVAL_NS) / INTERVAL_NS;
        let parts = 10 - weight;
        self.peak = (self.peak * (parts - 1) / parts + rate / parts).max(1);
        true
    }

    /// How many sectors it does in a time, at its best.
    pub(super) fn sectors_in(&self, ns: u64) -> u64 {
        (self.peak.saturating_mul(ns / 1000)) >> SHIFT
    }

    /// How long to prefer what seems to be interactive: until it would have been loaded, within limits.
    pub(super) fn interactive_ns(&self) -> u64 {
        let (rate, time) = REFERENCE[usize::from(self.rotational)];
        (rate.saturating_mul(time) / self.peak).clamp(3_000 * MS, 25_000 * MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_is_measured() {
        for (rotational, sectors_per_ms) in [(false, 1000u64), (true, 200), (true, 400)] {
            let mut rate = Rate::new(rotational);
            for ms in 0..20_000u64 {
                rate.dispatched(sectors_per_ms, false, 1, ms * MS);
                rate.completed(ms * MS + MS / 2);
            }
            let found = rate.sectors_in(1_000 * MS) as f64 / (sectors_per_ms * 1000) as f64;
            assert!((found - 1.0).abs() < 0.02, "{found}");
        }
    }

    #[test]
    fn seeks_do_not_make_it_slower() {
        let mut rate = Rate::new(true);
        let before = rate.sectors_in(MS);
        (0..20_000u64).for_each(|ms| {
            rate.dispatched(1, true, 1, ms * MS);
        });
        assert_eq!(rate.sectors_in(MS), before);
        assert_eq!(rate.interactive_ns(), 7_000 * MS);
    }

    #[test]
    fn pauses_do_not_count() {
        let mut rate = Rate::new(false);
        for second in 0..40u64 {
            for ms in 0..400u64 {
                let now = second * 1_000 * MS + ms * MS;
                // At the first nothing is under way: there was nothing to do for more than half a second.
                rate.dispatched(500, false, ms.min(1) as u32, now);
                rate.completed(now + MS / 2);
            }
        }
        let found = rate.sectors_in(1_000 * MS) as f64 / 500_000.0;
        assert!((found - 1.0).abs() < 0.1, "{found}");
    }
}
