//! Queues against a device in Rust that reads and writes the rings where the driver says they are: in any order, in
//! batches, and with bad intentions.

use std::collections::BTreeMap;
use std::vec::Vec;

use mm::dma::Coherent;
use proptest::prelude::*;

use super::packed::Packed;
use super::split::Split;
use super::*;

const SPLIT: Features = Features::VERSION_1;

/// The device's side of a ring.
trait Side {
    /// Takes the next request that was made available: what the device calls it, and its pieces.
    fn take(&mut self) -> Option<(u32, Vec<Piece>)>;
    /// Gives a request back.
    fn give(&mut self, id: u32, len: u32);
    /// Whether the driver wants to be told of what was given since.
    fn wants_interrupt(&mut self) -> bool;
}

/// Tables that the test's queue has: memory of the same process, by the address that the device is given.
fn table(queue: &Queue, address: u64, words: usize) -> Vec<u64> {
    let Some(tables) = &queue.tables else { panic!("no tables") };
    let find = |memory: &Coherent<u64>| {
        let first = address.checked_sub(memory.device_addr().0)? as usize / 8;
        (first + words <= memory.len())
            .then(|| (first..first + words).map(|at| memory.read(at).unwrap()).collect())
    };
    find(&tables.small)
        .or_else(|| tables.large.as_ref().and_then(find))
        .expect("a table that is the driver's")
}

struct SplitSide<'a> {
    queue: &'a Queue,
    ring: &'a Split,
    seen: u16,
    used: u16,
    told: u16,
}

impl SplitSide<'_> {
    fn pieces(&self, first: u16, read: &dyn Fn(usize) -> u64) -> Vec<Piece> {
        let (mut pieces, mut at) = (Vec::new(), first);
        loop {
            let (address, word) = (read(2 * usize::from(at)), read(2 * usize::from(at) + 1));
            let (len, flags, next) = (word as u32, (word >> 32) as u16, (word >> 48) as u16);
            if flags & tables::INDIRECT != 0 {
                let words = table(self.queue, address, len as usize / 8);
                assert!(pieces.is_empty());
                return self.pieces(0, &|at| words[at]);
            }
            pieces.push(Piece { address, len, device_writes: flags & tables::WRITE != 0 });
            if flags & tables::NEXT == 0 {
                return pieces;
            }
            at = next;
        }
    }
}

impl Side for SplitSide<'_> {
    fn take(&mut self) -> Option<(u32, Vec<Piece>)> {
        if self.ring.available.read(1)? == self.seen {
            return None;
        }
        let head = self.ring.available.read(2 + usize::from(self.seen & (self.ring.size - 1)))?;
        self.seen = self.seen.wrapping_add(1);
        if self.ring.events {
            self.ring.used.write(1 + 2 * usize::from(self.ring.size), self.seen.into());
        }
        Some((head.into(), self.pieces(head, &|at| self.ring.descriptors.read(at).unwrap())))
    }

    fn give(&mut self, id: u32, len: u32) {
        let at = 1 + 2 * usize::from(self.used & (self.ring.size - 1));
        self.ring.used.write(at, id);
        self.ring.used.write(at + 1, len);
        self.used = self.used.wrapping_add(1);
        self.ring.used.write(0, u32::from(self.used) << 16);
    }

    fn wants_interrupt(&mut self) -> bool {
        let old = core::mem::replace(&mut self.told, self.used);
        if self.ring.events {
            let event = self.ring.available.read(2 + usize::from(self.ring.size)).unwrap();
            old != self.used && passed(event, self.used, old)
        } else {
            self.ring.available.read(0).unwrap() & 1 == 0
        }
    }
}

struct PackedSide<'a> {
    queue: &'a Queue,
    ring: &'a Packed,
    seen: (u16, bool),
    used: (u16, bool),
    given: u16,
    /// Descriptors of each request.
    lens: BTreeMap<u32, u16>,
}

fn advance(at: &mut (u16, bool), by: u16, size: u16) {
    at.0 += by;
    if at.0 >= size {
        *at = (at.0 - size, !at.1);
    }
}

