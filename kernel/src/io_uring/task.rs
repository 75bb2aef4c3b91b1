//! What a thread has of io_uring: requests under way, task work, workers, registered ring descriptors.
//!
//! Made when the thread first uses a ring. At exit and exec every request of the thread is cancelled and waited for, before its
//! memory and files go.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "not converted to mm::fallible yet")]

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use sched::Task;
use sched::hrtimer::Deadline;
use sched::wait::WaitQueue;
use sync::Once;
use vfs::file::File;

use super::ring::Ring;
use super::work::WorkList;
use super::wq::Wq;
use super::{cancel, sqpoll};
use crate::process::{CurrentThread, Thread, current};

/// Ring descriptors that a thread can register.
pub const RING_FDS: usize = 16;

/// See the module text.
pub struct TaskCtx {
    /// The thread.
    pub task: Arc<Task>,
    /// Work for it.
    pub work: WorkList,
    /// Requests that wait for something.
    inflight: AtomicUsize,
    /// Woken when that changes, and when there is work.
    pub idle: WaitQueue,
    exiting: AtomicBool,
    wq: Once<Arc<Wq>>,
    rings: SpinLock<Vec<Weak<Ring>>>,
    /// `IORING_REGISTER_RING_FDS`.
    pub ring_fds: SpinLock<[Option<Arc<File>>; RING_FDS]>,
}

impl TaskCtx {
    /// That of the running thread, made if there is none.
    pub fn current() -> Arc<Self> {
        Self::of(&current())
    }

    fn of(me: &CurrentThread) -> Arc<Self> {
        if let Some(found) = Self::existing(me) {
            return found;
        }
        let made = Arc::new(Self {
            task: me.task_arc(),
            work: WorkList::new(),
            inflight: AtomicUsize::new(0),
            idle: WaitQueue::new(),
            exiting: AtomicBool::new(false),
            wq: Once::new(),
            rings: SpinLock::new(Vec::new()),
            ring_fds: SpinLock::new([const { None }; RING_FDS]),
        });
        drop(me.io_uring.replace(Some(made.clone())));
        made
    }

    /// That of `thread`, if it has one.
    pub fn existing(thread: &Thread) -> Option<Arc<Self>> {
        if thread.io_uring.is_none() {
            return None;
        }
        thread.io_uring.load_arc(&sched::rcu::read_lock())
    }

    /// Whether it cancels what is left.
    pub fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::Acquire)
    }

    /// One more request waits.
    pub fn enter(&self, ring: &Arc<Ring>) {
        self.inflight.fetch_add(1, Ordering::AcqRel);
        let mut rings = self.rings.lock();
        if rings.iter().any(|known| core::ptr::eq(known.as_ptr(), Arc::as_ptr(ring))) {
            return;
        }
        // Rings that are gone make room.
        rings.retain(|known| known.strong_count() > 0);
        rings.push(Arc::downgrade(ring));
    }

    /// One less.
    pub fn leave(&self) {
        self.inflight.fetch_sub(1, Ordering::AcqRel);
        if self.is_exiting() {
            self.idle.wake_all();
        }
    }

    /// Its workers, made if there are none. By the thread itself.
    pub fn wq(&self) -> Arc<Wq> {
        self.wq.call_once(Wq::new).clone()
    }

    /// Its workers, if there are any.
    pub fn existing_wq(&self) -> Option<&Arc<Wq>> {
        self.wq.get()
    }

    /// The registered ring descriptor with this index.
    ///
    /// # Errors
    /// `EINVAL` for an index out of range, `EBADF` for an empty slot.
    pub fn ring_fd(&self, index: u32) -> Result<Arc<File>> {
        let fds = self.ring_fds.lock();
        fds.get(index as usize).ok_or(Errno::EINVAL)?.clone().ok_or(Errno::EBADF)
    }

    /// Cancels everything and waits until nothing is left. By the thread itself.
    fn drain(self: &Arc<Self>) {
        self.exiting.store(true, Ordering::Release);
        loop {
            let rings: Vec<Arc<Ring>> = self.rings.lock().iter().filter_map(Weak::upgrade).collect();
            for ring in &rings {
                cancel::all(ring, Some(self));
            }
            self.run();
            for ring in &rings {
                if ring.defers_work() {
                    ring.run_deferred(Some(self));
                }
            }
            if self.inflight.load(Ordering::Acquire) == 0 {
                break;
            }
            let more = || self.inflight.load(Ordering::Acquire) == 0 || !self.work.is_empty();
            // The deadline is for what cannot tell: work of a ring that another thread runs.
            self.idle.wait_event_timeout(Deadline::after_ms(20), more);
        }
        if let Some(wq) = self.wq.get() {
            wq.stop();
        }
    }
}

/// Whether work waits for `thread`: its interruptible sleeps end.
pub fn has_work(thread: &Thread) -> bool {
    if thread.io_uring.is_none() {
        return false;
    }
    let guard = sched::rcu::read_lock();
    thread.io_uring.load(&guard).is_some_and(|ctx| !ctx.work.is_empty())
}

/// Runs what waits for the running thread: before it returns to user mode.
pub fn on_resume(me: &CurrentThread) {
    if let Some(ctx) = TaskCtx::existing(me) {
        ctx.run();
    }
}

/// The running thread exits, or calls exec: nothing of it stays under way.
pub fn exit(me: &CurrentThread) {
    let Some(ctx) = TaskCtx::existing(me) else { return };
    let alone = me.process.thread_count() <= 1;
    if alone {
        let rings: Vec<Arc<Ring>> = ctx.rings.lock().iter().filter_map(Weak::upgrade).collect();
        for ring in rings {
            sqpoll::creator_exits(&ring, &me.process);
        }
    }
    ctx.drain();
    let fds = core::mem::take(&mut *ctx.ring_fds.lock());
    drop(fds);
    drop(me.io_uring.replace(None));
}

impl TaskCtx {
    /// Notes that the thread made `ring`.
    pub fn made(&self, ring: &Arc<Ring>) {
        self.enter(ring);
        self.inflight.fetch_sub(1, Ordering::AcqRel);
    }
}
