//! The completion ring: posting, overflow, and telling those who wait.
//!
//! Lock: `Ring::cq`, taken with interrupts off because a request may be completed anywhere; nothing is woken under it.

use alloc::collections::VecDeque;
use core::sync::atomic::Ordering;

use abi::io_uring::{Cqe, raw};
use abi::poll::PollEvents;
use mm::TryDeque;
use vfs::eventfd::EventFd;

use super::layout::{CQ_FLAGS, CQ_HEAD, CQ_OVERFLOW, CQ_TAIL, SQ_FLAGS};
use super::ring::Ring;

/// Most completions that are kept: a user who never makes room loses the rest, as without memory.
const MOST_KEPT: usize = 1 << 18;

/// State of the completion ring.
pub struct Completions {
    tail: u32,
    /// What found no room, oldest first.
    overflow: VecDeque<Cqe>,
}

impl Completions {
    /// An empty ring.
    pub const fn new() -> Self {
        Self { tail: 0, overflow: VecDeque::new() }
    }
}

impl Default for Completions {
    fn default() -> Self {
        Self::new()
    }
}

/// Completions that are posted together.
const BATCH: usize = 32;

/// Completions that were collected under the submission lock.
pub struct Batch {
    count: usize,
    cqes: [Cqe; BATCH],
}

impl Batch {
    /// None yet.
    pub fn new() -> Self {
        Self { count: 0, cqes: [Cqe::default(); BATCH] }
    }

    /// Adds one; a full batch is posted.
    #[inline(always)]
    pub fn add(&mut self, ring: &Ring, cqe: Cqe) {
        if self.count >= BATCH {
            self.flush(ring);
        }
        if let Some(slot) = self.cqes.get_mut(self.count) {
            *slot = cqe;
            self.count += 1;
        }
    }

