//! `IORING_OP_TIMEOUT`, and `IORING_OP_LINK_TIMEOUT`, which limits the request before it in a chain.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;

use abi::io_uring::{Sqe, raw};
use abi::time::Timespec;
use abi::{Errno, Result};
use mm::fallible::try_box;
use mm::user::UserPtr;
use sched::hrtimer::{Deadline, HrTimer, Restart};
use sched::time::Clock;

use super::complete::Cx;
use super::op::{Issue, Op, Prep};
use super::request::{Action, Place, Request, flags};
use super::ring::Ring;
use super::{cancel, work};

/// A timeout.
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    clock: Clock,
    /// As the user gave it: a duration, or a time.
    ns: u64,
    absolute: bool,
    /// Complete without an error when it expires.
    success: bool,
    /// Expirations that are left; `None`: not repeated; zero: for ever.
    repeats: Option<u32>,
    /// Completions that also end it; zero: none.
    count: u32,
    /// The number of completions that ends it, if it counts.
    target: u32,
}

fn clock_of(bits: u32) -> Result<Clock> {
    match bits & raw::IORING_TIMEOUT_CLOCK_MASK {
        0 => Ok(Clock::Monotonic),
        raw::IORING_TIMEOUT_BOOTTIME => Ok(Clock::Boottime),
        raw::IORING_TIMEOUT_REALTIME => Ok(Clock::Realtime),
        _ => Err(Errno::EINVAL),
    }
}

fn read_time(addr: u64) -> Result<u64> {
    let time = UserPtr::<Timespec>::new(addr as usize).read()?;
    if time.sec < 0 || time.nsec < 0 {
        return Err(Errno::EINVAL);
    }
    Ok((time.sec as u64).saturating_mul(1_000_000_000).saturating_add(time.nsec as u64))
}

fn build(entry: &Sqe, link: bool) -> Result<Timeout> {
    if entry.addr3 != 0 || entry.pad2 != 0 || entry.buf_index != 0 || entry.len != 1 || entry.file_index != 0
    {
        return Err(Errno::EINVAL);
    }
    if entry.off != 0 && link {
        return Err(Errno::EINVAL);
    }
    let bits = entry.op_flags;
    let known = raw::IORING_TIMEOUT_ABS
        | raw::IORING_TIMEOUT_CLOCK_MASK
        | raw::IORING_TIMEOUT_ETIME_SUCCESS
        | raw::IORING_TIMEOUT_MULTISHOT;
    let multishot = bits & raw::IORING_TIMEOUT_MULTISHOT != 0;
    if bits & !known != 0 || multishot && (link || bits & raw::IORING_TIMEOUT_ABS != 0) {
        return Err(Errno::EINVAL);
    }
    let clock = clock_of(bits)?;
    Ok(Timeout {
        clock,
        ns: read_time(entry.addr)?,
        absolute: bits & raw::IORING_TIMEOUT_ABS != 0,
        success: bits & raw::IORING_TIMEOUT_ETIME_SUCCESS != 0,
        repeats: multishot.then_some(entry.off as u32),
        count: if multishot { 0 } else { entry.off as u32 },
        target: 0,
    })
}

impl Timeout {
    fn deadline(&self) -> Deadline {
        let ns =
            if self.absolute { self.ns } else { sched::time::clock_ns(self.clock).saturating_add(self.ns) };
        Deadline::at(self.clock, ns)
    }

    /// Prepares `IORING_OP_TIMEOUT`.
    pub fn prepare(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
        build(entry, false).map(Op::Timeout)
    }

    /// Prepares `IORING_OP_LINK_TIMEOUT`.
    pub fn prepare_link(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
        build(entry, true).map(Op::LinkTimeout)
    }

