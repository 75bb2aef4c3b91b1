//! The queue of a device: from bios to requests, to the driver, and back.
//!
//! ```text
//! submit ── plug ──┬─ elevator ──┬─ dispatch ── Driver::queue_rqs ── device ── complete ── EndIo
//!                  └─ ctx (CPU) ─┘
//! ```
//!
//! Each hardware queue ([`HwQueue`]) has tags, one for each request that the device can have. Without a scheduler a request takes its tag
//! when it is made, and waits on the list of its CPU for a moment only. With one it is made from a larger pool, waits in the scheduler, and
//! takes a tag when it goes to the device.
//!
//! # Dispatch
//!
//! At a time one CPU dispatches to a hardware queue. Who comes meanwhile leaves a mark and goes; the one that is there looks again. If there is
//! work that the device has no room for, the dispatcher marks the queue as *stalled* and leaves; who completes a request next sees the mark, and
//! has the queue run again. Since the mark is set before the dispatcher looks for completions a last time, and a completion is
//! counted before the mark is looked at, one of the two always sees the other.
//!
//! # Locks
//!
//! None is held across calls of drivers or of [`crate::EndIo`]. `ctx` → nothing; scheduler → nothing; `waiting` (irq-safe) → nothing.
//!
//! # End of life
//!
//! A timer's function only queues work; the work looks for the queue through a weak reference. So the queue may be dropped by whoever has
//! it last, but in the timer's function itself.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::cpu::{self, MAX_CPUS};
use arch::sync::{SpinLock, SpinLockIrq};
use collections::fifo::Fifo;
use mm::context::NoFailScope;
use mm::fallible::{try_arc, try_box, try_into_boxed_slice, try_with_capacity};
use sched::mutex::Mutex;
use sched::rcu;
use sched::timer::Timer;
use sched::workqueue::{Work, WorkQueue};
use sync::{BoxSlot, CachePadded, Once, RcuPtr};

use crate::bio::{Bio, Op, OpFlags, Status};
use crate::driver::{Driver, Shape};
use crate::elevator::{self, Elevator};
use crate::limits::Limits;
use crate::plug::Plug;
use crate::request::{NO_TAG, Phase, Request};
use crate::split;
use crate::tags::Tags;
use crate::usage::Usage;

mod complete;
mod dispatch;
mod flush;
mod timeout;

#[cfg(test)]
mod tests;

/// The most requests that a scheduler's pool has for each hardware queue.
const POOL: u32 = 256;

static KBLOCKD: Once<WorkQueue> = Once::new();

/// The threads that dispatch for those who cannot.
fn kblockd() -> &'static WorkQueue {
    KBLOCKD.call_once(|| match WorkQueue::new("kblockd") {
        Ok(queue) => queue,
        Err(error) => panic!("no memory for kblockd: {error}"),
    })
}

/// What can be changed while nothing is going on.
struct Config {
    limits: Limits,
    elevator: Option<Arc<dyn Elevator>>,
}

/// Requests that are not in use, by slot.
struct Pool {
    slots: Tags,
    parked: Box<[BoxSlot<Request>]>,
}

impl Pool {
    fn new(home: usize, size: u32) -> Result<Self> {
        let mut parked = try_with_capacity(size as usize)?;
        for slot in 0..size {
            let place = BoxSlot::new();
            let mut request = Request::empty(slot);
            request.home = home as u16;
            place.put(try_box(request)?);
            parked.extend([place]);
        }
        Ok(Self { slots: Tags::new(size)?, parked: try_into_boxed_slice(parked)? })
    }

    fn take(&self, slot: u32) -> Option<Box<Request>> {
        self.parked.get(slot as usize)?.take()
    }

    fn park(&self, request: Box<Request>) {
        let slot = request.slot;
        if let Some(place) = self.parked.get(slot as usize) {
            place.put(request);
            self.slots.put(slot);
        }
    }
}

/// A new request, and the scheduler that it is for.
type Made = (Box<Request>, Option<Arc<dyn Elevator>>);

/// One hardware queue.
pub struct HwQueue {
    index: usize,
    /// Tags that requests have at the driver; without a scheduler those of `pool` are used instead.
    tags: Tags,
    /// Requests without a scheduler: as many as there are tags.
    pool: Pool,
    /// Requests for a scheduler, once there was one.
    sched_pool: Once<Pool>,
    /// What the driver has, by tag, and until when.
    in_flight: Box<[BoxSlot<Request>]>,
    deadlines: Box<[AtomicU64]>,
    /// Whether somebody dispatches.
    runner: CachePadded<AtomicU32>,
    stalled: AtomicBool,
    /// Requests that went to the driver: changed by the one who dispatches only.
    issued: AtomicU32,
    /// Requests that came back.
    completed: CachePadded<AtomicU32>,
    /// What goes before all others: what the driver gave back, and what has flushes.
    waiting: SpinLockIrq<Fifo<Request>>,
    has_waiting: AtomicBool,
    /// CPUs whose lists are not empty.
    ctx_pending: AtomicU64,
    flush: flush::Flush,
    work: Work,
    /// Runs it again after a while.
    later: Timer,
}

