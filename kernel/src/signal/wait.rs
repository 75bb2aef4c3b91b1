//! Waiting for signals: sigsuspend(2), pause(2), sigtimedwait(2).

use super::deliver::set_blocked;
use super::syscalls::check_set_size;
use super::{SigSet, Siginfo};
use crate::process::{CurrentThread, current};
use crate::syscall::Syscall;
use abi::time::Timespec;
use abi::{Errno, Result};
use arch::thread::ThreadFlags;
use core::sync::atomic::Ordering;
use mm::user::UserPtr;
use sched::State;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[RT_SIGSUSPEND, PAUSE, RT_SIGTIMEDWAIT];

/// Replaces the mask of the running thread until the next return to user mode; the old one comes back there, or goes
/// into the handler's frame. For `sigsuspend`, `ppoll`, `pselect6` and `epoll_pwait`.
///
/// # Errors
/// `EFAULT`, `EINVAL` for a bad set.
pub fn set_user_mask(mask: UserPtr<u64>, size: usize) -> Result<()> {
    let Some(mask) = mask.non_null() else { return Ok(()) };
    check_set_size(size)?;
    let new = mask.read()?;
    let me = current();
    me.signals.saved_mask.store(me.blocked().0, Ordering::Relaxed);
    me.task().thread_flags().set(ThreadFlags::RESTORE_SIGMASK);
    set_blocked(&me, SigSet(new));
    Ok(())
}

/// Ends [`set_user_mask`]: unless a signal interrupted the call, the old mask comes back now.
pub fn restore_user_mask(interrupted: bool) {
    let me = current();
    if !interrupted && me.task().thread_flags().clear(ThreadFlags::RESTORE_SIGMASK) {
        set_blocked(&me, SigSet(me.signals.saved_mask.load(Ordering::Relaxed)));
    }
}

fn sleep_for_signal(me: &CurrentThread) {
    loop {
        sched::current().set_state(State::INTERRUPTIBLE);
        if me.task().has_pending_signal() {
            break;
        }
        sched::schedule();
    }
    sched::current().set_running();
}

#[macros::syscall(rt_sigsuspend)]
fn sys_rt_sigsuspend(mask: UserPtr<u64>, size: usize) -> Result<()> {
    check_set_size(size)?;
    if mask.is_null() {
        return Err(Errno::EFAULT);
    }
    set_user_mask(mask, size)?;
    sleep_for_signal(&current());
    Err(Errno::ERESTARTNOHAND)
}

#[macros::syscall(pause)]
fn sys_pause() -> Result<()> {
    sleep_for_signal(&current());
    Err(Errno::ERESTARTNOHAND)
}

#[macros::syscall(rt_sigtimedwait)]
fn sys_rt_sigtimedwait(
    set: UserPtr<u64>,
    info: UserPtr<Siginfo>,
    timeout: UserPtr<Timespec>,
    size: usize,
) -> Result<i32> {
    check_set_size(size)?;
    let set = SigSet(set.read()?).blockable();
    let timeout = timeout.read_opt()?.map(Timespec::to_ns).transpose()?;
    let found = wait_for(set, timeout)?;
    info.write_opt(&found)?;
    Ok(found.signo)
}

/// Takes a pending member of `set`, waiting up to `timeout_ns` for one (`None`: for ever).
///
/// # Errors
/// `EAGAIN` after the timeout, `EINTR` if another signal came.
fn wait_for(set: SigSet, timeout_ns: Option<u64>) -> Result<Siginfo> {
    let me = current();
    let deadline = timeout_ns.map(|t| sched::time::monotonic_ns().saturating_add(t));
    {
        let mut state = me.process.sig.lock();
        if let Some(mut info) = take(&me, &mut state, set) {
            drop(state);
            crate::time::delivered(&me.process, &mut info);
            return Ok(info);
        }
        if timeout_ns == Some(0) {
            return Err(Errno::EAGAIN);
        }
        // While it waits the members are not blocked, so that they wake it; `waited` keeps them from acting.
        me.signals.waited.store(me.blocked().and(set).0, Ordering::Relaxed);
        me.signals.blocked.store(me.blocked().minus(set).0, Ordering::Relaxed);
        state.recalculate(me.task(), &me);
    }
    let timed_out = crate::time::sleep::interruptible_until(deadline);
    let mut state = me.process.sig.lock();
    let waited = me.signals.waited.swap(0, Ordering::Relaxed);
    me.signals.blocked.fetch_or(waited, Ordering::Relaxed);
    let taken = take(&me, &mut state, set);
    state.recalculate(me.task(), &me);
    drop(state);
    match taken {
        Some(mut info) => {
            crate::time::delivered(&me.process, &mut info);
            Ok(info)
        }
        None if timed_out => Err(Errno::EAGAIN),
        None => Err(Errno::EINTR),
    }
}

fn take(me: &CurrentThread, state: &mut super::SignalState, set: SigSet) -> Option<Siginfo> {
    let others = SigSet(!set.0);
    let own = me.signals.pending.lock().take(others);
    let taken = own.or_else(|| state.shared.take(others));
    if taken.is_some() {
        state.recalculate(me.task(), me);
    }
    taken.map(|(_, info)| info)
}
