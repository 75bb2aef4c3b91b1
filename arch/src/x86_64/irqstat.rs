//! What `/proc/interrupts` calls the interrupts of [`crate::irqstat`].

use crate::intc::IrqNumber;
use crate::irqstat::{Kind, Row};

/// The lines below those of devices, in Linux's order.
pub const ROWS: &[Row] = &[
    Row::new("NMI", Kind::Backtrace, "Non-maskable interrupts"),
    Row::new("LOC", Kind::Timer, "Local timer interrupts"),
    Row::new("SPU", Kind::Spurious, "Spurious interrupts"),
    Row::new("IWI", Kind::Work, "IRQ work interrupts"),
    Row::new("RES", Kind::Reschedule, "Rescheduling interrupts"),
    Row::new("CAL", Kind::Call, "Function call interrupts"),
    Row::new("TLB", Kind::Tlb, "TLB shootdowns"),
    Row::sum("ERR", Kind::Error),
];

/// The timer is a part of the local APIC and has no line.
pub fn timer_line() -> Option<IrqNumber> {
    None
}
