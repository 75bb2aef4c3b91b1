//! `io_uring_enter(2)`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::io_uring::{GeteventsArg, raw};
use abi::time::Timespec;
use abi::{Errno, Result};
use mm::user::UserPtr;
use sched::WaitError;
use sched::hrtimer::Deadline;
use sched::time::Clock;
use sched::wait::Wait;
use vfs::fdtable::Fd;
use vfs::file::File;

use super::ring::Ring;
use super::submit;
use super::task::TaskCtx;
use crate::fs::context;
use crate::process::current;
use crate::signal::wait::{restore_user_mask, set_user_mask};
use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[IO_URING_ENTER];

const KNOWN: u32 = raw::IORING_ENTER_GETEVENTS
    | raw::IORING_ENTER_SQ_WAKEUP
    | raw::IORING_ENTER_SQ_WAIT
    | raw::IORING_ENTER_EXT_ARG
    | raw::IORING_ENTER_REGISTERED_RING
    | raw::IORING_ENTER_ABS_TIMER;

/// The file of a ring, by descriptor or by the index of a registered one.
///
/// # Errors
/// `EBADF`, `EINVAL`.
#[inline(always)]
pub fn ring_file(fd: u32, registered: bool) -> Result<Arc<File>> {
    if registered { registered_file(fd) } else { context::file(Fd(fd)) }
}

fn registered_file(index: u32) -> Result<Arc<File>> {
    TaskCtx::existing(&current()).ok_or(Errno::EINVAL)?.ring_fd(index)
}

/// How to wait for completions.
#[derive(Default)]
struct Waiting {
    sigmask: u64,
    sigmask_size: usize,
    /// Of the ring's clock.
    timeout_ns: Option<u64>,
    /// After this, one completion is enough.
    min_wait_us: u32,
    absolute: bool,
}

fn waiting(flags: u32, arg: usize, size: usize) -> Result<Waiting> {
    let absolute = flags & raw::IORING_ENTER_ABS_TIMER != 0;
    if flags & raw::IORING_ENTER_EXT_ARG == 0 {
        return Ok(Waiting { sigmask: arg as u64, sigmask_size: size, absolute, ..Waiting::default() });
    }
    if size != size_of::<GeteventsArg>() {
        return Err(Errno::EINVAL);
    }
    let ext = UserPtr::<GeteventsArg>::new(arg).read()?;
    let timeout_ns = match ext.ts {
        0 => None,
        addr => {
            let time = UserPtr::<Timespec>::new(addr as usize).read()?;
            let seconds = u64::try_from(time.sec).unwrap_or(0);
            Some(seconds.saturating_mul(1_000_000_000).saturating_add(time.nsec as u64))
        }
    };
    Ok(Waiting {
        sigmask: ext.sigmask,
        sigmask_size: ext.sigmask_sz as usize,
        timeout_ns,
        min_wait_us: ext.min_wait_usec,
        absolute,
    })
}

fn ring_clock(ring: &Ring) -> Clock {
    match ring.clock.load(Ordering::Relaxed) as u32 {
        abi::raw::CLOCK_BOOTTIME => Clock::Boottime,
        _ => Clock::Monotonic,
    }
}

/// Whether there is work for the running thread, or work of the ring that it might run.
#[inline]
fn has_work(ring: &Ring, ctx: &TaskCtx) -> bool {
    !ctx.work.is_empty() || ring.defers_work() && !ring.work.is_empty()
}

/// Runs the work that is the running thread's: its own, and the ring's if it may.
fn run_work(ring: &Ring, ctx: &Arc<TaskCtx>) {
    if !ctx.work.is_empty() {
        ctx.run();
        let me = current();
        let state = me.process.sig.lock();
        state.recalculate(me.task(), &me);
    }
    if ring.defers_work() && !ring.work.is_empty() && ring.check_submitter(ctx).is_ok() {
        ring.run_deferred(Some(ctx));
    }
}

/// Does what is due, and looks whether `min` completions are there.
#[inline]
fn look(ring: &Ring, ctx: &Arc<TaskCtx>, min: u32) -> bool {
    ring.flush_overflow();
    if has_work(ring, ctx) {
        run_work(ring, ctx);
        ring.flush_overflow();
    }
    ring.ready() >= min
}