/// The queue of a device.
pub struct Queue {
    driver: Arc<dyn Driver>,
    hw: Box<[HwQueue]>,
    /// Which hardware queue each CPU uses.
    map: Box<[u16]>,
    /// Requests of each CPU on their way to the driver.
    ctx: Box<[CachePadded<SpinLock<Fifo<Request>>>]>,
    config: RcuPtr<Config>,
    /// Who changes `config`.
    changing: Mutex<()>,
    /// Requests that exist.
    usage: Usage,
    /// The device is gone.
    dead: AtomicBool,
    timeout_ns: u64,
    timeouts: timeout::Timeouts,
}

impl Queue {
    /// The queue of a device that `driver` drives.
    ///
    /// # Errors
    /// `EINVAL`: the limits contradict each other, or there is no hardware queue; `ENOMEM`.
    pub fn new(driver: Arc<dyn Driver>, shape: Shape, limits: Limits) -> Result<Arc<Self>> {
        let limits = limits.validated()?;
        if shape.queues == 0 || shape.queues > MAX_CPUS {
            return Err(Errno::EINVAL);
        }
        let config = try_arc(Config { limits, elevator: None })?;
        let mut map = try_with_capacity(MAX_CPUS)?;
        map.extend((0..MAX_CPUS).map(|cpu| (cpu % shape.queues) as u16));
        let mut ctx = try_with_capacity(MAX_CPUS)?;
        ctx.extend((0..MAX_CPUS).map(|_| CachePadded::new(SpinLock::new(Fifo::new()))));
        // The works must know the queue, which is made of them: they look into a box that is filled in last.
        let myself = try_arc(SpinLockIrq::new(Weak::new()))?;
        let mut hw = try_with_capacity(shape.queues)?;
        for index in 0..shape.queues {
            hw.extend([HwQueue::new(index, shape.depth, &myself)?]);
        }
        let queue = try_arc(Self {
            driver,
            hw: try_into_boxed_slice(hw)?,
            map: try_into_boxed_slice(map)?,
            ctx: try_into_boxed_slice(ctx)?,
            config: RcuPtr::new(Some(config)),
            changing: Mutex::new(()),
            usage: Usage::new()?,
            dead: AtomicBool::new(false),
            timeout_ns: u64::from(shape.timeout_ms) * 1_000_000,
            timeouts: timeout::Timeouts::new(&myself)?,
        })?;
        *myself.lock() = Arc::downgrade(&queue);
        Ok(queue)
    }

    /// Gives `bio`, whose sectors are those of the whole device, to the device. It comes back through its [`crate::EndIo`], at once if it
    /// cannot be done at all. May sleep, unless the bio says [`OpFlags::NOWAIT`]. With a plug it may stay there until the plug is finished.
    pub fn submit(self: &Arc<Self>, mut bio: Box<Bio>, mut plug: Option<&mut Plug>) {
        let limits = {
            let rcu = rcu::read_lock();
            self.config.load(&rcu).map(|config| config.limits)
        };
        let Some(limits) = limits else { return bio.finish(Status::Offline) };
        let limits = &limits;
        if !limits.has_write_cache() {
            // What the device has taken is safe.
            bio.flags.remove(OpFlags::PREFLUSH | OpFlags::FUA);
            if bio.op == Op::Flush {
                return bio.finish(Status::Ok);
            }
        }
        let absent = bio.op != Op::Flush && limits.max_bytes(bio.op, bio.sector) == 0;
        if absent {
            return bio.finish(Status::NotSupported);
        }
        if bio.op != Op::Flush && bio.is_empty() {
            // Nothing to transfer: what is left is its flush.
            if !bio.flags.contains(OpFlags::PREFLUSH) {
                return bio.finish(Status::Ok);
            }
            bio.op = Op::Flush;
        }
        loop {
            let length = if bio.op == Op::Flush { Ok(None) } else { split::too_long(&bio, limits) };
            match length {
                Err(status) => return bio.finish(status),
                Ok(None) => break,
                Ok(Some(len)) => {
                    // Write-back may not fail for want of a little memory: it is what frees some.
                    let _no_fail = NoFailScope::enter();
                    match bio.split(len) {
                        Ok(front) => self.submit_one(front, limits, plug.as_deref_mut()),
                        Err(_) => return bio.finish(Status::Resource),
                    }
                }
            }
        }
        self.submit_one(bio, limits, plug);
    }

