//! A message queue.
//!
//! Lock: one per queue, a leaf. Messages are allocated before it is taken and freed after it is released.

use crate::ipc::actor::LastPid;
use crate::ipc::ids::Object;
use crate::ipc::perm::Perm;
use crate::ipc::wake::Sleeper;
use abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::sync::{Preempt, SpinLock};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use mm::OutOfMemory;
use mm::fallible::{TryDeque, try_arc};
use sched::Task;
use sync::SpinLockGuard;

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, greater than 0.
    pub kind: i64,
    /// Its text.
    pub text: Vec<u8>,
}

/// Which message a receiver wants: the `msgtyp` of `msgrcv(2)` with its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The first.
    Any,
    /// The first of this type.
    Equal(i64),
    /// The first of another type (`MSG_EXCEPT`).
    NotEqual(i64),
    /// The first of the lowest type, if it is at most this.
    Lowest(i64),
    /// The one at this position (`MSG_COPY`).
    Position(i64),
}

impl Select {
    /// From the arguments of `msgrcv(2)`.
    pub fn new(kind: i64, except: bool) -> Self {
        match kind {
            0 => Self::Any,
            ..0 => Self::Lowest(kind.checked_neg().unwrap_or(i64::MAX)),
            _ if except => Self::NotEqual(kind),
            _ => Self::Equal(kind),
        }
    }

    /// Whether a receiver that waits takes a new message of type `kind`.
    fn accepts(self, kind: i64) -> bool {
        match self {
            Self::Any | Self::Position(_) => true,
            Self::Equal(wanted) => kind == wanted,
            Self::NotEqual(wanted) => kind != wanted,
            Self::Lowest(most) => kind <= most,
        }
    }

    /// Where in `messages` the wanted one is.
    pub fn find(self, messages: &VecDeque<Message>) -> Option<usize> {
        match self {
            Self::Position(at) => usize::try_from(at).ok().filter(|at| *at < messages.len()),
            Self::Lowest(most) => {
                let mut found: Option<(usize, i64)> = None;
                for (at, message) in messages.iter().enumerate() {
                    if message.kind <= most && found.is_none_or(|(_, kind)| message.kind < kind) {
                        found = Some((at, message.kind));
                        if message.kind == 1 {
                            break;
                        }
                    }
                }
                found.map(|(at, _)| at)
            }
            _ => messages.iter().position(|message| self.accepts(message.kind)),
        }
    }
}

/// Nobody has ended the wait yet.
const WAITING: i32 = 1;

/// Somebody who waits for a message.
pub struct Receiver {
    task: Arc<Task>,
    pid: Arc<crate::process::Pid>,
    select: Select,
    /// The longest text it takes.
    room: usize,
    /// [`WAITING`], 0 (the message is in `message`), or a negative error number; `EAGAIN`: look again.
    status: AtomicI32,
    message: SpinLock<Option<Message>>,
}

impl Sleeper for Receiver {
    fn task(&self) -> &Task {
        &self.task
    }
}

impl Receiver {
    /// A record for the running thread.
    pub fn new(
        task: Arc<Task>,
        pid: Arc<crate::process::Pid>,
        select: Select,
        room: usize,
    ) -> Result<Arc<Self>> {
        let status = AtomicI32::new(WAITING);
        Ok(try_arc(Self { task, pid, select, room, status, message: SpinLock::new(None) })?)
    }

    /// The result, once somebody has ended the wait.
    pub fn result(&self) -> Option<Result<Message>> {
        // Acquire pairs with the Release in `finish`.
        match self.status.load(Ordering::Acquire) {
            WAITING => None,
            0 => Some(self.message.lock().take().ok_or(Errno::EAGAIN)),
            error => Some(Err(Errno::new(-error).unwrap_or(Errno::EINVAL))),
        }
    }

    /// Whether somebody has ended the wait.
    pub fn is_done(&self) -> bool {
        self.status.load(Ordering::Acquire) != WAITING
    }

