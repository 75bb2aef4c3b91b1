//! `MSG_RING`: a completion, or a registered file, for another ring.

use abi::io_uring::{Cqe, Sqe, raw};
use abi::{Errno, Result};

use super::super::cq::IfFull;
use super::super::ring::Ring;
use super::open::install_slot;
use super::{Call, Op, Prep, flags};

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    user_data: u64,
    len: u32,
    command: u64,
    source: u64,
    target: u32,
    bits: u32,
    /// `flags` of the completion, if they are passed.
    cqe_flags: u32,
}

/// Prepares it.
pub fn prep(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.buf_index != 0 || entry.personality != 0 {
        return Err(Errno::EINVAL);
    }
    let _ = prep;
    let known = raw::IORING_MSG_RING_CQE_SKIP | raw::IORING_MSG_RING_FLAGS_PASS;
    if entry.op_flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Message(Message {
        user_data: entry.off,
        len: entry.len,
        command: entry.addr,
        source: entry.addr3,
        target: entry.file_index,
        bits: entry.op_flags,
        cqe_flags: entry.file_index,
    }))
}

impl Message {
    /// Sends it.
    pub fn run(&self, call: &Call<'_, '_>) -> Result<()> {
        let file = call.file()?;
        let Ok(target) = Ring::of(file) else { return Err(Errno::EBADFD) };
        let result = match self.command {
            0 => self.data(target),
            1 => self.file(call, target),
            _ => Err(Errno::EINVAL),
        };
        if result.is_err() {
            call.req.set(flags::FAIL);
        }
        result
    }

    fn check(target: &Ring) -> Result<()> {
        if target.disabled.load(core::sync::atomic::Ordering::Acquire) { Err(Errno::EBADFD) } else { Ok(()) }
    }

    fn post(&self, target: &Ring, res: i32, flags: u32) -> Result<()> {
        let cqe = Cqe { user_data: self.user_data, res, flags };
        if target.post(cqe, IfFull::Keep) { Ok(()) } else { Err(Errno::EOVERFLOW) }
    }

    fn data(&self, target: &Ring) -> Result<()> {
        let passes = self.bits & raw::IORING_MSG_RING_FLAGS_PASS != 0;
        if self.source != 0 || self.bits & !raw::IORING_MSG_RING_FLAGS_PASS != 0 {
            return Err(Errno::EINVAL);
        }
        if !passes && self.target != 0 {
            return Err(Errno::EINVAL);
        }
        Self::check(target)?;
        self.post(target, self.len as i32, if passes { self.cqe_flags } else { 0 })
    }

    fn file(&self, call: &Call<'_, '_>, target: &alloc::sync::Arc<Ring>) -> Result<()> {
        if self.len != 0 || alloc::sync::Arc::ptr_eq(target, call.ring()) {
            return Err(Errno::EINVAL);
        }
        Self::check(target)?;
        let source = u32::try_from(self.source).map_err(|_| Errno::EBADF)?;
        let (file, _) = call.ring().files.lock().get(source)?;
        let slot = match self.target {
            0 => return Err(Errno::EINVAL),
            u32::MAX => None,
            slot => Some(slot - 1),
        };
        let installed = install_slot(target, file, slot)?;
        if self.bits & raw::IORING_MSG_RING_CQE_SKIP != 0 {
            return Ok(());
        }
        self.post(target, installed as i32, 0)
    }
}
