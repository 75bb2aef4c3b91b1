//! The split ring (2.7): a table of descriptors, a ring of those that the device may take, and one of those that it is done with.

use core::sync::atomic::{Ordering, fence};

use abi::Result;
use mm::dma::{Coherent, Reach};

use super::tables::{INDIRECT, NEXT, WRITE, word};
use super::{Nonsense, Piece, Place, passed};

/// The driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;
/// The device wants no notifications.
const NO_NOTIFY: u32 = 1;

pub(super) struct Split {
    size: u16,
    /// Both sides say by an index when they want to be told.
    events: bool,
    /// Descriptors of each token.
    each: u16,
    /// Address; length, flags, next.
    descriptors: Coherent<u64>,
    /// Flags, index, ring, used event.
    available: Coherent<u16>,
    /// Flags and index; pairs of descriptor and length; available event.
    used: Coherent<u32>,
}

/// What those who submit own.
pub(super) struct Submit {
    /// Where the next goes.
    next: u16,
    /// How far the device was told.
    told: u16,
}

/// What those who take own.
pub(super) struct Take {
    last: u16,
}

impl Submit {
    pub(super) fn new() -> Self {
        Self { next: 0, told: 0 }
    }
}

impl Take {
    pub(super) fn new() -> Self {
        Self { last: 0 }
    }
}

impl Split {
    pub(super) fn new(size: u16, events: bool, each: u16) -> Result<Self> {
        let entries = usize::from(size);
        let ring = Self {
            size,
            events,
            each,
            descriptors: Coherent::new(2 * entries, Reach::Full)?,
            available: Coherent::new(3 + entries, Reach::Full)?,
            used: Coherent::new(2 + 2 * entries, Reach::Full)?,
        };
        Ok(ring)
    }

    pub(super) fn place(&self) -> Place {
        Place {
            descriptors: self.descriptors.device_addr().0,
            driver: self.available.device_addr().0,
            device: self.used.device_addr().0,
        }
    }

    /// Puts a request into the ring; how many descriptors it took.
    pub(super) fn put(
        &self,
        submit: &mut Submit,
        token: u16,
        pieces: impl Iterator<Item = Piece>,
        indirect: bool,
    ) -> u16 {
        let head = token * self.each;
        let (mut count, mut last) = (0u16, 0);
        for piece in pieces.take(usize::from(self.each)) {
            let at = 2 * usize::from(head + count);
            let flags = if indirect { INDIRECT } else { u16::from(piece.device_writes) * WRITE };
            last = word(piece.len, flags, 0);
            self.descriptors.write(at, piece.address);
            self.descriptors.write(at + 1, word(piece.len, flags | NEXT, head + count + 1));
            count += 1;
        }
        if count > 0 {
            self.descriptors.write(2 * usize::from(head + count - 1) + 1, last);
            self.available.write(2 + usize::from(submit.next & (self.size - 1)), head);
            submit.next = submit.next.wrapping_add(1);
        }
        count
    }

    /// Lets the device see what was put; whether it has to be told.
    pub(super) fn publish(&self, submit: &mut Submit) -> bool {
        // Descriptors before the index.
        fence(Ordering::Release);
        self.available.write(1, submit.next);
        let old = core::mem::replace(&mut submit.told, submit.next);
        // The index before what the device says it wants to know.
        fence(Ordering::SeqCst);
        if self.events {
            let event = self.used.read(1 + 2 * usize::from(self.size)).unwrap_or(0) as u16;
            passed(event, submit.next, old)
        } else {
            self.used.read(0).unwrap_or(0) & NO_NOTIFY == 0
        }
    }

    fn used_index(&self) -> u16 {
        (self.used.read(0).unwrap_or(0) >> 16) as u16
    }

    /// The next request that is done: its token, and how much was written.
    pub(super) fn next(&self, take: &mut Take) -> core::result::Result<Option<(u16, u32)>, Nonsense> {
        let ready = self.used_index().wrapping_sub(take.last);
        if ready == 0 {
            return Ok(None);
        }
        if ready > self.size {
            return Err(Nonsense);
        }
        // The index before the entry.
        fence(Ordering::Acquire);
        let at = 1 + 2 * usize::from(take.last & (self.size - 1));
        let (head, len) = (self.used.read(at).unwrap_or(u32::MAX), self.used.read(at + 1).unwrap_or(0));
        take.last = take.last.wrapping_add(1);
        let each = u32::from(self.each);
        if head >= u32::from(self.size) || !head.is_multiple_of(each) {
            return Err(Nonsense);
        }
        Ok(Some(((head / each) as u16, len)))
    }

    /// An interrupt for the next; false: it is there.
    pub(super) fn arm(&self, take: &Take) -> bool {
        if self.events {
            self.available.write(2 + usize::from(self.size), take.last);
        } else {
            self.available.write(0, 0);
        }
        fence(Ordering::SeqCst);
        let armed = self.used_index() == take.last;
        if !armed && !self.events {
            self.available.write(0, NO_INTERRUPT);
        }
        armed
    }
}
