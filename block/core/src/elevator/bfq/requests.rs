//! The requests that wait, by the flow that they are of: in the order of their sectors, and by age.
//!
//! They lie in an array by slot. The orders of all flows are in two trees, whose keys begin with the flow; nothing is allocated.

use alloc::vec::Vec;

use abi::Result;
use collections::fifo::{Chained, Fifo};
use collections::slottree::SlotTree;
use mm::fallible::try_with_capacity;

use crate::bio::{Bio, OpFlags};
use crate::limits::Limits;
use crate::request::{Request, Side};

pub(super) const NONE: u32 = u32::MAX;

/// Of a tree's keys, those that are of the sector: as many as a device of 2^63 bytes needs.
const SECTOR_BITS: u32 = 54;
const LAST_SECTOR: u64 = (1 << SECTOR_BITS) - 1;
/// So many flows there can be.
pub(super) const MOST_FLOWS: usize = 1 << (64 - SECTOR_BITS);

fn start_key(flow: u32, sector: u64) -> u64 {
    u64::from(flow) << SECTOR_BITS | sector.min(LAST_SECTOR)
}

/// Backwards, so that what ends at a sector or before is found as what follows.
fn end_key(flow: u32, end: u64) -> u64 {
    u64::from(flow) << SECTOR_BITS | (LAST_SECTOR - end.min(LAST_SECTOR))
}

struct Slot {
    request: Option<Chained<Request>>,
    /// Neighbours by age, of the same flow.
    older: u32,
    younger: u32,
}

/// The requests of one flow by age.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    oldest: u32,
    youngest: u32,
    /// How many there are.
    pub(super) len: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self { oldest: NONE, youngest: NONE, len: 0 }
    }
}

/// The requests of all flows.
pub(super) struct Requests {
    slots: Vec<Slot>,
    by_start: SlotTree,
    by_end: SlotTree,
    len: u32,
}

impl Requests {
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(count: usize) -> Result<Self> {
        let mut slots = try_with_capacity(count)?;
        slots.extend((0..count).map(|_| Slot { request: None, older: NONE, younger: NONE }));
        Ok(Self { slots, by_start: SlotTree::try_new(count)?, by_end: SlotTree::try_new(count)?, len: 0 })
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn get(&self, index: u32) -> Option<&Request> {
        self.slots.get(index as usize)?.request.as_deref()
    }

    /// The one of a line that has waited longest.
    pub(super) fn oldest(&self, line: &Line) -> Option<(u32, &Request)> {
        Some((line.oldest, self.get(line.oldest)?))
    }

    /// Adds one, which has no other's index, behind all of its flow.
    pub(super) fn insert(&mut self, flow: u32, line: &mut Line, index: u32, request: Chained<Request>) {
        self.by_start.insert(index, start_key(flow, request.sector()));
        self.by_end.insert(index, end_key(flow, request.end_sector()));
        let older = core::mem::replace(&mut line.youngest, index);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.younger = index,
            None => line.oldest = index,
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            debug_assert!(slot.request.is_none());
            *slot = Slot { request: Some(request), older, younger: NONE };
        }
        line.len += 1;
        self.len += 1;
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, line: &mut Line, index: u32) -> Option<Chained<Request>> {
        let slot = self.slots.get_mut(index as usize)?;
        let request = slot.request.take()?;
        let (older, younger) = (slot.older, slot.younger);
        self.by_start.remove(index);
        self.by_end.remove(index);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.younger = younger,
            None => line.oldest = younger,
        }
        match self.slots.get_mut(younger as usize) {
            Some(slot) => slot.older = older,
            None => line.youngest = older,
        }
        line.len -= 1;
        self.len -= 1;
        Some(request)
    }

    /// Takes all out.
    pub(super) fn take_all(&mut self, to: &mut Fifo<Request>) {
        for index in 0..self.slots.len() as u32 {
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            let Some(request) = slot.request.take() else { continue };
            (slot.older, slot.younger) = (NONE, NONE);
            self.by_start.remove(index);
            self.by_end.remove(index);
            to.push_back(request);
        }
        self.len = 0;
    }

    /// The one of a flow whose head the disk's is next to: the nearest ahead, or one up to `back_max` sectors behind if that, at `penalty`
    /// times the distance, is nearer. If there are neither, the first of all.
    pub(super) fn nearest(&self, flow: u32, position: u64, back_max: u64, penalty: u64) -> Option<u32> {
        let of_flow = |tree: &SlotTree, index: &u32| {
            tree.key(*index).is_some_and(|key| key >> SECTOR_BITS == u64::from(flow))
        };
        let ahead = self
            .by_start
            .at_or_after(start_key(flow, position))
            .filter(|index| of_flow(&self.by_start, index));
        let behind =
            self.by_end.at_or_after(end_key(flow, position)).filter(|index| of_flow(&self.by_end, index));
        let behind = behind.filter(|&index| {
            self.get(index).is_some_and(|request| position.saturating_sub(request.sector()) <= back_max)
        });
        match (ahead, behind) {
            (Some(ahead), Some(behind)) => {
                let (a, b) = (self.get(ahead)?, self.get(behind)?);
                if (a.flags() ^ b.flags()).contains(OpFlags::META) {
                    return Some(if a.flags().contains(OpFlags::META) { ahead } else { behind });
                }
                let forward = a.sector().saturating_sub(position);
                let back = position.saturating_sub(b.sector()).saturating_mul(penalty);
                Some(if back < forward { behind } else { ahead })
            }
            (Some(one), None) | (None, Some(one)) => Some(one),
            (None, None) => {
                self.by_start.at_or_after(start_key(flow, 0)).filter(|index| of_flow(&self.by_start, index))
            }
        }
    }

    /// Adds a bio to a request of this flow that it is adjacent to.
    ///
    /// # Errors
    /// The bio, if there is none.
    pub(super) fn merge(
        &mut self,
        flow: u32,
        bio: Chained<Bio>,
        segments: u32,
        limits: &Limits,
    ) -> Result<(), Chained<Bio>> {
        let candidates = [
            self.by_end.find(end_key(flow, bio.sector)),
            self.by_start.find(start_key(flow, bio.end_sector())),
        ];
        for index in candidates.into_iter().flatten() {
            let slot = self.slots.get_mut(index as usize);
            let Some(request) = slot.and_then(|slot| slot.request.as_deref_mut()) else { continue };
            let Some(side) = request.can_merge(&bio, segments, limits) else { continue };
            request.merge(bio, segments, side);
            let (tree, key) = match side {
                Side::Back => (&mut self.by_end, end_key(flow, request.end_sector())),
                Side::Front => (&mut self.by_start, start_key(flow, request.sector())),
            };
            tree.remove(index);
            tree.insert(index, key);
            return Ok(());
        }
        Err(bio)
    }
}
