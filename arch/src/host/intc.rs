//! The interrupt controller.

use crate::cpu::CpuMask;
use crate::intc::{IrqNumber, Trigger};

/// One more than the highest interrupt number.
pub fn nr_irqs() -> u32 {
    0
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

/// The interrupt number of an ISA line (x86); `None` elsewhere.
pub fn irq_for_legacy(_isa: u8) -> Option<IrqNumber> {
    None
}

/// The interrupt number and trigger of a device tree `interrupts` specifier; `None` if it is malformed.
pub fn irq_from_dt(_cells: &[u32]) -> Option<(IrqNumber, Trigger)> {
    None
}
