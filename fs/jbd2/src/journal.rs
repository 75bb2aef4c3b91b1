//! The journal, as a file system sees it.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use buffer::BufferCache;
use mm::{try_arc, try_format};
use sched::kthread::{Kthread, StopFlag};
use sched::mutex::Mutex;
use sched::wait::{Wait, WaitQueue};
use sched::{Clock, Deadline};
use sync::RcuPtr;

use crate::format::Incompat;
use crate::handle::Handle;
use crate::log::{JournalPlace, Log};
use crate::recover::{self, Recovery};
use crate::shared::{Core, State};
use crate::super_block::{Features, SuperBlock};
use crate::transaction::Tid;

/// How old a transaction gets at most before it is committed, unless `commit=` says something else.
pub const DEFAULT_INTERVAL_MS: u64 = 5000;
/// So long after it was committed, the buffers of a transaction are written to their places although nobody needs the room.
const CHECKPOINT_AFTER_NS: u64 = 30_000_000_000;

/// How a journal is used.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Part of the thread's name, `jbd2/NAME`: the device, and `-` with the inode's number.
    pub name: &'a str,
    /// The format that the file system wants.
    pub features: Features,
    /// See [`DEFAULT_INTERVAL_MS`].
    pub interval_ms: u64,
    /// Flush the device's write cache where the order of writes matters.
    pub barriers: bool,
    /// Abort if data cannot be written before its transaction (`data_err=abort`).
    pub data_errors_abort: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            name: "none",
            features: Features::default(),
            interval_ms: DEFAULT_INTERVAL_MS,
            barriers: true,
            data_errors_abort: false,
        }
    }
}

/// A journal, and its thread. When it is dropped everything is committed and written to its place, unless it was aborted.
pub struct Journal {
    core: Arc<Core>,
    thread: Option<Kthread>,
    recovery: Recovery,
    recorded_errno: i32,
}

impl Journal {
    /// Checks the journal at `place` and replays it if there is something in it. On a device that cannot be written it takes no handles.
    ///
    /// # Errors
    /// `EINVAL` for something that is no journal or has features that are not known here, `EOPNOTSUPP` for one whose fast commits would
    /// have to be replayed, `EROFS` if it is to be replayed on a device that cannot be written, `EBADMSG` for wrong checksums, `EUCLEAN`, `EIO`, `ENOMEM`.
    pub fn load(cache: Arc<BufferCache>, place: JournalPlace, options: Options<'_>) -> Result<Arc<Self>> {
        let log = Log::new(&cache, place)?;
        let mut sb = SuperBlock::read(&log)?;
        let read_only = log.is_read_only() || cache.device().is_read_only();
        if sb.start() != 0 {
            if sb.incompat().contains(Incompat::FAST_COMMIT) {
                log::error!("jbd2: fast commits are not supported");
                return Err(Errno::EOPNOTSUPP);
            }
            if read_only {
                return Err(Errno::EROFS);
            }
        }
        let replayed = sb.start() != 0;
        let (sequence, recovery) = recover::recover(&cache, &log, &sb)?;
        sb.set_features(options.features)?;
        if replayed {
            sb.set_tail(&log, 0, sequence)?;
        }
        let recorded_errno = sb.errno();
        let core = new_core(cache, log, sb, sequence, &options)?;
        let thread = match read_only {
            true => None,
            false => {
                let core = core.clone();
                let name = try_format(format_args!("jbd2/{}", options.name))?;
                Some(Kthread::run(&name, move |stop| run(&core, &stop))?)
            }
        };
        Ok(try_arc(Self { core, thread, recovery, recorded_errno })?)
    }

    /// Begins an operation that changes up to `credits` blocks. May wait for a commit, or for room in the log. A thread that has a handle
    /// passes it along instead.
    ///
    /// # Errors
    /// `EROFS` on a device that cannot be written or after an abort, `ENOSPC` for more than the log can hold, `EIO`, `ENOMEM`.
    #[inline]
    pub fn start(&self, credits: u32) -> Result<Handle> {
        if self.thread.is_none() {
            return Err(Errno::EROFS);
        }
        Handle::start(&self.core, credits)
    }

    /// The most credits that a handle can have.
    pub fn max_credits(&self) -> u32 {
        self.core.max_credits
    }

    /// What [`load`](Self::load) has replayed.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Wants `tid` committed, and does not wait for it.
    pub fn commit(&self, tid: Tid) {
        self.core.request(tid.min(self.core.state.lock().newest));
    }

    /// Waits until `tid` is on disk; somebody must want that.
    ///
    /// # Errors
    /// `EIO` if it did not get there, `EINVAL` if there is no such transaction.
    pub fn wait(&self, tid: Tid) -> Result<()> {
        if tid > self.core.state.lock().newest {
            return Err(Errno::EINVAL);
        }
        self.core.wait(tid)
    }

