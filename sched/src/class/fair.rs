//! The fair class: completely fair scheduling (CFS).
//!
//! Each entity's *virtual run time* advances with its real run time divided by its weight. Runnable
//! entities are ordered by it in a red-black tree; the leftmost runs. Every runnable entity gets a
//! turn within a *period* (`latency`, stretched when there are many), its slice in proportion to its
//! weight. A woken entity is placed no further back than half a period before the others, so a
//! sleeper gets served soon but cannot save up time; it preempts the running one if it is behind by
//! more than the wake-up granularity.
//!
//! Entities form a tree: a task group is an entity on its parent's queue, with a queue of its own, per
//! CPU (see [`crate::group`]). Tasks are the leaves; a CPU's root queue is in its run queue. Picking
//! descends from the root; accounting climbs from the leaf.
//!
//! Everything in a [`CfsRq`] and its entities is protected by the CPU's run queue lock, except
//! `min_vruntime`, which migration reads from outside. Entities and queues are reached through
//! shared references with cells, as they point at each other.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use collections::rbtree::{RbNode, RbTree};

use super::{Dequeue, Enqueue, Policy, TaskPtr};
use crate::entity::Sched;
use crate::group::TaskGroup;
use crate::rq::Rq;
use crate::task::Task;

/// The weight of nice 0.
pub(crate) const NICE_0_WEIGHT: u64 = 1024;
/// The weight of `SCHED_IDLE`.
pub(crate) const IDLE_WEIGHT: u64 = 3;

/// Weights of nice -20 to 19: each step is 1.25, which moves about 10 % of the CPU.
const WEIGHTS: [u64; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, // -20
    9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277, // -10
    1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, // 0
    110, 87, 70, 56, 45, 36, 29, 23, 18, 15, // 10
];

/// The weight of a nice value.
pub(crate) fn weight_of_nice(nice: i8) -> u64 {
    WEIGHTS[usize::from(nice.clamp(-20, 19).wrapping_add(20).cast_unsigned())]
}

/// In how long every runnable task gets a turn, nanoseconds for one CPU.
static LATENCY_NS: AtomicU64 = AtomicU64::new(6_000_000);
/// The shortest slice when there are many tasks.
static MIN_GRANULARITY_NS: AtomicU64 = AtomicU64::new(750_000);
/// How far behind a woken task must be to preempt.
static WAKEUP_GRANULARITY_NS: AtomicU64 = AtomicU64::new(1_000_000);
/// `LATENCY_NS / MIN_GRANULARITY_NS`.
const NR_LATENCY: u64 = 8;

/// Stretches the tunables by 1 + log2 of the number of CPUs (8 at most), as a machine with more CPUs
/// looks more responsive anyway.
pub(crate) fn scale_tunables(cpus: usize) {
    let factor = 1 + u64::from(cpus.clamp(1, 8).ilog2());
    LATENCY_NS.store(6_000_000 * factor, Ordering::Relaxed);
    MIN_GRANULARITY_NS.store(750_000 * factor, Ordering::Relaxed);
    WAKEUP_GRANULARITY_NS.store(1_000_000 * factor, Ordering::Relaxed);
}

/// A task's, or a group's, place in the class.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct FairEntity {
    /// First: a node is its entity.
    node: RbNode,
    weight: Cell<u64>,
    /// `NICE_0_WEIGHT / weight` with 32 fractional bits.
    scale: Cell<u64>,
    pub(crate) vruntime: Cell<u64>,
    pub(crate) on_rq: Cell<bool>,
    exec_start: Cell<u64>,
    sum_exec: Cell<u64>,
    /// `sum_exec` when it was last picked.
    prev_sum_exec: Cell<u64>,
    /// The group entity above; null at the top.
    pub(crate) parent: Cell<*const FairEntity>,
    /// The queue it is (to be) queued on.
    pub(crate) cfs: Cell<*const CfsRq>,
    /// The queue it owns: a group; null: a task.
    pub(crate) my_q: Cell<*const CfsRq>,
}

