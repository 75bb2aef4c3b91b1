//! Register sets: on the host, the frame itself.

use abi::Errno;

use super::trap::USER_REGS_SIZE;
use crate::ptrace::{Direction, NT_PRSTATUS, Regset, Short};
use crate::thread::Thread;
use crate::trap::TrapFrame;

/// x86_64's.
pub const AUDIT_ARCH: u32 = 0xc000_003e;
/// There is none.
pub const ARCH_PRCTL: Option<u32> = None;
/// There is none.
pub const OLD_SETOPTIONS: Option<u32> = None;

/// The sets.
pub const REGSETS: &[Regset] = &[Regset {
    note: NT_PRSTATUS,
    unit: 8,
    len: || USER_REGS_SIZE,
    get: |thread, frame, out| {
        for (to, from) in out.iter_mut().zip(frame.user_regs(thread)) {
            *to = from;
        }
    },
    set: None,
    short: Short::Merge,
    in_core: false,
    owner: "CORE",
}];

/// Memory that a write may need, got before the thread is looked at.
#[derive(Default)]
pub struct Room;

impl Room {
    /// For a write of set `note`: none is needed here.
    ///
    /// # Errors
    /// Never.
    pub fn new(_note: u32) -> Result<Self, Errno> {
        Ok(Self)
    }
}

/// None.
pub fn legacy_request(_: u32) -> Option<(Direction, u32)> {
    None
}

/// There is no `struct user` here.
///
/// # Errors
/// `EIO`.
pub fn peek_user(_: &mut Thread, _: &mut TrapFrame, _: usize) -> Result<usize, Errno> {
    Err(Errno::EIO)
}

/// As [`peek_user`].
///
/// # Errors
/// `EIO`.
pub fn poke_user(_: &mut Thread, _: &mut TrapFrame, _: usize, _: usize) -> Result<(), Errno> {
    Err(Errno::EIO)
}
