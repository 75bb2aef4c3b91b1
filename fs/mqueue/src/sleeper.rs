//! Those who wait at a queue: the one with the highest scheduling priority first, among equals the one that came first.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use sched::Task;
use sched::WaitError;
use sched::hrtimer::Deadline;
use sched::wait::{Wait, WaitQueue};

use crate::order::Message;
use mm::fallible::try_arc;

/// Somebody who waits.
pub(crate) struct Sleeper {
    task: Arc<Task>,
    /// Lower is more urgent.
    priority: i32,
    /// The message to be sent, or the one received.
    message: SpinLock<Option<Message>>,
    done: AtomicBool,
}

impl Sleeper {
    /// A record for the running task.
    pub(crate) fn new(message: Option<Message>) -> Result<Arc<Self>> {
        let task = sched::current().to_arc();
        let priority = task.proc_priority();
        let message = SpinLock::new(message);
        Ok(try_arc(Self { task, priority, message, done: AtomicBool::new(false) })?)
    }

    /// Takes the message.
    pub(crate) fn take(&self) -> Option<Message> {
        self.message.lock().take()
    }

    /// Ends the wait of a receiver; wake it after the queue's lock is released.
    pub(crate) fn give(&self, message: Message) {
        *self.message.lock() = Some(message);
        self.done.store(true, Ordering::Release);
    }

    /// Ends the wait of a sender and takes its message.
    pub(crate) fn collect(&self) -> Option<Message> {
        let message = self.take();
        self.done.store(true, Ordering::Release);
        message
    }

    /// Whether somebody has ended the wait.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    pub(crate) fn wake(&self) {
        sched::wake_up(&self.task);
    }

    /// Sleeps until somebody ends the wait.
    ///
    /// # Errors
    /// `ERESTARTSYS`, `ETIMEDOUT`; the wait may have ended all the same.
    pub(crate) fn sleep(&self, deadline: Option<Deadline>) -> Result<()> {
        let nobody = WaitQueue::new();
        let how = Wait::INTERRUPTIBLE.until(deadline);
        nobody.wait(how, || self.is_done().then_some(())).map_err(|error| match error {
            WaitError::Interrupted => Errno::ERESTARTSYS,
            WaitError::TimedOut => Errno::ETIMEDOUT,
        })
    }
}

/// Sleepers in the order in which they are served.
#[derive(Default)]
pub(crate) struct Sleepers(VecDeque<Arc<Sleeper>>);

impl Sleepers {
    #[expect(clippy::disallowed_methods, reason = "there is room: it was reserved before")]
    pub(crate) fn add(&mut self, sleeper: &Arc<Sleeper>) -> Result<()> {
        self.0.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let at = self.0.partition_point(|other| other.priority <= sleeper.priority);
        self.0.insert(at, sleeper.clone());
        Ok(())
    }

    pub(crate) fn remove(&mut self, sleeper: &Arc<Sleeper>) {
        self.0.retain(|other| !Arc::ptr_eq(other, sleeper));
    }

    pub(crate) fn pop(&mut self) -> Option<Arc<Sleeper>> {
        self.0.pop_front()
    }
}
