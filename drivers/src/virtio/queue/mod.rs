//! Virtqueues: OASIS Virtual I/O Device 1.2, 2.6 to 2.8.
//!
//! # Tokens
//!
//! A request that the device has is known by a *token*, a number below [`Queue::tokens`] that the driver chooses: a block driver's
//! tag. The place in the ring or table that a request takes follows from its token, so nothing is allocated, no list of free
//! descriptors is kept, and nothing that the device can write says where we look:
//!
//! - with indirect descriptors, each token has a table of [`SMALL`] descriptors of its own, and a request takes one descriptor of the ring;
//!   larger requests take one of a few larger tables;
//! - without, each token has as many descriptors of the ring as a request may have pieces.
//!
//! A number that the device gives back is a token that it has, or it is broken: then nothing more is taken from it.
//!
//! # Locks
//!
//! Those who submit and those who take what is done have a lock each (interrupts off), and write nothing that the others write but the
//! state of a token. Neither is held while somebody else's code runs.
//!
//! | file | what |
//! |---|---|
//! | [`split`] | the split ring |
//! | [`packed`] | the packed ring |
//! | [`tables`] | indirect descriptors |

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use abi::{Errno, Result};
use arch::sync::{Irq, SpinLockIrq};
use mm::fallible::{try_into_boxed_slice, try_with_capacity};
use sync::{Once, SpinLockGuard};

use super::Features;
use super::transport::Notify;

mod packed;
mod split;
mod tables;
#[cfg(test)]
mod tests;

use packed::Packed;
use split::Split;
use tables::Tables;

/// Descriptors of a token's own table.
pub const SMALL: usize = 64;
/// The most requests that are taken at once.
pub const BATCH: usize = 32;

/// A piece of memory of a request: what the device reads comes before what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its physical address.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// Whether the device writes it.
    pub device_writes: bool,
}

/// A request that the device is done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Which.
    pub token: u16,
    /// How many bytes the device says it wrote.
    pub len: u32,
}

/// There is no room for a request of so many pieces now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Where a queue's memory is, for the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Descriptors.
    pub descriptors: u64,
    /// What the driver writes.
    pub driver: u64,
    /// What the device writes.
    pub device: u64,
}

/// What a queue is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Places in the ring: a power of two for a split one.
    pub size: u16,
    /// The most pieces of a request.
    pub pieces: u16,
    /// The most requests at a time; what fits if it is more than that.
    pub tokens: u16,
}

enum Ring {
    Split(Split),
    Packed(Packed),
}

/// The halves: what those who submit and those who take own.
enum Submit {
    Split(split::Submit),
    Packed(packed::Submit),
}

enum Take {
    Split(split::Take),
    Packed(packed::Take),
}

/// A virtqueue.
pub struct Queue {
    index: u16,
    size: u16,
    notify: Once<Notify>,
    ring: Ring,
    tables: Option<Tables>,
    tokens: u16,
    /// The most pieces.
    pieces: u16,
    /// Descriptors of the ring that the device has for each token; 0: it does not have it.
    state: Box<[AtomicU16]>,
    submit: SpinLockIrq<Submit>,
    take: SpinLockIrq<Take>,
    broken: AtomicBool,
}

impl Queue {
    /// A queue with number `index`, of which the device knows nothing yet.
    ///
    /// # Errors
    /// `EINVAL`: there is no room for a request of so many pieces; `ENOMEM`.
    pub fn new(index: u16, shape: Shape, features: Features) -> Result<Self> {
        let Shape { size, pieces, tokens } = shape;
        let packed = features.contains(Features::RING_PACKED);
        if size == 0 || pieces == 0 || size > 1 << 15 || (!packed && !size.is_power_of_two()) {
            return Err(Errno::EINVAL);
        }
        let indirect = features.contains(Features::INDIRECT_DESC) && pieces > 1;
        // How many descriptors of the ring a token has.
        let each = if indirect { 1 } else { pieces };
        let tokens = tokens.min(size / each);
        if tokens == 0 {
            return Err(Errno::EINVAL);
        }
        let events = features.contains(Features::EVENT_IDX);
        let (ring, submit, take) = if packed {
            let ring = Packed::new(size, events)?;
            (Ring::Packed(ring), Submit::Packed(packed::Submit::new()), Take::Packed(packed::Take::new()))
        } else {
            let ring = Split::new(size, events, each)?;
            (Ring::Split(ring), Submit::Split(split::Submit::new()), Take::Split(split::Take::new()))
        };
        let mut state = try_with_capacity(usize::from(tokens))?;
        state.extend((0..tokens).map(|_| AtomicU16::new(0)));
        Ok(Self {
            index,
            size,
            notify: Once::new(),
            ring,
            tables: if indirect { Some(Tables::new(tokens, pieces, packed)?) } else { None },
            tokens,
            pieces,
            state: try_into_boxed_slice(state)?,
            submit: SpinLockIrq::new(submit),
            take: SpinLockIrq::new(take),
            broken: AtomicBool::new(false),
        })
    }

    /// Its number.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// How many requests the device can have: tokens are below.
    pub fn tokens(&self) -> u16 {
        self.tokens
    }

    /// Where its memory is.
    pub(super) fn place(&self) -> Place {
        match &self.ring {
            Ring::Split(ring) => ring.place(),
            Ring::Packed(ring) => ring.place(),
        }
    }

