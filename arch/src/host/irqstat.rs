//! There are no interrupts here.

use crate::intc::IrqNumber;
use crate::irqstat::Row;

/// None.
pub const ROWS: &[Row] = &[];

/// None.
pub fn timer_line() -> Option<IrqNumber> {
    None
}
