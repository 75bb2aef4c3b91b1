//! Workers: threads for operations that may sleep.
//!
//! Each thread that submits has its own workers, made as they are needed, of two classes: *bounded* for operations on files and
//! directories, which end by themselves, and *unbounded* for those that may wait for ever (sockets, pipes, terminals). The
//! first are limited by the number of CPUs, the second by `RLIMIT_NPROC`; `IORING_REGISTER_IOWQ_MAX_WORKERS` changes both. A worker that
//! finds nothing to do for five seconds ends.
//!
//! Locks: a class's queue and the list of workers are leaves.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::{Errno, Result};
use arch::cpu::CpuMask;
use arch::sync::SpinLock;
use mm::{TryDeque, TryVec, try_arc, try_arc_cyclic, try_format};
use sched::Task;
use sched::hrtimer::Deadline;
use sched::wait::{Wait, WaitQueue};
use sync::Once;

use super::complete::Cx;
use super::op::{self, Issue};
use super::request::{Place, Request, flags};
use super::{ghost, work};
use crate::process::{Resource, current, with_current};

/// How long an idle worker stays.
const IDLE_MS: u64 = 5000;

/// Classes of workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Their work ends by itself.
    Bounded,
    /// It may wait for ever.
    Unbounded,
}

struct Account {
    queue: SpinLock<VecDeque<Arc<Request>>>,
    waiting: WaitQueue,
    idle: AtomicU32,
    workers: AtomicU32,
    limit: AtomicU32,
}

struct Worker {
    task: Once<Arc<Task>>,
    current: SpinLock<Option<Arc<Request>>>,
}

/// The workers of one thread.
pub struct Wq {
    me: Weak<Wq>,
    accounts: [Account; 2],
    workers: SpinLock<Vec<Arc<Worker>>>,
    stopping: AtomicBool,
    gone: WaitQueue,
    affinity: SpinLock<Option<CpuMask>>,
    name: [u8; 16],
    name_len: usize,
}

/// Whether the running thread is a worker.
pub fn in_worker() -> bool {
    let task = sched::current();
    task.is_kthread() && task.comm().as_bytes().starts_with(b"iou-wrk")
}

/// Which class an operation belongs to.
pub fn class_of(req: &Request) -> Class {
    let regular = req.file().is_none_or(|file| file.inode().is_regular() || file.inode().is_dir());
    let unbounded = op::OpDef::of(req.opcode).is_some_and(|def| def.unbounded);
    if unbounded || !regular { Class::Unbounded } else { Class::Bounded }
}

