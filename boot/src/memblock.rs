//! The early allocator: which physical memory exists, and which of it is taken.
//!
//! Two sorted lists of disjoint ranges, memory and reserved. Free is what is in the first and not in the second.
//! Allocations are ranges added to `reserved`, from the top of memory downwards. It lives until `mm` takes the rest
//! over with [`Memblock::for_each_free`]; after that only the lists as such are of interest.
//!
//! Lock: [`with`] takes a spin lock that is a leaf; boot is single-threaded, the lock only makes it safe.

use arch::addr::{PAGE_SIZE, PhysAddr};
use sync::{Bare, SpinLock};

use crate::info::PhysRange;

/// The most ranges in a list.
const MAX: usize = 128;

/// A list overflowed or there is no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// A sorted list of disjoint ranges, neighbours merged.
#[derive(Debug)]
struct List {
    ranges: [PhysRange; MAX],
    len: usize,
}

impl List {
    const fn new() -> Self {
        Self { ranges: [PhysRange::new(0, 0); MAX], len: 0 }
    }

    fn as_slice(&self) -> &[PhysRange] {
        &self.ranges[..self.len]
    }

    /// Adds a range; overlaps and neighbours merge.
    fn add(&mut self, new: PhysRange) -> Result<(), Full> {
        if new.is_empty() {
            return Ok(());
        }
        let first = self.as_slice().partition_point(|r| r.end < new.start);
        let last = self.as_slice().partition_point(|r| r.start <= new.end);
        if first == last {
            if self.len == MAX {
                return Err(Full);
            }
            self.ranges.copy_within(first..self.len, first + 1);
            self.ranges[first] = new;
            self.len += 1;
            return Ok(());
        }
        let merged = PhysRange {
            start: new.start.min(self.ranges[first].start),
            end: new.end.max(self.ranges[last - 1].end),
        };
        self.ranges.copy_within(last..self.len, first + 1);
        self.ranges[first] = merged;
        self.len -= last - first - 1;
        Ok(())
    }

    /// Takes a range out; ranges that straddle it are cut.
    fn remove(&mut self, gone: PhysRange) -> Result<(), Full> {
        let mut i = 0;
        while i < self.len {
            let r = self.ranges[i];
            if r.end <= gone.start || gone.end <= r.start {
                i += 1;
                continue;
            }
            let (left, right) =
                (PhysRange { start: r.start, end: gone.start }, PhysRange { start: gone.end, end: r.end });
            match (r.start < gone.start, gone.end < r.end) {
                (true, true) => {
                    if self.len == MAX {
                        return Err(Full);
                    }
                    self.ranges.copy_within(i + 1..self.len, i + 2);
                    self.ranges[i] = left;
                    self.ranges[i + 1] = right;
                    self.len += 1;
                    return Ok(());
                }
                (true, false) => self.ranges[i] = left,
                (false, true) => self.ranges[i] = right,
                (false, false) => {
                    self.ranges.copy_within(i + 1..self.len, i);
                    self.len -= 1;
                    continue;
                }
            }
            i += 1;
        }
        Ok(())
    }
}

/// The two lists.
#[derive(Debug)]
pub struct Memblock {
    memory: List,
    reserved: List,
    limit: PhysAddr,
}

impl Memblock {
    /// No memory.
    pub const fn new() -> Self {
        Self { memory: List::new(), reserved: List::new(), limit: PhysAddr(u64::MAX) }
    }

    /// Declares RAM; partial pages at the ends are dropped.
    pub fn add_memory(&mut self, range: PhysRange) -> Result<(), Full> {
        let start = range.start.0.checked_next_multiple_of(PAGE_SIZE as u64).unwrap_or(u64::MAX);
        let end = range.end.align_down(PAGE_SIZE as u64);
        self.memory.add(PhysRange { start: PhysAddr(start), end })
    }

    /// Takes RAM away again (`mem=`, unusable holes).
    pub fn remove_memory(&mut self, range: PhysRange) -> Result<(), Full> {
        self.memory.remove(range)
    }

