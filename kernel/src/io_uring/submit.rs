//! Submission: from the user's entries to requests that run.
//!
//! Everything here runs in the thread that submits (or in that of `SQPOLL`), with the ring's submission lock held. The user may rewrite
//! the rings at any time: an index and an entry are read once, and what was read is what counts.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::Errno;
use abi::io_uring::{Sqe, raw};
use abi::{Result, raw as uapi};
use mm::fallible::try_with_capacity;
use mm::{TryDeque, TryVec};
use sync::Once;

use super::complete::Cx;
use super::cq::Batch;
use super::layout::{SQ_DROPPED, SQ_HEAD, SQ_TAIL};
use super::op::{self, Issue, OpDef, Prep};
use super::poll::{self, Armed};
use super::request::{Place, Queue, Request, flags};
use super::ring::{CACHED, Ring};
use super::task::TaskCtx;
use super::{timeout, wq};

/// How often a request may be woken for nothing before a worker gets it (`APOLL_MAX_RETRY`).
const POLL_RETRIES: u32 = 128;

/// The submission side of a ring: what its lock protects.
pub struct Submission {
    head: u32,
    chain: Option<Chain>,
    /// Some request asked for no completion: drains cannot count any more.
    drains_off: bool,
    /// Requests to be used again.
    pub(super) cache: Vec<Arc<Request>>,
    /// Completions that are not posted yet; empty when the lock is released.
    pub(super) batch: Batch,
    /// Requests that may run; none when the lock is released.
    pub(super) ready: Queue,
}

impl Submission {
    /// That of a new ring.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Ok(Self {
            head: 0,
            chain: None,
            drains_off: false,
            cache: try_with_capacity(CACHED)?,
            batch: Batch::new(),
            ready: Queue::default(),
        })
    }

    /// Keeps a request that is as good as new, if there is room.
    #[inline]
    pub(super) fn keep(&mut self, req: Arc<Request>) {
        if self.cache.len() < self.cache.capacity() {
            self.cache.push_reserved(req);
        }
    }
}

/// Requests that are linked, while the chain is being built.
struct Chain {
    head: Arc<Request>,
    last: Arc<Request>,
}

/// `IOSQE_*` bits.
mod sqe {
    pub const FIXED_FILE: u8 = 1 << 0;
    pub const IO_DRAIN: u8 = 1 << 1;
    pub const IO_LINK: u8 = 1 << 2;
    pub const IO_HARDLINK: u8 = 1 << 3;
    pub const ASYNC: u8 = 1 << 4;
    pub const BUFFER_SELECT: u8 = 1 << 5;
    pub const CQE_SKIP_SUCCESS: u8 = 1 << 6;
    pub const ALL: u8 = (1 << 7) - 1;
}

/// Takes up to `count` submissions; returns how many were taken. The lock is held.
///
/// # Errors
/// `EAGAIN`: there is no memory for the first request.
pub fn submit(ring: &Arc<Ring>, state: &mut Submission, owner: &Arc<TaskCtx>, count: u32) -> Result<u32> {
    let waiting = ring.rings.load(SQ_TAIL).wrapping_sub(state.head);
    let count = count.min(waiting).min(ring.layout.sq_entries);
    if count == 0 {
        return Ok(0);
    }
    let mut cx = Cx::locked(ring, state);
    let mut taken = 0;
    while taken < count {
        let Some(state) = cx.state.as_deref_mut() else { break };
        let Ok(mut req) = ring.fresh(state, owner) else {
            // Nothing was taken from the ring for it: the user tries again.
            if taken == 0 {
                return Err(Errno::EAGAIN);
            }
            break;
        };
        let stop = match Arc::get_mut(&mut req) {
            Some(whole) => run_alone(&mut cx, whole, &mut taken, count),
            None => Stop::AtEnd,
        };
        let went_well = match stop {
            Stop::AtEnd => {
                cx.keep(req);
                break;
            }
            Stop::Waits(outcome) => {
                activate_one(ring, &req);
                settle(&mut cx, req, outcome);
                true
            }
            Stop::NotAlone(prepared, sqe_flags) => part_of_chain(&mut cx, req, prepared, sqe_flags),
        };
        run_ready(&mut cx);
        if !went_well && !ring.has(raw::IORING_SETUP_SUBMIT_ALL) {
            break;
        }
    }
    // A chain ends with the call.
    let chain = cx.state.as_mut().and_then(|state| state.chain.take());
    if let Some(chain) = chain {
        start(&mut cx, chain.head);
        run_ready(&mut cx);
    }
    cx.flush();
    if let Some(state) = &cx.state {
        ring.rings.store(SQ_HEAD, state.head);
    }
    Ok(taken)
}