impl Side for PackedSide<'_> {
    fn take(&mut self) -> Option<(u32, Vec<Piece>)> {
        let (mut pieces, mut count) = (Vec::new(), 0);
        loop {
            let at = 2 * usize::from(self.seen.0);
            let (address, word) = (self.ring.ring.read(at)?, self.ring.ring.read(at + 1)?);
            let (len, id, flags) = (word as u32, (word >> 32) as u16, (word >> 48) as u16);
            let (available, used) = (flags >> 7 & 1 != 0, flags >> 15 & 1 != 0);
            if available != self.seen.1 || used == self.seen.1 {
                // A request is seen whole or not at all.
                assert_eq!(count, 0);
                return None;
            }
            count += 1;
            advance(&mut self.seen, 1, self.ring.size);
            if flags & tables::INDIRECT != 0 {
                for pair in table(self.queue, address, len as usize / 8).chunks(2) {
                    let device_writes = pair[1] >> 48 & 2 != 0;
                    pieces.push(Piece { address: pair[0], len: pair[1] as u32, device_writes });
                }
            } else {
                pieces.push(Piece { address, len, device_writes: flags & tables::WRITE != 0 });
            }
            if flags & tables::NEXT == 0 {
                self.lens.insert(id.into(), count);
                if self.ring.events {
                    self.ring
                        .device
                        .write(0, u32::from(self.seen.0) | u32::from(self.seen.1) << 15 | 2 << 16);
                }
                return Some((id.into(), pieces));
            }
        }
    }

    fn give(&mut self, id: u32, len: u32) {
        let flags = if self.used.1 { 1u64 << 7 | 1 << 15 } else { 0 };
        let at = 2 * usize::from(self.used.0) + 1;
        self.ring.ring.write(at, u64::from(len) | u64::from(id as u16) << 32 | flags << 48);
        let count = self.lens.remove(&id).unwrap_or(1);
        advance(&mut self.used, count, self.ring.size);
        self.given += count;
    }

    fn wants_interrupt(&mut self) -> bool {
        let given = core::mem::take(&mut self.given);
        let wish = self.ring.driver.read(0).unwrap();
        match wish >> 16 & 3 {
            0 => given > 0,
            2 => {
                let mut event = wish as u16 & 0x7fff;
                if (wish >> 15 & 1 != 0) != self.used.1 {
                    event = event.wrapping_sub(self.ring.size);
                }
                given > 0 && passed(event, self.used.0, self.used.0.wrapping_sub(given))
            }
            _ => false,
        }
    }
}

fn side(queue: &Queue) -> std::boxed::Box<dyn Side + '_> {
    match &queue.ring {
        Ring::Split(ring) => std::boxed::Box::new(SplitSide { queue, ring, seen: 0, used: 0, told: 0 }),
        Ring::Packed(ring) => std::boxed::Box::new(PackedSide {
            queue,
            ring,
            seen: (0, true),
            used: (0, true),
            given: 0,
            lens: BTreeMap::new(),
        }),
    }
}

fn request(seed: u32, count: u16) -> Vec<Piece> {
    (0..u32::from(count))
        .map(|n| Piece {
            address: u64::from(seed) << 20 | u64::from(n) << 12,
            len: seed ^ n,
            device_writes: n > seed % 3,
        })
        .collect()
}

/// What the test does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The driver submits so many requests of so many pieces in one batch.
    Submit(u8, u16),
    /// The device takes all it can.
    Look,
    /// The device is done with one of those it has.
    Finish(u8),
    /// The driver takes what is done.
    Drain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..12u8, 1..100u16).prop_map(|(count, pieces)| Step::Submit(count, pieces)),
        3 => Just(Step::Look),
        6 => any::<u8>().prop_map(Step::Finish),
        2 => Just(Step::Drain),
    ];
    prop::collection::vec(step, 1..200)
}

