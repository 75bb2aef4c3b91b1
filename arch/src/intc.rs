//! Interrupt controllers: numbers of interrupts, and switching them on and off.
//!
//! An [`IrqNumber`] is what `/proc/interrupts` shows: on x86 the global system interrupt (legacy ISA lines 0–15 after
//! MADT overrides), then vectors for MSI; on arm64 the GIC's INTID.

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
