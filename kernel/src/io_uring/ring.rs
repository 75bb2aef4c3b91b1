//! A ring, and the file that stands for it.
//!
//! # Locks
//!
//! `submit` (sleeping) is held while requests are submitted, issued by their thread, armed and cancelled. Inside of it: the locks
//! of files and memory that operations take, `kbufs` (sleeping), and the spin locks of this structure, which are leaves. Two rings are
//! never locked at the same time: what one sends to another goes through `cq`, `files` and `inflight` only.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "not converted to mm::fallible yet")]

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::io_uring::raw;
use abi::poll::PollEvents;
use abi::{Errno, Result};
use arch::paging::Prot;
use arch::sync::{SpinLock, SpinLockIrq};
use mm::PinnedPages;
use mm::vma::{DevicePage, MmapSetup, VmFlags};
use sched::mutex::Mutex;
use sched::wait::WaitQueue;
use sync::{Once, RcuPtr};
use vfs::cred::Credentials;
use vfs::file::File;
use vfs::file_ops::FileOps;
use vfs::poll::PollTable;

use super::cq::Completions;
use super::kbuf::Groups;
use super::layout::{Layout, SQ_HEAD, SQ_TAIL};
use super::register::restrict::Restrictions;
use super::request::{Request, flags};
use super::rsrc::{BufferTable, FileTable};
use super::sqpoll::SqThread;
use super::submit::Submission;
use super::task::TaskCtx;
use super::work::WorkList;

/// Requests that are kept for using them again.
const CACHED: usize = 64;

/// The eventfd that hears of completions.
pub struct RegisteredEventFd {
    /// Its file.
    pub file: Arc<File>,
    /// Only of those that did not complete at once.
    pub only_async: bool,
}

/// An io_uring instance.
pub struct Ring {
    me: Weak<Ring>,
    /// `IORING_SETUP_*`.
    setup: u32,
    /// Sizes and offsets.
    pub layout: Layout,
    /// Both rings.
    pub rings: PinnedPages,
    /// The submissions.
    pub sqes: PinnedPages,
    /// The submission side: what Linux calls `uring_lock`.
    pub submit: Mutex<Submission>,
    /// The completion side.
    pub cq: SpinLockIrq<Completions>,
    /// Those who wait for completions.
    pub cq_wait: WaitQueue,
    /// Those who poll the file.
    pub poll_wait: WaitQueue,
    /// Those who wait for room among the submissions (`SQPOLL`).
    pub sq_wait: WaitQueue,
    /// Work that only `io_uring_enter(2)` runs.
    pub work: WorkList,
    inflight: SpinLock<BTreeMap<(u64, u64), Arc<Request>>>,
    next_id: AtomicU64,
    /// Requests that were issued and are not complete.
    pub active: AtomicU32,
    /// Requests that wait until there is none, and those behind them.
    pub deferred: SpinLock<VecDeque<Arc<Request>>>,
    /// Whether there are any.
    pub has_drains: AtomicBool,
    /// Timeouts that count completions.
    pub counted_timeouts: AtomicU32,
    /// See [`RegisteredEventFd`].
    pub eventfd: RcuPtr<RegisteredEventFd>,
    /// Signals of the eventfd that are due; see `signal_eventfd`.
    pub(super) signalling: AtomicU32,
    /// Registered files.
    pub files: SpinLock<FileTable>,
    /// Registered buffers.
    pub buffers: SpinLock<BufferTable>,
    /// Provided buffers.
    pub kbufs: Mutex<Groups>,
    /// Registered personalities.
    pub personalities: SpinLock<BTreeMap<u16, Arc<Credentials>>>,
    /// What may be done.
    pub restrictions: Once<Restrictions>,
    /// Made with `R_DISABLED` and not enabled yet.
    pub disabled: AtomicBool,
    /// The one thread that may submit (`SINGLE_ISSUER`).
    submitter: SpinLock<Option<Arc<TaskCtx>>>,
    /// The clock of waits: `IORING_REGISTER_CLOCK`.
    pub clock: AtomicI32,
    /// The thread that submits (`SQPOLL`).
    pub sq_thread: Option<Arc<SqThread>>,
    /// Who made it.
    pub cred: Arc<Credentials>,
    cache: SpinLock<Vec<Arc<Request>>>,
    dying: AtomicBool,
}

/// What a ring is made of.
pub struct Parts {
    /// `IORING_SETUP_*`.
    pub setup: u32,
    /// Sizes.
    pub layout: Layout,
    /// Both rings.
    pub rings: PinnedPages,
    /// The submissions.
    pub sqes: PinnedPages,
    /// The thread of `SQPOLL`.
    pub sq_thread: Option<Arc<SqThread>>,
    /// Who makes it.
    pub cred: Arc<Credentials>,
}

