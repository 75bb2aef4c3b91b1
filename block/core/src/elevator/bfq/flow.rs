//! A flow: the requests of one process that somebody waits for, or those of one priority that nobody waits for.
//!
//! There is room for so many flows as there are requests, and then some: one that has nothing to do is taken for another process when
//! all are in use. What was known about the old one is lost then. Flow 0 is for all who find none.

use alloc::boxed::Box;

use abi::Result;
use mm::fallible::{try_into_boxed_slice, try_vec, try_with_capacity};

use super::raise::Raise;
use super::requests::{Line, NONE};
use crate::bio::IOPRIO_CLASS_SHIFT;

/// The most flows that are made room for.
const MOST: usize = 1024;
/// Of no process.
const NO_KEY: u64 = u64::MAX;
/// The one for all who find none.
pub(super) const SHARED: u32 = 0;

/// What is known about the pauses between the end of a request and the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ThinkTime {
    samples: u64,
    total: u64,
    /// Nanoseconds.
    mean: u64,
}

impl ThinkTime {
    /// A moving average over about eight, in parts of 256.
    pub(super) fn add(&mut self, ns: u64) {
        self.samples = (7 * self.samples + 256) / 8;
        self.total = (7 * self.total + 256 * ns) / 8;
        self.mean = (self.total + 128) / self.samples.max(1);
    }

    /// Whether it is known to be longer than this.
    pub(super) fn is_longer_than(&self, ns: u64) -> bool {
        self.samples > 80 && self.mean > ns
    }
}

/// A flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    key: u64,
    /// The next with the same hash.
    chain: u32,
    /// Since somebody looked for room.
    recent: bool,
    pub(super) sync: bool,
    pub(super) ioprio: u16,
    pub(super) line: Line,
    /// Requests that the device has.
    pub(super) at_device: u32,
    /// The hardware queue of the last request.
    pub(super) home: u16,

    /// Sectors for its next turn.
    pub(super) wanted: u64,
    /// Left of its turn when it had no more requests, if it is to have that when it is back in time.
    pub(super) left_over: Option<u64>,
    /// Its turn: since when, and for how long. Monotonic nanoseconds, as all times.
    pub(super) turn_began: u64,
    pub(super) turn_until: u64,
    /// In this turn it was seen whether its oldest request has waited for too long.
    pub(super) age_checked: bool,
    /// Since when it has had nothing to do.
    pub(super) quiet_since: u64,
    /// When its last request ended.
    pub(super) last_end: u64,
    pub(super) think: ThinkTime,
    /// Its pauses are short.
    pub(super) is_prompt: bool,
    /// A bit for each of its last requests, of which the lowest is the newest: it was far from the one before.
    pub(super) seeks: u32,
    pub(super) position: u64,
    pub(super) raise: Raise,

    /// How it is counted among others: its weight and class if it has requests at all, whether it is busy, whether it is raised then.
    pub(super) counted: Counted,
}

/// See [`Flow::counted`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) pending: Option<(u8, u32)>,
    pub(super) busy: bool,
    pub(super) raised: bool,
}

impl Flow {
    fn new(key: u64, sync: bool, ioprio: u16, now_ns: u64) -> Self {
        Self {
            key,
            chain: NONE,
            recent: true,
            sync,
            ioprio,
            line: Line::default(),
            at_device: 0,
            home: 0,
            wanted: 0,
            left_over: None,
            turn_began: now_ns,
            turn_until: now_ns,
            age_checked: false,
            quiet_since: 0,
            last_end: now_ns,
            think: ThinkTime::default(),
            is_prompt: sync,
            // The first is far from all before.
            seeks: 1,
            position: 0,
            raise: Raise::new(now_ns),
            counted: Counted::default(),
        }
    }

    /// The class (0: the highest) and the weight of its priority.
    pub(super) fn base_weight(&self) -> (u8, u32) {
        let level = u32::from(self.ioprio & 7);
        match self.ioprio >> IOPRIO_CLASS_SHIFT {
            0 => (1, 40),
            1 => (0, (8 - level) * 10),
            2 => (1, (8 - level) * 10),
            _ => (2, 10),
        }
    }

    /// Whether most of its requests are far from each other.
    pub(super) fn is_seeky(&self) -> bool {
        self.seeks.count_ones() > 19
    }

    /// Whether it could be another's.
    fn is_free(&self) -> bool {
        self.line.len == 0 && self.at_device == 0 && !self.counted.busy
    }
}

/// All flows.
pub(super) struct Flows {
    all: Box<[Flow]>,
    buckets: Box<[u32]>,
    /// Where room was found last.
    hand: usize,
}

