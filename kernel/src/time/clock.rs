//! Reading and setting clocks: clock_gettime(2), clock_getres(2), clock_settime(2), gettimeofday(2), time(2).

use super::cpu::{CpuClock, Kind, Whose};
use crate::process::current;
use crate::syscall::Syscall;
use abi::cap::Cap;
use abi::time::{Timespec, Timeval, Timezone};
use abi::{Errno, Result, raw};
use core::sync::atomic::Ordering;
use mm::user::UserPtr;
use sched::{Clock, time};

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[CLOCK_GETTIME, CLOCK_GETRES, CLOCK_SETTIME, GETTIMEOFDAY, SETTIMEOFDAY, TIME];

/// A clock that a call names.
#[derive(Clone)]
pub enum ClockId {
    /// One of the system's (`CLOCK_*`).
    System(i32),
    /// CPU time of a process or thread.
    Cpu(CpuClock),
}

impl ClockId {
    /// The clock with number `id`; negative numbers name the CPU time of some process or thread.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn new(id: i32) -> Result<Self> {
        if id < 0 {
            return super::cpu::clock_of(id).map(Self::Cpu);
        }
        let me = current();
        match id as u32 {
            raw::CLOCK_PROCESS_CPUTIME_ID => {
                Ok(Self::Cpu(CpuClock { whose: Whose::Process(me.process.clone()), kind: Kind::Sched }))
            }
            raw::CLOCK_THREAD_CPUTIME_ID => {
                Ok(Self::Cpu(CpuClock { whose: Whose::Thread(me.task_arc()), kind: Kind::Sched }))
            }
            raw::CLOCK_REALTIME
            | raw::CLOCK_MONOTONIC
            | raw::CLOCK_MONOTONIC_RAW
            | raw::CLOCK_REALTIME_COARSE
            | raw::CLOCK_MONOTONIC_COARSE
            | raw::CLOCK_BOOTTIME
            | raw::CLOCK_REALTIME_ALARM
            | raw::CLOCK_BOOTTIME_ALARM
            | raw::CLOCK_TAI => Ok(Self::System(id)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The time on it, as the running process sees it.
    pub fn now_ns(&self) -> u64 {
        match self {
            Self::System(id) => system_ns(*id),
            Self::Cpu(clock) => clock.now_ns(),
        }
    }
}

/// The scheduler's clock for a system clock that timers can follow.
pub fn to_sched(id: i32) -> Option<Clock> {
    match id as u32 {
        raw::CLOCK_MONOTONIC => Some(Clock::Monotonic),
        raw::CLOCK_REALTIME | raw::CLOCK_REALTIME_ALARM => Some(Clock::Realtime),
        raw::CLOCK_BOOTTIME | raw::CLOCK_BOOTTIME_ALARM => Some(Clock::Boottime),
        raw::CLOCK_TAI => Some(Clock::Tai),
        _ => None,
    }
}

/// `EPERM` without `CAP_WAKE_ALARM` for the clocks whose timers wake a machine that sleeps.
pub fn may_wake_machine(id: i32) -> Result<()> {
    match id as u32 {
        raw::CLOCK_REALTIME_ALARM | raw::CLOCK_BOOTTIME_ALARM => {
            current().with_cred(|cred| cred.require(Cap::WakeAlarm))
        }
        _ => Ok(()),
    }
}

/// What the running process's time namespace adds to a clock.
fn namespace_offset(id: i32) -> i64 {
    let me = current();
    let guard = sched::rcu::read_lock();
    let Some(proxy) = me.nsproxy.load(&guard) else { return 0 };
    match id as u32 {
        raw::CLOCK_MONOTONIC | raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_MONOTONIC_COARSE => {
            proxy.time.monotonic_ns.load(Ordering::Relaxed)
        }
        raw::CLOCK_BOOTTIME | raw::CLOCK_BOOTTIME_ALARM => proxy.time.boottime_ns.load(Ordering::Relaxed),
        _ => 0,
    }
}

/// A time that a program named, on the machine's own clock.
pub fn from_namespace(id: i32, ns: u64) -> u64 {
    ns.saturating_sub_signed(namespace_offset(id))
}

/// Nanoseconds on `CLOCK_BOOTTIME`, as the running process sees it.
pub fn namespace_boottime_ns() -> u64 {
    namespace_boottime_of(time::boottime_ns())
}

/// The time `ns` of the machine's boot clock, as the running process sees it.
pub fn namespace_boottime_of(ns: u64) -> u64 {
    ns.saturating_add_signed(namespace_offset(raw::CLOCK_BOOTTIME as i32))
}

fn system_ns(id: i32) -> u64 {
    let ns = match id as u32 {
        raw::CLOCK_MONOTONIC => time::monotonic_ns(),
        raw::CLOCK_MONOTONIC_RAW => time::raw_ns(),
        raw::CLOCK_MONOTONIC_COARSE => time::monotonic_coarse_ns(),
        raw::CLOCK_REALTIME_COARSE => time::realtime_coarse_ns(),
        raw::CLOCK_BOOTTIME | raw::CLOCK_BOOTTIME_ALARM => time::boottime_ns(),
        raw::CLOCK_TAI => time::clock_ns(Clock::Tai),
        _ => return time::realtime_ns(),
    };
    ns.saturating_add_signed(namespace_offset(id))
}

#[macros::syscall(clock_gettime)]
fn sys_clock_gettime(clockid: i32, tp: UserPtr<Timespec>) -> Result<()> {
    tp.write(&Timespec::from_ns(ClockId::new(clockid)?.now_ns()))
}

#[macros::syscall(clock_getres)]
fn sys_clock_getres(clockid: i32, res: UserPtr<Timespec>) -> Result<()> {
    let resolution = match ClockId::new(clockid)? {
        ClockId::System(id)
            if matches!(id as u32, raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE) =>
        {
            time::TICK_NS
        }
        ClockId::Cpu(clock) => clock.kind.resolution_ns(),
        ClockId::System(_) => 1,
    };
    res.write_opt(&Timespec::from_ns(resolution))
}

fn may_set_time() -> Result<()> {
    current().with_cred(|c| c.require(Cap::SysTime))
}

/// Wall clock times must leave room for sums with other times.
const MAX_SECONDS: i64 = i64::MAX / 1_000_000_000 - 30 * 365 * 86400;

fn set_wall_clock(time: Timespec) -> Result<()> {
    if time.sec > MAX_SECONDS {
        return Err(Errno::EINVAL);
    }
    let ns = time.to_ns()?;
    may_set_time()?;
    check_wall_ns(ns)?;
    time::set_realtime(ns);
    Ok(())
}

/// Whether the wall clock may show `ns`. The machine did not boot before the epoch, so it cannot be less than the monotonic
/// clock.
///
/// # Errors
/// `EINVAL`.
pub fn check_wall_ns(ns: u64) -> Result<()> {
    if ns < time::monotonic_ns() || ns / abi::time::NSEC_PER_SEC > MAX_SECONDS.unsigned_abs() {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

#[macros::syscall(clock_settime)]
fn sys_clock_settime(clockid: i32, tp: UserPtr<Timespec>) -> Result<()> {
    let clock = ClockId::new(clockid)?;
    match clock {
        ClockId::System(id) if id as u32 == raw::CLOCK_REALTIME => set_wall_clock(tp.read()?),
        // Those of others have a number that says whose they are, and nobody may set them.
        ClockId::Cpu(_) if clockid < 0 => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

#[macros::syscall(gettimeofday)]
fn sys_gettimeofday(tv: UserPtr<Timeval>, tz: UserPtr<Timezone>) -> Result<()> {
    tv.write_opt(&Timeval::from_ns(time::realtime_ns()))?;
    let (minuteswest, dsttime) = time::timezone();
    tz.write_opt(&Timezone { minuteswest, dsttime })
}

#[macros::syscall(settimeofday)]
fn sys_settimeofday(tv: UserPtr<Timeval>, tz: UserPtr<Timezone>) -> Result<()> {
    let tv = tv.read_opt()?;
    let tz = tz.read_opt()?;
    if let Some(tv) = tv {
        tv.to_ns()?;
    }
    may_set_time()?;
    if let Some(tz) = tz {
        if !(-15 * 60..=15 * 60).contains(&tz.minuteswest) {
            return Err(Errno::EINVAL);
        }
        time::set_timezone(tz.minuteswest, tz.dsttime);
    }
    match tv {
        Some(tv) => set_wall_clock(Timespec { sec: tv.sec, nsec: tv.usec * 1000 }),
        None => Ok(()),
    }
}

#[macros::syscall(time)]
fn sys_time(tloc: UserPtr<i64>) -> Result<i64> {
    let now = (time::realtime_ns() / abi::time::NSEC_PER_SEC) as i64;
    tloc.write_opt(&now)?;
    Ok(now)
}