    fn finish(self: Arc<Self>, result: Result<Message>, receivers: &mut Receivers) {
        let status = match result {
            Ok(message) => {
                *self.message.lock() = Some(message);
                0
            }
            Err(error) => -error.code(),
        };
        self.status.store(status, Ordering::Release);
        receivers.add(self);
    }
}

/// Somebody who waits for room.
pub struct Sender {
    task: Arc<Task>,
    len: usize,
    /// Was taken out of the queue and told to look again.
    told: AtomicBool,
}

impl Sleeper for Sender {
    fn task(&self) -> &Task {
        &self.task
    }
}

impl Sender {
    /// A record for the running thread, which has a text of `len` bytes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(task: Arc<Task>, len: usize) -> Result<Arc<Self>> {
        Ok(try_arc(Self { task, len, told: AtomicBool::new(false) })?)
    }

    /// Whether it shall look again.
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    fn tell(self: Arc<Self>, senders: &mut Senders) {
        self.told.store(true, Ordering::Release);
        senders.add(self);
    }
}

/// Receivers to wake.
pub type Receivers = crate::ipc::wake::Batch<Receiver>;
/// Senders to wake.
pub type Senders = crate::ipc::wake::Batch<Sender>;

/// What the lock of a queue covers.
pub struct State {
    /// Oldest first.
    pub messages: VecDeque<Message>,
    /// Bytes in them.
    pub cbytes: usize,
    /// Most bytes, and most messages.
    pub qbytes: usize,
    /// Time of the last `msgsnd`.
    pub stime: i64,
    /// Time of the last `msgrcv`.
    pub rtime: i64,
    /// Time of the last change by `msgctl`.
    pub ctime: i64,
    /// Who sent last.
    pub lspid: LastPid,
    /// Who received last.
    pub lrpid: LastPid,
    receivers: VecDeque<Arc<Receiver>>,
    senders: VecDeque<Arc<Sender>>,
}

/// A message queue.
pub struct MsgQueue {
    perm: Perm,
    state: SpinLock<State>,
}

impl Object for MsgQueue {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

impl MsgQueue {
    /// An empty queue for up to `qbytes` bytes.
    pub fn new(perm: Perm, qbytes: usize) -> Self {
        Self {
            perm,
            state: SpinLock::new(State {
                messages: VecDeque::new(),
                cbytes: 0,
                qbytes,
                stime: 0,
                rtime: 0,
                ctime: crate::ipc::now(),
                lspid: LastPid::default(),
                lrpid: LastPid::default(),
                receivers: VecDeque::new(),
                senders: VecDeque::new(),
            }),
        }
    }

    /// Takes the lock.
    pub fn lock(&self) -> SpinLockGuard<'_, State, Preempt> {
        self.state.lock()
    }

    /// Takes the lock, with room in the array of messages for one more: it grows while the lock is not held.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn lock_with_room(&self) -> Result<SpinLockGuard<'_, State, Preempt>> {
        loop {
            let state = self.state.lock();
            let len = state.messages.len();
            if len < state.messages.capacity() {
                return Ok(state);
            }
            drop(state);
            let mut bigger = VecDeque::new();
            bigger.try_reserve_exact((len * 2).max(4)).map_err(|_| Errno::ENOMEM)?;
            let mut state = self.state.lock();
            if state.messages.capacity() < bigger.capacity() && state.messages.len() < bigger.capacity() {
                bigger.append(&mut state.messages);
                core::mem::swap(&mut state.messages, &mut bigger);
            }
            drop(state);
            // The old array goes here, without the lock.
            drop(bigger);
        }
    }

    /// Ends every wait with `EIDRM` and drops the messages.
    pub fn remove(&self) {
        let (mut receivers, mut senders) = (Receivers::new(), Senders::new());
        let mut state = self.lock();
        self.perm.mark_removed();
        state.tell_receivers(Errno::EIDRM, &mut receivers);
        while let Some(sender) = state.senders.pop_front() {
            sender.tell(&mut senders);
        }
        state.cbytes = 0;
        let messages = core::mem::take(&mut state.messages);
        drop(state);
        drop(messages);
    }
}

