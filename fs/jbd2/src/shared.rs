//! The state of a journal, which its handles, its transactions and its thread share.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use buffer::BufferCache;
use mm::try_arc;
use sched::mutex::Mutex;
use sched::wait::WaitQueue;
use sync::RcuPtr;

use crate::format::Format;
use crate::log::Log;
use crate::super_block::SuperBlock;
use crate::transaction::{Refused, Tid, Transaction, blocks_for};

/// What changes rarely.
pub(crate) struct State {
    /// The newest transaction.
    pub(crate) newest: Tid,
    /// The number that the next transaction in the log gets.
    pub(crate) sequence: u32,
    /// Where it begins.
    pub(crate) head: u32,
    /// Blocks of the log that are neither used nor promised to the transaction that is being committed.
    pub(crate) free: u32,
    /// The super block says that the log is empty.
    pub(crate) empty: bool,
    pub(crate) committing: Option<Arc<Transaction>>,
    /// Transactions in the log whose blocks are not all in their places, oldest first.
    pub(crate) checkpoints: VecDeque<Arc<Transaction>>,
}

/// See the module's text.
pub(crate) struct Core {
    pub(crate) cache: Arc<BufferCache>,
    pub(crate) log: Log,
    pub(crate) format: Format,
    /// The log proper: from the first block to the one behind the last.
    pub(crate) first: u32,
    pub(crate) end: u32,
    /// So many credits a transaction has at most.
    pub(crate) max_credits: u32,
    /// So many freed blocks.
    pub(crate) max_revokes: u32,
    /// So many blocks must be free before a transaction begins: it then finds room in any case.
    pub(crate) needed: u32,
    pub(crate) barriers: bool,
    pub(crate) data_errors_abort: bool,
    pub(crate) interval_ns: AtomicU64,

    /// The transaction that new handles join.
    pub(crate) running: RcuPtr<Transaction>,
    pub(crate) state: Mutex<State>,
    pub(crate) super_block: Mutex<SuperBlock>,
    /// Held by whoever moves the tail.
    pub(crate) checkpointing: Mutex<()>,

    /// The newest transaction that is over, and the newest that is on disk.
    pub(crate) committed: AtomicU64,
    pub(crate) durable: AtomicU64,
    /// The newest transaction that somebody wants committed.
    pub(crate) requested: AtomicU64,
    /// Why it was aborted, as a negative number; 0: it was not.
    pub(crate) aborted: AtomicI32,
    /// So many want no transactions.
    pub(crate) frozen: AtomicU32,
    /// There is a transaction that the thread has not seen.
    pub(crate) fresh: AtomicBool,

    /// Woken when the last handle of a locked transaction ends.
    pub(crate) updates_done: WaitQueue,
    /// Woken when a transaction goes from running to committing, when it is over, and when the journal is aborted.
    pub(crate) progress: WaitQueue,
    /// Woken when there is something to do for the thread.
    pub(crate) work: WaitQueue,
}

impl Core {
    /// Blocks of the log proper.
    pub(crate) fn len(&self) -> u32 {
        self.end - self.first
    }

    /// The block behind `block`.
    pub(crate) fn next_block(&self, block: u32) -> u32 {
        if block + 1 >= self.end { self.first } else { block + 1 }
    }

    /// Limits for a log of `len` blocks: credits and freed blocks of a transaction, and what must be free before one begins.
    pub(crate) fn limits(format: &Format, len: u32) -> (u32, u32, u32) {
        let credits = len / 4;
        let revokes = (len / 16).max(1) as usize * format.revokes_per_block();
        (credits, revokes as u32, blocks_for(format, credits as usize, revokes))
    }

    #[inline]
    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed) != 0
    }

    /// The running transaction.
    #[inline]
    pub(crate) fn running(&self) -> Option<Arc<Transaction>> {
        self.running.load_arc(&sched::rcu::read_lock())
    }

    /// Joins the running transaction, or begins one.
    #[inline]
    pub(crate) fn join(self: &Arc<Self>, credits: u32) -> Result<Arc<Transaction>> {
        loop {
            if self.is_aborted() {
                return Err(Errno::EROFS);
            }
            let running = self.running();
            let refused = match &running {
                Some(transaction) => transaction.join(credits).err(),
                None => None,
            };
            match (running, refused) {
                (Some(transaction), None) => return Ok(transaction),
                (None, _) => self.begin(credits)?,
                (Some(transaction), Some(why)) => self.wait_for_next(&transaction, credits, why)?,
            }
        }
    }

    /// Waits until another transaction can be joined than `transaction`.
    #[cold]
    #[inline(never)]
    fn wait_for_next(&self, transaction: &Arc<Transaction>, credits: u32, why: Refused) -> Result<()> {
        if credits > self.max_credits {
            return Err(Errno::ENOSPC);
        }
        if why == Refused::Full {
            self.request(transaction.tid);
        }
        self.progress.wait_event(|| {
            !core::ptr::eq(self.running.as_ptr(), Arc::as_ptr(transaction)) || self.is_aborted()
        });
        Ok(())
    }

    /// Begins a transaction, when there is room for it in the log.
    #[cold]
    #[inline(never)]
    fn begin(self: &Arc<Self>, credits: u32) -> Result<()> {
        if credits > self.max_credits {
            return Err(Errno::ENOSPC);
        }
        loop {
            let mut state = self.state.lock();
            if self.is_aborted() {
                return Err(Errno::EROFS);
            }
            if !self.running.is_none() {
                return Ok(());
            }
            if self.frozen.load(Ordering::Acquire) != 0 {
                drop(state);
                self.progress.wait_event(|| self.frozen.load(Ordering::Acquire) == 0 || self.is_aborted());
                continue;
            }
            if state.free >= self.needed {
                let transaction = try_arc(Transaction::new(self, state.newest + 1))?;
                state.newest += 1;
                drop(self.running.replace(Some(transaction)));
                drop(state);
                self.fresh.store(true, Ordering::Release);
                self.work.wake_all();
                return Ok(());
            }
            drop(state);
            self.make_space()?;
        }
    }

    /// Wants `tid` committed.
    pub(crate) fn request(&self, tid: Tid) {
        if self.requested.fetch_max(tid, Ordering::AcqRel) < tid {
            self.work.wake_all();
        }
    }

    /// Waits until `tid` is over.
    pub(crate) fn wait(&self, tid: Tid) -> Result<()> {
        self.progress.wait_event(|| self.committed.load(Ordering::Acquire) >= tid);
        if self.durable.load(Ordering::Acquire) >= tid { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Nothing is written any more. The first error counts; it is noted in the super block.
    pub(crate) fn abort(&self, errno: Errno) {
        let number = -errno.code();
        if self.aborted.compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        log::error!("jbd2: aborting journal: {errno:?}");
        self.progress.wake_all();
        self.work.wake_all();
        if !self.log.is_read_only() && self.super_block.lock().set_errno(&self.log, number).is_err() {
            log::error!("jbd2: error updating the journal superblock");
        }
    }
}