    /// Keeps only the first `total` bytes of RAM (`mem=`).
    pub fn limit_total(&mut self, total: u64) -> Result<(), Full> {
        let mut left = total;
        for range in self.memory() {
            if range.len() >= left {
                let end = (range.start + left).align_down(PAGE_SIZE as u64);
                return self.remove_memory(PhysRange { start: end, end: PhysAddr(u64::MAX) });
            }
            left -= range.len();
        }
        Ok(())
    }

    /// Declares a range taken, whether it is memory or not.
    pub fn reserve(&mut self, range: PhysRange) -> Result<(), Full> {
        self.reserved.add(range)
    }

    /// Gives a reserved range back.
    pub fn free(&mut self, range: PhysRange) -> Result<(), Full> {
        self.reserved.remove(range)
    }

    /// Allocations stay below this: while only part of the memory is mapped.
    pub fn set_limit(&mut self, limit: PhysAddr) {
        self.limit = limit;
    }

    /// Reserves `size` bytes as high as possible, zeroed by nobody.
    pub fn alloc(&mut self, size: u64, align: u64) -> Option<PhysAddr> {
        self.alloc_in(size, align, PhysRange { start: PhysAddr(PAGE_SIZE as u64), end: self.limit })
    }

    /// Reserves `size` bytes as high as possible within a window.
    pub fn alloc_in(&mut self, size: u64, align: u64, window: PhysRange) -> Option<PhysAddr> {
        let size = size.max(1);
        let mut found = None;
        self.for_each_free_rev(|free| {
            let start = free.start.max(window.start);
            let end = free.end.min(window.end).min(self.limit);
            if end <= start {
                return false;
            }
            let Some(candidate) = end.0.checked_sub(size).map(|a| a & !(align - 1)) else { return false };
            if candidate < start.0 {
                return false;
            }
            found = Some(PhysAddr(candidate));
            true
        });
        let at = found?;
        self.reserve(PhysRange::new(at.0, size)).ok()?;
        Some(at)
    }

    /// All RAM.
    pub fn memory(&self) -> &[PhysRange] {
        self.memory.as_slice()
    }

    /// All that is taken.
    pub fn reserved(&self) -> &[PhysRange] {
        self.reserved.as_slice()
    }

    /// One past the last byte of RAM.
    pub fn end_of_memory(&self) -> PhysAddr {
        self.memory().last().map_or(PhysAddr(0), |r| r.end)
    }

    /// Bytes of RAM.
    pub fn total(&self) -> u64 {
        self.memory().iter().map(PhysRange::len).sum()
    }

    /// Calls `f` with each free range, rounded inwards to pages, in ascending order.
    pub fn for_each_free(&self, mut f: impl FnMut(PhysRange)) {
        for memory in self.memory() {
            let mut start = memory.start;
            for r in self.reserved() {
                if r.end <= start {
                    continue;
                }
                if r.start >= memory.end {
                    break;
                }
                emit(start, r.start, &mut f);
                start = r.end;
            }
            emit(start, memory.end, &mut f);
        }
    }

    /// Calls `f` with each free range in descending order until it returns true.
    fn for_each_free_rev(&self, mut f: impl FnMut(PhysRange) -> bool) {
        for memory in self.memory().iter().rev() {
            let mut end = memory.end;
            for r in self.reserved().iter().rev() {
                if r.start >= end {
                    continue;
                }
                if r.end <= memory.start {
                    break;
                }
                if r.end < end && f(PhysRange { start: r.end.max(memory.start), end }) {
                    return;
                }
                end = r.start;
            }
            if memory.start < end && f(PhysRange { start: memory.start, end }) {
                return;
            }
        }
    }
}

impl Default for Memblock {
    fn default() -> Self {
        Self::new()
    }
}

fn emit(start: PhysAddr, end: PhysAddr, f: &mut impl FnMut(PhysRange)) {
    let range = PhysRange { start: start.align_up(PAGE_SIZE as u64), end: end.align_down(PAGE_SIZE as u64) };
    if !range.is_empty() {
        f(range);
    }
}

