//! The real-time class: `SCHED_FIFO` and `SCHED_RR`, fixed priorities 1 to 99.
//!
//! A bitmap of non-empty priorities and one list per priority. A FIFO task runs until it sleeps,
//! yields or a higher priority wakes; a round-robin task goes to the end of its list when its slice is
//! used up. If real-time tasks use more than [`RUNTIME_NS`] of a [`PERIOD_NS`] while fair tasks wait,
//! the class pauses until the period ends, so that a runaway task leaves an administrator 5 %
//! (`/proc/sys/kernel/sched_rt_runtime_us`).

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use super::{Dequeue, Enqueue, Policy, TaskPtr};
use crate::rq::Rq;
use crate::task::Task;
use crate::time::TICK_NS;

/// Priorities; index 0 is the highest, real-time priority 99 (100 is for the kernel).
pub(crate) const PRIORITIES: usize = 100;
/// `sched_rt_period_us`, in nanoseconds.
pub static PERIOD_NS: AtomicU64 = AtomicU64::new(1_000_000_000);
/// `sched_rt_runtime_us`, in nanoseconds; -1: no limit.
pub static RUNTIME_NS: AtomicI64 = AtomicI64::new(950_000_000);
/// `sched_rr_timeslice_ms`, in nanoseconds.
pub static RR_SLICE_NS: AtomicU64 = AtomicU64::new(DEFAULT_RR_SLICE_NS);
/// Its default.
pub const DEFAULT_RR_SLICE_NS: u64 = 100_000_000;

/// A task's place in the class.
#[derive(Debug)]
pub(crate) struct RtEntity {
    prev: Cell<*const Task>,
    next: Cell<*const Task>,
    /// Ticks left of the round-robin slice.
    slice: Cell<u64>,
    /// The list it is in; its effective priority while queued.
    index: Cell<usize>,
    pub(crate) queued: Cell<bool>,
    /// Ticks that it ran for since it last slept; read by the task itself.
    run_ticks: AtomicU32,
    /// Effective priority, 1 to 99; above `Sched::rt_priority` while inherited.
    pub(crate) priority: Cell<u8>,
}

impl RtEntity {
    pub(crate) const fn new() -> Self {
        Self {
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            slice: Cell::new(0),
            index: Cell::new(0),
            queued: Cell::new(false),
            run_ticks: AtomicU32::new(0),
            priority: Cell::new(0),
        }
    }
}

#[derive(Clone, Copy)]
struct List {
    head: *const Task,
    tail: *const Task,
}

/// The class' part of a run queue.
pub(crate) struct RtRq {
    bitmap: u128,
    lists: [List; PRIORITIES],
    pub(crate) nr_running: u32,
    period_start: u64,
    used: u64,
    throttled: bool,
}

impl RtRq {
    pub(crate) const fn new() -> Self {
        Self {
            bitmap: 0,
            lists: [List { head: ptr::null(), tail: ptr::null() }; PRIORITIES],
            nr_running: 0,
            period_start: 0,
            used: 0,
            throttled: false,
        }
    }

    /// The highest queued priority, as an index; [`PRIORITIES`] if there is none.
    pub(crate) fn highest(&self) -> usize {
        (self.bitmap.trailing_zeros() as usize).min(PRIORITIES)
    }

    /// Queued tasks, the most important first.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskPtr> {
        let heads = self.lists.iter().filter_map(|list| TaskPtr::new(list.head.cast_mut()));
        heads.flat_map(|head| {
            core::iter::successors(Some(head), |task| TaskPtr::new(rt(*task).next.get().cast_mut()))
        })
    }

    fn push(&mut self, task: TaskPtr, at_head: bool) {
        let entity = rt(task);
        let index = entity.index.get();
        let list = &mut self.lists[index];
        let at: *const Task = task.as_ptr();
        if at_head {
            entity.prev.set(ptr::null());
            entity.next.set(list.head);
            match TaskPtr::new(list.head.cast_mut()) {
                Some(head) => rt(head).prev.set(at),
                None => list.tail = at,
            }
            list.head = at;
        } else {
            entity.next.set(ptr::null());
            entity.prev.set(list.tail);
            match TaskPtr::new(list.tail.cast_mut()) {
                Some(tail) => rt(tail).next.set(at),
                None => list.head = at,
            }
            list.tail = at;
        }
        self.bitmap |= 1 << index;
    }

    fn unlink(&mut self, task: TaskPtr) {
        let entity = rt(task);
        let index = entity.index.get();
        let list = &mut self.lists[index];
        let (prev, next) = (entity.prev.get(), entity.next.get());
        match TaskPtr::new(prev.cast_mut()) {
            Some(prev) => rt(prev).next.set(next),
            None => list.head = next,
        }
        match TaskPtr::new(next.cast_mut()) {
            Some(next) => rt(next).prev.set(prev),
            None => list.tail = prev,
        }
        if list.head.is_null() {
            self.bitmap &= !(1 << index);
        }
    }
}

