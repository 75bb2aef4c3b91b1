//! There is no clock behind the virtual machine.

use crate::rtc::Registers;

/// See [`crate::rtc::registers`].
pub fn registers() -> Option<Registers> {
    None
}