impl FairEntity {
    pub(crate) const fn new() -> Self {
        Self {
            node: RbNode::new(),
            weight: Cell::new(NICE_0_WEIGHT),
            scale: Cell::new(1 << 32),
            vruntime: Cell::new(0),
            on_rq: Cell::new(false),
            exec_start: Cell::new(0),
            sum_exec: Cell::new(0),
            prev_sum_exec: Cell::new(0),
            parent: Cell::new(ptr::null()),
            cfs: Cell::new(ptr::null()),
            my_q: Cell::new(ptr::null()),
        }
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight.get()
    }

    fn set_weight(&self, weight: u64) {
        let weight = weight.max(2);
        self.weight.set(weight);
        self.scale.set((NICE_0_WEIGHT << 32) / weight);
    }

    /// Real time as virtual time.
    #[inline]
    fn to_virtual(&self, ns: u64) -> u64 {
        if self.weight.get() == NICE_0_WEIGHT {
            ns
        } else {
            ((u128::from(ns) * u128::from(self.scale.get())) >> 32) as u64
        }
    }

    #[inline]
    fn queue<'a>(&self) -> &'a CfsRq {
        // SAFETY: set before an entity is queued; queues outlive the entities on them (a group is
        // kept by its tasks, a root queue is for ever).
        unsafe { &*self.cfs.get() }
    }

    #[inline]
    fn up<'a>(&self) -> Option<&'a FairEntity> {
        // SAFETY: a group's entities live as long as the group, which its tasks keep.
        unsafe { self.parent.get().as_ref() }
    }

    #[inline]
    fn own_queue<'a>(&self) -> Option<&'a CfsRq> {
        // SAFETY: as for `up`.
        unsafe { self.my_q.get().as_ref() }
    }

    fn task(&self) -> Option<TaskPtr> {
        let offset = core::mem::offset_of!(Task, sched) + core::mem::offset_of!(Sched, fair);
        if !self.my_q.get().is_null() {
            return None;
        }
        TaskPtr::new(ptr::from_ref(self).wrapping_byte_sub(offset).cast::<Task>().cast_mut())
    }
}

/// One queue of entities: a CPU's root, or a group's on a CPU.
#[derive(Debug)]
pub(crate) struct CfsRq {
    tree: RbTree,
    /// Sum of the weights of the entities queued here.
    pub(crate) load: Cell<u64>,
    pub(crate) nr_running: Cell<u32>,
    /// Tasks queued here and below.
    pub(crate) h_nr_running: Cell<u32>,
    pub(crate) min_vruntime: AtomicU64,
    /// The entity that runs; it is not in the tree.
    curr: Cell<*const FairEntity>,
    /// The entity that yielded.
    skip: Cell<*const FairEntity>,
    /// Whose queue it is; null: a root.
    pub(crate) group: Cell<*const TaskGroup>,
    /// What the group's load sum counts for this queue.
    contribution: Cell<u64>,
}

impl CfsRq {
    pub(crate) const fn new() -> Self {
        Self {
            tree: RbTree::new(),
            load: Cell::new(0),
            nr_running: Cell::new(0),
            h_nr_running: Cell::new(0),
            min_vruntime: AtomicU64::new(0),
            curr: Cell::new(ptr::null()),
            skip: Cell::new(ptr::null()),
            group: Cell::new(ptr::null()),
            contribution: Cell::new(0),
        }
    }

    fn current<'a>(&self) -> Option<&'a FairEntity> {
        // SAFETY: the running entity is alive.
        unsafe { self.curr.get().as_ref() }
    }

    fn leftmost<'a>(&self) -> Option<&'a FairEntity> {
        // SAFETY: nodes are the first fields of queued, so living, entities.
        unsafe { self.tree.first().cast::<FairEntity>().as_ref() }
    }

