//! io_setup(2), io_destroy(2), io_submit(2), io_getevents(2), io_pgetevents(2), io_cancel(2).

use abi::aio::{AioSigset, IoEvent};
use abi::time::Timespec;
use abi::{Errno, Result};
use mm::user::UserPtr;
use sched::WaitError;
use sched::hrtimer::Deadline;
use sched::wait::Wait;

use super::context::{self, Context};
use super::submit;
use crate::signal::wait::{restore_user_mask, set_user_mask};
use crate::syscall::Syscall;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[IO_SETUP, IO_DESTROY, IO_SUBMIT, IO_GETEVENTS, IO_PGETEVENTS, IO_CANCEL];

#[macros::syscall(io_setup)]
fn sys_io_setup(events: u32, user: UserPtr<u64>) -> Result<()> {
    if user.read()? != 0 || events == 0 {
        return Err(Errno::EINVAL);
    }
    let addr = context::create(events)?;
    user.write(&(addr as u64)).inspect_err(|_| {
        let _ = context::destroy(addr);
    })
}

#[macros::syscall(io_destroy)]
fn sys_io_destroy(ctx: usize) -> Result<()> {
    context::destroy(ctx)
}

#[macros::syscall(io_submit)]
fn sys_io_submit(ctx: usize, count: isize, list: UserPtr<u64>) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let context = context::find(ctx)?;
    let count = count.min(context.slots() as usize);
    for index in 0..count {
        let one = list.add(index).read().and_then(|addr| submit::one(&context, addr as usize));
        match one {
            Ok(()) => {}
            Err(errno) if index == 0 => return Err(errno),
            Err(_) => return Ok(index),
        }
    }
    Ok(count)
}

/// Waits for at least `min` events and reads up to `max`.
fn get_events(
    context: &Context,
    min: isize,
    max: isize,
    events: UserPtr<IoEvent>,
    timeout_ns: Option<u64>,
) -> Result<usize> {
    let (Ok(min), Ok(max)) = (usize::try_from(min), usize::try_from(max)) else { return Err(Errno::EINVAL) };
    if min > max {
        return Err(Errno::EINVAL);
    }
    let deadline = timeout_ns.map(Deadline::after_ns);
    let mut done = 0;
    loop {
        let read = context.read(max - done, |event| {
            events.add(done).write(event)?;
            done += 1;
            Ok(())
        });
        if let Err(errno) = read
            && done == 0
        {
            return Err(errno);
        }
        if done >= min || timeout_ns == Some(0) || read.is_err() {
            return Ok(done);
        }
        if context.is_dead() {
            return Err(Errno::EINVAL);
        }
        let ready = || (context.has(1) || context.is_dead()).then_some(());
        match context.wait.wait(Wait::INTERRUPTIBLE.until(deadline), ready) {
            Ok(()) => {}
            Err(WaitError::TimedOut) => return Ok(done),
            Err(WaitError::Interrupted) if done > 0 => return Ok(done),
            Err(WaitError::Interrupted) => return Err(Errno::EINTR),
        }
    }
}

#[macros::syscall(io_getevents)]
fn sys_io_getevents(
    ctx: usize,
    min: isize,
    max: isize,
    events: UserPtr<IoEvent>,
    timeout: UserPtr<Timespec>,
) -> Result<usize> {
    let timeout = timeout.read_opt()?.map(Timespec::to_ns).transpose()?;
    get_events(&*context::find(ctx)?, min, max, events, timeout)
}

#[macros::syscall(io_pgetevents)]
fn sys_io_pgetevents(
    ctx: usize,
    min: isize,
    max: isize,
    events: UserPtr<IoEvent>,
    timeout: UserPtr<Timespec>,
    sigset: UserPtr<AioSigset>,
) -> Result<usize> {
    let timeout = timeout.read_opt()?.map(Timespec::to_ns).transpose()?;
    let sigset = sigset.read_opt()?.unwrap_or_default();
    set_user_mask(UserPtr::new(sigset.sigmask as usize), sigset.size as usize)?;
    let result = context::find(ctx).and_then(|context| get_events(&context, min, max, events, timeout));
    restore_user_mask(result == Err(Errno::EINTR));
    result
}

#[macros::syscall(io_cancel)]
fn sys_io_cancel(ctx: usize, iocb: UserPtr<u32>, _result: UserPtr<IoEvent>) -> Result<()> {
    if iocb.byte_add::<u32>(8).read()? != 0 {
        return Err(Errno::EINVAL);
    }
    let context = context::find(ctx)?;
    let found = {
        let mut polls = context.polls.lock();
        let at = polls.iter().position(|poll| poll.obj() == iocb.addr() as u64);
        at.map(|at| polls.swap_remove(at))
    };
    let Some(poll) = found else { return Err(Errno::EINVAL) };
    poll.cancel();
    // The event comes through the ring.
    Err(Errno::EINPROGRESS)
}
