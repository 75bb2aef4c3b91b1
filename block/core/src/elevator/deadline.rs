//! `mq-deadline`: requests go in the order of their sectors, but none waits much longer than its time.
//!
//! Reads and writes each have an order by sector and a queue by age. Requests go in *batches* of neighbours by sector. When a batch is over,
//! reads come first, unless writes were passed over [`WRITES_STARVED`](Tunables) times; and a batch begins with the oldest request if that
//! is overdue, else where the last one ended. Above that stand three priorities (ioprio_set(2): real time, best effort, idle): a lower one gets
//! its turn when nothing above it waits or is under way, or when it has waited for too long. Linux's `Documentation/block/deadline-iosched.rst`
//! names the attributes.
//!
//! A request of a higher priority that ends may thus be what lower ones wait for: who counts the last of its priority down has the queue run.
//!
//! One lock for the device. Requests lie in an array by slot; the orders are of slot numbers, so nothing is allocated after the beginning.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use collections::fifo::{Chained, Fifo};
use collections::slottree::SlotTree;
use mm::fallible::{try_arc, try_with_capacity};

use super::{Elevator, Kick, Limit, Place};
use crate::bio::{Bio, IOPRIO_CLASS_SHIFT, Op, OpFlags};
use crate::limits::Limits;
use crate::request::{Request, Side};

const NONE: u32 = u32::MAX;
const MS: u64 = 1_000_000;

/// What a user can change. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Tunables {
    read_expire: u64,
    write_expire: u64,
    /// How often reads may pass writes by.
    writes_starved: u64,
    /// Whether bios are added to the front of requests.
    front_merges: u64,
    /// Writes that nobody waits for in each hardware queue.
    async_depth: u64,
    /// Requests in a batch.
    fifo_batch: u64,
    /// After how long a request of low priority goes in between.
    prio_aging_expire: u64,
}

const DEFAULTS: Tunables = Tunables {
    read_expire: 500,
    write_expire: 5000,
    writes_starved: 2,
    front_merges: 1,
    async_depth: 0,
    fifo_batch: 16,
    prio_aging_expire: 10_000,
};

const ATTRIBUTES: [&str; 7] = [
    "read_expire",
    "write_expire",
    "writes_starved",
    "front_merges",
    "async_depth",
    "fifo_batch",
    "prio_aging_expire",
];

impl Tunables {
    fn field(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "read_expire" => &mut self.read_expire,
            "write_expire" => &mut self.write_expire,
            "writes_starved" => &mut self.writes_starved,
            "front_merges" => &mut self.front_merges,
            "async_depth" => &mut self.async_depth,
            "fifo_batch" => &mut self.fifo_batch,
            "prio_aging_expire" => &mut self.prio_aging_expire,
            _ => return None,
        })
    }
}

/// The priorities, the most urgent first.
const PRIORITIES: usize = 3;
const READ: usize = 0;
const WRITE: usize = 1;

/// Of ioprio_set(2): `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE`, `IOPRIO_CLASS_IDLE`; without one it is best effort.
fn priority(ioprio: u16) -> usize {
    match ioprio >> IOPRIO_CLASS_SHIFT {
        1 => 0,
        3 => 2,
        _ => 1,
    }
}

fn direction(op: Op) -> usize {
    if op.is_write() { WRITE } else { READ }
}

/// Requests of one direction and priority.
struct Queue {
    by_start: SlotTree,
    /// By where they end: to find those that a bio can be added to.
    by_end: SlotTree,
    /// The oldest and the youngest.
    head: u32,
    tail: u32,
    /// Where the last batch ended.
    position: u64,
}

struct Slot {
    request: Option<Chained<Request>>,
    /// Neighbours by age.
    older: u32,
    younger: u32,
}

struct Inner {
    slots: Vec<Slot>,
    queues: [[Queue; 2]; PRIORITIES],
    /// What goes before the queues of its priority.
    first: [Fifo<Request>; PRIORITIES],
    tunables: Tunables,
    /// Which priority and direction the batch that runs is of, and how many more requests it may have.
    batch: Option<(usize, usize)>,
    left: u64,
    /// How often reads passed writes by, in each priority.
    starved: [u64; PRIORITIES],
}

