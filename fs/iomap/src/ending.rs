//! What the file system has to do when data is on the device, in threads.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use abi::{Errno, Result};
use arch::sync::SpinLockIrq;
use collections::fifo::{Chained, Fifo};
use mm::context::NoFsScope;
use mm::{try_arc, try_arc_cyclic};
use sched::workqueue::{Work, WorkQueue};
use sync::Once;

use crate::extent::Mapper;
use crate::write::{Part, as_seen};

/// A write-back that the device is through with.
pub(crate) struct Ended {
    /// Only if the file system has something to do: to be dropped in a thread.
    pub(crate) mapper: Option<Arc<dyn Mapper>>,
    pub(crate) range: Range<u64>,
    pub(crate) parts: Vec<Part>,
    pub(crate) result: Result<()>,
}

impl Ended {
    /// Ends the write-back of its folios. Any context, if there is no mapper.
    pub(crate) fn finish(&mut self, result: Result<()>) {
        for part in self.parts.drain(..) {
            if let Err(error) = result {
                part.fail(as_seen(error));
            }
        }
    }
}

/// Write-backs of one file system whose ends call it: [`Mapper::written`]. They run one after the other, in a thread.
pub struct Endings {
    list: SpinLockIrq<Fifo<Ended>>,
    work: Work,
}

static QUEUE: Once<Option<WorkQueue>> = Once::new();

/// The threads, made at the first use.
fn queue() -> Result<&'static WorkQueue> {
    if let Some(queue) = QUEUE.get() {
        return queue.as_ref().ok_or(Errno::ENOMEM);
    }
    let made = WorkQueue::new("iomap-end")?;
    QUEUE.call_once(|| Some(made)).as_ref().ok_or(Errno::ENOMEM)
}

impl Endings {
    /// None yet. Task context.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        queue()?;
        // The item knows the list by a way of its own: it is made first.
        let place: Arc<Once<alloc::sync::Weak<Self>>> = try_arc(Once::new())?;
        let of = place.clone();
        let work = Work::new(move || {
            if let Some(endings) = of.get().and_then(alloc::sync::Weak::upgrade) {
                endings.run();
            }
        })?;
        Ok(try_arc_cyclic(|me| {
            place.call_once(|| me.clone());
            Self { list: SpinLockIrq::new(Fifo::new()), work }
        })?)
    }

    /// Any context.
    pub(crate) fn add(&self, ended: Chained<Ended>) {
        self.list.lock().push_back(ended);
        if let Ok(queue) = queue() {
            queue.queue_work(&self.work);
        }
    }

    fn run(&self) {
        // It writes what write-back waits for: no allocation may wait for write-back.
        let _nofs = NoFsScope::enter();
        loop {
            let mut list = core::mem::take(&mut *self.list.lock());
            if list.is_empty() {
                return;
            }
            while let Some(mut ended) = list.pop_front() {
                let result = match ended.mapper.take() {
                    Some(mapper) => mapper.written(ended.range.clone(), ended.result),
                    None => ended.result,
                };
                ended.finish(result);
            }
        }
    }
}
