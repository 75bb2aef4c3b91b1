//! Completion of requests: results, links, drains.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::Errno;
use abi::io_uring::{Cqe, raw};

use super::request::{Action, Head, Request, flags};
use super::ring::Ring;
use super::submit::Submission;
use super::{op, timeout, work};

/// Who completes.
///
/// With the ring's submission lock held ([`Cx::locked`]) completions are collected and posted together, completed requests are used
/// again without another lock, and the next request of a chain is run by the holder. Otherwise each completion is posted at once, and
/// the next request becomes task work.
pub struct Cx<'a> {
    /// The ring.
    pub ring: &'a Arc<Ring>,
    /// What the submission lock protects, if it is held and the running thread owns the requests.
    pub(super) state: Option<&'a mut Submission>,
}

impl<'a> Cx<'a> {
    /// The submission lock is held, and the running thread owns the requests.
    pub fn locked(ring: &'a Arc<Ring>, state: &'a mut Submission) -> Self {
        Self { ring, state: Some(state) }
    }

    /// Somebody else: a worker, a canceller.
    pub fn elsewhere(ring: &'a Arc<Ring>) -> Self {
        Self { ring, state: None }
    }

    /// A request that may run now.
    pub fn next_ready(&mut self) -> Option<Arc<Request>> {
        self.state.as_mut()?.ready.pop()
    }

    /// Posts what was collected.
    #[inline]
    pub fn flush(&mut self) {
        if let Some(state) = &mut self.state {
            state.batch.flush(self.ring);
        }
    }

    #[inline(always)]
    fn post(&mut self, user_data: u64, res: i32, flags: u32) {
        let cqe = Cqe { user_data, res, flags };
        match &mut self.state {
            Some(state) => state.batch.add(self.ring, cqe),
            None => self.ring.post_all(&[cqe]),
        }
    }

    /// Posts a completion of a request that goes on; `false` if the ring is full, and the request should end.
    pub fn post_more(&mut self, req: &Head, res: i32, cflags: u32) -> bool {
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

    /// Completes a request that nobody else has seen, and that is in no chain; it is as good as new then.
    #[inline(always)]
    pub fn complete_alone(&mut self, req: &mut Request, res: i32, cflags: u32) {
        if res < 0 {
            req.set_fail();
        }
        if !req.has(flags::SKIP_CQE) {
            self.post(req.user_data(), res, cflags);
        }
        req.reset_alone();
    }

    /// Gives up what the request held, and lets go on what waited for it.
    fn finish(&mut self, req: Arc<Request>) {
        release(&req);
        if req.has(flags::LINK) {
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
        }
        self.retire(req);
    }

    fn retire(&mut self, mut req: Arc<Request>) {
        self.ring.untrack(&req);
        if req.clear(flags::ACTIVE) {
            self.ring.active.fetch_sub(1, Ordering::AcqRel);
            if self.ring.has_drains.load(Ordering::Acquire) {
                self.release_drained();
            }
        }
        // It is used again if nobody else holds it.
        if let Some(whole) = Arc::get_mut(&mut req) {
            whole.reset();
            self.keep(req);
        }
    }

    /// Keeps a request that is as good as new.
    #[inline(always)]
    pub(super) fn keep(&mut self, req: Arc<Request>) {
        if self.ring.is_dying() {
            return;
        }
        match &mut self.state {
            Some(state) => state.keep(req),
            None => self.ring.give_back(req),
        }
    }

    /// A request that may run: by us, or by its thread.
    pub fn run_next(&mut self, next: Arc<Request>) {
        match &mut self.state {
            Some(state) => state.ready.push(next),
            None => {
                // Somebody has to see it if its thread exits before it runs.
                self.ring.track(&next);
                work::queue(&next, Action::Issue);
            }
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
    #[inline]
    fn drop(&mut self) {
        self.flush();
    }
}

/// Gives up places in wait queues, timer and futex. Task context.
pub fn release(req: &Request) {
    if req.has(flags::TRACKED) {
        let registrations = core::mem::take(&mut *req.registrations.lock());
        drop(registrations);
        let futex = req.futex.lock().take();
        if let Some(place) = futex {
            place.leave();
        }
    } else if req.opcode != op::LINK_TIMEOUT {
        return;
    }
    // That of a link timeout is made before it starts.
    let timer = req.timer.lock().take();
    drop(timer);
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
