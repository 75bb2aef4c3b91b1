use super::*;
use crate::elevator::testing::{bio, end, going, insert, request};
use crate::testing::Random;
use abi::Errno;
use std::collections::{BTreeMap, BinaryHeap};

const MS: u64 = 1_000_000;

fn scheduler(queues: usize) -> Arc<Kyber> {
    Kyber::new(Place::for_test(queues, 256, false)).unwrap()
}

/// A request that is submitted by CPU `cpu`, whose hardware queue is `home`.
fn from(slot: u32, op: Op, cpu: u16, home: u16, now: u64) -> Chained<Request> {
    let mut request = request(slot, bio(op, OpFlags::empty(), u64::from(slot) * 64), now);
    (request.cpu, request.home) = (cpu, home);
    request
}

fn ops(requests: &[Chained<Request>]) -> Vec<Op> {
    requests.iter().map(|request| request.op()).collect()
}

#[test]
fn domains_take_turns_in_batches() {
    let scheduler = scheduler(1);
    for slot in 0..60 {
        let op = [Op::Read, Op::Write, Op::Discard][slot as usize % 3];
        insert(&*scheduler, from(slot, op, slot as u16 % 4, 0, 0));
    }
    let order = ops(&going(&*scheduler, 0, 50, 0));
    let mut runs: Vec<(Op, usize)> = Vec::new();
    for op in order {
        match runs.last_mut() {
            Some((last, count)) if *last == op => *count += 1,
            _ => runs.push((op, 1)),
        }
    }
    let (r, w, d) = (Op::Read, Op::Write, Op::Discard);
    assert_eq!(runs, [(r, 16), (w, 8), (d, 1), (r, 4), (w, 8), (d, 1), (w, 4), (d, 8)]);
}

#[test]
fn requests_of_a_cpu_go_in_their_order() {
    let scheduler = scheduler(1);
    for slot in 0..40 {
        insert(&*scheduler, from(slot, Op::Read, slot as u16 % 2, 0, 0));
    }
    let slots: Vec<u32> = going(&*scheduler, 0, 99, 0).iter().map(|request| request.slot()).collect();
    for cpu in 0..2 {
        let of: Vec<_> = slots.iter().copied().filter(|slot| slot % 2 == cpu).collect();
        assert!(of.is_sorted() && of.len() == 20);
    }
}

#[test]
fn no_more_than_there_are_tokens() {
    let scheduler = scheduler(2);
    for slot in 0..200 {
        insert(&*scheduler, from(slot, Op::Write, 0, 0, 0));
    }
    insert(&*scheduler, from(200, Op::Write, 1, 1, 0));
    let mut first = going(&*scheduler, 0, 999, 0);
    assert_eq!((first.len(), scheduler.depths()[1]), (128, (128, 128)));
    assert!(going(&*scheduler, 1, 9, 0).is_empty() && scheduler.has_work(1));
    // A read is not in their way.
    insert(&*scheduler, from(201, Op::Read, 1, 1, 0));
    assert_eq!(ops(&going(&*scheduler, 1, 9, 0)), [Op::Read]);
    let kicked = || scheduler.tuning.kick.kicked.swap(0, Ordering::SeqCst);
    assert_eq!(kicked(), 0);
    // Those that wait hear of free tokens, one after the other.
    scheduler.completed_at(&first.pop().unwrap(), 1);
    let one = kicked();
    scheduler.completed_at(&first.pop().unwrap(), 1);
    assert_eq!((one.count_ones(), one | kicked()), (1, 0b11));
    assert_eq!(going(&*scheduler, 1, 9, 2).len(), 1);
    assert_eq!(kicked(), 0);
    assert_eq!(going(&*scheduler, 0, 9, 2).len(), 1);
}

