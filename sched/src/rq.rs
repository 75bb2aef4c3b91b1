//! The run queue of a CPU: its runnable tasks, by class, and the task that runs.
//!
//! [`RunQueue`] is what others see; [`Rq`] is behind its lock, which is taken with interrupts off.
//! Two run queues are locked in the order of their CPUs, or the second only by `try_lock`.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use arch::cpu::{CpuId, MAX_CPUS};
use sync::{Bare, SpinLock, SpinLockGuard};

use crate::class::deadline::DlRq;
use crate::class::fair::CfsRq;
use crate::class::realtime::RtRq;
use crate::class::{Class, Dequeue, Enqueue, TaskPtr};
use crate::entity::Sched;
use crate::state::State;
use crate::task::{Task, on_rq};

/// A CPU's run queue.
pub(crate) struct RunQueue {
    pub lock: SpinLock<Rq, Bare>,
    /// What those look at who choose a CPU without the lock; see [`Hints`].
    pub hints: Hints,
    /// `Rq::curr`, for those who look under RCU without the lock.
    pub curr: AtomicPtr<Task>,
    pub cpu: CpuId,
    /// The task that the switch in progress leaves.
    pub prev: AtomicPtr<Task>,
}

/// A recent state of a run queue, readable without its lock.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Runnable tasks, with the running one.
    pub nr_running: AtomicU32,
    /// Sum of the weights on the fair root queue.
    pub load: AtomicU64,
    /// Rank of the running task: the lower, the more important; see [`rank`].
    pub rank: AtomicU32,
    /// Deadline and real-time tasks that are runnable and not running.
    pub rt_waiting: AtomicU32,
}

/// How important a task is, over all classes: 0 stop, 1 deadline, 2..=101 real-time, 102 fair, 103 idle.
pub(crate) fn rank(sched: &Sched) -> u32 {
    match sched.class {
        Class::Stop => 0,
        Class::Deadline => 1,
        Class::Realtime => 2 + crate::class::realtime::index_of(sched.rt.priority.get()) as u32,
        Class::Fair => 102,
        Class::Idle => 103,
    }
}

pub(crate) type RqGuard<'a> = SpinLockGuard<'a, Rq, Bare>;

/// What the run queue's lock protects.
pub(crate) struct Rq {
    pub cpu: CpuId,
    /// Raw time of the last look at the clock.
    pub clock: u64,
    pub nr_running: u32,
    /// Tasks that went to uninterruptible sleep here, less those that woke here: only the sum over
    /// all CPUs means something.
    pub nr_uninterruptible: i64,
    pub curr: TaskPtr,
    pub idle: TaskPtr,
    pub stop: Option<TaskPtr>,
    pub fair: &'static CfsRq,
    pub rt: RtRq,
    pub dl: DlRq,
    /// The number of context switches.
    pub nr_switches: u64,
    /// When the load balancer runs next.
    pub next_balance: u64,
    /// When the earliest throttled deadline task is to be replenished.
    pub dl_next: u64,
}

// SAFETY: the pointers are followed under the lock only, and a run queue keeps its tasks alive.
unsafe impl Send for Rq {}

impl RunQueue {
    /// An empty run queue of `cpu`, on which `idle` runs. Never freed.
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    pub fn new(cpu: CpuId, idle: TaskPtr) -> Self {
        let fair = alloc::boxed::Box::leak(alloc::boxed::Box::new(CfsRq::new()));
        Self {
            lock: SpinLock::new(Rq {
                cpu,
                clock: 0,
                nr_running: 0,
                nr_uninterruptible: 0,
                curr: idle,
                idle,
                stop: None,
                fair,
                rt: RtRq::new(),
                dl: DlRq::new(),
                nr_switches: 0,
                next_balance: 0,
                dl_next: u64::MAX,
            }),
            hints: Hints::default(),
            curr: AtomicPtr::new(idle.as_ptr()),
            cpu,
            prev: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// The task that the switch which just happened here left.
    pub fn take_prev(&self) -> TaskPtr {
        TaskPtr::new(self.prev.load(Ordering::Relaxed)).unwrap_or_else(|| unreachable!("no switch happened"))
    }

    /// The root queue of the fair class.
    pub fn fair_root(&self) -> &'static CfsRq {
        // SAFETY: the field never changes, so it may be read without the lock.
        unsafe { (*self.lock.data_ptr()).fair }
    }
}

static RUN_QUEUES: [AtomicPtr<RunQueue>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// The run queue of a CPU; `None` if the CPU does not exist.
pub(crate) fn try_of(cpu: CpuId) -> Option<&'static RunQueue> {
    // SAFETY: null or from `install`, never freed.
    unsafe { RUN_QUEUES[cpu.index()].load(Ordering::Acquire).as_ref() }
}

/// Makes `rq` the run queue of its CPU.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub(crate) fn install(rq: RunQueue) -> &'static RunQueue {
    let rq = alloc::boxed::Box::leak(alloc::boxed::Box::new(rq));
    // What runs there is an idle task.
    rq.hints.rank.store(103, Ordering::Relaxed);
    RUN_QUEUES[rq.cpu.index()].store(rq, Ordering::Release);
    rq
}