/// Waits until `min` completions are there, as the arguments of the call say.
#[inline(never)]
fn wait(ring: &Arc<Ring>, ctx: &Arc<TaskCtx>, min: u32, call: (u32, usize, usize)) -> Result<()> {
    let (flags, arg, size) = call;
    let how = &waiting(flags, arg, size)?;
    if look(ring, ctx, min) {
        return Ok(());
    }
    let clock = ring_clock(ring);
    let now = sched::time::clock_ns(clock);
    let end = how.timeout_ns.map(|ns| if how.absolute { ns } else { now.saturating_add(ns) });
    let soon = (how.min_wait_us != 0).then(|| now.saturating_add(u64::from(how.min_wait_us) * 1000));
    set_user_mask(UserPtr::new(how.sigmask as usize), how.sigmask_size)?;
    let result = wait_loop(ring, ctx, min, clock, end, soon);
    restore_user_mask(result == Err(Errno::EINTR));
    // Whatever is there is worth returning for.
    if ring.ready() > 0 { Ok(()) } else { result }
}

fn wait_loop(
    ring: &Arc<Ring>,
    ctx: &Arc<TaskCtx>,
    min: u32,
    clock: Clock,
    end: Option<u64>,
    mut soon: Option<u64>,
) -> Result<()> {
    let mut min = min;
    loop {
        let until = match (soon, end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let deadline = until.map(|ns| Deadline::at(clock, ns));
        let work = || has_work(ring, ctx);
        let woken = ring
            .cq_wait
            .wait(Wait::INTERRUPTIBLE.until(deadline), || (ring.ready() >= min || work()).then_some(()));
        if work() {
            run_work(ring, ctx);
            ring.flush_overflow();
        }
        if ring.ready() >= min {
            return Ok(());
        }
        match woken {
            Ok(()) => {}
            Err(WaitError::Interrupted) => {
                // It may have been work that ended the sleep.
                let me = current();
                let state = me.process.sig.lock();
                state.recalculate(me.task(), &me);
                drop(state);
                if me.task().has_pending_signal() && ctx.work.is_empty() {
                    return Err(Errno::EINTR);
                }
            }
            Err(WaitError::TimedOut) => {
                let now = sched::time::clock_ns(clock);
                if end.is_some_and(|end| now >= end) {
                    return Err(Errno::ETIME);
                }
                if soon.is_some_and(|soon| now >= soon) {
                    soon = None;
                    min = 1;
                    if ring.ready() >= min {
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[macros::syscall(io_uring_enter)]
fn sys_io_uring_enter(
    fd: u32,
    to_submit: u32,
    min_complete: u32,
    flags: u32,
    arg: usize,
    size: usize,
) -> Result<u32> {
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let file = ring_file(fd, flags & raw::IORING_ENTER_REGISTERED_RING != 0)?;
    let ring = Ring::of(&file)?;
    if ring.disabled.load(Ordering::Acquire) {
        return Err(Errno::EBADFD);
    }
    let ctx = TaskCtx::current()?;
    let mut submitted = 0;
    if let Some(thread) = &ring.sq_thread {
        if thread.is_stopping() {
            return Err(Errno::EOWNERDEAD);
        }
        if flags & raw::IORING_ENTER_SQ_WAKEUP != 0 {
            thread.wake_up();
        }
        if flags & raw::IORING_ENTER_SQ_WAIT != 0 {
            let room = || ring.pending_submissions() < ring.layout.sq_entries || thread.is_stopping();
            ring.sq_wait.wait_event_interruptible(room).map_err(|_| Errno::EINTR)?;
        }
        submitted = to_submit;
    } else if to_submit > 0 {
        ring.check_submitter(&ctx)?;
        submitted = {
            let mut state = ring.submit.lock();
            submit::submit(ring, &mut state, &ctx, to_submit)?
        };
        if submitted != to_submit {
            // What was not taken is the news; waiting is for later.
            return Ok(submitted);
        }
    }
    if flags & raw::IORING_ENTER_GETEVENTS != 0 {
        if ring.defers_work() {
            ring.check_submitter(&ctx).map_err(|_| Errno::EEXIST)?;
        }
        let min = min_complete.min(ring.layout.cq_entries);
        // Without an extended argument there is nothing in it to be refused.
        if (flags & raw::IORING_ENTER_EXT_ARG != 0 || !look(ring, &ctx, min))
            && let Err(errno) = wait(ring, &ctx, min, (flags, arg, size))
            && submitted == 0
        {
            return Err(errno);
        }
    }
    Ok(submitted)
}
