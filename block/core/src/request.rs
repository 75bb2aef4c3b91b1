//! The request: what a driver gets. One or more bios that lie one behind the other on the device, with a tag.

use core::fmt;

use collections::fifo::{Chained, Fifo};

use crate::bio::{Bio, Op, OpFlags, SECTOR_SHIFT, SECTOR_SIZE, Status};
use crate::limits::{Features, Limits};

/// What a bio allows: nothing that a device is asked for.
const WEAK: OpFlags = OpFlags::RAHEAD.union(OpFlags::BACKGROUND).union(OpFlags::NOWAIT);

/// No tag.
pub(crate) const NO_TAG: u32 = u32::MAX;

/// No scheduler has it: [`Request::sched`].
pub(crate) const NOT_SCHEDULED: u32 = u32::MAX;

/// Which pool a request is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Its place in the pool is its tag.
    Tags,
    /// It is for a scheduler, and gets a tag when it goes to the driver.
    Scheduler,
}

/// Where a request with a flush before or behind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is no flush.
    Plain,
    /// Before the data: the cache is flushed.
    Before,
    /// The data; a flush may follow.
    Data,
    /// Behind the data: the cache is flushed.
    Behind,
}

/// A request. From the submitter to the driver and back it belongs to whoever deals with it at the time.
pub struct Request {
    bios: Fifo<Bio>,
    op: Op,
    flags: OpFlags,
    sector: u64,
    len: u32,
    /// Pieces of memory at most.
    segments: u32,
    ioprio: u16,
    context: u32,
    pub(crate) phase: Phase,
    /// Whether a flush follows the data.
    flush_behind: bool,
    /// Whether one went before it.
    pub(crate) flushed_before: bool,
    pub(crate) source: Source,
    pub(crate) cpu: u16,
    /// The hardware queue whose pool it is from.
    pub(crate) home: u16,
    /// Its place in the pool.
    pub(crate) slot: u32,
    /// The tag by which driver and device know it.
    pub(crate) tag: u32,
    /// When the first bio came: monotonic nanoseconds.
    pub(crate) queued_ns: u64,
    /// When a scheduler let it go.
    pub(crate) issued_ns: u64,
    /// What the scheduler notes about it, from [`crate::elevator::Elevator::insert`] to the end; [`NOT_SCHEDULED`]: it never had it.
    pub(crate) sched: u32,
    /// At which gate it is counted ([`crate::elevator::gate`]).
    pub(crate) gate: Option<u8>,
    /// The partition of the first bio; 0: the whole disk.
    pub(crate) part: u16,
    /// It is counted in the statistics.
    pub(crate) counted: bool,
}

/// At which end of a request a bio can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before what is there.
    Front,
    /// Behind it.
    Back,
}

impl Request {
    pub(crate) fn empty(slot: u32) -> Self {
        Self {
            bios: Fifo::new(),
            op: Op::Read,
            flags: OpFlags::empty(),
            sector: 0,
            len: 0,
            segments: 0,
            ioprio: 0,
            context: 0,
            phase: Phase::Plain,
            flush_behind: false,
            flushed_before: false,
            source: Source::Tags,
            cpu: 0,
            home: 0,
            slot,
            tag: NO_TAG,
            queued_ns: 0,
            issued_ns: 0,
            sched: NOT_SCHEDULED,
            gate: None,
            part: 0,
            counted: false,
        }
    }

    /// Makes it a request for `bio`, which has `segments` pieces.
    pub(crate) fn fill(&mut self, bio: Chained<Bio>, segments: u32) {
        debug_assert!(self.bios.is_empty());
        (self.op, self.flags, self.ioprio, self.context) = (bio.op, bio.flags, bio.ioprio, bio.context);
        (self.sector, self.len, self.segments) = (bio.sector, bio.len() as u32, segments);
        self.part = bio.part;
        (self.phase, self.sched) = (Phase::Plain, NOT_SCHEDULED);
        self.bios.push_back(bio);
    }

    /// What the device is to do now.
    #[inline]
    pub fn op(&self) -> Op {
        match self.phase {
            Phase::Plain | Phase::Data => self.op,
            Phase::Before | Phase::Behind => Op::Flush,
        }
    }

