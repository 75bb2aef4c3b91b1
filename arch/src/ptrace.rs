//! Register sets of a thread as debuggers and core dumps see them: `ptrace(2)`, `elf(5)`.
//!
//! A set has a number (`NT_*` of `linux/elf.h`) and a layout that the architecture's UAPI fixes. Each architecture lists
//! its own in `REGSETS`; the kernel moves bytes and never looks inside. All functions work on a thread that does not run, or
//! on the running one.

use abi::Errno;

pub use crate::imp::ptrace::*;
use crate::thread::Thread;
use crate::trap::TrapFrame;

/// General registers.
pub const NT_PRSTATUS: u32 = 1;
/// Floating point registers.
pub const NT_PRFPREG: u32 = 2;

/// What becomes of a write that is shorter than the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Short {
    /// The rest keeps its values.
    Merge,
    /// It is refused.
    Refuse(Errno),
}

/// Takes over a whole set; the last argument is memory that it may need.
pub type SetRegisters = fn(&mut Thread, &mut TrapFrame, &[u8], &mut Room) -> Result<(), Errno>;

/// A set of registers.
pub struct Regset {
    /// `NT_*`.
    pub note: u32,
    /// Reads and writes are of a multiple of this many bytes.
    pub unit: usize,
    /// Bytes of the whole set; 0 if this processor has not got it.
    pub len: fn() -> usize,
    /// Fills `out`, which has the length of the set.
    pub get: fn(&mut Thread, &mut TrapFrame, &mut [u8]),
    /// Takes over a whole set. `None`: it cannot be written.
    pub set: Option<SetRegisters>,
    /// See [`Short`].
    pub short: Short,
    /// Whether a core dump has it, in a note of this set's own (not as part of `NT_PRSTATUS`).
    pub in_core: bool,
    /// The name of that note.
    pub owner: &'static str,
}

/// The set with number `note`.
pub fn regset(note: u32) -> Option<&'static Regset> {
    REGSETS.iter().find(|set| set.note == note)
}

/// Which way a request for a whole set goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the thread.
    Get,
    /// Into the thread.
    Set,
}
