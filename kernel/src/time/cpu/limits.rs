//! `RLIMIT_CPU` and `RLIMIT_RTTIME`: getrlimit(2).
//!
//! From the soft limit on a process gets `SIGXCPU` once a second, at the hard limit `SIGKILL`. As on Linux, each `SIGXCPU` moves the
//! soft limit on by a second.

use super::{Kind, process_time};
use crate::process::{Process, Resource, Thread};
use crate::signal::{Signal, send};
use abi::process::Rlimit;
use abi::time::NSEC_PER_SEC;
use alloc::sync::Arc;

/// Microseconds in a second, the unit of `RLIMIT_RTTIME`.
const USEC_PER_SEC: u64 = 1_000_000;

/// Looks at both limits of the running thread.
pub(super) fn check(thread: &Thread) {
    let process = &thread.process;
    if process.limits.cur(Resource::Cpu) != Rlimit::INFINITY {
        // Seconds; compared in nanoseconds, so that a limit is reached when it is full.
        let used = process_time(process, Kind::Prof);
        enforce(process, Resource::Cpu, used, NSEC_PER_SEC, 1);
    }
    if process.limits.cur(Resource::Rttime) != Rlimit::INFINITY {
        let used = sched::current().realtime_run_ns() / 1000;
        if used != 0 {
            enforce(process, Resource::Rttime, used, 1, USEC_PER_SEC);
        }
    }
}

/// `used` against a limit whose unit is `unit` of it; the next `SIGXCPU` is due `step` units after this one.
fn enforce(process: &Arc<Process>, resource: Resource, used: u64, unit: u64, step: u64) {
    let limit = process.limits.get(resource);
    let reached = |limit: u64| limit != Rlimit::INFINITY && used >= limit.saturating_mul(unit);
    if reached(limit.max) {
        send::kill_process(process);
    } else if reached(limit.cur) {
        {
            let _writers = process.limits_lock.lock();
            let now = process.limits.get(resource);
            if now.cur != limit.cur {
                // Another thread was faster, or the limit was changed.
                return;
            }
            process.limits.set(resource, Rlimit::new(limit.cur.saturating_add(step), now.max));
        }
        send::kernel_signal(process, Signal::SIGXCPU);
    }
}
