//! Indirect descriptors: a table of pieces for each request. Those of split rings are linked, those of packed rings are not.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use abi::Result;
use mm::dma::{Coherent, Reach};
use mm::fallible::{try_into_boxed_slice, try_with_capacity};

use super::{Full, Piece, SMALL};

/// Larger tables, for all tokens together.
const LARGE: usize = 16;
/// Words of a descriptor.
const WORDS: usize = 2;

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// The second word of a descriptor: length, and of a split ring flags and the next one's number, of a packed ring token and flags.
pub(super) fn word(len: u32, low: u16, high: u16) -> u64 {
    u64::from(len) | u64::from(low) << 32 | u64::from(high) << 48
}

pub(super) struct Tables {
    small: Coherent<u64>,
    /// Entries of each small table.
    entries: usize,
    large: Option<Coherent<u64>>,
    large_entries: usize,
    /// Which large tables are in use.
    taken: AtomicU64,
    /// The large table of each token plus one.
    of: Box<[AtomicU8]>,
    packed: bool,
}

impl Tables {
    pub(super) fn new(tokens: u16, pieces: u16, packed: bool) -> Result<Self> {
        let (tokens, pieces) = (usize::from(tokens), usize::from(pieces));
        let entries = pieces.min(SMALL);
        let large =
            if pieces > SMALL { Some(Coherent::new(LARGE * pieces * WORDS, Reach::Full)?) } else { None };
        let mut of = try_with_capacity(tokens)?;
        of.extend((0..tokens).map(|_| AtomicU8::new(0)));
        Ok(Self {
            small: Coherent::new(tokens * entries * WORDS, Reach::Full)?,
            entries,
            large,
            large_entries: pieces,
            taken: AtomicU64::new(0),
            of: try_into_boxed_slice(of)?,
            packed,
        })
    }

    /// Writes the pieces of a request: where, and how many.
    pub(super) fn fill(
        &self,
        token: u16,
        at_most: usize,
        pieces: impl Iterator<Item = Piece>,
    ) -> core::result::Result<(u64, u32), Full> {
        let of = self.of.get(usize::from(token)).ok_or(Full)?;
        let (table, first, room) = if at_most <= self.entries {
            (&self.small, usize::from(token) * self.entries, self.entries)
        } else {
            let large = self.large.as_ref().filter(|_| at_most <= self.large_entries).ok_or(Full)?;
            let free = |taken: u64| (taken.trailing_ones() < LARGE as u32).then_some(taken | (taken + 1));
            let before =
                self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).map_err(|_| Full)?;
            let index = before.trailing_ones() as usize;
            of.store(index as u8 + 1, Ordering::Relaxed);
            (large, index * self.large_entries, self.large_entries)
        };
        let mut count = 0;
        let mut last = 0;
        for piece in pieces.take(room) {
            let at = (first + count) * WORDS;
            let flags = if piece.device_writes { WRITE } else { 0 };
            table.write(at, piece.address);
            if self.packed {
                last = word(piece.len, 0, flags);
                table.write(at + 1, last);
            } else {
                last = word(piece.len, flags, 0);
                // Linked to the one behind it, if there is one.
                table.write(at + 1, word(piece.len, flags | NEXT, count as u16 + 1));
            }
            count += 1;
        }
        if count == 0 {
            self.release(token);
            return Err(Full);
        }
        table.write((first + count - 1) * WORDS + 1, last);
        Ok((table.device_addr().0 + (first * WORDS * size_of::<u64>()) as u64, count as u32))
    }

    /// The request of a token is over.
    pub(super) fn release(&self, token: u16) {
        if let Some(of) = self.of.get(usize::from(token))
            && let Some(index) = of.swap(0, Ordering::Relaxed).checked_sub(1)
        {
            self.taken.fetch_and(!(1 << index), Ordering::AcqRel);
        }
    }
}