    /// Starts it.
    pub fn issue(&mut self, cx: &Cx<'_>, req: &Arc<Request>) -> Issue {
        if let Err(errno) = make_timer(req) {
            return Issue::of(Err(errno));
        }
        if self.count != 0 {
            self.target = cx.ring.completed().wrapping_add(self.count);
            cx.ring.counted_timeouts.fetch_add(1, Ordering::AcqRel);
        }
        cx.ring.track(req);
        req.wait_in(Place::Timer);
        start(req, self.deadline());
        Issue::Pending
    }
}

/// Makes the timer of a request, before it is under way: then what it waits for has to come.
///
/// # Errors
/// `ENOMEM`.
pub fn make_timer(req: &Arc<Request>) -> Result<()> {
    // The timer is in the request: a counted reference would be a circle.
    let weak: Weak<Request> = Arc::downgrade(req);
    let timer = HrTimer::new(move |_| {
        // The table of requests under way keeps it, so this is not the last reference.
        if let Some(req) = weak.upgrade()
            && req.claim()
        {
            work::queue(&req, Action::Timer);
        }
        Restart::No
    })?;
    *req.timer.lock() = Some(try_box(timer)?);
    Ok(())
}

/// Starts the timer of a request that waits.
fn start(req: &Arc<Request>, deadline: Deadline) {
    if let Some(timer) = &*req.timer.lock() {
        timer.start(deadline);
    }
}

/// Task work: the timer of `req` expired.
pub fn expired(cx: &mut Cx<'_>, req: Arc<Request>) {
    let timeout = match &*req.op.lock() {
        Op::Timeout(timeout) => Some(*timeout),
        _ => None,
    };
    let Some(timeout) = timeout else { return limit_reached(cx, req) };
    let etime = Errno::ETIME.to_return() as i32;
    if let Some(left) = timeout.repeats
        && left != 1
        && cx.post_more(&req, etime, 0)
    {
        if let Op::Timeout(timeout) = &mut *req.op.lock() {
            timeout.repeats = Some(left.saturating_sub(1));
        }
        req.wait_in(Place::Timer);
        start(&req, timeout.deadline());
        return;
    }
    finish(cx, req, &timeout, etime);
}

fn finish(cx: &mut Cx<'_>, req: Arc<Request>, timeout: &Timeout, res: i32) {
    uncount(cx.ring, timeout);
    if timeout.success && res == Errno::ETIME.to_return() as i32 {
        // The error is shown, but does not break the chain.
        cx.complete_ok(req, res, 0);
    } else {
        cx.complete(req, res, 0);
    }
}

