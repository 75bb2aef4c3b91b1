//! Work queues: functions run by kernel threads, soon or after a delay.
//!
//! A queue has threads (`kworker/…`) that take its items in order. When all of them are busy and items
//! wait, another thread is made, up to the queue's limit, so items may sleep and wait for each other. An
//! ordered queue has one thread and runs one item at a time.
//!
//! A [`Work`] is an item that can be queued again and again without allocating, also from interrupt
//! handlers; while it waits, queueing it again does nothing.
//!
//! Locks: a queue's lock (interrupts off), never held while an item runs.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::Result;
use arch::sync::SpinLockIrq;
use sync::Once;

use crate::heap::NoFailScope;
use crate::heap::try_arc;
use crate::state::State;
use crate::task::{TaskFlags, current};
use crate::timer::Timer;
use crate::wait::WaitQueue;
use collections::OutOfMemory;
use collections::fallible::{TryDeque, try_box, try_format};

/// The most threads of a queue that is not ordered.
const MAX_THREADS: u32 = 16;

enum Item {
    Once(Box<dyn FnOnce() + Send>),
    Work(Arc<WorkInner>),
}

struct Inner {
    items: SpinLockIrq<VecDeque<Item>>,
    /// Woken when there are items.
    idle: WaitQueue,
    /// Woken when an item is finished.
    finished: WaitQueue,
    /// Threads that wait for items.
    waiting: AtomicU32,
    threads: AtomicU32,
    /// Items that run.
    running: AtomicU32,
    limit: u32,
    name: String,
    stop: AtomicBool,
}

/// A queue of work and its threads.
pub struct WorkQueue {
    inner: Arc<Inner>,
}

struct WorkInner {
    pending: AtomicBool,
    running: AtomicU32,
    f: Box<dyn Fn() + Send + Sync>,
}

/// An item that can be queued again and again.
#[derive(Clone)]
pub struct Work(Arc<WorkInner>);

impl Work {
    /// An item that calls `f`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let f: Box<dyn Fn() + Send + Sync> = try_box(f)?;
        Ok(Self(try_arc(WorkInner { pending: AtomicBool::new(false), running: AtomicU32::new(0), f })?))
    }

    /// Whether it waits to run.
    pub fn is_pending(&self) -> bool {
        self.0.pending.load(Ordering::Acquire)
    }
}

impl WorkQueue {
    /// A queue that may run several items at the same time.
    ///
    /// # Errors
    /// `ENOMEM` for its first thread.
    pub fn new(name: &str) -> Result<Self> {
        Self::with_limit(name, MAX_THREADS)
    }

    /// A queue that runs one item after the other, in the order they were queued.
    ///
    /// # Errors
    /// `ENOMEM` for its thread.
    pub fn new_ordered(name: &str) -> Result<Self> {
        Self::with_limit(name, 1)
    }

    fn with_limit(name: &str, limit: u32) -> Result<Self> {
        let mut items = VecDeque::new();
        items.try_reserve(32).map_err(OutOfMemory::from)?;
        let inner = try_arc(Inner {
            items: SpinLockIrq::new(items),
            idle: WaitQueue::new(),
            finished: WaitQueue::new(),
            waiting: AtomicU32::new(0),
            threads: AtomicU32::new(0),
            running: AtomicU32::new(0),
            limit,
            name: try_format(format_args!("{name}"))?,
            stop: AtomicBool::new(false),
        })?;
        add_thread(&inner)?;
        Ok(Self { inner })
    }

    /// Runs `f` soon. Waits for the memory to note it, or with preemption off uses the reserves.
    pub fn queue(&self, f: impl FnOnce() + Send + 'static) {
        let _no_fail = NoFailScope::enter();
        match try_box(f) {
            Ok(f) => drop(self.push(Item::Once(f))),
            Err(_) => log::error!("{}: no memory for an item of work", self.inner.name),
        }
    }

    /// Queues `work`; false if it waits already, or if there is no memory to let the queue grow. Callable from interrupt handlers.
    pub fn queue_work(&self, work: &Work) -> bool {
        if work.0.pending.swap(true, Ordering::AcqRel) {
            return false;
        }
        let queued = self.push(Item::Work(work.0.clone()));
        if !queued {
            work.0.pending.store(false, Ordering::Release);
        }
        queued
    }

    fn push(&self, item: Item) -> bool {
        let queued = self.inner.items.lock().try_push_back(item).is_ok();
        self.inner.idle.wake_one();
        queued
    }

    /// Waits until everything queued so far has run.
    pub fn flush(&self) {
        self.inner.finished.wait_event(|| {
            self.inner.running.load(Ordering::Acquire) == 0 && self.inner.items.lock().is_empty()
        });
    }

