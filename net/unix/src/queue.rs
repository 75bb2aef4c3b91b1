//! What waits in a socket to be received.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use abi::{Errno, Result};
use mm::OutOfMemory;
use mm::fallible::TryDeque;
use socket::{Credentials, ProcessRef};

use crate::account::Charge;
use crate::address::Name;
use crate::gc::InFlight;

/// One message, or a piece of a stream.
pub struct Message {
    /// Bytes; those before `read` were received already.
    pub data: Vec<u8>,
    /// How far a stream reader got.
    pub read: usize,
    /// Open files that travel with the first byte.
    pub files: InFlight,
    /// Who sent it.
    pub sender: Credentials,
    /// The process that sent it, if one of both ends wants it known.
    pub process: Option<ProcessRef>,
    /// The sender's name, for datagrams.
    pub from: Name,
    /// When it was sent, in nanoseconds of real time, if the receiver wanted that; 0.
    pub stamp_ns: u64,
    /// Held against the sender until this is dropped; `None` for a copy.
    pub charge: Option<Charge>,
}

impl Message {
    /// Bytes not yet received.
    pub fn rest(&self) -> &[u8] {
        self.data.get(self.read..).unwrap_or_default()
    }
}

/// The messages waiting in one socket.
#[derive(Default)]
pub struct Queue {
    pub(crate) messages: VecDeque<Message>,
    pub(crate) bytes: usize,
    /// How many messages ever left at the front: with it, a place in the queue has a number that stays.
    pub(crate) passed: u64,
    /// The number of the place of the urgent byte; see `urgent`.
    pub(crate) urgent: Option<u64>,
    /// A reader has taken the oldest message and may bring some of it back.
    held: bool,
    closed: bool,
}

impl Queue {
    /// Bytes waiting (`FIONREAD` of a stream).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.held
    }

    /// The oldest message.
    pub fn front(&self) -> Option<&Message> {
        self.messages.front()
    }

    /// The messages, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }

    /// Appends the message, which stays with the caller on an error: it must not be dropped under the queue's lock.
    ///
    /// # Errors
    /// `ECONNRESET` from a closed queue, `ENOMEM`.
    pub fn push(&mut self, message: &mut Option<Message>) -> Result<()> {
        if self.closed {
            return Err(Errno::ECONNRESET);
        }
        // The message that a reader holds has its place kept.
        self.messages.try_reserve(1 + usize::from(self.held)).map_err(OutOfMemory::from)?;
        if let Some(message) = message.take() {
            self.bytes += message.rest().len();
            self.messages.push_back_reserved(message);
        }
        Ok(())
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.passed += 1;
        self.bytes -= message.rest().len();
        Some(message)
    }

    /// Takes the oldest message of a stream, to be read outside of the queue's lock. It counts as waiting until
    /// [`Self::put_back`]. One reader at a time.
    pub fn hold(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.passed += 1;
        self.held = true;
        Some(message)
    }

    /// Ends a [`Self::hold`]: `count` bytes of the message were received. What is left waits on, at the front; a message
    /// with nothing left is for the caller to drop.
    pub fn put_back(&mut self, message: Message, count: usize) -> Option<Message> {
        self.held = false;
        self.bytes = self.bytes.saturating_sub(count);
        if self.closed || message.rest().is_empty() {
            return Some(message);
        }
        self.messages.push_front_reserved(message);
        self.passed -= 1;
        None
    }

    /// Takes everything, for the caller to drop outside its locks.
    pub fn take_all(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        self.urgent = None;
        core::mem::take(&mut self.messages)
    }

    /// Takes everything, for the caller to drop outside its locks, and accepts nothing more.
    pub fn close(&mut self) -> VecDeque<Message> {
        self.closed = true;
        self.take_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(data: &[u8]) -> Message {
        Message {
            data: data.to_vec(),
            read: 0,
            files: InFlight::default(),
            sender: Credentials::default(),
            process: None,
            from: Name::Unnamed,
            stamp_ns: 0,
            charge: None,
        }
    }

    #[test]
    fn counts_follow_the_messages() {
        let mut queue = Queue::default();
        assert!(queue.push(&mut Some(message(b"hello"))).is_ok());
        assert!(queue.push(&mut Some(message(b""))).is_ok());
        assert_eq!((queue.bytes(), queue.len()), (5, 2));
        let mut held = queue.hold().unwrap();
        assert!(queue.push(&mut Some(message(b"!"))).is_ok());
        held.read = 2;
        assert!(queue.put_back(held, 2).is_none());
        assert_eq!(queue.front().map(|m| m.rest().to_vec()), Some(b"llo".to_vec()));
        assert_eq!((queue.bytes(), queue.len()), (4, 3));
        let mut held = queue.hold().unwrap();
        held.read = 5;
        assert!(queue.put_back(held, 3).is_some());
        assert!(queue.pop().is_some() && queue.pop().is_some());
        assert_eq!(queue.bytes(), 0);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_a_reader_holds_counts_as_waiting() {
        let mut queue = Queue::default();
        assert!(queue.push(&mut Some(message(b"x"))).is_ok());
        let held = queue.hold().unwrap();
        assert!(!queue.is_empty());
        assert_eq!(queue.bytes(), 1);
        assert_eq!(queue.close().len(), 0);
        assert!(queue.put_back(held, 0).is_some());
        assert!(queue.is_empty());
    }

    #[test]
    fn nothing_enters_a_closed_queue() {
        let mut queue = Queue::default();
        assert!(queue.push(&mut Some(message(b"x"))).is_ok());
        assert_eq!(queue.close().len(), 1);
        assert_eq!(queue.push(&mut Some(message(b"y"))), Err(Errno::ECONNRESET));
        assert!(queue.is_empty());
    }
}
