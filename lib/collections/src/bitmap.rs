//! Bitmaps: free functions over `[u64]` (Linux's `find_bit` family) and a growable [`Bitmap`].
//!
//! Bit `n` lives in word `n / 64`, bit `n % 64`. Nothing here is atomic; the owner brings the lock.

use alloc::vec::Vec;

use crate::OutOfMemory;

/// Bits in one word.
pub const BITS_PER_WORD: usize = 64;

/// Number of words that hold `bits` bits.
pub const fn words_for(bits: usize) -> usize {
    bits.div_ceil(BITS_PER_WORD)
}

/// Whether bit `bit` is set; bits past the end are clear.
#[inline]
pub fn test_bit(words: &[u64], bit: usize) -> bool {
    words.get(bit / BITS_PER_WORD).is_some_and(|word| word >> (bit % BITS_PER_WORD) & 1 != 0)
}

/// Sets bit `bit` and returns its old value; a bit past the end stays clear.
#[inline]
pub fn set_bit(words: &mut [u64], bit: usize) -> bool {
    let mask = 1u64 << (bit % BITS_PER_WORD);
    match words.get_mut(bit / BITS_PER_WORD) {
        Some(word) => {
            let old = *word & mask != 0;
            *word |= mask;
            old
        }
        None => false,
    }
}

/// Clears bit `bit` and returns its old value.
#[inline]
pub fn clear_bit(words: &mut [u64], bit: usize) -> bool {
    let mask = 1u64 << (bit % BITS_PER_WORD);
    match words.get_mut(bit / BITS_PER_WORD) {
        Some(word) => {
            let old = *word & mask != 0;
            *word &= !mask;
            old
        }
        None => false,
    }
}

fn find_next(words: &[u64], from: usize, invert: u64) -> Option<usize> {
    let first = from / BITS_PER_WORD;
    let mut mask = !0u64 << (from % BITS_PER_WORD);
    for (index, word) in words.iter().enumerate().skip(first) {
        let hits = (word ^ invert) & mask;
        if hits != 0 {
            return Some(index * BITS_PER_WORD + hits.trailing_zeros() as usize);
        }
        mask = !0;
    }
    None
}

/// The first set bit at or after `from`.
#[inline]
pub fn find_next_set(words: &[u64], from: usize) -> Option<usize> {
    find_next(words, from, 0)
}

/// The first clear bit at or after `from` inside the slice.
#[inline]
pub fn find_next_zero(words: &[u64], from: usize) -> Option<usize> {
    find_next(words, from, !0)
}

/// The last set bit before `before`.
pub fn find_last_set(words: &[u64], before: usize) -> Option<usize> {
    let mut end = before.min(words.len() * BITS_PER_WORD);
    while end > 0 {
        let index = (end - 1) / BITS_PER_WORD;
        let used = end - index * BITS_PER_WORD;
        let mask = !0u64 >> (BITS_PER_WORD - used);
        let hits = words[index] & mask;
        if hits != 0 {
            return Some(index * BITS_PER_WORD + 63 - hits.leading_zeros() as usize);
        }
        end = index * BITS_PER_WORD;
    }
    None
}

/// How many bits are set.
pub fn weight(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

/// A bitmap that grows by whole words; bits past its length read as clear.
#[derive(Debug, Default, Clone)]
pub struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// An empty bitmap.
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// Makes room for `bits` bits, all clear where new.
    pub fn try_grow(&mut self, bits: usize) -> Result<(), OutOfMemory> {
        let words = words_for(bits);
        if words > self.words.len() {
            self.words.try_reserve(words - self.words.len()).map_err(|_| OutOfMemory)?;
            self.words.resize(words, 0);
        }
        Ok(())
    }

    /// Number of bits that have room.
    pub fn capacity(&self) -> usize {
        self.words.len() * BITS_PER_WORD
    }

    /// Whether bit `bit` is set.
    #[inline]
    pub fn test(&self, bit: usize) -> bool {
        test_bit(&self.words, bit)
    }

    /// Sets a bit (growing as needed); returns its old value.
    pub fn set(&mut self, bit: usize) -> Result<bool, OutOfMemory> {
        self.try_grow(bit.checked_add(1).ok_or(OutOfMemory)?)?;
        Ok(set_bit(&mut self.words, bit))
    }

    /// Clears a bit; returns its old value.
    #[inline]
    pub fn clear(&mut self, bit: usize) -> bool {
        clear_bit(&mut self.words, bit)
    }

    /// The first set bit at or after `from`.
    #[inline]
    pub fn next_set(&self, from: usize) -> Option<usize> {
        find_next_set(&self.words, from)
    }

    /// The first clear bit at or after `from`; it may lie past [`Bitmap::capacity`].
    #[inline]
    pub fn next_zero(&self, from: usize) -> usize {
        find_next_zero(&self.words, from).unwrap_or(from.max(self.capacity()))
    }

    /// The words, lowest bits first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_bits_like_a_linear_scan() {
        let mut map = Bitmap::new();
        for bit in [0, 1, 63, 64, 130, 200] {
            assert!(!map.set(bit).unwrap());
        }
        for from in 0..260 {
            let linear = (from..260).find(|&b| map.test(b));
            assert_eq!(map.next_set(from), linear);
            let zero = (from..).find(|&b| !map.test(b)).unwrap();
            assert_eq!(map.next_zero(from), zero);
            assert_eq!(find_last_set(map.words(), from), (0..from).rev().find(|&b| map.test(b)));
        }
        assert_eq!(weight(map.words()), 6);
        assert!(map.clear(63));
        assert_eq!(map.next_zero(0), 2);
        assert_eq!(map.next_zero(63), 63);
    }
}
