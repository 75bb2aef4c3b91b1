//! Settings and the smaller registrations.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::io_uring::{BufReg, BufStatus, ClockRegister, SyncCancelReg, raw};
use abi::time::Timespec;
use abi::{Errno, Result, raw as uapi};
use arch::cpu::CpuMask;
use mm::try_arc;
use mm::user::{UserPtr, UserSlice};
use sched::hrtimer::Deadline;
use sched::wait::Wait;
use vfs::eventfd::EventFd;
use vfs::fdtable::Fd;

use super::super::cancel::{self, Target};
use super::super::complete::Cx;
use super::super::kbuf;
use super::super::ring::{RegisteredEventFd, Ring};
use super::super::task::TaskCtx;
use crate::fs::context;
use crate::process::current;

/// `IORING_REGISTER_EVENTFD`, `IORING_REGISTER_EVENTFD_ASYNC`.
pub fn eventfd(ring: &Ring, arg: usize, only_async: bool) -> Result<usize> {
    if !ring.eventfd.is_none() {
        return Err(Errno::EBUSY);
    }
    let fd = UserPtr::<i32>::new(arg).read()?;
    let file = context::file(Fd::from_raw(fd)?)?;
    if file.private::<EventFd>().is_none() {
        return Err(Errno::EINVAL);
    }
    drop(ring.eventfd.replace(Some(try_arc(RegisteredEventFd { file, only_async })?)));
    Ok(0)
}

/// `IORING_UNREGISTER_EVENTFD`.
pub fn no_eventfd(ring: &Ring) -> Result<usize> {
    let old = ring.eventfd.replace(None);
    if old.is_some() { Ok(0) } else { Err(Errno::ENXIO) }
}

/// `IORING_REGISTER_PERSONALITY`: the caller's credentials, under a number.
pub fn personality(ring: &Ring) -> Result<usize> {
    let cred = current().cred();
    let mut all = ring.personalities.lock();
    let next = all.last_key_value().map_or(1, |(last, _)| last.wrapping_add(1));
    let id = if next != 0 && !all.contains_key(&next) {
        next
    } else {
        (1..=u16::MAX).find(|id| !all.contains_key(id)).ok_or(Errno::EBUSY)?
    };
    all.try_insert(id, cred)?;
    Ok(usize::from(id))
}

/// `IORING_UNREGISTER_PERSONALITY`.
pub fn no_personality(ring: &Ring, id: u32) -> Result<usize> {
    let id = u16::try_from(id).map_err(|_| Errno::EINVAL)?;
    let old = ring.personalities.lock().remove(&id);
    if old.is_some() { Ok(0) } else { Err(Errno::EINVAL) }
}

/// `IORING_REGISTER_ENABLE_RINGS`.
pub fn enable(ring: &Ring, ctx: &Arc<TaskCtx>) -> Result<usize> {
    if !ring.disabled.load(Ordering::Acquire) {
        return Err(Errno::EBADFD);
    }
    if ring.has(raw::IORING_SETUP_SINGLE_ISSUER) {
        ring.set_submitter(ctx);
    }
    ring.disabled.store(false, Ordering::Release);
    if let Some(thread) = &ring.sq_thread {
        thread.wake_up();
    }
    Ok(0)
}

/// `IORING_REGISTER_IOWQ_AFF` and its opposite.
pub fn affinity(ctx: &Arc<TaskCtx>, mask: Option<(usize, u32)>) -> Result<usize> {
    let cpus = match mask {
        Some((addr, len)) => {
            let mut bytes = [0; 8];
            let len = (len as usize).min(bytes.len());
            UserSlice::<u8>::new(addr, len).copy_to(bytes.get_mut(..len).unwrap_or_default())?;
            let cpus = CpuMask::from_bits(u64::from_ne_bytes(bytes)).and(arch::cpu::possible());
            if cpus.bits() == 0 {
                return Err(Errno::EINVAL);
            }
            Some(cpus)
        }
        None => None,
    };
    ctx.wq()?.set_affinity(cpus);
    Ok(0)
}

