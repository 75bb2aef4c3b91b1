//! `IORING_REGISTER_PROBE`: which operations there are.

use abi::io_uring::{OP_LAST, ProbeHeader, ProbeOp};
use abi::{Errno, Result};
use mm::user::UserPtr;

use super::super::op::OpDef;

/// `IO_URING_OP_SUPPORTED`.
const SUPPORTED: u16 = 1;

/// Fills in the table at `arg`, which has room for `nr` operations.
pub fn probe(arg: usize, nr: u32) -> Result<usize> {
    let count = (nr as usize).min(usize::from(OP_LAST));
    // The table must come cleared.
    let header = UserPtr::<ProbeHeader>::new(arg).read()?;
    let clean = header.last_op == 0 && header.ops_len == 0 && header.resv == 0 && header.resv2 == [0; 3];
    let ops = UserPtr::<ProbeHeader>::new(arg).add(1).cast::<ProbeOp>();
    for index in 0..count {
        let op = ops.add(index).read()?;
        if op.op != 0 || op.resv != 0 || op.flags != 0 || op.resv2 != 0 {
            return Err(Errno::EINVAL);
        }
    }
    if !clean {
        return Err(Errno::EINVAL);
    }
    let header = ProbeHeader { last_op: OP_LAST - 1, ops_len: count as u8, ..ProbeHeader::default() };
    UserPtr::new(arg).write(&header)?;
    for index in 0..count {
        let flags = if OpDef::of(index as u8).is_some() { SUPPORTED } else { 0 };
        ops.add(index).write(&ProbeOp { op: index as u8, flags, ..ProbeOp::default() })?;
    }
    Ok(0)
}