    fn min_vruntime(&self) -> u64 {
        self.min_vruntime.load(Ordering::Relaxed)
    }

    fn insert(&self, entity: &FairEntity) {
        // SAFETY: the entity is alive until it is removed, and in no tree.
        unsafe {
            self.tree.insert(&entity.node, |a, b| {
                before((*a.cast::<FairEntity>()).vruntime.get(), (*b.cast::<FairEntity>()).vruntime.get())
            });
        }
    }

    fn remove(&self, entity: &FairEntity) {
        // SAFETY: callers know that it is in this tree.
        unsafe { self.tree.remove(&entity.node) };
    }

    fn is_current(&self, entity: &FairEntity) -> bool {
        ptr::eq(self.curr.get(), entity)
    }

    fn update_min_vruntime(&self) {
        let running = self.current().filter(|c| c.on_rq.get()).map(|c| c.vruntime.get());
        let first = self.leftmost().map(|f| f.vruntime.get());
        let least = match (running, first) {
            (Some(a), Some(b)) => {
                if before(a, b) {
                    a
                } else {
                    b
                }
            }
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return,
        };
        let min = self.min_vruntime();
        if before(min, least) {
            self.min_vruntime.store(least, Ordering::Relaxed);
        }
    }

    /// Accounts the running entity up to `now`.
    fn update_current(&self, now: u64) {
        let Some(curr) = self.current() else { return };
        let delta = now.wrapping_sub(curr.exec_start.get());
        if delta.cast_signed() <= 0 {
            return;
        }
        curr.exec_start.set(now);
        curr.sum_exec.set(curr.sum_exec.get() + delta);
        curr.vruntime.set(curr.vruntime.get().wrapping_add(curr.to_virtual(delta)));
        self.update_min_vruntime();
        if let Some(task) = curr.task() {
            // SAFETY: the running task is alive.
            unsafe { task.as_ref() }.times.sum_exec.fetch_add(delta, Ordering::Relaxed);
        }
    }

    /// The real time that `entity` should run per period on this CPU.
    fn slice(&self, entity: &FairEntity) -> u64 {
        let extra = u64::from(!entity.on_rq.get());
        let nr = u64::from(self.nr_running.get()) + extra;
        let min = MIN_GRANULARITY_NS.load(Ordering::Relaxed);
        let mut slice = if nr > NR_LATENCY { nr * min } else { LATENCY_NS.load(Ordering::Relaxed) };
        let mut at = Some(entity);
        while let Some(entity) = at {
            let queue = entity.queue();
            let mut load = queue.load.get();
            if !entity.on_rq.get() {
                load += entity.weight.get();
            }
            slice = (u128::from(slice) * u128::from(entity.weight.get()) / u128::from(load.max(1))) as u64;
            at = entity.up();
        }
        slice
    }

    /// Where a new or woken entity starts.
    fn place(&self, entity: &FairEntity, why: Enqueue) {
        let mut vruntime = self.min_vruntime();
        match why {
            // A new task starts behind those that were promised their turn.
            Enqueue::New => vruntime = vruntime.wrapping_add(entity.to_virtual(self.slice(entity))),
            // A sleeper gets credit for half a period at most.
            _ => vruntime = vruntime.wrapping_sub(LATENCY_NS.load(Ordering::Relaxed) / 2),
        }
        if before(entity.vruntime.get(), vruntime) {
            entity.vruntime.set(vruntime);
        }
    }

    fn enqueue(&self, entity: &FairEntity, why: Enqueue, now: u64) {
        self.update_current(now);
        if why != Enqueue::Restore {
            self.place(entity, why);
        }
        if !self.is_current(entity) {
            self.insert(entity);
        }
        entity.on_rq.set(true);
        self.load.set(self.load.get() + entity.weight.get());
        self.nr_running.set(self.nr_running.get() + 1);
        self.update_group();
    }

