//! `bfq`, budget fair queueing: each process has its share of the device, and what a person waits for is fast.
//!
//! Valente, Checconi: *High Throughput Disk Scheduling with Fair Bandwidth Distribution*, IEEE Transactions on Computers 59(9), 2010;
//! the heuristics are those that Linux's `Documentation/block/bfq-iosched.rst` describes, with its attributes.
//!
//! Requests are of *flows*: those of one I/O context that somebody waits for, and those of one priority that nobody waits for. A flow
//! has the device to itself for a *turn*, which is over when it has used up a budget of sectors, when its time is up, or when it has
//! nothing more to do. The budget follows what it needs. A process that reads one thing after the other has nothing to do after each
//! for a moment: the device waits for it then (*idling*) where that is better, be it for speed (the next is near) or because
//! it would lose its share.
//!
//! | file | what |
//! |---|---|
//! | [`wfq`] | who is next: B-WF2Q+ over a tree of groups and flows |
//! | [`tree`] | its trees |
//! | [`turns`] | turns and budgets |
//! | [`idle`] | when the device waits |
//! | [`raise`] | what is preferred |
//! | [`flow`] | what is known about each flow |
//! | [`requests`] | what waits, by sector and by age |
//! | [`rate`] | how fast the device is |
//!
//! One irq-safe lock, under which nothing is allocated or called. An idle device is woken by a timer, whose function only takes that lock.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLockIrq;
use collections::fifo::{Chained, Fifo};
use mm::fallible::try_arc;
use sched::Deadline;
use sched::hrtimer::{HrTimer, Restart};
use sync::CachePadded;

use self::turns::Core;
use super::gate::GATES;
use super::{Elevator, Kick, Limit, Place};
use crate::bio::{Bio, Op, OpFlags};
use crate::limits::Limits;
use crate::request::Request;

mod flow;
mod idle;
mod raise;
mod rate;
mod requests;
mod tree;
mod tunables;
mod turns;
mod wfq;

#[cfg(test)]
mod tests;

struct Shared {
    core: SpinLockIrq<Core>,
    kick: Kick,
    /// For those who ask without the lock: requests that wait, flows that are raised.
    waiting: CachePadded<AtomicU32>,
    raised: AtomicU32,
}

impl Shared {
    /// Runs `f` under the lock.
    fn with<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.core.lock();
        let result = f(&mut core);
        self.waiting.0.store(core.waiting_requests(), Ordering::Release);
        self.raised.store(core.raised, Ordering::Relaxed);
        result
    }
}

/// The scheduler.
pub struct Bfq {
    shared: Arc<Shared>,
    /// Ends an idle time.
    timer: HrTimer,
    per_queue: u32,
}

impl Bfq {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(place: Place) -> Result<Arc<Self>> {
        let Place { queues, slots, rotational, kick } = place;
        let all = queues.checked_mul(slots as usize).ok_or(Errno::ENOMEM)?;
        let core = Core::new(all, rotational)?;
        let shared = try_arc(Shared {
            core: SpinLockIrq::new(core),
            kick,
            waiting: CachePadded::new(AtomicU32::new(0)),
            raised: AtomicU32::new(0),
        })?;
        let timer = HrTimer::new({
            let shared = shared.clone();
            move |now| {
                let (run, again) = shared.with(|core| (core.idled(now), core.waits_until()));
                run.into_iter().for_each(|hw| shared.kick.run(hw));
                again.map_or(Restart::No, Restart::At)
            }
        })?;
        Ok(try_arc(Self { shared, timer, per_queue: slots })?)
    }

    fn index(&self, request: &Request) -> u32 {
        request.home() as u32 * self.per_queue + request.slot()
    }
}

impl Elevator for Bfq {
    fn name(&self) -> &'static str {
        "bfq"
    }

    fn merge(&self, bio: Chained<Bio>, segments: u32, limits: &Limits) -> Result<(), Chained<Bio>> {
        // Merging changes nothing that is told to those without the lock.
        self.shared.core.lock().merge(bio, segments, limits)
    }

    fn insert(&self, requests: &mut Fifo<Request>) {
        let now = sched::time::monotonic_ns();
        self.shared.with(|core| {
            while let Some(request) = requests.pop_front() {
                let index = self.index(&request);
                core.insert(request, index, now);
            }
        });
    }

    fn insert_first(&self, requests: &mut Fifo<Request>) {
        self.shared.with(|core| {
            while let Some(request) = requests.pop_front() {
                core.insert_first(request);
            }
        });
    }

    fn dispatch(&self, _hw: usize, to: &mut Fifo<Request>, most: usize, now_ns: u64) {
        self.shared.with(|core| {
            for _ in 0..most {
                let Some(request) = core.dispatch(now_ns) else { break };
                to.push_back(request);
            }
        });
    }

    fn drain(&self, _hw: usize, to: &mut Fifo<Request>) {
        let now = sched::time::monotonic_ns();
        self.shared.with(|core| core.drain(to, now));
    }

    fn has_work(&self, _hw: usize) -> bool {
        self.shared.waiting.0.load(Ordering::Acquire) != 0
    }

    fn completed(&self, request: &Request) {
        let now = sched::time::monotonic_ns();
        let (run, idle) = self.shared.with(|core| {
            let before = core.waits_until();
            (core.completed(request.sched, now), core.waits_until().filter(|until| before != Some(*until)))
        });
        if let Some(until) = idle {
            self.timer.start(Deadline::at(sched::Clock::Monotonic, until));
        }
        if run {
            self.shared.kick.run(request.home());
        }
    }

    /// Reads have all that there are. Writes leave something for them, more so while somebody is preferred.
    fn limit(&self, op: Op, flags: OpFlags) -> Option<Limit> {
        if !op.is_write() {
            return None;
        }
        let sync = flags.is_sync(op);
        let raised = self.shared.raised.load(Ordering::Relaxed) > 0;
        let depth = match (raised, sync) {
            (false, false) => self.per_queue / 2,
            (false, true) => self.per_queue * 3 / 4,
            (true, false) => self.per_queue * 3 / 16,
            (true, true) => self.per_queue * 6 / 16,
        };
        const { assert!(GATES == 2) };
        Some(Limit { gate: u8::from(sync), depth: depth.max(1) })
    }

    fn stop(&self) {
        self.timer.cancel();
    }

    fn get(&self, attribute: &str) -> Result<u64> {
        self.shared.core.lock().get(attribute)
    }

    fn set(&self, attribute: &str, value: u64) -> Result<()> {
        let now = sched::time::monotonic_ns();
        self.shared.with(|core| core.set(attribute, value, now))
    }

    fn attributes(&self) -> &'static [&'static str] {
        &tunables::ATTRIBUTES
    }
}
