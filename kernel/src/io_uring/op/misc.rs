//! `NOP`, `STATX`, `MADVISE`.

use abi::io_uring::{Sqe, raw};
use abi::{Errno, Result};
use mm::user::UserStr;

use super::{Op, Prep};
use crate::fs::context::DirFd;
use crate::process::current;

/// Prepares `IORING_OP_NOP`.
pub fn prep_nop(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.op_flags & !raw::IORING_NOP_INJECT_RESULT != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Nop((entry.op_flags & raw::IORING_NOP_INJECT_RESULT != 0).then_some(entry.len as i32)))
}

/// `IORING_OP_STATX`.
#[derive(Debug)]
pub struct Statx {
    dir: DirFd,
    name: alloc::vec::Vec<u8>,
    flags: u32,
    mask: u32,
    buf: usize,
}

/// Prepares it.
pub fn prep_statx(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.buf_index != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    if prep.has(super::flags::FIXED_FILE) {
        return Err(Errno::EBADF);
    }
    let empty = entry.op_flags & abi::raw::AT_EMPTY_PATH != 0 && entry.addr == 0;
    let name = if empty { alloc::vec::Vec::new() } else { UserStr::new(entry.addr as usize).read_path()? };
    Ok(Op::Statx(Statx {
        dir: DirFd(entry.fd),
        name,
        flags: entry.op_flags,
        mask: entry.len,
        buf: entry.off as usize,
    }))
}

impl Statx {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        crate::fs::stat::statx(self.dir, &self.name, self.flags, self.mask, self.buf)
    }
}

/// `IORING_OP_MADVISE`.
#[derive(Clone, Copy, Debug)]
pub struct Madvise {
    addr: usize,
    len: usize,
    advice: u32,
}

/// Prepares it.
pub fn prep_madvise(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.buf_index != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    // The offset is a length of 64 bits where the short one is not enough.
    let len = if entry.off != 0 { entry.off as usize } else { entry.len as usize };
    Ok(Op::Madvise(Madvise { addr: entry.addr as usize, len, advice: entry.op_flags }))
}

impl Madvise {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        current().mm().ok_or(Errno::EFAULT)?.madvise(self.addr, self.len, self.advice)
    }
}
