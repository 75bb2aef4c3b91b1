//! The symbol table that the kernel carries for its own backtraces: function names by address, small, readable in place.
//!
//! xtask [`encode`]s it after linking and writes it into the space that the image reserves; the kernel reads it with
//! [`Table`] without allocating anything, because it does so when it is broken. A name is split into its path, of which
//! there are few, and its last part.
//!
//! Layout, all integers little-endian: magic, number of symbols `n`, number of paths `p`; `n` addresses (32 bits, relative to
//! the image, ascending); `n + 1` ends of last parts in the text; `p + 1` ends of paths; `n` path numbers (16 bits); the text:
//! all last parts, then all paths.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// "KSYM".
const MAGIC: u32 = 0x4d59_534b;
const HEADER: usize = 12;

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol<'a> {
    path: &'a str,
    last: &'a str,
    /// Where it begins, relative to the image.
    pub start: u32,
    /// Bytes to the next function.
    pub size: u32,
}

impl fmt::Display for Symbol<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)?;
        f.write_str(self.last)
    }
}

/// A table in its encoded form.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    bytes: &'a [u8],
    symbols: usize,
    paths: usize,
}

impl<'a> Table<'a> {
    /// `None` if there is no table in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if word(0)? != MAGIC {
            return None;
        }
        let table = Self { bytes, symbols: word(4)? as usize, paths: word(8)? as usize };
        (table.text_at()? <= bytes.len()).then_some(table)
    }

    /// How many functions it names.
    pub fn len(&self) -> usize {
        self.symbols
    }

    /// Whether it names none.
    pub fn is_empty(&self) -> bool {
        self.symbols == 0
    }

    fn text_at(&self) -> Option<usize> {
        let words = self.symbols.checked_mul(2)?.checked_add(self.paths)?.checked_add(2)?;
        HEADER.checked_add(words.checked_mul(4)?)?.checked_add(self.symbols.checked_mul(2)?)
    }

    /// A word of the arrays behind the header.
    fn word(&self, index: usize) -> Option<u32> {
        let at = HEADER + index * 4;
        Some(u32::from_le_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?))
    }

    fn text(&self, from: u32, to: u32) -> Option<&'a str> {
        let text = self.bytes.get(self.text_at()?..)?;
        core::str::from_utf8(text.get(from as usize..to as usize)?).ok()
    }

    /// The `i`th function by address.
    pub fn get(&self, i: usize) -> Option<Symbol<'a>> {
        if i >= self.symbols {
            return None;
        }
        let start = self.word(i)?;
        let end = if i + 1 < self.symbols { self.word(i + 1)? } else { start };
        let lasts = self.symbols;
        let last = self.text(self.word(lasts + i)?, self.word(lasts + i + 1)?)?;
        let paths = self.symbols * 2 + 1;
        let number_at = HEADER + (paths + self.paths + 1) * 4 + i * 2;
        let number =
            usize::from(u16::from_le_bytes(self.bytes.get(number_at..number_at + 2)?.try_into().ok()?));
        if number >= self.paths {
            return None;
        }
        let path = self.text(self.word(paths + number)?, self.word(paths + number + 1)?)?;
        Some(Symbol { path, last, start, size: end.saturating_sub(start) })
    }

    /// The function that an address, relative to the image, lies in.
    pub fn lookup(&self, address: u32) -> Option<Symbol<'a>> {
        let (mut low, mut high) = (0, self.symbols);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.word(middle)? <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.get(low.checked_sub(1)?)
    }
}

/// Splits a demangled name before its last part, generic arguments not counted.
fn split(name: &str) -> (&str, &str) {
    let mut depth = 0_usize;
    let mut at = 0;
    for (i, c) in name.char_indices() {
        match c {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' if !name[..i].ends_with('-') => depth = depth.saturating_sub(1),
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && name[i..].starts_with("::") => at = i + 2,
            _ => {}
        }
    }
    name.split_at(at)
}

/// Encodes functions (address relative to the image, demangled name) into at most `capacity` bytes. Names that are too
/// long are cut; functions that do not fit are left out, from the highest address. Returns also how many are in.
pub fn encode(functions: &[(u32, String)], capacity: usize) -> (Vec<u8>, usize) {
    let mut sorted: Vec<_> = functions.iter().map(|(address, name)| (*address, name.as_str())).collect();
    sorted.sort_unstable();
    sorted.dedup_by_key(|(address, _)| *address);
    loop {
        let table = encode_sorted(&sorted);
        if table.len() <= capacity || sorted.is_empty() {
            return (table, sorted.len());
        }
        let keep = sorted.len() * capacity / table.len();
        sorted.truncate(keep.min(sorted.len() - 1));
    }
}

