//! Sending and receiving.
//!
//! A send copies the bytes into a message first, then queues it at the receiver under its queue
//! lock: user memory is never touched under a lock. A stream send is cut into pieces.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::IovIter;
use mm::fallible::{TryVec, try_to_vec};
use sched::wait::Wait;
use socket::{Control, ControlList, Credentials, Kind, MessageFlags, Options, Received, SendMessage};
use vfs::fasync::Band;
use vfs::file::File;
use vfs::path::LookupContext;

use crate::address::Name;
use crate::endpoint::{Endpoint, State, wait_error};
use crate::queue::{Message, Queue};

/// Bytes of a stream that travel as one message.
const PIECE: usize = 32 * 1024;
/// Datagrams that may wait in one socket (`/proc/sys/net/unix/max_dgram_qlen`).
const MOST_DATAGRAMS: usize = 10;

impl Endpoint {
    pub(crate) fn send_stream(
        &self,
        iter: &mut IovIter<'_>,
        message: SendMessage,
        options: &Options,
    ) -> Result<usize> {
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if message.to.is_some() {
            let connected = matches!(self.inner.lock().state, State::Connected(_));
            return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let (mut files, sender) = split_control(message.control);
        let mut done = 0;
        let limit = options.send_buffer.load(Ordering::Relaxed) as usize;
        loop {
            let peer = self.peer()?;
            let Some(peer) = peer.filter(|_| !self.write_shut.load(Ordering::Acquire)) else {
                return if done > 0 { Ok(done) } else { Err(Errno::EPIPE) };
            };
            if iter.is_empty() {
                return Ok(done);
            }
            if let Err(error) = self.wait_for_room(&peer, limit, message.nonblock, options) {
                return if done > 0 { Ok(done) } else { Err(error) };
            }
            let data = copy_in(iter, PIECE)?;
            let count = data.len();
            let piece =
                Message { data, read: 0, files: core::mem::take(&mut files), sender, from: Name::Unnamed };
            // What does not get in is dropped here, outside the lock.
            let queued = peer.queue.lock().push(piece);
            match queued {
                Ok(()) => {}
                Err(_) if done > 0 => return Ok(done),
                Err((Errno::ECONNRESET, _)) => return Err(Errno::EPIPE),
                Err((error, _)) => return Err(error),
            }
            done += count;
            peer.readers.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
            peer.fasync.kill(Band::In);
        }
    }

    /// Waits until `peer` holds less than `limit` bytes, or cannot be sent to any more.
    fn wait_for_room(&self, peer: &Arc<Self>, limit: usize, nonblock: bool, options: &Options) -> Result<()> {
        let ready = || {
            let gone = peer.closed.load(Ordering::Acquire) || self.write_shut.load(Ordering::Acquire);
            (gone || peer.queue.lock().charge() < limit).then_some(())
        };
        if ready().is_some() {
            return Ok(());
        }
        if nonblock {
            return Err(Errno::EAGAIN);
        }
        let how = Wait::INTERRUPTIBLE.until(options.send_deadline());
        peer.room.wait(how, ready).map_err(wait_error)
    }

    pub(crate) fn send_datagram(
        &self,
        ctx: Option<&LookupContext<'_>>,
        iter: &mut IovIter<'_>,
        message: SendMessage,
        options: &Options,
    ) -> Result<usize> {
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.kind == Kind::Dgram {
            self.name_if_passing(options)?;
        }
        let peer = match (&message.to, ctx) {
            (Some(addr), Some(ctx)) if self.kind == Kind::Dgram => {
                let name = Name::parse(addr)?;
                match self.connected_to(&name) {
                    Some(peer) => peer,
                    None => Self::find(ctx, self.kind, &name)?,
                }
            }
            // A sequenced-packet socket is connected; what address comes with a message does not matter.
            _ => {
                let gone = if self.kind == Kind::Dgram { Errno::ECONNREFUSED } else { Errno::EPIPE };
                self.peer()?.ok_or(gone)?
            }
        };
        if peer.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if self.kind == Kind::Dgram && !peer.accepts_from(self) {
            return Err(Errno::EPERM);
        }
        if self.write_shut.load(Ordering::Acquire) || peer.read_shut.load(Ordering::Acquire) {
            return Err(Errno::EPIPE);
        }
        let limit = options.send_buffer.load(Ordering::Relaxed) as usize;
        if iter.count() > limit.saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        let (files, sender) = split_control(message.control);
        let wanted = iter.count();
        let data = copy_in(iter, limit)?;
        let count = data.len();
        if count < wanted {
            return Err(Errno::EFAULT);
        }
        let from = self.inner.lock().name.clone();
        let mut waiting = Some(Message { data, read: 0, files, sender, from });
        let refused = if self.kind == Kind::Dgram { Errno::ECONNREFUSED } else { Errno::EPIPE };
        let mut offer = || -> Option<Result<()>> {
            if peer.closed.load(Ordering::Acquire) {
                return Some(Err(refused));
            }
            let mut queue = peer.queue.lock();
            // One message always fits, whatever its size.
            if queue.len() > MOST_DATAGRAMS || !queue.is_empty() && queue.charge() > limit {
                return None;
            }
            let result = queue.push(waiting.take()?);
            drop(queue);
            Some(result.map_err(|(error, message)| {
                waiting = Some(message);
                if error == Errno::ECONNRESET { refused } else { error }
            }))
        };
        match offer() {
            Some(result) => result?,
            None if message.nonblock => return Err(Errno::EAGAIN),
            None => {
                let how = Wait::INTERRUPTIBLE.until(options.send_deadline());
                peer.room.wait(how, offer).map_err(wait_error)??;
            }
        }
        peer.readers.wake_up_poll(PollEvents::IN | PollEvents::RDNORM);
        peer.fasync.kill(Band::In);
        Ok(count)
    }

    /// Waits for something to receive. `false`: the end of the stream.
    fn wait_for_message(&self, nonblock: bool, options: &Options) -> Result<bool> {
        let ended = || {
            self.read_shut.load(Ordering::Acquire)
                || self.kind != Kind::Dgram && self.peer().is_ok_and(|peer| peer.is_none())
        };
        let look = || {
            if !self.queue.lock().is_empty() {
                return Some(true);
            }
            // Look at the end before the queue once more: a last message may have come in between.
            (ended() && self.queue.lock().is_empty()).then_some(false)
        };
        match look() {
            Some(found) => Ok(found),
            None if nonblock => Err(Errno::EAGAIN),
            None => {
                let how = Wait::INTERRUPTIBLE.exclusive().until(options.receive_deadline());
                self.readers.wait(how, look).map_err(wait_error)
            }
        }
    }

    pub(crate) fn receive_stream(
        &self,
        iter: &mut IovIter<'_>,
        flags: MessageFlags,
        nonblock: bool,
        options: &Options,
    ) -> Result<Received> {
        if flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if matches!(self.inner.lock().state, State::Idle | State::Listening { .. }) {
            return Err(Errno::EINVAL);
        }
        let nonblock = nonblock || flags.contains(MessageFlags::DONTWAIT);
        let mut received =
            Received { len: 0, from: None, control: ControlList::new(), flags: MessageFlags::empty() };
        let mut sender: Option<Credentials> = None;
        let passes = options.pass_credentials.load(Ordering::Relaxed);
        let mut chunk = Vec::new();
        while !iter.is_empty() {
            let whole = flags.contains(MessageFlags::WAITALL);
            let more_wanted = received.len == 0 || whole;
            match self.wait_for_message(nonblock || !more_wanted, options) {
                Ok(true) => {}
                Ok(false) if received.len == 0 && self.reset.swap(false, Ordering::AcqRel) => {
                    return Err(Errno::ECONNRESET);
                }
                Ok(false) => break,
                Err(_) if received.len > 0 => break,
                Err(error) => return Err(error),
            }
            // Copied out under the lock into kernel memory, to the user after unlocking.
            let mut queue = self.queue.lock();
            let Some(front) = queue.front() else { continue };
            let other_sender = sender.is_some_and(|sender| passes && sender != front.sender);
            if received.len > 0 && (!front.files.is_empty() || other_sender) {
                break;
            }
            sender = Some(front.sender);
            chunk.clear();
            if flags.contains(MessageFlags::PEEK) {
                peek_into(&queue, iter.count(), &mut chunk)?;
            } else {
                let count = front.rest().len().min(iter.count()).min(PIECE);
                chunk.try_extend_from_slice(front.rest().get(..count).unwrap_or_default())?;
            }
            let count = chunk.len();
            let files = if flags.contains(MessageFlags::PEEK) {
                try_to_vec(&front.files)?
            } else {
                queue.take_files()
            };
            let finished = if flags.contains(MessageFlags::PEEK) { None } else { queue.consume(count) };
            drop(queue);
            drop(finished);
            let carried = !files.is_empty();
            if carried {
                received.control.push(Control::Rights(files));
            }
            let copied = iter.copy_to_iter(&chunk);
            received.len += copied;
            self.room.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM);
            if copied < count {
                return if received.len > 0 { Ok(received) } else { Err(Errno::EFAULT) };
            }
            if carried || flags.contains(MessageFlags::PEEK) {
                break;
            }
        }
        self.pass_credentials(&mut received, sender, options);
        Ok(received)
    }

