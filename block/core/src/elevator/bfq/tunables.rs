//! What a user can change; Linux's `Documentation/block/bfq-iosched.rst` describes it.

use abi::{Errno, Result};
use sched::time::{HZ, TICK_NS};

use super::turns::{Core, MS};

const US: u64 = 1000;

/// The values. Times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunables {
    /// After how long a request goes out of its order: one that nobody waits for, and one that somebody does.
    pub(super) fifo_expire_ns: [u64; 2],
    /// KiB that the disk's head goes back, and how much worse that is than going on.
    pub(super) back_seek_max: u64,
    pub(super) back_seek_penalty: u64,
    /// How long the device waits for a request.
    pub(super) slice_idle_ns: u64,
    /// Sectors of a turn; 0: what the device does in its time.
    pub(super) max_budget: u64,
    /// The time of a turn.
    pub(super) timeout_sync_ns: u64,
    /// One request at a time, and the device always waits.
    pub(super) strict_guarantees: bool,
    pub(super) low_latency: bool,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            fifo_expire_ns: [250 * MS, 125 * MS],
            back_seek_max: 16 * 1024,
            back_seek_penalty: 2,
            slice_idle_ns: 8 * MS,
            max_budget: 0,
            // In ticks, as on Linux.
            timeout_sync_ns: HZ / 8 * TICK_NS,
            strict_guarantees: false,
            low_latency: true,
        }
    }
}

/// In the order of Linux's.
pub(super) const ATTRIBUTES: [&str; 10] = [
    "fifo_expire_sync",
    "fifo_expire_async",
    "back_seek_max",
    "back_seek_penalty",
    "slice_idle",
    "slice_idle_us",
    "max_budget",
    "timeout_sync",
    "strict_guarantees",
    "low_latency",
];

const MOST: u64 = i32::MAX as u64;

impl Core {
    pub(super) fn get(&self, attribute: &str) -> Result<u64> {
        let tunables = &self.tunables;
        Ok(match attribute {
            "fifo_expire_sync" => tunables.fifo_expire_ns[1] / MS,
            "fifo_expire_async" => tunables.fifo_expire_ns[0] / MS,
            "back_seek_max" => tunables.back_seek_max,
            "back_seek_penalty" => tunables.back_seek_penalty,
            "slice_idle" => tunables.slice_idle_ns / MS,
            "slice_idle_us" => tunables.slice_idle_ns / US,
            "max_budget" => tunables.max_budget,
            "timeout_sync" => tunables.timeout_sync_ns / MS,
            "strict_guarantees" => tunables.strict_guarantees.into(),
            "low_latency" => tunables.low_latency.into(),
            _ => return Err(Errno::ENOENT),
        })
    }

    /// As Linux, takes the nearest value that it can have.
    pub(super) fn set(&mut self, attribute: &str, value: u64, now_ns: u64) -> Result<()> {
        let tunables = &mut self.tunables;
        match attribute {
            "fifo_expire_sync" => tunables.fifo_expire_ns[1] = value.clamp(1, MOST) * MS,
            "fifo_expire_async" => tunables.fifo_expire_ns[0] = value.clamp(1, MOST) * MS,
            "back_seek_max" => tunables.back_seek_max = value.min(MOST),
            "back_seek_penalty" => tunables.back_seek_penalty = value.clamp(1, MOST),
            "slice_idle" => tunables.slice_idle_ns = value.min(MOST) * MS,
            "slice_idle_us" => tunables.slice_idle_ns = value.min(u32::MAX.into()) * US,
            "max_budget" => {
                tunables.max_budget = value.min(MOST);
                self.follow_rate();
            }
            "timeout_sync" => {
                tunables.timeout_sync_ns = value.clamp(1, MOST) * MS;
                self.follow_rate();
            }
            "strict_guarantees" => {
                let strict = value != 0;
                // A guarantee needs some waiting.
                if strict && !tunables.strict_guarantees {
                    tunables.slice_idle_ns = tunables.slice_idle_ns.max(8 * MS);
                }
                tunables.strict_guarantees = strict;
            }
            "low_latency" => {
                tunables.low_latency = value != 0;
                if value == 0 {
                    self.end_all_raises(now_ns);
                }
            }
            _ => return Err(Errno::ENOENT),
        }
        Ok(())
    }
}