/// The longest last part and path, in bytes.
const MAX_PART: usize = 96;

fn cut(part: &str) -> &str {
    let end = (0..=MAX_PART.min(part.len())).rev().find(|&i| part.is_char_boundary(i)).unwrap_or(0);
    &part[..end]
}

fn encode_sorted(sorted: &[(u32, &str)]) -> Vec<u8> {
    let mut numbers = BTreeMap::new();
    let mut paths = Vec::new();
    let mut lasts = String::new();
    let mut ends = Vec::from([0_u32]);
    let mut path_of = Vec::new();
    for (_, name) in sorted {
        let (path, last) = split(name);
        let next = numbers.len() as u16;
        let number = *numbers.entry(cut(path)).or_insert_with(|| {
            paths.push(cut(path));
            next
        });
        path_of.push(number);
        lasts.push_str(cut(last));
        ends.push(lasts.len() as u32);
    }
    let mut path_ends = Vec::from([lasts.len() as u32]);
    for path in paths.iter().copied() {
        lasts.push_str(path);
        path_ends.push(lasts.len() as u32);
    }
    let header = [MAGIC, sorted.len() as u32, paths.len() as u32];
    let addresses = sorted.iter().map(|(address, _)| *address);
    let mut out: Vec<u8> =
        header.into_iter().chain(addresses).chain(ends).chain(path_ends).flat_map(u32::to_le_bytes).collect();
    out.extend(path_of.into_iter().flat_map(u16::to_le_bytes));
    out.extend(lasts.into_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions() -> Vec<(u32, String)> {
        let names = [
            (0x2000, "kernel::exec::load"),
            (0x1000, "memcpy"),
            (0x2400, "<vfs::file::File as core::ops::drop::Drop>::drop"),
            (0x2100, "kernel::exec::map<alloc::vec::Vec<u8>, fn(u8) -> u8>"),
        ];
        names.map(|(at, name)| (at, name.to_owned())).to_vec()
    }

    #[test]
    fn finds_what_was_encoded() {
        let (bytes, n) = encode(&functions(), 4096);
        assert_eq!(n, 4);
        let table = Table::new(&bytes).unwrap();
        let name = |at| table.lookup(at).map(|s| (s.to_string(), s.start, s.size));
        assert_eq!(name(0xfff), None);
        assert_eq!(name(0x1000), Some(("memcpy".to_owned(), 0x1000, 0x1000)));
        assert_eq!(name(0x20ff), Some(("kernel::exec::load".to_owned(), 0x2000, 0x100)));
        assert_eq!(name(0x2100).unwrap().0, "kernel::exec::map<alloc::vec::Vec<u8>, fn(u8) -> u8>");
        assert_eq!(name(0xffff).unwrap().0, "<vfs::file::File as core::ops::drop::Drop>::drop");
    }

    #[test]
    fn splits_outside_of_brackets() {
        assert_eq!(split("a::b::c<d::e>"), ("a::b::", "c<d::e>"));
        assert_eq!(split("<a::B as c::D>::e::{closure#0}"), ("<a::B as c::D>::e::", "{closure#0}"));
        assert_eq!(split("start"), ("", "start"));
    }

    #[test]
    fn leaves_out_what_does_not_fit() {
        let many: Vec<_> = (0..1000).map(|i| (i * 16, format!("module::function_{i}"))).collect();
        let (bytes, n) = encode(&many, 5000);
        assert!(bytes.len() <= 5000 && n > 100);
        let table = Table::new(&bytes).unwrap();
        assert_eq!(table.lookup(17).unwrap().to_string(), "module::function_1");
    }

    #[test]
    fn nonsense_is_no_table() {
        assert!(Table::new(&[]).is_none());
        assert!(Table::new(&[0; 64]).is_none());
        let mut bytes = encode(&functions(), 4096).0;
        bytes[4..8].fill(0xff);
        assert!(Table::new(&bytes).is_none());
        // Truncated text: lookups fail, nothing panics.
        let (bytes, _) = encode(&functions(), 4096);
        let table = Table::new(&bytes[..bytes.len() - 60]).unwrap();
        (0..0x3000).step_by(64).for_each(|at| {
            let _ = table.lookup(at);
        });
    }
}
