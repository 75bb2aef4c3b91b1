//! What waits in a socket to be received.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use socket::Credentials;
use vfs::file::File;

use crate::address::Name;

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

/// The messages waiting in one socket.
#[derive(Default)]
pub struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
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
        self.messages.is_empty()
    }

    /// The oldest message.
    pub fn front(&self) -> Option<&Message> {
        self.messages.front()
    }

    /// Appends a message.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn push(&mut self, message: Message) -> Result<()> {
        self.messages.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.bytes += message.rest().len();
        self.messages.push_back(message);
        Ok(())
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.rest().len();
        Some(message)
    }

    /// Marks `count` bytes of the oldest message as received; a message with none left goes away.
    pub fn consume(&mut self, count: usize) -> Option<Message> {
        let front = self.messages.front_mut()?;
        let count = count.min(front.rest().len());
        front.read += count;
        self.bytes -= count;
        if front.rest().is_empty() { self.messages.pop_front() } else { None }
    }

    /// Takes the files of the oldest message.
    pub fn take_files(&mut self) -> Vec<Arc<File>> {
        self.messages.front_mut().map(|front| core::mem::take(&mut front.files)).unwrap_or_default()
    }

    /// Takes everything; for the caller to drop outside its locks.
    pub fn take_all(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        core::mem::take(&mut self.messages)
    }
}
