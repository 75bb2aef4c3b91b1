//! `timerfd_create(2)`: a timer whose expirations are read from a descriptor.
//!
//! The timer's callback (interrupt context) counts one expiration and wakes; what a periodic timer missed is added when
//! somebody looks. `TFD_TIMER_CANCEL_ON_SET` compares the count of wall clock settings with the one at arming; the
//! kernel calls [`clock_was_set`] so that waiters look.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use abi::poll::PollEvents;
use abi::time::{Itimerspec, Timespec};
use abi::{Errno, Result, raw};
use arch::sync::{SpinLock, SpinLockIrq};
use mm::IovIter;
use mm::fallible::{TryCollect, TryVec, try_arc};
use sched::hrtimer::{Deadline, HrTimer, Restart};
use sched::time::{Clock, clock_ns, clock_set_count};
use sched::wait::{Wait, WaitQueue};

use crate::anon;
use crate::cred::Credentials;
use crate::file::{File, FileImpl};
use crate::file_ops::{FileOps, IoFlags};
use crate::poll::PollTable;

struct State {
    /// First expiry not counted yet, on the timer's clock; 0: disarmed.
    next: u64,
    interval: u64,
    ticks: u64,
    /// Setting count of the wall clock when armed with cancel-on-set.
    armed_at: Option<u32>,
    settime_flags: u32,
}

struct Shared {
    state: SpinLockIrq<State>,
    queue: WaitQueue,
}

/// A timer behind a descriptor.
pub struct TimerFd {
    clock: Clock,
    clock_id: u32,
    shared: Arc<Shared>,
    timer: HrTimer,
}

/// Timers that a setting of the wall clock cancels.
static CANCEL_LIST: SpinLock<Vec<Weak<Shared>>> = SpinLock::new(Vec::new());

/// The wall clock was set: wakes who waits on timers with `TFD_TIMER_CANCEL_ON_SET`.
pub fn clock_was_set() {
    // The wake-ups are not to be missed, and the clock is set already.
    let _no_fail = mm::context::NoFailScope::enter();
    let list = CANCEL_LIST.lock().iter().filter_map(Weak::upgrade).try_collect_vec();
    for shared in list.unwrap_or_default() {
        shared.queue.wake_all_poll(PollEvents::IN);
    }
}