/// Runs what completions made ready.
#[inline]
pub fn run_ready(cx: &mut Cx<'_>) {
    while let Some(req) = cx.next_ready() {
        issue(cx, req);
    }
}

/// Why [`run_alone`] came back.
enum Stop {
    /// There are no more entries; the request is as good as new.
    AtEnd,
    /// The request of the last entry was tried, and did not complete.
    Waits(Issue),
    /// The last entry belongs to a chain, has to wait for others, or could not be prepared. The second are its flags.
    NotAlone(Result<()>, u8),
}

/// Runs entries in one request, one after the other, as long as each completes at once and has nothing to do with its neighbours:
/// what is nobody else's need not be taken and given back each time.
#[inline]
fn run_alone(cx: &mut Cx<'_>, req: &mut Request, taken: &mut u32, count: u32) -> Stop {
    let ring = cx.ring;
    while *taken < count {
        let Some(state) = cx.state.as_deref_mut() else { break };
        let Some(entry) = next_entry(ring, state) else { return Stop::AtEnd };
        *taken += 1;
        let prepared = prepare(ring, state, req, &entry);
        let alone = !req.has_any(flags::LINK | flags::DRAIN | flags::ASYNC)
            && state.chain.is_none()
            && entry.opcode != op::LINK_TIMEOUT;
        if prepared.is_err() || !alone || ring.has_drains.load(Ordering::Acquire) {
            return Stop::NotAlone(prepared, entry.flags);
        }
        match op::issue_alone(cx, req) {
            Issue::Done(res, cflags) => cx.complete_alone(req, res, cflags),
            outcome => return Stop::Waits(outcome),
        }
    }
    Stop::AtEnd
}

/// Takes the next entry out of the ring; an index that is none is dropped, and `None`.
#[inline(always)]
fn next_entry(ring: &Ring, state: &mut Submission) -> Option<Sqe> {
    let head = state.head;
    state.head = head.wrapping_add(1);
    let index = match ring.layout.index(head) {
        Some(at) => ring.rings.load(at),
        None => head & (ring.layout.sq_entries - 1),
    };
    if index < ring.layout.sq_entries
        && let Some(entry) = ring.sqes.read::<Sqe>(ring.layout.sqe(index))
    {
        return Some(entry);
    }
    ring.rings.store(SQ_DROPPED, ring.rings.load(SQ_DROPPED).wrapping_add(1));
    None
}

/// One entry that belongs to a chain, or has to wait for others, or failed. `false`: it failed before it was a request that runs.
#[inline(never)]
fn part_of_chain(cx: &mut Cx<'_>, req: Arc<Request>, prepared: Result<()>, sqe_flags: u8) -> bool {
    let Some(state) = cx.state.as_deref_mut() else { return false };
    let linked = sqe_flags & (sqe::IO_LINK | sqe::IO_HARDLINK) != 0;
    let checked = prepared.and_then(|()| {
        if req.opcode != op::LINK_TIMEOUT {
            return Ok(());
        }
        // It limits the request before it, so there must be one.
        if !may_limit(state.chain.as_ref()) {
            return Err(Errno::EINVAL);
        }
        timeout::make_timer(&req)
    });
    let broken = checked.is_err();
    if let Err(errno) = checked {
        req.set(flags::BROKEN | flags::FAIL);
        req.clear(flags::SKIP_CQE);
        req.result.store(errno.to_return() as i32, Ordering::Relaxed);
        if let Some(chain) = &state.chain {
            chain.head.set_fail();
        }
    }
    match &mut state.chain {
        Some(chain) => {
            *chain.last.next.lock() = Some(req.clone());
            chain.last = req;
            if !linked && let Some(chain) = state.chain.take() {
                start(cx, chain.head);
                return !broken;
            }
            true
        }
        None if linked => {
            state.chain = Some(Chain { head: req.clone(), last: req });
            true
        }
        None => {
            start(cx, req);
            !broken
        }
    }
}

fn may_limit(chain: Option<&Chain>) -> bool {
    chain.is_some_and(|chain| !matches!(&*chain.last.op.lock(), op::Op::LinkTimeout(_)))
}

