//! Operations on names: `RENAMEAT`, `UNLINKAT`, `MKDIRAT`, `SYMLINKAT`, `LINKAT`.

use alloc::vec::Vec;

use abi::io_uring::Sqe;
use abi::{Errno, Result, raw};
use mm::try_box;
use mm::user::UserStr;
use vfs::namei;

use super::{Op, Prep, flags};
use crate::fs::context::{DirFd, at};

/// What to do.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum NameOp {
    Rename { old_dir: DirFd, old: Vec<u8>, new_dir: DirFd, new: Vec<u8>, flags: u32 },
    Unlink { dir: DirFd, name: Vec<u8>, rmdir: bool },
    Mkdir { dir: DirFd, name: Vec<u8>, mode: u32 },
    Symlink { target: Vec<u8>, dir: DirFd, name: Vec<u8> },
    Link { old_dir: DirFd, old: Vec<u8>, new_dir: DirFd, new: Vec<u8>, flags: u32 },
}

fn boxed(op: NameOp) -> Result<Op> {
    Ok(Op::Name(try_box(op)?))
}

fn name(addr: u64) -> Result<Vec<u8>> {
    UserStr::new(addr as usize).read_path()
}

fn check(prep: &Prep<'_>, clean: bool) -> Result<()> {
    if !clean {
        return Err(Errno::EINVAL);
    }
    if prep.has(flags::FIXED_FILE) { Err(Errno::EBADF) } else { Ok(()) }
}

/// Prepares `IORING_OP_RENAMEAT`.
pub fn prep_rename(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    check(prep, entry.buf_index == 0 && entry.file_index == 0)?;
    boxed(NameOp::Rename {
        old_dir: DirFd(entry.fd),
        old: name(entry.addr)?,
        new_dir: DirFd(entry.len as i32),
        new: name(entry.off)?,
        flags: entry.op_flags,
    })
}

/// Prepares `IORING_OP_UNLINKAT`.
pub fn prep_unlink(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    check(prep, entry.off == 0 && entry.len == 0 && entry.buf_index == 0 && entry.file_index == 0)?;
    if entry.op_flags & !raw::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let rmdir = entry.op_flags & raw::AT_REMOVEDIR != 0;
    boxed(NameOp::Unlink { dir: DirFd(entry.fd), name: name(entry.addr)?, rmdir })
}

/// Prepares `IORING_OP_MKDIRAT`.
pub fn prep_mkdir(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    check(prep, entry.off == 0 && entry.op_flags == 0 && entry.buf_index == 0 && entry.file_index == 0)?;
    boxed(NameOp::Mkdir { dir: DirFd(entry.fd), name: name(entry.addr)?, mode: entry.len })
}

/// Prepares `IORING_OP_SYMLINKAT`.
pub fn prep_symlink(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    check(prep, entry.len == 0 && entry.op_flags == 0 && entry.buf_index == 0 && entry.file_index == 0)?;
    let (target, dir, name) = (name(entry.addr)?, DirFd(entry.fd), name(entry.off)?);
    boxed(NameOp::Symlink { target, dir, name })
}

/// Prepares `IORING_OP_LINKAT`.
pub fn prep_link(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    check(prep, entry.buf_index == 0 && entry.file_index == 0)?;
    boxed(NameOp::Link {
        old_dir: DirFd(entry.fd),
        old: name(entry.addr)?,
        new_dir: DirFd(entry.len as i32),
        new: name(entry.off)?,
        flags: entry.op_flags,
    })
}

impl NameOp {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Rename { old_dir, old, new_dir, new, flags } => at(*old_dir, old, |ctx, old_at| {
                at(*new_dir, new, |_, new_at| namei::rename(ctx, old_at, old, new_at, new, *flags))
            }),
            Self::Unlink { dir, name, rmdir: true } => at(*dir, name, |ctx, at| namei::rmdir(ctx, at, name)),
            Self::Unlink { dir, name, rmdir: false } => {
                at(*dir, name, |ctx, at| namei::unlink(ctx, at, name))
            }
            Self::Mkdir { dir, name, mode } => {
                at(*dir, name, |ctx, at| namei::mkdir(ctx, at, name, *mode).map(drop))
            }
            Self::Symlink { target, dir, name } => {
                at(*dir, name, |ctx, at| namei::symlink(ctx, target, at, name).map(drop))
            }
            Self::Link { old_dir, old, new_dir, new, flags } => {
                if flags & !(raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH) != 0 {
                    return Err(Errno::EINVAL);
                }
                at(*old_dir, old, |ctx, old_at| {
                    at(*new_dir, new, |_, new_at| {
                        namei::link(ctx, old_at, old, new_at, new, *flags).map(drop)
                    })
                })
            }
        }
    }
}
