//! Extended attributes: `FSETXATTR`, `SETXATTR`, `FGETXATTR`, `GETXATTR`.

use alloc::vec::Vec;

use abi::io_uring::Sqe;
use abi::{Errno, Result};
use mm::try_box;
use mm::user::UserStr;
use vfs::namei::{At, LookupFlags, path_lookup};

use super::{Call, Op, Prep, flags};
use crate::fs::context::Caller;
use crate::fs::xattr as calls;

/// What to do.
#[derive(Debug)]
pub struct XattrOp {
    /// The file, unless the descriptor is it.
    path: Option<Vec<u8>>,
    key: Vec<u8>,
    /// The value to set.
    set: Option<Vec<u8>>,
    value: usize,
    size: usize,
    flags: u32,
}

fn build(prep: &Prep<'_>, entry: &Sqe, set: bool, by_path: bool) -> Result<Op> {
    if by_path && prep.has(flags::FIXED_FILE) {
        return Err(Errno::EBADF);
    }
    if !set && entry.op_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size = entry.len as usize;
    let key = calls::name(UserStr::new(entry.addr as usize))?;
    let value = if set { Some(calls::read_value(entry.off as usize, size, entry.op_flags)?) } else { None };
    let path = if by_path { Some(UserStr::new(entry.addr3 as usize).read_path()?) } else { None };
    let op = XattrOp { path, key, set: value, value: entry.off as usize, size, flags: entry.op_flags };
    Ok(Op::Xattr(try_box(op)?))
}

/// Prepares `IORING_OP_FSETXATTR`.
pub fn prep_fset(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    build(prep, entry, true, false)
}

/// Prepares `IORING_OP_SETXATTR`.
pub fn prep_set(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    build(prep, entry, true, true)
}

/// Prepares `IORING_OP_FGETXATTR`.
pub fn prep_fget(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    build(prep, entry, false, false)
}

/// Prepares `IORING_OP_GETXATTR`.
pub fn prep_get(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    build(prep, entry, false, true)
}

impl XattrOp {
    /// Does it.
    pub fn run(&self, call: &Call<'_, '_>) -> Result<usize> {
        let caller = Caller::current()?;
        let path = match &self.path {
            Some(name) => path_lookup(&caller.ctx(), At::Cwd, name, LookupFlags::FOLLOW)?,
            None => call.file()?.path().clone(),
        };
        match &self.set {
            Some(value) => {
                vfs::xattr::setxattr(caller.cred(), &path, &self.key, value, self.flags).map(|()| 0)
            }
            None => {
                let value = vfs::xattr::getxattr(caller.cred(), &path, &self.key)?;
                calls::put(&value, self.value, self.size)
            }
        }
    }
}
