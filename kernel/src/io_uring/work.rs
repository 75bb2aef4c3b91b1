//! Task work: what has to be done in the context of the thread that submitted a request.
//!
//! Events come anywhere (interrupts, other processes' writes), but a request that goes on needs the memory, files and credentials of
//! its submitter. So the event only puts the request on a list: the thread's own, which is run before the thread returns to
//! user mode and while it waits in `io_uring_enter(2)`, or, with `IORING_SETUP_DEFER_TASKRUN`, the ring's, which is run in
//! `io_uring_enter(2)` only.
//!
//! Work that cannot run where it should (the thread is exiting, the ring is going) is cancelled instead.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::Errno;
use abi::io_uring::raw;
use arch::sync::SpinLockIrq;
use arch::thread::ThreadFlags;
use sched::State;

use super::complete::Cx;
use super::layout::SQ_FLAGS;
use super::request::{Action, Request};
use super::ring::Ring;
use super::task::TaskCtx;
use super::{poll, submit, timeout};

/// A list of requests, newest first.
pub struct WorkList {
    head: SpinLockIrq<Option<Arc<Request>>>,
    count: AtomicU32,
}

impl WorkList {
    /// Nothing to do.
    pub const fn new() -> Self {
        Self { head: SpinLockIrq::new(None), count: AtomicU32::new(0) }
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// How much there is to do.
    pub fn len(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    fn push(&self, req: Arc<Request>) {
        let mut head = self.head.lock();
        *req.work_next.lock() = head.take();
        *head = Some(req);
        // SeqCst: a waiter that looks after it set its state sees the count, or the waker sees the state.
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes everything, oldest first.
    fn take(&self) -> Option<Arc<Request>> {
        let (mut newest, count) = {
            let mut head = self.head.lock();
            (head.take(), self.count.load(Ordering::Relaxed))
        };
        let mut oldest = None;
        let mut taken = 0;
        while let Some(req) = newest {
            newest = core::mem::replace(&mut *req.work_next.lock(), oldest);
            oldest = Some(req);
            taken += 1;
        }
        debug_assert!(taken <= count || count == 0);
        self.count.fetch_sub(taken, Ordering::SeqCst);
        oldest
    }
}

impl Default for WorkList {
    fn default() -> Self {
        Self::new()
    }
}

/// Has `action` done with `req` by its thread. From anywhere, also in interrupts.
pub fn queue(req: &Arc<Request>, action: Action) {
    req.set_action(action);
    let ring = &req.ring;
    // Nobody enters a ring that is closed: its thread runs what is left with its own.
    if ring.defers_work() && !ring.is_dying() {
        ring.work.push(req.clone());
        if ring.has(raw::IORING_SETUP_TASKRUN_FLAG) {
            ring.rings.set_bits(SQ_FLAGS, raw::IORING_SQ_TASKRUN);
        }
        ring.cq_wait.wake_all();
        if ring.work.len() == 1 {
            // Those who wait for the ring by other means have to come and run it.
            ring.poll_wait.wake_all_poll(sched::wait::PollEvents::IN | sched::wait::PollEvents::RDNORM);
            ring.signal_eventfd();
        }
        req.owner.idle.wake_all();
        return;
    }
    if ring.has(raw::IORING_SETUP_TASKRUN_FLAG) {
        ring.rings.set_bits(SQ_FLAGS, raw::IORING_SQ_TASKRUN);
    }
    let owner = req.owner.clone();
    owner.work.push(req.clone());
    owner.kick(!ring.has(raw::IORING_SETUP_COOP_TASKRUN));
}

impl TaskCtx {
    /// Tells the thread that there is work.
    pub fn kick(&self, now: bool) {
        let task = &self.task;
        task.thread_flags().set(ThreadFlags::NOTIFY_RESUME | ThreadFlags::SIGPENDING);
        if !sched::wake_up_state(task, State::INTERRUPTIBLE) && now {
            sched::kick(task);
        }
        self.idle.wake_all();
    }

    /// Runs the thread's work; `true` if there was any. By the thread itself.
    pub fn run(self: &Arc<Self>) -> bool {
        let mut any = false;
        while !self.work.is_empty() {
            any |= run_list(&self.work, Some(self));
        }
        any
    }
}

impl Ring {
    /// Runs the ring's own work (`DEFER_TASKRUN`) in the context of `me`, or cancels it; `true` if there was any.
    pub fn run_deferred(&self, me: Option<&Arc<TaskCtx>>) -> bool {
        let mut any = false;
        while !self.work.is_empty() {
            if self.has(raw::IORING_SETUP_TASKRUN_FLAG) {
                self.rings.clear_bits(SQ_FLAGS, raw::IORING_SQ_TASKRUN);
            }
            any |= run_list(&self.work, me);
        }
        any
    }
}

fn run_list(list: &WorkList, me: Option<&Arc<TaskCtx>>) -> bool {
    let mut at = list.take();
    let any = at.is_some();
    while let Some(first) = at {
        // All that follow each other and belong to one ring go through it in one go.
        let ring = first.ring.clone();
        let mut state = ring.submit.lock();
        let mut cx = Cx::locked(&ring, &mut state);
        if ring.has(raw::IORING_SETUP_TASKRUN_FLAG) && !ring.defers_work() {
            ring.rings.clear_bits(SQ_FLAGS, raw::IORING_SQ_TASKRUN);
        }
        let mut next = Some(first);
        while let Some(req) = next.take_if(|req| Arc::ptr_eq(&req.ring, &ring)) {
            next = req.work_next.lock().take();
            let alive =
                me.is_some_and(|me| Arc::ptr_eq(me, &req.owner) && !me.is_exiting()) && !ring.is_dying();
            one(&mut cx, req, alive);
            submit::run_ready(&mut cx);
        }
        drop(cx);
        drop(state);
        at = next;
    }
    any
}

fn one(cx: &mut Cx<'_>, req: Arc<Request>, alive: bool) {
    match req.action() {
        Action::Complete => {
            let (res, cflags) = (req.result.load(Ordering::Relaxed), req.cflags.load(Ordering::Relaxed));
            cx.complete(req, res, cflags);
        }
        _ if !alive => cx.fail(req, Errno::ECANCELED),
        Action::Issue => submit::issue(cx, req),
        Action::Poll => poll::woken(cx, req),
        Action::Timer => timeout::expired(cx, req),
    }
}
