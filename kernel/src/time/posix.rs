//! POSIX timers: timer_create(2), timer_settime(2), timer_gettime(2), timer_getoverrun(2), timer_delete(2).
//!
//! A timer's expiry queues one signal; while that is pending, further expiries are counted as overruns and
//! reported with it. The count is taken over when the signal is delivered ([`delivered`]).
//!
//! Locks: the table's lock is a leaf; timers are stopped outside of it, because stopping waits for a running callback.

use super::alive;
use super::clock::{ClockId, from_namespace, to_sched};
use crate::process::{Process, Thread, current};
use crate::signal::send::{self, Sender};
use crate::signal::{Siginfo, Signal};
use crate::syscall::Syscall;
use abi::signal::{SI_TIMER, Sigevent};
use abi::time::{Itimerspec, Timespec};
use abi::{Errno, Result, raw};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use mm::user::UserPtr;
use sched::hrtimer::{HrTimer, Restart};
use sched::{Clock, Deadline, Task};
use sync::Once;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[TIMER_CREATE, TIMER_SETTIME, TIMER_GETTIME, TIMER_GETOVERRUN, TIMER_DELETE];

/// What an expiry does.
enum Notify {
    Nothing,
    Process(Weak<Process>),
    Thread(Weak<Task>),
}

/// The part of a timer that its callback uses.
struct Shared {
    notify: Notify,
    signal: Signal,
    id: i32,
    value: u64,
    interval_ns: AtomicU64,
    /// A signal is queued and not delivered yet.
    pending: AtomicBool,
    /// Expiries since it was queued.
    missed: AtomicI32,
    /// What `timer_getoverrun` reports: for the signal delivered last.
    overrun: AtomicI32,
}

impl Shared {
    fn expire(&self) {
        if self.pending.swap(true, Ordering::AcqRel) {
            let _ = self.missed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1));
            return;
        }
        self.missed.store(0, Ordering::Relaxed);
        let info = Siginfo::from_timer(self.signal.number(), self.id, 0, self.value);
        let sent = match &self.notify {
            Notify::Nothing => return,
            Notify::Process(process) => match alive(process) {
                Some(process) => send::to_process(&process, self.signal, &info, Sender::Privileged),
                None => return,
            },
            Notify::Thread(task) => match task.upgrade() {
                Some(task) => send::to_thread(&task, self.signal, &info, Sender::Privileged),
                None => return,
            },
        };
        if sent.is_err() {
            self.pending.store(false, Ordering::Release);
        }
    }
}

/// One timer.
struct Timer {
    shared: Arc<Shared>,
    clock: Clock,
    clock_id: i32,
    hr: Once<HrTimer>,
}

impl Timer {
    fn hr(&self) -> &HrTimer {
        self.hr.call_once(|| {
            let shared = self.shared.clone();
            HrTimer::new(move |now| {
                shared.expire();
                match shared.interval_ns.load(Ordering::Relaxed) {
                    0 => Restart::No,
                    step => Restart::At(now.saturating_add(step)),
                }
            })
        })
    }

    fn get(&self) -> Itimerspec {
        let left = self.hr.get().and_then(HrTimer::deadline).map_or(0, |d| d.remaining_ns().max(1));
        let interval = self.shared.interval_ns.load(Ordering::Relaxed);
        Itimerspec { interval: Timespec::from_ns(interval), value: Timespec::from_ns(left) }
    }
}

struct Slots {
    timers: BTreeMap<i32, Arc<Timer>>,
    next: i32,
}

/// The timers of a process.
pub(crate) struct Table {
    slots: SpinLock<Slots>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { slots: SpinLock::new(Slots { timers: BTreeMap::new(), next: 0 }) }
    }

    fn find(&self, id: i32) -> Result<Arc<Timer>> {
        self.slots.lock().timers.get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// Deletes all.
    pub(crate) fn clear(&self) {
        let old = core::mem::take(&mut self.slots.lock().timers);
        for timer in old.values() {
            if let Some(hr) = timer.hr.get() {
                hr.cancel();
            }
        }
    }
}

