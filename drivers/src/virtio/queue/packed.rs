//! The packed ring (2.8): one ring of descriptors, in which the device replaces those it is done with.
//!
//! Both sides go around the ring, and each turn changes the meaning of the two bits that say whose a descriptor is.

use core::sync::atomic::{Ordering, fence};

use abi::Result;
use mm::dma::{Coherent, Reach};

use super::tables::{INDIRECT, NEXT, WRITE};
use super::{Nonsense, Piece, Place, passed};

const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Of the areas that say when to tell: always, never, or when a place is passed.
const ALWAYS: u32 = 0;
const NEVER: u32 = 1;
const AT_PLACE: u32 = 2;

pub(super) struct Packed {
    size: u16,
    events: bool,
    /// Address; length, token, flags.
    ring: Coherent<u64>,
    /// When the device shall tell us: place and turn, flags.
    driver: Coherent<u32>,
    /// When it wants to be told.
    device: Coherent<u32>,
}

/// A place in the ring, and the turn.
#[derive(Clone, Copy)]
struct Position {
    at: u16,
    turn: bool,
}

impl Position {
    fn advance(&mut self, by: u16, size: u16) {
        self.at += by;
        if self.at >= size {
            self.at -= size;
            self.turn = !self.turn;
        }
    }
}

pub(super) struct Submit {
    next: Position,
    /// How many descriptors the device has not been told of.
    fresh: u16,
    /// The first of them and the word that gives it to the device.
    first: Option<(usize, u64)>,
}

pub(super) struct Take {
    next: Position,
}

impl Submit {
    pub(super) fn new() -> Self {
        Self { next: Position { at: 0, turn: true }, fresh: 0, first: None }
    }
}

impl Take {
    pub(super) fn new() -> Self {
        Self { next: Position { at: 0, turn: true } }
    }
}

impl Packed {
    pub(super) fn new(size: u16, events: bool) -> Result<Self> {
        Ok(Self {
            size,
            events,
            ring: Coherent::new(2 * usize::from(size), Reach::Full)?,
            driver: Coherent::new(1, Reach::Full)?,
            device: Coherent::new(1, Reach::Full)?,
        })
    }

    pub(super) fn place(&self) -> Place {
        Place {
            descriptors: self.ring.device_addr().0,
            driver: self.driver.device_addr().0,
            device: self.device.device_addr().0,
        }
    }

    /// Puts a request into the ring; how many descriptors it took. The first descriptor of a batch is the last to become the device's: all of it is
    /// seen at once.
    pub(super) fn put(
        &self,
        submit: &mut Submit,
        token: u16,
        pieces: impl Iterator<Item = Piece>,
        indirect: bool,
    ) -> u16 {
        let mut head = None;
        let mut last: Option<(usize, u64)> = None;
        let mut count = 0u16;
        for piece in pieces {
            // The one before is followed by this one.
            if let Some((at, word)) = last {
                self.give(submit, &mut head, at, word | u64::from(NEXT) << 48);
            }
            let Position { at, turn } = submit.next;
            let whose = if turn { AVAILABLE } else { USED };
            let kind = if indirect { INDIRECT } else { u16::from(piece.device_writes) * WRITE };
            let at = 2 * usize::from(at);
            self.ring.write(at, piece.address);
            let word = u64::from(piece.len) | u64::from(token) << 32 | u64::from(whose | kind) << 48;
            last = Some((at + 1, word));
            submit.next.advance(1, self.size);
            count += 1;
        }
        if let Some((at, word)) = last {
            self.give(submit, &mut head, at, word);
        }
        if let Some((at, word)) = head {
            // All others of the request before its first.
            fence(Ordering::Release);
            self.ring.write(at, word);
        }
        submit.fresh += count;
        count
    }

    /// Writes the word of a descriptor that makes it the device's; that of the request's first is kept back, and that of the batch's first even
    /// longer.
    fn give(&self, submit: &mut Submit, head: &mut Option<(usize, u64)>, at: usize, word: u64) {
        if submit.fresh == 0 && submit.first.is_none() {
            submit.first = Some((at, word));
        } else if submit.fresh > 0 && head.is_none() {
            *head = Some((at, word));
        } else {
            self.ring.write(at, word);
        }
    }

    /// Lets the device see what was put; whether it has to be told.
    pub(super) fn publish(&self, submit: &mut Submit) -> bool {
        let Some((at, word)) = submit.first.take() else { return false };
        fence(Ordering::Release);
        self.ring.write(at, word);
        let Position { at: new, turn } = submit.next;
        let old = new.wrapping_sub(core::mem::take(&mut submit.fresh));
        fence(Ordering::SeqCst);
        let wish = self.device.read(0).unwrap_or(0);
        match wish >> 16 & 3 {
            AT_PLACE => {
                let mut event = wish as u16 & 0x7fff;
                if (wish >> 15 & 1 != 0) != turn {
                    event = event.wrapping_sub(self.size);
                }
                passed(event, new, old)
            }
            NEVER => false,
            _ => true,
        }
    }

    fn is_used(&self, at: Position) -> Option<u64> {
        let word = self.ring.read(2 * usize::from(at.at) + 1)?;
        let flags = (word >> 48) as u16;
        let (available, used) = (flags & AVAILABLE != 0, flags & USED != 0);
        (available == used && used == at.turn).then_some(word)
    }

    /// The next request that is done: its token, and how much was written. [`Self::skip`] follows.
    pub(super) fn next(&self, take: &mut Take) -> core::result::Result<Option<(u16, u32)>, Nonsense> {
        let Some(word) = self.is_used(take.next) else { return Ok(None) };
        // The word before the memory of the request.
        fence(Ordering::Acquire);
        Ok(Some(((word >> 32) as u16, word as u32)))
    }

    /// The request had so many descriptors.
    pub(super) fn skip(&self, take: &mut Take, count: u16) {
        take.next.advance(count, self.size);
    }

    /// An interrupt for the next; false: it is there.
    pub(super) fn arm(&self, take: &Take) -> bool {
        let Position { at, turn } = take.next;
        let wish =
            if self.events { u32::from(at) | u32::from(turn) << 15 | AT_PLACE << 16 } else { ALWAYS << 16 };
        self.driver.write(0, wish);
        fence(Ordering::SeqCst);
        let armed = self.is_used(take.next).is_none();
        if !armed && !self.events {
            self.driver.write(0, NEVER << 16);
        }
        armed
    }
}