impl Ring {
    /// A ring of these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        parts.layout.write_constants(&parts.rings);
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            setup: parts.setup,
            layout: parts.layout,
            rings: parts.rings,
            sqes: parts.sqes,
            submit: Mutex::new(Submission::default()),
            cq: SpinLockIrq::new(Completions::new()),
            cq_wait: WaitQueue::new(),
            poll_wait: WaitQueue::new(),
            sq_wait: WaitQueue::new(),
            work: WorkList::new(),
            inflight: SpinLock::new(BTreeMap::new()),
            next_id: AtomicU64::new(1),
            active: AtomicU32::new(0),
            deferred: SpinLock::new(VecDeque::new()),
            has_drains: AtomicBool::new(false),
            counted_timeouts: AtomicU32::new(0),
            eventfd: RcuPtr::empty(),
            signalling: AtomicU32::new(0),
            files: SpinLock::new(FileTable::default()),
            buffers: SpinLock::new(BufferTable::default()),
            kbufs: Mutex::new(Groups::default()),
            personalities: SpinLock::new(BTreeMap::new()),
            restrictions: Once::new(),
            disabled: AtomicBool::new(parts.setup & raw::IORING_SETUP_R_DISABLED != 0),
            submitter: SpinLock::new(None),
            clock: AtomicI32::new(abi::raw::CLOCK_MONOTONIC as i32),
            sq_thread: parts.sq_thread,
            cred: parts.cred,
            cache: SpinLock::new(Vec::new()),
            dying: AtomicBool::new(false),
        })
    }

    /// The ring behind an open file.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: it is something else.
    pub fn of(file: &File) -> Result<Arc<Self>> {
        file.private::<Self>().and_then(|ring| ring.me.upgrade()).ok_or(Errno::EOPNOTSUPP)
    }

    /// Whether `file` is a ring.
    pub fn is_ring(file: &File) -> bool {
        file.private::<Self>().is_some()
    }

    /// Whether it was made with all of these flags.
    #[inline]
    pub fn has(&self, setup: u32) -> bool {
        self.setup & setup == setup
    }

    /// The flags it was made with.
    pub fn setup(&self) -> u32 {
        self.setup
    }

    /// Whether work is left for `io_uring_enter(2)`.
    #[inline]
    pub fn defers_work(&self) -> bool {
        self.setup & raw::IORING_SETUP_DEFER_TASKRUN != 0
    }

    /// Whether the file is closed.
    pub fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Acquire)
    }

    /// Makes the running thread the only one that may submit.
    pub fn set_submitter(&self, ctx: &Arc<TaskCtx>) {
        *self.submitter.lock() = Some(ctx.clone());
    }

    /// Whether `ctx` may submit and register.
    ///
    /// # Errors
    /// `EEXIST`: another thread is the only one that may.
    pub fn check_submitter(&self, ctx: &Arc<TaskCtx>) -> Result<()> {
        if !self.has(raw::IORING_SETUP_SINGLE_ISSUER) {
            return Ok(());
        }
        match &*self.submitter.lock() {
            Some(only) if !Arc::ptr_eq(only, ctx) => Err(Errno::EEXIST),
            _ => Ok(()),
        }
    }

    /// A request that is not in use.
    pub fn fresh(self: &Arc<Self>, owner: &Arc<TaskCtx>) -> Arc<Request> {
        let cached = self.cache.lock().pop();
        match cached {
            Some(req) if Arc::ptr_eq(&req.owner, owner) => req,
            _ => Request::new(self, owner),
        }
    }

    /// Keeps a completed request for using it again, if nobody else holds it.
    pub fn recycle(&self, mut req: Arc<Request>) {
        let Some(whole) = Arc::get_mut(&mut req) else { return };
        whole.reset();
        if self.is_dying() {
            return;
        }
        let mut cache = self.cache.lock();
        if cache.len() < CACHED && cache.try_reserve(1).is_ok() {
            cache.push(req);
            return;
        }
        drop(cache);
        drop(req);
    }

    /// Notes that `req` waits for something.
    pub fn track(self: &Arc<Self>, req: &Arc<Request>) {
        if req.has(flags::TRACKED) {
            return;
        }
        req.set(flags::TRACKED);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        req.id.store(id, Ordering::Relaxed);
        req.owner.enter(self);
        self.inflight.lock().insert((req.user_data(), id), req.clone());
    }

    /// It does not any more.
    pub fn untrack(&self, req: &Request) {
        if !req.clear(flags::TRACKED) {
            return;
        }
        let gone = self.inflight.lock().remove(&(req.user_data(), req.id.load(Ordering::Relaxed)));
        drop(gone);
        req.owner.leave();
    }

    /// Changes what the user knows a tracked request by.
    pub fn rename(&self, req: &Arc<Request>, user_data: u64) {
        let mut inflight = self.inflight.lock();
        let id = req.id.load(Ordering::Relaxed);
        let found = inflight.remove(&(req.user_data(), id));
        req.user_data.store(user_data, Ordering::Relaxed);
        if let Some(found) = found {
            inflight.insert((user_data, id), found);
        }
    }

    /// The waiting request with the lowest key from `from` on.
    pub fn next_inflight(&self, from: (u64, u64)) -> Option<((u64, u64), Arc<Request>)> {
        self.inflight.lock().range(from..).next().map(|(key, req)| (*key, req.clone()))
    }

    /// Whether a tracked request of `owner` (or any) exists.
    pub fn has_inflight(&self) -> bool {
        !self.inflight.lock().is_empty()
    }

    /// Submissions that the kernel has not taken.
    pub fn pending_submissions(&self) -> u32 {
        self.rings.load(SQ_TAIL).wrapping_sub(self.rings.load(SQ_HEAD))
    }

    fn area(&self, pgoff: u64) -> Result<(Area, u64)> {
        let offset = pgoff << arch::addr::PAGE_SHIFT;
        let area = match (offset & u64::from(raw::IORING_OFF_MMAP_MASK)) as u32 {
            raw::IORING_OFF_SQ_RING | raw::IORING_OFF_CQ_RING => Area::Rings,
            raw::IORING_OFF_SQES => Area::Sqes,
            raw::IORING_OFF_PBUF_RING => {
                let group = (offset & !u64::from(raw::IORING_OFF_MMAP_MASK)) >> raw::IORING_OFF_PBUF_SHIFT;
                let within = offset & ((1 << raw::IORING_OFF_PBUF_SHIFT) - 1);
                return Ok((Area::Buffers(group as u16), within));
            }
            _ => return Err(Errno::EINVAL),
        };
        if self.has(raw::IORING_SETUP_NO_MMAP) {
            return Err(Errno::EINVAL);
        }
        Ok((area, offset & !u64::from(raw::IORING_OFF_MMAP_MASK)))
    }
}