/// A signal is being delivered: if it came from a timer, its overruns are counted up to here and its next expiry queues a new one.
pub fn delivered(process: &Arc<Process>, info: &Siginfo) {
    if info.code != SI_TIMER {
        return;
    }
    if let Ok(timer) = process.timers.posix.find(info.pid()) {
        timer.shared.overrun.store(timer.shared.missed.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        timer.shared.pending.store(false, Ordering::Release);
    }
}

/// How an expiry is to be told, from the user's description.
fn notify_from(event: &Sigevent) -> Result<(Notify, Signal)> {
    let me = current();
    let process = || Notify::Process(Arc::downgrade(&me.process));
    let signal = || Signal::from_user(event.signo);
    match event.notify as u32 {
        raw::SIGEV_NONE => Ok((Notify::Nothing, Signal::SIGALRM)),
        raw::SIGEV_SIGNAL | raw::SIGEV_THREAD => Ok((process(), signal()?)),
        4 => {
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
    let clock = match ClockId::new(clockid)? {
        ClockId::System(id) => to_sched(id).ok_or(Errno::EOPNOTSUPP)?,
        // Timers on CPU time are not supported; the C library reports it as Linux's own error for such clocks.
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let event = sevp.read_opt()?;
    let (notify, signal) = match &event {
        None => (Notify::Process(Arc::downgrade(&me.process)), Signal::SIGALRM),
        Some(event) => notify_from(event)?,
    };
    let id = {
        let mut slots = me.process.timers.posix.slots.lock();
        let mut id = slots.next;
        while slots.timers.contains_key(&id) {
            id = if id == i32::MAX { 0 } else { id + 1 };
        }
        slots.next = if id == i32::MAX { 0 } else { id + 1 };
        let shared = Arc::new(Shared {
            notify,
            signal,
            id,
            value: event.map_or(id as u64, |e| e.value),
            interval_ns: AtomicU64::new(0),
            pending: AtomicBool::new(false),
            missed: AtomicI32::new(0),
            overrun: AtomicI32::new(0),
        });
        slots.timers.insert(id, Arc::new(Timer { shared, clock, clock_id: clockid, hr: Once::new() }));
        id
    };
    timerid.write(&id).inspect_err(|_| {
        me.process.timers.posix.slots.lock().timers.remove(&id);
    })
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
    let before = timer.get();
    if let Some(hr) = timer.hr.get() {
        hr.cancel();
    }
    timer.shared.interval_ns.store(if value == 0 { 0 } else { interval }, Ordering::Relaxed);
    timer.shared.missed.store(0, Ordering::Relaxed);
    timer.shared.overrun.store(0, Ordering::Relaxed);
    if value != 0 {
        let absolute = flags as u32 & raw::TIMER_ABSTIME != 0;
        // A relative timer does not follow changes of the wall clock.
        let deadline = if absolute {
            Deadline::at(timer.clock, from_namespace(timer.clock_id, value))
        } else {
            let clock = if timer.clock == Clock::Realtime { Clock::Monotonic } else { timer.clock };
            Deadline::at(clock, sched::time::clock_ns(clock).saturating_add(value))
        };
        timer.hr().start(deadline);
    }
    old.write_opt(&before)
}

#[macros::syscall(timer_gettime)]
fn sys_timer_gettime(timerid: i32, value: UserPtr<Itimerspec>) -> Result<()> {
    value.write(&current().process.timers.posix.find(timerid)?.get())
}

#[macros::syscall(timer_getoverrun)]
fn sys_timer_getoverrun(timerid: i32) -> Result<i32> {
    Ok(current().process.timers.posix.find(timerid)?.shared.overrun.load(Ordering::Relaxed))
}

#[macros::syscall(timer_delete)]
fn sys_timer_delete(timerid: i32) -> Result<()> {
    let me = current();
    let timer = me.process.timers.posix.slots.lock().timers.remove(&timerid).ok_or(Errno::EINVAL)?;
    if let Some(hr) = timer.hr.get() {
        hr.cancel();
    }
    Ok(())
}
