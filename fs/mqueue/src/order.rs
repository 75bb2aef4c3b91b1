//! The order of messages: highest priority first, oldest first among equals.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its priority.
    pub priority: u32,
    /// Its text.
    pub text: Vec<u8>,
}

struct Entry {
    message: Message,
    number: u64,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |entry: &Self| (entry.message.priority, core::cmp::Reverse(entry.number));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

/// Memory for the messages of a queue.
#[derive(Default)]
pub(crate) struct Room(Vec<Entry>);

/// The messages of a queue.
#[derive(Default)]
pub(crate) struct Messages {
    heap: BinaryHeap<Entry>,
    next: u64,
    bytes: usize,
}

impl Messages {
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Bytes in all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether one more can be added without allocating.
    pub(crate) fn has_room(&self) -> bool {
        self.heap.len() < self.heap.capacity()
    }

    /// Memory for twice as many as there were when `len` was looked at.
    pub(crate) fn more_room(len: usize) -> abi::Result<Room> {
        Ok(Room(mm::fallible::try_with_capacity((len * 2).max(4))?))
    }

    /// Moves into `room` if that is larger; what is left over goes back to the caller, to be dropped without a lock.
    #[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
    pub(crate) fn move_to(&mut self, mut room: Room) -> Room {
        if room.0.capacity() <= self.heap.capacity() {
            return room;
        }
        let mut old = core::mem::take(&mut self.heap).into_vec();
        room.0.append(&mut old);
        self.heap = BinaryHeap::from(room.0);
        Room(old)
    }

    /// Adds a message; there is room.
    pub(crate) fn push(&mut self, message: Message) {
        self.bytes += message.text.len();
        let number = self.next;
        self.next += 1;
        self.heap.push(Entry { message, number });
    }

    /// Takes the first one out.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        let message = self.heap.pop()?.message;
        self.bytes -= message.text.len();
        Some(message)
    }
}
