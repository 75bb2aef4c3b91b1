//! Which CPU has not been able to switch tasks for long: a *soft lockup*. `Documentation/admin-guide/lockup-watchdogs.rst`.
//!
//! The tick looks, so an idle CPU is not woken for it. A tick that finds the CPU in user mode or preemptible, or that finds that it has
//! switched tasks since the last one, begins a new count; the others add to it. Time is counted tick by tick and no more than
//! [`MOST_PER_TICK_NS`] at once: a virtual machine that was stopped was not locked up.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arch::cpu::{AtomicCpuMask, CpuId, CpuMask, MAX_CPUS};

/// What one tick counts at most.
const MOST_PER_TICK_NS: u64 = 1_000_000_000;

/// How long a CPU may be stuck, in nanoseconds; 0 for ever.
pub static LIMIT_NS: AtomicU64 = AtomicU64::new(20_000_000_000);
/// The CPUs that are watched.
pub static WATCHED: AtomicCpuMask = AtomicCpuMask::new(CpuMask::ALL);

/// What is known of one CPU; only its own tick changes it.
struct Watch {
    /// When the last tick was.
    last: AtomicU64,
    /// The run queue's count of switches then.
    switches: AtomicU64,
    /// How long it has been stuck.
    stuck_ns: AtomicU64,
    /// How long it must have been to be reported.
    due_ns: AtomicU64,
}

static WATCHES: [Watch; MAX_CPUS] = [const {
    Watch {
        last: AtomicU64::new(0),
        switches: AtomicU64::new(0),
        stuck_ns: AtomicU64::new(0),
        due_ns: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// A tick of `cpu`. `free`: it could have switched, or idles; `switches`: how often it has.
pub(crate) fn note(cpu: CpuId, now: u64, free: bool, switches: u64) {
    let watch = &WATCHES[cpu.index()];
    let passed = now.saturating_sub(watch.last.load(Relaxed)).min(MOST_PER_TICK_NS);
    watch.last.store(now, Relaxed);
    if free || watch.switches.load(Relaxed) != switches {
        watch.switches.store(switches, Relaxed);
        watch.stuck_ns.store(0, Relaxed);
        watch.due_ns.store(0, Relaxed);
    } else {
        watch.stuck_ns.store(watch.stuck_ns.load(Relaxed) + passed, Relaxed);
    }
}

/// For how long `cpu`, the running one, has been stuck, if that is to be reported: once for each time that the limit is over.
pub(crate) fn to_report(cpu: CpuId) -> Option<u64> {
    let watch = &WATCHES[cpu.index()];
    let stuck = watch.stuck_ns.load(Relaxed);
    if stuck == 0 {
        return None;
    }
    let limit = LIMIT_NS.load(Relaxed);
    if limit == 0 || stuck <= watch.due_ns.load(Relaxed).max(limit) || !WATCHED.contains(cpu, Relaxed) {
        return None;
    }
    watch.due_ns.store(stuck.saturating_add(limit), Relaxed);
    Some(stuck)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn only_a_cpu_that_stays_stuck_is_reported() {
        let cpu = CpuId(MAX_CPUS as u32 - 1);
        let mut now = 100 * S;
        let mut ticks = |seconds: u64, free: bool, switches: &mut dyn FnMut() -> u64| {
            let mut reports = alloc::vec::Vec::new();
            for _ in 0..seconds * 10 {
                now += S / 10;
                note(cpu, now, free, switches());
                reports.extend(to_report(cpu).map(|ns| ns / S));
            }
            reports
        };
        assert!(ticks(60, true, &mut || 1).is_empty());
        assert_eq!(ticks(62, false, &mut || 1), [20, 40, 60]);
        // It switches, though no tick finds it preemptible.
        let mut count = 1;
        assert!(
            ticks(60, false, &mut || {
                count += 1;
                count
            })
            .is_empty()
        );
        // A pause of the machine.
        now += 1000 * S;
        note(cpu, now, false, count);
        assert_eq!(to_report(cpu), None);
    }
}
