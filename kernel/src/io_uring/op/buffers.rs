//! `PROVIDE_BUFFERS`, `REMOVE_BUFFERS`.

use abi::io_uring::Sqe;
use abi::{Errno, Result};

use super::{Call, Op, Prep};

/// Most buffers of one call, and the highest number.
const MAX: u32 = 1 << 16;

/// `IORING_OP_PROVIDE_BUFFERS`.
#[derive(Clone, Copy, Debug)]
pub struct Provide {
    addr: u64,
    len: u32,
    count: u32,
    group: u16,
    bid: u16,
}

/// Prepares it.
pub fn prep_provide(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.op_flags != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    let count = u32::try_from(entry.fd).ok().filter(|n| (1..=MAX).contains(n)).ok_or(Errno::E2BIG)?;
    let (addr, len) = (entry.addr, entry.len);
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let size = u64::from(len).checked_mul(u64::from(count)).ok_or(Errno::EOVERFLOW)?;
    addr.checked_add(size).ok_or(Errno::EOVERFLOW)?;
    if !mm::user::access_ok(addr as usize, size as usize) {
        return Err(Errno::EFAULT);
    }
    let bid = u32::try_from(entry.off).ok().filter(|bid| *bid < MAX).ok_or(Errno::E2BIG)?;
    if bid + count > MAX {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Provide(Provide { addr, len, count, group: entry.buf_index, bid: bid as u16 }))
}

impl Provide {
    /// Does it.
    pub fn run(&self, call: &Call<'_, '_>) -> Result<()> {
        call.ring().kbufs.lock().provide(self.group, self.addr, self.len, self.bid, self.count)
    }
}

/// `IORING_OP_REMOVE_BUFFERS`.
#[derive(Clone, Copy, Debug)]
pub struct Remove {
    count: u32,
    group: u16,
}

/// Prepares it.
pub fn prep_remove(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.op_flags != 0 || entry.addr != 0 || entry.len != 0 || entry.off != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    let count = u32::try_from(entry.fd).ok().filter(|n| (1..=MAX).contains(n)).ok_or(Errno::EINVAL)?;
    Ok(Op::Remove(Remove { count, group: entry.buf_index }))
}

impl Remove {
    /// Does it.
    pub fn run(&self, call: &Call<'_, '_>) -> Result<usize> {
        call.ring().kbufs.lock().remove(self.group, self.count)
    }
}
