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
//! None is held across calls of drivers or of [`crate::EndIo`]. `ctx` → nothing; scheduler → nothing; `waiting`, a place in flight
//! (irq-safe) → nothing. Preemption is off while somebody dispatches: the others rely on that one.
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
use collections::fifo::{Chained, Fifo, Node};
use mm::context::NoFailScope;
use mm::fallible::{try_arc, try_into_boxed_slice, try_with_capacity};
use sched::mutex::Mutex;
use sched::rcu;
use sched::timer::Timer;
use sched::workqueue::{Work, WorkQueue};
use sync::{BoxSlot, CachePadded, Once, RcuPtr};

use crate::bio::{Bio, Op, OpFlags, SECTOR_SHIFT, Status};
use crate::disk::stat::Accounts;
use crate::driver::{Driver, Shape};
use crate::elevator::gate::{GATES, Gate};
use crate::elevator::{self, Elevator, Limit};
use crate::limits::{Features, Limits};
use crate::plug::Plug;
use crate::request::{NO_TAG, NOT_SCHEDULED, Phase, Request, Source};
use crate::split;
use crate::tags::Tags;
use crate::usage::Usage;

mod complete;
mod dispatch;
mod flush;
mod timeout;

#[cfg(test)]
mod tests;

/// How the sizes of batches are counted ([`Queue::dispatch_batches`]).
pub const BATCH_SIZES: usize = 7;
/// How many requests are asked of a scheduler in a round at most.
const SCHED_BATCH: u32 = 32;

/// The most requests that a scheduler's pool has for each hardware queue.
const POOL: u32 = 256;

static KBLOCKD: Once<WorkQueue> = Once::new();

/// The threads that dispatch for those who cannot. Made with the first queue: what completes in an interrupt only uses them.
fn kblockd() -> Result<&'static WorkQueue> {
    if let Some(queue) = KBLOCKD.get() {
        return Ok(queue);
    }
    let made = WorkQueue::new("kblockd")?;
    Ok(KBLOCKD.call_once(|| made))
}

/// What can be changed while nothing is going on.
struct Config {
    limits: Limits,
    elevator: Option<Arc<dyn Elevator>>,
}

/// Requests that are not in use, by slot.
struct Pool {
    slots: Tags,
    parked: Box<[BoxSlot<Node<Request>>]>,
}

impl Pool {
    fn new(home: usize, size: u32) -> Result<Self> {
        let mut parked = try_with_capacity(size as usize)?;
        for slot in 0..size {
            let place = BoxSlot::new();
            let mut request = Request::empty(slot);
            request.home = home as u16;
            place.put(Chained::try_new(request)?.into_box());
            parked.extend([place]);
        }
        Ok(Self { slots: Tags::new(size)?, parked: try_into_boxed_slice(parked)? })
    }

    fn take(&self, slot: u32) -> Option<Chained<Request>> {
        self.parked.get(slot as usize)?.take().map(Chained::from_box)
    }

    fn park(&self, request: Chained<Request>) {
        let slot = request.slot;
        if let Some(place) = self.parked.get(slot as usize) {
            place.put(request.into_box());
            self.slots.put(slot);
        }
    }
}

/// Where a request is while the driver has it. Whoever takes it out ends it.
#[derive(Default)]
struct Place(SpinLockIrq<InFlight>);

#[derive(Default)]
struct InFlight {
    request: Option<Chained<Request>>,
    /// How many requests have been here.
    sequence: u64,
    /// Until when it should be over: monotonic nanoseconds.
    deadline: u64,
}

/// What those who complete requests write and read.
struct Back {
    /// Requests that came back.
    completed: AtomicU32,
    /// Somebody waits for the next to come back.
    stalled: AtomicBool,
}

