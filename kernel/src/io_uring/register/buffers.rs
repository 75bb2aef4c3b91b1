//! Registered buffers.

use alloc::sync::Arc;

use abi::fs::Iovec;
use abi::io_uring::{CloneBuffers, raw};
use abi::{Errno, Result};
use mm::TryVec;
use mm::fallible::try_with_capacity;
use mm::user::UserPtr;

use super::super::ring::Ring;
use super::super::rsrc::FixedBuffer;
use super::files::{read_register, read_update};

/// Most registered buffers (`IORING_MAX_REG_BUFFERS`).
const MAX: u32 = 1 << 14;

fn one(ring: &Arc<Ring>, iov: usize, tags: usize, index: u32) -> Result<Option<Arc<FixedBuffer>>> {
    let part = match iov {
        0 => Iovec::default(),
        iov => UserPtr::<Iovec>::new(iov).add(index as usize).read()?,
    };
    let tag = if tags == 0 { 0 } else { UserPtr::<u64>::new(tags).add(index as usize).read()? };
    if part.base == 0 {
        // An empty slot has no length and no tag.
        if part.len != 0 {
            return Err(Errno::EFAULT);
        }
        if tag != 0 {
            return Err(Errno::EINVAL);
        }
        return Ok(None);
    }
    if part.len == 0 {
        return Err(Errno::EFAULT);
    }
    FixedBuffer::register(ring, part.base, part.len, tag).map(Some)
}

/// `IORING_REGISTER_BUFFERS`.
pub fn register(ring: &Arc<Ring>, iov: usize, nr: u32, tags: usize) -> Result<usize> {
    if ring.buffers.lock().is_registered() {
        return Err(Errno::EBUSY);
    }
    if nr == 0 || nr > MAX {
        return Err(Errno::EINVAL);
    }
    let mut slots = try_with_capacity(nr as usize)?;
    for index in 0..nr {
        slots.push_reserved(one(ring, iov, tags, index)?);
    }
    ring.buffers.lock().create(slots).map(|()| 0)
}

/// `IORING_REGISTER_BUFFERS2`.
pub fn register2(ring: &Arc<Ring>, arg: usize, size: u32) -> Result<usize> {
    let request = read_register(arg, size)?;
    let sparse = request.flags & raw::IORING_RSRC_REGISTER_SPARSE != 0;
    if sparse && request.data != 0 {
        return Err(Errno::EINVAL);
    }
    register(ring, request.data as usize, request.nr, request.tags as usize)
}

/// `IORING_UNREGISTER_BUFFERS`.
pub fn unregister(ring: &Ring) -> Result<usize> {
    let old = ring.buffers.lock().take_all();
    let registered = old.is_some();
    drop(old);
    if registered { Ok(0) } else { Err(Errno::ENXIO) }
}

/// `IORING_REGISTER_BUFFERS_UPDATE`.
pub fn update2(ring: &Arc<Ring>, arg: usize, size: u32) -> Result<usize> {
    let request = read_update(arg, size)?;
    let len = {
        let buffers = ring.buffers.lock();
        if !buffers.is_registered() {
            return Err(Errno::ENXIO);
        }
        buffers.slots()
    };
    let end = request.offset.checked_add(request.nr).ok_or(Errno::EOVERFLOW)?;
    if end as usize > len {
        return Err(Errno::EINVAL);
    }
    for index in 0..request.nr {
        let change = || {
            let new = one(ring, request.data as usize, request.tags as usize, index)?;
            let old = ring.buffers.lock().set(request.offset + index, new)?;
            drop(old);
            Ok(())
        };
        match change() {
            Ok(()) => {}
            Err(errno) if index == 0 => return Err(errno),
            Err(_) => return Ok(index as usize),
        }
    }
    Ok(request.nr as usize)
}

/// `IORING_REGISTER_CLONE_BUFFERS`: the buffers of another ring.
pub fn clone_from(ring: &Arc<Ring>, arg: usize) -> Result<usize> {
    const SRC_REGISTERED: u32 = 1;
    let request = UserPtr::<CloneBuffers>::new(arg).read()?;
    if request.flags & !SRC_REGISTERED != 0 || request.pad != [0; 6] {
        return Err(Errno::EINVAL);
    }
    if ring.buffers.lock().is_registered() {
        return Err(Errno::EBUSY);
    }
    let file = super::super::enter::ring_file(request.src_fd, request.flags & SRC_REGISTERED != 0)?;
    let source = Ring::of(&file)?;
    let copy = source.buffers.lock().duplicate()?;
    ring.buffers.lock().create(copy).map(|()| 0)
}
