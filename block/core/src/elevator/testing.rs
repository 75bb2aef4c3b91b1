//! Requests for tests of schedulers.

use collections::fifo::{Chained, Fifo};

use super::Elevator;
use crate::bio::{Bio, End, Op, OpFlags};
use crate::request::Request;

/// A bio of 8 sectors. It has no memory, which schedulers do not look at.
pub(crate) fn bio(op: Op, flags: OpFlags, sector: u64) -> Chained<Bio> {
    Bio::without_data(op, flags, sector, 8, End::Nobody).unwrap()
}

/// A request for a bio, that came at `now`.
pub(crate) fn request(slot: u32, bio: Chained<Bio>, now: u64) -> Chained<Request> {
    let mut request = Chained::try_new(Request::empty(slot)).unwrap();
    request.fill(bio, 1);
    request.queued_ns = now;
    request
}

pub(crate) fn insert(scheduler: &dyn Elevator, request: Chained<Request>) {
    let mut one = Fifo::new();
    one.push_back(request);
    scheduler.insert(&mut one);
    assert!(one.is_empty());
}

/// Up to `most` that go now.
pub(crate) fn going(scheduler: &dyn Elevator, hw: usize, most: usize, now: u64) -> Vec<Chained<Request>> {
    let mut out = Fifo::new();
    scheduler.dispatch(hw, &mut out, most, now);
    let gone: Vec<_> = core::iter::from_fn(|| out.pop_front())
        .map(|mut request| {
            request.issued_ns = now;
            request
        })
        .collect();
    assert!(gone.len() <= most);
    gone
}

/// The end of one.
pub(crate) fn end(mut request: Chained<Request>) {
    request.finish_bios(crate::Status::Ok);
}