impl Wq {
    /// No workers yet, for the running thread.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        let nproc = with_current(|t| t.process.limits.cur(Resource::Nproc)).unwrap_or(0);
        let account = |limit| Account {
            queue: SpinLock::new(VecDeque::new()),
            waiting: WaitQueue::new(),
            idle: AtomicU32::new(0),
            workers: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
        };
        let cpus = arch::cpu::count() as u32;
        let unbounded = u32::try_from(nproc).unwrap_or(u32::MAX).clamp(1, 1 << 20);
        let text = try_format(format_args!("iou-wrk-{}", current().tid()))?;
        let mut name = [0; 16];
        let name_len = text.len().min(15);
        for (to, from) in name.iter_mut().zip(text.bytes().take(name_len)) {
            *to = from;
        }
        Ok(try_arc_cyclic(|me| Self {
            me: me.clone(),
            accounts: [account((4 * cpus).min(unbounded)), account(unbounded)],
            workers: SpinLock::new(Vec::new()),
            stopping: AtomicBool::new(false),
            gone: WaitQueue::new(),
            affinity: SpinLock::new(None),
            name,
            name_len,
        })?)
    }

    fn account(&self, class: Class) -> &Account {
        let [bounded, unbounded] = &self.accounts;
        if class == Class::Bounded { bounded } else { unbounded }
    }

    /// Queues a request that waits in [`Place::Queue`].
    ///
    /// # Errors
    /// `ENOMEM`, with the request.
    pub fn enqueue(
        &self,
        req: Arc<Request>,
        class: fn(&Request) -> Class,
    ) -> core::result::Result<(), (Arc<Request>, Errno)> {
        let class = class(&req);
        let account = self.account(class);
        if self.stopping.load(Ordering::Acquire) {
            return Err((req, Errno::ECANCELED));
        }
        {
            let mut queue = account.queue.lock();
            if queue.try_reserve(1).is_err() {
                drop(queue);
                return Err((req, Errno::ENOMEM));
            }
            queue.push_back_reserved(req);
        }
        account.waiting.wake_one();
        if account.idle.load(Ordering::SeqCst) == 0 {
            self.add_worker(class);
        }
        Ok(())
    }

    fn add_worker(&self, class: Class) {
        let account = self.account(class);
        let limit = account.limit.load(Ordering::Relaxed).max(1);
        let counted = account
            .workers
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < limit).then_some(n + 1));
        let Some(me) = self.me.upgrade().filter(|_| counted.is_ok()) else { return };
        let Ok(worker) = try_arc(Worker { task: Once::new(), current: SpinLock::new(None) }) else {
            return self.no_worker(class);
        };
        let ready = self.workers.lock().try_push(worker.clone()).is_ok();
        let name =
            core::str::from_utf8(self.name.get(..self.name_len).unwrap_or_default()).unwrap_or("iou-wrk");
        let inside = (me.clone(), worker.clone());
        let spawned = if ready {
            ghost::spawn(name, move || run(&inside.0, &inside.1, class))
        } else {
            Err(Errno::ENOMEM)
        };
        match spawned {
            Ok(task) => {
                if let Some(cpus) = *self.affinity.lock() {
                    let _ = task.set_affinity(cpus);
                }
                worker.task.call_once(|| task);
            }
            Err(_) => {
                self.workers.lock().retain(|other| !Arc::ptr_eq(other, &worker));
                self.no_worker(class);
            }
        }
    }

    /// A worker that was counted could not be made.
    fn no_worker(&self, class: Class) {
        if self.account(class).workers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.fail_all(class);
        }
        self.gone.wake_all();
    }

    /// Without any worker nothing will ever run.
    fn fail_all(&self, class: Class) {
        while let Some(req) = self.pop(class) {
            if req.claim() {
                req.result.store(Errno::EAGAIN.to_return() as i32, Ordering::Relaxed);
                work::queue(&req, super::request::Action::Complete);
            }
        }
    }

    fn forget(&self, worker: &Arc<Worker>, class: Class) {
        self.workers.lock().retain(|other| !Arc::ptr_eq(other, worker));
        self.account(class).workers.fetch_sub(1, Ordering::AcqRel);
        self.gone.wake_all();
    }

    fn pop(&self, class: Class) -> Option<Arc<Request>> {
        self.account(class).queue.lock().pop_front()
    }

    /// Ends what the worker that has `req` waits for.
    pub fn interrupt(&self, req: &Arc<Request>) {
        let workers = self.workers.lock();
        for worker in workers.iter() {
            let current = worker.current.lock();
            if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, req))
                && let Some(task) = worker.task.get()
            {
                ghost::interrupt(task);
            }
        }
    }

    /// Ends all workers and waits for them. Their requests are cancelled already.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for account in &self.accounts {
            account.waiting.wake_all();
        }
        self.gone.wait_event(|| self.workers.lock().is_empty());
    }

    /// `IORING_REGISTER_IOWQ_AFF`: where workers run; `None`: anywhere.
    pub fn set_affinity(&self, cpus: Option<CpuMask>) {
        *self.affinity.lock() = cpus;
        let mask = cpus.unwrap_or(CpuMask::ALL).and(arch::cpu::possible());
        let mut at = 0;
        loop {
            let worker = self.workers.lock().get(at).cloned();
            let Some(worker) = worker else { break };
            if let Some(task) = worker.task.get() {
                let _ = task.set_affinity(mask);
            }
            at += 1;
        }
    }

    /// `IORING_REGISTER_IOWQ_MAX_WORKERS`: sets limits that are not zero and returns the old ones.
    pub fn set_limits(&self, new: [u32; 2]) -> [u32; 2] {
        let mut old = [0; 2];
        for ((account, new), old) in self.accounts.iter().zip(new).zip(&mut old) {
            *old = account.limit.load(Ordering::Relaxed);
            if new != 0 {
                account.limit.store(new, Ordering::Relaxed);
            }
        }
        old
    }
}

fn run(wq: &Arc<Wq>, worker: &Arc<Worker>, class: Class) {
    let account = wq.account(class);
    loop {
        account.idle.fetch_add(1, Ordering::SeqCst);
        let how = Wait::INTERRUPTIBLE.exclusive().until(Some(Deadline::after_ms(IDLE_MS)));
        let found = account.waiting.wait(how, || match wq.pop(class) {
            Some(req) => Some(Some(req)),
            None => wq.stopping.load(Ordering::Acquire).then_some(None),
        });
        account.idle.fetch_sub(1, Ordering::SeqCst);
        match found {
            Ok(Some(req)) => {
                // Somebody should be there for the next one while this sleeps.
                if account.idle.load(Ordering::SeqCst) == 0 && !account.queue.lock().is_empty() {
                    wq.add_worker(class);
                }
                one(worker, req);
                ghost::clear_interrupt();
            }
            Ok(None) => break,
            Err(sched::WaitError::Interrupted) => ghost::clear_interrupt(),
            Err(sched::WaitError::TimedOut) => match wq.pop(class) {
                Some(req) => one(worker, req),
                None => break,
            },
        }
    }
    wq.forget(worker, class);
}

fn one(worker: &Worker, req: Arc<Request>) {
    // Claim and place change together as far as a canceller can see: it looks at the place first.
    if !req.claim() {
        return;
    }
    *worker.current.lock() = Some(req.clone());
    req.set_place(Place::Worker);
    let ring = req.ring.clone();
    let mut cx = Cx::elsewhere(&ring);
    if req.has(flags::CANCELED) {
        cx.fail(req, Errno::ECANCELED);
    } else {
        let (res, cflags) = match op::issue(&mut cx, &req, true) {
            Issue::Done(res, cflags) => (res, cflags),
            Issue::WouldBlock(_) | Issue::Punt | Issue::Pending | Issue::Share => {
                (Errno::EAGAIN.to_return() as i32, 0)
            }
        };
        let interrupted = res == Errno::EINTR.to_return() as i32 && req.has(flags::CANCELED);
        let res = if interrupted { Errno::ECANCELED.to_return() as i32 } else { res };
        let held = worker.current.lock().take();
        drop(held);
        cx.complete(req, res, cflags);
    }
    let held = worker.current.lock().take();
    drop(held);
    cx.flush();
}
