//! Writers wait so that devices keep up: `balance_dirty_pages`.

use super::flusher::Reason;
use crate::filemap::Mapping;
use crate::stats::{self, Item};
use abi::{Errno, Result};
use arch::preempt::PreemptGuard;
use core::cell::Cell;
use sched::wait::WaitQueue;

/// Pages that a CPU makes dirty between two looks at the thresholds.
const LOOK: u32 = 32;

arch::per_cpu! {
    static DIRTIED: Count = Count(Cell::new(0));
}

struct Count(Cell<u32>);

// SAFETY: only the CPU that it belongs to touches it, with preemption off and not in interrupts.
unsafe impl Sync for Count {}

/// A page of `mapping` was made dirty by a write. Task context, no lock that write-back needs is held.
///
/// # Errors
/// `EINTR`: the thread is being killed.
#[inline]
pub(crate) fn balance(mapping: &Mapping) -> Result<()> {
    let look = {
        let guard = PreemptGuard::new();
        let count = &DIRTIED.get(&guard).0;
        let now = count.get() + 1;
        count.set(if now >= LOOK { 0 } else { now });
        now >= LOOK
    };
    if look { balance_slow(mapping) } else { Ok(()) }
}

#[cold]
fn balance_slow(mapping: &Mapping) -> Result<()> {
    let Some(device) = mapping.device() else { return Ok(()) };
    let mut tries = 0;
    loop {
        let (hard, soft) = super::thresholds();
        let dirty = stats::item(Item::FileDirty) + stats::item(Item::Writeback);
        if dirty <= soft {
            return Ok(());
        }
        device.flusher.wake(Reason::Background);
        if dirty <= (hard + soft) / 2 || tries > 50 {
            return Ok(());
        }
        if sched::current().has_fatal_signal() {
            return Err(Errno::EINTR);
        }
        tries += 1;
        let deadline = sched::hrtimer::Deadline::after_ns(20_000_000);
        let written = device.written();
        device.flusher.progress.wait_event_timeout(deadline, || device.written() > written + u64::from(LOOK));
    }
}

/// Waits until some pages were written, but not for long: memory is short, and what could be freed is dirty.
pub(crate) fn wait_for_progress() {
    const MOST_NS: u64 = 100_000_000;
    let written = || stats::event(stats::Event::Written);
    let before = written();
    let deadline = sched::hrtimer::Deadline::after_ns(MOST_NS);
    PROGRESS.wait_event_timeout(deadline, || {
        written() >= before + u64::from(LOOK)
            || stats::item(Item::Writeback) + stats::item(Item::FileDirty) == 0
    });
}

/// Woken when pages were written.
pub(super) static PROGRESS: WaitQueue = WaitQueue::new();

/// A page of `mapping` was made dirty by a store, and the area that it is mapped in is locked: nobody waits.
pub(crate) fn balance_after_fault(mapping: &Mapping) {
    let Some(device) = mapping.device() else { return };
    let (_, soft) = super::thresholds();
    if stats::item(Item::FileDirty) > soft {
        device.flusher.wake(Reason::Background);
    }
}
