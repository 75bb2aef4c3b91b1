//! A request: one submission, from its preparation to its completion.
//!
//! A request has one owner at a time: the submitter, a wait queue or timer, the task-work list, a worker. Ownership of a waiting
//! request passes by [`Request::claim`]: the wake-up, the timer and a canceller all try it, and one of them gets it. What the
//! owner alone may touch is under the `op` mutex; the rest is atomic or under leaf locks.
//!
//! A fresh request is the submitter's alone. It is prepared and tried as a plain value, without a lock, and if it completes at once
//! nobody else has ever seen it. Only one that has to wait is shared, and counted, from then on.
//!
//! Requests are used again, so that an operation that completes at once allocates nothing.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use abi::Result;
use arch::sync::{SpinLock, SpinLockIrq};
use mm::try_arc;
use sched::hrtimer::HrTimer;
use sched::mutex::Mutex;
use sched::wait::Registration;
use sync::Once;
use vfs::cred::Credentials;
use vfs::file::File;

use super::op::Op;
use super::ring::Ring;
use super::rsrc::FileNode;
use super::task::TaskCtx;
use crate::futex::detached::Place as FutexPlace;

/// Facts about a request (`REQ_F_*`).
pub mod flags {
    /// It failed: what is linked to it does not run.
    pub const FAIL: u32 = 1 << 0;
    /// No completion unless it fails.
    pub const SKIP_CQE: u32 = 1 << 1;
    /// Nothing that is linked to it completes visibly if it fails.
    pub const SKIP_LINKS: u32 = 1 << 2;
    /// What is linked runs even if this fails.
    pub const HARDLINK: u32 = 1 << 3;
    /// Another request follows in the chain.
    pub const LINK: u32 = 1 << 4;
    /// Runs when all before it are complete.
    pub const DRAIN: u32 = 1 << 5;
    /// Goes to a worker at once.
    pub const ASYNC: u32 = 1 << 6;
    /// Takes a buffer of a group.
    pub const BUFFER_SELECT: u32 = 1 << 7;
    /// Is in the ring's table of requests under way.
    pub const TRACKED: u32 = 1 << 8;
    /// Counts among the ring's active requests.
    pub const ACTIVE: u32 = 1 << 9;
    /// Must not wait: would-block is its result.
    pub const NOWAIT: u32 = 1 << 10;
    /// Somebody wants it to end.
    pub const CANCELED: u32 = 1 << 11;
    /// `fd` is an index of the ring's file table.
    pub const FIXED_FILE: u32 = 1 << 12;
    /// Its preparation failed; `result` says how.
    pub const BROKEN: u32 = 1 << 13;
    /// `fd` names a file that it works on.
    pub const NEEDS_FILE: u32 = 1 << 14;
    /// It runs with registered credentials.
    pub const PERSONALITY: u32 = 1 << 15;
}

/// What a waiting request waits in; for cancelling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Place {
    /// Nowhere: it runs, or is about to.
    None,
    /// Wait queues.
    Poll,
    /// A timer.
    Timer,
    /// The timer that limits the request before it in the chain.
    LinkTimer,
    /// The queue of the workers.
    Queue,
    /// A worker.
    Worker,
    /// A futex.
    Futex,
}

/// What is to be done with a request that task work runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Action {
    /// Issue it (again).
    Issue,
    /// A wait queue woke it.
    Poll,
    /// Its timer expired.
    Timer,
    /// It is complete, with `result`.
    Complete,
}

/// What operations see of a request.
pub struct Head {
    /// What the user knows it by; poll update changes it.
    pub user_data: AtomicU64,
    /// `IORING_OP_*`.
    pub opcode: u8,
    /// Descriptor, or index of a registered file.
    pub fd: i32,
    /// The group of buffers to take one from.
    pub buf_group: u16,
    /// Credentials of a registered personality; of the submitter, once it is with the workers.
    pub cred: Once<Arc<Credentials>>,
    /// [`flags`].
    pub flags: AtomicU32,
    /// How often a poll led to nothing.
    pub poll_retries: AtomicU32,
    /// The file, once it was looked up.
    pub file: Once<Arc<File>>,
    /// The registration it came from, if that has a tag.
    pub node: Once<Arc<FileNode>>,
}

