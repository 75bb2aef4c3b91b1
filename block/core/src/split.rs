//! Bios that are too big for a device are taken to pieces, and put together again at the end.

use alloc::sync::Arc;
use core::mem;

use abi::Result as AbiResult;
use arch::sync::SpinLockIrq;
use collections::fifo::{Chained, Fifo};
use mm::try_arc;

use crate::bio::{Bio, End, Status};
use crate::limits::Limits;

/// What the parts of a bio have in common.
pub struct Joint {
    state: SpinLockIrq<State>,
}

struct State {
    /// Parts that are not over yet.
    open: u32,
    /// Those that are, in no order.
    over: Fifo<Bio>,
    /// To whom the whole goes.
    end: End,
    /// The first failure.
    status: Status,
}

impl Joint {
    /// What a bio with this end, which is to lose a part, has in common with that part.
    pub(crate) fn of(end: &mut End) -> AbiResult<Arc<Self>> {
        if let End::Part(joint) = end {
            joint.state.lock().open += 1;
            return Ok(joint.clone());
        }
        let joint = try_arc(Self {
            state: SpinLockIrq::new(State {
                open: 2,
                over: Fifo::new(),
                end: End::Nobody,
                status: Status::Ok,
            }),
        })?;
        joint.state.lock().end = mem::replace(end, End::Part(joint.clone()));
        Ok(joint)
    }

    /// A part is over. With the last one the whole is given back.
    pub(crate) fn part_is_over(&self, part: Chained<Bio>) {
        let (mut parts, end, status) = {
            let mut state = self.state.lock();
            if state.status.is_ok() {
                state.status = part.status;
            }
            state.over.push_back(part);
            state.open -= 1;
            if state.open > 0 {
                return;
            }
            (mem::take(&mut state.over), mem::replace(&mut state.end, End::Nobody), state.status)
        };
        // From the last one, which is the bio that lost the others, to the first. Mostly they ended in their order.
        let Some(mut whole) = take_last(&mut parts, u64::MAX) else { return };
        while let Some(mut part) = take_last(&mut parts, whole.sector) {
            whole.rejoin(&mut part);
        }
        whole.set_end(end);
        Bio::finish(whole, status);
    }
}

/// Takes out the part that begins last, of those that begin before `before`.
fn take_last(parts: &mut Fifo<Bio>, before: u64) -> Option<Chained<Bio>> {
    let last = parts.iter().map(|part| part.sector).filter(|&sector| sector < before).max()?;
    let mut rest = Fifo::new();
    while let Some(part) = parts.pop_front() {
        if part.sector == last {
            rest.append(parts);
            *parts = rest;
            return Some(part);
        }
        rest.push_back(part);
    }
    *parts = rest;
    None
}

/// How many bytes of `bio` the device can do in one request, if it cannot do all: whole blocks of the device.
///
/// # Errors
/// [`Status::IoError`]: not even one block, since the memory is in too many pieces.
pub(crate) fn too_long(bio: &Bio, limits: &Limits) -> Result<Option<u64>, Status> {
    let most = limits.max_bytes(bio.op, bio.sector);
    if !bio.op.has_data() {
        return Ok((bio.len() > most).then_some(most));
    }
    let mut segments = Segments::new(limits);
    let mut done = 0;
    for segment in bio.segments() {
        let fits = segments.add(segment.phys(), segment.len(), most - done);
        done += u64::from(fits);
        if fits < segment.len() {
            break;
        }
    }
    if done >= bio.len() {
        return Ok(None);
    }
    let block = u64::from(limits.logical_block_size);
    match done / block * block {
        0 => Err(Status::IoError),
        done => Ok(Some(done)),
    }
}

/// Counts how many pieces a device sees in memory: adjacent ones are one, and one that is too long is several.
pub(crate) struct Segments<'a> {
    limits: &'a Limits,
    /// So far.
    pub count: u32,
    /// Where the last one ends, and its length.
    last: Option<(u64, u32)>,
}