    /// How: [`OpFlags::FUA`] only if the device has it, never [`OpFlags::PREFLUSH`].
    #[inline]
    pub fn flags(&self) -> OpFlags {
        if self.op() == Op::Flush { OpFlags::empty() } else { self.flags }
    }

    /// The first sector; 0 for a flush.
    #[inline]
    pub fn sector(&self) -> u64 {
        if self.op() == Op::Flush { 0 } else { self.sector }
    }

    /// The sector behind the last one.
    #[inline]
    pub fn end_sector(&self) -> u64 {
        self.sector + u64::from(self.len >> SECTOR_SHIFT)
    }

    /// Bytes on the device.
    #[inline]
    pub fn len(&self) -> u32 {
        if self.op() == Op::Flush { 0 } else { self.len }
    }

    /// Whether it touches no sector.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most so many pieces come out of [`pieces`](Self::pieces).
    #[inline]
    pub fn max_pieces(&self) -> u32 {
        self.segments
    }

    /// The priority of ioprio_set(2).
    #[inline]
    pub fn ioprio(&self) -> u16 {
        self.ioprio
    }

    /// For whom it is: [`Bio::context`] of its first bio.
    #[inline]
    pub fn context(&self) -> u32 {
        self.context
    }

    /// Whether somebody waits for it. What a flush is made of, somebody does.
    #[inline]
    pub fn is_sync(&self) -> bool {
        self.phase != Phase::Plain || self.flags.is_sync(self.op)
    }

    /// The tag: below the depth of the hardware queue, and no other request's that the driver has.
    #[inline]
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// Its number among all requests of its [`home`](Self::home): for what schedulers note about it.
    #[inline]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The hardware queue of the CPU that submitted it. A scheduler may give it to another one.
    #[inline]
    pub fn home(&self) -> usize {
        self.home as usize
    }

    /// Its bios, in the order of their sectors.
    pub fn bios(&self) -> impl Iterator<Item = &Bio> {
        self.bios.iter()
    }

    /// The memory as the device is to see it: (physical address, length), what is adjacent joined, within `limits`. Nothing for a flush.
    pub fn pieces<'a>(&'a self, limits: &'a Limits) -> Pieces<'a> {
        let data = self.op().has_data();
        Pieces {
            limits,
            bios: data.then(|| self.bios.iter()),
            segments: [].iter(),
            rest: (0, 0),
            ready: None,
        }
    }

    /// Where `bio` can be added, if it can: same operation, adjacent sectors, and together not too big for the device.
    pub fn can_merge(&self, bio: &Bio, segments: u32, limits: &Limits) -> Option<Side> {
        let differs = (self.flags ^ bio.flags).intersects(OpFlags::all() - WEAK);
        let alone = OpFlags::NOMERGE | OpFlags::PREFLUSH | OpFlags::FUA;
        if self.op != bio.op
            || differs
            || self.flags.intersects(alone)
            || self.phase != Phase::Plain
            || self.ioprio != bio.ioprio
            || bio.is_empty()
        {
            return None;
        }
        let (side, first) = if bio.sector == self.end_sector() {
            (Side::Back, self.sector)
        } else if bio.end_sector() == self.sector {
            (Side::Front, bio.sector)
        } else {
            return None;
        };
        let fits = u64::from(self.len) + bio.len() <= limits.max_bytes(self.op, first)
            && self.segments + segments <= u32::from(limits.max_segments);
        let (before, behind) = match side {
            Side::Back => (self.bios.back(), Some(bio)),
            Side::Front => (Some(bio), self.bios.front()),
        };
        let last = before.and_then(|bio| bio.segments().last());
        let next = behind.and_then(|bio| bio.segments().first());
        let gap = match (last, next) {
            (Some(last), Some(next)) => {
                let end = last.phys() + u64::from(last.len());
                end != next.phys() && limits.is_gap(end, next.phys())
            }
            _ => false,
        };
        (fits && !gap).then_some(side)
    }

    /// Adds a bio where [`can_merge`](Self::can_merge) said.
    pub fn merge(&mut self, bio: Chained<Bio>, segments: u32, side: Side) {
        self.len += bio.len() as u32;
        self.segments += segments;
        // What may be done to both.
        self.flags &= bio.flags | !WEAK;
        match side {
            Side::Front => {
                self.sector = bio.sector;
                self.bios.push_front(bio);
            }
            Side::Back => self.bios.push_back(bio),
        }
    }