/// One hardware queue.
pub struct HwQueue {
    index: usize,
    /// Tags that requests have at the driver; without a scheduler those of `pool` are used instead.
    tags: Tags,
    /// Requests without a scheduler: as many as there are tags.
    pool: Pool,
    /// Requests for a scheduler, once there was one.
    sched_pool: Once<Pool>,
    /// What the driver has, by tag.
    in_flight: Box<[Place]>,
    /// Whether somebody dispatches.
    runner: CachePadded<AtomicU32>,
    /// Requests that went to the driver: changed by the one who dispatches only.
    issued: AtomicU32,
    /// How many of its calls the driver took how many requests in: changed by the one who dispatches only.
    batches: [AtomicU64; BATCH_SIZES],
    back: CachePadded<Back>,
    /// What goes before all others: what the driver gave back, and what has flushes.
    waiting: SpinLockIrq<Fifo<Request>>,
    has_waiting: AtomicBool,
    /// CPUs whose lists are not empty.
    ctx_pending: AtomicU64,
    flush: flush::Flush,
    /// Where requests of the scheduler's are counted that there may not be too many of.
    gates: [Gate; GATES],
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
    /// How many requests are asked of a scheduler in a round at most.
    sched_batch: AtomicU32,
    /// Requests that exist.
    usage: Usage,
    /// The device is gone.
    dead: AtomicBool,
    timeout_ns: u64,
    timeouts: timeout::Timeouts,
    accounts: Accounts,
    kblockd: &'static WorkQueue,
}

impl Queue {
    /// The queue of a device that `driver` drives.
    ///
    /// # Errors
    /// `EINVAL`: the limits contradict each other, or there is no hardware queue or no time; `ENOMEM`.
    pub fn new(driver: Arc<dyn Driver>, shape: Shape, limits: Limits) -> Result<Arc<Self>> {
        let limits = limits.validated()?;
        if shape.queues == 0 || shape.queues > MAX_CPUS || shape.timeout_ms == 0 {
            return Err(Errno::EINVAL);
        }
        let kblockd = kblockd()?;
        let config = try_arc(Config { limits, elevator: None })?;
        let mut map = try_with_capacity(MAX_CPUS)?;
        map.extend((0..MAX_CPUS).map(|cpu| (cpu % shape.queues) as u16));
        let mut ctx = try_with_capacity(MAX_CPUS)?;
        ctx.extend((0..MAX_CPUS).map(|_| CachePadded::new(SpinLock::new(Fifo::new()))));
        // The works must know the queue, which is made of them: they look into a box that is filled in last.
        let myself = try_arc(SpinLockIrq::new(Weak::new()))?;
        let mut hw = try_with_capacity(shape.queues)?;
        for index in 0..shape.queues {
            hw.extend([HwQueue::new(index, shape.depth, &myself, kblockd)?]);
        }
        let queue = try_arc(Self {
            driver,
            hw: try_into_boxed_slice(hw)?,
            map: try_into_boxed_slice(map)?,
            ctx: try_into_boxed_slice(ctx)?,
            config: RcuPtr::new(Some(config)),
            changing: Mutex::new(()),
            sched_batch: AtomicU32::new(SCHED_BATCH),
            usage: Usage::new()?,
            dead: AtomicBool::new(false),
            timeout_ns: u64::from(shape.timeout_ms) * 1_000_000,
            timeouts: timeout::Timeouts::new(&myself, kblockd)?,
            accounts: Accounts::new()?,
            kblockd,
        })?;
        *myself.lock() = Arc::downgrade(&queue);
        Ok(queue)
    }

    /// Gives `bio`, whose sectors are those of the whole device, to the device. It comes back through its [`crate::EndIo`], at once if it
    /// cannot be done at all. Task context; may sleep, unless the bio says [`OpFlags::NOWAIT`]. With a plug it stays there until the plug is
    /// flushed.
    pub fn submit(self: &Arc<Self>, bio: Chained<Bio>, plug: Option<&mut Plug>) {
        match plug {
            Some(plug) => plug.add(self, bio),
            None => {
                let mut one = Fifo::new();
                one.push_back(bio);
                self.submit_all(one);
            }
        }
    }

