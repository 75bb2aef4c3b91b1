//! The calls: timer_create(2), timer_settime(2), timer_gettime(2), timer_getoverrun(2), timer_delete(2).

use super::{Core, Notify, Source, State, Timer, account};
use crate::process::user::SignalCharge;
use crate::process::{Resource, Thread, current};
use crate::signal::Signal;
use crate::syscall::Syscall;
use crate::time::clock::{ClockId, may_wake_machine, to_sched};
use abi::signal::Sigevent;
use abi::time::Itimerspec;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use arch::sync::{SpinLock, SpinLockIrq};
use core::sync::atomic::AtomicU64;
use mm::fallible::try_arc;
use mm::user::UserPtr;
use sched::Clock;
use sync::Once;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[TIMER_CREATE, TIMER_SETTIME, TIMER_GETTIME, TIMER_GETOVERRUN, TIMER_DELETE];

/// How an expiry is to be told, from the user's description.
fn notify_from(event: &Sigevent) -> Result<(Notify, Signal)> {
    let me = current();
    let signal = || Signal::from_user(event.signo);
    match event.notify as u32 {
        raw::SIGEV_NONE => Ok((Notify::Nothing, Signal::SIGALRM)),
        raw::SIGEV_SIGNAL | raw::SIGEV_THREAD => {
            Ok((Notify::Process(Arc::downgrade(&me.process)), signal()?))
        }
        raw::SIGEV_THREAD_ID => {
            let task = me.pid_ns().task(event.tid).ok_or(Errno::EINVAL)?;
            let mine = task.data::<Thread>().is_some_and(|t| Arc::ptr_eq(&t.process, &me.process));
            if !mine {
                return Err(Errno::EINVAL);
            }
            Ok((Notify::Thread(Arc::downgrade(&task)), signal()?))
        }
        _ => Err(Errno::EINVAL),
    }
}

#[macros::syscall(timer_create)]
fn sys_timer_create(clockid: i32, sevp: UserPtr<Sigevent>, timerid: UserPtr<i32>) -> Result<()> {
    let me = current();
    let event = sevp.read_opt()?;
    let clock = ClockId::new(clockid)?;
    let (source, cpu) = match &clock {
        ClockId::System(id) => {
            let clock = to_sched(*id).ok_or(Errno::EOPNOTSUPP)?;
            may_wake_machine(*id)?;
            (Source::System(*id, clock), None)
        }
        ClockId::Cpu(clock) => (Source::Cpu(clock.downgrade(), clock.kind), Some(clock)),
    };
    let user = account(&me);
    let limit = me.process.limits.cur(Resource::Sigpending);
    let charge = user.as_ref().and_then(|user| SignalCharge::new(user, limit)).ok_or(Errno::EAGAIN)?;
    let (notify, signal) = match &event {
        None => (Notify::Process(Arc::downgrade(&me.process)), Signal::SIGALRM),
        Some(event) => notify_from(event)?,
    };
    let id = me.process.timers.posix.reserve_id();
    let state = State {
        interval_ns: 0,
        expires_ns: 0,
        clock: Clock::Monotonic,
        armed: false,
        pending: false,
        generation: 1,
        passed: 0,
        overrun: 0,
        charge: Some(charge),
    };
    let core = try_arc(Core {
        id,
        notify,
        signal,
        value: event.map_or(id as u64, |e| e.value),
        source,
        user,
        state: SpinLockIrq::new(state),
        due_ns: AtomicU64::new(u64::MAX),
    })?;
    let timer = try_arc(Timer { core, hr: Once::new(), setting: SpinLock::new(()) })?;
    timer.prepare()?;
    timerid.write(&id)?;
    if let Some(clock) = cpu {
        timer.attach(clock)?;
    }
    me.process.timers.posix.insert(id, timer.clone()).inspect_err(|_| timer.detach())
}

#[macros::syscall(timer_settime)]
fn sys_timer_settime(
    timerid: i32,
    flags: i32,
    new: UserPtr<Itimerspec>,
    old: UserPtr<Itimerspec>,
) -> Result<()> {
    let new = new.non_null().ok_or(Errno::EINVAL)?.read()?;
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let timer = current().process.timers.posix.find(timerid)?;
    let before = timer.set(value, interval, flags as u32 & raw::TIMER_ABSTIME != 0)?;
    old.write_opt(&before)
}

#[macros::syscall(timer_gettime)]
fn sys_timer_gettime(timerid: i32, value: UserPtr<Itimerspec>) -> Result<()> {
    value.write(&current().process.timers.posix.find(timerid)?.get())
}

#[macros::syscall(timer_getoverrun)]
fn sys_timer_getoverrun(timerid: i32) -> Result<i32> {
    Ok(current().process.timers.posix.find(timerid)?.core.state.lock().overrun)
}

#[macros::syscall(timer_delete)]
fn sys_timer_delete(timerid: i32) -> Result<()> {
    current().process.timers.posix.remove(timerid)?.detach();
    Ok(())
}
