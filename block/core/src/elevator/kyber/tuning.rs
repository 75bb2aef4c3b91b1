//! How many requests of each domain the device may have, and how that follows from what they take.
//!
//! Two latencies are counted for each domain: from the submission ("total") and from when the device had it ("I/O"). If the device
//! takes too long for a tenth of the requests of any domain, it has too much to do at a time: domains that are better than
//! they must be get fewer tokens. A domain that is worse than its target, waiting included, gets more.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::percpu::PerCpuBox;
use arch::sync::SpinLockIrq;

use crate::bio::Op;
use crate::elevator::Kick;

/// How many domains there are.
pub(super) const DOMAINS: usize = 4;
/// Those whose latency counts: all but the last.
const TIMED: usize = DOMAINS - 1;
/// How many tokens each has at most, and in the beginning.
pub(super) const MOST_TOKENS: [u32; DOMAINS] = [256, 128, 64, 16];

const MS: u64 = 1_000_000;
/// Targets in nanoseconds; that of discards cannot be changed.
const TARGETS: [u64; TIMED] = [2 * MS, 10 * MS, 5_000 * MS];

/// log2 of how many buckets lie below the target.
const SHIFT: u32 = 2;
/// Latencies in these are good enough: a bucket is a quarter of the target wide.
const GOOD: i32 = 1 << SHIFT;
const BUCKETS: usize = 2 << SHIFT;

/// Percentiles are of so many samples,
const ENOUGH: u32 = 500;
/// or of what there was in this time.
const WINDOW_NS: u64 = 1_000 * MS;
/// How long after a completion the depths are looked at.
pub(super) const PERIOD_MS: u64 = 100;

/// Kinds of requests that do not share tokens.
pub(super) fn domain_of(op: Op) -> usize {
    match op {
        Op::Read => 0,
        Op::Write => 1,
        Op::Discard => 2,
        Op::Flush | Op::SecureErase | Op::WriteZeroes => 3,
    }
}

/// What [`Histograms`] are kept of.
#[derive(Clone, Copy)]
enum Kind {
    Total = 0,
    Io = 1,
}

/// How many latencies fell into each bucket, by domain and [`Kind`].
type Histograms<N> = [[[N; BUCKETS]; 2]; TIMED];

/// The tokens of one domain, for all hardware queues.
#[derive(Default)]
struct Tokens {
    depth: AtomicU32,
    used: AtomicU32,
    /// Hardware queues that have found too few.
    waiting: AtomicU64,
    /// Which of them was told last of a free one.
    told: AtomicU32,
}

impl Tokens {
    fn take(&self, wanted: u32) -> u32 {
        let depth = self.depth.load(Ordering::Relaxed);
        let room = |used: u32| depth.saturating_sub(used).min(wanted);
        let take = |used| (room(used) > 0).then(|| used + room(used));
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).map_or(0, room)
    }

    fn are_free(&self) -> bool {
        self.used.load(Ordering::SeqCst) < self.depth.load(Ordering::Relaxed)
    }

    /// Has one hardware queue look again that waits, other than `but`; each in turn.
    fn tell_one(&self, kick: &Kick, but: Option<usize>) {
        let others = but.map_or(u64::MAX, |but| !(1 << but));
        let waiting = self.waiting.load(Ordering::SeqCst) & others;
        if waiting == 0 {
            return;
        }
        let told = self.told.load(Ordering::Relaxed);
        let behind = waiting & u64::MAX.checked_shl(told + 1).unwrap_or(0);
        let next = if behind != 0 { behind } else { waiting }.trailing_zeros();
        self.told.store(next, Ordering::Relaxed);
        if self.waiting.fetch_and(!(1 << next), Ordering::SeqCst) & 1 << next != 0 {
            kick.run(next as usize);
        }
    }
}

/// What percentiles are calculated from.
#[derive(Default)]
struct Window {
    counts: Histograms<u32>,
    /// Until when samples are collected: monotonic nanoseconds; 0: the next begins it.
    until: [[u64; 2]; TIMED],
    /// The last 99th percentile of the total latency that was not acted upon.
    last: [Option<i32>; TIMED],
}

/// Tokens and latencies.
pub(super) struct Tuning {
    tokens: [sync::CachePadded<Tokens>; DOMAINS],
    targets: [AtomicU64; TIMED],
    samples: PerCpuBox<Histograms<AtomicU32>>,
    window: SpinLockIrq<Window>,
    pub(super) kick: Kick,
}

impl Tuning {
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(kick: Kick) -> Result<Self> {
        let full = |domain: usize| Tokens { depth: AtomicU32::new(MOST_TOKENS[domain]), ..Tokens::default() };
        Ok(Self {
            tokens: core::array::from_fn(|domain| sync::CachePadded::new(full(domain))),
            targets: TARGETS.map(AtomicU64::new),
            samples: PerCpuBox::new(|_| Histograms::default()).ok_or(Errno::ENOMEM)?,
            window: SpinLockIrq::new(Window::default()),
            kick,
        })
    }

