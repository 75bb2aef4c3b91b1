//! A ring, and the file that stands for it.
//!
//! # Locks
//!
//! `submit` (sleeping) is held while requests are submitted, issued by their thread, armed and cancelled. Inside of it: the locks
//! of files and memory that operations take, `kbufs` (sleeping), and the spin locks of this structure, which are leaves. Two rings are
//! never locked at the same time: what one sends to another goes through `cq`, `files` and `inflight` only.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use abi::io_uring::raw;
use abi::poll::PollEvents;
use abi::{Errno, Result};
use arch::paging::Prot;
use arch::sync::{SpinLock, SpinLockIrq};
use mm::fallible::try_with_capacity;
use mm::vma::{DevicePage, MmapSetup, VmFlags};
use mm::{SharedRing, SortedMap, TryVec, try_arc};
use sched::mutex::Mutex;
use sched::wait::WaitQueue;
use sync::{Once, RcuPtr};
use vfs::cred::Credentials;
use vfs::file::File;
use vfs::file_ops::FileOps;
use vfs::poll::PollTable;

use super::cq::Completions;
use super::inflight::{Room, Table};
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
pub(super) const CACHED: usize = 64;

/// The eventfd that hears of completions.
pub struct RegisteredEventFd {
    /// Its file.
    pub file: Arc<File>,
    /// Only of those that did not complete at once.
    pub only_async: bool,
}

/// An io_uring instance.
pub struct Ring {
    /// `IORING_SETUP_*`.
    setup: u32,
    /// Sizes and offsets.
    pub layout: Layout,
    /// Both rings.
    pub rings: SharedRing,
    /// The submissions.
    pub sqes: SharedRing,
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
    /// Requests that wait for something.
    pub(super) inflight: SpinLock<Table<Arc<Request>>>,
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
    pub personalities: SpinLock<SortedMap<u16, Arc<Credentials>>>,
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
    /// Requests to be used again that were completed without the submission lock.
    returned: SpinLock<Vec<Arc<Request>>>,
    dying: AtomicBool,
}

/// What a ring is made of.
pub struct Parts {
    /// `IORING_SETUP_*`.
    pub setup: u32,
    /// Sizes.
    pub layout: Layout,
    /// Both rings.
    pub rings: SharedRing,
    /// The submissions.
    pub sqes: SharedRing,
    /// The thread of `SQPOLL`.
    pub sq_thread: Option<Arc<SqThread>>,
    /// Who makes it.
    pub cred: Arc<Credentials>,
}