/// The scheduler.
pub struct Deadline {
    inner: SpinLock<Inner>,
    /// Requests for each hardware queue.
    waiting: Vec<AtomicU32>,
    /// Requests of each priority that wait or are under way.
    pending: [AtomicU32; PRIORITIES],
    /// Slots of a hardware queue.
    per_queue: u32,
    /// The attribute, for those who make requests.
    async_depth: AtomicU32,
    kick: Kick,
}

impl Deadline {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(place: Place) -> Result<Arc<Self>> {
        let Place { queues, slots, kick, .. } = place;
        let all = queues.checked_mul(slots as usize).ok_or(Errno::ENOMEM)?;
        let queue = || {
            let (by_start, by_end) = (SlotTree::try_new(all)?, SlotTree::try_new(all)?);
            Ok::<_, Errno>(Queue { by_start, by_end, head: NONE, tail: NONE, position: 0 })
        };
        let pair = || Ok::<_, Errno>([queue()?, queue()?]);
        let queues_of = [pair()?, pair()?, pair()?];
        let mut places = try_with_capacity(all)?;
        places.extend((0..all).map(|_| Slot { request: None, older: NONE, younger: NONE }));
        let mut waiting = try_with_capacity(queues)?;
        waiting.extend((0..queues).map(|_| AtomicU32::new(0)));
        Ok(try_arc(Self {
            inner: SpinLock::new(Inner {
                slots: places,
                queues: queues_of,
                first: Default::default(),
                tunables: Tunables { async_depth: slots.into(), ..DEFAULTS },
                batch: None,
                left: 0,
                starved: [0; PRIORITIES],
            }),
            waiting,
            pending: Default::default(),
            per_queue: slots,
            async_depth: AtomicU32::new(slots),
            kick,
        })?)
    }

    fn index(&self, request: &Request) -> u32 {
        request.home() as u32 * self.per_queue + request.slot()
    }