    /// How the device is told of new requests.
    pub(super) fn set_notify(&self, notify: Notify) {
        let _ = self.notify.set(notify);
    }

    /// Places in its ring.
    pub(super) fn size(&self) -> u16 {
        self.size
    }

    /// Whether the device has given something back that it did not have.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn break_it(&self) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            log::error!("virtio: queue {} gives back what it does not have", self.index);
        }
    }

    /// Submits requests: all that are added become visible to the device, and it is told once, when the batch is dropped.
    pub fn batch(&self) -> Batch<'_> {
        Batch { queue: self, submit: self.submit.lock(), any: false }
    }

    /// Takes up to [`BATCH`] requests that the device is done with; none: there are no more.
    pub fn take<'a>(&self, done: &'a mut [Done; BATCH]) -> &'a [Done] {
        let mut count = 0;
        if self.is_broken() {
            return &[];
        }
        {
            let mut take = self.take.lock();
            for slot in done.iter_mut() {
                let next = match (&self.ring, &mut *take) {
                    (Ring::Split(ring), Take::Split(take)) => ring.next(take),
                    (Ring::Packed(ring), Take::Packed(take)) => ring.next(take),
                    _ => Ok(None),
                };
                let (token, len) = match next {
                    Ok(Some(next)) => next,
                    Ok(None) => break,
                    Err(Nonsense) => {
                        self.break_it();
                        break;
                    }
                };
                let had =
                    self.state.get(usize::from(token)).map_or(0, |state| state.swap(0, Ordering::AcqRel));
                if had == 0 {
                    self.break_it();
                    break;
                }
                if let Take::Packed(take) = &mut *take
                    && let Ring::Packed(ring) = &self.ring
                {
                    ring.skip(take, had);
                }
                if let Some(tables) = &self.tables {
                    tables.release(token);
                }
                *slot = Done { token, len };
                count += 1;
            }
        }
        done.get(..count).unwrap_or(&[])
    }

    /// Wants an interrupt for the next request that the device is done with. False: there is one already, for which none may come.
    #[must_use]
    pub fn arm(&self) -> bool {
        if self.is_broken() {
            return true;
        }
        match (&self.ring, &*self.take.lock()) {
            (Ring::Split(ring), Take::Split(take)) => ring.arm(take),
            (Ring::Packed(ring), Take::Packed(take)) => ring.arm(take),
            _ => true,
        }
    }

    /// Takes all that the device is done with, and calls `each` with no lock held; then an interrupt comes for the next.
    pub fn drain(&self, mut each: impl FnMut(Done)) -> usize {
        let mut total = 0;
        let mut buffer = [Done::default(); BATCH];
        loop {
            let done = self.take(&mut buffer);
            total += done.len();
            if done.is_empty() {
                if self.arm() {
                    return total;
                }
                continue;
            }
            done.iter().for_each(|done| each(*done));
        }
    }
}

/// The device wrote what cannot be.
#[derive(Debug)]
struct Nonsense;

/// Requests that are being submitted; the device gets to know of them when this is dropped.
pub struct Batch<'a> {
    queue: &'a Queue,
    submit: SpinLockGuard<'a, Submit, Irq>,
    any: bool,
}

impl Batch<'_> {
    /// Adds a request of at most `at_most` pieces, of which there is one at least.
    ///
    /// # Errors
    /// [`Full`]: nothing was added; when the device has finished another, there may be room. Also if the token is not one, or the device
    /// has it.
    pub fn add(
        &mut self,
        token: u16,
        at_most: usize,
        pieces: impl Iterator<Item = Piece>,
    ) -> core::result::Result<(), Full> {
        let queue = self.queue;
        let state = queue.state.get(usize::from(token)).ok_or(Full)?;
        if state.load(Ordering::Acquire) != 0 || queue.is_broken() {
            return Err(Full);
        }
        match &queue.tables {
            Some(tables) => {
                let (table, count) = tables.fill(token, at_most, pieces)?;
                state.store(1, Ordering::Release);
                let piece = Piece { address: table, len: count * 16, device_writes: false };
                self.put(token, core::iter::once(piece), true);
            }
            None if at_most > usize::from(queue.pieces) => return Err(Full),
            None => {
                // Counted by the ring; the device sees nothing before that.
                let count = self.put(token, pieces.take(at_most), false);
                state.store(count, Ordering::Release);
                if count == 0 {
                    return Err(Full);
                }
            }
        }
        self.any = true;
        Ok(())
    }

    fn put(&mut self, token: u16, pieces: impl Iterator<Item = Piece>, indirect: bool) -> u16 {
        match (&self.queue.ring, &mut *self.submit) {
            (Ring::Split(ring), Submit::Split(submit)) => ring.put(submit, token, pieces, indirect),
            (Ring::Packed(ring), Submit::Packed(submit)) => ring.put(submit, token, pieces, indirect),
            _ => 0,
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.any {
            return;
        }
        let queue = self.queue;
        let tell = match (&queue.ring, &mut *self.submit) {
            (Ring::Split(ring), Submit::Split(submit)) => ring.publish(submit),
            (Ring::Packed(ring), Submit::Packed(submit)) => ring.publish(submit),
            _ => false,
        };
        if tell && let Some(notify) = queue.notify.get() {
            notify.notify(queue.index);
        }
    }
}

/// Whether the other side, which wants to be told when `event` is passed, is to be told of what is between `old` and `new` (2.7.10.1).
fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
