//! The buffers of a pipe: pieces of pages, filled from users and emptied to them.

use alloc::collections::VecDeque;

use abi::Errno;
use arch::addr::PAGE_SIZE;
use mm::fallible::TryDeque;
use mm::{Folio, Gfp, IovIter, Order};

/// A piece of a page, and how it may be used.
#[derive(Clone)]
pub struct PipeBuffer {
    /// The page.
    pub page: Folio,
    /// First byte.
    pub offset: usize,
    /// How many.
    pub len: usize,
    /// A packet of its own: what a read does not take is lost.
    pub packet: bool,
    /// Later writes may be appended: the page belongs to the pipe.
    pub can_merge: bool,
}

/// The buffers in order, under the pipe's lock.
pub(super) struct Ring {
    pub(super) bufs: VecDeque<PipeBuffer>,
    /// How many there may be.
    pub(super) slots: usize,
    /// A page that a reader has emptied, for the next writer.
    pub(super) spare: Option<Folio>,
}

/// What a reader got.
pub(super) struct Taken {
    pub(super) bytes: usize,
    pub(super) buffers: usize,
    pub(super) faulted: bool,
}

/// Moves data from the ring into `iter`.
pub(super) fn take(ring: &mut Ring, iter: &mut IovIter<'_>) -> Taken {
    let mut taken = Taken { bytes: 0, buffers: 0, faulted: false };
    while let Some(front) = ring.bufs.front_mut() {
        let want = front.len.min(iter.count());
        let moved = iter.copy_folio_to_iter(&front.page, front.offset, want);
        front.offset += moved;
        front.len -= moved;
        taken.bytes += moved;
        let packet = front.packet;
        if front.len == 0 || packet && moved == want {
            taken.buffers += 1;
            // A page that `tee` or `splice` gave to somebody else as well is not ours to write to.
            if let Some(used) = ring.bufs.pop_front()
                && used.can_merge
                && used.page.refcount() == 1
            {
                ring.spare = Some(used.page);
            }
        }
        if moved < want {
            taken.faulted = true;
            break;
        }
        if packet || iter.is_empty() {
            break;
        }
    }
    taken
}

/// What a writer left.
pub(super) struct Put {
    pub(super) bytes: usize,
    pub(super) error: Option<Errno>,
}

/// Moves data from `iter` into the ring as far as there is room.
pub(super) fn put(ring: &mut Ring, iter: &mut IovIter<'_>, packet: bool, may_merge: bool) -> Put {
    let mut put = Put { bytes: 0, error: None };
    let odd = iter.count() % PAGE_SIZE;
    if may_merge
        && !packet
        && odd > 0
        && let Some(last) = ring.bufs.back_mut()
        && last.can_merge
        && !last.packet
        && last.offset + last.len + odd <= PAGE_SIZE
    {
        let moved = iter.copy_folio_from_iter(&last.page, last.offset + last.len, odd);
        last.len += moved;
        put.bytes += moved;
        if moved < odd {
            put.error = Some(Errno::EFAULT);
            return put;
        }
    }
    while !iter.is_empty() && ring.bufs.len() < ring.slots {
        let page = match ring.spare.take() {
            Some(page) => page,
            None => match Folio::alloc(Gfp::USER, Order::ZERO) {
                Ok(page) => page,
                Err(_) => {
                    put.error = Some(Errno::ENOMEM);
                    return put;
                }
            },
        };
        let want = iter.count().min(PAGE_SIZE);
        let moved = iter.copy_folio_from_iter(&page, 0, want);
        if moved == 0 {
            ring.spare = Some(page);
            put.error = Some(Errno::EFAULT);
            return put;
        }
        // Room for `slots` buffers was reserved with the ring.
        ring.bufs.push_back_reserved(PipeBuffer { page, offset: 0, len: moved, packet, can_merge: !packet });
        put.bytes += moved;
        if moved < want {
            put.error = Some(Errno::EFAULT);
            return put;
        }
    }
    put
}
