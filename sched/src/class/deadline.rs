//! The deadline class: earliest deadline first, with constant-bandwidth servers.
//!
//! A task reserves `runtime` of CPU time in every `period`, to be had within `deadline` of the
//! period's beginning. Its server keeps an absolute deadline and a remaining budget. Runnable tasks are
//! ordered by absolute deadline. A task that uses up its budget is throttled until the next period
//! begins; so an overrun hurts nobody else (Abeni and Buttazzo, *Integrating Multimedia Applications
//! in Hard Real-Time Systems*, 1998). Admission control keeps the sum of reservations within the CPUs;
//! see [`admit`].

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use collections::rbtree::{RbNode, RbTree};

use super::{Dequeue, Enqueue, TaskPtr};
use crate::entity::Sched;
use crate::rq::Rq;
use crate::task::Task;

/// Bandwidths are fixed-point numbers with this many fractional bits.
const BW_SHIFT: u32 = 20;

/// A reservation as the user asked for it, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DlParams {
    /// CPU time per period.
    pub runtime: u64,
    /// By when after the beginning of a period.
    pub deadline: u64,
    /// How often.
    pub period: u64,
}

impl DlParams {
    /// Whether `sched_setattr(2)` accepts it: runtime ≤ deadline ≤ period, nothing too small or large.
    pub fn is_valid(&self) -> bool {
        self.deadline != 0
            && self.runtime >= 1024
            && self.deadline >> 63 == 0
            && self.period >> 63 == 0
            && self.period >= self.deadline
            && self.deadline >= self.runtime
            && (100_000..=4_194_304_000).contains(&self.period)
    }

    /// The share of a CPU.
    fn bandwidth(&self) -> u64 {
        if self.period == 0 {
            0
        } else {
            ((u128::from(self.runtime) << BW_SHIFT) / u128::from(self.period)) as u64
        }
    }
}

/// A task's server.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct DlEntity {
    node: RbNode,
    pub(crate) params: Cell<DlParams>,
    /// The reservation of a waiter that this task holds up, and runs by meanwhile; see [`crate::pi`].
    borrowed: Cell<Option<DlParams>>,
    /// Budget left, nanoseconds.
    pub(crate) runtime: Cell<i64>,
    /// Absolute deadline on the run queue's clock.
    pub(crate) deadline: Cell<u64>,
    /// Queued by the class (runnable or throttled).
    queued: Cell<bool>,
    /// Waits for its next period.
    pub(crate) throttled: Cell<bool>,
    /// Gave up the rest of its budget.
    yielded: Cell<bool>,
}

impl DlEntity {
    pub(crate) const fn new() -> Self {
        Self {
            node: RbNode::new(),
            params: Cell::new(DlParams { runtime: 0, deadline: 0, period: 0 }),
            borrowed: Cell::new(None),
            runtime: Cell::new(0),
            deadline: Cell::new(0),
            queued: Cell::new(false),
            throttled: Cell::new(false),
            yielded: Cell::new(false),
        }
    }

    /// The reservation it runs by.
    pub(crate) fn effective(&self) -> DlParams {
        self.borrowed.get().unwrap_or(self.params.get())
    }

    /// Runs by another task's reservation from now on, or by its own again. The task is not queued.
    pub(crate) fn borrow(&self, params: Option<DlParams>) {
        self.borrowed.set(params);
        if let Some(params) = params {
            self.runtime.set(params.runtime.cast_signed());
            self.throttled.set(false);
        }
    }

    /// When the next period begins.
    fn next_period(&self) -> u64 {
        let params = self.effective();
        self.deadline.get().wrapping_sub(params.deadline).wrapping_add(params.period)
    }

    /// A fresh budget and deadline from `now` on.
    fn start_at(&self, now: u64) {
        let params = self.effective();
        self.deadline.set(now.wrapping_add(params.deadline));
        self.runtime.set(params.runtime.cast_signed());
    }

