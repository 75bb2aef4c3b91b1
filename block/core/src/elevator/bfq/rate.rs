//! How fast the device is: what a budget is worth in time, and how long something interactive takes to load.
//!
//! Measured is what it does while requests follow each other on it; seeks do not count, neither what they transfer nor their time. (Linux
//! counts all of a second that was sequential mostly. A few flows that seek then make the device look slow, so that turns get
//! shorter, so that more of the time goes into seeks.) A device that does more than that with requests from here and there is faster, too.

const MS: u64 = 1_000_000;
/// So much time without seeks makes an estimate.
const SEQUENTIAL_NS: u64 = 500 * MS;
/// So much of any kind does, if it is better.
const INTERVAL_NS: u64 = 1_000 * MS;
/// With so many requests at least.
const SAMPLES: u64 = 32;
/// Less than this between a completion and the next dispatch counts as having kept the device busy.
const SHORT_NS: u64 = 2 * MS;
/// Rates are in sectors per microsecond, in parts of 2^16.
const SHIFT: u32 = 16;
/// No device is faster than so many sectors per microsecond: what was measured is wrong.
const MOST: u64 = 20;

/// What a solid-state device and a disk are taken to do in the beginning: rates, and how long it takes until an interactive program on
/// one like it has been loaded.
const REFERENCE: [(u64, u64); 2] = [(22_700, 2_500 * MS), (14_000, 7_000 * MS)];

#[derive(Clone, Copy, Default)]
struct Sample {
    requests: u64,
    sectors: u64,
    ns: u64,
}

impl Sample {
    fn add(&mut self, sectors: u64, ns: u64) {
        self.requests += 1;
        self.sectors += sectors;
        self.ns += ns;
    }

    /// The rate, once it was long enough; it begins anew then.
    fn take(&mut self, ns: u64) -> Option<u64> {
        if self.ns < ns || self.requests < SAMPLES {
            return None;
        }
        let Self { sectors, ns, .. } = core::mem::take(self);
        Some((sectors << SHIFT) / (ns / 1000).max(1)).filter(|rate| *rate <= MOST << SHIFT)
    }
}

/// The estimate.
pub(super) struct Rate {
    peak: u64,
    rotational: bool,
    sequential: Sample,
    all: Sample,
    /// The last request did not seek.
    follows: bool,
    last_dispatch_ns: u64,
    last_completion_ns: u64,
}

impl Rate {
    pub(super) fn new(rotational: bool) -> Self {
        Self {
            peak: REFERENCE[usize::from(rotational)].0,
            rotational,
            sequential: Sample::default(),
            all: Sample::default(),
            follows: false,
            last_dispatch_ns: 0,
            last_completion_ns: 0,
        }
    }

    /// A request of so many sectors goes to the device, which has `under_way` others. Whether the estimate was made anew.
    pub(super) fn dispatched(&mut self, sectors: u64, seeks: bool, under_way: u32, now_ns: u64) -> bool {
        let passed = now_ns.saturating_sub(core::mem::replace(&mut self.last_dispatch_ns, now_ns));
        let followed = core::mem::replace(&mut self.follows, !seeks);
        let busy = under_way > 0 || now_ns.saturating_sub(self.last_completion_ns) < SHORT_NS;
        if !busy {
            return false;
        }
        self.all.add(sectors, passed);
        if followed && !seeks {
            self.sequential.add(sectors, passed);
        }
        let better = self.all.take(INTERVAL_NS).filter(|rate| *rate > self.peak);
        let Some(rate) = self.sequential.take(SEQUENTIAL_NS).or(better) else { return false };
        self.peak = ((3 * self.peak + rate) / 4).max(1);
        true
    }

    pub(super) fn completed(&mut self, now_ns: u64) {
        self.last_completion_ns = now_ns;
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
    fn seeks_and_pauses_do_not_make_it_slower() {
        let mut rate = Rate::new(true);
        let before = rate.sectors_in(MS);
        (0..20_000u64).for_each(|ms| {
            rate.dispatched(1, true, 1, ms * MS);
        });
        assert_eq!(rate.sectors_in(MS), before);
        assert_eq!(rate.interactive_ns(), 7_000 * MS);
        let mut now = 20_000 * MS;
        for round in 0..20_000u64 {
            let (seeks, pauses) = (round % 10 == 0, round % 100 == 0);
            now += if pauses {
                100 * MS
            } else if seeks {
                8 * MS
            } else {
                MS
            };
            rate.dispatched(if seeks { 8 } else { 300 }, seeks, u32::from(!pauses), now);
            rate.completed(now);
        }
        let found = rate.sectors_in(1_000 * MS) as f64 / 300_000.0;
        assert!((found - 1.0).abs() < 0.02, "{found}");
    }

    #[test]
    fn many_at_a_time_make_it_faster() {
        let mut rate = Rate::new(false);
        (0..2_000_000u64).for_each(|n| {
            rate.dispatched(8, true, 30, n * MS / 100);
        });
        let found = rate.sectors_in(1_000 * MS) as f64 / 800_000.0;
        assert!((found - 1.0).abs() < 0.05, "{found}");
    }
}
