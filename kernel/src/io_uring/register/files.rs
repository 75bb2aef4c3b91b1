//! Registered files.

use alloc::sync::Arc;

use abi::io_uring::{FileIndexRange, RsrcRegister, RsrcUpdate, RsrcUpdate2, raw};
use abi::{Errno, Result};
use mm::user::{UserPtr, copy_struct_from_user};
use vfs::fdtable::Fd;
use vfs::file::File;

use super::super::ring::Ring;
use super::super::rsrc::{FileSlot, FileSlots};
use super::SKIP;
use crate::fs::context;
use crate::process::{Resource, current};

/// Most registered files (`IORING_MAX_FIXED_FILES`).
const MAX: u32 = 1 << 20;

/// A file that may be registered: rings would keep themselves alive.
fn fixed(fd: i32) -> Result<Arc<File>> {
    let file = context::file(Fd::from_raw(fd)?)?;
    if Ring::is_ring(&file) { Err(Errno::EBADF) } else { Ok(file) }
}

fn tag(tags: usize, index: u32) -> Result<u64> {
    if tags == 0 { Ok(0) } else { UserPtr::<u64>::new(tags).add(index as usize).read() }
}

/// Registers `nr` files; without a list the table is sparse.
pub fn register(ring: &Arc<Ring>, fds: Option<usize>, nr: u32, tags: usize) -> Result<usize> {
    if ring.files.lock().is_registered() {
        return Err(Errno::EBUSY);
    }
    if nr == 0 {
        return Err(Errno::EINVAL);
    }
    if nr > MAX || u64::from(nr) > current().process.limits.cur(Resource::Nofile) {
        return Err(Errno::EMFILE);
    }
    let slots = FileSlots::new(nr)?;
    ring.files.lock().create(slots)?;
    let filled = fill(ring, fds, nr, tags);
    if filled.is_err() {
        let undone = ring.files.lock().take_all();
        drop(undone);
    }
    filled.map(|()| 0)
}

fn fill(ring: &Arc<Ring>, fds: Option<usize>, nr: u32, tags: usize) -> Result<()> {
    for index in 0..nr {
        let tag = tag(tags, index)?;
        let fd = match fds {
            Some(fds) => UserPtr::<i32>::new(fds).add(index as usize).read()?,
            None => -1,
        };
        if fd == -1 {
            // Nothing can be tagged that is not there.
            if tag != 0 {
                return Err(Errno::EINVAL);
            }
            continue;
        }
        let file = fixed(fd)?;
        let slot = FileSlot::new(ring, file, tag)?;
        let old = ring.files.lock().set(index, Some(slot))?;
        drop(old);
    }
    Ok(())
}

/// `IORING_REGISTER_FILES2`.
pub fn register2(ring: &Arc<Ring>, arg: usize, size: u32) -> Result<usize> {
    let request = read_register(arg, size)?;
    if request.flags & raw::IORING_RSRC_REGISTER_SPARSE != 0 {
        if request.data != 0 {
            return Err(Errno::EINVAL);
        }
        return register(ring, None, request.nr, request.tags as usize);
    }
    register(ring, Some(request.data as usize), request.nr, request.tags as usize)
}

/// The structure of the newer calls.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn read_register(arg: usize, size: u32) -> Result<RsrcRegister> {
    if size as usize != size_of::<RsrcRegister>() {
        return Err(Errno::EINVAL);
    }
    let request: RsrcRegister = copy_struct_from_user(UserPtr::new(arg), size as usize)?;
    if request.nr == 0 || request.resv2 != 0 || request.flags & !raw::IORING_RSRC_REGISTER_SPARSE != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(request)
}

/// `IORING_UNREGISTER_FILES`.
pub fn unregister(ring: &Arc<Ring>) -> Result<usize> {
    let old = ring.files.lock().take_all();
    let registered = old.is_some();
    drop(old);
    if registered { Ok(0) } else { Err(Errno::ENXIO) }
}

/// Changes slots from `offset` on; how many were changed before the first error.
pub fn update(ring: &Arc<Ring>, offset: u32, fds: usize, tags: usize, nr: u32) -> Result<usize> {
    let len = {
        let files = ring.files.lock();
        if !files.is_registered() {
            return Err(Errno::ENXIO);
        }
        files.slots()
    };
    let end = offset.checked_add(nr).ok_or(Errno::EOVERFLOW)?;
    if end as usize > len {
        return Err(Errno::EINVAL);
    }
    for index in 0..nr {
        let one = || {
            let tag = tag(tags, index)?;
            let fd = UserPtr::<i32>::new(fds).add(index as usize).read()?;
            if (fd == SKIP || fd == -1) && tag != 0 {
                return Err(Errno::EINVAL);
            }
            let file = match fd {
                SKIP => return Ok(()),
                -1 => None,
                _ => Some(FileSlot::new(ring, fixed(fd)?, tag)?),
            };
            let old = ring.files.lock().set(offset + index, file)?;
            drop(old);
            Ok(())
        };
        match one() {
            Ok(()) => {}
            Err(errno) if index == 0 => return Err(errno),
            Err(_) => return Ok(index as usize),
        }
    }
    Ok(nr as usize)
}

/// `IORING_REGISTER_FILES_UPDATE`.
pub fn update_old(ring: &Arc<Ring>, arg: usize, nr: u32) -> Result<usize> {
    if nr == 0 {
        return Err(Errno::EINVAL);
    }
    let request = UserPtr::<RsrcUpdate>::new(arg).read()?;
    if request.resv != 0 {
        return Err(Errno::EINVAL);
    }
    update(ring, request.offset, request.data as usize, 0, nr)
}

/// The structure of the newer update calls.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn read_update(arg: usize, size: u32) -> Result<RsrcUpdate2> {
    if size as usize != size_of::<RsrcUpdate2>() {
        return Err(Errno::EINVAL);
    }
    let request = UserPtr::<RsrcUpdate2>::new(arg).read()?;
    if request.nr == 0 || request.resv != 0 || request.resv2 != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(request)
}

/// `IORING_REGISTER_FILES_UPDATE2`.
pub fn update2(ring: &Arc<Ring>, arg: usize, size: u32) -> Result<usize> {
    let request = read_update(arg, size)?;
    update(ring, request.offset, request.data as usize, request.tags as usize, request.nr)
}

/// `IORING_REGISTER_FILE_ALLOC_RANGE`.
pub fn alloc_range(ring: &Ring, arg: usize) -> Result<usize> {
    let range = UserPtr::<FileIndexRange>::new(arg).read()?;
    if range.off.checked_add(range.len).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if range.resv != 0 {
        return Err(Errno::EINVAL);
    }
    ring.files.lock().set_range(range.off, range.len).map(|()| 0)
}