    /// Gives the budget of as many periods as are needed to have some.
    fn replenish(&self, now: u64) {
        let params = self.effective();
        if params.period == 0 {
            return;
        }
        if self.yielded.take() && self.runtime.get() > 0 {
            self.runtime.set(0);
        }
        while self.runtime.get() <= 0 {
            self.deadline.set(self.deadline.get().wrapping_add(params.period));
            self.runtime.set(self.runtime.get() + params.runtime.cast_signed());
        }
        // Lagging too far behind: start afresh.
        if before(self.deadline.get(), now) {
            self.start_at(now);
        }
    }

    /// The wake-up rule: keep budget and deadline only if they do not exceed the reserved bandwidth.
    fn wake(&self, now: u64) {
        let params = self.effective();
        if !before(now, self.deadline.get()) {
            return self.start_at(now);
        }
        let left = u128::from(self.runtime.get().max(0).cast_unsigned());
        let until = u128::from(self.deadline.get().wrapping_sub(now));
        if left * u128::from(params.period) > u128::from(params.runtime) * until {
            self.start_at(now);
        }
    }
}

/// Whether `a` is earlier than `b` on a clock that may wrap.
fn before(a: u64, b: u64) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

/// The class' part of a run queue.
pub(crate) struct DlRq {
    /// Runnable, by deadline.
    ready: RbTree,
    /// Throttled, by deadline (so the earliest may be replenished first or a little later).
    throttled: RbTree,
    pub(crate) nr_running: u32,
}

impl DlRq {
    pub(crate) const fn new() -> Self {
        Self { ready: RbTree::new(), throttled: RbTree::new(), nr_running: 0 }
    }

    /// Runnable tasks, the most urgent first.
    pub(crate) fn ready_tasks(&self) -> impl Iterator<Item = TaskPtr> {
        core::iter::successors(first(&self.ready), |task| {
            // SAFETY: it is in the tree, as the iterator found it there.
            task_of(unsafe { self.ready.next(&raw const dl(*task).node) })
        })
    }
}

fn dl<'a>(task: TaskPtr) -> &'a DlEntity {
    // SAFETY: the run queue's lock is held and the task is alive; the entity's fields are cells.
    unsafe { &(*task.as_ref().sched.get()).dl }
}

fn task_of(node: *const RbNode) -> Option<TaskPtr> {
    let offset = core::mem::offset_of!(Task, sched) + core::mem::offset_of!(Sched, dl);
    // A node is the first field of the entity in a task.
    (!node.is_null()).then(|| node.wrapping_byte_sub(offset).cast::<Task>().cast_mut()).and_then(TaskPtr::new)
}

fn first(tree: &RbTree) -> Option<TaskPtr> {
    task_of(tree.first())
}

fn insert(tree: &RbTree, task: TaskPtr) {
    // SAFETY: tasks on a run queue are alive and removed before they leave it; nodes are first
    // fields of entities.
    unsafe {
        tree.insert(&raw const dl(task).node, |a, b| {
            before((*a.cast::<DlEntity>()).deadline.get(), (*b.cast::<DlEntity>()).deadline.get())
        });
    }
}

fn remove(tree: &RbTree, task: TaskPtr) {
    // SAFETY: callers know that it is in this tree.
    unsafe { tree.remove(&raw const dl(task).node) };
}

pub(crate) fn enqueue(rq: &mut Rq, task: TaskPtr, why: Enqueue) {
    let entity = dl(task);
    match why {
        Enqueue::Wakeup if !entity.throttled.get() => entity.wake(rq.clock),
        Enqueue::New => entity.start_at(rq.clock),
        _ if entity.deadline.get() == 0 => entity.start_at(rq.clock),
        _ => {}
    }
    entity.queued.set(true);
    rq.nr_running += 1;
    rq.dl.nr_running += 1;
    if entity.throttled.get() {
        insert(&rq.dl.throttled, task);
        rq.dl_timer(entity.next_period());
    } else {
        insert(&rq.dl.ready, task);
    }
}