    /// A bio that fits into one request.
    fn submit_one(self: &Arc<Self>, mut bio: Box<Bio>, limits: &Limits, mut plug: Option<&mut Plug>) {
        let mut count = split::Segments::new(limits);
        if bio.op.has_data() {
            for segment in bio.segments() {
                count.add(segment.phys(), segment.len, u64::MAX);
            }
        }
        let segments = count.count;
        let plain =
            !bio.flags.intersects(OpFlags::NOMERGE | OpFlags::PREFLUSH | OpFlags::FUA) && bio.op != Op::Flush;
        if plain {
            if let Some(plug) = plug.as_deref_mut() {
                match plug.merge(self, bio, segments, limits) {
                    Ok(()) => return,
                    Err(same) => bio = same,
                }
            }
            if let Some(elevator) = self.elevator() {
                match elevator.merge(bio, segments, limits) {
                    Ok(()) => return,
                    Err(same) => bio = same,
                }
            }
        }
        let (mut request, elevator) = match self.make(&bio, plug.as_deref_mut()) {
            Ok(made) => made,
            Err(status) => return bio.finish(status),
        };
        request.fill(bio, segments);
        request.queued_ns = sched::time::monotonic_ns();
        request.plan_flushes(limits);
        if request.phase != Phase::Plain {
            let hw = &self.hw[request.home()];
            hw.flush.insert(hw, request);
            self.run(hw);
            return;
        }
        match plug {
            Some(plug) => plug.add(self, request),
            None => {
                let mut one = Fifo::new();
                one.push_back(request);
                self.insert(one, elevator.as_deref());
            }
        }
    }

    /// A request to fill in, and the scheduler that it is for.
    fn make(self: &Arc<Self>, bio: &Bio, mut plug: Option<&mut Plug>) -> Result<Made, Status> {
        let nowait = bio.flags.contains(OpFlags::NOWAIT);
        while !self.usage.enter() {
            if self.dead.load(Ordering::Acquire) {
                return Err(Status::Offline);
            }
            if nowait {
                return Err(Status::Again);
            }
            // What is plugged may be what the queue waits for.
            plug.as_deref_mut().into_iter().for_each(Plug::flush);
            self.usage.wait_open(|| self.dead.load(Ordering::Acquire));
        }
        // From here on the configuration stays.
        let elevator = self.elevator();
        let cpu = cpu::current();
        let hw = &self.hw[usize::from(self.map[cpu.index()])];
        let pool = hw.pool_for(elevator.is_some());
        let slot = match pool.slots.get(1).pop() {
            Some(slot) => slot,
            None if nowait => {
                self.usage.leave();
                return Err(Status::Again);
            }
            None => {
                plug.into_iter().for_each(Plug::flush);
                pool.slots.get_waiting()
            }
        };
        let Some(mut request) = pool.take(slot) else {
            debug_assert!(false, "a free slot without a request");
            self.usage.leave();
            return Err(Status::Resource);
        };
        request.cpu = cpu.index() as u16;
        request.scheduled = elevator.is_some();
        request.tag = if request.scheduled { NO_TAG } else { slot };
        Ok((request, elevator))
    }

    /// Requests of this queue, all made for the same scheduler, go on their way.
    pub(crate) fn insert(&self, mut requests: Fifo<Request>, elevator: Option<&dyn Elevator>) {
        let Some(home) = requests.front().map(Request::home) else { return };
        if let Some(elevator) = elevator {
            elevator.insert(&mut requests, sched::time::monotonic_ns());
            return self.run(&self.hw[home]);
        }
        // Those of one CPU in a row: usually all.
        let mut homes = 0u64;
        while let Some(request) = requests.pop_front() {
            let (cpu, home) = (usize::from(request.cpu), request.home());
            self.ctx[cpu].lock().push_back(request);
            self.hw[home].ctx_pending.fetch_or(1 << cpu, Ordering::AcqRel);
            homes |= 1 << home;
        }
        for hw in self.hw.iter().filter(|hw| homes & 1 << hw.index != 0) {
            self.run(hw);
        }
    }

    /// The same, for requests that wait in a plug.
    pub(crate) fn insert_plugged(&self, requests: Fifo<Request>) {
        let elevator = self.elevator();
        self.insert(requests, elevator.as_deref());
    }

    /// The limits as they are now.
    ///
    /// # Errors
    /// `ENODEV`: there is nothing any more.
    pub fn limits(&self) -> Result<Limits> {
        let rcu = rcu::read_lock();
        self.config.load(&rcu).map(|config| config.limits).ok_or(Errno::ENODEV)
    }

