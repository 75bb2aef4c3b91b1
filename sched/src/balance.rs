//! Load balancing: which CPU a task starts or wakes on, and moving waiting tasks between CPUs.
//!
//! - A waking task goes back to its CPU if that is idle, else to an idle CPU of the same NUMA node, else
//!   to any idle CPU, else to its old CPU (fair) or to the CPU that runs the least important task
//!   (deadline, real-time).
//! - A CPU that runs out of tasks pulls from the busiest; a busy one looks every few ticks.
//! - A CPU about to run something less important than a deadline or real-time task that waits
//!   elsewhere pulls that task.
//!
//! Choosing looks at hints without locks. Moving holds the own run queue's lock and only *tries* the
//! other's, so balancing never deadlocks and never waits.

use core::sync::atomic::Ordering;

use arch::cpu::{CpuId, CpuMask};

use crate::class::{Class, Dequeue, Enqueue, TaskPtr};
use crate::rq::{Rq, RunQueue, rank, sched_of};
use crate::task::on_rq;

/// The CPUs that a choice is made among.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    /// CPUs that take part.
    pub online: CpuMask,
    /// Finds the run queue of a CPU.
    pub queue: fn(CpuId) -> Option<&'static RunQueue>,
    /// The NUMA node of a CPU.
    pub node: fn(CpuId) -> u32,
}

/// Nanoseconds between two looks of a busy CPU.
const BUSY_INTERVAL_NS: u64 = 16_000_000;
/// Nanoseconds between two looks of a CPU with one task or none.
const IDLE_INTERVAL_NS: u64 = 4_000_000;
/// The most tasks moved at once.
const MAX_MOVES: usize = 8;

/// Why a CPU is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A task wakes up.
    Wake,
    /// A task is new, or starts a new program.
    Fork,
}

impl Machine {
    fn hints(&self, cpu: CpuId) -> Option<(u32, u64, u32)> {
        let hints = &(self.queue)(cpu)?.hints;
        Some((
            hints.nr_running.load(Ordering::Relaxed),
            hints.load.load(Ordering::Relaxed),
            hints.rank.load(Ordering::Relaxed),
        ))
    }

    fn is_idle(&self, cpu: CpuId) -> bool {
        self.hints(cpu).is_some_and(|(nr, _, _)| nr == 0)
    }

    /// The CPU for `task`, which is queued nowhere and last ran on `prev`. The caller runs on `here`.
    pub fn select(&self, task: TaskPtr, prev: CpuId, here: CpuId, why: Why) -> CpuId {
        let sched = sched_of(task);
        let mut allowed = sched.affinity.and(self.online);
        if allowed.is_empty() {
            // Its CPUs are gone.
            allowed = self.online;
        }
        if allowed.count() == 1 {
            return allowed.first().unwrap_or(prev);
        }
        if matches!(sched.class, Class::Deadline | Class::Realtime) {
            return self.select_urgent(rank(sched), allowed, prev);
        }
        match why {
            Why::Wake => self.select_wake(allowed, prev, here),
            Why::Fork => self.select_least_loaded(allowed, here),
        }
    }

    fn select_wake(&self, allowed: CpuMask, prev: CpuId, here: CpuId) -> CpuId {
        if allowed.contains(prev) && self.is_idle(prev) {
            return prev;
        }
        let near = if allowed.contains(prev) { prev } else { here };
        let node = (self.node)(near);
        let mut far = None;
        for cpu in allowed.iter() {
            if self.is_idle(cpu) {
                if (self.node)(cpu) == node {
                    return cpu;
                }
                far = far.or(Some(cpu));
            }
        }
        if let Some(far) = far {
            return far;
        }
        if allowed.contains(prev) { prev } else { self.select_least_loaded(allowed, here) }
    }

    fn select_least_loaded(&self, allowed: CpuMask, here: CpuId) -> CpuId {
        let mut best = None;
        for cpu in allowed.iter() {
            let Some((nr, load, _)) = self.hints(cpu) else { continue };
            let distance = u32::from((self.node)(cpu) != (self.node)(here)) + u32::from(cpu != here);
            let key = (nr, load, distance);
            if best.is_none_or(|(k, _)| key < k) {
                best = Some((key, cpu));
            }
        }
        best.map_or(here, |(_, cpu)| cpu)
    }

    /// The CPU that runs the least important task, the old one if it is among them.
    fn select_urgent(&self, own: u32, allowed: CpuMask, prev: CpuId) -> CpuId {
        let mut best = None;
        for cpu in allowed.iter() {
            let Some((_, _, running)) = self.hints(cpu) else { continue };
            let key = (running, cpu == prev);
            if best.is_none_or(|(k, _)| key > k) {
                best = Some((key, cpu));
            }
        }
        match best {
            Some(((running, _), cpu)) if running > own || !allowed.contains(prev) => cpu,
            _ if allowed.contains(prev) => prev,
            _ => allowed.first().unwrap_or(prev),
        }
    }

