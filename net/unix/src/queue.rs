//! What waits in a socket to be received.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Errno;
use socket::Credentials;
use vfs::file::File;

use crate::address::Name;
use mm::fallible::TryDeque;

/// One message, or a piece of a stream.
pub struct Message {
    /// Bytes; those before `read` were received already.
    pub data: Vec<u8>,
    /// How far a stream reader got.
    pub read: usize,
    /// Open files that travel with the first byte.
    pub files: Vec<Arc<File>>,
    /// Who sent it.
    pub sender: Credentials,
    /// The sender's name, for datagrams.
    pub from: Name,
}

impl Message {
    /// Bytes not yet received.
    pub fn rest(&self) -> &[u8] {
        self.data.get(self.read..).unwrap_or_default()
    }
}

/// What a message costs besides its bytes; keeps many small ones from filling memory.
const OVERHEAD: usize = 256;

/// The messages waiting in one socket.
#[derive(Default)]
pub struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    charge: usize,
    closed: bool,
}

fn charge_of(message: &Message) -> usize {
    message.data.len() + OVERHEAD * (1 + message.files.len())
}

impl Queue {
    /// Bytes waiting (`FIONREAD` of a stream).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory in use, to be held against the sender's buffer size.
    pub fn charge(&self) -> usize {
        self.charge
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The oldest message.
    pub fn front(&self) -> Option<&Message> {
        self.messages.front()
    }

    /// The messages, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }

    /// Appends a message; gives it back when the queue is closed or there is no memory.
    ///
    /// # Errors
    /// `ECONNRESET` from a closed queue, `ENOMEM`.
    pub fn push(&mut self, message: Message) -> core::result::Result<(), (Errno, Message)> {
        if self.closed {
            return Err((Errno::ECONNRESET, message));
        }
        if self.messages.try_reserve(1).is_err() {
            return Err((Errno::ENOMEM, message));
        }
        self.bytes += message.rest().len();
        self.charge += charge_of(&message);
        self.messages.push_back_reserved(message);
        Ok(())
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.rest().len();
        self.charge -= charge_of(&message);
        Some(message)
    }

    /// Marks `count` bytes of the oldest message as received; a message with none left goes away.
    pub fn consume(&mut self, count: usize) -> Option<Message> {
        let front = self.messages.front_mut()?;
        let count = count.min(front.rest().len());
        front.read += count;
        self.bytes -= count;
        if front.rest().is_empty() { self.pop() } else { None }
    }

    /// Takes the files of the oldest message.
    pub fn take_files(&mut self) -> Vec<Arc<File>> {
        let Some(front) = self.messages.front_mut() else { return Vec::new() };
        self.charge -= OVERHEAD * front.files.len();
        core::mem::take(&mut front.files)
    }

    /// Takes everything, for the caller to drop outside its locks, and accepts nothing more.
    pub fn close(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        self.charge = 0;
        self.closed = true;
        core::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(data: &[u8]) -> Message {
        let sender = Credentials::default();
        Message { data: data.to_vec(), read: 0, files: Vec::new(), sender, from: Name::Unnamed }
    }

    #[test]
    fn counts_follow_the_messages() {
        let mut queue = Queue::default();
        assert!(queue.push(message(b"hello")).is_ok());
        assert!(queue.push(message(b"")).is_ok());
        assert_eq!((queue.bytes(), queue.len()), (5, 2));
        assert!(queue.consume(2).is_none());
        assert_eq!(queue.front().map(|m| m.rest().to_vec()), Some(b"llo".to_vec()));
        assert!(queue.consume(100).is_some());
        assert_eq!((queue.bytes(), queue.len()), (0, 1));
        assert!(queue.pop().is_some());
        assert_eq!(queue.charge(), 0);
    }

    #[test]
    fn nothing_enters_a_closed_queue() {
        let mut queue = Queue::default();
        assert!(queue.push(message(b"x")).is_ok());
        assert_eq!(queue.close().len(), 1);
        assert_eq!(queue.push(message(b"y")).map_err(|(error, _)| error), Err(Errno::ECONNRESET));
        assert!(queue.is_empty());
    }
}