impl Ring {
    /// A ring of these parts.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(parts: Parts) -> Result<Arc<Self>> {
        parts.layout.write_constants(&parts.rings);
        let submission = Submission::new()?;
        let returned = try_with_capacity(CACHED)?;
        Ok(try_arc(Self {
            setup: parts.setup,
            layout: parts.layout,
            rings: parts.rings,
            sqes: parts.sqes,
            submit: Mutex::new(submission),
            cq: SpinLockIrq::new(Completions::new()),
            cq_wait: WaitQueue::new(),
            poll_wait: WaitQueue::new(),
            sq_wait: WaitQueue::new(),
            work: WorkList::new(),
            inflight: SpinLock::new(Table::new()),
            active: AtomicU32::new(0),
            deferred: SpinLock::new(VecDeque::new()),
            has_drains: AtomicBool::new(false),
            counted_timeouts: AtomicU32::new(0),
            eventfd: RcuPtr::empty(),
            signalling: AtomicU32::new(0),
            files: SpinLock::new(FileTable::default()),
            buffers: SpinLock::new(BufferTable::default()),
            kbufs: Mutex::new(Groups::default()),
            personalities: SpinLock::new(SortedMap::new()),
            restrictions: Once::new(),
            disabled: AtomicBool::new(parts.setup & raw::IORING_SETUP_R_DISABLED != 0),
            submitter: SpinLock::new(None),
            clock: AtomicI32::new(abi::raw::CLOCK_MONOTONIC as i32),
            sq_thread: parts.sq_thread,
            cred: parts.cred,
            returned: SpinLock::new(returned),
            dying: AtomicBool::new(false),
        })?)
    }

    /// The ring behind an open file.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: it is something else.
    #[inline]
    pub fn of(file: &File) -> Result<&Arc<Self>> {
        file.private::<RingFile>().map(|file| &file.0).ok_or(Errno::EOPNOTSUPP)
    }

    /// Whether `file` is a ring.
    pub fn is_ring(file: &File) -> bool {
        file.private::<RingFile>().is_some()
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

    /// Whether it does not take every operation.
    #[inline]
    pub fn is_particular(&self) -> bool {
        self.has(raw::IORING_SETUP_IOPOLL) || self.restrictions.is_completed()
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
    #[inline]
    pub fn check_submitter(&self, ctx: &Arc<TaskCtx>) -> Result<()> {
        if self.has(raw::IORING_SETUP_SINGLE_ISSUER) { self.check_only(ctx) } else { Ok(()) }
    }

    fn check_only(&self, ctx: &Arc<TaskCtx>) -> Result<()> {
        match &*self.submitter.lock() {
            Some(only) if !Arc::ptr_eq(only, ctx) => Err(Errno::EEXIST),
            _ => Ok(()),
        }
    }

    /// A request that is not in use, for `owner`: nobody else has a reference.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[inline]
    pub fn fresh(self: &Arc<Self>, state: &mut Submission, owner: &Arc<TaskCtx>) -> Result<Arc<Request>> {
        match state.cache.pop() {
            Some(req) if Arc::ptr_eq(&req.owner, owner) => Ok(req),
            other => self.fresh_slow(state, owner, other),
        }
    }

    #[cold]
    fn fresh_slow(
        self: &Arc<Self>,
        state: &mut Submission,
        owner: &Arc<TaskCtx>,
        cached: Option<Arc<Request>>,
    ) -> Result<Arc<Request>> {
        if cached.is_none() {
            core::mem::swap(&mut state.cache, &mut *self.returned.lock());
        }
        let Some(mut req) = cached.or_else(|| state.cache.pop()) else { return Request::new(self, owner) };
        // Another thread of the ring used it last.
        owner.join(self)?;
        match Arc::get_mut(&mut req) {
            Some(whole) => {
                whole.owner = owner.clone();
                Ok(req)
            }
            None => Request::new(self, owner),
        }
    }

    /// Keeps a request that is as good as new, without the submission lock.
    pub(super) fn give_back(&self, req: Arc<Request>) {
        let mut returned = self.returned.lock();
        if returned.len() < returned.capacity() {
            returned.push_reserved(req);
            return;
        }
        drop(returned);
        drop(req);
    }

    /// Promises a new request its slot in the table of those under way. The submission lock is held.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn promise(&self) -> Result<()> {
        // Only one thread at a time promises, so that the table is as large as it was when it is locked again.
        let needs = self.inflight.lock().needs();
        if let Some(slots) = needs {
            let mut room = Room::new(slots)?;
            self.inflight.lock().grow(&mut room);
        }
        if self.inflight.lock().promise() { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Notes that `req` waits for something.
    pub fn track(self: &Arc<Self>, req: &Arc<Request>) {
        if req.has(flags::TRACKED) {
            return;
        }
        let put = self.inflight.lock().insert(req.user_data(), req.clone());
        debug_assert!(put.is_ok(), "every request has a slot");
        let Ok(slot) = put else { return };
        req.slot.store(slot, Ordering::Relaxed);
        req.set(flags::TRACKED);
        req.owner.enter();
    }

    /// It does not any more.
    pub fn untrack(&self, req: &Request) {
        if !req.clear(flags::TRACKED) {
            return;
        }
        let gone = self.inflight.lock().remove(req.slot.load(Ordering::Relaxed));
        drop(gone);
        req.owner.leave();
    }

    /// Changes what the user knows a tracked request by.
    pub fn rename(&self, req: &Arc<Request>, user_data: u64) {
        let mut inflight = self.inflight.lock();
        req.user_data.store(user_data, Ordering::Relaxed);
        inflight.rekey(req.slot.load(Ordering::Relaxed), user_data);
    }

    /// The first waiting request in a slot from `from` on; `from` is moved behind it.
    pub fn next_inflight(&self, from: &mut u32) -> Option<Arc<Request>> {
        let inflight = self.inflight.lock();
        let (slot, req) = inflight.next(*from)?;
        *from = slot + 1;
        Some(req.clone())
    }

    /// The first request that waits with `user_data` after the one that left its number in `after`.
    pub fn next_known(&self, user_data: u64, after: &mut u64) -> Option<Arc<Request>> {
        let mut inflight = self.inflight.lock();
        let (serial, req) = inflight.with_key(user_data, *after)?;
        *after = serial;
        Some(req.clone())
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

/// What stands for a ring in a descriptor table. It holds the ring, so whoever has the file needs no reference of his own.
pub struct RingFile(pub Arc<Ring>);

impl FileOps for RingFile {
    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        let ring = &*self.0;
        table.wait(&ring.poll_wait);
        let mut ready = PollEvents::empty();
        if ring.pending_submissions() < ring.layout.sq_entries {
            ready |= PollEvents::OUT | PollEvents::WRNORM;
        }
        let overflowed = ring.rings.load(super::layout::SQ_FLAGS) & raw::IORING_SQ_CQ_OVERFLOW != 0;
        if ring.ready() > 0 || overflowed || !ring.work.is_empty() {
            ready |= PollEvents::IN | PollEvents::RDNORM;
        }
        ready
    }

    fn can_poll(&self, _: &File) -> bool {
        true
    }

    fn mmap(&self, _: &File, setup: &mut MmapSetup) -> Result<()> {
        // Linux looks for an address first and says that there is none.
        if let Area::Buffers(group) = self.0.area(setup.pgoff).map_err(|_| Errno::ENOMEM)?.0 {
            self.0.kbufs.lock().mapped_ring(group).map_err(|_| Errno::ENOMEM)?;
        }
        if !setup.flags.contains(VmFlags::SHARED) {
            return Err(Errno::EINVAL);
        }
        setup.flags |= VmFlags::DONTEXPAND;
        Ok(())
    }

    fn mmap_fault(&self, _: &File, pgoff: u64) -> Result<DevicePage> {
        let ring = &*self.0;
        let (area, within) = ring.area(pgoff)?;
        let index = (within >> arch::addr::PAGE_SHIFT) as usize;
        let frame = match area {
            Area::Rings => ring.rings.frame(index),
            Area::Sqes => ring.sqes.frame(index),
            Area::Buffers(group) => ring.kbufs.lock().mapped_ring(group)?.frame(index),
        };
        Ok(DevicePage::Frame(frame.ok_or(Errno::EFAULT)?, Prot::empty()))
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        super::fdinfo::show(&self.0, out)
    }

    fn release(&self, _: &File) {
        let ring = self.0.clone();
        ring.dying.store(true, Ordering::Release);
        // The last reference may be a mapping's, which goes under `mmap_lock`: nothing is waited for here.
        sched::workqueue::queue(move || ring.tear_down());
    }
}

impl Ring {
    /// The file is closed: what is under way ends.
    fn tear_down(self: &Arc<Self>) {
        if let Some(thread) = &self.sq_thread {
            thread.remove(Some(self));
        }
        super::cancel::all(self, None);
        if self.defers_work() {
            self.run_deferred(None);
        }
        // What refers back to the ring goes, so that the ring can.
        drop(self.submitter.lock().take());
        let cached = core::mem::take(&mut self.submit.lock().cache);
        drop(cached);
        let returned = core::mem::take(&mut *self.returned.lock());
        drop(returned);
        let files = self.files.lock().take_all();
        drop(files);
        let buffers = self.buffers.lock().take_all();
        drop(buffers);
        drop(self.eventfd.replace(None));
    }
}