    pub(crate) fn receive_datagram(
        &self,
        iter: &mut IovIter<'_>,
        flags: MessageFlags,
        nonblock: bool,
        options: &Options,
    ) -> Result<Received> {
        if flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.kind == Kind::Seqpacket && !matches!(self.inner.lock().state, State::Connected(_)) {
            return Err(Errno::ENOTCONN);
        }
        let nonblock = nonblock || flags.contains(MessageFlags::DONTWAIT);
        let peek = flags.contains(MessageFlags::PEEK);
        let message = loop {
            if !self.wait_for_message(nonblock, options)? {
                return Ok(Received {
                    len: 0,
                    from: None,
                    control: ControlList::new(),
                    flags: MessageFlags::empty(),
                });
            }
            let mut queue = self.queue.lock();
            let message = if peek { queue.front().map(copy_of).transpose()? } else { queue.pop() };
            if let Some(message) = message {
                break message;
            }
        };
        if !peek {
            self.room.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM);
        }
        let size = message.data.len();
        let wanted = size.min(iter.count());
        if iter.copy_to_iter(message.data.get(..wanted).unwrap_or_default()) < wanted {
            return Err(Errno::EFAULT);
        }
        let mut received = Received {
            len: wanted,
            from: match message.from {
                Name::Unnamed => None,
                ref name => Some(name.to_addr()?),
            },
            control: ControlList::new(),
            flags: MessageFlags::empty(),
        };
        if wanted < size {
            received.flags |= MessageFlags::TRUNC;
        }
        if flags.contains(MessageFlags::TRUNC) {
            received.len = size;
        }
        if !message.files.is_empty() {
            received.control.push(Control::Rights(message.files));
        }
        self.pass_credentials(&mut received, Some(message.sender), options);
        Ok(received)
    }

    fn pass_credentials(&self, received: &mut Received, sender: Option<Credentials>, options: &Options) {
        if let Some(sender) = sender
            && options.pass_credentials.load(Ordering::Relaxed)
        {
            received.control.push(Control::Credentials(sender));
        }
    }
}

