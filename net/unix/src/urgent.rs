//! The urgent byte of a stream: `MSG_OOB`, `SO_OOBINLINE`, `SIOCATMARK`.
//!
//! Its place in the stream is the *mark*. There is one urgent byte at a time: when the next one comes, the one before it becomes an ordinary
//! byte. It is a message of its own in the queue, so that ordinary reads, which end before the mark, see it: one that begins there
//! passes over it (it is lost then), or with `SO_OOBINLINE` reads it as an ordinary byte. Once it was received as urgent, an empty
//! message stays in its place until a read gets there: the mark still ends a read that comes from before it.
//!
//! Whoever owns the receiver's file (`F_SETOWN`) gets `SIGURG`, also before the byte can be received.
//!
//! Source: `send(2)`, `recv(2)`, `socket(7)`, `fcntl(2)`; for what they leave open, what Linux 6.12 does.

use abi::{Errno, Result};
use mm::IovIter;
use socket::{ControlList, MessageFlags, Options, Received};

use crate::endpoint::{Endpoint, State};
use crate::queue::{Message, Queue};

/// What a read of a stream finds at the front of the queue.
pub(crate) enum Front {
    /// A message to receive from.
    Ready,
    /// The mark: what was received so far is all.
    Mark,
    /// Nothing is waiting.
    Empty,
}

/// Messages that were taken out of the queue, to be dropped outside of its lock.
pub(crate) type Dropped = [Option<Message>; 2];

impl Queue {
    fn index_of_urgent(&self) -> Option<usize> {
        usize::try_from(self.urgent?.checked_sub(self.passed)?).ok()
    }

    /// Whether the message at `index` is the urgent byte.
    fn is_urgent(&self, index: usize) -> bool {
        self.urgent == Some(self.passed + index as u64)
    }

    /// Whether the message at `index` is what is left of an urgent byte that was received.
    fn is_consumed(&self, index: usize) -> bool {
        self.messages.get(index).is_some_and(|message| message.rest().is_empty())
    }

    /// Whether an urgent byte waits.
    pub(crate) fn has_urgent(&self) -> bool {
        self.urgent.is_some()
    }

    /// Makes the newest message, of one byte, the urgent one.
    pub(crate) fn mark_last(&mut self) {
        self.urgent = self.messages.len().checked_sub(1).map(|index| self.passed + index as u64);
    }

    /// Whether the next byte that is read is at the mark (`SIOCATMARK`).
    pub(crate) fn at_mark(&self) -> bool {
        self.is_urgent(0) || self.is_consumed(0) && (self.urgent.is_none() || self.is_urgent(1))
    }

    /// Prepares the front for a read that has `copied` something already: passes over marks.
    pub(crate) fn pass_marks(&mut self, inline: bool, copied: bool, dropped: &mut Dropped) -> Front {
        let [consumed, unread] = dropped;
        if self.is_consumed(0) {
            if copied && self.urgent.is_none() {
                return Front::Mark;
            }
            *consumed = self.pop();
        }
        if self.is_urgent(0) {
            if copied {
                return Front::Mark;
            }
            self.urgent = None;
            if !inline {
                *unread = self.pop();
            }
        }
        if self.messages.is_empty() { Front::Empty } else { Front::Ready }
    }

    /// Where a peek begins: the index of a message.
    pub(crate) fn peek_start(&self, inline: bool) -> usize {
        let index = usize::from(self.is_consumed(0));
        index + usize::from(self.is_urgent(index) && !inline)
    }

    /// Where a peek goes on that has copied something and comes to the message at `index`; `None`: it ends.
    pub(crate) fn peek_next(&self, index: usize) -> Option<usize> {
        let consumed = self.is_consumed(index);
        if consumed && self.urgent.is_none() {
            return None;
        }
        let index = index + usize::from(consumed);
        (!self.is_urgent(index)).then_some(index)
    }

    /// Whether there is more to peek at than `skip` bytes.
    pub(crate) fn shows_more_than(&self, skip: usize, inline: bool) -> bool {
        let start = self.peek_start(inline);
        let hidden: usize = self.messages.iter().take(start).map(|message| message.rest().len()).sum();
        self.bytes - hidden.min(self.bytes) > skip
    }

    /// Takes the urgent byte, or looks at it. `EINVAL`: there is none. An empty message before it goes too: one mark at a time.
    fn take_urgent(&mut self, peek: bool) -> Result<(u8, Option<Message>)> {
        let index = self.index_of_urgent().ok_or(Errno::EINVAL)?;
        let message = self.messages.get_mut(index).ok_or(Errno::EINVAL)?;
        let byte = *message.rest().first().ok_or(Errno::EINVAL)?;
        if peek {
            return Ok((byte, None));
        }
        message.read += 1;
        self.bytes = self.bytes.saturating_sub(1);
        self.urgent = None;
        let before = index.checked_sub(1).filter(|before| self.is_consumed(*before));
        Ok((byte, before.and_then(|before| self.messages.remove(before))))
    }
}

impl Endpoint {
    /// `recv(2)` with `MSG_OOB`, which never waits.
    ///
    /// # Errors
    /// `EINVAL`: not connected, no urgent byte, or it is received inline; `EFAULT`, and then the byte is gone.
    pub(crate) fn receive_urgent(
        &self,
        iter: &mut IovIter<'_>,
        flags: MessageFlags,
        options: &Options,
    ) -> Result<Received> {
        if matches!(self.inner.lock().state, State::Idle | State::Listening { .. }) {
            return Err(Errno::EINVAL);
        }
        // A reader may have the front in its hands: it comes first.
        let reading = self.reading.lock();
        if options.oob_inline() {
            return Err(Errno::EINVAL);
        }
        let taken = self.queue.lock().take_urgent(flags.contains(MessageFlags::PEEK));
        let (byte, old) = taken?;
        drop(old);
        let copied = iter.copy_to_iter(&[byte]);
        drop(reading);
        if copied == 0 {
            return Err(Errno::EFAULT);
        }
        Ok(Received { len: 1, from: None, control: ControlList::new(), flags: MessageFlags::OOB })
    }

    /// Tells the owner of the file that an urgent byte came.
    pub(crate) fn signal_urgent(&self) {
        let Some(file) = self.file.get().and_then(alloc::sync::Weak::upgrade) else { return };
        if file.signal_urgent() {
            self.fasync.kill_urgent();
        }
    }

    /// `SIOCATMARK`.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: there are no streams here.
    pub(crate) fn at_mark(&self) -> Result<bool> {
        if self.kind != socket::Kind::Stream {
            return Err(Errno::EOPNOTSUPP);
        }
        let reading = self.reading.lock();
        let at_mark = self.queue.lock().at_mark();
        drop(reading);
        Ok(at_mark)
    }
}
