//! Who writes dirty pages when nobody asks for it.
//!
//! Each device has one item of work, run by the threads of the queue `writeback`: it writes while more is dirty than the background
//! threshold, whatever is older than `dirty_expire_centisecs` every `dirty_writeback_centisecs`, and all if memory is short or somebody
//! wants it. Mappings take turns, so that a large file does not keep small ones waiting.

use super::{BACKGROUND_RATIO, BackingDevice, EXPIRE_CENTISECS, INTERVAL_CENTISECS};
use crate::filemap::{Mapping, SyncMode, WritebackControl};
use crate::stats::{self, Item};
use abi::Result;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sched::timer::Timer;
use sched::wait::WaitQueue;
use sched::workqueue::{Work, WorkQueue};
use sync::Once;

/// Pages of a mapping that are written in a turn: half a second's worth, but at least 4 MiB.
const LEAST_TURN: u64 = 1024;

/// Why a flusher is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More is dirty than the background threshold, or pages may be old.
    Background,
    /// Memory is short, or somebody wants all to be written.
    All,
}

static QUEUE: Once<Option<WorkQueue>> = Once::new();

fn queue() -> Option<&'static WorkQueue> {
    QUEUE.get().and_then(Option::as_ref)
}

/// Starts the threads. Once, when kernel threads can run; before that nothing is written in the background.
///
/// # Errors
/// `ENOMEM`.
pub fn start() -> Result<()> {
    let made = WorkQueue::new("writeback")?;
    QUEUE.call_once(|| Some(made));
    Ok(())
}

/// A device's flusher.
pub(super) struct Flusher {
    device: Arc<Once<Weak<BackingDevice>>>,
    work: Work,
    timer: Timer,
    all: AtomicBool,
    /// Rounds that ended.
    rounds: AtomicU32,
    /// Woken when some pages were started.
    pub(super) progress: WaitQueue,
}

impl Flusher {
    pub(super) fn new() -> Result<Self> {
        let device: Arc<Once<Weak<BackingDevice>>> = crate::try_arc(Once::new())?;
        let of = device.clone();
        let work = Work::new(move || {
            if let Some(device) = of.get().and_then(Weak::upgrade) {
                run(&device);
            }
        })?;
        let item = work.clone();
        let timer = Timer::new(move || {
            if let Some(queue) = queue() {
                queue.queue_work(&item);
            }
        })?;
        Ok(Self {
            device,
            work,
            timer,
            all: AtomicBool::new(false),
            rounds: AtomicU32::new(0),
            progress: WaitQueue::new(),
        })
    }

    pub(super) fn belongs_to(&self, device: Weak<BackingDevice>) {
        self.device.call_once(|| device);
    }

    /// Something became dirty: it is looked at in a while. Any context.
    pub(super) fn arm(&self) {
        let interval = INTERVAL_CENTISECS.load(Ordering::Relaxed);
        if interval != 0 && !self.timer.is_queued() && queue().is_some() {
            self.timer.start_in_ms(u64::from(interval) * 10);
        }
    }

    /// Runs soon. Any context.
    pub(super) fn wake(&self, reason: Reason) {
        if reason == Reason::All {
            self.all.store(true, Ordering::Release);
        }
        if let Some(queue) = queue() {
            queue.queue_work(&self.work);
        }
    }
}

/// Has all devices written to that have something dirty.
pub fn wake_all(reason: Reason) {
    super::devices::for_each(&mut |device| {
        if device.has_dirty() {
            device.flusher.wake(reason);
        }
    });
}

fn over_background() -> bool {
    let (_, soft) = super::thresholds();
    debug_assert!(BACKGROUND_RATIO.load(Ordering::Relaxed) <= 100);
    stats::item(Item::FileDirty) > soft
}

fn run(device: &Arc<BackingDevice>) {
    device.bandwidth.begin(device.written(), super::now_ms());
    let all = device.flusher.all.swap(false, Ordering::AcqRel);
    let started = super::now_ms();
    // All that is dirty now; what comes later waits for the next round.
    if all {
        write_older(device, started, &|| true);
    }
    let expired = u64::from(EXPIRE_CENTISECS.load(Ordering::Relaxed)) * 10;
    write_older(device, started.saturating_sub(expired), &|| true);
    write_older(device, u64::MAX, &over_background);
    device.flusher.rounds.fetch_add(1, Ordering::Release);
    wake_waiters(device);
    if device.has_dirty() {
        device.flusher.arm();
    }
}

fn wake_waiters(device: &BackingDevice) {
    device.flusher.progress.wake_all();
    super::throttle::PROGRESS.wake_all();
}

/// Writes mappings that are dirty since `before_ms` or earlier, in turns, as long as `wanted`.
fn write_older(device: &Arc<BackingDevice>, before_ms: u64, wanted: &dyn Fn() -> bool) {
    let mut idle = 0;
    let begun = super::now_ms();
    while wanted()
        && let Some(mapping) = device.take_dirty(before_ms)
    {
        let turn = (device.bandwidth.average() / 2).max(LEAST_TURN);
        let taken = write_turn(&mapping, turn);
        let now = super::now_ms();
        device.bandwidth.update(device.written(), now);
        // What is left of it has its turn again, behind the others, as old as it was: unless that was all.
        let stamp = if taken >= turn { before_ms.min(now) } else { now };
        device.settle(mapping, stamp);
        wake_waiters(device);
        idle = if taken == 0 { idle + 1 } else { 0 };
        // All that is left is on its way, or cannot be written: later.
        if idle > 64 || now.saturating_sub(begun) > 30_000 {
            return;
        }
        sched::cond_resched();
    }
}

/// Writes up to `turn` pages of a mapping, from where the last turn ended; how many were taken.
fn write_turn(mapping: &Mapping, turn: u64) -> u64 {
    let from = mapping.dirty.cursor.load(Ordering::Relaxed);
    let mut control = WritebackControl::new(from..u64::MAX, SyncMode::None);
    control.background = true;
    control.budget = turn;
    // Failures are noted at the mapping.
    let _ = mapping.write_folios(&mut control);
    let mut taken = control.taken;
    if control.budget > 0 && from > 0 {
        let mut control = WritebackControl::new(0..from, SyncMode::None);
        control.background = true;
        control.budget = turn - taken;
        let _ = mapping.write_folios(&mut control);
        taken += control.taken;
        mapping.dirty.cursor.store(control.position(), Ordering::Relaxed);
    } else {
        let next = if control.budget > 0 { 0 } else { control.position() };
        mapping.dirty.cursor.store(next, Ordering::Relaxed);
    }
    taken
}