/// Fills in a request, which is as good as new, from its entry.
#[inline(always)]
fn prepare(ring: &Arc<Ring>, state: &mut Submission, req: &mut Request, entry: &Sqe) -> Result<()> {
    let head = &mut req.head;
    *head.user_data.get_mut() = entry.user_data;
    head.opcode = entry.opcode;
    head.fd = entry.fd;
    head.buf_group = entry.buf_index;
    let Some(def) = OpDef::of(entry.opcode) else {
        *head.flags.get_mut() = request_flags(entry.flags);
        return Err(Errno::EINVAL);
    };
    let bits = if def.needs_file { flags::NEEDS_FILE } else { 0 };
    *head.flags.get_mut() = bits;
    // Nothing but an operation with its arguments: nearly all are like this.
    if entry.flags == 0 && entry.ioprio == 0 && entry.personality == 0 && !ring.is_particular() {
        return (def.prep)(&Prep { ring, bits, cred: None }, entry, req.op.get_mut());
    }
    prepare_with_options(ring, state, req, entry, def)
}

/// `IOSQE_*` as [`flags`].
fn request_flags(sqe_flags: u8) -> u32 {
    let map = [
        (sqe::FIXED_FILE, flags::FIXED_FILE),
        (sqe::IO_DRAIN, flags::DRAIN),
        (sqe::IO_LINK, flags::LINK),
        (sqe::IO_HARDLINK, flags::LINK | flags::HARDLINK),
        (sqe::ASYNC, flags::ASYNC),
        (sqe::BUFFER_SELECT, flags::BUFFER_SELECT),
        (sqe::CQE_SKIP_SUCCESS, flags::SKIP_CQE),
    ];
    map.iter().filter(|(from, _)| sqe_flags & from != 0).fold(0, |bits, (_, to)| bits | to)
}

/// The rest of [`prepare`] for an entry with flags, a priority or credentials, or of a ring that does not take everything.
#[inline(never)]
fn prepare_with_options(
    ring: &Arc<Ring>,
    state: &mut Submission,
    req: &mut Request,
    entry: &Sqe,
    def: &OpDef,
) -> Result<()> {
    let head = &mut req.head;
    let bits = *head.flags.get_mut() | request_flags(entry.flags);
    *head.flags.get_mut() = bits;
    if entry.flags & !sqe::ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if bits & flags::BUFFER_SELECT != 0 && !def.buffer_select {
        return Err(Errno::EOPNOTSUPP);
    }
    if bits & flags::SKIP_CQE != 0 {
        state.drains_off = true;
    }
    if bits & flags::DRAIN != 0 {
        if state.drains_off {
            return Err(Errno::EOPNOTSUPP);
        }
        // A whole chain waits, from its head on.
        if let Some(chain) = &state.chain {
            chain.head.set(flags::DRAIN);
        }
    }
    if let Some(restrictions) = ring.restrictions.get()
        && !restrictions.allow_sqe(entry.opcode, entry.flags)
    {
        return Err(Errno::EACCES);
    }
    if !def.ioprio && entry.ioprio != 0 || !def.iopoll && ring.has(raw::IORING_SETUP_IOPOLL) {
        return Err(Errno::EINVAL);
    }
    if entry.personality != 0 {
        let cred = ring.personalities.lock().get(&entry.personality).cloned().ok_or(Errno::EINVAL)?;
        *head.flags.get_mut() |= flags::PERSONALITY;
        head.cred = Once::new();
        let _ = head.cred.set(cred);
    }
    let prep = Prep { ring, bits, cred: head.cred.get() };
    let op = req.op.get_mut();
    match prep.cred {
        None => (def.prep)(&prep, entry, op),
        cred => op::as_personality(cred, || (def.prep)(&prep, entry, op)),
    }
}

/// Counts the requests of a chain as active.
pub fn activate(ring: &Ring, head: &Arc<Request>) {
    let mut at = Some(head.clone());
    let mut count = 0;
    while let Some(req) = at {
        req.set(flags::ACTIVE);
        count += 1;
        at = req.next.lock().clone();
    }
    ring.active.fetch_add(count, Ordering::AcqRel);
}

/// Counts a request that is in no chain as active.
fn activate_one(ring: &Ring, req: &Request) {
    req.set(flags::ACTIVE);
    ring.active.fetch_add(1, Ordering::AcqRel);
}

