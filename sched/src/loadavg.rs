//! The load average of `/proc/loadavg`: runnable and uninterruptible tasks, smoothed over 1, 5 and 15
//! minutes with the fixed-point arithmetic that programs expect.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::rq;

/// Fractional bits of the averages.
pub const FSHIFT: u32 = 11;
const FIXED_1: u64 = 1 << FSHIFT;
/// e^(-5s/1min), e^(-5s/5min), e^(-5s/15min) in fixed point.
const DECAY: [u64; 3] = [1884, 2014, 2037];
const INTERVAL_NS: u64 = 5_000_000_000;

static AVERAGES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static NEXT: AtomicU64 = AtomicU64::new(INTERVAL_NS);

/// The averages over 1, 5 and 15 minutes, with [`FSHIFT`] fractional bits.
pub fn averages() -> [u64; 3] {
    [0, 1, 2].map(|i: usize| AVERAGES[i].load(Ordering::Relaxed))
}

/// Runnable tasks at this moment, and tasks in uninterruptible sleep.
pub fn active() -> (u64, u64) {
    let (mut running, mut sleeping) = (0, 0);
    for cpu in arch::cpu::online().iter() {
        if let Some(queue) = rq::try_of(cpu) {
            let _irqs_off = arch::irq::IrqGuard::new();
            let rq = queue.lock.lock();
            running += u64::from(rq.nr_running);
            sleeping += rq.nr_uninterruptible;
        }
    }
    (running, sleeping.max(0).cast_unsigned())
}

/// Called at least once per tick while anything runs.
pub(crate) fn tick(now: u64) {
    let next = NEXT.load(Ordering::Relaxed);
    if now < next
        || NEXT.compare_exchange(next, next + INTERVAL_NS, Ordering::Relaxed, Ordering::Relaxed).is_err()
    {
        return;
    }
    let (running, sleeping) = active();
    let active = (running + sleeping) * FIXED_1;
    for (average, decay) in AVERAGES.iter().zip(DECAY) {
        average.store(step(average.load(Ordering::Relaxed), decay, active), Ordering::Relaxed);
    }
}

fn step(load: u64, decay: u64, active: u64) -> u64 {
    let mut new = load * decay + active * (FIXED_1 - decay);
    if active >= load {
        new += FIXED_1 - 1;
    }
    new / FIXED_1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converges_to_the_number_of_runners() {
        let mut load = 0;
        for _ in 0..120 {
            load = step(load, DECAY[0], 3 * FIXED_1);
        }
        assert!(load.abs_diff(3 * FIXED_1) < FIXED_1 / 100, "{load}");
        // After one minute of idleness, 1/e of it is left.
        for _ in 0..12 {
            load = step(load, DECAY[0], 0);
        }
        assert!(load.abs_diff(3 * FIXED_1 * 368 / 1000) < FIXED_1 / 20, "{load}");
    }
}