    /// The same with many at once: neighbours are joined, and the driver gets them together.
    pub(crate) fn submit_all(&self, mut bios: Fifo<Bio>) {
        let mut requests = Fifo::new();
        while let Some(bio) = bios.pop_front() {
            if bio.overwrites_blocks() {
                Bio::finish(bio, Status::NotSupported);
                continue;
            }
            if let Err(status) = self.enter(&bio, &mut requests) {
                Bio::finish(bio, status);
                continue;
            }
            // From here on the configuration stays.
            self.submit_inside(bio, &mut requests);
            self.usage.leave();
        }
        self.insert(requests);
    }

    /// Goes in for `bio`. What was made before is let go first if that takes a while: it may be what the queue waits for.
    fn enter(&self, bio: &Bio, requests: &mut Fifo<Request>) -> Result<(), Status> {
        while !self.usage.enter() {
            if self.is_dead() {
                return Err(Status::Offline);
            }
            if bio.flags.contains(OpFlags::NOWAIT) {
                return Err(Status::Again);
            }
            self.insert(core::mem::take(requests));
            self.usage.wait_open(|| self.is_dead());
        }
        if self.is_dead() {
            self.usage.leave();
            return Err(Status::Offline);
        }
        Ok(())
    }

    fn submit_inside(&self, mut bio: Chained<Bio>, requests: &mut Fifo<Request>) {
        let Ok(limits) = self.limits() else { return Bio::finish(bio, Status::Offline) };
        let limits = &limits;
        bio.fill_in_submitter();
        if !limits.has_write_cache() {
            // What the device has taken is safe.
            bio.flags.remove(OpFlags::PREFLUSH | OpFlags::FUA);
            if bio.op == Op::Flush {
                return Bio::finish(bio, Status::Ok);
            }
        }
        if let Err(status) = check(&bio, limits) {
            return Bio::finish(bio, status);
        }
        if bio.op != Op::Flush && bio.is_empty() {
            // Nothing to transfer: what is left is its flush.
            if !bio.flags.contains(OpFlags::PREFLUSH) {
                return Bio::finish(bio, Status::Ok);
            }
            bio.op = Op::Flush;
        }
        while bio.op != Op::Flush {
            match split::too_long(&bio, limits) {
                Err(status) => return Bio::finish(bio, status),
                Ok(None) => break,
                // Its parts would not all go, or not at once.
                Ok(Some(_)) if bio.flags.contains(OpFlags::NOWAIT) => return Bio::finish(bio, Status::Again),
                Ok(Some(len)) => {
                    let front = {
                        // Write-back may not fail for want of a little memory: it is what frees some.
                        let _no_fail = NoFailScope::enter();
                        bio.split(len)
                    };
                    match front {
                        Ok(front) => self.submit_part(front, limits, requests),
                        Err(_) => return Bio::finish(bio, Status::Resource),
                    }
                }
            }
        }
        self.submit_part(bio, limits, requests);
    }

