//! `io_uring_register(2)`: what a ring keeps for its operations, and settings.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::io_uring::raw;
use abi::io_uring::raw::io_uring_register_op as op;
use abi::{Errno, Result};

use super::ring::Ring;
use super::task::TaskCtx;
use crate::syscall::Syscall;

pub mod buffers;
pub mod files;
pub mod misc;
pub mod probe;
pub mod restrict;
pub mod ringfd;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[IO_URING_REGISTER];

/// Operations that Linux 6.12 knows.
const LAST: u32 = 31;

#[macros::syscall(io_uring_register)]
fn sys_io_uring_register(fd: u32, opcode: u32, arg: usize, nr: u32) -> Result<usize> {
    let registered = opcode & op::IORING_REGISTER_USE_REGISTERED_RING as u32 != 0;
    let opcode = opcode & !(op::IORING_REGISTER_USE_REGISTERED_RING as u32);
    if opcode >= LAST {
        return Err(Errno::EINVAL);
    }
    let file = super::enter::ring_file(fd, registered)?;
    let ring = Ring::of(&file)?;
    let ctx = TaskCtx::current()?;
    register(ring, &ctx, opcode, arg, nr)
}

/// A call without argument.
fn nothing(arg: usize, nr: u32) -> Result<()> {
    if arg != 0 || nr != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// A call with an argument and a count.
fn some(arg: usize, nr: u32, count: u32) -> Result<()> {
    if arg == 0 || nr != count { Err(Errno::EINVAL) } else { Ok(()) }
}

fn register(ring: &Arc<Ring>, ctx: &Arc<TaskCtx>, opcode: u32, arg: usize, nr: u32) -> Result<usize> {
    ring.check_submitter(ctx)?;
    if let Some(restrictions) = ring.restrictions.get()
        && !restrictions.allow_register(opcode)
        && !ring.disabled.load(Ordering::Acquire)
    {
        return Err(Errno::EACCES);
    }
    // Not held while an operation waits for others: those that take it themselves come first.
    if opcode == op::IORING_REGISTER_SYNC_CANCEL as u32 {
        some(arg, nr, 1)?;
        return misc::sync_cancel(ring, ctx, arg);
    }
    let _held = ring.submit.lock();
    dispatch(ring, ctx, opcode, arg, nr)
}

#[allow(clippy::cognitive_complexity)]
fn dispatch(ring: &Arc<Ring>, ctx: &Arc<TaskCtx>, opcode: u32, arg: usize, nr: u32) -> Result<usize> {
    let is = |which: op| opcode == which as u32;
    if is(op::IORING_REGISTER_BUFFERS) {
        if arg == 0 {
            return Err(Errno::EFAULT);
        }
        buffers::register(ring, arg, nr, 0)
    } else if is(op::IORING_UNREGISTER_BUFFERS) {
        nothing(arg, nr)?;
        buffers::unregister(ring)
    } else if is(op::IORING_REGISTER_FILES) {
        if arg == 0 {
            return Err(Errno::EFAULT);
        }
        files::register(ring, Some(arg), nr, 0)
    } else if is(op::IORING_UNREGISTER_FILES) {
        nothing(arg, nr)?;
        files::unregister(ring)
    } else if is(op::IORING_REGISTER_FILES_UPDATE) {
        files::update_old(ring, arg, nr)
    } else if is(op::IORING_REGISTER_EVENTFD) || is(op::IORING_REGISTER_EVENTFD_ASYNC) {
        if nr != 1 {
            return Err(Errno::EINVAL);
        }
        misc::eventfd(ring, arg, is(op::IORING_REGISTER_EVENTFD_ASYNC))
    } else if is(op::IORING_UNREGISTER_EVENTFD) {
        nothing(arg, nr)?;
        misc::no_eventfd(ring)
    } else if is(op::IORING_REGISTER_PROBE) {
        if arg == 0 || nr > 256 {
            return Err(Errno::EINVAL);
        }
        probe::probe(arg, nr)
    } else if is(op::IORING_REGISTER_PERSONALITY) {
        nothing(arg, nr)?;
        misc::personality(ring)
    } else if is(op::IORING_UNREGISTER_PERSONALITY) {
        if arg != 0 {
            return Err(Errno::EINVAL);
        }
        misc::no_personality(ring, nr)
    } else if is(op::IORING_REGISTER_ENABLE_RINGS) {
        nothing(arg, nr)?;
        misc::enable(ring, ctx)
    } else if is(op::IORING_REGISTER_RESTRICTIONS) {
        restrict::register(ring, arg, nr)
    } else if is(op::IORING_REGISTER_FILES2) {
        files::register2(ring, arg, nr)
    } else if is(op::IORING_REGISTER_FILES_UPDATE2) {
        files::update2(ring, arg, nr)
    } else if is(op::IORING_REGISTER_BUFFERS2) {
        buffers::register2(ring, arg, nr)
    } else if is(op::IORING_REGISTER_BUFFERS_UPDATE) {
        buffers::update2(ring, arg, nr)
    } else if is(op::IORING_REGISTER_IOWQ_AFF) {
        if arg == 0 || nr == 0 {
            return Err(Errno::EINVAL);
        }
        misc::affinity(ctx, Some((arg, nr)))
    } else if is(op::IORING_UNREGISTER_IOWQ_AFF) {
        nothing(arg, nr)?;
        misc::affinity(ctx, None)
    } else if is(op::IORING_REGISTER_IOWQ_MAX_WORKERS) {
        some(arg, nr, 2)?;
        misc::max_workers(ctx, arg)
    } else if is(op::IORING_REGISTER_RING_FDS) {
        ringfd::register(ctx, arg, nr)
    } else if is(op::IORING_UNREGISTER_RING_FDS) {
        ringfd::unregister(ctx, arg, nr)
    } else if is(op::IORING_REGISTER_PBUF_RING) {
        some(arg, nr, 1)?;
        misc::pbuf_ring(ring, arg)
    } else if is(op::IORING_UNREGISTER_PBUF_RING) {
        some(arg, nr, 1)?;
        misc::no_pbuf_ring(ring, arg)
    } else if is(op::IORING_REGISTER_PBUF_STATUS) {
        some(arg, nr, 1)?;
        misc::pbuf_status(ring, arg)
    } else if is(op::IORING_REGISTER_FILE_ALLOC_RANGE) {
        if arg == 0 || nr != 0 {
            return Err(Errno::EINVAL);
        }
        files::alloc_range(ring, arg)
    } else if is(op::IORING_REGISTER_CLOCK) {
        if arg == 0 || nr != 0 {
            return Err(Errno::EINVAL);
        }
        misc::clock(ring, arg)
    } else if is(op::IORING_REGISTER_CLONE_BUFFERS) {
        some(arg, nr, 1)?;
        buffers::clone_from(ring, arg)
    } else {
        // Busy polling of network devices (NAPI): there is none.
        Err(Errno::EINVAL)
    }
}

/// `IORING_REGISTER_FILES_SKIP`.
const SKIP: i32 = raw::IORING_REGISTER_FILES_SKIP;