    fn dequeue(&self, entity: &FairEntity, now: u64) {
        self.update_current(now);
        if ptr::eq(self.skip.get(), entity) {
            self.skip.set(ptr::null());
        }
        if !self.is_current(entity) {
            self.remove(entity);
        }
        entity.on_rq.set(false);
        self.load.set(self.load.get() - entity.weight.get());
        self.nr_running.set(self.nr_running.get() - 1);
        self.update_min_vruntime();
        self.update_group();
    }

    /// Tells the group how much load it has here.
    fn update_group(&self) {
        // SAFETY: a group outlives its queues.
        if let Some(group) = unsafe { self.group.get().as_ref() } {
            let (old, new) = (self.contribution.replace(self.load.get()), self.load.get());
            group.load_sum.fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
        }
    }

    fn reweight(&self, entity: &FairEntity, weight: u64, now: u64) {
        if weight == entity.weight.get() {
            return;
        }
        if entity.on_rq.get() {
            if self.is_current(entity) {
                self.update_current(now);
            }
            self.load.set(self.load.get() - entity.weight.get());
        }
        entity.set_weight(weight);
        if entity.on_rq.get() {
            self.load.set(self.load.get() + entity.weight.get());
            self.update_group();
        }
    }

    /// The entity to run next.
    fn pick<'a>(&self) -> Option<&'a FairEntity> {
        let left = self.leftmost()?;
        if !ptr::eq(self.skip.get(), left) {
            return Some(left);
        }
        // SAFETY: the leftmost is in the tree, and nodes are entities.
        let second = unsafe { self.tree.next(&left.node).cast::<FairEntity>().as_ref() };
        Some(second.filter(|second| !is_behind(second, left)).unwrap_or(left))
    }

    fn set_next(&self, entity: &FairEntity, now: u64) {
        if entity.on_rq.get() {
            self.remove(entity);
        }
        self.curr.set(entity);
        entity.exec_start.set(now);
        entity.prev_sum_exec.set(entity.sum_exec.get());
    }

    fn put_prev(&self, entity: &FairEntity, now: u64) {
        if entity.on_rq.get() {
            self.update_current(now);
            self.insert(entity);
        }
        self.curr.set(ptr::null());
    }

    /// Whether the running entity has had its slice, or somebody is too far behind it.
    fn slice_is_over(&self, curr: &FairEntity) -> bool {
        let ideal = self.slice(curr);
        let ran = curr.sum_exec.get() - curr.prev_sum_exec.get();
        if ran > ideal {
            return true;
        }
        if ran < MIN_GRANULARITY_NS.load(Ordering::Relaxed) {
            return false;
        }
        let Some(left) = self.leftmost() else { return false };
        let ahead = curr.vruntime.get().wrapping_sub(left.vruntime.get()).cast_signed();
        ahead > 0 && ahead.cast_unsigned() > ideal
    }
}

/// Whether `a` is before `b` in virtual time, which wraps.
#[inline]
fn before(a: u64, b: u64) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

/// Whether `candidate` is so far behind `running` in virtual time that it should preempt it.
fn is_behind(running: &FairEntity, candidate: &FairEntity) -> bool {
    let ahead = running.vruntime.get().wrapping_sub(candidate.vruntime.get()).cast_signed();
    ahead > candidate.to_virtual(WAKEUP_GRANULARITY_NS.load(Ordering::Relaxed)).cast_signed()
}

fn fair<'a>(task: TaskPtr) -> &'a FairEntity {
    // SAFETY: the run queue's lock is held and the task is alive; the entity's fields are cells.
    unsafe { &(*task.as_ref().sched.get()).fair }
}

fn policy(task: TaskPtr) -> Policy {
    // SAFETY: as for `fair`.
    unsafe { (*task.as_ref().sched.get()).policy }
}