/// Whose a request is.
pub(super) fn key_of(context: u32, sync: bool, ioprio: u16) -> u64 {
    // What nobody waits for is written by somebody else than who wanted it.
    if sync { u64::from(context) | 1 << 32 } else { u64::from(ioprio) }
}

impl Flows {
    /// As many as `requests` need.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(requests: usize) -> Result<Self> {
        let count = (requests + requests / 4).clamp(16, MOST);
        let mut all = try_with_capacity(count)?;
        all.extend((0..count).map(|_| Flow { recent: false, ..Flow::new(NO_KEY, true, 0, 0) }));
        Ok(Self {
            all: try_into_boxed_slice(all)?,
            buckets: try_into_boxed_slice(try_vec(NONE, count.next_power_of_two())?)?,
            hand: 0,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, id: u32) -> &Flow {
        &self.all[(id as usize).min(self.all.len() - 1)]
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut Flow {
        let last = self.all.len() - 1;
        &mut self.all[(id as usize).min(last)]
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.all.len() as u32
    }

    fn bucket(&self, key: u64) -> usize {
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        hash as usize & (self.buckets.len() - 1)
    }

    /// The flow of this key, if there is one.
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        let mut at = self.buckets[self.bucket(key)];
        while at != NONE {
            let flow = self.get(at);
            if flow.key == key {
                return Some(at);
            }
            at = flow.chain;
        }
        None
    }

    /// Makes one: of a flow that has nothing to do. [`SHARED`] if there is none.
    pub(super) fn make(&mut self, key: u64, sync: bool, ioprio: u16, now_ns: u64) -> u32 {
        let count = self.all.len();
        // One that was used since the hand was there last has another round.
        for _ in 0..2 * count {
            self.hand = if self.hand + 1 < count { self.hand + 1 } else { 1 };
            let flow = &mut self.all[self.hand];
            if !flow.is_free() || core::mem::take(&mut flow.recent) {
                continue;
            }
            let id = self.hand as u32;
            self.unchain(id);
            let bucket = self.bucket(key);
            self.all[self.hand] =
                Flow { chain: self.buckets[bucket], ..Flow::new(key, sync, ioprio, now_ns) };
            self.buckets[bucket] = id;
            return id;
        }
        SHARED
    }

    fn unchain(&mut self, id: u32) {
        let Flow { key, chain, .. } = *self.get(id);
        if key == NO_KEY {
            return;
        }
        let bucket = self.bucket(key);
        let mut at = self.buckets[bucket];
        if at == id {
            self.buckets[bucket] = chain;
        }
        while at != NONE {
            let flow = self.get_mut(at);
            if flow.chain == id {
                flow.chain = chain;
            }
            at = flow.chain;
        }
    }

    /// It is in use.
    pub(super) fn touch(&mut self, id: u32) {
        self.get_mut(id).recent = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_found_and_made_again() {
        mm::testing::init();
        let mut flows = Flows::new(16).unwrap();
        let count = flows.count() as u64;
        for key in 0..count - 1 {
            assert_eq!(flows.find(key), None);
            let id = flows.make(key, true, 0, 0);
            assert!(id != SHARED && flows.find(key) == Some(id));
        }
        // All are in use: the next takes one that was not used for long.
        let kept = flows.find(3).unwrap();
        flows.make(100, true, 0, 0);
        assert!(flows.find(100).is_some());
        for key in 101..200 {
            flows.touch(kept);
            flows.make(key, true, 0, 0);
            assert_eq!((flows.find(key).is_some(), flows.find(3)), (true, Some(kept)), "{key}");
        }
        let found = (0..200).filter(|&key| flows.find(key).is_some()).count() as u64;
        assert_eq!(found, count - 1);
        for id in flows.ids() {
            flows.get_mut(id).at_device = 1;
        }
        assert_eq!(flows.make(500, true, 0, 0), SHARED);
    }

    #[test]
    fn weights_of_priorities() {
        let of = |ioprio| Flow::new(0, true, ioprio, 0).base_weight();
        assert_eq!([of(0), of(2 << 13 | 4), of(2 << 13)], [(1, 40), (1, 40), (1, 80)]);
        assert_eq!([of(1 << 13 | 7), of(3 << 13 | 2)], [(0, 10), (2, 10)]);
    }

    #[test]
    fn think_times() {
        let mut think = ThinkTime::default();
        think.add(1000);
        assert!(think.is_longer_than(900) || !think.is_longer_than(0));
        (0..50).for_each(|_| think.add(1000));
        assert!(think.is_longer_than(900) && !think.is_longer_than(1100));
    }
}
