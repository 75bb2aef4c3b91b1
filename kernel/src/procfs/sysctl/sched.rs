//! `/proc/sys/kernel/sched_*`: sched(7), "Limiting the CPU usage of real-time and deadline processes".

use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use arch::sync::SpinLock;
use kernfs::{Attr, attr};
use sched::class::realtime::{DEFAULT_RR_SLICE_NS, PERIOD_NS, RR_SLICE_NS, RUNTIME_NS};

use super::{line, parse};

const USEC: u64 = 1000;
const MSEC: u64 = 1_000_000;

/// One change at a time: each must fit the other.
static CHANGING: SpinLock<()> = SpinLock::new(());

pub(super) const FILES: &[Attr] = &[
    attr("sched_rr_timeslice_ms", |out| line(out, RR_SLICE_NS.load(Ordering::Relaxed) / MSEC)).writable(
        |data| {
            // Whole ticks, at least one; 0 and less: the default.
            let ms = parse(data, i32::MIN..=i32::MAX)?;
            let ns = u64::try_from(ms).unwrap_or(0) * MSEC;
            let ticks = ns.div_ceil(sched::time::TICK_NS) * sched::time::TICK_NS;
            RR_SLICE_NS.store(if ticks == 0 { DEFAULT_RR_SLICE_NS } else { ticks }, Ordering::Relaxed);
            Ok(())
        },
    ),
    attr("sched_rt_period_us", |out| line(out, PERIOD_NS.load(Ordering::Relaxed) / USEC)).writable(|data| {
        let period = parse(data, 1..=i32::MAX as u64)? * USEC;
        let _changing = CHANGING.lock();
        check(period, RUNTIME_NS.load(Ordering::Relaxed))?;
        PERIOD_NS.store(period, Ordering::Relaxed);
        Ok(())
    }),
    attr("sched_rt_runtime_us", |out| {
        let runtime = RUNTIME_NS.load(Ordering::Relaxed);
        line(out, if runtime < 0 { -1 } else { runtime / USEC as i64 })
    })
    .writable(|data| {
        let runtime = match parse(data, -1..=i32::MAX)? {
            -1 => -1,
            us => i64::from(us) * USEC as i64,
        };
        let _changing = CHANGING.lock();
        check(PERIOD_NS.load(Ordering::Relaxed), runtime)?;
        RUNTIME_NS.store(runtime, Ordering::Relaxed);
        Ok(())
    }),
];

/// No more time than there is.
fn check(period: u64, runtime: i64) -> Result<()> {
    match u64::try_from(runtime) {
        Ok(runtime) if runtime > period => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}
