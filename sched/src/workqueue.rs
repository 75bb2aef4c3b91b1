//! Work queues: functions run by kernel threads, soon or after a delay.
//!
//! A queue has threads (`kworker/…`) that take its items in order. When all of them are busy and items
//! wait, another thread is made, up to the queue's limit, so items may sleep and wait for each other. An
//! ordered queue has one thread and runs one item at a time.
//!
//! A [`Work`] is an item that can be queued again and again without allocating, also from interrupt
//! handlers; while it waits, queueing it again does nothing. It never runs on two threads at once: queued
//! while it runs, it waits for its own end, so its function needs no lock against itself.
//!
//! Locks: a queue's lock (interrupts off), never held while an item runs.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::Result;
use arch::sync::SpinLockIrq;
use intrusive_collections::{LinkedList, LinkedListAtomicLink, intrusive_adapter};
use sync::Once;

use crate::heap::NoFailScope;
use crate::heap::try_arc;
use crate::state::State;
use crate::task::{TaskFlags, current};
use crate::timer::Timer;
use crate::wait::WaitQueue;
use collections::fallible::{try_box, try_format};

/// The most threads of a queue that is not ordered.
const MAX_THREADS: u32 = 16;

struct Inner {
    items: SpinLockIrq<LinkedList<Items>>,
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

/// State of a [`Work`]: it is to run, and is in the items of a queue unless it also runs.
const PENDING: u32 = 1;
/// State of a [`Work`]: a thread is inside its function.
const RUNNING: u32 = 2;

struct WorkInner {
    /// Membership in the items of a queue, under its lock.
    link: LinkedListAtomicLink,
    /// `PENDING` and `RUNNING`. A queue's lock covers the way from `RUNNING` to the items.
    state: AtomicU32,
    f: Function,
}

enum Function {
    Again(Box<dyn Fn() + Send + Sync>),
    Once(SpinLockIrq<Option<Box<dyn FnOnce() + Send>>>),
}

intrusive_adapter!(Items = Arc<WorkInner>: WorkInner { link: LinkedListAtomicLink });

impl WorkInner {
    fn new(f: Function) -> Self {
        Self { link: LinkedListAtomicLink::new(), state: AtomicU32::new(0), f }
    }

    fn call(&self) {
        match &self.f {
            Function::Again(f) => f(),
            Function::Once(f) => {
                let f = f.lock().take();
                if let Some(f) = f {
                    f();
                }
            }
        }
    }
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
        Ok(Self(try_arc(WorkInner::new(Function::Again(f)))?))
    }

    /// Whether it waits to run.
    pub fn is_pending(&self) -> bool {
        self.0.state.load(Ordering::Acquire) & PENDING != 0
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
        let inner = try_arc(Inner {
            items: SpinLockIrq::new(LinkedList::new(Items::new())),
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
        let once = || -> Result<Work> {
            let f: Box<dyn FnOnce() + Send> = try_box(f)?;
            Ok(Work(try_arc(WorkInner::new(Function::Once(SpinLockIrq::new(Some(f)))))?))
        };
        match once() {
            Ok(work) => drop(self.queue_work(&work)),
            Err(_) => log::error!("{}: no memory for an item of work", self.inner.name),
        }
    }

    /// Queues `work`; false if it waits already. Callable from interrupt handlers.
    pub fn queue_work(&self, work: &Work) -> bool {
        match work.0.state.fetch_or(PENDING, Ordering::AcqRel) {
            0 => {
                self.inner.items.lock().push_back(work.0.clone());
                self.inner.idle.wake_one();
                true
            }
            // Whoever runs it queues it again.
            RUNNING => true,
            _ => false,
        }
    }

    /// Waits until everything queued so far has run.
    pub fn flush(&self) {
        self.inner.finished.wait_event(|| {
            self.inner.running.load(Ordering::Acquire) == 0 && self.inner.items.lock().is_empty()
        });
    }

    /// Takes `work` off the queue, or waits until it has run; whether it was taken off.
    pub fn cancel(&self, work: &Work) -> bool {
        let state = &work.0.state;
        let taken = {
            let mut items = self.inner.items.lock();
            let mut at = items.front_mut();
            while at.get().is_some_and(|item| !core::ptr::eq(item, &raw const *work.0)) {
                at.move_next();
            }
            let removed = at.remove();
            let waits_for_itself = removed.is_none() && state.load(Ordering::Acquire) == PENDING | RUNNING;
            if removed.is_some() || waits_for_itself {
                state.fetch_and(!PENDING, Ordering::AcqRel);
            }
            (removed, waits_for_itself)
        };
        if taken.0.is_some() {
            return true;
        }
        self.inner.finished.wait_event(|| state.load(Ordering::Acquire) == 0);
        taken.1
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
        // Read, not only written: what was stored before the item was queued is seen by its function.
        item.state.swap(RUNNING, Ordering::AcqRel);
        item.call();
        {
            let mut items = queue.items.lock();
            if item.state.fetch_and(!RUNNING, Ordering::AcqRel) & PENDING != 0 {
                items.push_back(item);
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
