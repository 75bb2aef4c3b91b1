//! What is known of where a file's blocks are: runs, in memory, so that reading again touches no tree (`extents_status.c` of Linux).
//!
//! The cache may forget. It must not say what is not so: who changes a file's tree holds `Node::tree` for writing, and takes out
//! what it changes ([`StatusCache::forget`]) before it lets go; who looks something up holds it for reading until what was
//! found is entered.

use arch::sync::SpinLock;
use mm::fallible::SortedMap;

use crate::map::{Mapped, State};

/// Runs that are remembered of a file; with more, all is forgotten.
const LIMIT: usize = 1024;

#[derive(Clone, Copy)]
struct Run {
    first: u32,
    state: State,
    start: u64,
}

/// Runs by their last block.
#[derive(Default)]
pub struct StatusCache(SpinLock<SortedMap<u32, Run>>);

impl StatusCache {
    /// What is known from `block` on.
    #[inline]
    pub fn get(&self, block: u32) -> Option<Mapped> {
        let runs = self.0.lock();
        let (last, run) = runs.range_from(&block).next()?;
        let skipped = block.checked_sub(run.first)?;
        let start = if run.state == State::Hole { 0 } else { run.start + u64::from(skipped) };
        Some(Mapped { start, len: last - block + 1, state: run.state })
    }

    /// Remembers that the blocks from `block` on are where `mapped` says. Without memory it is not remembered.
    pub fn insert(&self, block: u32, mapped: Mapped) {
        let Some(last) = mapped.len.checked_sub(1).and_then(|more| block.checked_add(more)) else { return };
        let gone;
        {
            let mut runs = self.0.lock();
            gone = if runs.len() >= LIMIT { Some(core::mem::take(&mut *runs)) } else { None };
            Self::cut(&mut runs, block, last);
            let run = Run { first: block, state: mapped.state, start: mapped.start };
            let _ = runs.try_insert(last, run);
        }
        drop(gone);
    }

    /// Forgets `len` blocks from `block` on.
    pub fn forget(&self, block: u32, len: u32) {
        if let Some(last) = len.checked_sub(1).map(|more| block.saturating_add(more)) {
            Self::cut(&mut self.0.lock(), block, last);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let gone = core::mem::take(&mut *self.0.lock());
        drop(gone);
    }

    /// Takes what is between `first` and `last` out of all runs.
    fn cut(runs: &mut SortedMap<u32, Run>, first: u32, last: u32) {
        loop {
            let next = runs.range_from(&first).next().map(|(end, run)| (*end, *run));
            let Some((end, run)) = next.filter(|(_, run)| run.first <= last) else { break };
            runs.remove(&end);
            if run.first < first {
                // What is before it stays.
                let _ = runs.try_insert(first - 1, run);
            }
            if end > last {
                let skipped = u64::from(last - run.first) + 1;
                let start = if run.state == State::Hole { 0 } else { run.start + skipped };
                let _ = runs.try_insert(end, Run { first: last + 1, start, ..run });
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKS: u32 = 64;

    proptest! {
        /// Against one word per block.
        #[test]
        fn it_knows_what_it_was_told(steps in prop::collection::vec((0u8..4, 0..BLOCKS, 1u32..20), 1..80)) {
            let cache = StatusCache::default();
            let mut model = [None; 2 * BLOCKS as usize];
            for (at, (kind, block, len)) in steps.into_iter().enumerate() {
                let start = 1000 * (at as u64 + 1);
                let state = match kind {
                    0 => State::Hole,
                    1 => State::Written,
                    2 => State::Unwritten,
                    _ => {
                        cache.forget(block, len);
                        (block..block + len).for_each(|b| model[b as usize] = None);
                        continue;
                    }
                };
                let start = if state == State::Hole { 0 } else { start };
                cache.insert(block, Mapped { start, len, state });
                for (skipped, b) in (block..block + len).enumerate() {
                    let start = if state == State::Hole { 0 } else { start + skipped as u64 };
                    model[b as usize] = Some((start, state));
                }
                for block in 0..2 * BLOCKS {
                    let got = cache.get(block);
                    prop_assert_eq!(got.map(|m| (m.start, m.state)), model[block as usize]);
                    if let Some(got) = got {
                        for b in block..block + got.len {
                            prop_assert_eq!(model[b as usize].map(|m| m.1), Some(state_of(&model, block)));
                        }
                    }
                }
            }
        }
    }

    fn state_of(model: &[Option<(u64, State)>], block: u32) -> State {
        model[block as usize].unwrap().1
    }

    #[test]
    fn the_last_blocks() {
        let cache = StatusCache::default();
        cache.insert(u32::MAX - 1, Mapped { start: 5, len: 2, state: State::Written });
        assert_eq!(cache.get(u32::MAX), Some(Mapped { start: 6, len: 1, state: State::Written }));
        cache.insert(u32::MAX, Mapped { start: 5, len: 2, state: State::Written });
        cache.forget(u32::MAX, u32::MAX);
        assert_eq!(cache.get(u32::MAX), None);
    }
}
