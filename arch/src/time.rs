//! Time as the processor gives it: a cycle counter that never stops, a one-shot timer per CPU, the wall clock at boot.
//!
//! `ns = (cycles - base) * mult >> shift`, with 128-bit products, so that no periodic update is needed to avoid overflow.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

pub use crate::imp::time::*;

static BASE: AtomicU64 = AtomicU64::new(0);
static MULT: AtomicU32 = AtomicU32::new(0);
static SHIFT: AtomicU32 = AtomicU32::new(0);
static HZ: AtomicU64 = AtomicU64::new(0);

/// Factors that turn cycles into nanoseconds: `(mult, shift)` with `mult` as large as 32 bits allow.
pub const fn factors(hz: u64) -> (u32, u32) {
    let mut shift = 32;
    loop {
        let mult = ((1_000_000_000u128 << shift) + hz as u128 / 2) / hz as u128;
        if mult <= u32::MAX as u128 || shift == 0 {
            return (mult as u32, shift);
        }
        shift -= 1;
    }
}

/// Starts the clock: from now on [`now_ns`] counts from 0. Boot code only.
pub fn set_clock(hz: u64, base: u64) {
    let (mult, shift) = factors(hz);
    BASE.store(base, Relaxed);
    SHIFT.store(shift, Relaxed);
    HZ.store(hz, Relaxed);
    MULT.store(mult, Relaxed);
}

/// Frequency of the cycle counter, 0 before calibration.
pub fn clock_hz() -> u64 {
    HZ.load(Relaxed)
}

/// `(base, mult, shift)`: what the vDSO's data page repeats.
pub fn clock_params() -> (u64, u32, u32) {
    (BASE.load(Relaxed), MULT.load(Relaxed), SHIFT.load(Relaxed))
}

/// Nanoseconds since boot on the monotonic clock; 0 before calibration.
#[inline]
pub fn now_ns() -> u64 {
    cycles_to_ns(now_raw().wrapping_sub(BASE.load(Relaxed)))
}

/// A number of cycles in nanoseconds.
#[inline]
pub fn cycles_to_ns(cycles: u64) -> u64 {
    ((u128::from(cycles) * u128::from(MULT.load(Relaxed))) >> SHIFT.load(Relaxed)) as u64
}

/// Busy-waits. For hardware that asks for microseconds; nothing else.
pub fn delay_ns(ns: u64) {
    let start = now_ns();
    while now_ns().wrapping_sub(start) < ns {
        crate::cpu::relax();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_exact_enough() {
        for hz in [1_000_000, 24_000_000, 62_500_000, 1_000_000_000, 2_600_000_000, 5_100_000_000] {
            let (mult, shift) = factors(hz);
            let second = (u128::from(hz) * u128::from(mult)) >> shift;
            assert!((999_999_990..=1_000_000_010).contains(&second), "{hz}: {second}");
        }
    }
}
