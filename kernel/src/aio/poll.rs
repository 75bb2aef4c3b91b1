//! `IOCB_CMD_POLL`: one event of a file.
//!
//! The callback on the file's wait queues only has the file looked at again, by the system's work queue. Whoever takes a poll out of
//! its context's list completes it.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering, fence};

use abi::aio::Iocb;
use abi::poll::PollEvents;
use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::fallible::{TryVec, try_arc};
use sched::wait::{Registration, Share, WaitQueue, WakeCallback};
use sched::workqueue::{self, Work};
use sync::Once;
use vfs::file::File;
use vfs::poll::{PollTable, look};

use super::submit::Completion;

/// A poll under way.
pub struct Poll {
    file: Arc<File>,
    wanted: PollEvents,
    completion: Completion,
    work: Work,
    registrations: SpinLock<Vec<Registration>>,
    cancelled: AtomicBool,
}

struct Waker {
    wanted: PollEvents,
    work: Work,
}

impl WakeCallback for Waker {
    fn wake(&self, events: PollEvents) -> bool {
        if !events.is_empty() && !events.intersects(self.wanted) {
            return false;
        }
        workqueue::system().queue_work(&self.work)
    }
}

/// Starts a poll for the events in the structure's buffer field.
///
/// # Errors
/// `EINVAL`, `ENOMEM`.
pub fn start(file: &Arc<File>, iocb: &Iocb, completion: Completion) -> Result<()> {
    let bits = u16::try_from(iocb.buf).map_err(|_| Errno::EINVAL)?;
    if iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = PollEvents::from_bits_truncate(u32::from(bits)) | PollEvents::ERR | PollEvents::HUP;
    let me: Arc<Once<Weak<Poll>>> = try_arc(Once::new())?;
    let found = me.clone();
    let work = Work::new(move || {
        if let Some(poll) = found.get().and_then(Weak::upgrade) {
            poll.check();
        }
    })?;
    let poll = try_arc(Poll {
        file: file.clone(),
        wanted,
        completion,
        work,
        registrations: SpinLock::new(Vec::new()),
        cancelled: AtomicBool::new(false),
    })?;
    let _ = me.set(Arc::downgrade(&poll));
    poll.completion.context.polls.lock().try_push(poll.clone())?;
    let mut made: Vec<Registration> = Vec::new();
    let mut failed = false;
    let mut register = |queue: &WaitQueue| {
        let mut one = || -> Result<()> {
            made.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let waker = try_arc(Waker { wanted, work: poll.work.clone() })?;
            made.push_reserved(queue.register(waker, Share::All)?);
            Ok(())
        };
        failed |= one().is_err();
    };
    let ready = file.ops().poll(file, &mut PollTable::new(&mut register, wanted)) & wanted;
    *poll.registrations.lock() = made;
    if failed && poll.take() {
        return Err(Errno::ENOMEM);
    }
    if !ready.is_empty() {
        poll.finish(ready);
    } else if poll.is_taken() {
        poll.unregister();
    }
    Ok(())
}

impl Poll {
    /// Takes it out of its context's list; whoever does completes it.
    fn take(self: &Arc<Self>) -> bool {
        let mut polls = self.completion.context.polls.lock();
        let at = polls.iter().position(|other| Arc::ptr_eq(other, self));
        let taken = at.map(|at| polls.swap_remove(at));
        drop(polls);
        taken.is_some()
    }

    fn is_taken(self: &Arc<Self>) -> bool {
        !self.completion.context.polls.lock().iter().any(|other| Arc::ptr_eq(other, self))
    }

    /// Off the wait queues.
    fn unregister(&self) {
        let registrations = core::mem::take(&mut *self.registrations.lock());
        drop(registrations);
    }

    fn finish(self: &Arc<Self>, ready: PollEvents) {
        if self.take() {
            self.unregister();
            self.completion.post(i64::from(ready.bits()));
        }
    }

    /// A wait queue was woken.
    fn check(self: &Arc<Self>) {
        if self.cancelled.load(Ordering::Acquire) {
            return;
        }
        fence(Ordering::SeqCst);
        let ready = look(&self.file) & self.wanted;
        if !ready.is_empty() {
            self.finish(ready);
        }
    }

    /// Ends a poll that was taken out of the list, with an empty event.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.unregister();
        self.completion.post(0);
    }

    /// The address of the user's structure.
    pub fn obj(&self) -> u64 {
        self.completion.obj
    }
}