    /// A bio that fits into one request.
    fn submit_part(&self, mut bio: Chained<Bio>, limits: &Limits, requests: &mut Fifo<Request>) {
        let mut count = split::Segments::new(limits);
        if bio.op.has_data() {
            for segment in bio.segments() {
                count.add(segment.phys(), segment.len(), u64::MAX);
            }
        }
        let segments = count.count;
        let alone = OpFlags::NOMERGE | OpFlags::PREFLUSH | OpFlags::FUA;
        let joins = !limits.features.contains(Features::NO_MERGES);
        if joins && !bio.flags.intersects(alone) && bio.op != Op::Flush {
            if let Some(last) = requests.back_mut()
                && let Some(side) = last.can_merge(&bio, segments, limits)
            {
                if last.counted {
                    self.accounts.merged(bio.part, bio.op);
                }
                return last.merge(bio, segments, side);
            }
            let (part, op) = (bio.part, bio.op);
            let merged = {
                let rcu = rcu::read_lock();
                match self.elevator_under(&rcu) {
                    Some(elevator) => elevator.merge(bio, segments, limits),
                    None => Err(bio),
                }
            };
            match merged {
                Ok(()) => {
                    if limits.features.contains(Features::IO_STAT) {
                        self.accounts.merged(part, op);
                    }
                    return;
                }
                Err(same) => bio = same,
            }
        }
        let mut request = match self.make(&bio, requests) {
            Ok(request) => request,
            Err(status) => return Bio::finish(bio, status),
        };
        request.fill(bio, segments);
        request.queued_ns = sched::time::monotonic_ns();
        request.plan_flushes(limits);
        request.counted = limits.features.contains(Features::IO_STAT);
        if request.counted {
            self.accounts.started(request.part, request.wanted().0, request.queued_ns);
        }
        if request.phase == Phase::Plain {
            requests.push_back(request);
        } else if let Some(hw) = self.hw.get(request.home()) {
            hw.flush.insert(hw, request);
            self.run(hw);
        }
    }

    /// A request to fill in. Only for somebody who is in.
    fn make(&self, bio: &Bio, requests: &mut Fifo<Request>) -> Result<Chained<Request>, Status> {
        let source = if self.has_elevator() { Source::Scheduler } else { Source::Tags };
        let limit = self.limit(bio);
        let cpu = cpu::current();
        let home = self.map.get(cpu.index()).copied().map_or(0, usize::from);
        let hw = self.hw.get(home).ok_or(Status::IoError)?;
        let pool = hw.pool(source);
        let gate = limit.and_then(|limit| hw.gates.get(usize::from(limit.gate)));
        if let (Some(gate), Some(limit)) = (gate, limit)
            && !gate.try_enter(limit.depth)
        {
            if bio.flags.contains(OpFlags::NOWAIT) {
                return Err(Status::Again);
            }
            self.insert(core::mem::take(requests));
            gate.enter(|| self.limit(bio).map_or(u32::MAX, |limit| limit.depth));
        }
        let slot = match pool.slots.get(1).pop() {
            Some(slot) => slot,
            None if bio.flags.contains(OpFlags::NOWAIT) => {
                gate.into_iter().for_each(Gate::leave);
                return Err(Status::Again);
            }
            None => {
                // Those that were made before may have the last.
                self.insert(core::mem::take(requests));
                pool.slots.get_waiting()
            }
        };
        let Some(mut request) = pool.take(slot) else {
            debug_assert!(false, "a free slot without a request");
            gate.into_iter().for_each(Gate::leave);
            return Err(Status::Resource);
        };
        self.usage.enter_again();
        request.cpu = cpu.index() as u16;
        request.source = source;
        request.gate = limit.map(|limit| limit.gate);
        request.tag = if source == Source::Tags { slot } else { NO_TAG };
        Ok(request)
    }

