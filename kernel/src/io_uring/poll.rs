//! Waiting for files (and other wait queues): `IORING_OP_POLL_ADD`, and every operation that would block.
//!
//! A waiting request is a callback on the wait queues of its file. The callback claims the request and makes it task work; there the
//! file is asked again, and the request completes, goes on, or waits again. Arming happens with the ring's submission lock held,
//! by the thread that owns the request, so that its own task work cannot overtake it; so does cancelling.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use abi::poll::PollEvents;
use abi::{Errno, Result};
use mm::{TryVec, try_arc};
use sched::wait::{Registration, Share, WaitQueue, WakeCallback};
use vfs::file::File;
use vfs::poll::PollTable;

use super::complete::Cx;
use super::op::Op;
use super::request::{Action, Place, Request};
use super::ring::Ring;
use super::{submit, work};

/// What came of arming.
pub enum Armed {
    /// The request waits.
    Waiting,
    /// It need not: this is ready. The caller owns it again.
    Ready(PollEvents),
    /// It could not be registered.
    Failed(Errno),
}

struct Waker(Arc<Request>);

impl WakeCallback for Waker {
    fn wake(&self, events: PollEvents) -> bool {
        let wanted = self.0.poll_events.load(Ordering::Relaxed);
        if !events.is_empty() && events.bits() & wanted == 0 || !self.0.claim() {
            return false;
        }
        work::queue(&self.0, Action::Poll);
        true
    }

    fn queue_gone(&self) {
        if self.0.claim() {
            work::queue(&self.0, Action::Poll);
        }
    }
}

/// Makes `req` wait for `events` of what `look` asks: `look` registers with the table and says what is ready.
pub fn arm(
    ring: &Arc<Ring>,
    req: &Arc<Request>,
    events: PollEvents,
    look: impl FnOnce(&mut PollTable<'_>) -> PollEvents,
    share: Share,
) -> Armed {
    let events = events | PollEvents::ERR | PollEvents::HUP;
    req.poll_events.store(events.bits(), Ordering::Relaxed);
    ring.track(req);
    req.wait_in(Place::Poll);
    let mut made: Vec<Registration> = Vec::new();
    let mut failed = None;
    let mut register = |queue: &WaitQueue| {
        let mut one = || -> Result<()> {
            made.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            made.push_reserved(queue.register(try_arc(Waker(req.clone()))?, share)?);
            Ok(())
        };
        if let Err(errno) = one() {
            failed = Some(errno);
        }
    };
    let ready = look(&mut PollTable::new(&mut register, events)) & events;
    let old = core::mem::replace(&mut *req.registrations.lock(), made);
    drop(old);
    if let Some(errno) = failed
        && req.claim()
    {
        return Armed::Failed(errno);
    }
    if !ready.is_empty() && req.claim() {
        let registrations = core::mem::take(&mut *req.registrations.lock());
        drop(registrations);
        return Armed::Ready(ready);
    }
    Armed::Waiting
}

/// Makes `req` wait for `events` of `file`.
pub fn arm_file(ring: &Arc<Ring>, req: &Arc<Request>, file: &File, events: PollEvents) -> Armed {
    arm(ring, req, events, |table| file.ops().poll(file, table), Share::All)
}

/// Task work: a wait queue woke the request.
pub fn woken(cx: &mut Cx<'_>, req: Arc<Request>) {
    let multishot = match &*req.op.lock() {
        Op::Poll(poll) => Some(poll.multishot),
        _ => None,
    };
    let Some(multishot) = multishot else {
        // Some operation that would have blocked.
        let registrations = core::mem::take(&mut *req.registrations.lock());
        drop(registrations);
        return submit::issue(cx, req);
    };
    let Some(file) = req.file() else { return cx.fail(req.clone(), Errno::EBADF) };
    let wanted = PollEvents::from_bits_retain(req.poll_events.load(Ordering::Relaxed));
    // It waits again before it looks: what happens after the look wakes it again.
    req.wait_in(Place::Poll);
    fence(Ordering::SeqCst);
    let ready = vfs::poll::look(file) & wanted;
    if ready.is_empty() {
        return;
    }
    if multishot {
        if !cx.post_more(&req, ready.bits() as i32, 0) && req.claim() {
            cx.complete(req, ready.bits() as i32, 0);
        }
    } else if req.claim() {
        cx.complete(req, ready.bits() as i32, 0);
    }
}

/// Makes a claimed poll wait again; `true` if it is ready and the caller owns it still.
pub fn again(req: &Arc<Request>) -> bool {
    req.wait_in(Place::Poll);
    fence(Ordering::SeqCst);
    let Some(file) = req.file() else { return req.claim() };
    let wanted = PollEvents::from_bits_retain(req.poll_events.load(Ordering::Relaxed));
    vfs::poll::look(file).intersects(wanted) && req.claim()
}
