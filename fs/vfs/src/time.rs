//! The time that inodes are stamped with: the coarse wall clock, as of the last tick.

use crate::types::Timestamp;

/// The wall clock as of the last tick.
pub fn now_coarse() -> Timestamp {
    Timestamp::from_ns(sched::time::realtime_coarse_ns())
}