fn rt<'a>(task: TaskPtr) -> &'a RtEntity {
    // SAFETY: the run queue's lock is held (all functions of a class run under it) and the task is
    // alive; the entity's fields are cells.
    unsafe { &(*task.as_ref().sched.get()).rt }
}

fn policy(task: TaskPtr) -> Policy {
    // SAFETY: as for `rt`.
    unsafe { (*task.as_ref().sched.get()).policy }
}

fn slice_ticks() -> u64 {
    (RR_SLICE_NS.load(Ordering::Relaxed) / TICK_NS).max(1)
}

/// The list of an effective priority.
pub(crate) fn index_of(priority: u8) -> usize {
    PRIORITIES - 1 - usize::from(priority.min(crate::entity::MAX_RT_PRIORITY))
}

pub(crate) fn enqueue(rq: &mut Rq, task: TaskPtr, why: Enqueue) {
    let entity = rt(task);
    if why == Enqueue::Wakeup {
        entity.run_ticks.store(0, Ordering::Relaxed);
    }
    entity.index.set(index_of(entity.priority.get()));
    if entity.slice.get() == 0 {
        entity.slice.set(slice_ticks());
    }
    entity.queued.set(true);
    rq.rt.push(task, false);
    rq.rt.nr_running += 1;
    rq.nr_running += 1;
}

pub(crate) fn dequeue(rq: &mut Rq, task: TaskPtr, _why: Dequeue) {
    update_current(rq);
    rt(task).queued.set(false);
    rq.rt.unlink(task);
    rq.rt.nr_running -= 1;
    rq.nr_running -= 1;
}

pub(crate) fn yield_current(rq: &mut Rq) {
    let task = rq.curr;
    rq.rt.unlink(task);
    rq.rt.push(task, false);
}

pub(crate) fn preempts(rq: &mut Rq, woken: TaskPtr) -> bool {
    rt(woken).index.get() < rt(rq.curr).index.get()
}

pub(crate) fn put_prev(rq: &mut Rq, _task: TaskPtr) {
    update_current(rq);
}

pub(crate) fn set_next(rq: &mut Rq, task: TaskPtr) {
    rq.start_exec(task);
}

pub(crate) fn pick_next(rq: &mut Rq) -> Option<TaskPtr> {
    let task = TaskPtr::new(rq.rt.lists.get(rq.rt.highest())?.head.cast_mut())?;
    refresh(rq);
    if rq.rt.throttled && rq.fair.h_nr_running.get() > 0 {
        return None;
    }
    set_next(rq, task);
    Some(task)
}

/// Starts a new throttling period if the old one is over.
fn refresh(rq: &mut Rq) {
    let period = PERIOD_NS.load(Ordering::Relaxed);
    if rq.clock.wrapping_sub(rq.rt.period_start) >= period {
        rq.rt.period_start = rq.clock;
        rq.rt.used = 0;
        rq.rt.throttled = false;
    }
}

pub(crate) fn update_current(rq: &mut Rq) {
    let task = rq.curr;
    if !rt(task).queued.get() {
        return;
    }
    let delta = rq.account_exec(task);
    refresh(rq);
    rq.rt.used += delta;
    let limit = RUNTIME_NS.load(Ordering::Relaxed);
    if limit >= 0 && rq.rt.used > limit.cast_unsigned() && !rq.rt.throttled {
        rq.rt.throttled = true;
        if rq.fair.h_nr_running.get() > 0 {
            rq.resched_current();
        }
    }
}

/// A tick while something else runs: the class may be allowed to run again.
pub(crate) fn tick_others(rq: &mut Rq) {
    if rq.rt.throttled {
        refresh(rq);
        if !rq.rt.throttled && rq.rt.nr_running > 0 {
            rq.resched_current();
        }
    }
}

pub(crate) fn tick(rq: &mut Rq, task: TaskPtr) {
    update_current(rq);
    let ticks = &rt(task).run_ticks;
    ticks.store(ticks.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
    if policy(task) != Policy::RoundRobin {
        return;
    }
    let entity = rt(task);
    entity.slice.set(entity.slice.get().saturating_sub(1));
    if entity.slice.get() > 0 {
        return;
    }
    entity.slice.set(slice_ticks());
    let list = &rq.rt.lists[entity.index.get()];
    if list.head != list.tail {
        yield_current(rq);
        rq.resched_current();
    }
}

impl crate::Current {
    /// Nanoseconds, to a tick, that the running task has run in this class since it last slept; 0 in other classes.
    pub fn realtime_run_ns(&self) -> u64 {
        let _stay = arch::irq::IrqGuard::new();
        let ptr = TaskPtr::from(&**self);
        let (_queue, _rq) = crate::platform::lock_task_rq(self);
        if crate::rq::sched_of(ptr).class != super::Class::Realtime {
            return 0;
        }
        u64::from(rt(ptr).run_ticks.load(Ordering::Relaxed)) * TICK_NS
    }
}
