//! `IORING_REGISTER_RESTRICTIONS`: what may be done with a ring that is handed to others.

use core::sync::atomic::Ordering;

use abi::io_uring::Restriction;
use abi::{Errno, Result};
use mm::user::UserSlice;

use super::super::ring::Ring;

/// What is allowed.
#[derive(Debug, Default)]
pub struct Restrictions {
    registers: u64,
    sqes: u64,
    flags_allowed: u8,
    flags_required: u8,
}

/// Most entries (`IORING_MAX_RESTRICTIONS`).
const MAX: u32 = 31 + 58 + 4;

impl Restrictions {
    /// Whether a submission may run.
    pub fn allow_sqe(&self, opcode: u8, flags: u8) -> bool {
        self.sqes >> opcode & 1 != 0
            && flags & self.flags_required == self.flags_required
            && flags & !(self.flags_allowed | self.flags_required) == 0
    }

    /// Whether a registration may be made.
    pub fn allow_register(&self, opcode: u32) -> bool {
        self.registers >> opcode & 1 != 0
    }

    fn add(&mut self, entry: &Restriction) -> Result<()> {
        match entry.opcode {
            0 if entry.value < 31 => self.registers |= 1 << entry.value,
            1 if entry.value < abi::io_uring::OP_LAST => self.sqes |= 1 << entry.value,
            2 => self.flags_allowed = entry.value,
            3 => self.flags_required = entry.value,
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}

/// Registers them: once, and before the ring is enabled.
pub fn register(ring: &Ring, arg: usize, nr: u32) -> Result<usize> {
    if !ring.disabled.load(Ordering::Acquire) {
        return Err(Errno::EBADFD);
    }
    if ring.restrictions.get().is_some() {
        return Err(Errno::EBUSY);
    }
    if arg == 0 || nr > MAX {
        return Err(Errno::EINVAL);
    }
    let mut restrictions = Restrictions::default();
    for entry in UserSlice::<Restriction>::new(arg, nr as usize).to_vec()? {
        restrictions.add(&entry)?;
    }
    ring.restrictions.call_once(|| restrictions);
    Ok(0)
}