/// Adjusts a group entity's weight to its share of the group's load.
fn update_group_weight(entity: &FairEntity, now: u64) {
    let Some(own) = entity.own_queue() else { return };
    // SAFETY: a group outlives its queues.
    let Some(group) = (unsafe { own.group.get().as_ref() }) else { return };
    let load = own.load.get();
    if load == 0 {
        return;
    }
    entity.queue().reweight(entity, group.weight_for(load), now);
}

pub(crate) fn enqueue(rq: &mut Rq, task: TaskPtr, why: Enqueue) {
    let now = rq.clock;
    let mut why = why;
    let mut at = Some(fair(task));
    let mut queued = false;
    while let Some(entity) = at {
        let queue = entity.queue();
        if !queued {
            queued = entity.on_rq.get();
        }
        if !queued {
            queue.enqueue(entity, why, now);
            why = Enqueue::Wakeup;
        }
        queue.h_nr_running.set(queue.h_nr_running.get() + 1);
        at = entity.up();
        if let Some(above) = at {
            update_group_weight(above, now);
        }
    }
    rq.nr_running += 1;
}

pub(crate) fn dequeue(rq: &mut Rq, task: TaskPtr, _why: Dequeue) {
    let now = rq.clock;
    let mut at = Some(fair(task));
    let mut stays = false;
    while let Some(entity) = at {
        let queue = entity.queue();
        if !stays {
            queue.dequeue(entity, now);
            // A queue that still has entities stays on the queue above.
            stays = queue.nr_running.get() > 0;
        }
        queue.h_nr_running.set(queue.h_nr_running.get() - 1);
        at = entity.up();
        if let Some(above) = at {
            update_group_weight(above, now);
        }
    }
    rq.nr_running -= 1;
}

pub(crate) fn yield_current(rq: &mut Rq) {
    update_current(rq);
    let mut at = Some(fair(rq.curr));
    while let Some(entity) = at {
        entity.queue().skip.set(entity);
        at = entity.up();
    }
}

pub(crate) fn preempts(rq: &mut Rq, woken: TaskPtr) -> bool {
    let curr = rq.curr;
    if policy(curr) == Policy::Idle && policy(woken) != Policy::Idle {
        return true;
    }
    if policy(woken) != Policy::Normal {
        return false;
    }
    // Compare the ancestors that share a queue.
    let (mut a, mut b) = (fair(curr), fair(woken));
    let (mut depth_a, mut depth_b) = (depth(a), depth(b));
    while !ptr::eq(a.cfs.get(), b.cfs.get()) {
        let (up_a, up_b) = (depth_a >= depth_b, depth_b >= depth_a);
        if up_a {
            let Some(up) = a.up() else { return false };
            a = up;
            depth_a -= 1;
        }
        if up_b {
            let Some(up) = b.up() else { return false };
            b = up;
            depth_b -= 1;
        }
    }
    a.queue().update_current(rq.clock);
    is_behind(a, b)
}

fn depth(entity: &FairEntity) -> usize {
    let mut depth = 0;
    let mut at = entity.up();
    while let Some(entity) = at {
        depth += 1;
        at = entity.up();
    }
    depth
}

pub(crate) fn put_prev(rq: &mut Rq, task: TaskPtr) {
    let mut at = Some(fair(task));
    while let Some(entity) = at {
        entity.queue().put_prev(entity, rq.clock);
        at = entity.up();
    }
}

pub(crate) fn set_next(rq: &mut Rq, task: TaskPtr) {
    let mut at = Some(fair(task));
    while let Some(entity) = at {
        entity.queue().set_next(entity, rq.clock);
        at = entity.up();
    }
}

pub(crate) fn pick_next(rq: &mut Rq) -> Option<TaskPtr> {
    let mut queue: &CfsRq = rq.fair;
    loop {
        let entity = queue.pick()?;
        queue.set_next(entity, rq.clock);
        queue.skip.set(ptr::null());
        match entity.own_queue() {
            Some(below) => queue = below,
            None => return entity.task(),
        }
    }
}