    /// The flushes that it needs on a device with these limits, and what the device does itself.
    pub(crate) fn plan_flushes(&mut self, limits: &Limits) {
        let fua = self.flags.contains(OpFlags::FUA);
        let before = self.flags.contains(OpFlags::PREFLUSH) || self.op == Op::Flush;
        let behind = fua && !limits.features.contains(Features::FUA);
        (self.flush_behind, self.flushed_before) = (behind, before);
        self.flags.remove(OpFlags::PREFLUSH);
        self.flags.set(OpFlags::FUA, fua && !behind);
        self.phase = match (before, behind) {
            (true, _) => Phase::Before,
            (false, true) => Phase::Data,
            (false, false) => Phase::Plain,
        };
    }

    /// Whether it is the data of a write with flushes that the scheduler has not seen yet.
    pub(crate) fn is_for_scheduler(&self) -> bool {
        self.phase == Phase::Data && self.source == Source::Scheduler && self.sched == NOT_SCHEDULED
    }

    /// What follows the phase that is over; `None`: nothing.
    pub(crate) fn next_phase(&self) -> Option<Phase> {
        match self.phase {
            Phase::Before if self.op != Op::Flush => Some(Phase::Data),
            Phase::Data if self.flush_behind => Some(Phase::Behind),
            _ => None,
        }
    }

    /// Gives all bios back to whom they belong.
    pub(crate) fn finish_bios(&mut self, status: Status) {
        while let Some(bio) = self.bios.pop_front() {
            Bio::finish(bio, status);
        }
    }

    /// What the submitter asked for, whatever flush is on its way for it.
    pub(crate) fn wanted(&self) -> (Op, u64) {
        (self.op, u64::from(self.len >> SECTOR_SHIFT))
    }

    /// Copies the data of a write or a read one way: calls `f` with each part of memory, its folio, offset and length, in order.
    ///
    /// # Errors
    /// The first that `f` returns.
    pub fn for_each_segment(
        &self,
        mut f: impl FnMut(&crate::bio::Segment) -> Result<(), Status>,
    ) -> Result<(), Status> {
        self.bios.iter().flat_map(|bio| bio.segments()).try_for_each(&mut f)
    }
}

impl Drop for Request {
    /// A request that nobody ended.
    fn drop(&mut self) {
        self.finish_bios(Status::IoError);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, phase, sector, len, tag, slot, .. } = self;
        write!(
            f,
            "Request({op:?} {phase:?} {sector}+{} tag {tag} slot {slot})",
            u64::from(*len) / SECTOR_SIZE
        )
    }
}

/// Iterator of [`Request::pieces`].
pub struct Pieces<'a> {
    limits: &'a Limits,
    bios: Option<collections::fifo::Iter<'a, Bio>>,
    segments: core::slice::Iter<'a, crate::bio::Segment>,
    /// What is left of the segment that is being looked at.
    rest: (u64, u32),
    /// What may still grow.
    ready: Option<(u64, u32)>,
}

impl Iterator for Pieces<'_> {
    type Item = (u64, u32);

    fn next(&mut self) -> Option<(u64, u32)> {
        loop {
            if self.rest.1 == 0 {
                match self.segments.next() {
                    Some(segment) => self.rest = (segment.phys(), segment.len()),
                    None => match self.bios.as_mut().and_then(Iterator::next) {
                        Some(bio) => {
                            self.segments = bio.segments().iter();
                            continue;
                        }
                        None => return self.ready.take(),
                    },
                }
            }
            let (phys, left) = self.rest;
            let open = match self.ready {
                Some((start, len)) if start + u64::from(len) == phys => self.limits.segment_room(phys, len),
                _ => 0,
            };
            let take = if open > 0 { open } else { self.limits.segment_room(phys, 0) }.min(left);
            self.rest = (phys + u64::from(take), left - take);
            match &mut self.ready {
                Some((_, len)) if open > 0 => *len += take,
                ready => {
                    if let Some(done) = ready.replace((phys, take)) {
                        return Some(done);
                    }
                }
            }
        }
    }
}
