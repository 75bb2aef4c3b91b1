//! The lines of the log about programs that faults kill.

use crate::trap::{Exception, LogLines, TrapFrame, Victim};

/// Whether a fault on a page that cannot be had (`SIGBUS`) is told of.
pub const TELLS_BUS_ERRORS: bool = false;

/// An access to memory that is not there.
pub fn page_fault(_: &Victim<'_>, _: &TrapFrame, _addr: usize, _error_code: u64, _: LogLines<'_>) {}

/// Whether [`exception`] tells of it.
pub fn tells(_: &Exception) -> bool {
    false
}

/// Another exception.
pub fn exception(_: &Victim<'_>, _: &TrapFrame, _: &Exception, _: LogLines<'_>) {}
