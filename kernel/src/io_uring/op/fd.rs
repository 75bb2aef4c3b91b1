//! `FILES_UPDATE`, `FIXED_FD_INSTALL`.

use abi::io_uring::{Sqe, raw};
use abi::{Errno, Result};
use mm::user::UserPtr;

use super::open::install_slot;
use super::{Call, Op, Prep, flags};
use crate::fs::context;

/// `IORING_OP_FILES_UPDATE`.
#[derive(Clone, Copy, Debug)]
pub struct FilesUpdate {
    fds: usize,
    nr: u32,
    offset: u32,
}

/// Prepares it.
pub fn prep_files_update(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    let bad = entry.op_flags != 0 || entry.file_index != 0 || entry.len == 0;
    if bad || prep.has(flags::FIXED_FILE | flags::BUFFER_SELECT) {
        return Err(Errno::EINVAL);
    }
    Ok(Op::FilesUpdate(FilesUpdate { fds: entry.addr as usize, nr: entry.len, offset: entry.off as u32 }))
}

impl FilesUpdate {
    /// Does it.
    pub fn run(&self, call: &Call<'_, '_>) -> Result<usize> {
        let ring = call.ring();
        if self.offset as i32 != raw::IORING_FILE_INDEX_ALLOC {
            return super::super::register::files::update(ring, self.offset, self.fds, 0, self.nr);
        }
        // Free slots are taken; the user's list gets their numbers.
        if !ring.files.lock().is_registered() {
            return Err(Errno::ENXIO);
        }
        for index in 0..self.nr as usize {
            let user = UserPtr::<i32>::new(self.fds).add(index);
            let one = || {
                let file = context::file(vfs::fdtable::Fd::from_raw(user.read()?)?)?;
                let slot = install_slot(ring, file, None)?;
                user.write(&(slot as i32)).inspect_err(|_| {
                    let _ = super::open::clear_slot(ring, slot as u32);
                })
            };
            match one() {
                Ok(()) => {}
                Err(errno) if index == 0 => return Err(errno),
                Err(_) => return Ok(index),
            }
        }
        Ok(self.nr as usize)
    }
}

/// Prepares `IORING_OP_FIXED_FD_INSTALL`.
pub fn prep_install(prep: &Prep<'_>, entry: &Sqe) -> Result<Op> {
    if entry.off != 0
        || entry.addr != 0
        || entry.len != 0
        || entry.buf_index != 0
        || entry.file_index != 0
        || entry.addr3 != 0
    {
        return Err(Errno::EINVAL);
    }
    // The file must be a registered one, and the table that of the caller.
    if !prep.has(flags::FIXED_FILE) {
        return Err(Errno::EBADF);
    }
    if entry.op_flags & !raw::IORING_FIXED_FD_NO_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    if prep.cred.is_some() {
        return Err(Errno::EPERM);
    }
    Ok(Op::FixedFdInstall(entry.op_flags))
}

/// Gives a registered file a descriptor.
pub fn install(call: &Call<'_, '_>, bits: u32) -> Result<usize> {
    let cloexec = bits & raw::IORING_FIXED_FD_NO_CLOEXEC == 0;
    context::install(call.file()?.clone(), cloexec).map(|fd| fd.0 as usize)
}