/// Copies what a stream's reader would get, over the bounds of messages, up to one that carries files.
fn peek_into(queue: &Queue, most: usize, chunk: &mut Vec<u8>) -> Result<()> {
    for (index, message) in queue.iter().enumerate() {
        let room = most.min(PIECE) - chunk.len();
        if room == 0 || index > 0 && !message.files.is_empty() {
            break;
        }
        let part = message.rest();
        let part = part.get(..room.min(part.len())).unwrap_or_default();
        chunk.try_extend_from_slice(part)?;
        if index == 0 && !message.files.is_empty() {
            break;
        }
    }
    Ok(())
}

/// The files that travel, and who sends: what the message says, or else the caller.
fn split_control(control: Vec<Control>) -> (Vec<Arc<File>>, Credentials) {
    let mut files = Vec::new();
    let mut sender = None;
    for item in control {
        match item {
            Control::Rights(rights) => files = rights,
            Control::Credentials(credentials) => sender = Some(credentials),
        }
    }
    (files, sender.unwrap_or_else(socket::current_credentials))
}

fn copy_in(iter: &mut IovIter<'_>, most: usize) -> Result<Vec<u8>> {
    let size = iter.count().min(most);
    let data = iter.read_to_vec(size)?;
    if data.len() < size && data.is_empty() { Err(Errno::EFAULT) } else { Ok(data) }
}

fn copy_of(message: &Message) -> Result<Message> {
    Ok(Message {
        data: try_to_vec(&message.data)?,
        read: message.read,
        files: try_to_vec(&message.files)?,
        sender: message.sender,
        from: message.from.clone(),
    })
}
