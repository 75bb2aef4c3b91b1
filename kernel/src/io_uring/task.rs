//! What a thread has of io_uring: requests under way, task work, workers, registered ring descriptors.
//!
//! Made when the thread first uses a ring. At exit and exec every request of the thread is cancelled and waited for, before its
//! memory and files go.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::try_arc;
use sched::Task;
use sched::hrtimer::Deadline;
use sched::wait::WaitQueue;
use sync::Once;
use vfs::file::File;

use super::ring::Ring;
use super::ring_list::RingList;
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
    rings: RingList<Ring>,
    /// `IORING_REGISTER_RING_FDS`.
    pub ring_fds: SpinLock<[Option<Arc<File>>; RING_FDS]>,
}

impl TaskCtx {
    /// That of the running thread, made if there is none.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[inline]
    pub fn current() -> Result<Arc<Self>> {
        let me = current();
        match Self::existing(&me) {
            Some(found) => Ok(found),
            None => Self::make(&me),
        }
    }

    #[cold]
    fn make(me: &CurrentThread) -> Result<Arc<Self>> {
        let made = try_arc(Self {
            task: me.task_arc(),
            work: WorkList::new(),
            inflight: AtomicUsize::new(0),
            idle: WaitQueue::new(),
            exiting: AtomicBool::new(false),
            wq: Once::new(),
            rings: RingList::new(),
            ring_fds: SpinLock::new([const { None }; RING_FDS]),
        })?;
        drop(me.io_uring.replace(Some(made.clone())));
        Ok(made)
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

    /// Notes that the thread uses `ring`: before its first request.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn join(&self, ring: &Arc<Ring>) -> Result<()> {
        self.rings.add(ring)
    }

    /// One more request waits.
    pub fn enter(&self) {
        self.inflight.fetch_add(1, Ordering::AcqRel);
    }

    /// One less.
    pub fn leave(&self) {
        self.inflight.fetch_sub(1, Ordering::AcqRel);
        if self.is_exiting() {
            self.idle.wake_all();
        }
    }

    /// Its workers, made if there are none. By the thread itself.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn wq(&self) -> Result<&Arc<Wq>> {
        if self.wq.get().is_none() {
            // Nobody else makes them.
            let _ = self.wq.set(Wq::new()?);
        }
        self.wq.get().ok_or(Errno::ENOMEM)
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
            for ring in self.rings.iter() {
                cancel::all(&ring, Some(self));
            }
            self.run();
            for ring in self.rings.iter() {
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
        for ring in ctx.rings.iter() {
            sqpoll::creator_exits(&ring, &me.process);
        }
    }
    ctx.drain();
    let fds = core::mem::take(&mut *ctx.ring_fds.lock());
    drop(fds);
    drop(me.io_uring.replace(None));
}