pub(crate) fn update_current(rq: &mut Rq) {
    let mut at = Some(fair(rq.curr));
    while let Some(entity) = at {
        entity.queue().update_current(rq.clock);
        at = entity.up();
    }
}

pub(crate) fn tick(rq: &mut Rq, task: TaskPtr) {
    let mut over = false;
    let mut at = Some(fair(task));
    while let Some(entity) = at {
        let queue = entity.queue();
        queue.update_current(rq.clock);
        update_group_weight(entity, rq.clock);
        over |= queue.nr_running.get() > 1 && queue.slice_is_over(entity);
        at = entity.up();
    }
    if over {
        rq.resched_current();
    }
}

/// `task` moves to another queue (CPU or group): keeps its lead or lag relative to the others.
pub(crate) fn attach(task: TaskPtr, parent: *const FairEntity, to: &CfsRq) {
    let entity = fair(task);
    if ptr::eq(entity.cfs.get(), to) {
        return;
    }
    // SAFETY: null before the first time, else a living queue (see `queue`).
    let base = unsafe { entity.cfs.get().as_ref() }.map_or(0, CfsRq::min_vruntime);
    let lead = entity.vruntime.get().wrapping_sub(base);
    entity.vruntime.set(lead.wrapping_add(to.min_vruntime()));
    entity.cfs.set(to);
    entity.parent.set(parent);
}

/// A new task starts where its parent is.
pub(crate) fn fork(child: TaskPtr, parent: TaskPtr) {
    fair(child).vruntime.set(fair(parent).vruntime.get());
    fair(child).cfs.set(fair(parent).cfs.get());
    fair(child).parent.set(fair(parent).parent.get());
}

/// The weight follows from policy and nice value.
pub(crate) fn update_weight(task: TaskPtr, now: u64) {
    // SAFETY: as for `fair`.
    let sched = unsafe { &*task.as_ref().sched.get() };
    let weight = if sched.policy == Policy::Idle { IDLE_WEIGHT } else { weight_of_nice(sched.nice) };
    // SAFETY: null before the first enqueue, else a living queue.
    match unsafe { sched.fair.cfs.get().as_ref() } {
        Some(queue) => queue.reweight(&sched.fair, weight, now),
        None => sched.fair.set_weight(weight),
    }
}

/// The fair share of a period, for `sched_rr_get_interval(2)`.
pub(crate) fn rr_interval(task: TaskPtr) -> u64 {
    let entity = fair(task);
    if entity.cfs.get().is_null() { 0 } else { entity.queue().slice(entity) }
}

/// The task with the least virtual run time that is queued but not running, among the first few of
/// the root queue's tasks that `wanted` accepts. For the load balancer.
pub(crate) fn find_queued(rq: &Rq, mut wanted: impl FnMut(TaskPtr) -> bool) -> Option<TaskPtr> {
    find_in(rq.fair, &mut wanted, &mut 32)
}

fn find_in(queue: &CfsRq, wanted: &mut impl FnMut(TaskPtr) -> bool, budget: &mut u32) -> Option<TaskPtr> {
    let mut at = queue.tree.first();
    // SAFETY: nodes of the tree are living entities.
    while let Some(entity) = unsafe { at.cast::<FairEntity>().as_ref() } {
        *budget = budget.checked_sub(1)?;
        let found = match entity.own_queue() {
            Some(below) => find_in(below, wanted, budget),
            None => entity.task().filter(|task| wanted(*task)),
        };
        if found.is_some() {
            return found;
        }
        // SAFETY: `at` is in the tree.
        at = unsafe { queue.tree.next(at) };
    }
    // The group that runs is not in the tree, but its other tasks can be had.
    let below = queue.current().filter(|c| c.on_rq.get())?.own_queue()?;
    find_in(below, wanted, budget)
}

const _: () = assert!(core::mem::offset_of!(FairEntity, node) == 0);
