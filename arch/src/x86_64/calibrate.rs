//! Measuring the TSC and the local APIC timer against a clock of known rate: HPET, else PM timer, else PIT.
//!
//! A reading pairs the reference with the TSC; of several tries the one counts in which the least time passed, because
//! a hypervisor may take the CPU away in between.

use super::insn::rdtsc;
use super::platform::platform;
use super::{apic, pio};
use crate::addr::PhysAddr;
use crate::mmio::MmioRegion;

/// How long to measure.
const WINDOW_US: u64 = 5_000;
const PM_TIMER_HZ: u64 = 3_579_545;
const PIT_HZ: u64 = 1_193_182;

/// A clock that runs at a known rate.
enum Reference {
    Hpet { registers: MmioRegion, hz: u64 },
    PmTimer { port: u16, mask: u64 },
    Pit,
}

/// `(TSC Hz, timer Hz)`.
pub fn measure() -> (u64, u64) {
    let reference = Reference::find();
    let hz = reference.hz();
    apic::start_timer_count();
    reference.start();
    let start = reference.sample();
    let target = hz * WINDOW_US / 1_000_000;
    // In case the reference stands still: ten times what the slowest TSC would take.
    let give_up = rdtsc() + 20_000_000_000;
    while reference.since(start.0) < target && rdtsc() < give_up {
        core::hint::spin_loop();
    }
    let end = reference.sample();
    apic::set_timer_count(0);
    let ticks = reference.distance(start.0, end.0);
    if ticks < target {
        log::warn!("no clock to calibrate the TSC against: assuming 1 GHz");
        return (1_000_000_000, 62_500_000);
    }
    let rate = |count: u64| (u128::from(count) * u128::from(hz) / u128::from(ticks)) as u64;
    (rate(end.1 - start.1), rate(u64::from(end.2.wrapping_sub(start.2))))
}

/// The timer's rate if the TSC's is known.
pub fn timer_by_tsc(tsc_hz: u64) -> u64 {
    apic::start_timer_count();
    let (tsc, count) = (rdtsc(), apic::timer_count());
    let end = tsc + tsc_hz * WINDOW_US / 1_000_000;
    while rdtsc() < end {
        core::hint::spin_loop();
    }
    let (cycles, counts) = (rdtsc() - tsc, u64::from(apic::timer_count().wrapping_sub(count)));
    apic::set_timer_count(0);
    (u128::from(counts) * u128::from(tsc_hz) / u128::from(cycles)) as u64
}

impl Reference {
    fn find() -> Self {
        if let Some(registers) = platform().hpet.and_then(|at| super::mmio::ioremap(PhysAddr(at), 0x400)) {
            const FEMTOSECONDS_PER_SECOND: u64 = 1_000_000_000_000_000;
            let period = u64::from(registers.read32(4));
            // The specification allows at most 100 ns.
            if (1..=100_000_000).contains(&period) {
                // Counting on, legacy replacement off.
                registers.write32(0x10, (registers.read32(0x10) & !2) | 1);
                return Self::Hpet { registers, hz: FEMTOSECONDS_PER_SECOND / period };
            }
        }
        match platform().fadt.and_then(|f| f.pm_timer.map(|port| (port, f.pm_timer_32bit))) {
            Some((port, wide)) => Self::PmTimer { port, mask: if wide { 0xffff_ffff } else { 0xff_ffff } },
            None => Self::Pit,
        }
    }

    fn hz(&self) -> u64 {
        match self {
            Self::Hpet { hz, .. } => *hz,
            Self::PmTimer { .. } => PM_TIMER_HZ,
            Self::Pit => PIT_HZ,
        }
    }

    /// The PIT has to be set going: channel 2, counting down once from its maximum, the speaker off.
    fn start(&self) {
        if let Self::Pit = self {
            for (port, value) in [(0x61, 1), (0x43, 0xb0), (0x42, 0xff), (0x42, 0xff)] {
                // SAFETY: the timer's ports; channel 2 has no interrupt.
                unsafe { pio::outb(port, value) };
            }
        }
    }

    fn read(&self) -> u64 {
        match self {
            Self::Hpet { registers, .. } => u64::from(registers.read32(0xf0)),
            // SAFETY: reads a counter.
            Self::PmTimer { port, mask } => u64::from(unsafe { pio::inl(*port) }) & mask,
            // SAFETY: latches and reads a counter, low byte first; it counts down.
            Self::Pit => unsafe {
                pio::outb(0x43, 0x80);
                let low = u64::from(pio::inb(0x42));
                0xffff - (u64::from(pio::inb(0x42)) << 8 | low)
            },
        }
    }

    fn distance(&self, from: u64, to: u64) -> u64 {
        let mask = match self {
            Self::Hpet { .. } => 0xffff_ffff,
            Self::PmTimer { mask, .. } => *mask,
            Self::Pit => 0xffff,
        };
        to.wrapping_sub(from) & mask
    }

    fn since(&self, from: u64) -> u64 {
        self.distance(from, self.read())
    }

    /// Reference, TSC and timer count of one moment.
    fn sample(&self) -> (u64, u64, u32) {
        let mut best = (u64::MAX, (0, 0, 0));
        for _ in 0..5 {
            let before = rdtsc();
            let reference = self.read();
            let count = apic::timer_count();
            let after = rdtsc();
            if after - before < best.0 {
                best = (after - before, (reference, before + (after - before) / 2, count));
            }
        }
        best.1
    }
}