    /// Commits `tid` if it is not on disk yet, and waits for it: `fsync`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn complete(&self, tid: Tid) -> Result<()> {
        if self.core.durable.load(Ordering::Acquire) >= tid {
            return Ok(());
        }
        self.commit(tid);
        self.wait(tid)
    }

    /// Whether `tid` is on disk, or will never be.
    pub fn is_over(&self, tid: Tid) -> bool {
        self.core.committed.load(Ordering::Acquire) >= tid
    }

    /// The running transaction, if there is one.
    pub fn running(&self) -> Option<Tid> {
        self.core.running().map(|transaction| transaction.tid)
    }

    /// Commits the running transaction and waits for it, and for the one before it.
    ///
    /// # Errors
    /// `EIO` if one did not get to the disk.
    pub fn force_commit(&self) -> Result<()> {
        let newest = self.core.state.lock().newest;
        if newest == 0 || self.is_over(newest) && self.core.durable.load(Ordering::Acquire) >= newest {
            return Ok(());
        }
        self.core.request(newest);
        self.core.wait(newest)
    }

    /// Commits everything and writes it to its place: the log is empty afterwards. Must not be called within a handle.
    ///
    /// # Errors
    /// `EROFS` after an abort, `EIO`.
    pub fn flush(&self) -> Result<()> {
        self.core.empty()
    }

    /// Keeps new transactions from beginning until [`thaw`](Self::thaw), and waits for the running one: for freezing the file system. Counts.
    ///
    /// # Errors
    /// As [`flush`](Self::flush). It is frozen then as well.
    pub fn freeze(&self) -> Result<()> {
        {
            let _no_new = self.core.state.lock();
            self.core.frozen.fetch_add(1, Ordering::AcqRel);
        }
        self.flush()
    }

    /// Ends a [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        let _ = self.core.frozen.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1));
        self.core.progress.wake_all();
    }

    /// Nothing is written any more, and no handle begins: the file system is broken. The first error is noted in the journal.
    pub fn abort(&self, errno: Errno) {
        self.core.abort(errno);
    }

    /// Why it was aborted.
    pub fn errno(&self) -> Option<Errno> {
        Errno::new(self.core.aborted.load(Ordering::Acquire).checked_neg()?)
    }

    /// The error that an earlier mount has noted.
    pub fn recorded_errno(&self) -> Option<Errno> {
        Errno::new(self.recorded_errno.checked_neg()?)
    }

    /// Forgets that error: the file system says by itself that it is to be checked.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`.
    pub fn clear_errno(&self) -> Result<()> {
        self.core.super_block.lock().set_errno(&self.core.log, 0)
    }

    /// Sets after how many milliseconds a transaction is committed (`commit=`); 0: the default.
    pub fn set_interval_ms(&self, ms: u64) {
        let ms = if ms == 0 { DEFAULT_INTERVAL_MS } else { ms };
        self.core.interval_ns.store(ms.saturating_mul(1_000_000), Ordering::Relaxed);
        self.core.fresh.store(true, Ordering::Release);
        self.core.work.wake_all();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let frozen = self.core.frozen.load(Ordering::Acquire) != 0;
        if self.thread.is_some() && !self.core.is_aborted() && !frozen {
            // An error has aborted it, and is in the log.
            let _ = self.core.empty();
        }
        if let Some(thread) = self.thread.take() {
            thread.stop();
        }
        // They refer to the core.
        let left = core::mem::take(&mut self.core.state.lock().checkpoints);
        drop(left);
    }
}

fn new_core(
    cache: Arc<BufferCache>,
    log: Log,
    sb: SuperBlock,
    sequence: u32,
    options: &Options<'_>,
) -> Result<Arc<Core>> {
    let format = sb.format();
    let (first, end) = (sb.first(), sb.end());
    let (max_credits, max_revokes, needed) = Core::limits(&format, end - first);
    let state = State {
        newest: 0,
        sequence,
        head: first,
        free: end - first,
        empty: true,
        committing: None,
        checkpoints: VecDeque::new(),
    };
    let interval_ms = if options.interval_ms == 0 { DEFAULT_INTERVAL_MS } else { options.interval_ms };
    Ok(try_arc(Core {
        cache,
        log,
        format,
        first,
        end,
        max_credits,
        max_revokes,
        needed,
        barriers: options.barriers,
        data_errors_abort: options.data_errors_abort,
        interval_ns: AtomicU64::new(interval_ms.saturating_mul(1_000_000)),
        running: RcuPtr::empty(),
        state: Mutex::new(state),
        super_block: Mutex::new(sb),
        checkpointing: Mutex::new(()),
        committed: AtomicU64::new(0),
        durable: AtomicU64::new(0),
        requested: AtomicU64::new(0),
        aborted: AtomicI32::new(0),
        frozen: AtomicU32::new(0),
        fresh: AtomicBool::new(false),
        updates_done: WaitQueue::new(),
        progress: WaitQueue::new(),
        work: WaitQueue::new(),
    })?)
}

/// The journal's thread.
fn run(core: &Arc<Core>, stop: &StopFlag) {
    loop {
        let running = core.running();
        let oldest = core.state.lock().checkpoints.front().cloned();
        let commit_at =
            running.as_ref().map(|of| of.began_ns.saturating_add(core.interval_ns.load(Ordering::Relaxed)));
        let checkpoint_at = oldest.map(|of| {
            // Not before the next look, if it could not be done at the last.
            let due = of.done_ns.load(Ordering::Relaxed).saturating_add(CHECKPOINT_AFTER_NS);
            due.max(sched::time::monotonic_ns().saturating_add(CHECKPOINT_AFTER_NS / 16))
        });
        let until = commit_at.into_iter().chain(checkpoint_at).min();
        let wanted = || {
            let running = core.running();
            running.is_some_and(|of| core.requested.load(Ordering::Acquire) >= of.tid || core.is_aborted())
        };
        let deadline = until.map(|ns| Deadline::at(Clock::Monotonic, ns));
        // Signals do not reach it; it neither counts as load nor hangs while it has nothing to do.
        let _ = core.work.wait(Wait::INTERRUPTIBLE.until(deadline), || {
            (wanted() || stop.should_stop() || core.fresh.swap(false, Ordering::AcqRel)).then_some(())
        });
        let now = sched::time::monotonic_ns();
        if wanted() || stop.should_stop() || commit_at.is_some_and(|at| at <= now) {
            core.commit_running();
        }
        core.checkpoint_old(now.saturating_sub(CHECKPOINT_AFTER_NS));
        if stop.should_stop() && core.running.is_none() {
            return;
        }
    }
}