    /// Requests of this queue go on their way.
    fn insert(&self, mut requests: Fifo<Request>) {
        let Some(home) = requests.front().map(Request::home) else { return };
        let scheduled = {
            let rcu = rcu::read_lock();
            // The requests are in: there is a scheduler now if there was one when they were made.
            self.elevator_under(&rcu).map(|elevator| elevator.insert(&mut requests)).is_some()
        };
        if scheduled {
            return self.hw.get(home).into_iter().for_each(|hw| self.run(hw));
        }
        // Those of one CPU in a row: usually all.
        let mut homes = 0u64;
        while let Some((cpu, home)) = requests.front().map(|first| (first.cpu, first.home())) {
            let (Some(ctx), Some(hw)) = (self.ctx.get(usize::from(cpu)), self.hw.get(home)) else { return };
            {
                let mut ctx = ctx.0.lock();
                while requests.front().is_some_and(|next| next.cpu == cpu)
                    && let Some(request) = requests.pop_front()
                {
                    ctx.push_back(request);
                }
            }
            hw.ctx_pending.fetch_or(1 << cpu, Ordering::AcqRel);
            homes |= 1 << home;
        }
        for hw in self.hw.iter().filter(|hw| homes & 1 << hw.index != 0) {
            self.run(hw);
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn elevator_under<'a>(&'a self, rcu: &'a rcu::ReadGuard) -> Option<&'a dyn Elevator> {
        self.config.load(rcu)?.elevator.as_deref()
    }

    /// How many requests for bios like this one there may be.
    fn limit(&self, bio: &Bio) -> Option<Limit> {
        self.elevator_under(&rcu::read_lock())?.limit(bio.op, bio.flags)
    }

    fn has_elevator(&self) -> bool {
        self.elevator_under(&rcu::read_lock()).is_some()
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

    /// Changes an attribute of the scheduler.
    ///
    /// # Errors
    /// Those of [`Elevator::set`].
    pub fn set_attribute(&self, attribute: &str, value: u64) -> Result<()> {
        self.elevator().ok_or(Errno::ENOENT)?.set(attribute, value)?;
        // There may be room for more now.
        self.hw.iter().flat_map(|hw| &hw.gates).for_each(Gate::look_again);
        Ok(())
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
        let mut works = try_with_capacity(self.hw.len())?;
        works.extend(self.hw.iter().map(|hw| hw.work.clone()));
        let place = elevator::Place {
            queues: self.hw.len(),
            slots: POOL,
            rotational: self.limits()?.features.contains(Features::ROTATIONAL),
            kick: elevator::Kick::new(try_into_boxed_slice(works)?, Some(self.kblockd)),
        };
        let elevator = elevator::make(name, place)?;
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
        let before = self.elevator();
        self.freeze();
        if let Some(before) = before
            && !config.elevator.as_ref().is_some_and(|new| Arc::ptr_eq(new, &before))
        {
            before.stop();
        }
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

    /// The device is gone: whatever comes from now on, and all that waits, ends with [`Status::Offline`]. What the driver has, the driver ends;
    /// this waits for it. May sleep.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        self.usage.close();
        self.usage.look_again();
        for hw in &self.hw {
            self.run(hw);
        }
        self.usage.wait_empty();
    }

    /// The driver has room again for this hardware queue, though nothing of it was completed. Any context.
    pub fn kick(&self, hw: usize) {
        if let Some(hw) = self.hw.get(hw) {
            self.kblockd.queue_work(&hw.work);
        }
    }

    /// How many requests the driver has, in all hardware queues: at the moment of asking.
    pub fn in_flight(&self) -> u32 {
        self.hw.iter().map(HwQueue::in_flight).sum()
    }

    /// How often the driver of a hardware queue took none, one, 2 to 3, 4 to 7, 8 to 15, 16 to 31 and more requests in one call; `None`: there
    /// is no such queue.
    pub fn dispatch_batches(&self, hw: usize) -> Option<[u64; BATCH_SIZES]> {
        let hw = self.hw.get(hw)?;
        Some(core::array::from_fn(|size| hw.batches[size].load(Ordering::Relaxed)))
    }

    /// How many requests are asked of a scheduler at a time, to be handed to the driver in one call.
    pub fn sched_batch(&self) -> u32 {
        self.sched_batch.load(Ordering::Relaxed)
    }

    /// Changes that; 1: each goes alone.
    ///
    /// # Errors
    /// `EINVAL` for none, and for more than are worth it.
    pub fn set_sched_batch(&self, most: u32) -> Result<()> {
        if most == 0 || most > SCHED_BATCH {
            return Err(Errno::EINVAL);
        }
        self.sched_batch.store(most, Ordering::Relaxed);
        Ok(())
    }

    /// What was transferred, for the whole and by partition.
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// After how many milliseconds the driver is asked about a request.
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ns / 1_000_000
    }

    /// How many requests the device can have in each hardware queue.
    pub fn depth(&self) -> u32 {
        self.hw.first().map_or(0, |hw| hw.in_flight.len() as u32)
    }

    /// How many requests a hardware queue takes from its submitters: those of the scheduler if there is one.
    pub fn nr_requests(&self) -> u32 {
        if self.has_elevator() { POOL } else { self.depth() }
    }

    /// The CPUs that submit to hardware queue `hw`.
    pub fn cpus_of(&self, hw: usize) -> impl Iterator<Item = usize> {
        self.map.iter().enumerate().filter(move |(_, of)| usize::from(**of) == hw).map(|(cpu, _)| cpu)
    }

    /// How many hardware queues there are.
    pub fn hw_queues(&self) -> usize {
        self.hw.len()
    }
}

impl HwQueue {
    fn new(
        index: usize,
        depth: u32,
        queue: &Arc<SpinLockIrq<Weak<Queue>>>,
        kblockd: &'static WorkQueue,
    ) -> Result<Self> {
        let mut in_flight = try_with_capacity(depth as usize)?;
        in_flight.extend((0..depth).map(|_| Place::default()));
        let queue = queue.clone();
        let work = Work::new(move || {
            let queue = queue.lock().upgrade();
            if let Some(queue) = queue {
                queue.run(&queue.hw[index]);
            }
        })?;
        let item = work.clone();
        let later = Timer::new(move || {
            kblockd.queue_work(&item);
        })?;
        Ok(Self {
            index,
            tags: Tags::new(depth)?,
            pool: Pool::new(index, depth)?,
            sched_pool: Once::new(),
            in_flight: try_into_boxed_slice(in_flight)?,
            runner: CachePadded::new(AtomicU32::new(0)),
            issued: AtomicU32::new(0),
            batches: Default::default(),
            back: CachePadded::new(Back { completed: AtomicU32::new(0), stalled: AtomicBool::new(false) }),
            waiting: SpinLockIrq::new(Fifo::new()),
            has_waiting: AtomicBool::new(false),
            ctx_pending: AtomicU64::new(0),
            flush: flush::Flush::new(),
            gates: core::array::from_fn(|_| Gate::new()),
            work,
            later,
        })
    }

    fn pool(&self, source: Source) -> &Pool {
        match (source, self.sched_pool.get()) {
            (Source::Scheduler, Some(pool)) => pool,
            _ => &self.pool,
        }
    }

    fn in_flight(&self) -> u32 {
        self.issued.load(Ordering::Acquire).wrapping_sub(self.back.0.completed.load(Ordering::Acquire))
    }

    /// A request goes before all that come from the scheduler or the CPUs.
    fn wait_first(&self, request: Chained<Request>) {
        let mut waiting = self.waiting.lock();
        waiting.push_back(request);
        self.has_waiting.store(true, Ordering::Release);
    }
}

impl Drop for Queue {
    /// What still waits will never go.
    fn drop(&mut self) {
        self.dead.store(true, Ordering::Release);
        for hw in &self.hw {
            self.end_waiting(hw);
        }
    }
}

/// Whether a bio is what a device with these limits can be asked for.
fn check(bio: &Bio, limits: &Limits) -> Result<(), Status> {
    if bio.op == Op::Flush {
        return if bio.is_empty() { Ok(()) } else { Err(Status::IoError) };
    }
    if limits.max_bytes(bio.op, bio.sector) == 0 {
        return Err(Status::NotSupported);
    }
    let block = u64::from(limits.logical_block_size);
    let aligned = bio.len().is_multiple_of(block) && bio.sector.is_multiple_of(block >> SECTOR_SHIFT);
    // So that numbers of sectors and of bytes can be added without a thought.
    let fits = bio.sector.checked_add(bio.sectors()).is_some_and(|end| end < 1 << (64 - SECTOR_SHIFT));
    if aligned && fits { Ok(()) } else { Err(Status::IoError) }
}