/// Both sides do what the steps say; each request comes back once, with what was asked; an interrupt comes for what the driver waits
/// for.
fn play(shape: Shape, features: Features, steps: &[Step]) {
    mm::testing::init();
    let queue = Queue::new(0, shape, features).unwrap();
    let mut device = side(&queue);
    let (mut free, mut there): (Vec<u16>, BTreeMap<u16, Vec<Piece>>) =
        ((0..queue.tokens()).collect(), BTreeMap::new());
    let mut at_device: Vec<(u32, Vec<Piece>)> = Vec::new();
    let mut expected: Vec<Vec<Piece>> = Vec::new();
    let mut finished = 0;
    let mut seed = 1;
    for step in steps {
        match *step {
            Step::Submit(count, pieces) => {
                let mut batch = queue.batch();
                for _ in 0..count {
                    let Some(token) = free.pop() else { break };
                    seed += 1;
                    let wanted = request(seed, (pieces + count as u16).min(shape.pieces));
                    match batch.add(token, wanted.len(), wanted.iter().copied()) {
                        Ok(()) => {
                            expected.push(wanted.clone());
                            assert!(there.insert(token, wanted).is_none());
                        }
                        // Only large tables can be short.
                        Err(Full) => {
                            assert!(wanted.len() > SMALL && features.contains(Features::INDIRECT_DESC));
                            free.push(token);
                        }
                    }
                }
            }
            Step::Look => {
                while let Some((id, pieces)) = device.take() {
                    assert_eq!(pieces, expected.remove(0));
                    at_device.push((id, pieces));
                }
            }
            Step::Finish(which) => {
                if !at_device.is_empty() {
                    let (id, pieces) = at_device.swap_remove(usize::from(which) % at_device.len());
                    device.give(id, pieces[0].address as u32 ^ 0x55);
                    finished += 1;
                    let before = finished;
                    if device.wants_interrupt() {
                        queue.drain(|done| {
                            let pieces = there.remove(&done.token).expect("a request that was submitted");
                            assert_eq!(done.len, pieces[0].address as u32 ^ 0x55);
                            free.push(done.token);
                            finished -= 1;
                        });
                        assert_eq!(finished, 0, "{before} were done");
                    }
                }
            }
            Step::Drain => {
                queue.drain(|done| {
                    there.remove(&done.token).expect("a request that was submitted");
                    free.push(done.token);
                    finished -= 1;
                });
                assert_eq!(finished, 0);
            }
        }
        assert!(!queue.is_broken());
    }
    // Nobody waits for an interrupt that does not come.
    assert_eq!(finished, 0);
    assert_eq!(free.len() + there.len(), usize::from(queue.tokens()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn requests_come_back_once(steps in steps(), packed: bool, indirect: bool, events: bool, wide: bool) {
        let mut features = SPLIT;
        features.set(Features::RING_PACKED, packed);
        features.set(Features::INDIRECT_DESC, indirect);
        features.set(Features::EVENT_IDX, events);
        let pieces = if wide { 90 } else { 5 };
        let size = if indirect { 16 } else { 512 };
        play(Shape { size, pieces, tokens: 40 }, features, &steps);
    }

    #[test]
    fn a_device_that_lies_breaks_its_queue_only(writes in prop::collection::vec((0..64usize, any::<u64>()), 1..100), packed: bool) {
        mm::testing::init();
        let mut features = SPLIT | Features::INDIRECT_DESC | Features::EVENT_IDX;
        features.set(Features::RING_PACKED, packed);
        let queue = Queue::new(0, Shape { size: 8, pieces: 4, tokens: 8 }, features).unwrap();
        let mut out = std::collections::BTreeSet::new();
        for (round, (at, value)) in writes.into_iter().enumerate() {
            let token = (round % 8) as u16;
            if queue.batch().add(token, 3, request(7, 3).into_iter()).is_ok() {
                prop_assert!(out.insert(token));
            }
            // Whatever the device can reach.
            match &queue.ring {
                Ring::Split(ring) => {
                    ring.used.write(at % ring.used.len(), value as u32);
                    ring.descriptors.write(at % ring.descriptors.len(), value);
                }
                Ring::Packed(ring) => {
                    ring.ring.write(at % ring.ring.len(), value);
                    ring.device.write(0, value as u32);
                }
            }
            let mut buffer = [Done::default(); BATCH];
            for done in queue.take(&mut buffer) {
                prop_assert!(out.remove(&done.token), "{} was not there", done.token);
            }
        }
    }
}

#[test]
fn a_token_is_used_once_at_a_time_and_only_if_it_is_one() {
    mm::testing::init();
    let queue =
        Queue::new(3, Shape { size: 4, pieces: 3, tokens: 9 }, SPLIT | Features::INDIRECT_DESC).unwrap();
    assert_eq!(queue.tokens(), 4);
    let mut batch = queue.batch();
    assert_eq!(batch.add(4, 1, request(1, 1).into_iter()), Err(Full));
    assert_eq!(batch.add(2, 1, request(1, 0).into_iter()), Err(Full));
    assert_eq!(batch.add(2, 3, request(1, 3).into_iter()), Ok(()));
    assert_eq!(batch.add(2, 3, request(1, 3).into_iter()), Err(Full));
    assert_eq!(batch.add(1, 4, request(1, 4).into_iter()), Err(Full));
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    mm::testing::init();
    let new = |size, pieces, features| {
        Queue::new(0, Shape { size, pieces, tokens: 4 }, features).map(|q| q.tokens())
    };
    assert_eq!(new(6, 2, SPLIT), Err(Errno::EINVAL));
    assert_eq!(new(6, 2, SPLIT | Features::RING_PACKED), Ok(3));
    assert_eq!(new(0, 2, SPLIT), Err(Errno::EINVAL));
    assert_eq!(new(8, 9, SPLIT), Err(Errno::EINVAL));
    assert_eq!(new(8, 9, SPLIT | Features::INDIRECT_DESC), Ok(4));
}

#[test]
fn notifications_follow_what_the_device_wants() {
    assert!(passed(0, 1, 0));
    assert!(!passed(1, 1, 0));
    assert!(passed(1, 2, 1));
    assert!(passed(0xffff, 0, 0xffff));
    assert!(!passed(5, 5, 2));
    assert!(passed(4, 5, 2));
}