    /// It is the scheduler's from here on.
    fn count_in(&self, request: &mut Request) {
        let priority = priority(request.ioprio());
        request.sched = priority as u32;
        self.pending[priority].fetch_add(1, Ordering::SeqCst);
        if let Some(waiting) = self.waiting.get(request.home()) {
            waiting.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// It is on its way.
    fn count_out(&self, request: &Request) {
        if let Some(waiting) = self.waiting.get(request.home()) {
            waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn is_pending(&self, priority: usize) -> bool {
        self.pending[priority].load(Ordering::SeqCst) != 0
    }
}

impl Inner {
    fn link(&mut self, index: u32, request: Chained<Request>) {
        let queue = &mut self.queues[priority(request.ioprio())][direction(request.op())];
        queue.by_start.insert(index, request.sector());
        queue.by_end.insert(index, request.end_sector());
        let tail = core::mem::replace(&mut queue.tail, index);
        if tail == NONE {
            queue.head = index;
        }
        if let Some(slot) = self.slots.get_mut(tail as usize) {
            slot.younger = index;
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            debug_assert!(slot.request.is_none());
            *slot = Slot { request: Some(request), older: tail, younger: NONE };
        }
    }

    fn unlink(&mut self, index: u32) -> Option<Chained<Request>> {
        let slot = self.slots.get_mut(index as usize)?;
        let request = slot.request.take()?;
        let (older, younger) = (slot.older, slot.younger);
        let queue = &mut self.queues[priority(request.ioprio())][direction(request.op())];
        queue.by_start.remove(index);
        queue.by_end.remove(index);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.younger = younger,
            None => queue.head = younger,
        }
        match self.slots.get_mut(younger as usize) {
            Some(slot) => slot.older = older,
            None => queue.tail = older,
        }
        Some(request)
    }

    fn request(&self, index: u32) -> Option<&Request> {
        self.slots.get(index as usize)?.request.as_deref()
    }

    /// Whether the oldest of a queue has waited for longer than it should.
    fn is_overdue(&self, priority: usize, direction: usize, now_ns: u64) -> bool {
        let expire = if direction == READ { self.tunables.read_expire } else { self.tunables.write_expire };
        self.has_waited(priority, direction, expire, now_ns)
    }

    fn has_waited(&self, priority: usize, direction: usize, ms: u64, now_ns: u64) -> bool {
        let oldest = self.request(self.queues[priority][direction].head);
        oldest.is_some_and(|request| is_over(request.queued_ns, ms, now_ns))
    }

    fn is_empty(&self, priority: usize, direction: usize) -> bool {
        self.queues[priority][direction].head == NONE
    }

    /// The next request by sector, if the batch goes on.
    fn continue_batch(&mut self, priority: usize) -> Option<u32> {
        let (of, direction) = self.batch.filter(|_| self.left > 0)?;
        if of != priority {
            return None;
        }
        let queue = &self.queues[of][direction];
        queue.by_start.at_or_after(queue.position)
    }

    /// The first request of a new batch.
    fn begin_batch(&mut self, priority: usize, now_ns: u64) -> Option<u32> {
        let (reads, writes) = (!self.is_empty(priority, READ), !self.is_empty(priority, WRITE));
        let direction = match (reads, writes) {
            (false, false) => return None,
            (true, false) => READ,
            (false, true) => WRITE,
            (true, true) if self.starved[priority] >= self.tunables.writes_starved => WRITE,
            (true, true) => READ,
        };
        if direction == WRITE {
            self.starved[priority] = 0;
        } else if writes {
            self.starved[priority] += 1;
        }
        let queue = &self.queues[priority][direction];
        let next = queue
            .by_start
            .at_or_after(queue.position)
            .filter(|_| !self.is_overdue(priority, direction, now_ns));
        self.batch = Some((priority, direction));
        self.left = self.tunables.fifo_batch;
        Some(next.unwrap_or(queue.head))
    }

    /// The next request of a priority.
    fn next_of(&mut self, priority: usize, now_ns: u64) -> Option<Chained<Request>> {
        if let Some(request) = self.first[priority].pop_front() {
            return Some(request);
        }
        let index = self.continue_batch(priority).or_else(|| self.begin_batch(priority, now_ns))?;
        let request = self.unlink(index)?;
        let (_, direction) = self.batch?;
        self.queues[priority][direction].position = request.end_sector();
        self.left = self.left.saturating_sub(1);
        Some(request)
    }

    /// One that has waited far too long below others: it goes in between, and leaves the batch as it was.
    fn aged(&mut self, now_ns: u64) -> Option<Chained<Request>> {
        let age = self.tunables.prio_aging_expire;
        for priority in 1..PRIORITIES {
            let since = self.first[priority].front().map(|first| first.queued_ns);
            if since.is_some_and(|since| is_over(since, age, now_ns)) {
                return self.first[priority].pop_front();
            }
            if let Some(direction) =
                (0..2).find(|&direction| self.has_waited(priority, direction, age, now_ns))
            {
                return self.unlink(self.queues[priority][direction].head);
            }
        }
        None
    }
}

impl Deadline {
    /// The next request of all.
    fn next(&self, inner: &mut Inner, now_ns: u64) -> Option<Chained<Request>> {
        let several = (0..PRIORITIES).filter(|&priority| self.is_pending(priority)).count() > 1;
        if several && let Some(aged) = inner.aged(now_ns) {
            return Some(aged);
        }
        for priority in 0..PRIORITIES {
            let next = inner.next_of(priority, now_ns);
            if next.is_some() || self.is_pending(priority) {
                return next;
            }
        }
        None
    }
}

/// Whether `ms` milliseconds have passed since then.
fn is_over(since_ns: u64, ms: u64, now_ns: u64) -> bool {
    since_ns.saturating_add(ms.saturating_mul(MS)) <= now_ns
}

impl Elevator for Deadline {
    fn name(&self) -> &'static str {
        "mq-deadline"
    }

    fn merge(&self, bio: Chained<Bio>, segments: u32, limits: &Limits) -> Result<(), Chained<Bio>> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let front_merges = inner.tunables.front_merges != 0;
        let queue = &mut inner.queues[priority(bio.ioprio)][direction(bio.op)];
        let candidates =
            [queue.by_end.find(bio.sector), queue.by_start.find(bio.end_sector()).filter(|_| front_merges)];
        for index in candidates.into_iter().flatten() {
            let Some(request) =
                inner.slots.get_mut(index as usize).and_then(|slot| slot.request.as_deref_mut())
            else {
                continue;
            };
            let Some(side) = request.can_merge(&bio, segments, limits) else { continue };
            request.merge(bio, segments, side);
            let (tree, key) = match side {
                Side::Back => (&mut queue.by_end, request.end_sector()),
                Side::Front => (&mut queue.by_start, request.sector()),
            };
            tree.remove(index);
            tree.insert(index, key);
            return Ok(());
        }
        Err(bio)
    }

    fn insert(&self, requests: &mut Fifo<Request>) {
        let mut inner = self.inner.lock();
        while let Some(mut request) = requests.pop_front() {
            self.count_in(&mut request);
            inner.link(self.index(&request), request);
        }
    }

    fn insert_first(&self, requests: &mut Fifo<Request>) {
        let mut inner = self.inner.lock();
        while let Some(mut request) = requests.pop_front() {
            self.count_in(&mut request);
            inner.first[priority(request.ioprio())].push_back(request);
        }
    }

    fn dispatch(&self, _hw: usize, to: &mut Fifo<Request>, most: usize, now_ns: u64) {
        let mut inner = self.inner.lock();
        for _ in 0..most {
            let Some(request) = self.next(&mut inner, now_ns) else { break };
            self.count_out(&request);
            to.push_back(request);
        }
    }

    fn drain(&self, _hw: usize, to: &mut Fifo<Request>) {
        let mut inner = self.inner.lock();
        let mut all = Fifo::new();
        inner.first.iter_mut().for_each(|first| all.append(first));
        for index in 0..inner.slots.len() as u32 {
            inner.unlink(index).into_iter().for_each(|request| all.push_back(request));
        }
        all.iter().for_each(|request| self.count_out(request));
        to.append(&mut all);
    }

    fn completed(&self, request: &Request) {
        let Some(pending) = self.pending.get(request.sched as usize) else { return };
        // Who dispatched last counted what waits before it looked at this.
        if pending.fetch_sub(1, Ordering::SeqCst) == 1 && self.has_work(request.home()) {
            self.kick.run(request.home());
        }
    }

    fn limit(&self, op: Op, flags: OpFlags) -> Option<Limit> {
        let depth = self.async_depth.load(Ordering::Relaxed);
        (depth < self.per_queue && !flags.is_sync(op)).then_some(Limit { gate: 0, depth })
    }

    fn has_work(&self, _hw: usize) -> bool {
        self.waiting.iter().any(|waiting| waiting.load(Ordering::SeqCst) != 0)
    }

    fn get(&self, attribute: &str) -> Result<u64> {
        self.inner.lock().tunables.field(attribute).map(|field| *field).ok_or(Errno::ENOENT)
    }

    fn set(&self, attribute: &str, value: u64) -> Result<()> {
        if value > i32::MAX as u64 || (attribute == "front_merges" && value > 1) {
            return Err(Errno::EINVAL);
        }
        let value = if attribute == "async_depth" { value.clamp(1, self.per_queue.into()) } else { value };
        *self.inner.lock().tunables.field(attribute).ok_or(Errno::ENOENT)? = value;
        if attribute == "async_depth" {
            self.async_depth.store(value as u32, Ordering::Relaxed);
        }
        Ok(())
    }

    fn attributes(&self) -> &'static [&'static str] {
        &ATTRIBUTES
    }
}

#[cfg(test)]
#[path = "deadline_tests.rs"]
mod tests;
