//! A thread for requests: for drivers that sleep while they do what they are asked for.

use alloc::sync::{Arc, Weak};

use abi::Result;
use arch::sync::SpinLock;
use block::{Batch, Queue, Request, Status};
use collections::fifo::{Chained, Fifo};
use mm::try_arc;
use sched::workqueue::{Work, WorkQueue};
use sync::Once;

/// Does requests. In a thread, one at a time; may sleep.
pub(super) trait Server: Send + Sync + 'static {
    /// Does one.
    fn serve(&self, request: &Request) -> Status;
}

/// Requests that wait for a thread.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    work: Work,
    threads: &'static WorkQueue,
}

struct Shared {
    list: SpinLock<Fifo<Request>>,
    /// Who does them, and where they go when they are done.
    server: Once<(Weak<dyn Server>, Weak<Queue>)>,
}

static THREADS: Once<WorkQueue> = Once::new();

fn threads() -> Result<&'static WorkQueue> {
    if let Some(threads) = THREADS.get() {
        return Ok(threads);
    }
    let made = WorkQueue::new("blkserve")?;
    Ok(THREADS.call_once(|| made))
}

impl Waiting {
    /// Nothing waits.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        let threads = threads()?;
        let shared = try_arc(Shared { list: SpinLock::new(Fifo::new()), server: Once::new() })?;
        let of = shared.clone();
        let work = Work::new(move || of.serve())?;
        Ok(Self { shared, work, threads })
    }

    /// Who does them from now on. Once, before the first comes.
    pub(super) fn attach(&self, server: Weak<dyn Server>, queue: &Arc<Queue>) {
        let _ = self.shared.server.set((server, Arc::downgrade(queue)));
    }

    /// Takes all of a batch over.
    pub(super) fn take(&self, batch: &mut Batch) {
        {
            let mut list = self.shared.list.lock();
            while let Some(request) = batch.next() {
                list.push_back(request);
            }
        }
        self.threads.queue_work(&self.work);
    }
}

impl Shared {
    fn serve(&self) {
        let Some((server, queue)) = self.server.get() else { return };
        let (Some(server), Some(queue)) = (server.upgrade(), queue.upgrade()) else { return };
        loop {
            let mut list = core::mem::take(&mut *self.list.lock());
            if list.is_empty() {
                return;
            }
            while let Some(request) = list.pop_front() {
                let request: Chained<Request> = request;
                let status = server.serve(&request);
                queue.end(0, request, status);
            }
        }
    }
}