pub(crate) fn sched_of<'a>(task: TaskPtr) -> &'a Sched {
    // SAFETY: the caller holds the run queue's lock (or the task's `pi_lock`), and the task is alive.
    unsafe { &*task.as_ref().sched.get() }
}

/// For changes; the caller holds the run queue's lock and no other reference from [`sched_of`].
#[allow(clippy::mut_from_ref)]
pub(crate) fn sched_mut<'a>(task: TaskPtr) -> &'a mut Sched {
    // SAFETY: as above. Entities that others point at have cells only.
    unsafe { &mut *task.as_ref().sched.get() }
}

impl Rq {
    /// The class of the running task.
    pub fn current_class(&self) -> Class {
        sched_of(self.curr).class
    }

    /// Starts the accounting of `task`, which is going to run.
    pub fn start_exec(&mut self, task: TaskPtr) {
        sched_of(task).exec_start.set(self.clock);
    }

    /// Charges `task`, which runs, up to the clock; returns the nanoseconds charged.
    pub fn account_exec(&mut self, task: TaskPtr) -> u64 {
        let exec_start = &sched_of(task).exec_start;
        let delta = self.clock.wrapping_sub(exec_start.get());
        if delta.cast_signed() <= 0 {
            return 0;
        }
        exec_start.set(self.clock);
        // SAFETY: tasks on a run queue are alive.
        unsafe { task.as_ref() }.times.sum_exec.fetch_add(delta, Ordering::Relaxed);
        delta
    }

    /// The running task shall call the scheduler.
    pub fn resched_current(&mut self) {
        // SAFETY: the running task is alive.
        crate::platform::resched(self.cpu, unsafe { self.curr.as_ref() });
    }

    /// Whether `woken`, which was queued here, should run instead of the running task.
    pub fn preempted_by(&mut self, woken: TaskPtr) -> bool {
        let (curr, new) = (self.current_class(), sched_of(woken).class);
        if curr == new { curr.preempts(self, woken) } else { new < curr }
    }

    /// Puts a task on the queue.
    pub fn activate(&mut self, task: TaskPtr, why: Enqueue) {
        sched_of(task).class.enqueue(self, task, why);
        // SAFETY: the caller's task is alive.
        unsafe { task.as_ref() }.on_rq.store(on_rq::QUEUED, Ordering::Release);
    }

    /// Takes a task off the queue because it sleeps in `state`.
    pub fn deactivate(&mut self, task: TaskPtr, state: State) {
        if state.contributes_to_load() {
            self.nr_uninterruptible += 1;
        }
        sched_of(task).class.dequeue(self, task, Dequeue::Sleep);
        // Release: the waker that sees it sees everything before.
        // SAFETY: the caller's task is alive.
        unsafe { task.as_ref() }.on_rq.store(on_rq::NO, Ordering::Release);
    }

    /// Binds a task that is not queued to this run queue: its entity belongs to the group's queue here.
    pub fn adopt(&mut self, task: TaskPtr) {
        // SAFETY: alive, as above.
        unsafe { task.as_ref() }.cpu.store(self.cpu.0, Ordering::Release);
        self.adopt_here(task);
    }

    /// The same for a task that belongs to this CPU already, after its group changed.
    pub fn adopt_here(&mut self, task: TaskPtr) {
        match &sched_of(task).group {
            Some(group) => crate::class::fair::attach(task, group.entity(self.cpu), group.queue(self.cpu)),
            None => crate::class::fair::attach(task, core::ptr::null(), self.fair),
        }
    }

    /// Picks the task to run; it is the running one from now on.
    pub fn pick_next(&mut self, prev: TaskPtr) -> TaskPtr {
        sched_of(prev).class.put_prev(self, prev);
        let next = crate::class::pick_next_task(self);
        self.curr = next;
        next
    }

    /// A deadline or real-time task that is runnable here, does not run, may run on `cpu` and is more
    /// important than `than`.
    pub fn waiting_urgent(&self, cpu: CpuId, than: u32) -> Option<TaskPtr> {
        let curr = self.curr;
        let wanted = |task: &TaskPtr| {
            // SAFETY: queued tasks are alive.
            let runs = *task == curr || unsafe { task.as_ref() }.on_cpu.load(Ordering::Relaxed);
            !runs && rank(sched_of(*task)) < than && sched_of(*task).affinity.contains(cpu)
        };
        self.dl.ready_tasks().find(wanted).or_else(|| self.rt.tasks().find(wanted))
    }

    /// Refreshes what others see of this queue.
    pub fn publish(&self, hints: &Hints) {
        hints.nr_running.store(self.nr_running, Ordering::Relaxed);
        hints.load.store(self.fair.load.get(), Ordering::Relaxed);
        let sched = sched_of(self.curr);
        hints.rank.store(rank(sched), Ordering::Relaxed);
        let urgent = self.rt.nr_running + self.dl.nr_running;
        let running = u32::from(matches!(sched.class, Class::Deadline | Class::Realtime));
        hints.rt_waiting.store(urgent.saturating_sub(running), Ordering::Relaxed);
    }

    /// A timer for the deadline class is wanted at `at`.
    pub fn dl_timer(&mut self, at: u64) {
        if at < self.dl_next || self.dl_next <= self.clock {
            self.dl_next = at;
            crate::platform::start_dl_timer(self.cpu, at);
        }
    }
}
