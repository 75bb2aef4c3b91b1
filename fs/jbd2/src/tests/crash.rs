//! Power cuts: many threads work, and then it is looked at what a power cut after each write would have left.
//!
//! The model: each group of blocks is changed by one handle at a time, which writes the same number to all of them, and is noted with its
//! transaction. After recovery there is a transaction up to which everything is there and behind which nothing is, and it is not older than the
//! last one that a `stop` with sync had said was on disk when the power was cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use abi::Result;
use block::bio::SECTOR_SIZE;
use block::{Bio, End, EndIo, Op, OpFlags};
use buffer::testing::{Disk, Random};
use buffer::{Device, WriteBatch};
use collections::fifo::{Chained, Fifo};
use mm::Block;

use super::{CHECKSUMS, Layout, Machine, PLAIN, fill, number};
use crate::{Committed, Features, OrderedData};

const GROUPS: u64 = 6;
/// Blocks of a group.
const SIZE: u64 = 3;
/// Blocks that are metadata and data in turn.
const CHANGING: u64 = 8;
const FIRST_CHANGING: u64 = GROUPS * SIZE;

/// What a changing block is after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Free,
    Metadata(u64),
    Data(u64),
}

/// What was done, by transaction: later ones count.
#[derive(Default)]
struct Model {
    groups: Vec<BTreeMap<u64, u64>>,
    changing: Vec<BTreeMap<u64, Kind>>,
    /// Events of the disk when a transaction was said to be on disk.
    synced: Vec<(usize, u64)>,
}

/// A changing block as the file system knows it.
#[derive(Clone, Copy)]
struct Place {
    kind: Kind,
    /// Freed by a transaction that is not on disk yet.
    pending: bool,
}

struct World {
    machine: Machine,
    model: Mutex<Model>,
    locks: Vec<Mutex<()>>,
    places: Vec<Mutex<Place>>,
    next: AtomicU64,
}

struct Free(Arc<World>, usize);

impl Committed for Free {
    fn committed(self: Box<Self>, result: Result<()>) {
        result.unwrap();
        self.0.places[self.1].lock().unwrap().pending = false;
    }
}

/// Data of a file that is written when the transaction commits.
struct Data {
    world: Arc<World>,
    block: u64,
    value: u64,
    over: Arc<Over>,
}

#[derive(Default)]
struct Over(Mutex<bool>, std::sync::Condvar);

