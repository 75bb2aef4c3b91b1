//! `mq-deadline`: requests go in the order of their sectors, but none waits much longer than its time.
//!
//! Reads and writes each have an order by sector and a queue by age. Requests go in *batches* of neighbours by sector. When a batch is over,
//! reads come first, unless writes were passed over [`WRITES_STARVED`](Tunables) times; and a batch begins with the oldest request if that
//! is overdue, else where the last one ended. Above that stand three priorities (ioprio_set(2): real time, best effort, idle): a lower one gets
//! its turn when nothing is waiting above it, or something has waited there for too long. Linux's `Documentation/block/deadline-iosched.rst`
//! names the attributes.
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

use super::Elevator;
use crate::bio::{Bio, Op};
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
    fifo_batch: 16,
    prio_aging_expire: 10_000,
};

const ATTRIBUTES: [&str; 6] =
    ["read_expire", "write_expire", "writes_starved", "front_merges", "fifo_batch", "prio_aging_expire"];

impl Tunables {
    fn field(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "read_expire" => &mut self.read_expire,
            "write_expire" => &mut self.write_expire,
            "writes_starved" => &mut self.writes_starved,
            "front_merges" => &mut self.front_merges,
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
    match ioprio >> 13 {
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
    /// Slots of a hardware queue.
    per_queue: u32,
}

impl Deadline {
    /// For `queues` hardware queues of `slots` requests each.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(queues: usize, slots: u32) -> Result<Arc<Self>> {
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
                tunables: DEFAULTS,
                batch: None,
                left: 0,
                starved: [0; PRIORITIES],
            }),
            waiting,
            per_queue: slots,
        })?)
    }

    fn index(&self, request: &Request) -> u32 {
        request.home() as u32 * self.per_queue + request.slot()
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
        oldest.is_some_and(|request| request.queued_ns.saturating_add(ms.saturating_mul(MS)) <= now_ns)
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

    /// The next request of all.
    fn next(&mut self, now_ns: u64) -> Option<u32> {
        // What has waited far too long below goes before what is above.
        let age = self.tunables.prio_aging_expire;
        for priority in 1..PRIORITIES {
            let aged = (0..2).find(|&direction| self.has_waited(priority, direction, age, now_ns));
            let above = (0..priority).any(|p| !self.is_empty(p, READ) || !self.is_empty(p, WRITE));
            if let Some(direction) = aged.filter(|_| above) {
                return Some(self.queues[priority][direction].head);
            }
        }
        (0..PRIORITIES)
            .find_map(|priority| self.continue_batch(priority).or_else(|| self.begin_batch(priority, now_ns)))
    }
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
        while let Some(request) = requests.pop_front() {
            if let Some(waiting) = self.waiting.get(request.home()) {
                waiting.fetch_add(1, Ordering::Relaxed);
            }
            inner.link(self.index(&request), request);
        }
    }

    fn dispatch(&self, _hw: usize, to: &mut Fifo<Request>, most: usize, now_ns: u64) {
        let mut inner = self.inner.lock();
        for _ in 0..most {
            let Some(request) = inner.next(now_ns).and_then(|index| inner.unlink(index)) else { break };
            let of = (priority(request.ioprio()), direction(request.op()));
            // One that went out of turn leaves the batch as it was.
            if inner.batch == Some(of) {
                inner.queues[of.0][of.1].position = request.end_sector();
                inner.left = inner.left.saturating_sub(1);
            }
            if let Some(waiting) = self.waiting.get(request.home()) {
                waiting.fetch_sub(1, Ordering::Relaxed);
            }
            to.push_back(request);
        }
    }

    fn has_work(&self, _hw: usize) -> bool {
        self.waiting.iter().any(|waiting| waiting.load(Ordering::Relaxed) != 0)
    }

    fn get(&self, attribute: &str) -> Result<u64> {
        self.inner.lock().tunables.field(attribute).map(|field| *field).ok_or(Errno::ENOENT)
    }

    fn set(&self, attribute: &str, value: u64) -> Result<()> {
        if value > i32::MAX as u64 || (attribute == "front_merges" && value > 1) {
            return Err(Errno::EINVAL);
        }
        *self.inner.lock().tunables.field(attribute).ok_or(Errno::ENOENT)? = value;
        Ok(())
    }

    fn attributes(&self) -> &'static [&'static str] {
        &ATTRIBUTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bio::{End, OpFlags};
    use proptest::prelude::*;

    const READ_CLASS: u16 = 0;
    const IDLE_CLASS: u16 = 3 << 13;
    const RT_CLASS: u16 = 1 << 13;

    fn scheduler() -> Arc<Deadline> {
        mm::testing::init();
        Deadline::new(1, 64).unwrap()
    }

    fn request(slot: u32, op: Op, sector: u64, ioprio: u16, now: u64) -> Chained<Request> {
        let mut bio = Bio::without_data(op, OpFlags::empty(), sector, 8, End::Nobody).unwrap();
        bio.ioprio = ioprio;
        let mut request = Chained::try_new(Request::empty(slot)).unwrap();
        request.fill(bio, 1);
        request.queued_ns = now;
        request
    }

    fn insert(scheduler: &Deadline, request: Chained<Request>) {
        let mut one = Fifo::new();
        one.push_back(request);
        scheduler.insert(&mut one);
    }

    fn order(scheduler: &Deadline, most: usize, now: u64) -> Vec<u32> {
        let mut out = Fifo::new();
        scheduler.dispatch(0, &mut out, most, now);
        let mut slots = Vec::new();
        while let Some(mut request) = out.pop_front() {
            slots.push(request.slot());
            request.finish_bios(crate::Status::Ok);
        }
        slots
    }

    #[test]
    fn by_sector_from_the_last_one_on() {
        let scheduler = scheduler();
        for (slot, sector) in [(0, 100), (1, 50), (2, 300), (3, 200)] {
            insert(&scheduler, request(slot, Op::Read, sector, READ_CLASS, 0));
        }
        assert_eq!(order(&scheduler, 2, 0), [1, 0]);
        insert(&scheduler, request(4, Op::Read, 60, READ_CLASS, 0));
        assert_eq!(order(&scheduler, 9, 0), [3, 2, 4]);
        assert!(!scheduler.has_work(0));
        assert_eq!(order(&scheduler, 9, 0), []);
    }

    #[test]
    fn the_oldest_goes_when_it_is_overdue() {
        let scheduler = scheduler();
        scheduler.set("fifo_batch", 1).unwrap();
        insert(&scheduler, request(0, Op::Read, 1000, READ_CLASS, 0));
        for slot in 1..4 {
            insert(&scheduler, request(slot, Op::Read, u64::from(slot) * 10, READ_CLASS, 400 * MS));
        }
        assert_eq!(order(&scheduler, 1, 400 * MS), [1]);
        assert_eq!(order(&scheduler, 1, 501 * MS), [0]);
        // From there on upwards there is nothing: the oldest.
        assert_eq!(order(&scheduler, 9, 501 * MS), [2, 3]);
    }

    #[test]
    fn reads_first_but_writes_in_the_end() {
        let scheduler = scheduler();
        scheduler.set("fifo_batch", 1).unwrap();
        for slot in 0..6 {
            insert(&scheduler, request(slot, Op::Read, u64::from(slot) * 10, READ_CLASS, 0));
            insert(&scheduler, request(slot + 10, Op::Write, u64::from(slot) * 10, READ_CLASS, 0));
        }
        assert_eq!(order(&scheduler, 99, 0), [0, 1, 10, 2, 3, 11, 4, 5, 12, 13, 14, 15]);
    }

    #[test]
    fn batches_stay_with_a_direction() {
        let scheduler = scheduler();
        scheduler.set("fifo_batch", 3).unwrap();
        for slot in 0..4 {
            insert(&scheduler, request(slot + 10, Op::Write, u64::from(slot) * 10, READ_CLASS, 0));
        }
        assert_eq!(order(&scheduler, 1, 0), [10]);
        insert(&scheduler, request(0, Op::Read, 5, READ_CLASS, 0));
        assert_eq!(order(&scheduler, 99, 0), [11, 12, 0, 13]);
    }

    #[test]
    fn priorities_and_aging() {
        let scheduler = scheduler();
        insert(&scheduler, request(0, Op::Read, 10, IDLE_CLASS, 0));
        insert(&scheduler, request(1, Op::Read, 20, READ_CLASS, 0));
        insert(&scheduler, request(2, Op::Write, 30, RT_CLASS, 0));
        insert(&scheduler, request(3, Op::Read, 40, RT_CLASS, 0));
        assert_eq!(order(&scheduler, 1, 0), [3]);
        // The idle one has waited for ten seconds.
        assert_eq!(order(&scheduler, 1, 10_000 * MS), [1]);
        assert_eq!(order(&scheduler, 1, 10_000 * MS), [0]);
        assert_eq!(order(&scheduler, 9, 10_000 * MS), [2]);
    }

    #[test]
    fn attributes() {
        let scheduler = scheduler();
        for (name, value) in ATTRIBUTES.iter().zip([500, 5000, 2, 1, 16, 10_000]) {
            assert_eq!(scheduler.get(name), Ok(value));
            assert_eq!(scheduler.set(name, 1), Ok(()));
            assert_eq!(scheduler.get(name), Ok(1));
        }
        assert_eq!(scheduler.set("front_merges", 2), Err(Errno::EINVAL));
        assert_eq!(scheduler.set("read_expire", u64::MAX), Err(Errno::EINVAL));
        assert_eq!(scheduler.get("nothing"), Err(Errno::ENOENT));
    }

    proptest! {
        /// Whatever comes goes, once; neighbours are joined, and the orders stay right.
        #[test]
        fn all_that_comes_goes(steps in proptest::collection::vec((0u64..30, any::<bool>(), 0u16..4, 0usize..4), 1..80)) {
            let scheduler = scheduler();
            let limits = Limits { max_sectors: 64, max_discard_sectors: 64, ..Limits::default() }.validated().unwrap();
            let (mut free, mut waiting, mut sectors, mut out) = ((0..64).collect::<Vec<u32>>(), 0u64, 0u64, 0u64);
            let mut now = 0;
            for (at, discard, class, take) in steps {
                now += 50 * MS;
                let op = if discard { Op::Discard } else { Op::WriteZeroes };
                let mut bio = Bio::without_data(op, OpFlags::empty(), at * 8, 8, End::Nobody).unwrap();
                bio.ioprio = class << 13;
                sectors += 8;
                match scheduler.merge(bio, 0, &limits) {
                    Ok(()) => {}
                    Err(bio) => {
                        let Some(slot) = free.pop() else { sectors -= 8; continue };
                        let mut request = Chained::try_new(Request::empty(slot)).unwrap();
                        request.fill(bio, 0);
                        request.queued_ns = now;
                        insert(&scheduler, request);
                        waiting += 1;
                    }
                }
                let mut list = Fifo::new();
                scheduler.dispatch(0, &mut list, take, now);
                prop_assert_eq!(list.len() as u64, waiting.min(take as u64));
                while let Some(mut request) = list.pop_front() {
                    waiting -= 1;
                    out += u64::from(request.len()) / 512;
                    prop_assert_eq!(request.bios().map(Bio::sectors).sum::<u64>(), u64::from(request.len()) / 512);
                    free.push(request.slot());
                    request.finish_bios(crate::Status::Ok);
                }
                prop_assert_eq!(scheduler.has_work(0), waiting > 0);
            }
            let mut list = Fifo::new();
            scheduler.dispatch(0, &mut list, 99, now);
            out += list.iter().map(|request| u64::from(request.len()) / 512).sum::<u64>();
            prop_assert_eq!(out, sectors);
        }
    }
}
