//! A queue: `mq_send(3)`, `mq_receive(3)`, `mq_notify(3)`.
//!
//! A message for which somebody waits goes straight to that receiver; the queue is empty then. A sender that waits for room leaves
//! its message with its record, and who takes a message puts the first such one into the queue.
//!
//! Lock: `state`, a leaf. Memory is set aside before it is taken. Sleepers and pollers are woken, and notifications sent, after it.

use alloc::sync::Arc;

use abi::ipc::MqAttr;
use abi::poll::PollEvents;
use abi::{Errno, Result};
use arch::sync::{Preempt, SpinLock};
use sched::hrtimer::Deadline;
use sched::wait::WaitQueue;
use sync::SpinLockGuard;

use crate::order::{Message, Messages};
use crate::sleeper::{Sleeper, Sleepers};

/// Who wants to know that a message has come to an empty queue: `mq_notify(2)`.
pub trait Notification: Send + Sync {
    /// A message has come; the registration is over.
    fn fire(&self);

    /// The registration was taken back.
    fn removed(&self) {}

    /// Whether the calling process registered.
    fn is_callers(&self) -> bool;

    /// What reading the queue's file shows of it.
    fn show(&self) -> NotifyInfo;
}

/// What reading a queue's file shows of a registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotifyInfo {
    /// `SIGEV_*`.
    pub notify: i32,
    /// The signal, or 0.
    pub signo: i32,
    /// Who registered, as the reader sees it.
    pub pid: i32,
}

/// How long a call waits.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// Not at all (`O_NONBLOCK`).
    None,
    /// Until then, or for ever.
    Until(Option<Deadline>),
}

#[derive(Default)]
struct State {
    messages: Messages,
    senders: Sleepers,
    receivers: Sleepers,
    notification: Option<Arc<dyn Notification>>,
}

/// A message queue.
pub struct Queue {
    max_messages: usize,
    message_size: usize,
    state: SpinLock<State>,
    poll: WaitQueue,
}

impl Queue {
    /// An empty queue for up to `max_messages` messages of up to `message_size` bytes.
    pub fn new(max_messages: usize, message_size: usize) -> Self {
        Self { max_messages, message_size, state: SpinLock::new(State::default()), poll: WaitQueue::new() }
    }

    /// Longest message.
    pub fn message_size(&self) -> usize {
        self.message_size
    }

    /// Sizes and number of messages; `flags` is the caller's business.
    pub fn attr(&self) -> MqAttr {
        MqAttr {
            maxmsg: self.max_messages as i64,
            msgsize: self.message_size as i64,
            curmsgs: self.state.lock().messages.len() as i64,
            ..MqAttr::default()
        }
    }

    /// Locks the queue with room in memory for one message more.
    fn lock_with_room(&self) -> Result<SpinLockGuard<'_, State, Preempt>> {
        loop {
            let state = self.state.lock();
            if state.messages.has_room() || state.messages.len() >= self.max_messages {
                return Ok(state);
            }
            let len = state.messages.len();
            drop(state);
            let room = Messages::more_room(len)?;
            let left_over = self.state.lock().messages.move_to(room);
            drop(left_over);
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// `EMSGSIZE`; `EAGAIN`, `ETIMEDOUT`, `ERESTARTSYS` while there is no room; `ENOMEM`.
    pub fn send(&self, message: Message, patience: Patience) -> Result<()> {
        if message.text.len() > self.message_size {
            return Err(Errno::EMSGSIZE);
        }
        let mut state = self.lock_with_room()?;
        if state.messages.len() >= self.max_messages {
            let Patience::Until(deadline) = patience else { return Err(Errno::EAGAIN) };
            let sleeper = Sleeper::new(Some(message))?;
            state.senders.add(&sleeper)?;
            drop(state);
            return self.wait(&sleeper, deadline, |state| &mut state.senders);
        }
        if let Some(receiver) = state.receivers.pop() {
            receiver.give(message);
            drop(state);
            receiver.wake();
            return Ok(());
        }
        state.messages.push(message);
        let first = state.messages.len() == 1;
        let notification = if first { state.notification.take() } else { None };
        drop(state);
        if let Some(notification) = notification {
            notification.fire();
        }
        self.poll.wake_all_poll(PollEvents::IN | PollEvents::RDNORM);
        Ok(())
    }

    /// Receives the first message.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ERESTARTSYS` while there is none; `ENOMEM`.
    pub fn receive(&self, patience: Patience) -> Result<Message> {
        let mut state = self.state.lock();
        let Some(message) = state.messages.pop() else {
            let Patience::Until(deadline) = patience else { return Err(Errno::EAGAIN) };
            let sleeper = Sleeper::new(None)?;
            state.receivers.add(&sleeper)?;
            drop(state);
            self.wait(&sleeper, deadline, |state| &mut state.receivers)?;
            return sleeper.take().ok_or(Errno::EAGAIN);
        };
        let sender = state.senders.pop();
        // Where the message was that was taken there is room.
        if let Some(waiting) = sender.as_ref().and_then(|sender| sender.collect()) {
            state.messages.push(waiting);
        }
        drop(state);
        match sender {
            Some(sender) => sender.wake(),
            None => self.poll.wake_all_poll(PollEvents::OUT | PollEvents::WRNORM),
        }
        Ok(message)
    }

    /// Sleeps; takes the sleeper out of its list if nobody ended the wait.
    fn wait(
        &self,
        sleeper: &Arc<Sleeper>,
        deadline: Option<Deadline>,
        list: fn(&mut State) -> &mut Sleepers,
    ) -> Result<()> {
        let Err(error) = sleeper.sleep(deadline) else { return Ok(()) };
        let mut state = self.state.lock();
        // Somebody may have been faster than the signal or the timer.
        if sleeper.is_done() {
            return Ok(());
        }
        list(&mut state).remove(sleeper);
        Err(error)
    }

    /// What the queue is ready for.
    pub(crate) fn ready(&self) -> PollEvents {
        let len = self.state.lock().messages.len();
        let mut ready = PollEvents::empty();
        if len > 0 {
            ready |= PollEvents::IN | PollEvents::RDNORM;
        }
        if len < self.max_messages {
            ready |= PollEvents::OUT | PollEvents::WRNORM;
        }
        ready
    }

    /// Woken when it may have become ready.
    pub(crate) fn poll_queue(&self) -> &WaitQueue {
        &self.poll
    }

    /// Registers for the next message that comes to the empty queue.
    ///
    /// # Errors
    /// `EBUSY`: somebody has registered already.
    pub fn register(&self, notification: Arc<dyn Notification>) -> Result<()> {
        let mut state = self.state.lock();
        if state.notification.is_some() {
            return Err(Errno::EBUSY);
        }
        state.notification = Some(notification);
        Ok(())
    }

    /// Takes the calling process's registration back; whether there was one.
    pub fn unregister(&self) -> bool {
        let mut state = self.state.lock();
        if !state.notification.as_ref().is_some_and(|notification| notification.is_callers()) {
            return false;
        }
        let gone = state.notification.take();
        drop(state);
        if let Some(gone) = gone {
            gone.removed();
        }
        true
    }

    /// Bytes in its messages, and what is registered.
    pub(crate) fn show(&self) -> (usize, NotifyInfo) {
        let state = self.state.lock();
        let info = state.notification.as_ref().map(|notification| notification.show());
        (state.messages.bytes(), info.unwrap_or_default())
    }

    /// Drops the messages: the queue has no name and no user any more.
    pub(crate) fn clear(&self) {
        let messages = core::mem::take(&mut self.state.lock().messages);
        drop(messages);
    }
}
