//! CPUs: their numbers, sets of them, and what the processor can do.
//!
//! Logical CPU numbers are dense from 0 (the boot CPU); the hardware's ids (APIC id, MPIDR) stay inside the
//! architecture. The possible mask is fixed before the first secondary starts; the online mask grows as they report in.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

pub use crate::imp::cpu::*;

/// The most CPUs this kernel drives.
pub const MAX_CPUS: usize = 64;

/// A logical CPU number, always below [`MAX_CPUS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct CpuId(pub u32);

impl CpuId {
    /// The CPU that boots the system.
    pub const BOOT: Self = Self(0);

    /// As an index into an array of [`MAX_CPUS`] elements.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize & (MAX_CPUS - 1)
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CpuMask(u64);

impl CpuMask {
    /// No CPU.
    pub const EMPTY: Self = Self(0);
    /// Every CPU that could exist.
    pub const ALL: Self = Self(u64::MAX);

    /// Just `cpu`.
    #[inline]
    pub const fn of(cpu: CpuId) -> Self {
        Self(1 << cpu.index())
    }

    /// The first `n` CPUs.
    pub const fn first_n(n: usize) -> Self {
        if n >= MAX_CPUS { Self::ALL } else { Self((1 << n) - 1) }
    }

    /// From a bitmap, CPU 0 in bit 0.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As a bitmap, CPU 0 in bit 0.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Adds a CPU.
    #[inline]
    pub fn set(&mut self, cpu: CpuId) {
        self.0 |= 1 << cpu.index();
    }

    /// Removes a CPU.
    #[inline]
    pub fn clear(&mut self, cpu: CpuId) {
        self.0 &= !(1 << cpu.index());
    }

    /// Whether `cpu` is in the set.
    #[inline]
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 >> cpu.index() & 1 != 0
    }

    /// Whether the set is empty.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many CPUs are in it.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The lowest CPU in the set.
    pub const fn first(self) -> Option<CpuId> {
        if self.0 == 0 { None } else { Some(CpuId(self.0.trailing_zeros())) }
    }

    /// Intersection.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Union.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in `self` and not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every CPU of `self` is in `other`.
    pub const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The CPUs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        let mut bits = self.0;
        core::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let cpu = CpuId(bits.trailing_zeros());
            bits &= bits - 1;
            Some(cpu)
        })
    }
}

impl fmt::Debug for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|c| c.0)).finish()
    }
}

/// A [`CpuMask`] that several CPUs change.
#[derive(Debug, Default)]
pub struct AtomicCpuMask(AtomicU64);

impl AtomicCpuMask {
    /// With an initial value.
    pub const fn new(mask: CpuMask) -> Self {
        Self(AtomicU64::new(mask.0))
    }

    /// The set at this moment.
    #[inline]
    pub fn load(&self, order: Ordering) -> CpuMask {
        CpuMask(self.0.load(order))
    }

    /// Replaces the set.
    #[inline]
    pub fn store(&self, mask: CpuMask, order: Ordering) {
        self.0.store(mask.0, order);
    }

    /// Adds a CPU; returns whether it was in already.
    #[inline]
    pub fn set(&self, cpu: CpuId, order: Ordering) -> bool {
        self.0.fetch_or(1 << cpu.index(), order) >> cpu.index() & 1 != 0
    }

    /// Removes a CPU; returns whether it was in.
    #[inline]
    pub fn clear(&self, cpu: CpuId, order: Ordering) -> bool {
        self.0.fetch_and(!(1 << cpu.index()), order) >> cpu.index() & 1 != 0
    }

    /// Whether `cpu` is in.
    #[inline]
    pub fn contains(&self, cpu: CpuId, order: Ordering) -> bool {
        self.load(order).contains(cpu)
    }
}

/// On the host all virtual CPUs are there from the beginning.
const AT_BOOT: CpuMask = if cfg!(target_os = "none") { CpuMask::of(CpuId::BOOT) } else { CpuMask::ALL };
static POSSIBLE: AtomicCpuMask = AtomicCpuMask::new(AT_BOOT);
static ONLINE: AtomicCpuMask = AtomicCpuMask::new(AT_BOOT);

/// CPUs that the firmware describes and the boot parameters allow.
pub fn possible() -> CpuMask {
    POSSIBLE.load(Ordering::Relaxed)
}

/// CPUs that are up.
#[inline]
pub fn online() -> CpuMask {
    ONLINE.load(Ordering::Acquire)
}

/// Number of possible CPUs.
pub fn count() -> usize {
    possible().count()
}

/// Fixes the possible CPUs; boot code, before secondaries start.
pub fn set_possible(mask: CpuMask) {
    POSSIBLE.store(mask, Ordering::Relaxed);
}

/// A CPU reports that it is up (`Release`, pairs with [`online`]).
pub fn mark_online(cpu: CpuId) {
    ONLINE.set(cpu, Ordering::Release);
}

/// A CPU goes down.
pub fn mark_offline(cpu: CpuId) {
    ONLINE.clear(cpu, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        let mut m = CpuMask::first_n(3);
        m.set(CpuId(63));
        m.clear(CpuId(1));
        assert_eq!(m.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 2, 63]);
        assert_eq!(m.count(), 3);
        assert!(CpuMask::of(CpuId(2)).is_subset_of(m));
        assert_eq!(CpuMask::first_n(64), CpuMask::ALL);
    }
}
