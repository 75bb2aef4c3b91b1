//! Operations on a file that a worker does: `FSYNC`, `SYNC_FILE_RANGE`, `FALLOCATE`, `FADVISE`, `FTRUNCATE`, `SPLICE`, `TEE`.

use alloc::sync::Arc;

use abi::io_uring::{Sqe, raw};
use abi::{Errno, Result};
use vfs::fdtable::Fd;
use vfs::file::File;
use vfs::{rw, splice};

use super::{Call, Op, Prep};
use crate::fs::context;
use crate::fs::rw as calls;

/// What to do with the file.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum FileOp {
    Fsync { offset: i64, len: u32, datasync: bool },
    SyncRange { offset: i64, len: i64, flags: u32 },
    Fallocate { mode: u32, offset: i64, len: i64 },
    Fadvise { offset: i64, len: i64, advice: u32 },
    Truncate { size: i64 },
}

/// Prepares `IORING_OP_FSYNC`.
pub fn prep_fsync(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.addr != 0
        || entry.buf_index != 0
        || entry.file_index != 0
        || entry.op_flags & !raw::IORING_FSYNC_DATASYNC != 0
    {
        return Err(Errno::EINVAL);
    }
    let datasync = entry.op_flags & raw::IORING_FSYNC_DATASYNC != 0;
    Ok(Op::File(FileOp::Fsync { offset: entry.off as i64, len: entry.len, datasync }))
}

/// Prepares `IORING_OP_SYNC_FILE_RANGE`.
pub fn prep_sync_range(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.addr != 0 || entry.buf_index != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    let (offset, len) = (entry.off as i64, i64::from(entry.len));
    Ok(Op::File(FileOp::SyncRange { offset, len, flags: entry.op_flags }))
}

/// Prepares `IORING_OP_FALLOCATE`.
pub fn prep_fallocate(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.buf_index != 0 || entry.op_flags != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Op::File(FileOp::Fallocate { mode: entry.len, offset: entry.off as i64, len: entry.addr as i64 }))
}

/// Prepares `IORING_OP_FADVISE`.
pub fn prep_fadvise(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.buf_index != 0 || entry.file_index != 0 {
        return Err(Errno::EINVAL);
    }
    // The address is a length of 64 bits where the short one is not enough.
    let len = if entry.addr != 0 { entry.addr as i64 } else { i64::from(entry.len) };
    Ok(Op::File(FileOp::Fadvise { offset: entry.off as i64, len, advice: entry.op_flags }))
}

/// Prepares `IORING_OP_FTRUNCATE`.
pub fn prep_ftruncate(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.op_flags != 0
        || entry.addr != 0
        || entry.len != 0
        || entry.buf_index != 0
        || entry.file_index != 0
        || entry.addr3 != 0
    {
        return Err(Errno::EINVAL);
    }
    Ok(Op::File(FileOp::Truncate { size: entry.off as i64 }))
}

impl FileOp {
    /// Does it.
    pub fn run(&self, call: &Call<'_, '_>) -> Result<usize> {
        let file = call.file()?;
        match *self {
            Self::Fsync { offset, len, datasync } => {
                let start = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
                let end = match start.saturating_add(u64::from(len)) {
                    0 => u64::MAX,
                    end => end,
                };
                rw::vfs_fsync(file, start, end, datasync)
            }
            Self::SyncRange { offset, len, flags } => calls::sync_range(file, offset, len, flags),
            Self::Fallocate { mode, offset, len } => rw::fallocate(file, mode, offset, len),
            Self::Fadvise { offset, len, advice } => calls::fadvise(file, offset, len, advice),
            Self::Truncate { size } => {
                if size < 0 {
                    return Err(Errno::EINVAL);
                }
                vfs::attr::ftruncate(file, size)
            }
        }
        .map(|()| 0)
    }
}

/// `IORING_OP_SPLICE`, `IORING_OP_TEE`: the request's file is the output.
#[derive(Clone, Copy, Debug)]
pub struct Splice {
    input: u32,
    off_in: i64,
    off_out: i64,
    len: usize,
    flags: u32,
    tee: bool,
}

fn build(entry: &Sqe, tee: bool) -> Result<Op> {
    let known = abi::raw::SPLICE_F_MOVE
        | abi::raw::SPLICE_F_NONBLOCK
        | abi::raw::SPLICE_F_MORE
        | abi::raw::SPLICE_F_GIFT
        | SPLICE_F_FD_IN_FIXED;
    if entry.op_flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Op::Splice(Splice {
        input: entry.file_index,
        off_in: entry.addr as i64,
        off_out: entry.off as i64,
        len: entry.len as usize,
        flags: entry.op_flags,
        tee,
    }))
}

/// `splice_fd_in` is an index of the registered files.
const SPLICE_F_FD_IN_FIXED: u32 = 1 << 31;

/// Prepares `IORING_OP_SPLICE`.
pub fn prep_splice(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    build(entry, false)
}

/// Prepares `IORING_OP_TEE`.
pub fn prep_tee(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.off != 0 || entry.addr != 0 {
        return Err(Errno::EINVAL);
    }
    build(entry, true)
}

impl Splice {
    fn input(&self, call: &Call<'_, '_>) -> Result<Arc<File>> {
        if self.flags & SPLICE_F_FD_IN_FIXED != 0 {
            return call.ring().files.lock().get(self.input).map(|(file, _)| file);
        }
        context::file(Fd(self.input))
    }

    /// Does it.
    pub fn run(&self, call: &Call<'_, '_>) -> Result<usize> {
        let (input, output) = (self.input(call)?, call.file()?);
        if self.len == 0 {
            return Ok(0);
        }
        let flags = self.flags & !SPLICE_F_FD_IN_FIXED;
        let done = if self.tee {
            splice::tee(&input, output, self.len, flags)
        } else {
            let position = |at: i64| (at != -1).then_some(at);
            splice::splice(&input, position(self.off_in), output, position(self.off_out), self.len, flags)
                .map(|(done, _)| done)
        };
        if done != Ok(self.len) {
            call.req.set_fail();
        }
        done
    }
}