#[test]
fn who_needs_no_token_passes_it_on() {
    let scheduler = scheduler(3);
    for slot in 0..128 {
        insert(&*scheduler, from(slot, Op::Write, 0, 0, 0));
    }
    let mut first = going(&*scheduler, 0, 999, 0);
    insert(&*scheduler, from(128, Op::Write, 1, 1, 0));
    insert(&*scheduler, from(129, Op::Write, 2, 2, 0));
    assert!(going(&*scheduler, 1, 9, 0).is_empty() && going(&*scheduler, 2, 9, 0).is_empty());
    let mut drained = Fifo::new();
    scheduler.drain(1, &mut drained);
    assert_eq!(drained.len(), 1);
    scheduler.completed_at(&drained.pop_front().unwrap(), 1);
    let kicked = || scheduler.tuning.kick.kicked.swap(0, Ordering::SeqCst);
    scheduler.completed_at(&first.pop().unwrap(), 1);
    assert_eq!(kicked(), 0b010);
    assert!(going(&*scheduler, 1, 9, 1).is_empty());
    assert_eq!(kicked(), 0b100);
    assert_eq!(going(&*scheduler, 2, 9, 1).len(), 1);
}

#[test]
fn neighbours_are_joined() {
    let scheduler = scheduler(1);
    let limits =
        Limits { max_sectors: 64, max_discard_sectors: 64, ..Limits::default() }.validated().unwrap();
    let cpu = cpu::current().index() as u16;
    let mut one = request(0, bio(Op::Discard, OpFlags::empty(), 100), 0);
    one.cpu = cpu;
    insert(&*scheduler, one);
    for sector in [108, 92] {
        assert!(scheduler.merge(bio(Op::Discard, OpFlags::empty(), sector), 0, &limits).is_ok());
    }
    assert!(scheduler.merge(bio(Op::Discard, OpFlags::empty(), 120), 0, &limits).is_err());
    assert!(scheduler.merge(bio(Op::Write, OpFlags::empty(), 116), 0, &limits).is_err());
    let gone = going(&*scheduler, 0, 9, 0);
    assert_eq!((gone[0].sector(), gone[0].end_sector()), (92, 116));
}

#[test]
fn percentiles() {
    let tuning = Tuning::new(Place::for_test(1, 1, false).kick).unwrap();
    // Reads, whose target is 2 ms: 80 of 1 ms, 20 of 3 ms at the device.
    for n in 0..500 {
        let io = if n % 5 == 0 { 3 * MS } else { MS };
        tuning.sample(0, io, io);
    }
    // Writes, to 10 ms: all of 6 ms.
    (0..500).for_each(|_| tuning.sample(1, 6 * MS, 6 * MS));
    tuning.tune(0);
    // Congested: writes shrink to three quarters, reads are at their most.
    assert_eq!((tuning.depth(0).0, tuning.depth(1).0), (256, 96));
    // A few samples do not count before a second has passed.
    tuning.sample(0, 3 * MS, 3 * MS);
    tuning.sample(1, MS, MS);
    tuning.tune(1);
    assert_eq!(tuning.depth(1).0, 96);
    tuning.tune(1_000 * MS + 1);
    assert_eq!(tuning.depth(1).0, 24);
    // A write that waits for too long gets more.
    (0..500).for_each(|_| tuning.sample(1, 30 * MS, MS));
    tuning.tune(0);
    assert_eq!(tuning.depth(1).0, 48);
}

#[test]
fn attributes() {
    let scheduler = scheduler(1);
    assert_eq!(scheduler.get("read_lat_nsec"), Ok(2_000_000));
    assert_eq!(scheduler.get("write_lat_nsec"), Ok(10_000_000));
    assert_eq!(scheduler.get("async_depth"), Ok(192));
    assert_eq!(scheduler.set("async_depth", 1), Err(Errno::ENOENT));
    scheduler.set("read_lat_nsec", 5).unwrap();
    assert_eq!(scheduler.get("read_lat_nsec"), Ok(5));
    assert_eq!(scheduler.limit(Op::Write, OpFlags::empty()), Some(Limit { gate: 0, depth: 192 }));
    assert_eq!(
        scheduler.limit(Op::Write, OpFlags::SYNC).or(scheduler.limit(Op::Read, OpFlags::empty())),
        None
    );
}

/// A device that does one thing at a time, in the order of arrival.
struct Device {
    scheduler: Arc<Kyber>,
    now: u64,
    busy_until: u64,
    at_work: BTreeMap<(u64, u32), Chained<Request>>,
    next_slot: u32,
    next_tune: u64,
    /// Latencies of reads since they were asked for, and how many writes were done.
    reads: Vec<u64>,
    writes: u64,
}