    /// The scheduler's name.
    pub fn scheduler(&self) -> &'static str {
        let rcu = rcu::read_lock();
        self.config
            .load(&rcu)
            .and_then(|config| config.elevator.as_ref())
            .map_or("none", |elevator| elevator.name())
    }

    /// The scheduler, for its attributes.
    pub fn elevator(&self) -> Option<Arc<dyn Elevator>> {
        let rcu = rcu::read_lock();
        self.config.load(&rcu)?.elevator.clone()
    }

    /// Changes the scheduler. What is on its way ends first; what comes meanwhile waits. May sleep.
    ///
    /// # Errors
    /// `EINVAL`: there is no scheduler of that name; `ENOMEM`; `ENODEV`.
    pub fn set_scheduler(&self, name: &str) -> Result<()> {
        let _changing = self.changing.lock();
        if self.scheduler() == name {
            return Ok(());
        }
        let elevator = elevator::make(name, self.hw.len(), POOL)?;
        if elevator.is_some() {
            for hw in &self.hw {
                if hw.sched_pool.get().is_none() {
                    let pool = Pool::new(hw.index, POOL)?;
                    hw.sched_pool.call_once(|| pool);
                }
            }
        }
        let limits = self.limits()?;
        self.replace(Config { limits, elevator })
    }

    /// Changes the limits, as [`set_scheduler`](Self::set_scheduler) changes the scheduler.
    ///
    /// # Errors
    /// `EINVAL`: they contradict each other; `ENOMEM`; `ENODEV`.
    pub fn update_limits(&self, change: impl FnOnce(&mut Limits)) -> Result<()> {
        let _changing = self.changing.lock();
        let mut limits = self.limits()?;
        change(&mut limits);
        let limits = limits.validated()?;
        self.replace(Config { limits, elevator: self.elevator() })
    }

    fn replace(&self, config: Config) -> Result<()> {
        let config = try_arc(config)?;
        self.freeze();
        rcu::retire(self.config.replace(Some(config)));
        self.unfreeze();
        Ok(())
    }

    /// Lets nobody in, and waits until all requests are over. May sleep.
    pub fn freeze(&self) {
        self.usage.close();
        self.usage.wait_empty();
    }

    /// Lets them in again; once for each [`freeze`](Self::freeze).
    pub fn unfreeze(&self) {
        self.usage.open();
    }

    /// The device is gone: whatever comes from now on ends with [`Status::Offline`]. What the driver has, the driver ends. May sleep.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        self.usage.close();
        self.usage.look_again();
        self.usage.wait_empty();
    }

    /// How many requests the driver has, in all hardware queues: at the moment of asking.
    pub fn in_flight(&self) -> u32 {
        self.hw.iter().map(HwQueue::in_flight).sum()
    }

    /// How many hardware queues there are.
    pub fn hw_queues(&self) -> usize {
        self.hw.len()
    }
}

impl HwQueue {
    fn new(index: usize, depth: u32, queue: &Arc<SpinLockIrq<Weak<Queue>>>) -> Result<Self> {
        let mut in_flight = try_with_capacity(depth as usize)?;
        in_flight.extend((0..depth).map(|_| BoxSlot::new()));
        let mut deadlines = try_with_capacity(depth as usize)?;
        deadlines.extend((0..depth).map(|_| AtomicU64::new(0)));
        let queue = queue.clone();
        let work = Work::new(move || {
            let queue = queue.lock().upgrade();
            if let Some(queue) = queue {
                queue.run(&queue.hw[index]);
            }
        })?;
        let item = work.clone();
        let later = Timer::new(move || {
            kblockd().queue_work(&item);
        })?;
        Ok(Self {
            index,
            tags: Tags::new(depth)?,
            pool: Pool::new(index, depth)?,
            sched_pool: Once::new(),
            in_flight: try_into_boxed_slice(in_flight)?,
            deadlines: try_into_boxed_slice(deadlines)?,
            runner: CachePadded::new(AtomicU32::new(0)),
            stalled: AtomicBool::new(false),
            issued: AtomicU32::new(0),
            completed: CachePadded::new(AtomicU32::new(0)),
            waiting: SpinLockIrq::new(Fifo::new()),
            has_waiting: AtomicBool::new(false),
            ctx_pending: AtomicU64::new(0),
            flush: flush::Flush::new(),
            work,
            later,
        })
    }

    /// Where requests come from, with or without a scheduler.
    fn pool_for(&self, scheduled: bool) -> &Pool {
        match self.sched_pool.get() {
            Some(pool) if scheduled => pool,
            _ => &self.pool,
        }
    }

    fn in_flight(&self) -> u32 {
        self.issued.load(Ordering::Acquire).wrapping_sub(self.completed.0.load(Ordering::Acquire))
    }

    /// Requests that go before all others.
    fn wait_first(&self, request: Box<Request>) {
        let mut waiting = self.waiting.lock();
        waiting.push_back(request);
        self.has_waiting.store(true, Ordering::Release);
    }
}
