//! The interrupt controller.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::addr::PhysAddr;
use crate::cpu::{CpuId, CpuMask};
use crate::intc::{IrqNumber, Message, Trigger};

/// Numbers of messages that are in use: tests may have 64.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// One more than the highest interrupt number.
pub fn nr_irqs() -> u32 {
    64
}

/// Where the address of a message begins.
const BASE: u64 = 0xfee0_0000;

/// The CPU that it goes to.
pub fn effective_affinity(_irq: IrqNumber) -> Option<CpuId> {
    Some(CpuId::BOOT)
}

/// What `/proc/interrupts` puts before the name of a device's messages.
pub fn msi_chip() -> &'static str {
    ""
}

/// Nothing needs any.
pub fn set_table_memory(_alloc: fn(usize) -> Option<PhysAddr>) {}

/// See [`crate::intc::MsiVector::new`].
pub(crate) fn msi_alloc(_requester: u32, _event: u32, _events: u32, _cpus: CpuMask) -> Option<IrqNumber> {
    let taken =
        TAKEN.fetch_update(SeqCst, SeqCst, |taken| (taken != u64::MAX).then(|| taken | (taken + 1))).ok()?;
    Some(IrqNumber(taken.trailing_ones()))
}

/// See [`crate::intc::MsiVector::message`].
pub(crate) fn msi_message(irq: IrqNumber) -> Message {
    Message { address: BASE, data: irq.0 }
}

/// See [`crate::intc::MsiVector::set_affinity`].
pub(crate) fn msi_set_affinity(_irq: IrqNumber, _cpus: CpuMask) -> bool {
    true
}

/// See [`crate::intc::MsiVector`].
pub(crate) fn msi_free(irq: IrqNumber) {
    TAKEN.fetch_and(!(1 << irq.0), SeqCst);
}

/// Unmasks a line.
pub fn enable(_irq: IrqNumber) {}

/// Masks a line.
pub fn disable(_irq: IrqNumber) {}

/// Sets how a line triggers; before it is enabled.
pub fn set_trigger(_irq: IrqNumber, _trigger: Trigger) {}

/// Sets which CPUs may take it; returns false if the controller cannot.
pub fn set_affinity(_irq: IrqNumber, _cpus: CpuMask) -> bool {
    false
}

/// Name of the controller and line for `/proc/interrupts`, e.g. `IO-APIC   4-edge`.
pub fn describe(_irq: IrqNumber, _w: &mut dyn core::fmt::Write) -> core::fmt::Result {
    Ok(())
}

/// The same for a message, given its device's name and its number.
pub fn describe_message(
    message: core::fmt::Arguments<'_>,
    w: &mut dyn core::fmt::Write,
) -> core::fmt::Result {
    write!(w, "{message}")
}

/// The interrupt number of an ISA line (x86); `None` elsewhere.
pub fn irq_for_legacy(_isa: u8) -> Option<IrqNumber> {
    None
}

/// The interrupt number and trigger of a device tree `interrupts` specifier; `None` if it is malformed.
pub fn irq_from_dt(_cells: &[u32]) -> Option<(IrqNumber, Trigger)> {
    None
}
