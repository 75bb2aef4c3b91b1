//! Interrupt controllers: numbers of interrupts, and switching them on and off.
//!
//! An [`IrqNumber`] is what `/proc/interrupts` shows: on x86 the global system interrupt (legacy ISA lines 0–15 after
//! MADT overrides), then messages; on arm64 the GIC's INTID, for those above 8191 less what lies between.

use crate::cpu::{CpuId, CpuMask};

pub use crate::imp::intc::*;

/// A device interrupt line or message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct IrqNumber(pub u32);

/// When a line asserts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// On the rising edge.
    EdgeRising,
    /// On the falling edge.
    EdgeFalling,
    /// While high.
    LevelHigh,
    /// While low.
    LevelLow,
}

/// What a device writes, and where, to raise a message interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The physical address.
    pub address: u64,
    /// The 32 bits.
    pub data: u32,
}

/// A message interrupt of a device; given back when dropped, before which the device has to be silent.
///
/// On x86 it is a vector of one CPU's local APIC, on arm64 a line of a GICv2m frame or a locality-specific interrupt (LPI) that the
/// ITS translates to.
#[derive(Debug)]
pub struct MsiVector {
    irq: IrqNumber,
}

impl MsiVector {
    /// Interrupt `event` of the device that writes with the id `requester`, one of `events` that it may have, for a CPU of
    /// `cpus`; `None` if there is none left, or the machine has no message interrupts.
    pub fn new(requester: u32, event: u32, events: u32, cpus: CpuMask) -> Option<Self> {
        let irq = crate::imp::intc::msi_alloc(requester, event, events, cpus)?;
        Some(Self { irq })
    }

    /// Its number.
    pub fn irq(&self) -> IrqNumber {
        self.irq
    }

    /// What the device has to write. Changes with [`Self::set_affinity`].
    pub fn message(&self) -> Message {
        crate::imp::intc::msi_message(self.irq)
    }

    /// Moves it to a CPU of `cpus`; the device is to be told [`Self::message`] afterwards, and what it still sends by the old one
    /// arrives, too. False, and nothing changed, if that is not possible.
    pub fn set_affinity(&self, cpus: CpuMask) -> bool {
        crate::imp::intc::msi_set_affinity(self.irq, cpus)
    }
}

impl Drop for MsiVector {
    fn drop(&mut self) {
        crate::imp::intc::msi_free(self.irq);
    }
}

/// Of the CPUs in `cpus` that are online, the one with the fewest.
#[cfg_attr(not(target_os = "none"), allow(dead_code))]
pub(crate) fn least_loaded(cpus: CpuMask, load: impl Fn(CpuId) -> u32) -> Option<CpuId> {
    cpus.and(crate::cpu::online()).iter().min_by_key(|cpu| load(*cpu))
}