/// `IORING_REGISTER_IOWQ_MAX_WORKERS`.
pub fn max_workers(ctx: &Arc<TaskCtx>, arg: usize) -> Result<usize> {
    let user = UserPtr::<[u32; 2]>::new(arg);
    let new = user.read()?;
    if new.iter().any(|n| *n > i32::MAX as u32) {
        return Err(Errno::EINVAL);
    }
    user.write(&ctx.wq()?.set_limits(new))?;
    Ok(0)
}

/// `IORING_REGISTER_PBUF_RING`.
pub fn pbuf_ring(ring: &Ring, arg: usize) -> Result<usize> {
    let request = UserPtr::<BufReg>::new(arg).read()?;
    if request.resv != [0; 3] {
        return Err(Errno::EINVAL);
    }
    kbuf::register(ring, request.bgid, request.ring_addr, request.ring_entries, request.flags).map(|()| 0)
}

/// `IORING_UNREGISTER_PBUF_RING`.
pub fn no_pbuf_ring(ring: &Ring, arg: usize) -> Result<usize> {
    let request = UserPtr::<BufReg>::new(arg).read()?;
    if request.resv != [0; 3] || request.flags != 0 {
        return Err(Errno::EINVAL);
    }
    ring.kbufs.lock().unregister(request.bgid).map(|()| 0)
}

/// `IORING_REGISTER_PBUF_STATUS`.
pub fn pbuf_status(ring: &Ring, arg: usize) -> Result<usize> {
    let user = UserPtr::<BufStatus>::new(arg);
    let mut status = user.read()?;
    if status.resv != [0; 8] {
        return Err(Errno::EINVAL);
    }
    let group = u16::try_from(status.buf_group).map_err(|_| Errno::ENOENT)?;
    status.head = u32::from(ring.kbufs.lock().head(group)?);
    user.write(&status)?;
    Ok(0)
}

/// `IORING_REGISTER_CLOCK`.
pub fn clock(ring: &Ring, arg: usize) -> Result<usize> {
    let request = UserPtr::<ClockRegister>::new(arg).read()?;
    if request.resv != [0; 3] || !matches!(request.clockid, uapi::CLOCK_MONOTONIC | uapi::CLOCK_BOOTTIME) {
        return Err(Errno::EINVAL);
    }
    ring.clock.store(request.clockid as i32, Ordering::Relaxed);
    Ok(0)
}

/// `IORING_REGISTER_SYNC_CANCEL`: cancels and waits until it is done.
pub fn sync_cancel(ring: &Arc<Ring>, ctx: &Arc<TaskCtx>, arg: usize) -> Result<usize> {
    let request = UserPtr::<SyncCancelReg>::new(arg).read()?;
    cancel::check_flags(request.flags)?;
    if request.pad != [0; 7] || request.pad2 != [0; 3] {
        return Err(Errno::EINVAL);
    }
    let target = Target {
        bits: request.flags,
        user_data: request.addr,
        file: cancel::file_of(ring, request.flags, request.fd, false)?,
        opcode: request.opcode,
    };
    let attempt = || {
        let _held = ring.submit.lock();
        let mut cx = Cx::elsewhere(ring);
        cancel::matching(&mut cx, &target, None)
    };
    let mut result = attempt();
    if result != Err(Errno::EALREADY) {
        return result;
    }
    let Timespec { sec, nsec } = request.timeout;
    let deadline = (sec != -1 || nsec != -1).then(|| {
        let ns = u64::try_from(sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nsec as u64);
        Deadline::after_ns(ns)
    });
    while result == Err(Errno::EALREADY) {
        let before = ring.completed();
        let news = || (ring.completed() != before || !ctx.work.is_empty()).then_some(());
        let woken = ring.cq_wait.wait(Wait::INTERRUPTIBLE.until(deadline), news);
        ctx.run();
        result = attempt();
        // What was cancelled meanwhile is not found any more.
        if result == Err(Errno::ENOENT) {
            return Ok(0);
        }
        match woken {
            Ok(()) => {}
            Err(sched::WaitError::TimedOut) => return Err(Errno::ETIME),
            Err(sched::WaitError::Interrupted) => return Err(Errno::EINTR),
        }
    }
    result
}