    /// Up to `wanted` tokens for a hardware queue. If there are fewer, it is run when there are more.
    pub(super) fn take(&self, domain: usize, hw: usize, wanted: u32) -> u32 {
        let Some(tokens) = self.tokens.get(domain) else { return 0 };
        let got = tokens.0.take(wanted);
        if got == wanted {
            return got;
        }
        tokens.0.waiting.fetch_or(1 << hw, Ordering::SeqCst);
        // Whoever gave one back before that did not see it.
        got + tokens.0.take(wanted - got)
    }

    /// One is free again.
    pub(super) fn put(&self, domain: usize) {
        let Some(tokens) = self.tokens.get(domain) else { return };
        tokens.0.used.fetch_sub(1, Ordering::SeqCst);
        tokens.0.tell_one(&self.kick, None);
    }

    /// Hardware queue `hw` took what it needed: what it left is for others.
    pub(super) fn pass_on(&self, hw: usize) {
        for tokens in &self.tokens {
            if tokens.0.waiting.load(Ordering::SeqCst) != 0 && tokens.0.are_free() {
                tokens.0.tell_one(&self.kick, Some(hw));
            }
        }
    }

    /// Counts a request that is over.
    pub(super) fn sample(&self, domain: usize, total_ns: u64, io_ns: u64) {
        let (Some(target), Some(kinds)) = (self.targets.get(domain), self.samples.get_any().get(domain))
        else {
            return;
        };
        let width = (target.load(Ordering::Relaxed) >> SHIFT).max(1);
        for (kind, ns) in [(Kind::Total, total_ns), (Kind::Io, io_ns)] {
            let bucket = (ns.saturating_sub(1) / width).min(BUCKETS as u64 - 1) as usize;
            kinds[kind as usize][bucket].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks at the latencies and changes the depths.
    pub(super) fn tune(&self, now_ns: u64) {
        let mut window = self.window.lock();
        let window = &mut *window;
        for cpu in self.samples.iter() {
            let sums = window.counts.iter_mut().flatten().flatten();
            for (sum, count) in sums.zip(cpu.iter().flatten().flatten()) {
                if count.load(Ordering::Relaxed) != 0 {
                    *sum = sum.saturating_add(count.swap(0, Ordering::Relaxed));
                }
            }
        }
        let mut congested = false;
        for domain in 0..TIMED {
            congested |= window.percentile(domain, Kind::Io, 90, now_ns).is_some_and(|p90| p90 >= GOOD);
        }
        for domain in 0..TIMED {
            let mut p99 = window.percentile(domain, Kind::Total, 99, now_ns);
            // Not every domain has enough samples at the same time: what is known of one counts when the device is congested, once.
            if congested {
                p99 = p99.or(window.last[domain].take());
                window.last[domain] = None;
            } else if p99.is_some() {
                window.last[domain] = p99;
            }
            if let Some(p99) = p99.filter(|&p99| congested || p99 >= GOOD) {
                self.scale(domain, p99);
            }
        }
    }

    /// As many tokens as the latency is to the target: half of it halves them.
    fn scale(&self, domain: usize, p99: i32) {
        let tokens = &self.tokens[domain].0;
        let before = tokens.depth.load(Ordering::Relaxed);
        let depth = (before.saturating_mul(p99 as u32 + 1) >> SHIFT).clamp(1, MOST_TOKENS[domain]);
        tokens.depth.store(depth, Ordering::SeqCst);
        if depth > before {
            let waiting = tokens.waiting.swap(0, Ordering::SeqCst);
            (0..64).filter(|hw| waiting & 1 << hw != 0).for_each(|hw| self.kick.run(hw));
        }
    }

    /// A domain's target in nanoseconds, of those that can be changed.
    pub(super) fn target(&self, attribute: &str) -> Result<&AtomicU64> {
        match attribute {
            "read_lat_nsec" => Ok(&self.targets[0]),
            "write_lat_nsec" => Ok(&self.targets[1]),
            _ => Err(Errno::ENOENT),
        }
    }

    /// How many requests of a domain the device may have, and has.
    pub(super) fn depth(&self, domain: usize) -> (u32, u32) {
        let tokens = self.tokens.get(domain).map(|tokens| &tokens.0);
        tokens.map_or((0, 0), |t| (t.depth.load(Ordering::Relaxed), t.used.load(Ordering::Relaxed)))
    }
}

impl Window {
    /// The bucket in which this percentile is, once there is enough to tell; the samples are used up then.
    fn percentile(&mut self, domain: usize, kind: Kind, percent: u32, now_ns: u64) -> Option<i32> {
        let (buckets, until) =
            (&mut self.counts[domain][kind as usize], &mut self.until[domain][kind as usize]);
        let samples: u32 = buckets.iter().fold(0, |sum, &count| sum.saturating_add(count));
        if samples == 0 {
            return None;
        }
        if *until == 0 {
            *until = now_ns + WINDOW_NS;
        }
        if samples < ENOUGH && now_ns < *until {
            return None;
        }
        *until = 0;
        let mut left = (u64::from(samples) * u64::from(percent)).div_ceil(100);
        let mut bucket = 0;
        for (index, count) in core::mem::take(buckets).into_iter().enumerate() {
            bucket = index;
            if u64::from(count) >= left {
                break;
            }
            left -= u64::from(count);
        }
        Some(bucket as i32)
    }
}
