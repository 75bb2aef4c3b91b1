//! `ITIMER_VIRTUAL` and `ITIMER_PROF`: setitimer(2).

use super::{Kind, process_time};
use crate::process::Process;
use crate::signal::{Signal, send};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// One interval timer over CPU time; 0: not set.
#[derive(Default)]
pub(crate) struct CpuTimer {
    expires_ns: AtomicU64,
    interval_ns: AtomicU64,
}

impl CpuTimer {
    /// Time left and interval.
    pub(crate) fn get(&self, now: u64) -> (u64, u64) {
        let expires = self.expires_ns.load(Ordering::Relaxed);
        // A timer that is due and waits for the tick is not "off".
        let left = if expires == 0 { 0 } else { expires.saturating_sub(now).max(1000) };
        (left, self.interval_ns.load(Ordering::Relaxed))
    }

    /// Sets time left and interval; 0 stops it.
    pub(crate) fn set(&self, now: u64, left: u64, interval: u64) {
        let expires = if left == 0 { 0 } else { now.saturating_add(left) };
        self.interval_ns.store(interval, Ordering::Relaxed);
        self.expires_ns.store(expires, Ordering::Relaxed);
    }

    /// Looks if it is due; says whether it is set still.
    pub(super) fn check(&self, process: &Arc<Process>, kind: Kind, signal: Signal) -> bool {
        let expires = self.expires_ns.load(Ordering::Relaxed);
        if expires == 0 {
            return false;
        }
        if process_time(process, kind) < expires {
            return true;
        }
        let interval = self.interval_ns.load(Ordering::Relaxed);
        let next = if interval == 0 { 0 } else { expires.saturating_add(interval) };
        if self.expires_ns.compare_exchange(expires, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            send::kernel_signal(process, signal);
        }
        true
    }
}
