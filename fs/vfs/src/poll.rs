//! Readiness: `poll(2)` and `select(2)`, and the table through which files register waiters.
//!
//! A file's `poll` calls [`PollTable::wait`] for each of its wait queues and then says what it is
//! ready for. The table decides what waiting means: [`Poller`] for `poll` and `select`, an epoll
//! item for `epoll`, nothing at all for a single look.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

pub use abi::poll::PollEvents;
use abi::{Errno, Result};
use sched::hrtimer::Deadline;
use sched::state::WaitError;
use sched::wait::{Registration, Share, Wait, WaitQueue, WakeCallback};

use crate::file::File;
use mm::OutOfMemory;
use mm::fallible::{TryVec, try_arc};

/// What files are ready for that have no `poll` of their own.
pub const DEFAULT_POLLMASK: PollEvents =
    PollEvents::IN.union(PollEvents::OUT).union(PollEvents::RDNORM).union(PollEvents::WRNORM);

/// Registers waiters on behalf of whoever polls. See the module text.
pub struct PollTable<'a> {
    register: Option<&'a mut dyn FnMut(&WaitQueue)>,
    key: PollEvents,
}

impl<'a> PollTable<'a> {
    /// A single look: registers nothing.
    pub const fn look() -> Self {
        Self { register: None, key: PollEvents::all() }
    }

    /// Calls `register` for each queue; `key` is what the caller is interested in.
    pub fn new(register: &'a mut dyn FnMut(&WaitQueue), key: PollEvents) -> Self {
        Self { register: Some(register), key }
    }

    /// To be called by `FileOps::poll` for each queue that is woken when readiness changes, before
    /// looking at the state.
    #[inline]
    pub fn wait(&mut self, queue: &WaitQueue) {
        if let Some(register) = &mut self.register {
            register(queue);
        }
    }

    /// Whether nothing will be registered.
    pub fn is_look(&self) -> bool {
        self.register.is_none()
    }

    /// The events that the caller asked for; a file may restrict itself to queues of these.
    pub fn requested(&self) -> PollEvents {
        self.key
    }
}

/// What `file` is ready for now.
pub fn look(file: &File) -> PollEvents {
    file.ops().poll(file, &mut PollTable::look())
}

struct PollWaker {
    triggered: AtomicBool,
    queue: WaitQueue,
}

impl PollWaker {
    fn new() -> Result<Arc<Self>> {
        Ok(try_arc(Self { triggered: AtomicBool::new(false), queue: WaitQueue::new() })?)
    }

    fn in_slot(slot: &mut Option<Arc<Self>>) -> Result<&Arc<Self>> {
        let made = match slot.take() {
            Some(waker) => waker,
            None => Self::new()?,
        };
        Ok(slot.insert(made))
    }
}

impl WakeCallback for PollWaker {
    fn wake(&self, _events: PollEvents) -> bool {
        self.triggered.store(true, Ordering::Release);
        self.queue.wake_one();
        true
    }
}

/// The waiting side of one `poll(2)` or `select(2)` call.
///
/// Usage: [`Poller::check`] each file, then [`Poller::wait`], and so on until something is ready. Only
/// the first round registers.
pub struct Poller {
    /// Made when the first file registers: most calls find something ready, or do not wait.
    waker: Option<Arc<PollWaker>>,
    registrations: Vec<Registration>,
    registering: bool,
    failed: Option<Errno>,
}

impl Default for Poller {
    fn default() -> Self {
        Self::new()
    }
}

impl Poller {
    /// A poller that waits for nothing yet.
    pub fn new() -> Self {
        Self { waker: None, registrations: Vec::new(), registering: true, failed: None }
    }

    /// Stops registering: something is ready, or the caller will not wait.
    pub fn stop_registering(&mut self) {
        self.registering = false;
    }

    /// What `file` is ready for, of `wanted`, errors and hang-ups. Registers in the first round.
    pub fn check(&mut self, file: &File, wanted: PollEvents) -> PollEvents {
        let wanted = wanted | PollEvents::ERR | PollEvents::HUP;
        if !self.registering {
            return file.ops().poll(file, &mut PollTable::look()) & wanted;
        }
        let Self { waker, registrations, failed, .. } = self;
        let mut register = |queue: &WaitQueue| {
            let made = PollWaker::in_slot(waker).and_then(|waker| {
                registrations.try_reserve(1).map_err(OutOfMemory::from)?;
                queue.register(waker.clone(), Share::All)
            });
            match made {
                Ok(registration) => registrations.push_reserved(registration),
                Err(error) => *failed = Some(error),
            }
        };
        let ready = file.ops().poll(file, &mut PollTable::new(&mut register, wanted)) & wanted;
        if !ready.is_empty() {
            self.registering = false;
        }
        ready
    }

    /// Waits until a file that was checked reports a change, until `deadline` or until a signal.
    ///
    /// # Errors
    /// `EINTR` for a signal, `ETIMEDOUT` at the deadline, `ENOMEM` when a waiter could not be
    /// registered.
    pub fn wait(&mut self, deadline: Option<Deadline>) -> Result<()> {
        self.registering = false;
        if let Some(error) = self.failed {
            return Err(error);
        }
        let waker = PollWaker::in_slot(&mut self.waker)?;
        let woken = || waker.triggered.swap(false, Ordering::AcqRel).then_some(());
        match waker.queue.wait(Wait::INTERRUPTIBLE.until(deadline), woken) {
            Ok(()) => Ok(()),
            Err(WaitError::Interrupted) => Err(Errno::EINTR),
            Err(WaitError::TimedOut) => Err(Errno::ETIMEDOUT),
        }
    }
}