impl State {
    /// Whether a text of `len` bytes has room.
    pub fn fits(&self, len: usize) -> bool {
        self.cbytes.saturating_add(len) <= self.qbytes && self.messages.len() < self.qbytes
    }

    /// Gives the message to the first receiver that waits for such a one. A receiver for which it is too long hears that on the
    /// way. Gives the message back if nobody takes it.
    pub fn offer(&mut self, message: Message, batch: &mut Receivers) -> Option<Message> {
        let mut at = 0;
        while let Some(receiver) = self.receivers.get(at) {
            if !receiver.select.accepts(message.kind) {
                at += 1;
                continue;
            }
            let Some(receiver) = self.receivers.remove(at) else { break };
            if receiver.room < message.text.len() {
                receiver.finish(Err(Errno::E2BIG), batch);
                continue;
            }
            self.lrpid.set(&receiver.pid);
            self.rtime = crate::ipc::now();
            receiver.finish(Ok(message), batch);
            return None;
        }
        Some(message)
    }

    /// Puts a message at the end; there is room in the array.
    pub fn push(&mut self, message: Message) {
        self.cbytes += message.text.len();
        self.messages.push_back_reserved(message);
    }

    /// Takes a message out.
    pub fn take(&mut self, at: usize, batch: &mut Senders) -> Option<Message> {
        let message = self.messages.remove(at)?;
        self.cbytes -= message.text.len();
        self.tell_senders(batch);
        Some(message)
    }

    /// Tells those senders to look again whose messages would have room now.
    pub fn tell_senders(&mut self, batch: &mut Senders) {
        let mut at = 0;
        while let Some(sender) = self.senders.get(at) {
            if !self.fits(sender.len) {
                at += 1;
                continue;
            }
            let Some(sender) = self.senders.remove(at) else { break };
            sender.tell(batch);
        }
    }

    /// Ends the wait of every receiver with `error`.
    pub fn tell_receivers(&mut self, error: Errno, batch: &mut Receivers) {
        while let Some(receiver) = self.receivers.pop_front() {
            receiver.finish(Err(error), batch);
        }
    }

    /// Queues a receiver.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn enqueue_receiver(&mut self, receiver: &Arc<Receiver>) -> Result<()> {
        self.receivers.try_reserve(1).map_err(OutOfMemory::from)?;
        self.receivers.push_back_reserved(receiver.clone());
        Ok(())
    }

    /// Takes a receiver out that gives up.
    pub fn dequeue_receiver(&mut self, receiver: &Arc<Receiver>) {
        self.receivers.retain(|other| !Arc::ptr_eq(other, receiver));
    }

    /// Queues a sender.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn enqueue_sender(&mut self, sender: &Arc<Sender>) -> Result<()> {
        self.senders.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.senders.push_back_reserved(sender.clone());
        Ok(())
    }

    /// Takes a sender out that gives up.
    pub fn dequeue_sender(&mut self, sender: &Arc<Sender>) {
        self.senders.retain(|other| !Arc::ptr_eq(other, sender));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(kinds: &[i64]) -> VecDeque<Message> {
        kinds.iter().map(|kind| Message { kind: *kind, text: Vec::new() }).collect()
    }

    #[test]
    fn selection() {
        let messages = queue(&[3, 1, 2, 1]);
        assert_eq!(Select::new(0, false).find(&messages), Some(0));
        assert_eq!(Select::new(2, false).find(&messages), Some(2));
        assert_eq!(Select::new(3, true).find(&messages), Some(1));
        assert_eq!(Select::new(-3, false).find(&messages), Some(1));
        assert_eq!(Select::new(-1, false).find(&queue(&[3, 2])), None);
        assert_eq!(Select::new(-2, false).find(&queue(&[3, 2, 2])), Some(1));
        assert_eq!(Select::new(i64::MIN, false).find(&queue(&[9])), Some(0));
        assert_eq!(Select::Position(3).find(&messages), Some(3));
        assert_eq!(Select::Position(4).find(&messages), None);
        assert_eq!(Select::Position(-1).find(&messages), None);
    }
}
