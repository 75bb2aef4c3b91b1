//! Hashes of names in directories: the first one of ext3, half of MD4, and TEA, each with names as signed or as
//! unsigned characters (the first file systems were written on both kinds of machines).

use core::num::Wrapping as W;

/// Which hash, as in [`super::htree::RootInfo::hash_version`] and the super block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version {
    Legacy,
    HalfMd4,
    Tea,
    LegacyUnsigned,
    HalfMd4Unsigned,
    TeaUnsigned,
}

/// `hash_version` of SipHash, for directories whose names are encrypted and case-insensitive: not served.
pub const SIPHASH: u8 = 6;

/// The largest major hash that a position in a directory can have; a hash is never as large.
pub const EOF_32: u32 = i32::MAX as u32;

impl Version {
    /// From the number; none for hashes that are not served. `unsigned`: what the super block says of the first three.
    pub fn from_disk(number: u8, unsigned: bool) -> Option<Self> {
        Some(match (number, unsigned) {
            (0, false) => Self::Legacy,
            (1, false) => Self::HalfMd4,
            (2, false) => Self::Tea,
            (0 | 3, _) => Self::LegacyUnsigned,
            (1 | 4, _) => Self::HalfMd4Unsigned,
            (2 | 5, _) => Self::TeaUnsigned,
            _ => return None,
        })
    }

    /// The number that a new root has: always one of the first three, the super block says the rest.
    pub fn to_disk(self) -> u8 {
        match self {
            Self::Legacy | Self::LegacyUnsigned => 0,
            Self::HalfMd4 | Self::HalfMd4Unsigned => 1,
            Self::Tea | Self::TeaUnsigned => 2,
        }
    }

    fn is_unsigned(self) -> bool {
        matches!(self, Self::LegacyUnsigned | Self::HalfMd4Unsigned | Self::TeaUnsigned)
    }
}

/// A hash: the tree is ordered by `major` (bit 0 is never set), positions by both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Hash {
    pub major: u32,
    pub minor: u32,
}

/// The hash of `name`. A `seed` of zeros is none.
pub fn hash(name: &[u8], version: Version, seed: &[u32; 4]) -> Hash {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476].map(W);
    if seed.iter().any(|word| *word != 0) {
        state = seed.map(W);
    }
    let unsigned = version.is_unsigned();
    let (major, minor) = match version {
        Version::Legacy | Version::LegacyUnsigned => (legacy(name, unsigned), 0),
        Version::HalfMd4 | Version::HalfMd4Unsigned => {
            for_each_chunk::<8>(name, unsigned, |words| half_md4(&mut state, words));
            let [_, major, minor, _] = state;
            (major.0, minor.0)
        }
        Version::Tea | Version::TeaUnsigned => {
            for_each_chunk::<4>(name, unsigned, |words| tea(&mut state, words));
            let [major, minor, ..] = state;
            (major.0, minor.0)
        }
    };
    let major = major & !1;
    // The last hash is the position behind the last entry.
    Hash { major: if major == EOF_32 << 1 { (EOF_32 - 1) << 1 } else { major }, minor }
}

fn character(byte: u8, unsigned: bool) -> W<u32> {
    W(if unsigned { byte.into() } else { byte as i8 as u32 })
}

fn legacy(name: &[u8], unsigned: bool) -> u32 {
    let (mut now, mut before) = (W(0x12a3_fe2d), W(0x37ab_e8f9));
    for byte in name {
        let mut next: W<u32> = before + (now ^ (character(*byte, unsigned) * W(7_152_373)));
        if next.0 & 0x8000_0000 != 0 {
            next -= 0x7fff_ffff;
        }
        before = now;
        now = next;
    }
    now.0 << 1
}

/// Hands out the name in pieces of `N` words, the last one filled up with its length.
fn for_each_chunk<const N: usize>(name: &[u8], unsigned: bool, mut each: impl FnMut(&[W<u32>; N])) {
    let mut left = name.len();
    for chunk in name.chunks(4 * N) {
        let length = W(left as u32 & 0xff | (left as u32) << 8);
        let fill = length | length << 16;
        let mut words = [fill; N];
        for (word, bytes) in words.iter_mut().zip(chunk.chunks(4)) {
            *word = bytes.iter().fold(fill, |word, byte| character(*byte, unsigned) + (word << 8));
        }
        each(&words);
        left = left.saturating_sub(4 * N);
    }
}

/// Three rounds of MD4 over eight words (RFC 1320, with half of its steps).
fn half_md4(state: &mut [W<u32>; 4], words: &[W<u32>; 8]) {
    type Word = W<u32>;
    /// The words of a round, in order, and its rotations.
    type Round = ([usize; 8], [u32; 4], Word, fn(Word, Word, Word) -> Word);
    let rounds: [Round; 3] = [
        ([0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19], W(0), |x, y, z| z ^ (x & (y ^ z))),
        ([1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13], W(0x5a82_7999), |x, y, z| (x & y) + ((x ^ y) & z)),
        ([3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15], W(0x6ed9_eba1), |x, y, z| x ^ y ^ z),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (order, rotations, constant, mix) in rounds {
        for (step, index) in order.into_iter().enumerate() {
            let word = words.get(index).copied().unwrap_or_default();
            let rotation = rotations.get(step % 4).copied().unwrap_or_default();
            a += mix(b, c, d) + word + constant;
            a.0 = a.0.rotate_left(rotation);
            (a, b, c, d) = (d, a, b, c);
        }
    }
    for (word, change) in state.iter_mut().zip([a, b, c, d]) {
        *word += change;
    }
}

/// Sixteen rounds of the tiny encryption algorithm (Wheeler and Needham, 1994), with the name as the key.
fn tea(state: &mut [W<u32>; 4], key: &[W<u32>; 4]) {
    let [first, second, ..] = state;
    let (mut left, mut right) = (*first, *second);
    let [a, b, c, d] = *key;
    let mut sum = W(0);
    for _ in 0..16 {
        sum += 0x9e37_79b9;
        left += ((right << 4) + a) ^ (right + sum) ^ ((right >> 5) + b);
        right += ((left << 4) + c) ^ (left + sum) ^ ((left >> 5) + d);
    }
    *first += left;
    *second += right;
}