/// What of a ring can be mapped.
enum Area {
    Rings,
    Sqes,
    Buffers(u16),
}

impl FileOps for Ring {
    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.poll_wait);
        let mut ready = PollEvents::empty();
        if self.pending_submissions() < self.layout.sq_entries {
            ready |= PollEvents::OUT | PollEvents::WRNORM;
        }
        let overflowed = self.rings.load(super::layout::SQ_FLAGS) & raw::IORING_SQ_CQ_OVERFLOW != 0;
        if self.ready() > 0 || overflowed || !self.work.is_empty() {
            ready |= PollEvents::IN | PollEvents::RDNORM;
        }
        ready
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn mmap(&self, _: &File, setup: &mut MmapSetup) -> Result<()> {
        // Linux looks for an address first and says that there is none.
        if let Area::Buffers(group) = self.area(setup.pgoff).map_err(|_| Errno::ENOMEM)?.0 {
            self.kbufs.lock().mapped_ring(group).map_err(|_| Errno::ENOMEM)?;
        }
        if !setup.flags.contains(VmFlags::SHARED) {
            return Err(Errno::EINVAL);
        }
        setup.flags |= VmFlags::DONTEXPAND;
        Ok(())
    }

    fn mmap_fault(&self, _: &File, pgoff: u64) -> Result<DevicePage> {
        let (area, within) = self.area(pgoff)?;
        let index = (within >> arch::addr::PAGE_SHIFT) as usize;
        let frame = match area {
            Area::Rings => self.rings.frame(index),
            Area::Sqes => self.sqes.frame(index),
            Area::Buffers(group) => self.kbufs.lock().mapped_ring(group)?.frame(index),
        };
        Ok(DevicePage::Frame(frame.ok_or(Errno::EFAULT)?, Prot::empty()))
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        super::fdinfo::show(self, out)
    }

    fn release(&self, _: &File) {
        self.dying.store(true, Ordering::Release);
        let Some(me) = self.me.upgrade() else { return };
        // The last reference may be a mapping's, which goes under `mmap_lock`: nothing is waited for here.
        sched::workqueue::queue(move || me.tear_down());
    }
}

impl Ring {
    /// The file is closed: what is under way ends.
    fn tear_down(self: &Arc<Self>) {
        if let Some(thread) = &self.sq_thread {
            thread.remove(self);
        }
        super::cancel::all(self, None);
        if self.defers_work() {
            self.run_deferred(None);
        }
        // What refers back to the ring goes, so that the ring can.
        drop(self.submitter.lock().take());
        let cached = core::mem::take(&mut *self.cache.lock());
        drop(cached);
        let files = self.files.lock().take_all();
        drop(files);
        let buffers = self.buffers.lock().take_all();
        drop(buffers);
        drop(self.eventfd.replace(None));
    }
}