    /// Pulls fair tasks to `this`, which has run out of work (or is about to).
    pub fn pull_idle(&self, this: &mut Rq) -> bool {
        let node = (self.node)(this.cpu);
        let busiest = self
            .online
            .iter()
            .filter(|cpu| *cpu != this.cpu)
            .filter_map(|cpu| self.hints(cpu).map(|(nr, _, _)| (nr, (self.node)(cpu) == node, cpu)))
            .filter(|(nr, _, _)| *nr > 1)
            .max_by_key(|(nr, near, _)| (*near, *nr));
        let Some((_, _, cpu)) = busiest else { return false };
        self.move_tasks(this, cpu, 1, |_, _| true) > 0
    }

    /// Evens out `this` with the busiest CPU. Called by the tick.
    pub fn periodic(&self, this: &mut Rq) -> bool {
        if this.clock < this.next_balance {
            return false;
        }
        let interval = if this.nr_running > 1 { BUSY_INTERVAL_NS } else { IDLE_INTERVAL_NS };
        // CPUs take turns rather than all at the same tick.
        this.next_balance = this.clock + interval + u64::from(this.cpu.0) * 250_000;
        let own_load = this.fair.load.get();
        let busiest = self
            .online
            .iter()
            .filter(|cpu| *cpu != this.cpu)
            .filter_map(|cpu| self.hints(cpu).map(|(nr, load, _)| (load, nr, cpu)))
            .filter(|(load, nr, _)| *nr > 1 && *load > own_load)
            .max_by_key(|(load, nr, _)| (*load, *nr));
        let Some((_, _, cpu)) = busiest else { return false };
        // A move must bring the two closer together.
        self.move_tasks(this, cpu, MAX_MOVES, |(here, there), weight| {
            there.saturating_sub(weight) >= here + weight
                || there > here && (here + weight).abs_diff(there - weight) < there - here
        }) > 0
    }

    /// Moves up to `max` waiting fair tasks from `from` to `this`, as long as `worthwhile((load here,
    /// load there), weight)`.
    fn move_tasks(
        &self,
        this: &mut Rq,
        from: CpuId,
        max: usize,
        worthwhile: impl Fn((u64, u64), u64) -> bool,
    ) -> usize {
        let Some(queue) = (self.queue)(from) else { return 0 };
        let Some(mut other) = queue.lock.try_lock() else { return 0 };
        let mut moved = 0;
        while moved < max && other.nr_running > 1 {
            let loads = (this.fair.load.get(), other.fair.load.get());
            let here = this.cpu;
            let found = crate::class::fair::find_queued(&other, |task| {
                // SAFETY: queued tasks are alive.
                let busy = unsafe { task.as_ref() }.on_cpu.load(Ordering::Relaxed);
                !busy
                    && sched_of(task).affinity.contains(here)
                    && worthwhile(loads, sched_of(task).fair.weight())
            });
            let Some(task) = found else { break };
            move_task(&mut other, this, task);
            moved += 1;
        }
        if moved > 0 {
            other.publish(&queue.hints);
        }
        moved
    }

    /// Pulls a deadline or real-time task that waits on another CPU and is more important than what
    /// `this` would run next.
    pub fn pull_urgent(&self, this: &mut Rq, next_rank: u32) -> bool {
        for cpu in self.online.iter() {
            let Some(queue) = (self.queue)(cpu) else { continue };
            if cpu == this.cpu || queue.hints.rt_waiting.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let Some(mut other) = queue.lock.try_lock() else { continue };
            let found = other.waiting_urgent(this.cpu, next_rank);
            if let Some(task) = found {
                move_task(&mut other, this, task);
                other.publish(&queue.hints);
                return true;
            }
        }
        false
    }
}

/// Moves a queued task that does not run. Both queues are locked.
pub(crate) fn move_task(from: &mut Rq, to: &mut Rq, task: TaskPtr) {
    // SAFETY: queued tasks are alive.
    let task_ref = unsafe { task.as_ref() };
    let class = sched_of(task).class;
    task_ref.on_rq.store(on_rq::MIGRATING, Ordering::Relaxed);
    class.dequeue(from, task, Dequeue::Save);
    to.adopt(task);
    class.enqueue(to, task, Enqueue::Restore);
    task_ref.on_rq.store(on_rq::QUEUED, Ordering::Release);
}