    /// Posts them.
    #[inline]
    pub fn flush(&mut self, ring: &Ring) {
        if self.count > 0 {
            ring.post_all(self.cqes.get(..self.count).unwrap_or_default());
            self.count = 0;
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// What becomes of a completion that finds the ring full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IfFull {
    /// It is kept until there is room (`IORING_FEAT_NODROP`).
    Keep,
    /// It is refused.
    Refuse,
}

impl Ring {
    #[inline]
    fn put(&self, cq: &mut Completions, cqe: &Cqe) -> bool {
        let head = self.rings.load(CQ_HEAD);
        if cq.tail.wrapping_sub(head) >= self.layout.cq_entries {
            return false;
        }
        self.write(cq, cqe);
        true
    }

    /// Writes a completion into a slot that is free.
    #[inline]
    fn write(&self, cq: &mut Completions, cqe: &Cqe) {
        let at = self.layout.cqe(cq.tail);
        self.rings.write(at, cqe);
        if self.layout.has_big_cqes() {
            self.rings.write(at + 16, &[0_u64; 2]);
        }
        cq.tail = cq.tail.wrapping_add(1);
    }

    /// Writes completions for which there is no room in one piece, or at all.
    #[cold]
    fn post_pieces(&self, cq: &mut Completions, cqes: &[Cqe], room: usize) {
        let (now, rest) = cqes.split_at_checked(room).unwrap_or((cqes, &[]));
        for cqe in now {
            self.write(cq, cqe);
        }
        for cqe in rest {
            self.post_locked(cq, cqe, IfFull::Keep);
        }
    }

    #[inline]
    fn post_locked(&self, cq: &mut Completions, cqe: &Cqe, full: IfFull) -> bool {
        // What waits for room goes first.
        if cq.overflow.is_empty() && self.put(cq, cqe) {
            return true;
        }
        if full == IfFull::Refuse {
            return false;
        }
        if cq.overflow.len() >= MOST_KEPT || cq.overflow.try_reserve(1).is_err() {
            self.rings.store(CQ_OVERFLOW, self.rings.load(CQ_OVERFLOW).wrapping_add(1));
            return false;
        }
        if cq.overflow.is_empty() {
            self.rings.set_bits(SQ_FLAGS, raw::IORING_SQ_CQ_OVERFLOW);
        }
        cq.overflow.push_back_reserved(*cqe);
        true
    }

    /// Posts completions, and tells those who wait. Task context.
    pub fn post_all(&self, cqes: &[Cqe]) {
        {
            let mut cq = self.cq.lock();
            // As many as there is room for go in without another look; the head is read once.
            let used = cq.tail.wrapping_sub(self.rings.load(CQ_HEAD));
            let room = if cq.overflow.is_empty() { self.layout.cq_entries.saturating_sub(used) } else { 0 };
            let room = room as usize;
            if cqes.len() <= room.min(self.layout.cqes_to_end(cq.tail)) && !self.layout.has_big_cqes() {
                self.rings.write_all(self.layout.cqe(cq.tail), cqes);
                cq.tail = cq.tail.wrapping_add(cqes.len() as u32);
            } else {
                self.post_pieces(&mut cq, cqes, room);
            }
            self.rings.store(CQ_TAIL, cq.tail);
        }
        self.posted();
    }

    /// Posts one completion; whether it was posted or kept.
    pub fn post(&self, cqe: Cqe, full: IfFull) -> bool {
        let posted = {
            let mut cq = self.cq.lock();
            let posted = self.post_locked(&mut cq, &cqe, full);
            self.rings.store(CQ_TAIL, cq.tail);
            posted
        };
        if posted {
            self.posted();
        }
        posted
    }

    #[inline]
    fn posted(&self) {
        self.cq_wait.wake_all();
        self.poll_wait.wake_all_poll(PollEvents::IN | PollEvents::RDNORM);
        self.signal_eventfd();
        if self.counted_timeouts.load(Ordering::Relaxed) != 0 {
            super::timeout::completions_came(self);
        }
    }

    /// Moves what is kept into the ring, as far as there is room.
    #[inline]
    pub fn flush_overflow(&self) {
        if self.rings.load(SQ_FLAGS) & raw::IORING_SQ_CQ_OVERFLOW != 0 {
            self.move_overflow();
        }
    }

    #[cold]
    fn move_overflow(&self) {
        let mut cq = self.cq.lock();
        while let Some(cqe) = cq.overflow.front().copied() {
            if !self.put(&mut cq, &cqe) {
                break;
            }
            cq.overflow.pop_front();
        }
        self.rings.store(CQ_TAIL, cq.tail);
        if cq.overflow.is_empty() {
            self.rings.clear_bits(SQ_FLAGS, raw::IORING_SQ_CQ_OVERFLOW);
        }
        drop(cq);
        self.cq_wait.wake_all();
    }

    /// Completions that the user has not consumed.
    #[inline]
    pub fn ready(&self) -> u32 {
        self.rings.load(CQ_TAIL).wrapping_sub(self.rings.load(CQ_HEAD))
    }

    /// Completions posted so far, modulo 2^32.
    pub fn completed(&self) -> u32 {
        self.rings.load(CQ_TAIL)
    }

    /// Calls `f` for the completions that are kept.
    pub fn each_overflowed(&self, f: &mut dyn FnMut(&Cqe)) {
        self.cq.lock().overflow.iter().for_each(f);
    }

    /// Signals the registered eventfd, if the user wants it now.
    #[inline]
    pub fn signal_eventfd(&self) {
        if !self.eventfd.is_none() {
            self.signal_registered();
        }
    }

    fn signal_registered(&self) {
        let guard = sched::rcu::read_lock();
        let Some(registered) = self.eventfd.load(&guard) else { return };
        if self.rings.load(CQ_FLAGS) & raw::IORING_CQ_EVENTFD_DISABLED != 0 {
            return;
        }
        if registered.only_async && !super::wq::in_worker() {
            return;
        }
        let Some(event) = registered.file.private::<EventFd>() else { return };
        // A ring may poll its own eventfd: the callback of the poll comes back here under the lock of the eventfd's queue.
        // It then leaves a note, and whoever is inside already signals once more.
        if self.signalling.fetch_add(1, Ordering::AcqRel) != 0 {
            return;
        }
        loop {
            let seen = self.signalling.load(Ordering::Acquire);
            event.signal(u64::from(seen));
            if self.signalling.fetch_sub(seen, Ordering::AcqRel) == seen {
                break;
            }
        }
    }
}
