//! Processes and a device in simulated time.

use super::turns::{Core, MS};
use super::*;
use crate::elevator::testing::{bio, end, request};
use crate::testing::Random;
use std::collections::BTreeMap;

const BE: u16 = 2 << 13;
const RT: u16 = 1 << 13;
const IDLE: u16 = 3 << 13;

/// What a process does: requests of 8 sectors times `len`, so many at a time, with a pause after each.
#[derive(Clone, Copy)]
struct Process {
    op: Op,
    ioprio: u16,
    sequential: bool,
    depth: u32,
    think_ns: u64,
    from_ns: u64,
}

const READER: Process =
    Process { op: Op::Read, ioprio: 0, sequential: true, depth: 1, think_ns: MS / 10, from_ns: 0 };

/// What a device takes for a request.
#[derive(Clone, Copy)]
enum Kind {
    /// One thing at a time; the way from one place to another.
    Disk,
    /// So many at a time.
    Flash(usize),
}

enum Event {
    Submit(usize),
    Done(Chained<Request>),
}

#[derive(Clone, Default)]
struct Got {
    sectors: u64,
    /// From the submission to the end, in nanoseconds.
    latencies: Vec<u64>,
    position: u64,
}

struct Machine {
    core: Core,
    kind: Kind,
    /// How many requests the device takes.
    depth: u32,
    now: u64,
    head: u64,
    /// When each of its parts is free.
    free_at: Vec<u64>,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    processes: Vec<Process>,
    got: Vec<Got>,
    slots: Vec<u32>,
    owners: BTreeMap<u32, usize>,
    held_back: Vec<usize>,
    random: Random,
}

impl Machine {
    fn new(kind: Kind, depth: u32, processes: &[Process]) -> Self {
        mm::testing::init();
        let parts = if let Kind::Flash(parts) = kind { parts } else { 1 };
        let mut machine = Self {
            core: Core::new(256, matches!(kind, Kind::Disk)).unwrap(),
            kind,
            depth,
            now: 10_000 * MS,
            head: 0,
            free_at: vec![0; parts],
            events: BTreeMap::new(),
            count: 0,
            processes: processes.to_vec(),
            got: vec![Got::default(); processes.len()],
            slots: (0..256).collect(),
            owners: BTreeMap::new(),
            held_back: Vec::new(),
            random: Random(7),
        };
        for (id, process) in processes.iter().enumerate() {
            machine.got[id].position = id as u64 * 100_000_000;
            for _ in 0..process.depth {
                machine.at(machine.now + process.from_ns, Event::Submit(id));
            }
        }
        machine
    }

    fn set(&mut self, attribute: &str, value: u64) {
        self.core.set(attribute, value, self.now).unwrap();
    }

    fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), event);
    }

    fn submit(&mut self, id: usize) {
        let Process { op, ioprio, sequential, .. } = self.processes[id];
        let Some(slot) = self.slots.pop() else { return self.held_back.push(id) };
        if !sequential {
            self.got[id].position = id as u64 * 100_000_000 + self.random.below(10_000_000) * 8;
        }
        let mut bio = bio(op, OpFlags::empty(), self.got[id].position);
        self.got[id].position += 8;
        (bio.context, bio.ioprio) = (id as u32 + 1, ioprio);
        self.owners.insert(slot, id);
        self.core.insert(request(slot, bio, self.now), slot, self.now);
    }

    fn dispatch(&mut self) {
        while self.core.at_device < self.depth {
            let Some(request) = self.core.dispatch(self.now) else { break };
            let part = (0..self.free_at.len()).min_by_key(|&part| self.free_at[part]).unwrap();
            let takes = match self.kind {
                // 8 sectors at 100 MB/s, and 8 ms on average for the way.
                Kind::Disk if self.head.abs_diff(request.sector()) > 500 => 8 * MS + MS / 25,
                Kind::Disk => MS / 25,
                Kind::Flash(_) => MS / 10,
            };
            self.head = request.end_sector();
            self.free_at[part] = self.free_at[part].max(self.now) + takes;
            self.at(self.free_at[part], Event::Done(request));
        }
        if self.count.is_multiple_of(61) {
            self.core.check();
        }
    }

    /// Runs for `ms` milliseconds.
    fn run(&mut self, ms: u64) {
        let until = self.now + ms * MS;
        loop {
            let next = self.events.first_key_value().map(|(&(time, _), _)| time);
            let timer = self.core.waits_until();
            let Some(time) = [next, timer].into_iter().flatten().min() else {
                assert_eq!(self.core.waiting_requests(), 0, "stuck");
                break;
            };
            if time > until {
                break;
            }
            self.now = self.now.max(time);
            if timer == Some(time) && next != Some(time) {
                self.core.idled(self.now);
            } else if let Some((_, event)) = self.events.pop_first() {
                match event {
                    Event::Submit(id) => self.submit(id),
                    Event::Done(request) => self.done(request),
                }
            }
            self.dispatch();
        }
        self.now = until;
    }

    fn done(&mut self, request: Chained<Request>) {
        self.core.completed(request.sched, self.now);
        let id = self.owners.remove(&request.slot()).unwrap();
        self.got[id].sectors += 8;
        self.got[id].latencies.push(self.now - request.queued_ns);
        self.slots.push(request.slot());
        end(request);
        if let Some(other) = self.held_back.pop() {
            self.submit(other);
        }
        let think = self.processes[id].think_ns;
        self.at(self.now + think, Event::Submit(id));
    }

    /// What each got in this time, as parts of all.
    fn shares(&mut self, ms: u64) -> Vec<f64> {
        let before: Vec<u64> = self.got.iter().map(|got| got.sectors).collect();
        self.run(ms);
        let got: Vec<u64> = self.got.iter().zip(before).map(|(got, before)| got.sectors - before).collect();
        let all: u64 = got.iter().sum();
        got.iter().map(|&got| got as f64 / all as f64).collect()
    }

    /// The latencies of a process since this was asked last, in order, in milliseconds.
    fn latencies(&mut self, id: usize) -> Vec<f64> {
        let mut latencies = core::mem::take(&mut self.got[id].latencies);
        latencies.sort_unstable();
        latencies.iter().map(|&ns| ns as f64 / MS as f64).collect()
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn with(ioprio: u16, of: Process) -> Process {
    Process { ioprio, ..of }
}

#[test]
fn shares_are_those_of_the_priorities() {
    for kind in [Kind::Disk, Kind::Flash(1)] {
        let processes = [with(BE, READER), with(BE | 4, READER), with(BE | 4, READER), with(BE | 7, READER)];
        let mut machine = Machine::new(kind, 1, &processes);
        machine.set("low_latency", 0);
        machine.run(2_000);
        let shares = machine.shares(60_000);
        for (share, weight) in shares.iter().zip([80.0, 40.0, 40.0, 10.0]) {
            assert!((share - weight / 170.0).abs() < 0.1 * weight / 170.0, "{shares:?}");
        }
    }
}

/// Who reads here and there pays for the disk's time, not for what it read: of six each has a sixth of that.
#[test]
fn random_readers_do_not_slow_down_others_more_than_is_fair() {
    let random = Process { sequential: false, ..READER };
    let mut machine = Machine::new(Kind::Disk, 1, &[READER, random, random, random, random, random]);
    machine.set("low_latency", 0);
    machine.core.set_queues(false);
    machine.run(10_000);
    let before = machine.got[0].sectors;
    machine.run(60_000);
    let alone = {
        let mut machine = Machine::new(Kind::Disk, 1, &[READER]);
        machine.run(60_000);
        machine.got[0].sectors
    };
    let part = (machine.got[0].sectors - before) as f64 / alone as f64;
    assert!((0.13..0.25).contains(&part), "{part}");
    for other in &machine.got[1..] {
        assert!(other.latencies.len() > 70 * 1000 / 9 / 7, "{}", other.latencies.len());
    }
}

const WRITER: Process =
    Process { op: Op::Write, ioprio: 0, sequential: true, depth: 64, think_ns: 0, from_ns: 0 };

/// Somebody types commands while something large is written.
#[test]
fn an_interactive_reader_does_not_wait_for_a_streaming_writer() {
    for (kind, median, most) in [(Kind::Disk, 9.0, 30.0), (Kind::Flash(1), 0.3, 3.0)] {
        // Twenty reads here and there, at once one after the other, is what a command is like; then five seconds nothing.
        let reader = Process { sequential: false, think_ns: 50_000, from_ns: 5_000 * MS, ..READER };
        let mut machine = Machine::new(kind, 1, &[WRITER, reader]);
        machine.run(5_000);
        for _ in 0..10 {
            machine.processes[1].think_ns = 50_000;
            while machine.got[1].latencies.len() < 20 {
                machine.run(1);
            }
            machine.processes[1].think_ns = 5_000 * MS;
            machine.run(5_000);
            let latencies = machine.latencies(1);
            let (middle, last) = (percentile(&latencies, 50), percentile(&latencies, 100));
            assert!(middle < median && last < most, "{latencies:?}");
        }
        assert!(machine.got[0].sectors > 100_000, "{}", machine.got[0].sectors);
    }
}

/// Something is played while others read and write as fast as they can.
#[test]
fn a_player_does_not_stutter() {
    let player = Process { think_ns: 100 * MS, ..READER };
    let mut machine = Machine::new(Kind::Disk, 1, &[player, READER, READER, READER, WRITER]);
    machine.run(30_000);
    machine.latencies(0);
    machine.run(60_000);
    let latencies = machine.latencies(0);
    let raised = percentile(&latencies, 99);
    assert!(raised < 30.0, "{raised}");
    machine.set("low_latency", 0);
    machine.run(60_000);
    let latencies = machine.latencies(0);
    let without = percentile(&latencies, 99);
    assert!(without > 3.0 * raised, "{raised} {without}");
}

#[test]
fn nobody_starves() {
    let processes = [
        with(BE, Process { depth: 8, ..READER }),
        with(BE | 7, READER),
        with(IDLE, READER),
        with(IDLE, Process { depth: 4, ..WRITER }),
        WRITER,
        Process { sequential: false, depth: 4, ..READER },
    ];
    for (kind, depth) in [(Kind::Disk, 1), (Kind::Disk, 32), (Kind::Flash(8), 32)] {
        let mut machine = Machine::new(kind, depth, &processes);
        machine.run(20_000);
        for (id, got) in machine.got.iter().enumerate() {
            // Those of the idle class have one request each time, five times in a second at most, together.
            let least = if matches!(id, 2 | 3) { 20 } else { 100 };
            assert!(got.latencies.len() > least, "{depth} {id}: {}", got.latencies.len());
            let longest = got.latencies.iter().max().unwrap() / MS;
            let bound = if id == 3 { 15_000 } else { 12_000 };
            assert!(longest < bound, "{id} {depth}: {longest} ms");
        }
    }
}

#[test]
fn real_time_goes_first() {
    let processes = [with(RT | 4, READER), with(BE, Process { depth: 16, ..READER })];
    let mut machine = Machine::new(Kind::Flash(1), 1, &processes);
    machine.run(1_000);
    let shares = machine.shares(10_000);
    assert!(shares[0] > 0.9, "{shares:?}");
}

/// A device that does many things at a time is kept full.
#[test]
fn without_idling_the_device_is_busy() {
    let random = Process { sequential: false, think_ns: 0, ..READER };
    let processes = [random; 48];
    let mut machine = Machine::new(Kind::Flash(16), 32, &processes);
    machine.set("slice_idle", 0);
    machine.set("low_latency", 0);
    machine.run(1_000);
    let before: u64 = machine.got.iter().map(|got| got.sectors).sum();
    machine.run(2_000);
    let after: u64 = machine.got.iter().map(|got| got.sectors).sum();
    let possible = 16.0 * 10.0 * 2_000.0 * 8.0;
    assert!((after - before) as f64 > 0.98 * possible, "{} of {possible}", after - before);
}

/// Even with it: nobody has more weight than another, so nobody is waited for.
#[test]
fn among_equals_a_device_with_a_queue_is_not_left_idle() {
    let random = Process { sequential: false, think_ns: 0, ..READER };
    let mut machine = Machine::new(Kind::Flash(16), 32, &[random; 48]);
    machine.set("low_latency", 0);
    machine.run(1_000);
    let before: u64 = machine.got.iter().map(|got| got.sectors).sum();
    machine.run(2_000);
    let after: u64 = machine.got.iter().map(|got| got.sectors).sum();
    let possible = 16.0 * 10.0 * 2_000.0 * 8.0;
    assert!((after - before) as f64 > 0.95 * possible, "{} of {possible}", after - before);
}

#[test]
fn idling_keeps_a_disk_from_seeking() {
    let reader = Process { think_ns: MS / 2, ..READER };
    let total = |idle| {
        let mut machine = Machine::new(Kind::Disk, 1, &[reader, reader]);
        machine.set("low_latency", 0);
        machine.set("slice_idle", idle);
        machine.run(20_000);
        machine.got.iter().map(|got| got.sectors).sum::<u64>()
    };
    let (with, without) = (total(8), total(0));
    assert!(with > 5 * without, "{with} {without}");
}

#[test]
fn strict_guarantees_are_one_request_at_a_time() {
    let mut machine = Machine::new(Kind::Flash(8), 32, &[Process { depth: 8, ..READER }, WRITER]);
    machine.set("strict_guarantees", 1);
    for _ in 0..200 {
        machine.run(1);
        assert!(machine.core.at_device <= 1);
    }
    assert!(machine.got.iter().all(|got| got.sectors > 0));
}

#[test]
fn many_that_begin_at_once_are_not_interactive() {
    let begin = |count: usize| {
        let mut machine = Machine::new(Kind::Disk, 1, &vec![READER; count]);
        machine.run(3_000);
        machine.core.raised
    };
    assert_eq!((begin(3), begin(20)), (3, 0));
}

/// Whatever comes, goes; and what is counted is right at all times.
#[test]
fn anything_may_happen() {
    for seed in 1..30 {
        let mut random = Random(seed * 77);
        let processes: Vec<_> = (0..2 + random.below(30))
            .map(|_| Process {
                op: [Op::Read, Op::Read, Op::Write, Op::Discard][random.below(4) as usize],
                ioprio: [0, BE | 4, BE | 1, RT | 3, IDLE][random.below(5) as usize],
                sequential: random.below(2) == 0,
                depth: 1 + random.below(8) as u32,
                think_ns: [0, MS / 10, 5 * MS, 50 * MS, 3_000 * MS][random.below(5) as usize],
                from_ns: random.below(3_000) * MS,
            })
            .collect();
        let kind = if random.below(2) == 0 { Kind::Disk } else { Kind::Flash(4) };
        let mut machine = Machine::new(kind, 1 + random.below(32) as u32, &processes);
        for _ in 0..20 {
            machine.run(random.below(500));
            let names = tunables::ATTRIBUTES;
            let name = names[random.below(names.len() as u64) as usize];
            let value = [0, 1, 5, 1_000, u64::MAX][random.below(5) as usize];
            // Some would wait for years.
            let value = if name.starts_with("slice_idle") { value.min(10) } else { value };
            machine.set(name, value);
            for process in &mut machine.processes {
                if random.below(8) == 0 {
                    process.ioprio = [0, BE | 4, BE | 1, RT | 3, IDLE][random.below(5) as usize];
                }
            }
        }
        // All who are not waited for any more get what they asked for.
        machine.set("slice_idle", 8);
        for process in &mut machine.processes {
            process.think_ns = u64::MAX / 4;
        }
        machine.run(600_000);
        assert_eq!((machine.core.waiting_requests(), machine.core.at_device), (0, 0), "{seed}");
    }
}

#[test]
fn attributes() {
    let bfq = Bfq::new(Place::for_test(1, 64, true)).unwrap();
    let values = [125, 250, 16_384, 2, 8, 8_000, 0, 124, 0, 1];
    for (name, value) in bfq.attributes().iter().zip(values) {
        assert_eq!(bfq.get(name), Ok(value), "{name}");
    }
    for (name, value, becomes) in [
        ("fifo_expire_sync", 0, 1),
        ("back_seek_penalty", 0, 1),
        ("slice_idle_us", 1_500, 1_500),
        ("slice_idle", 0, 0),
        ("strict_guarantees", 7, 1),
        ("slice_idle", 8, 8),
        ("low_latency", 2, 1),
        ("max_budget", 5_000, 5_000),
        ("timeout_sync", u64::MAX, i32::MAX as u64),
    ] {
        bfq.set(name, value).unwrap();
        assert_eq!(bfq.get(name), Ok(becomes), "{name}");
    }
    assert_eq!(bfq.set("quantum", 1), Err(Errno::ENOENT));
    let depth = |flags| bfq.limit(Op::Write, flags).unwrap();
    assert_eq!(depth(OpFlags::empty()), Limit { gate: 0, depth: 32 });
    assert_eq!(depth(OpFlags::SYNC), Limit { gate: 1, depth: 48 });
    assert_eq!(bfq.limit(Op::Read, OpFlags::empty()), None);
}