/// `timerfd_create(2)`.
pub fn timerfd_create(cred: &Arc<Credentials>, clock_id: u32, flags: u32) -> Result<Arc<File>> {
    if flags & !(raw::TFD_CLOEXEC | raw::TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let clock = match clock_id {
        raw::CLOCK_REALTIME => Clock::Realtime,
        raw::CLOCK_MONOTONIC => Clock::Monotonic,
        raw::CLOCK_BOOTTIME => Clock::Boottime,
        raw::CLOCK_REALTIME_ALARM | raw::CLOCK_BOOTTIME_ALARM => {
            if !cred.capable(abi::cap::Cap::WakeAlarm) {
                return Err(Errno::EPERM);
            }
            if clock_id == raw::CLOCK_REALTIME_ALARM { Clock::Realtime } else { Clock::Boottime }
        }
        _ => return Err(Errno::EINVAL),
    };
    let state = State { next: 0, interval: 0, ticks: 0, armed_at: None, settime_flags: 0 };
    let shared = try_arc(Shared { state: SpinLockIrq::new(state), queue: WaitQueue::new() })?;
    let fired = shared.clone();
    let timer = HrTimer::new(move |now| {
        fired.state.lock().count(now);
        fired.queue.wake_all_poll(PollEvents::IN);
        Restart::No
    })?;
    let timerfd = try_arc(TimerFd { clock, clock_id, shared, timer })?;
    anon::anon_file(cred, "[timerfd]", FileImpl::Shared(timerfd), raw::O_RDWR | flags & raw::TFD_NONBLOCK)
}

impl State {
    /// Adds what has expired up to `now`.
    fn count(&mut self, now: u64) {
        if self.next == 0 || now < self.next {
            return;
        }
        match (now - self.next).checked_div(self.interval) {
            None => {
                self.ticks = self.ticks.saturating_add(1);
                self.next = 0;
            }
            Some(missed) => {
                let periods = missed + 1;
                self.ticks = self.ticks.saturating_add(periods);
                self.next = self.next.saturating_add(periods.saturating_mul(self.interval));
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.armed_at.is_some_and(|count| count != clock_set_count())
    }
}

fn timer_of(file: &File) -> Result<&TimerFd> {
    file.private::<TimerFd>().ok_or(Errno::EINVAL)
}

/// The clock (`CLOCK_*`) that a timer follows.
///
/// # Errors
/// `EINVAL`: the file is no timer.
pub fn clock_id(file: &File) -> Result<u32> {
    timer_of(file).map(|timer| timer.clock_id)
}

/// `timerfd_settime(2)`, absolute times on the machine's own clocks; returns the old setting.
pub fn timerfd_settime(file: &File, flags: u32, new: &Itimerspec) -> Result<Itimerspec> {
    if flags & !(raw::TFD_TIMER_ABSTIME | raw::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let timer = timer_of(file)?;
    timer.timer.cancel();
    let now = clock_ns(timer.clock);
    let absolute = flags & raw::TFD_TIMER_ABSTIME != 0;
    let cancel = absolute && timer.clock == Clock::Realtime && flags & raw::TFD_TIMER_CANCEL_ON_SET != 0;
    let (old, next) = {
        let mut state = timer.shared.state.lock();
        state.count(now);
        let old = state.show(now);
        state.next = match (value, absolute) {
            (0, _) => 0,
            (at, true) => at,
            (after, false) => now.saturating_add(after).max(1),
        };
        state.interval = interval;
        state.ticks = 0;
        state.settime_flags = flags;
        state.armed_at = cancel.then(clock_set_count);
        (old, state.next)
    };
    if cancel {
        let mut list = CANCEL_LIST.lock();
        let me = Arc::as_ptr(&timer.shared);
        list.retain(|other| other.strong_count() > 0 && !core::ptr::eq(other.as_ptr(), me));
        list.try_push(Arc::downgrade(&timer.shared))?;
    }
    if next != 0 {
        timer.timer.start(Deadline::at(timer.clock, next));
    }
    Ok(old)
}

/// `timerfd_gettime(2)`.
pub fn timerfd_gettime(file: &File) -> Result<Itimerspec> {
    let timer = timer_of(file)?;
    let now = clock_ns(timer.clock);
    let mut state = timer.shared.state.lock();
    state.count(now);
    let shown = state.show(now);
    let next = state.next;
    drop(state);
    timer.rearm(next);
    Ok(shown)
}

impl State {
    fn show(&self, now: u64) -> Itimerspec {
        let left = if self.next == 0 { 0 } else { self.next.saturating_sub(now).max(1) };
        Itimerspec { interval: Timespec::from_ns(self.interval), value: Timespec::from_ns(left) }
    }
}

impl TimerFd {
    /// Starts the timer again for a periodic expiry that is still to come.
    fn rearm(&self, next: u64) {
        if next != 0 && !self.timer.is_queued() {
            self.timer.start(Deadline::at(self.clock, next));
        }
    }

    /// The expirations so far, which are then forgotten; an error when cancelled.
    fn take(&self) -> Option<Result<u64>> {
        let now = clock_ns(self.clock);
        let mut state = self.shared.state.lock();
        if state.cancelled() {
            state.armed_at = Some(clock_set_count());
            return Some(Err(Errno::ECANCELED));
        }
        state.count(now);
        if state.ticks == 0 {
            return None;
        }
        let ticks = core::mem::take(&mut state.ticks);
        let next = state.next;
        drop(state);
        self.rearm(next);
        Some(Ok(ticks))
    }
}

impl FileOps for TimerFd {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        if iter.count() < 8 {
            return Err(Errno::EINVAL);
        }
        let ticks = match self.take() {
            Some(ticks) => ticks?,
            None if file.nonblock() || flags.contains(IoFlags::NOWAIT) => return Err(Errno::EAGAIN),
            None => {
                let waited = self.shared.queue.wait(Wait::INTERRUPTIBLE, || {
                    let state = self.shared.state.lock();
                    (state.ticks > 0 || state.cancelled()).then_some(())
                });
                waited.map_err(|_| Errno::ERESTARTSYS)?;
                match self.take() {
                    Some(ticks) => ticks?,
                    // Another reader was faster.
                    None => return self.read_iter(file, iter, &mut 0, flags),
                }
            }
        };
        iter.write_all(&ticks.to_ne_bytes())?;
        Ok(8)
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.shared.queue);
        let state = self.shared.state.lock();
        if state.ticks > 0 || state.cancelled() { PollEvents::IN } else { PollEvents::empty() }
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        // TFD_IOC_SET_TICKS, for checkpoint and restore.
        const SET_TICKS: u32 = 0x4008_5400;
        if cmd != SET_TICKS {
            return Err(Errno::ENOTTY);
        }
        let ticks = mm::UserPtr::<u64>::new(arg).read()?;
        if ticks == 0 {
            return Err(Errno::EINVAL);
        }
        self.shared.state.lock().ticks = ticks;
        self.shared.queue.wake_all_poll(PollEvents::IN);
        Ok(0)
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let now = clock_ns(self.clock);
        let (ticks, flags, shown) = {
            let state = self.shared.state.lock();
            (state.ticks, state.settime_flags, state.show(now))
        };
        writeln!(out, "clockid: {}", self.clock_id)?;
        writeln!(out, "ticks: {ticks}")?;
        writeln!(out, "settime flags: 0{flags:o}")?;
        writeln!(out, "it_value: ({}, {})", shown.value.sec, shown.value.nsec)?;
        writeln!(out, "it_interval: ({}, {})", shown.interval.sec, shown.interval.nsec)
    }

    fn release(&self, _: &File) {
        self.timer.cancel();
        let me = Arc::as_ptr(&self.shared);
        CANCEL_LIST.lock().retain(|other| !core::ptr::eq(other.as_ptr(), me));
    }
}