    /// Takes `work` off the queue, or waits until it has run; whether it was taken off.
    pub fn cancel(&self, work: &Work) -> bool {
        let removed = {
            let mut items = self.inner.items.lock();
            let at = items.iter().position(|i| matches!(i, Item::Work(w) if Arc::ptr_eq(w, &work.0)));
            at.and_then(|at| items.remove(at))
        };
        if removed.is_some() {
            work.0.pending.store(false, Ordering::Release);
            return true;
        }
        self.inner.finished.wait_event(|| work.0.running.load(Ordering::Acquire) == 0 && !work.is_pending());
        false
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        self.flush();
        self.inner.stop.store(true, Ordering::Release);
        self.inner.idle.wake_all();
    }
}

impl core::fmt::Debug for WorkQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WorkQueue({})", self.inner.name)
    }
}

fn add_thread(inner: &Arc<Inner>) -> Result<()> {
    let n = inner.threads.fetch_add(1, Ordering::Relaxed);
    let queue = inner.clone();
    let name = try_format(format_args!("kworker/{}:{n}", inner.name));
    let spawned = match name {
        Ok(name) => crate::kthread::spawn(&name, move || run(&queue)),
        Err(error) => Err(error.into()),
    };
    if spawned.is_err() {
        inner.threads.fetch_sub(1, Ordering::Relaxed);
    }
    spawned.map(drop)
}

fn run(queue: &Arc<Inner>) {
    loop {
        queue.waiting.fetch_add(1, Ordering::SeqCst);
        let how = crate::Wait { state: State::IDLE, ..crate::Wait::UNINTERRUPTIBLE }.exclusive();
        let item = queue.idle.wait(how, || {
            let mut items = queue.items.lock();
            let item = items.pop_front();
            if item.is_some() {
                queue.running.fetch_add(1, Ordering::SeqCst);
            }
            match item {
                Some(item) => Some(Some(item)),
                None => queue.stop.load(Ordering::Acquire).then_some(None),
            }
        });
        let left = queue.waiting.fetch_sub(1, Ordering::SeqCst) - 1;
        let Ok(Some(item)) = item else { break };
        // Somebody should be there for the next item while this one sleeps.
        if left == 0 && queue.threads.load(Ordering::Relaxed) < queue.limit {
            let _ = add_thread(queue);
        }
        current().set_flags(TaskFlags::WORKER);
        match item {
            Item::Once(f) => f(),
            Item::Work(work) => {
                work.running.fetch_add(1, Ordering::AcqRel);
                work.pending.store(false, Ordering::Release);
                (work.f)();
                work.running.fetch_sub(1, Ordering::AcqRel);
            }
        }
        current().clear_flags(TaskFlags::WORKER);
        queue.running.fetch_sub(1, Ordering::SeqCst);
        queue.finished.wake_all();
    }
}

static SYSTEM: Once<WorkQueue> = Once::new();
/// The queue for everybody's short work. Task context at its first use.
pub fn system() -> &'static WorkQueue {
    SYSTEM.call_once(|| match WorkQueue::new("u:0") {
        Ok(queue) => queue,
        Err(error) => panic!("no memory for the system's work queue: {error}"),
    })
}

/// Runs `f` soon on the system's queue.
pub fn queue(f: impl FnOnce() + Send + 'static) {
    system().queue(f);
}

/// An item that is queued after a delay.
pub struct DelayedWork {
    work: Work,
    timer: Timer,
    queue: &'static WorkQueue,
}

impl DelayedWork {
    /// An item of the system's queue that calls `f`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(f: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let work = Work::new(f)?;
        let (queue, item) = (system(), work.clone());
        let timer = Timer::new(move || {
            queue.queue_work(&item);
        })?;
        Ok(Self { work, timer, queue })
    }

    /// Queues it in `ms` milliseconds unless it waits already; whether it did not.
    pub fn queue_in_ms(&self, ms: u64) -> bool {
        if self.timer.is_queued() || self.work.is_pending() {
            return false;
        }
        self.mod_in_ms(ms);
        true
    }

    /// Queues it in `ms` milliseconds, whenever it was to be queued before.
    pub fn mod_in_ms(&self, ms: u64) {
        if ms == 0 {
            self.timer.cancel();
            self.queue.queue_work(&self.work);
        } else {
            self.timer.start_in_ms(ms);
        }
    }

    /// Does not run it, or waits until it has run.
    pub fn cancel(&self) -> bool {
        self.timer.cancel() | self.queue.cancel(&self.work)
    }
}

impl Drop for DelayedWork {
    fn drop(&mut self) {
        self.timer.cancel();
    }
}

impl core::fmt::Debug for DelayedWork {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DelayedWork(pending: {})", self.timer.is_queued() || self.work.is_pending())
    }
}