impl EndIo for Over {
    fn end_io(&self, bio: Chained<Bio>) {
        assert!(bio.status.is_ok());
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

impl OrderedData for Data {
    fn submit(&self, _: std::ops::Range<u64>) {
        let size = self.world.machine.cache.block_size();
        let mut block = Block::new_zeroed(size).unwrap();
        fill(block.bytes_mut(), self.value);
        let sector = self.block * size as u64 / SECTOR_SIZE;
        let mut bio =
            Bio::new(Op::Write, OpFlags::empty(), sector, 1, End::Shared(self.over.clone())).unwrap();
        bio.push_block(&Arc::new(block)).unwrap();
        let mut one = Fifo::new();
        one.push_back(bio);
        self.world.machine.disk.submit(one);
    }

    fn wait(&self, _: std::ops::Range<u64>) -> Result<()> {
        let mut over = self.over.0.lock().unwrap();
        while !*over {
            over = self.over.1.wait(over).unwrap();
        }
        Ok(())
    }
}

impl World {
    fn change_group(&self, group: u64, value: u64, sync: bool, blocks_first: bool) {
        let _one = self.locks[group as usize].lock().unwrap();
        let mut handle = self.machine.journal.start(SIZE as u32).unwrap();
        for n in 0..SIZE {
            let n = if blocks_first { n } else { SIZE - 1 - n };
            let buffer = self.machine.read(group * SIZE + n);
            handle.modify(&buffer, |bytes| fill(bytes, value)).unwrap();
        }
        let tid = handle.tid();
        self.model.lock().unwrap().groups[group as usize].insert(tid, value);
        if sync {
            handle.set_sync();
            handle.stop().unwrap();
            let events = self.machine.disk.events();
            self.model.lock().unwrap().synced.push((events, tid));
        }
    }

    fn change_kind(self: &Arc<Self>, n: usize, value: u64, random: &mut Random) {
        let block = FIRST_CHANGING + n as u64;
        let mut handle = self.machine.journal.start(1).unwrap();
        let mut place = self.places[n].lock().unwrap();
        if place.pending {
            return;
        }
        place.kind = match place.kind {
            Kind::Free if random.below(2) == 0 => {
                let world = self.clone();
                let data = Data { world, block, value, over: Arc::default() };
                handle.before_commit(Arc::new(data), 0..1).unwrap();
                Kind::Data(value)
            }
            Kind::Free => {
                let buffer = self.machine.cache.get(block).unwrap();
                handle.create(&buffer, |bytes| fill(bytes, value)).unwrap();
                Kind::Metadata(value)
            }
            Kind::Metadata(_) if random.below(2) == 0 => {
                let buffer = self.machine.read(block);
                handle.modify(&buffer, |bytes| fill(bytes, value)).unwrap();
                Kind::Metadata(value)
            }
            Kind::Metadata(_) => {
                handle.revoke(block, None).unwrap();
                if random.below(4) == 0 {
                    // And metadata again, in the same transaction.
                    let buffer = self.machine.cache.get(block).unwrap();
                    handle.extend(1).unwrap();
                    handle.create(&buffer, |bytes| fill(bytes, value)).unwrap();
                    Kind::Metadata(value)
                } else {
                    place.pending = true;
                    handle.on_commit(Box::new(Free(self.clone(), n))).unwrap();
                    Kind::Free
                }
            }
            Kind::Data(_) => {
                place.pending = true;
                handle.on_commit(Box::new(Free(self.clone(), n))).unwrap();
                Kind::Free
            }
        };
        self.model.lock().unwrap().changing[n].insert(handle.tid(), place.kind);
    }

    fn work(self: &Arc<Self>, seed: u64, rounds: u64) {
        let mut random = Random::new(seed);
        for _ in 0..rounds {
            let value = self.next.fetch_add(1, Ordering::SeqCst);
            match random.below(10) {
                0..=5 => {
                    let group = random.below(GROUPS);
                    self.change_group(group, value, random.below(5) == 0, random.below(2) == 0);
                }
                6..=8 => self.change_kind(random.below(CHANGING) as usize, value, &mut random),
                _ => {
                    let tid = self.machine.journal.running();
                    if let Some(tid) = tid {
                        self.machine.journal.complete(tid).unwrap();
                        let events = self.machine.disk.events();
                        self.model.lock().unwrap().synced.push((events, tid));
                    }
                }
            }
        }
    }
}

fn last<T: Copy>(map: &BTreeMap<u64, T>, tid: u64) -> Option<T> {
    map.range(..=tid).next_back().map(|(_, value)| *value)
}

/// Whether the state on disk is that of transaction `tid`.
fn is_state(model: &Model, machine: &Machine, tid: u64) -> bool {
    let groups = (0..GROUPS).all(|group| {
        let value = last(&model.groups[group as usize], tid).unwrap_or(0);
        (0..SIZE).all(|n| machine.number(group * SIZE + n) == value)
    });
    groups
        && (0..CHANGING as usize).all(|n| match last(&model.changing[n], tid) {
            Some(Kind::Metadata(value) | Kind::Data(value)) => machine
                .read(FIRST_CHANGING + n as u64)
                .data()
                .bytes()
                .chunks(8)
                .all(|part| number(part) == value),
            Some(Kind::Free) | None => true,
        })
}

fn crash(layout: Layout, features: Features, seed: u64, threads: u64, rounds: u64) {
    let machine = layout.open(Disk::new(layout.image(seed as u32)).threaded(seed), features);
    machine.disk.note_events();
    let model = Model {
        groups: vec![BTreeMap::new(); GROUPS as usize],
        changing: vec![BTreeMap::new(); CHANGING as usize],
        synced: Vec::new(),
    };
    let world = Arc::new(World {
        machine,
        model: Mutex::new(model),
        locks: (0..GROUPS).map(|_| Mutex::new(())).collect(),
        places: (0..CHANGING).map(|_| Mutex::new(Place { kind: Kind::Free, pending: false })).collect(),
        next: AtomicU64::new(1),
    });
    let workers: Vec<_> = (0..threads)
        .map(|n| {
            let world = world.clone();
            thread::spawn(move || world.work(seed * 1000 + n, rounds))
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    world.machine.journal.force_commit().unwrap();
    let model = world.model.lock().unwrap();
    let mut random = Random::new(seed + 77);
    let mut crashes = world.machine.disk.crashes();
    let newest = world.machine.journal.running().unwrap_or(u64::MAX).min(
        model
            .groups
            .iter()
            .flat_map(|map| map.keys())
            .chain(model.changing.iter().flat_map(|m| m.keys()))
            .max()
            .copied()
            .unwrap_or(0),
    );
    let mut oldest = 0;
    for n in 0..=crashes.len() {
        crashes.advance(n);
        let at_least =
            model.synced.iter().filter(|(events, _)| *events <= n).map(|(_, tid)| *tid).max().unwrap_or(0);
        let after = layout.open(Disk::new(crashes.image(&mut random)), features);
        let state = (at_least..=newest).find(|tid| is_state(&model, &after, *tid));
        let Some(state) = state else {
            let groups: Vec<Vec<u64>> = (0..GROUPS)
                .map(|group| (0..SIZE).map(|n| after.number(group * SIZE + n)).collect())
                .collect();
            let changing: Vec<_> = (0..CHANGING).map(|n| after.number(FIRST_CHANGING + n)).collect();
            panic!(
                "seed {seed}: after {n} of {} events no state since {at_least}: {groups:?} {changing:?}, {:?}; \
                 model {:?} {:?}",
                crashes.len(),
                after.journal.recovery(),
                model.groups,
                model.changing,
            );
        };
        // A later power cut may leave less than an earlier one would have, but not less than what is durable.
        oldest = oldest.max(at_least);
        assert!(state >= oldest);
        // Power cuts during recovery: what is there then is recovered again.
        if n % 16 == 0 {
            let again = Disk::new(crashes.image(&mut random));
            again.note_events();
            let again = layout.open(again, features);
            let mut second = again.disk.crashes();
            let at = random.below(second.len() as u64 + 1) as usize;
            second.advance(at);
            let twice = layout.open(Disk::new(second.image(&mut random)), features);
            assert!(
                (at_least..=newest).any(|tid| is_state(&model, &twice, tid)),
                "seed {seed}: recovery, {n}"
            );
        }
    }
    drop(model);
    // And in the end, everything is in its place.
    world.machine.journal.flush().unwrap();
    let after = layout.open(Disk::new(world.machine.disk.image()), features);
    assert_eq!(after.journal.recovery(), Default::default());
    assert!(is_state(&world.model.lock().unwrap(), &after, u64::MAX));
}

/// More seeds: `JBD2_SEEDS=1000 cargo test -p jbd2 crash`.
fn seeds() -> u64 {
    std::env::var("JBD2_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

#[test]
fn power_cuts_with_checksums() {
    for seed in 1..=seeds() {
        crash(Layout { block_size: 1024, fs: 32, len: 64 }, CHECKSUMS, seed, 4, 25);
    }
}

#[test]
fn power_cuts_without_checksums() {
    for seed in 1..=seeds() {
        crash(Layout { block_size: 1024, fs: 32, len: 48 }, PLAIN, seed + 5000, 3, 25);
    }
}

#[test]
fn power_cuts_with_large_blocks() {
    for seed in 1..=seeds() {
        crash(Layout { block_size: 4096, fs: 32, len: 40 }, CHECKSUMS, seed + 9000, 6, 15);
    }
}

/// The test can fail: without barriers states are lost.
#[test]
#[should_panic(expected = "no state since")]
fn power_cuts_without_barriers_lose_something() {
    for seed in 1..100 {
        let layout = Layout { block_size: 1024, fs: 32, len: 64 };
        let disk = Arc::new(Disk::new(layout.image(1)).threaded(seed));
        let cache = buffer::BufferCache::new(disk.clone(), 1024).unwrap();
        let options = crate::Options { barriers: false, ..Default::default() };
        let journal = crate::Journal::load(cache.clone(), layout.place(), options).unwrap();
        disk.note_events();
        let mut synced = vec![(0, 0)];
        for value in 1..20 {
            let mut handle = journal.start(2).unwrap();
            for block in 1..3 {
                handle.modify(&cache.read(block).unwrap(), |bytes| fill(bytes, value)).unwrap();
            }
            handle.set_sync();
            handle.stop().unwrap();
            synced.push((disk.events(), value));
        }
        let mut crashes = disk.crashes();
        let mut random = Random::new(seed);
        for n in 0..=crashes.len() {
            crashes.advance(n);
            if n % 32 == 0 {
                sched::rcu::barrier();
            }
            let at_least = synced.iter().rev().find(|(events, _)| *events <= n).unwrap().1;
            let after = layout.open(Disk::new(crashes.image(&mut random)), PLAIN);
            let (one, other) = (after.number(1), after.number(2));
            assert!(one == other && one >= at_least, "no state since {at_least}");
        }
    }
}

/// What a batch of home writes is allowed to do is the device's business: nothing is assumed of its order.
#[test]
fn writes_of_one_buffer_are_in_order() {
    let layout = Layout { block_size: 1024, fs: 32, len: 64 };
    let machine = layout.open(Disk::new(layout.image(1)).threaded(1), PLAIN);
    let buffer = machine.read(3);
    for value in 1..100 {
        buffer.write(|bytes| fill(bytes, value)).unwrap();
        let mut batch = WriteBatch::new(&machine.cache, OpFlags::empty());
        batch.add(&buffer, &buffer.data()).unwrap();
        batch.submit();
    }
    machine.cache.write_back().unwrap();
    buffer.wait_write();
    assert_eq!(number(&machine.disk.image()[3 * 1024..]), 99);
}
