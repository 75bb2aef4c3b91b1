//! clock_nanosleep(2) on CPU-time clocks: sleeping while others use CPU time.

use super::queue::Waiter;
use super::{CpuClock, Kind, Whose};
use crate::process::current;
use crate::process::thread::Restart;
use abi::time::Timespec;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::fallible::try_arc;
use mm::user::UserPtr;
use sched::Task;

/// A thread that sleeps until the clock shows `due_ns`.
struct Sleeper {
    task: Arc<Task>,
    kind: Kind,
    /// `u64::MAX` afterwards.
    due_ns: AtomicU64,
}

impl Sleeper {
    fn is_done(&self) -> bool {
        // Acquire pairs with the Release in `expire`.
        self.due_ns.load(Ordering::Acquire) == u64::MAX
    }
}

impl Waiter for Sleeper {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn due_ns(&self) -> u64 {
        self.due_ns.load(Ordering::Relaxed)
    }

    fn expire(&self, _now: u64) {
        self.due_ns.store(u64::MAX, Ordering::Release);
        sched::wake_up(&self.task);
    }
}

/// Sleeps until the clock shows `ns`; whether it does (else a signal came).
fn sleep_until(clock: &CpuClock, ns: u64) -> Result<bool> {
    let me = current();
    // The last value there is means "done".
    let due_ns = AtomicU64::new(ns.min(u64::MAX - 1));
    let sleeper = try_arc(Sleeper { task: me.task_arc(), kind: clock.kind, due_ns })?;
    let queue = clock.queue().ok_or(Errno::EINVAL)?;
    let waiter: Arc<dyn Waiter> = sleeper.clone();
    queue.add(waiter.clone())?;
    queue.arm(clock.kind, ns);
    clock.arm();
    if clock.now_ns() < ns {
        crate::time::sleep::wait_until(None, || sleeper.is_done());
    }
    queue.remove(&waiter);
    Ok(sleeper.is_done() || clock.now_ns() >= ns)
}

/// The call on a CPU-time clock, whose number is `id`.
///
/// # Errors
/// `EINVAL`: the clock stands while we sleep. `ERESTARTNOHAND` or `ERESTART_RESTARTBLOCK` when a signal came.
pub fn nanosleep(clock: &CpuClock, id: i32, ns: u64, absolute: bool, rem: usize) -> Result<()> {
    if let Whose::Thread(task) = &clock.whose
        && core::ptr::eq(&raw const **task, current().task())
    {
        return Err(Errno::EINVAL);
    }
    if !absolute {
        return resume(clock, id, clock.now_ns().saturating_add(ns), rem);
    }
    if sleep_until(clock, ns)? { Ok(()) } else { Err(Errno::ERESTARTNOHAND) }
}

/// A relative sleep that ends at `until`; also for `restart_syscall(2)`.
///
/// # Errors
/// As [`nanosleep`].
pub fn resume(clock: &CpuClock, id: i32, until: u64, rem: usize) -> Result<()> {
    if sleep_until(clock, until)? {
        return Ok(());
    }
    if rem != 0 {
        let left = until.saturating_sub(clock.now_ns());
        UserPtr::<Timespec>::new(rem).write(&Timespec::from_ns(left))?;
    }
    *current().restart.lock() = Restart::Nanosleep { clock: id, deadline_ns: until, rem };
    Err(Errno::ERESTART_RESTARTBLOCK)
}
