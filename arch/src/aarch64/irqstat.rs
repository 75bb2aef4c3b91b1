//! What `/proc/interrupts` calls the interrupts of [`crate::irqstat`].

use super::native;
use crate::intc::IrqNumber;
use crate::irqstat::{Kind, Row};

/// The lines below those of devices. `IPI0` to `IPI2` and `IPI5` are numbered as on Linux.
pub const ROWS: &[Row] = &[
    Row::new("IPI0", Kind::Reschedule, "Rescheduling interrupts"),
    Row::new("IPI1", Kind::Call, "Function call interrupts"),
    Row::new("IPI2", Kind::Stop, "CPU stop interrupts"),
    Row::new("IPI5", Kind::Work, "IRQ work interrupts"),
    Row::new("IPI6", Kind::Backtrace, "CPU backtrace interrupts"),
    Row::sum("Err", Kind::Error),
];

/// The line of each CPU's timer.
pub fn timer_line() -> Option<IrqNumber> {
    Some(IrqNumber(native::platform().timer_irq))
}