/// See the module text.
pub struct Request {
    /// Its ring.
    pub ring: Arc<Ring>,
    /// The thread it acts for.
    pub owner: Arc<TaskCtx>,
    /// What operations see.
    pub head: Head,
    /// The operation and its arguments.
    pub op: Mutex<Op>,
    /// Slot in the table of requests under way.
    pub(super) slot: AtomicU32,
    /// The next in the chain.
    pub next: SpinLock<Option<Arc<Request>>>,
    /// The timeout that limits this request.
    pub link_timeout: SpinLock<Option<Arc<Request>>>,
    /// The request that this timeout limits.
    pub limits: SpinLock<Weak<Request>>,
    waiting: AtomicBool,
    place: AtomicU8,
    action: AtomicU8,
    /// The result that [`Action::Complete`] reports.
    pub result: AtomicI32,
    /// `flags` of that completion.
    pub cflags: AtomicU32,
    /// Events it waits for.
    pub poll_events: AtomicU32,
    /// Its places in wait queues.
    pub registrations: SpinLock<Vec<Registration>>,
    /// Its timer.
    pub timer: SpinLock<Option<Box<HrTimer>>>,
    /// Its places in the buckets of futexes.
    pub futex: SpinLock<Option<FutexPlace>>,
    /// Next in a list of task work.
    pub(super) work_next: SpinLockIrq<Option<Arc<Request>>>,
}

impl core::ops::Deref for Request {
    type Target = Head;

    #[inline]
    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Head {
    /// Whether all of the flags are set.
    #[inline]
    pub fn has(&self, bits: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & bits == bits
    }

    /// Whether one of the flags is set.
    #[inline]
    pub fn has_any(&self, bits: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & bits != 0
    }

    /// Sets flags.
    #[inline]
    pub fn set(&self, bits: u32) {
        self.flags.fetch_or(bits, Ordering::Relaxed);
    }

    /// Clears flags; whether one was set.
    #[inline]
    pub fn clear(&self, bits: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & bits != 0
            && self.flags.fetch_and(!bits, Ordering::Relaxed) & bits != 0
    }

    /// What the user knows it by.
    #[inline]
    pub fn user_data(&self) -> u64 {
        self.user_data.load(Ordering::Relaxed)
    }

    /// Marks it failed: its completion is shown, and what is linked does not run.
    pub fn set_fail(&self) {
        let old = self.flags.fetch_or(flags::FAIL, Ordering::Relaxed);
        if old & flags::SKIP_CQE != 0 {
            self.clear(flags::SKIP_CQE);
            self.set(flags::SKIP_LINKS);
        }
    }

    /// The file it was given, if any.
    #[inline]
    pub fn file(&self) -> Option<&Arc<File>> {
        self.file.get()
    }
}

impl Request {
    /// An empty request, with room in the table of those under way. The submission lock is held.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(ring: &Arc<Ring>, owner: &Arc<TaskCtx>) -> Result<Arc<Self>> {
        owner.join(ring)?;
        ring.promise()?;
        let made = try_arc(Self {
            ring: ring.clone(),
            owner: owner.clone(),
            head: Head {
                user_data: AtomicU64::new(0),
                opcode: 0,
                fd: -1,
                buf_group: 0,
                cred: Once::new(),
                flags: AtomicU32::new(0),
                poll_retries: AtomicU32::new(0),
                file: Once::new(),
                node: Once::new(),
            },
            op: Mutex::new(Op::default()),
            slot: AtomicU32::new(0),
            next: SpinLock::new(None),
            link_timeout: SpinLock::new(None),
            limits: SpinLock::new(Weak::new()),
            waiting: AtomicBool::new(false),
            place: AtomicU8::new(Place::None as u8),
            action: AtomicU8::new(Action::Issue as u8),
            result: AtomicI32::new(0),
            cflags: AtomicU32::new(0),
            poll_events: AtomicU32::new(0),
            registrations: SpinLock::new(Vec::new()),
            timer: SpinLock::new(None),
            futex: SpinLock::new(None),
            work_next: SpinLockIrq::new(None),
        });
        // Without memory the value that was dropped has given the promise back.
        Ok(made?)
    }

