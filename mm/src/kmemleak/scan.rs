//! Finding out what can be reached.
//!
//! The machine goes on meanwhile. A pointer that moves from what is not yet searched to what was may be missed: so only what two scans
//! missed, and did not change between them, is suspected.

use super::area::{self, Area, Plain};
use super::table::{self, place, reached, unreached};
use crate::{vmalloc, vmemmap};
use arch::addr::VirtAddr;
use core::ops::Range;
use sched::mutex::Mutex;
use sched::time::jiffies;

/// A block must have lived this long to be suspected.
const MIN_AGE: u64 = 5_000_000_000 / sched::time::TICK_NS;

/// A block as the search knows it.
#[derive(Clone, Copy)]
struct Known {
    start: usize,
    end: usize,
    /// Its place in the table.
    place: u32,
    found: bool,
}

// SAFETY: numbers and a flag, for which zero is a value.
unsafe impl Plain for Known {}

struct Search<'a> {
    /// In the order of their addresses.
    blocks: &'a mut [Known],
    /// Those that were found and not searched yet: indices of `blocks`.
    queue: &'a mut [u32],
    queued: usize,
    /// From the lowest to the highest address: most words are outside.
    bounds: Range<usize>,
}

impl Search<'_> {
    /// `word` may point into a block.
    fn word(&mut self, word: usize) {
        if !self.bounds.contains(&word) {
            return;
        }
        let after = self.blocks.partition_point(|block| block.start <= word);
        let Some(index) = after.checked_sub(1) else { return };
        let Some(block) = self.blocks.get_mut(index).filter(|block| word < block.end && !block.found) else {
            return;
        };
        block.found = true;
        if let Some(slot) = self.queue.get_mut(self.queued) {
            *slot = index as u32;
            self.queued += 1;
        }
    }

    /// A range of memory, part of which may be gone.
    fn range(&mut self, range: Range<usize>) {
        for addr in (range.start.next_multiple_of(8)..range.end & !7).step_by(8) {
            match arch::backtrace::load(addr) {
                Some(word) => self.word(word),
                None => return,
            }
        }
    }

    /// What is always there.
    fn roots(&mut self) {
        self.range(arch::layout::data());
        let (start, len) = arch::percpu::template();
        for cpu in arch::cpu::possible().iter() {
            let start = start.addr().wrapping_add(arch::percpu::offset_of(cpu));
            self.range(start..start + len);
        }
        let mut from = 0;
        loop {
            // Stacks, and whatever else is no block of the heap. Its list is not locked while one is searched.
            let mut next = None;
            vmalloc::for_each_area(&mut |VirtAddr(start), VirtAddr(end), kind| {
                let wanted = matches!(kind, vmalloc::AreaKind::Vmalloc);
                if wanted && start >= from && next.is_none() && !area::is_own(start) && !self.is_block(start)
                {
                    next = Some(start..end);
                }
            });
            let Some(range) = next else { break };
            from = range.end;
            self.range(range);
            sched::cond_resched();
        }
        for pfn in 0..vmemmap::end() {
            if let Some(page) = vmemmap::valid(arch::addr::Pfn(pfn.into())) {
                self.word(page.mapping());
            }
        }
    }

    /// Whether a block begins at `start`.
    fn is_block(&self, start: usize) -> bool {
        self.blocks.binary_search_by_key(&start, |block| block.start).is_ok()
    }

    /// All that can be reached from what was found.
    fn follow(&mut self) {
        while let Some(last) = self.queued.checked_sub(1) {
            self.queued = last;
            let index = self.queue.get(last).map_or(0, |index| *index as usize);
            let Some(block) = self.blocks.get(index).copied() else { continue };
            self.range(block.start..block.end);
            sched::cond_resched();
        }
    }
}

/// Searches all memory; how many blocks are suspected that were not before. `None`: it is switched off, or there is no memory.
pub fn scan() -> Option<usize> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock();
    // Some come while the room is made.
    let most = table::with(|table| table.used)? + 4096;
    let (mut blocks, mut queue) = (Area::<Known>::new(most)?, Area::<u32>::new(most)?);
    let blocks = blocks.slice();
    let mut count = 0;
    for index in 0..most {
        let Some(object) = place(index) else { continue };
        if let Some(slot) = blocks.get_mut(count) {
            *slot = Known { start: object.addr, end: object.end(), place: index as u32, found: false };
            count += 1;
        }
    }
    let blocks = blocks.get_mut(..count)?;
    blocks.sort_unstable_by_key(|block| block.start);
    let bounds = blocks.first()?.start..blocks.last()?.end;
    let mut search = Search { blocks, queue: queue.slice(), queued: 0, bounds };
    search.roots();
    search.follow();
    let mut suspects = 0;
    for block in search.blocks.iter() {
        let index = block.place as usize;
        if block.found {
            reached(index);
            continue;
        }
        let Some(object) = place(index).filter(|object| object.addr == block.start) else { continue };
        let crc = object.words().fold(0x811c_9dc5_u32, |sum, word| {
            (sum ^ word as u32 ^ (word >> 32) as u32).wrapping_mul(0x0100_0193)
        });
        let is_old = jiffies().saturating_sub(object.jiffies) >= MIN_AGE;
        suspects += usize::from(unreached(index, &object, crc.max(1), is_old));
    }
    if suspects > 0 {
        log::warn!("kmemleak: {suspects} new suspected memory leaks (see /sys/kernel/debug/kmemleak)");
    }
    Some(suspects)
}
