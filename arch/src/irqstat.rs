//! Counts of the interrupts that the architecture keeps to itself: timers, IPIs and errors.
//!
//! Device interrupts are counted where they are handled. Here each CPU has a row of counters that only it writes, with
//! interrupts off; readers sum them. What they are called in `/proc/interrupts` differs between architectures
//! ([`ROWS`]).
#![cfg_attr(not(target_os = "none"), allow(dead_code))] // the host has no devices to report

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::cpu::{CpuId, possible};

pub use crate::imp::irqstat::{ROWS, timer_line};

/// A kind of interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Kind {
    /// This CPU's timer.
    Timer,
    /// [`crate::smp::Ipi::Reschedule`].
    Reschedule,
    /// [`crate::smp::Ipi::Call`].
    Call,
    /// Translations forgotten for another CPU.
    Tlb,
    /// [`crate::smp::Ipi::Work`].
    Work,
    /// [`crate::smp::Ipi::Stop`].
    Stop,
    /// [`crate::smp::Ipi::Backtrace`], and other interrupts that cannot be masked.
    Backtrace,
    /// An interrupt that was gone when it was asked for.
    Spurious,
    /// The controller reported an error.
    Error,
}

const KINDS: usize = Kind::Error as usize + 1;

/// A line of `/proc/interrupts`.
#[derive(Debug)]
pub struct Row {
    /// What is left of the colon.
    pub label: &'static str,
    /// What is counted.
    pub kind: Kind,
    /// The text behind the counts; without one, the line has a single sum.
    pub text: Option<&'static str>,
}

impl Row {
    /// A line with a column per CPU.
    pub(crate) const fn new(label: &'static str, kind: Kind, text: &'static str) -> Self {
        Self { label, kind, text: Some(text) }
    }

    /// A line with a sum.
    pub(crate) const fn sum(label: &'static str, kind: Kind) -> Self {
        Self { label, kind, text: None }
    }
}

crate::per_cpu! {
    static COUNTS: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];
}

/// Counts one on this CPU. Interrupts are off, or the kind is that of an interrupt that cannot be masked.
#[inline]
pub(crate) fn count(kind: Kind) {
    // SAFETY: interrupts are off, so that this CPU's copy stays ours; it lives for ever.
    let counts = unsafe { &*COUNTS.current_raw() };
    let counter = &counts[kind as usize];
    // This CPU is the only writer.
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

/// How many there were on `cpu`.
pub fn on(cpu: CpuId, kind: Kind) -> u64 {
    COUNTS.on(cpu)[kind as usize].load(Relaxed)
}

/// How many there were on all CPUs.
pub fn sum(kind: Kind) -> u64 {
    possible().iter().map(|cpu| on(cpu, kind)).sum()
}

/// All that [`ROWS`] and [`timer_line`] name.
pub fn total() -> u64 {
    ROWS.iter().map(|row| sum(row.kind)).sum::<u64>() + timer_line().map_or(0, |_| sum(Kind::Timer))
}