impl<'a> Segments<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self { limits, count: 0, last: None }
    }

    /// Adds `len` bytes at `phys`, of which no more than `room` are wanted; how many of them can be had.
    pub(crate) fn add(&mut self, mut phys: u64, len: u32, room: u64) -> u32 {
        let mut left = room.min(u64::from(len)) as u32;
        let mut taken = 0;
        while left > 0 {
            let (open, gap) = match self.last {
                Some((end, len)) if end == phys => (self.limits.segment_room(phys, len), false),
                Some((end, _)) => (0, self.limits.is_gap(end, phys)),
                None => (0, false),
            };
            if gap {
                break;
            }
            let piece = if open > 0 {
                let piece = open.min(left);
                self.last = self.last.map(|(end, len)| (end + u64::from(piece), len + piece));
                piece
            } else {
                if self.count == u32::from(self.limits.max_segments) {
                    break;
                }
                let piece = self.limits.segment_room(phys, 0).min(left);
                self.count += 1;
                self.last = Some((phys + u64::from(piece), piece));
                piece
            };
            phys += u64::from(piece);
            taken += piece;
            left -= piece;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bio::{Op, OpFlags, SECTOR_SIZE};
    use crate::request::Request;
    use crate::testing::{Waiter, page};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Bytes of a bio, one after the other, by where they are in memory.
    fn addresses(bio: &Bio) -> Vec<u64> {
        bio.segments()
            .iter()
            .flat_map(|s| (0..u64::from(s.len())).step_by(512).map(|n| s.phys() + n))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn parts_fit_and_become_the_whole_again(
            parts in proptest::collection::vec((0usize..8, 1usize..9), 1..20),
            max_segments in 1u16..6, max_sectors in 1u32..40, boundary in 0u32..3, chunk in 0u32..20,
            order in any::<u64>(),
        ) {
            let limits = Limits {
                max_segments, max_sectors, chunk_sectors: chunk, seg_boundary_mask: (4096 << boundary) - 1,
                max_segment_size: 4096 << boundary, ..Limits::default()
            }.validated().unwrap();
            let waiter = Waiter::new();
            let mut bio = Bio::new(Op::Write, OpFlags::empty(), 1000, 1, waiter.end()).unwrap();
            for (offset, sectors) in parts {
                bio.push(&page(0), offset * 512, (sectors * 512).min(4096 - offset * 512)).unwrap();
            }
            let (all, segments, len) = (addresses(&bio), bio.segments().len(), bio.len());
            let mut pieces = Vec::new();
            while let Some(len) = too_long(&bio, &limits).unwrap() {
                prop_assert!(len < bio.len() && len.is_multiple_of(SECTOR_SIZE));
                pieces.push(bio.split(len).unwrap());
            }
            pieces.push(bio);
            let mut at = 1000;
            for piece in &pieces {
                prop_assert_eq!(piece.sector, at);
                at = piece.end_sector();
                prop_assert!(piece.len() <= limits.max_bytes(Op::Write, piece.sector));
            }
            prop_assert_eq!(pieces.iter().flat_map(|piece| addresses(piece)).collect::<Vec<_>>(), all.clone());
            // As a driver sees each.
            let mut random = crate::testing::Random(order | 1);
            let mut requests: Vec<_> = pieces
                .into_iter()
                .map(|piece| {
                    let mut count = Segments::new(&limits);
                    piece.segments().iter().for_each(|s| { count.add(s.phys(), s.len(), u64::MAX); });
                    let count = count.count;
                    let mut request = Request::empty(0);
                    request.fill(piece, count);
                    request
                })
                .collect();
            for request in &requests {
                let seen: Vec<_> = request.pieces(&limits).collect();
                prop_assert_eq!(seen.len(), request.max_pieces() as usize);
                prop_assert!(seen.len() <= usize::from(max_segments));
                prop_assert_eq!(seen.iter().map(|piece| u64::from(piece.1)).sum::<u64>(), u64::from(request.len()));
                for (phys, len) in seen {
                    prop_assert!(len <= limits.max_segment_size);
                    prop_assert_eq!(phys & !limits.seg_boundary_mask, (phys + u64::from(len) - 1) & !limits.seg_boundary_mask);
                }
            }
            // They end in any order; one may fail.
            let failing = random.below(2 * requests.len() as u64) as usize;
            let failed = failing < requests.len();
            let mut n = 0;
            while !requests.is_empty() {
                let mut request = requests.swap_remove(random.below(requests.len() as u64) as usize);
                request.finish_bios(if n == failing { Status::Medium } else { Status::Ok });
                n += 1;
            }
            let whole = waiter.take();
            prop_assert_eq!(whole.status, if failed { Status::Medium } else { Status::Ok });
            prop_assert_eq!((whole.sector, whole.len(), whole.segments().len()), (1000, len, segments));
            prop_assert_eq!(addresses(&whole), all);
            prop_assert_eq!(Arc::strong_count(&waiter), 1);
        }
    }
}