fn uncount(ring: &Ring, timeout: &Timeout) {
    if timeout.count != 0 {
        ring.counted_timeouts.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A timeout was claimed by a canceller: it does not count any more.
pub fn cancelled(ring: &Ring, req: &Request) {
    if let Op::Timeout(timeout) = &*req.op.lock() {
        uncount(ring, timeout);
    }
}

/// Completions were posted: timeouts that count them may be over.
pub fn completions_came(ring: &Ring) {
    let now = ring.completed();
    let mut from = 0;
    while let Some(req) = ring.next_inflight(&mut from) {
        if req.place() != Place::Timer {
            continue;
        }
        let Some(op) = req.op.try_lock() else { continue };
        let reached =
            matches!(&*op, Op::Timeout(t) if t.count != 0 && now.wrapping_sub(t.target) as i32 >= 0);
        drop(op);
        if reached && req.claim() {
            ring.counted_timeouts.fetch_sub(1, Ordering::AcqRel);
            // The timer goes with the request, in task context.
            work::queue(&req, Action::Complete);
        }
    }
}

/// Starts the timer that limits `req`, which goes on in the background.
pub fn start_limit(cx: &Cx<'_>, req: &Arc<Request>) {
    let limit = req.link_timeout.lock().clone();
    let Some(limit) = limit else { return };
    if limit.has(flags::TRACKED) {
        return;
    }
    let deadline = match &*limit.op.lock() {
        Op::LinkTimeout(timeout) => timeout.deadline(),
        _ => return,
    };
    cx.ring.track(&limit);
    limit.wait_in(Place::LinkTimer);
    start(&limit, deadline);
}

/// The request that `limit` limits is complete.
pub fn disarm(cx: &mut Cx<'_>, limit: Arc<Request>) {
    if !limit.has(flags::TRACKED) || limit.claim() {
        cx.fail(limit, Errno::ECANCELED);
    }
    // Otherwise it expired and completes itself.
}

/// A link timeout expired: its request is cancelled.
fn limit_reached(cx: &mut Cx<'_>, limit: Arc<Request>) {
    let limited = core::mem::take(&mut *limit.limits.lock()).upgrade();
    let outcome = match limited {
        Some(req) => {
            // It completes on its own from here on.
            let held = req.link_timeout.lock().take();
            drop(held);
            cancel::one(cx, &req)
        }
        None => Ok(()),
    };
    let errno = outcome.err().unwrap_or(Errno::ETIME);
    cx.fail(limit, errno);
}

/// `IORING_OP_TIMEOUT_REMOVE`.
#[derive(Clone, Copy, Debug)]
pub struct Remove {
    user_data: u64,
    update: Option<Update>,
}

#[derive(Clone, Copy, Debug)]
struct Update {
    link: bool,
    absolute: bool,
    clock: Clock,
    ns: u64,
}

impl Remove {
    /// Prepares it.
    pub fn prepare(_: &Prep<'_>, entry: &Sqe) -> Result<Op> {
        if entry.buf_index != 0 || entry.len != 0 || entry.file_index != 0 {
            return Err(Errno::EINVAL);
        }
        let bits = entry.op_flags;
        let updates = raw::IORING_TIMEOUT_UPDATE | raw::IORING_LINK_TIMEOUT_UPDATE;
        let update = if bits & updates != 0 {
            let allowed = updates | raw::IORING_TIMEOUT_ABS | raw::IORING_TIMEOUT_CLOCK_MASK;
            if bits & !allowed != 0 || bits & updates == updates {
                return Err(Errno::EINVAL);
            }
            Some(Update {
                link: bits & raw::IORING_LINK_TIMEOUT_UPDATE != 0,
                absolute: bits & raw::IORING_TIMEOUT_ABS != 0,
                clock: clock_of(bits)?,
                ns: read_time(entry.off)?,
            })
        } else if bits != 0 {
            return Err(Errno::EINVAL);
        } else {
            None
        };
        Ok(Op::TimeoutRemove(Self { user_data: entry.addr, update }))
    }

    /// Finds the timeout and removes or changes it.
    pub fn issue(&self, cx: &mut Cx<'_>) -> Result<usize> {
        let link = self.update.is_some_and(|update| update.link);
        let found = find(cx.ring, self.user_data, link).ok_or(Errno::ENOENT)?;
        if !found.claim() {
            return Err(Errno::EALREADY);
        }
        let Some(update) = self.update else {
            cancelled(cx.ring, &found);
            cx.fail(found, Errno::ECANCELED);
            return Ok(0);
        };
        let deadline = {
            let mut op = found.op.lock();
            let (Op::Timeout(timeout) | Op::LinkTimeout(timeout)) = &mut *op else {
                return Err(Errno::ENOENT);
            };
            (timeout.clock, timeout.ns, timeout.absolute) = (update.clock, update.ns, update.absolute);
            timeout.deadline()
        };
        found.wait_in(if link { Place::LinkTimer } else { Place::Timer });
        start(&found, deadline);
        Ok(0)
    }
}

fn find(ring: &Ring, user_data: u64, link: bool) -> Option<Arc<Request>> {
    let mut after = 0;
    loop {
        let req = ring.next_known(user_data, &mut after)?;
        let right = if link { super::op::LINK_TIMEOUT } else { super::op::TIMEOUT };
        if req.opcode == right {
            return Some(req);
        }
    }
}
