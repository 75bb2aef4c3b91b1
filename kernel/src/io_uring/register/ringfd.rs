//! Registered ring descriptors: a thread's own small table, so that entering a ring need not look its file up.

use alloc::sync::Arc;

use abi::io_uring::RsrcUpdate;
use abi::{Errno, Result};
use mm::user::UserPtr;
use vfs::fdtable::Fd;
use vfs::file::File;

use super::super::ring::Ring;
use super::super::task::{RING_FDS, TaskCtx};
use crate::fs::context;

/// Puts `file` into a free slot.
///
/// # Errors
/// `EBUSY`: there is none.
pub fn install(ctx: &TaskCtx, file: Arc<File>) -> Result<i32> {
    let mut fds = ctx.ring_fds.lock();
    let free = fds.iter().position(Option::is_none).ok_or(Errno::EBUSY)?;
    if let Some(slot) = fds.get_mut(free) {
        *slot = Some(file);
    }
    Ok(free as i32)
}

fn place(ctx: &TaskCtx, file: Arc<File>, wanted: u32) -> Result<u32> {
    if wanted == u32::MAX {
        return install(ctx, file).map(|index| index as u32);
    }
    let mut fds = ctx.ring_fds.lock();
    let slot = fds.get_mut(wanted as usize).ok_or(Errno::EINVAL)?;
    if slot.is_some() {
        return Err(Errno::EBUSY);
    }
    *slot = Some(file);
    Ok(wanted)
}

/// `IORING_REGISTER_RING_FDS`: how many were registered before the first error.
pub fn register(ctx: &TaskCtx, arg: usize, nr: u32) -> Result<usize> {
    if nr == 0 || nr as usize > RING_FDS {
        return Err(Errno::EINVAL);
    }
    for index in 0..nr as usize {
        let user = UserPtr::<RsrcUpdate>::new(arg).add(index);
        let one = || {
            let mut request = user.read()?;
            if request.resv != 0 {
                return Err(Errno::EINVAL);
            }
            let file = context::file(Fd(request.data as u32))?;
            Ring::of(&file)?;
            request.offset = place(ctx, file, request.offset)?;
            user.write(&request)
        };
        match one() {
            Ok(()) => {}
            Err(errno) if index == 0 => return Err(errno),
            Err(_) => return Ok(index),
        }
    }
    Ok(nr as usize)
}

/// `IORING_UNREGISTER_RING_FDS`.
pub fn unregister(ctx: &TaskCtx, arg: usize, nr: u32) -> Result<usize> {
    if nr == 0 || nr as usize > RING_FDS {
        return Err(Errno::EINVAL);
    }
    for index in 0..nr as usize {
        let request = UserPtr::<RsrcUpdate>::new(arg).add(index).read()?;
        let old = {
            let mut fds = ctx.ring_fds.lock();
            let slot = fds.get_mut(request.offset as usize);
            match slot {
                Some(slot) if request.resv == 0 && request.data == 0 => slot.take(),
                _ if index == 0 => return Err(Errno::EINVAL),
                _ => return Ok(index),
            }
        };
        drop(old);
    }
    Ok(nr as usize)
}