/// A size with a suffix K, M, G or T, as Linux's boot parameters have it; decimal or, with `0x`, hexadecimal.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    let (number, shift) = match digits.as_bytes().last()? {
        b'K' | b'k' => (&digits[..digits.len() - 1], 10),
        b'M' | b'm' => (&digits[..digits.len() - 1], 20),
        b'G' | b'g' => (&digits[..digits.len() - 1], 30),
        b'T' | b't' => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    u64::from_str_radix(number, radix).ok()?.checked_mul(1 << shift)
}

static MEMBLOCK: SpinLock<Memblock, Bare> = SpinLock::new(Memblock::new());

/// The system's memblock.
pub fn with<R>(f: impl FnOnce(&mut Memblock) -> R) -> R {
    f(&mut MEMBLOCK.lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange { start: PhysAddr(start), end: PhysAddr(end) }
    }

    fn free(m: &Memblock) -> Vec<(u64, u64)> {
        let mut v = Vec::new();
        m.for_each_free(|r| v.push((r.start.0, r.end.0)));
        v
    }

    #[test]
    fn merges_and_cuts() {
        let mut m = Memblock::new();
        m.add_memory(range(0x1000, 0x9_fc00)).unwrap();
        m.add_memory(range(0x10_0000, 0x200_0000)).unwrap();
        m.reserve(range(0x20_0000, 0x40_0000)).unwrap();
        m.reserve(range(0x40_0000, 0x41_0000)).unwrap();
        m.reserve(range(0x3f_0000, 0x40_8000)).unwrap();
        assert_eq!(m.reserved().len(), 1);
        assert_eq!(free(&m), [(0x1000, 0x9_f000), (0x10_0000, 0x20_0000), (0x41_0000, 0x200_0000)]);
        m.free(range(0x30_0000, 0x30_1000)).unwrap();
        assert_eq!(m.reserved().len(), 2);
        m.remove_memory(range(0x100_0000, u64::MAX)).unwrap();
        assert_eq!(m.end_of_memory(), PhysAddr(0x100_0000));
    }

    #[test]
    fn allocates_from_the_top() {
        let mut m = Memblock::new();
        m.add_memory(range(0x10_0000, 0x40_0000)).unwrap();
        m.add_memory(range(0x1_0000_0000, 0x1_0010_0000)).unwrap();
        assert_eq!(m.alloc(0x1000, 0x1000), Some(PhysAddr(0x1_000f_f000)));
        m.set_limit(PhysAddr(0x1_0000_0000));
        assert_eq!(m.alloc(0x1000, 0x1000), Some(PhysAddr(0x3f_f000)));
        assert_eq!(m.alloc(0x1000, 0x20_0000), Some(PhysAddr(0x20_0000)));
        assert_eq!(m.alloc_in(0x1000, 0x1000, range(0, 0x11_0000)), Some(PhysAddr(0x10_f000)));
        assert_eq!(m.alloc(0x100_0000, 0x1000), None);
    }

    #[test]
    fn limits_the_total() {
        let mut m = Memblock::new();
        m.add_memory(range(0x1000, 0x5000)).unwrap();
        m.add_memory(range(0x10_0000, 0x20_0000)).unwrap();
        m.limit_total(0x6800).unwrap();
        assert_eq!(m.total(), 0x6000);
        m.limit_total(1 << 30).unwrap();
        assert_eq!(m.total(), 0x6000);
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64M"), Some(64 << 20));
        assert_eq!(parse_size("0x10k"), Some(16 << 10));
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(
            (parse_size(""), parse_size("M"), parse_size("12x"), parse_size("99999999999T")),
            (None, None, None, None)
        );
    }

    #[test]
    fn full_list_is_an_error() {
        let mut m = Memblock::new();
        let last = (0..=MAX as u64).map(|i| m.reserve(range(i * 0x2000, i * 0x2000 + 0x1000))).last();
        assert_eq!(last, Some(Err(Full)));
    }
}
