//! Completion of requests: results, links, drains.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "not converted to mm::fallible yet")]

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::Errno;
use abi::io_uring::{Cqe, raw};

use super::request::{Action, Request, flags};
use super::ring::Ring;
use super::{timeout, work};

/// Completions that are collected before they are posted together.
const BATCH: usize = 16;

/// Who completes: collects completions, and the requests that may run next.
///
/// With the ring's submission lock held ([`Cx::locked`]) the next request of a chain is run by the holder; otherwise it
/// becomes task work.
pub struct Cx<'a> {
    /// The ring.
    pub ring: &'a Arc<Ring>,
    locked: bool,
    count: usize,
    cqes: [Cqe; BATCH],
    ready: VecDeque<Arc<Request>>,
}

impl<'a> Cx<'a> {
    /// The submission lock is held, and the running thread owns the requests.
    pub fn locked(ring: &'a Arc<Ring>) -> Self {
        Self::new(ring, true)
    }

    /// Somebody else: a worker, a canceller.
    pub fn elsewhere(ring: &'a Arc<Ring>) -> Self {
        Self::new(ring, false)
    }

    fn new(ring: &'a Arc<Ring>, locked: bool) -> Self {
        Self { ring, locked, count: 0, cqes: [Cqe::default(); BATCH], ready: VecDeque::new() }
    }

    /// A request that may run now.
    pub fn next_ready(&mut self) -> Option<Arc<Request>> {
        self.ready.pop_front()
    }

    /// Posts what was collected.
    #[inline]
    pub fn flush(&mut self) {
        if self.count > 0 {
            self.ring.post_all(self.cqes.get(..self.count).unwrap_or_default());
            self.count = 0;
        }
    }

    fn post(&mut self, user_data: u64, res: i32, flags: u32) {
        if self.count == BATCH {
            self.flush();
        }
        if let Some(slot) = self.cqes.get_mut(self.count) {
            *slot = Cqe { user_data, res, flags };
            self.count += 1;
        }
    }

    /// Posts a completion of a request that goes on; `false` if the ring is full, and the request should end.
    pub fn post_more(&mut self, req: &Request, res: i32, cflags: u32) -> bool {
        self.flush();
        let cqe = Cqe { user_data: req.user_data(), res, flags: cflags | raw::IORING_CQE_F_MORE };
        self.ring.post(cqe, super::cq::IfFull::Refuse)
    }

    /// Completes with an error.
    pub fn fail(&mut self, req: Arc<Request>, errno: Errno) {
        self.complete(req, errno.to_return() as i32, 0);
    }

    /// Completes a request with its result. An error breaks its chain, unless it is a hard link.
    pub fn complete(&mut self, req: Arc<Request>, res: i32, cflags: u32) {
        if res < 0 {
            req.set_fail();
        }
        self.complete_ok(req, res, cflags);
    }

    /// The same, but an error does not break the chain.
    pub fn complete_ok(&mut self, req: Arc<Request>, res: i32, cflags: u32) {
        if !req.has(flags::SKIP_CQE) {
            self.post(req.user_data(), res, cflags);
        }
        self.finish(req);
    }

    /// Gives up what the request held, and lets go on what waited for it.
    fn finish(&mut self, req: Arc<Request>) {
        release(&req);
        let limit = req.link_timeout.lock().take();
        if let Some(limit) = limit {
            timeout::disarm(self, limit);
        }
        let next = req.next.lock().take();
        if let Some(next) = next {
            if req.has(flags::FAIL) && !req.has(flags::HARDLINK) {
                self.fail_chain(next, req.has(flags::SKIP_LINKS));
            } else {
                self.run_next(next);
            }
        }
        self.retire(req);
    }

    fn retire(&mut self, req: Arc<Request>) {
        req.ring.untrack(&req);
        if req.clear(flags::ACTIVE) {
            self.ring.active.fetch_sub(1, Ordering::AcqRel);
            if self.ring.has_drains.load(Ordering::Acquire) {
                self.release_drained();
            }
        }
        self.ring.recycle(req);
    }

    /// A request that may run: by us, or by its thread.
    pub fn run_next(&mut self, next: Arc<Request>) {
        if self.locked {
            self.ready.push_back(next);
        } else {
            // Somebody has to see it if its thread exits before it runs.
            self.ring.track(&next);
            work::queue(&next, Action::Issue);
        }
    }

    /// What is linked to a failed request is cancelled.
    fn fail_chain(&mut self, first: Arc<Request>, silent: bool) {
        let mut at = Some(first);
        while let Some(req) = at {
            at = req.next.lock().take();
            let broken = req.has(flags::BROKEN);
            let res =
                if broken { req.result.load(Ordering::Relaxed) } else { Errno::ECANCELED.to_return() as i32 };
            if !silent {
                self.post(req.user_data(), res, 0);
            }
            release(&req);
            self.retire(req);
        }
    }

    /// Lets requests go on that waited for all before them.
    fn release_drained(&mut self) {
        loop {
            let req = {
                let mut deferred = self.ring.deferred.lock();
                let active = self.ring.active.load(Ordering::Acquire);
                if deferred.front().is_none_or(|req| req.has(flags::DRAIN) && active > 0) {
                    break;
                }
                let req = deferred.pop_front();
                if deferred.is_empty() {
                    self.ring.has_drains.store(false, Ordering::Release);
                }
                if let Some(req) = &req {
                    super::submit::activate(self.ring, req);
                }
                req
            };
            match req {
                Some(req) => self.run_next(req),
                None => break,
            }
        }
    }
}

impl Drop for Cx<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Gives up file, places in wait queues, timer. Task context.
pub fn release(req: &Request) {
    if req.has(flags::TRACKED) {
        let registrations = core::mem::take(&mut *req.registrations.lock());
        drop(registrations);
        let timer = req.timer.lock().take();
        drop(timer);
        let futex = req.futex.lock().take();
        if let Some(place) = futex {
            place.leave();
        }
    }
    let file = req.file.lock().take();
    drop(file);
    let node = req.node.lock().take();
    drop(node);
}

/// A result as a completion shows it: calls are not restarted here.
pub fn result(result: abi::Result<usize>) -> i32 {
    match result {
        Ok(value) => i32::try_from(value).unwrap_or(i32::MAX),
        Err(errno) => {
            let restarts = matches!(
                errno,
                Errno::ERESTARTSYS
                    | Errno::ERESTARTNOINTR
                    | Errno::ERESTARTNOHAND
                    | Errno::ERESTART_RESTARTBLOCK
            );
            let errno = if restarts { Errno::EINTR } else { errno };
            errno.to_return() as i32
        }
    }
}
