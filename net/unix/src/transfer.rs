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
use socket::{
    Control, ControlList, Credentials, Kind, MessageFlags, Options, ProcessRef, Received, SendMessage,
};
use vfs::fasync::Band;
use vfs::file::File;
use vfs::path::LookupContext;

use crate::account::Charge;
use crate::address::Name;
use crate::endpoint::{Endpoint, State, wait_error};
use crate::gc::{self, InFlight};
use crate::queue::{Message, Queue};
use crate::urgent::Front;

/// Bytes of a stream that travel as one message.
const PIECE: usize = 32 * 1024;
/// Datagrams that may wait in one socket (`/proc/sys/net/unix/max_dgram_qlen`).
pub(crate) const MOST_DATAGRAMS: usize = 10;

/// What goes with the bytes of a send.
struct Sent {
    files: InFlight,
    ids: Credentials,
    process: Option<ProcessRef>,
}

impl Endpoint {
    pub(crate) fn send_stream(
        &self,
        iter: &mut IovIter<'_>,
        message: SendMessage,
        options: &Options,
    ) -> Result<usize> {
        let urgent = message.flags.contains(MessageFlags::OOB);
        if urgent && iter.is_empty() {
            return Err(Errno::EOPNOTSUPP);
        }
        if message.to.is_some() {
            let connected = matches!(self.inner.lock().state, State::Connected(_));
            return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let Sent { mut files, ids: sender, process } = self.split_control(message.control)?;
        let mut done = 0;
        let limit = options.send_buffer.load(Ordering::Relaxed) as usize;
        // Two pieces fit into the buffer, however small it is.
        let most = PIECE.min(limit / 2 - 64);
        loop {
            let peer = self.peer()?;
            let Some(peer) = peer.filter(|_| !self.write_shut.load(Ordering::Acquire)) else {
                return if done > 0 { Ok(done) } else { Err(Errno::EPIPE) };
            };
            if iter.is_empty() {
                return Ok(done);
            }
            if let Err(error) = self.wait_for_room(&peer, message.nonblock, options) {
                return if done > 0 { Ok(done) } else { Err(error) };
            }
            // The urgent byte is the last one, and a message of its own.
            let is_urgent = urgent && iter.count() == 1;
            let most = if is_urgent { 1 } else { most.min(iter.count() - usize::from(urgent)) };
            let data = match copy_in(iter, most) {
                Err(_) if done > 0 => return Ok(done),
                data => data?,
            };
            let count = data.len();
            let mut piece = Some(Message {
                read: 0,
                files: core::mem::take(&mut files),
                sender,
                process: process.clone().or_else(|| peer.wanted_process()),
                from: Name::Unnamed,
                stamp_ns: 0,
                charge: Some(self.account.charge(count)),
                data,
            });
            // What does not get in is dropped here, outside the lock.
            let queued = {
                let mut queue = peer.queue.lock();
                let queued = queue.push(&mut piece);
                if is_urgent && queued.is_ok() {
                    queue.mark_last();
                }
                queued
            };
            match queued {
                Ok(()) => {}
                Err(_) if done > 0 => return Ok(done),
                Err(Errno::ECONNRESET) => return Err(Errno::EPIPE),
                Err(error) => return Err(error),
            }
            done += count;
            let mut events = PollEvents::IN | PollEvents::RDNORM;
            if is_urgent {
                peer.signal_urgent();
                events |= PollEvents::PRI;
            }
            peer.readers.wake_up_poll(events);
            peer.fasync.kill(Band::In);
        }
    }

    /// Waits until this socket may send more, or cannot send to `peer` at all any more.
    fn wait_for_room(&self, peer: &Arc<Self>, nonblock: bool, options: &Options) -> Result<()> {
        let ready = || {
            let gone = peer.closed.load(Ordering::Acquire) || self.write_shut.load(Ordering::Acquire);
            (gone || self.account.has_room()).then_some(())
        };
        if ready().is_some() {
            return Ok(());
        }
        if nonblock {
            return Err(Errno::EAGAIN);
        }
        let how = Wait::INTERRUPTIBLE.until(options.send_deadline());
        self.account.room.wait(how, ready).map_err(wait_error)
    }

    /// The caller, if messages to this socket have to say which process sent them.
    fn wanted_process(&self) -> Option<ProcessRef> {
        if self.pass_process.load(Ordering::Relaxed) { socket::current_identity().process } else { None }
    }

    /// What a message carries, and who sends it: who the message says, or else the caller.
    fn split_control(&self, control: Vec<Control>) -> Result<Sent> {
        let mut files = Vec::new();
        let mut sender = None;
        let mut process = self.wanted_process();
        for item in control {
            match item {
                Control::Rights(rights) => files = rights,
                Control::Credentials(credentials) => sender = Some(credentials),
                Control::Process(named) => process = Some(named),
                Control::Time(..) => {}
            }
        }
        let ids = sender.unwrap_or_else(socket::current_credentials);
        Ok(Sent { files: InFlight::new(files)?, ids, process })
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
        self.wait_for_room(&peer, message.nonblock, options)?;
        let Sent { files, ids: sender, process } = self.split_control(message.control)?;
        let wanted = iter.count();
        let mut data = copy_in(iter, limit)?;
        let count = data.len();
        if count < wanted {
            return Err(Errno::EFAULT);
        }
        // What the receiver's filter does not let through is lost, and the sender does not hear of it.
        match peer.filter.keep(&data) {
            Some(keep) => data.truncate(keep),
            None => return Ok(count),
        }
        let from = self.inner.lock().name.clone();
        let process = process.or_else(|| peer.wanted_process());
        let charge = Some(self.account.charge(count));
        let stamp_ns = if peer.stamps.load(Ordering::Relaxed) { sched::time::realtime_ns() } else { 0 };
        let mut waiting = Some(Message { data, read: 0, files, sender, process, from, stamp_ns, charge });
        let refused = if self.kind == Kind::Dgram { Errno::ECONNREFUSED } else { Errno::EPIPE };
        let mut offer = || -> Option<Result<()>> {
            if peer.closed.load(Ordering::Acquire) {
                return Some(Err(refused));
            }
            if peer.is_full_for(self) {
                return None;
            }
            let pushed = peer.queue.lock().push(&mut waiting);
            Some(pushed.map_err(|error| if error == Errno::ECONNRESET { refused } else { error }))
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

    /// Waits until there is what `waits` looks for in the queue. `false`: the end of the stream.
    fn wait_for(&self, nonblock: bool, options: &Options, waits: impl Fn(&Queue) -> bool) -> Result<bool> {
        let ended = || {
            self.read_shut.load(Ordering::Acquire)
                || self.kind != Kind::Dgram && self.peer().is_ok_and(|peer| peer.is_none())
        };
        let waits = || waits(&self.queue.lock());
        let look = || {
            if waits() {
                return Some(true);
            }
            // Look at the end before the queue once more: a last message may have come in between.
            (ended() && !waits()).then_some(false)
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
            return self.receive_urgent(iter, flags, options);
        }
        if matches!(self.inner.lock().state, State::Idle | State::Listening { .. }) {
            return Err(Errno::EINVAL);
        }
        let nonblock = nonblock || flags.contains(MessageFlags::DONTWAIT);
        let low = options.receive_low.load(Ordering::Relaxed) as usize;
        let whole = flags.contains(MessageFlags::WAITALL);
        let target = if whole { iter.count() } else { low.min(iter.count()).max(1) };
        let mut taken = Taken::default();
        let mut chunk = Vec::new();
        let mut reading = self.reading.lock();
        while !iter.is_empty() {
            let step = if flags.contains(MessageFlags::PEEK) {
                self.peek_piece(iter, &mut taken, &mut chunk, options)
            } else {
                self.take_piece(iter, &mut taken, options)
            };
            match step {
                Ok(Step::More) => continue,
                Ok(Step::Done) => break,
                Ok(Step::Nothing) if taken.len >= target => break,
                Ok(Step::Nothing) => {}
                Err(_) if taken.len > 0 => break,
                Err(error) => return Err(error),
            }
            drop(reading);
            let found = if flags.contains(MessageFlags::PEEK) {
                let (skip, inline) = (options.peek_offset(), options.oob_inline());
                self.wait_for(nonblock, options, |queue| queue.shows_more_than(skip, inline))
            } else {
                self.wait_for(nonblock, options, |queue| !queue.is_empty())
            };
            reading = self.reading.lock();
            match found {
                Ok(true) => {}
                Ok(false) if taken.len == 0 && self.reset.swap(false, Ordering::AcqRel) => {
                    return Err(Errno::ECONNRESET);
                }
                Ok(false) => break,
                Err(_) if taken.len > 0 => break,
                Err(error) => return Err(error),
            }
        }
        drop(reading);
        let mut received = Received {
            len: taken.len,
            from: None,
            control: ControlList::new(),
            flags: MessageFlags::empty(),
        };
        if !taken.files.is_empty() {
            received.control.push(Control::Rights(taken.files));
        }
        if let Some((ids, process)) = taken.sender {
            pass_sender(&mut received, ids, process, options);
        }
        Ok(received)
    }

    /// Receives from the message at the front. The reader's mutex is held: the message is out of the queue meanwhile, so that
    /// its bytes are copied to the user once, under no spin lock.
    fn take_piece(&self, iter: &mut IovIter<'_>, taken: &mut Taken, options: &Options) -> Result<Step> {
        let mut dropped = [None, None];
        let held = {
            let mut queue = self.queue.lock();
            match queue.pass_marks(options.oob_inline(), taken.len > 0, &mut dropped) {
                Front::Mark => Err(Step::Done),
                Front::Empty => Err(Step::Nothing),
                Front::Ready => queue.hold().ok_or(Step::Nothing),
            }
        };
        drop(dropped);
        let mut message = match held {
            Ok(message) => message,
            Err(step) => return Ok(step),
        };
        if !taken.is_from(&message, options) {
            self.put_back(message, 0);
            return Ok(Step::Done);
        }
        let wanted = message.rest().len().min(iter.count());
        let copied = iter.copy_to_iter(message.rest().get(..wanted).unwrap_or_default());
        if copied == 0 {
            self.put_back(message, 0);
            return Err(Errno::EFAULT);
        }
        message.read += copied;
        taken.len += copied;
        taken.sender.get_or_insert_with(|| (message.sender, message.process.clone()));
        let files = core::mem::take(&mut message.files).take();
        // What carries files ends what is received with it.
        let carried = !files.is_empty();
        if carried {
            taken.files = files;
        }
        options.move_peek_offset(-(copied as isize));
        let partly = !message.rest().is_empty();
        self.put_back(message, copied);
        Ok(if partly || carried { Step::Done } else { Step::More })
    }

    /// Ends a hold. What is received wholly is dropped, and with it the sender's charge.
    fn put_back(&self, message: Message, count: usize) {
        let finished = self.queue.lock().put_back(message, count);
        drop(finished);
    }

    /// Copies what a reader would get, leaving it in the queue. The reader's mutex is held.
    fn peek_piece(
        &self,
        iter: &mut IovIter<'_>,
        taken: &mut Taken,
        chunk: &mut Vec<u8>,
        options: &Options,
    ) -> Result<Step> {
        chunk.clear();
        let mut files = Vec::new();
        // Without an offset that moves, the next piece begins after what was peeked at already.
        let skip = taken.peek_from.unwrap_or_else(|| options.peek_offset());
        {
            let queue = self.queue.lock();
            peek_into(&queue, skip, iter.count(), chunk, &mut files, taken, options)?;
        }
        if !files.is_empty() {
            gc::settle();
        }
        if chunk.is_empty() {
            return Ok(if taken.len > 0 { Step::Done } else { Step::Nothing });
        }
        let copied = iter.copy_to_iter(chunk);
        if copied == 0 {
            return Err(Errno::EFAULT);
        }
        taken.len += copied;
        taken.peek_from = Some(skip + copied);
        options.move_peek_offset(copied as isize);
        let carried = !files.is_empty();
        if carried {
            taken.files = files;
        }
        Ok(if carried || copied < chunk.len() { Step::Done } else { Step::More })
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
        let none =
            || Received { len: 0, from: None, control: ControlList::new(), flags: MessageFlags::empty() };
        let datagram = loop {
            let reading = self.reading.lock();
            let found = if peek { self.peek_datagram(options)? } else { self.take_datagram() };
            if let Some(datagram) = found {
                let size = datagram.rest().len();
                let moved = if peek { size.min(iter.count()) as isize } else { -(size as isize) };
                options.move_peek_offset(moved);
                break datagram;
            }
            drop(reading);
            let beyond = if peek { options.peek_offset() } else { 0 };
            let waits = |queue: &Queue| if beyond == 0 { !queue.is_empty() } else { queue.bytes() > beyond };
            if !self.wait_for(nonblock, options, waits)? {
                return Ok(none());
            }
        };
        if !peek {
            self.room.wake_up_poll(PollEvents::OUT | PollEvents::WRNORM);
        }
        let size = datagram.rest().len();
        let wanted = size.min(iter.count());
        if iter.copy_to_iter(datagram.rest().get(..wanted).unwrap_or_default()) < wanted {
            return Err(Errno::EFAULT);
        }
        let Datagram { files, ids, process, from, stamp_ns, .. } = datagram;
        let mut received = Received { len: wanted, ..none() };
        if from != Name::Unnamed {
            received.from = Some(from.to_addr()?);
        }
        if wanted < size {
            received.flags |= MessageFlags::TRUNC;
        }
        if flags.contains(MessageFlags::TRUNC) {
            received.len = size;
        }
        if let Some(option) = options.stamps.wanted() {
            // It was sent before anybody asked.
            let stamp_ns = if stamp_ns == 0 { sched::time::realtime_ns() } else { stamp_ns };
            received.control.push(Control::Time(option, stamp_ns));
            if let Some(option) = options.stamps.stamping_wanted() {
                received.control.push(Control::Time(option, stamp_ns));
            }
        }
        if !files.is_empty() {
            received.control.push(Control::Rights(files));
        }
        pass_sender(&mut received, ids, process, options);
        Ok(received)
    }

    /// Takes the oldest message.
    fn take_datagram(&self) -> Option<Datagram> {
        let Message { data, files, sender: ids, process, from, stamp_ns, charge, .. } =
            self.queue.lock().pop()?;
        Some(Datagram { data, skip: 0, files: files.take(), ids, process, from, stamp_ns, _charge: charge })
    }

    /// A copy of the message that the peek offset is in. The reader's mutex is held.
    fn peek_datagram(&self, options: &Options) -> Result<Option<Datagram>> {
        let mut skip = options.peek_offset();
        let copy = {
            let queue = self.queue.lock();
            let found = queue.iter().find(|message| {
                let passed = skip > 0 && skip >= message.data.len();
                if passed {
                    skip -= message.data.len();
                }
                !passed
            });
            let copy = |message: &Message| -> Result<Datagram> {
                Ok(Datagram {
                    data: try_to_vec(&message.data)?,
                    skip,
                    files: message.files.peek()?,
                    ids: message.sender,
                    process: message.process.clone(),
                    from: message.from.clone(),
                    stamp_ns: message.stamp_ns,
                    _charge: None,
                })
            };
            found.map(copy).transpose()?
        };
        if copy.as_ref().is_some_and(|copy| !copy.files.is_empty()) {
            gc::settle();
        }
        Ok(copy)
    }
}

/// A datagram that was received, or looked at.
struct Datagram {
    data: Vec<u8>,
    /// Where a peek begins.
    skip: usize,
    files: Vec<Arc<File>>,
    ids: Credentials,
    process: Option<ProcessRef>,
    from: Name,
    /// When it was sent, or 0.
    stamp_ns: u64,
    /// Given back once the data are with the user.
    _charge: Option<Charge>,
}

impl Datagram {
    /// The bytes to receive.
    fn rest(&self) -> &[u8] {
        self.data.get(self.skip..).unwrap_or_default()
    }
}

/// What a read of a stream has come to.
enum Step {
    /// There may be more to take at once.
    More,
    /// It ends here.
    Done,
    /// Nothing waits.
    Nothing,
}

/// What a read of a stream has taken.
#[derive(Default)]
struct Taken {
    len: usize,
    sender: Option<(Credentials, Option<ProcessRef>)>,
    files: Vec<Arc<File>>,
    /// Where the next peek of the same call begins.
    peek_from: Option<usize>,
}

impl Taken {
    /// Whether `message` may go together with what was taken: a reader who wants to know the sender gets one at a time.
    fn is_from(&self, message: &Message, options: &Options) -> bool {
        let wants =
            options.pass_credentials.load(Ordering::Relaxed) || options.pass_process.load(Ordering::Relaxed);
        !wants || self.sender.as_ref().is_none_or(|(sender, _)| *sender == message.sender)
    }
}

/// Copies what a stream's reader would get from `skip` on, over the bounds of messages, up to one that carries files.
fn peek_into(
    queue: &Queue,
    mut skip: usize,
    most: usize,
    chunk: &mut Vec<u8>,
    files: &mut Vec<Arc<File>>,
    taken: &mut Taken,
    options: &Options,
) -> Result<()> {
    let mut copied = taken.len > 0;
    let mut index = queue.peek_start(options.oob_inline());
    while let Some(message) = queue.messages.get(index) {
        let len = message.rest().len();
        // What was copied before in the same call ends where a message begins: there may be the mark.
        if skip >= len && (skip > 0 || !copied) {
            skip -= len;
            index += 1;
            continue;
        }
        if copied && skip == 0 {
            match queue.peek_next(index) {
                Some(next) if next == index => {}
                Some(next) => {
                    index = next;
                    continue;
                }
                None => break,
            }
        }
        let part = message.rest().get(skip..).unwrap_or_default();
        skip = 0;
        let room = most.min(PIECE) - chunk.len();
        if room == 0 || !taken.is_from(message, options) {
            break;
        }
        chunk.try_extend_from_slice(part.get(..room).unwrap_or(part))?;
        taken.sender.get_or_insert_with(|| (message.sender, message.process.clone()));
        *files = message.files.peek()?;
        if !files.is_empty() {
            break;
        }
        copied = true;
        index += 1;
    }
    Ok(())
}

/// Tells the receiver who sent, as far as it wants to know.
fn pass_sender(received: &mut Received, ids: Credentials, process: Option<ProcessRef>, options: &Options) {
    if options.pass_credentials.load(Ordering::Relaxed) {
        received.control.push(Control::Credentials(ids));
    }
    if let Some(process) = process.filter(|_| options.pass_process.load(Ordering::Relaxed)) {
        received.control.push(Control::Process(process));
    }
}

fn copy_in(iter: &mut IovIter<'_>, most: usize) -> Result<Vec<u8>> {
    let size = iter.count().min(most);
    let data = iter.read_to_vec(size)?;
    if data.len() < size && data.is_empty() { Err(Errno::EFAULT) } else { Ok(data) }
}