    /// Gives up what a request holds that completed before anybody else saw it.
    #[inline(always)]
    pub(super) fn reset_alone(&mut self) {
        let op = self.op.get_mut();
        if op.owns_nothing() {
            // Saying so spares the look at what each kind of operation may own.
            core::mem::forget(core::mem::take(op));
        } else {
            *op = Op::Idle;
        }
        // Nobody gave it anything else: it never was with the workers.
        if self.head.has_any(flags::NEEDS_FILE | flags::PERSONALITY) {
            self.reset_references();
        }
    }

    #[inline]
    fn reset_references(&mut self) {
        self.head.file = Once::new();
        self.head.node = Once::new();
        self.head.cred = Once::new();
    }

    /// Makes a completed request as good as new. Its parts were given up by completion.
    pub(super) fn reset(&mut self) {
        *self.op.get_mut() = Op::Idle;
        self.reset_references();
        *self.head.poll_retries.get_mut() = 0;
        *self.limits.get_mut() = Weak::new();
        *self.place.get_mut() = Place::None as u8;
        *self.result.get_mut() = 0;
        *self.cflags.get_mut() = 0;
    }

    /// Begins to wait in `place`: from now on it belongs to whoever claims it.
    pub fn wait_in(&self, place: Place) {
        self.place.store(place as u8, Ordering::Relaxed);
        // Release pairs with the Acquire in `claim`.
        self.waiting.store(true, Ordering::Release);
    }

    /// Notes where it is without letting others claim it.
    pub fn set_place(&self, place: Place) {
        self.place.store(place as u8, Ordering::Relaxed);
    }

    /// Takes a waiting request over; `false` if somebody else has.
    pub fn claim(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::AcqRel)
    }

    /// Where it waits, or waited last.
    pub fn place(&self) -> Place {
        match self.place.load(Ordering::Relaxed) {
            1 => Place::Poll,
            2 => Place::Timer,
            3 => Place::LinkTimer,
            4 => Place::Queue,
            5 => Place::Worker,
            6 => Place::Futex,
            _ => Place::None,
        }
    }

    /// What task work is to do.
    pub fn action(&self) -> Action {
        match self.action.load(Ordering::Acquire) {
            0 => Action::Issue,
            1 => Action::Poll,
            2 => Action::Timer,
            _ => Action::Complete,
        }
    }

    pub(super) fn set_action(&self, action: Action) {
        self.action.store(action as u8, Ordering::Release);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.ring.inflight.lock().release();
    }
}

/// Requests that one holder has, first in, first out. Linked through [`Request::work_next`], so adding one cannot fail.
#[derive(Default)]
pub struct Queue {
    first: Option<Arc<Request>>,
    last: Option<Arc<Request>>,
}

impl Queue {
    /// Adds `req`, which is in no list.
    pub fn push(&mut self, req: Arc<Request>) {
        match self.last.replace(req.clone()) {
            Some(last) => *last.work_next.lock() = Some(req),
            None => self.first = Some(req),
        }
    }

    /// Takes the first.
    #[inline]
    pub fn pop(&mut self) -> Option<Arc<Request>> {
        let first = self.first.take()?;
        self.first = first.work_next.lock().take();
        if self.first.is_none() {
            self.last = None;
        }
        Some(first)
    }
}
