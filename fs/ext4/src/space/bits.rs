//! Bitmaps: on the device in bytes, in memory in words. Bit 0 of byte 0 is the first.

use core::ops::Range;

/// Whether a bit of a bitmap on the device is set. What is beyond the end is.
pub fn is_set(bytes: &[u8], bit: u32) -> bool {
    bytes.get(bit as usize / 8).is_none_or(|byte| byte & 1 << (bit % 8) != 0)
}

/// Sets or clears a range of a bitmap on the device; returns how many bits changed.
pub fn change(bytes: &mut [u8], range: Range<u32>, set: bool) -> u32 {
    let mut changed = 0;
    let mut bit = range.start;
    while bit < range.end {
        let Some(byte) = bytes.get_mut(bit as usize / 8) else { break };
        let count = (8 - bit % 8).min(range.end - bit);
        let mask = ((1u32 << count) - 1) << (bit % 8);
        let old = u32::from(*byte);
        let new = if set { old | mask } else { old & !mask };
        changed += (old ^ new).count_ones();
        *byte = new as u8;
        bit += count;
    }
    changed
}

/// The first bit that is not set, of those in `range`.
pub fn first_zero(bytes: &[u8], range: Range<u32>) -> Option<u32> {
    let mut bit = range.start;
    while bit < range.end {
        let byte = *bytes.get(bit as usize / 8)?;
        let ones = (byte >> (bit % 8)).trailing_ones();
        if ones < 8 - bit % 8 {
            let found = bit + ones;
            return (found < range.end).then_some(found);
        }
        bit = (bit / 8 + 1) * 8;
    }
    None
}

/// Bits that are not set, of the first `count`.
pub fn count_zeros(bytes: &[u8], count: u32) -> u32 {
    let whole = count as usize / 8;
    let zeros: u32 = bytes.iter().take(whole).map(|byte| byte.count_zeros()).sum();
    let rest = count % 8;
    let last = bytes.get(whole).map_or(0, |byte| (!u32::from(*byte) & ((1 << rest) - 1)).count_ones());
    zeros + last
}

/// A bitmap in memory.
pub struct Words<'a>(pub &'a mut [u64]);

impl Words<'_> {
    /// Sets or clears a range.
    pub fn change(&mut self, range: Range<u32>, set: bool) {
        let mut bit = range.start;
        while bit < range.end {
            let Some(word) = self.0.get_mut(bit as usize / 64) else { break };
            let count = (64 - bit % 64).min(range.end - bit);
            let mask = (u64::MAX >> (64 - count)) << (bit % 64);
            if set {
                *word |= mask;
            } else {
                *word &= !mask;
            }
            bit += count;
        }
    }
}

/// The first bit at `from` or behind it that is (not) set, or `end`.
pub fn next(words: &[u64], from: u32, end: u32, set: bool) -> u32 {
    let mut bit = from;
    while bit < end {
        let Some(word) = words.get(bit as usize / 64) else { return end };
        let word = (if set { *word } else { !*word }) >> (bit % 64);
        if word != 0 {
            return (bit + word.trailing_zeros()).min(end);
        }
        bit = (bit / 64 + 1) * 64;
    }
    end
}

/// The runs of bits that are not set, from `from` to `end`: start and length.
pub fn free_runs(words: &[u64], from: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
    let mut at = from;
    core::iter::from_fn(move || {
        let start = next(words, at, end, false);
        if start >= end {
            return None;
        }
        at = next(words, start, end, true);
        Some((start, at - start))
    })
}

/// The first bit of the run of bits that are not set which `bit` is in.
pub fn run_start(words: &[u64], bit: u32) -> u32 {
    let mut at = bit;
    loop {
        let Some(word) = words.get(at as usize / 64) else { return at };
        let shift = 63 - at % 64;
        // Bits at and below `at`, at the top.
        let zeros = (word << shift).leading_zeros();
        if zeros <= at % 64 {
            return at + 1 - zeros;
        }
        match (at / 64 * 64).checked_sub(1) {
            Some(before) => at = before,
            None => return 0,
        }
    }
}