pub(crate) fn dequeue(rq: &mut Rq, task: TaskPtr, _why: Dequeue) {
    update_current(rq);
    let entity = dl(task);
    remove(if entity.throttled.get() { &rq.dl.throttled } else { &rq.dl.ready }, task);
    entity.queued.set(false);
    rq.nr_running -= 1;
    rq.dl.nr_running -= 1;
}

pub(crate) fn yield_current(rq: &mut Rq) {
    // Done for this period.
    let task = rq.curr;
    update_current(rq);
    if !dl(task).throttled.get() {
        dl(task).yielded.set(true);
        throttle(rq, task);
    }
}

fn throttle(rq: &mut Rq, task: TaskPtr) {
    let entity = dl(task);
    remove(&rq.dl.ready, task);
    if entity.borrowed.get().is_some() {
        // Whoever waits for it must not wait for its budget too.
        entity.replenish(rq.clock);
        insert(&rq.dl.ready, task);
        return rq.resched_current();
    }
    entity.throttled.set(true);
    insert(&rq.dl.throttled, task);
    rq.dl_timer(entity.next_period());
    rq.resched_current();
}

pub(crate) fn preempts(rq: &mut Rq, woken: TaskPtr) -> bool {
    before(dl(woken).deadline.get(), dl(rq.curr).deadline.get())
}

pub(crate) fn put_prev(rq: &mut Rq, _task: TaskPtr) {
    update_current(rq);
}

pub(crate) fn set_next(rq: &mut Rq, task: TaskPtr) {
    rq.start_exec(task);
}

pub(crate) fn pick_next(rq: &mut Rq) -> Option<TaskPtr> {
    if rq.dl.nr_running == 0 {
        return None;
    }
    unthrottle(rq);
    let task = first(&rq.dl.ready)?;
    set_next(rq, task);
    Some(task)
}

/// Replenishes those whose next period has begun; returns when the next one is due.
pub(crate) fn unthrottle(rq: &mut Rq) -> Option<u64> {
    let mut next: Option<u64> = None;
    let mut at = rq.dl.throttled.first();
    while let Some(task) = task_of(at) {
        // SAFETY: `at` is in the tree until removed below.
        at = unsafe { rq.dl.throttled.next(at) };
        let entity = dl(task);
        let due = entity.next_period();
        if before(rq.clock, due) {
            next = Some(next.map_or(due, |n| if before(due, n) { due } else { n }));
            continue;
        }
        remove(&rq.dl.throttled, task);
        entity.throttled.set(false);
        entity.replenish(rq.clock);
        insert(&rq.dl.ready, task);
        if rq.preempted_by(task) {
            rq.resched_current();
        }
    }
    if let Some(next) = next {
        rq.dl_timer(next);
    }
    next
}

pub(crate) fn update_current(rq: &mut Rq) {
    let task = rq.curr;
    let entity = dl(task);
    if !entity.queued.get() || entity.throttled.get() {
        return;
    }
    let delta = rq.account_exec(task);
    entity.runtime.set(entity.runtime.get() - delta.cast_signed());
    if entity.runtime.get() <= 0 {
        throttle(rq, task);
    }
}

pub(crate) fn tick(rq: &mut Rq, _task: TaskPtr) {
    update_current(rq);
}

/// Bandwidth reserved in the whole system.
static RESERVED: AtomicU64 = AtomicU64::new(0);
/// What the fair class keeps for itself on each CPU: 5 %.
const FAIR_SERVER: u64 = (1 << BW_SHIFT) / 20;

/// Reserves `new` instead of `old` on `cpus` CPUs; false if there is not enough. The limit is 95 % of
/// each CPU, less the fair class' own reservation.
pub(crate) fn admit(old: DlParams, new: DlParams, cpus: usize) -> bool {
    let percpu = (1u64 << BW_SHIFT) * 95 / 100 - FAIR_SERVER;
    let limit = percpu * cpus as u64;
    let (old, new) = (old.bandwidth(), new.bandwidth());
    RESERVED
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| {
            let sum = sum.saturating_sub(old) + new;
            (sum <= limit || new <= old).then_some(sum)
        })
        .is_ok()
}

const _: () = assert!(core::mem::offset_of!(DlEntity, node) == 0);