/// A request, or the head of a chain, is complete in itself: it runs, or waits for those before it.
fn start(cx: &mut Cx<'_>, req: Arc<Request>) {
    let ring = cx.ring;
    let drain = req.has(flags::DRAIN) && ring.active.load(Ordering::Acquire) > 0;
    if drain || ring.has_drains.load(Ordering::Acquire) {
        let mut deferred = ring.deferred.lock();
        // It may just have become empty.
        let must = drain && ring.active.load(Ordering::Acquire) > 0 || !deferred.is_empty();
        if must {
            if deferred.try_reserve(1).is_err() {
                drop(deferred);
                return cx.fail(req, Errno::ENOMEM);
            }
            ring.has_drains.store(true, Ordering::Release);
            deferred.push_back_reserved(req.clone());
            drop(deferred);
            ring.track(&req);
            return;
        }
    }
    if req.next.lock().is_none() {
        activate_one(ring, &req);
    } else {
        activate(ring, &req);
    }
    issue(cx, req);
}

/// Issues a request in its thread: without waiting; if it cannot go on, it waits for its file or goes to a worker.
pub fn issue(cx: &mut Cx<'_>, req: Arc<Request>) {
    if req.has(flags::FAIL) {
        let res = req.result.load(Ordering::Relaxed);
        let res = if req.has(flags::BROKEN) { res } else { Errno::ECANCELED.to_return() as i32 };
        return cx.complete(req, res, 0);
    }
    if req.has(flags::LINK) {
        take_limit(&req);
    }
    if req.has(flags::ASYNC) && wants_worker(cx.ring, &req) {
        return punt(cx, req);
    }
    let outcome = op::issue(cx, &req, false);
    settle(cx, req, outcome);
}

/// Goes on with a request that was tried in its thread.
fn settle(cx: &mut Cx<'_>, req: Arc<Request>, mut outcome: Issue) {
    loop {
        match outcome {
            Issue::Done(res, cflags) => return cx.complete(req, res, cflags),
            Issue::Pending => return,
            Issue::Punt => return punt(cx, req),
            Issue::WouldBlock(events) => {
                if req.has(flags::NOWAIT) {
                    return cx.complete(req, Errno::EAGAIN.to_return() as i32, 0);
                }
                let file = req.file().filter(|file| file.ops().can_poll(file));
                let patient = req.poll_retries.fetch_add(1, Ordering::Relaxed) <= POLL_RETRIES;
                let Some(file) = file.filter(|_| patient) else { return punt(cx, req) };
                match poll::arm_file(cx.ring, &req, file, events) {
                    Armed::Waiting => {
                        timeout::start_limit(cx, &req);
                        return;
                    }
                    Armed::Ready(_) => {}
                    Armed::Failed(errno) => return cx.fail(req, errno),
                }
            }
            Issue::Share => {}
        }
        outcome = op::issue(cx, &req, false);
    }
}

/// Whether a request that asked for a worker gets one at once: what waits in queues or timers does not need it.
fn wants_worker(ring: &Arc<Ring>, req: &Arc<Request>) -> bool {
    if op::assign_file(ring, req).is_err() {
        return false;
    }
    match &*req.op.lock() {
        op::Op::Open(_) => true,
        op::Op::Rw(_) => req.file().is_none_or(|file| !file.ops().can_poll(file)),
        _ => false,
    }
}

/// If a timeout follows in the chain, it is this request's.
fn take_limit(req: &Arc<Request>) {
    let mut next = req.next.lock();
    let is_limit =
        next.as_ref().is_some_and(|next| next.opcode == op::LINK_TIMEOUT && !next.has(flags::BROKEN));
    if !is_limit {
        return;
    }
    let Some(limit) = next.take() else { return };
    *next = limit.next.lock().take();
    drop(next);
    *limit.limits.lock() = Arc::downgrade(req);
    *req.link_timeout.lock() = Some(limit);
}

/// Hands a request to the workers of its thread.
pub fn punt(cx: &mut Cx<'_>, req: Arc<Request>) {
    if let Err(errno) = op::assign_file(cx.ring, &req) {
        return cx.fail(req, errno);
    }
    if req.cred.get().is_none() {
        let _ = req.cred.set(crate::process::current().cred());
    }
    let wq = match req.owner.wq() {
        Ok(wq) => wq.clone(),
        Err(errno) => return cx.fail(req, errno),
    };
    cx.ring.track(&req);
    req.wait_in(Place::Queue);
    timeout::start_limit(cx, &req);
    if let Err((req, errno)) = wq.enqueue(req, wq::class_of)
        && req.claim()
    {
        cx.fail(req, errno);
    }
}

/// `AT_FDCWD`-like constants that several operations use.
pub const CWD: i32 = uapi::AT_FDCWD;
