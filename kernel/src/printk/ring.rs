//! The record ring behind the kernel log.
//!
//! Records lie one after another in a byte ring: a fixed header, then the text. A new record
//! overwrites the oldest ones it needs room from. Sequence numbers never repeat, so a reader that
//! was overtaken notices, and how far.

/// Where a record came from and how important it is: `facility << 3 | level`, as in `syslog(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority(pub u16);

impl Priority {
    /// A message of the kernel itself (facility 0).
    pub const fn kernel(level: u8) -> Self {
        Self((level & 7) as u16)
    }

    /// 0 (emergency) to 7 (debug).
    pub const fn level(self) -> u8 {
        (self.0 & 7) as u8
    }

    /// 0 for the kernel, 1 for user processes, …
    pub const fn facility(self) -> u16 {
        self.0 >> 3
    }
}

/// What is known about a record besides its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Counts records from 0.
    pub seq: u64,
    /// When it was written, in nanoseconds since boot.
    pub time_ns: u64,
    /// Facility and level.
    pub priority: Priority,
    /// Bytes of text.
    pub len: usize,
}

/// A reader's place: the next record it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    seq: u64,
    at: usize,
}

impl Cursor {
    /// The sequence number of the next record.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

const HEADER: usize = 20;

/// A log of the most recent records in `N` bytes.
pub struct Ring<const N: usize> {
    bytes: [u8; N],
    /// Byte positions grow without bound; `% N` finds their place.
    tail: usize,
    head: usize,
    first: u64,
    next: u64,
}

impl<const N: usize> Ring<N> {
    /// The longest text a record keeps; more is cut off.
    pub const LONGEST: usize = if N / 4 < 1024 { N / 4 } else { 1024 };

    /// A log without records.
    pub const fn new() -> Self {
        Self { bytes: [0; N], tail: 0, head: 0, first: 0, next: 0 }
    }

    /// Appends a record; the oldest make room. Returns its sequence number.
    pub fn push(&mut self, priority: Priority, time_ns: u64, text: &[u8]) -> u64 {
        let text = text.get(..Self::LONGEST).unwrap_or(text);
        while self.head + HEADER + text.len() - self.tail > N {
            self.drop_oldest();
        }
        let seq = self.next;
        self.put(&(text.len() as u16).to_ne_bytes());
        self.put(&priority.0.to_ne_bytes());
        self.put(&seq.to_ne_bytes());
        self.put(&time_ns.to_ne_bytes());
        self.put(text);
        self.next += 1;
        seq
    }

    /// The place of the oldest record.
    pub fn oldest(&self) -> Cursor {
        Cursor { seq: self.first, at: self.tail }
    }

    /// The place after the newest record.
    pub fn end(&self) -> Cursor {
        Cursor { seq: self.next, at: self.head }
    }

    /// How many records `cursor` lost to overwriting.
    pub fn lost(&self, cursor: Cursor) -> u64 {
        self.first.saturating_sub(cursor.seq)
    }

    /// Copies the record at `cursor` (or the oldest one left) to `text` and moves the cursor on.
    /// Returns `None` when there is no newer record. Text beyond the buffer's end is cut off.
    pub fn read(&self, cursor: &mut Cursor, text: &mut [u8]) -> Option<Header> {
        let header = self.peek(cursor)?;
        let start = cursor.at + HEADER;
        for (offset, slot) in text.iter_mut().take(header.len).enumerate() {
            *slot = self.bytes[(start + offset) % N];
        }
        cursor.at = start + header.len;
        cursor.seq = header.seq + 1;
        Some(header)
    }

    /// The record at `cursor` without its text; a cursor that was overtaken moves to the oldest.
    pub fn peek(&self, cursor: &mut Cursor) -> Option<Header> {
        if cursor.seq < self.first {
            *cursor = self.oldest();
        }
        (cursor.seq < self.next).then(|| self.header(cursor.at))
    }

    fn drop_oldest(&mut self) {
        let oldest = self.header(self.tail);
        self.tail += HEADER + oldest.len;
        self.first += 1;
    }

    fn header(&self, at: usize) -> Header {
        Header {
            len: u16::from_ne_bytes(self.get(at)) as usize,
            priority: Priority(u16::from_ne_bytes(self.get(at + 2))),
            seq: u64::from_ne_bytes(self.get(at + 4)),
            time_ns: u64::from_ne_bytes(self.get(at + 12)),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes[self.head % N] = byte;
            self.head += 1;
        }
    }

    fn get<const L: usize>(&self, at: usize) -> [u8; L] {
        core::array::from_fn(|offset| self.bytes[(at + offset) % N])
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn text<const N: usize>(ring: &Ring<N>, cursor: &mut Cursor) -> Option<(u64, Vec<u8>)> {
        let mut buffer = [0; 1024];
        let header = ring.read(cursor, &mut buffer)?;
        Some((header.seq, buffer[..header.len].to_vec()))
    }

    #[test]
    fn records_come_back_in_order() {
        let mut ring = Ring::<256>::new();
        let mut cursor = ring.oldest();
        ring.push(Priority::kernel(6), 5, b"one");
        ring.push(Priority::kernel(3), 6, b"");
        assert_eq!(text(&ring, &mut cursor), Some((0, b"one".to_vec())));
        assert_eq!(text(&ring, &mut cursor), Some((1, Vec::new())));
        assert_eq!(text(&ring, &mut cursor), None);
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_and_can_tell() {
        let mut ring = Ring::<256>::new();
        let mut cursor = ring.oldest();
        for n in 0..100u8 {
            ring.push(Priority::kernel(6), 0, &[n; 10]);
        }
        let lost = ring.lost(cursor);
        assert!(lost > 80);
        assert_eq!(text(&ring, &mut cursor), Some((lost, [lost as u8; 10].to_vec())));
    }

    #[test]
    fn overlong_text_is_cut() {
        let mut ring = Ring::<256>::new();
        let mut cursor = ring.oldest();
        ring.push(Priority::kernel(6), 0, &[b'x'; 5000]);
        assert_eq!(text(&ring, &mut cursor).map(|(_, text)| text.len()), Some(64));
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_queue_that_forgets(lengths in proptest::collection::vec(0usize..100, 1..200)) {
            let mut ring = Ring::<512>::new();
            let mut cursor = ring.oldest();
            for (seq, &len) in lengths.iter().enumerate() {
                let fill = seq as u8;
                ring.push(Priority::kernel(6), seq as u64, &alloc::vec![fill; len]);
                if seq % 3 == 0 {
                    let (got, body) = text(&ring, &mut cursor).unwrap();
                    proptest::prop_assert_eq!(body.len(), lengths[got as usize]);
                    proptest::prop_assert!(body.iter().all(|&b| b == got as u8));
                }
            }
        }
    }
}