impl Device {
    fn new() -> Self {
        Self {
            scheduler: scheduler(1),
            now: 0,
            busy_until: 0,
            at_work: BTreeMap::new(),
            next_slot: 0,
            next_tune: 100 * MS,
            reads: Vec::new(),
            writes: 0,
        }
    }

    fn submit(&mut self, op: Op) {
        self.next_slot += 1;
        insert(&*self.scheduler, from(self.next_slot, op, 0, 0, self.now));
    }

    fn dispatch(&mut self) {
        for request in going(&*self.scheduler, 0, 999, self.now) {
            let takes = if request.op() == Op::Read { MS / 20 } else { 4 * MS / 10 };
            self.busy_until = self.busy_until.max(self.now) + takes;
            self.at_work.insert((self.busy_until, request.slot()), request);
        }
    }

    /// Who was answered submits the same again, until `until`.
    fn run(&mut self, until: u64) {
        self.dispatch();
        while self.now < until
            && let Some(((at, _), request)) = self.at_work.pop_first()
        {
            self.now = at;
            self.scheduler.completed_at(&request, at);
            match request.op() {
                Op::Read => self.reads.push(at - request.queued_ns),
                _ => self.writes += 1,
            }
            let op = request.op();
            end(request);
            self.submit(op);
            if self.now >= self.next_tune {
                self.scheduler.tuning.tune(self.now);
                self.next_tune = self.now + 100 * MS;
            }
            self.dispatch();
        }
    }

    fn median_read(&mut self) -> u64 {
        let mut reads = core::mem::take(&mut self.reads);
        reads.sort_unstable();
        reads[reads.len() / 2]
    }
}

/// Sixteen writers would make a read wait for 6 ms.
#[test]
fn writes_give_way_until_reads_are_fast_and_still_go_on() {
    let mut device = Device::new();
    (0..16).for_each(|_| device.submit(Op::Write));
    device.submit(Op::Read);
    device.run(500 * MS);
    assert!(device.median_read() > 5 * MS);
    device.run(30_000 * MS);
    device.median_read();
    let before = device.writes;
    device.run(40_000 * MS);
    let depth = device.scheduler.depths()[1].0;
    assert!((2..=5).contains(&depth), "{depth}");
    assert!(device.median_read() < 2 * MS + MS / 2);
    assert!(device.writes - before > 10_000 / 2, "writes go on");
}

/// Whatever is submitted by whichever queue goes, if queues are run only when something came or the scheduler said so.
#[test]
fn nobody_is_forgotten() {
    for seed in 1..40 {
        let scheduler = scheduler(3);
        let mut random = Random(seed);
        let (mut at_work, mut waiting, mut over) = (BinaryHeap::new(), BTreeMap::new(), 0);
        let mut submitted = 0u32;
        let mut to_run = 0u64;
        loop {
            if submitted < 2000 && random.below(3) > 0 {
                let cpu = random.below(6) as u16;
                let op = [Op::Read, Op::Write, Op::Discard, Op::WriteZeroes][random.below(4) as usize];
                insert(&*scheduler, from(submitted, op, cpu, cpu % 3, 0));
                to_run |= 1 << (cpu % 3);
                submitted += 1;
            } else if let Some((_, slot)) = at_work.pop() {
                let request: Chained<Request> = waiting.remove(&slot).unwrap();
                scheduler.completed_at(&request, 0);
                end(request);
                over += 1;
            } else if submitted == 2000 {
                break;
            }
            to_run |= scheduler.tuning.kick.kicked.swap(0, Ordering::SeqCst);
            for hw in 0..3 {
                if to_run & 1 << hw != 0 {
                    for request in going(&*scheduler, hw, 32, 0) {
                        at_work.push((random.next(), request.slot()));
                        waiting.insert(request.slot(), request);
                        // The queue runs until nothing goes.
                        to_run |= 1 << (hw + 8);
                    }
                }
            }
            to_run >>= 8;
        }
        assert_eq!(over, 2000, "{seed}");
    }
}
