//! Changing how a task is scheduled: policy, priority, nice value, affinity, group.
//!
//! These are the mechanisms behind `sched_setscheduler(2)`, `sched_setattr(2)`, `setpriority(2)` and
//! `sched_setaffinity(2)`; who may do it is for the caller to check.

use abi::{Errno, Result};
use arch::cpu::{CpuId, CpuMask};
use arch::irq::IrqGuard;

use crate::class::deadline::{self, DlParams};
use crate::class::{Class, Dequeue, Enqueue, Policy, TaskPtr, fair};
use crate::entity::{MAX_RT_PRIORITY, Sched};
use crate::group::{GroupRef, TaskGroup};
use crate::platform::lock_task_rq;
use crate::rq::{Rq, sched_mut, sched_of};
use crate::task::{Task, TaskFlags};

/// Scheduling parameters of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The policy.
    pub policy: Policy,
    /// -20 to 19, for [`Policy::Normal`] and [`Policy::Batch`].
    pub nice: i8,
    /// 1 to 99 for the real-time policies, else 0.
    pub priority: u8,
    /// Children start as ordinary tasks.
    pub reset_on_fork: bool,
    /// The reservation of [`Policy::Deadline`].
    pub deadline: DlParams,
}

impl Attr {
    /// An ordinary task with a nice value.
    pub const fn normal(nice: i8) -> Self {
        Self {
            policy: Policy::Normal,
            nice,
            priority: 0,
            reset_on_fork: false,
            deadline: DlParams { runtime: 0, deadline: 0, period: 0 },
        }
    }

    /// A real-time task.
    pub const fn realtime(policy: Policy, priority: u8) -> Self {
        Self { policy, priority, ..Self::normal(0) }
    }

    fn check(&self) -> Result<()> {
        let valid = match self.policy {
            Policy::Fifo | Policy::RoundRobin => (1..=MAX_RT_PRIORITY).contains(&self.priority),
            Policy::Deadline => self.priority == 0 && self.deadline.is_valid(),
            Policy::Normal | Policy::Batch | Policy::Idle => self.priority == 0,
        };
        if valid { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

impl Task {
    /// The scheduling parameters.
    pub fn sched_attr(&self) -> Attr {
        let _pi = self.pi_lock.lock();
        let sched = sched_of(TaskPtr::from(self));
        Attr {
            policy: sched.policy,
            nice: sched.nice,
            priority: sched.rt_priority,
            reset_on_fork: sched.reset_on_fork,
            deadline: sched.dl.params.get(),
        }
    }

    /// Changes the scheduling parameters.
    ///
    /// # Errors
    /// `EINVAL` for parameters that do not fit the policy, `EBUSY` if there is not enough bandwidth for
    /// the reservation, `EPERM` for a deadline task that may not run on all CPUs.
    pub fn set_sched_attr(&self, attr: Attr) -> Result<()> {
        attr.check()?;
        let chains = crate::pi::lock_chains();
        self.apply(attr)?;
        crate::pi::parameters_changed(&chains, self);
        Ok(())
    }

    fn apply(&self, attr: Attr) -> Result<()> {
        let _pi = self.pi_lock.lock();
        let ptr = TaskPtr::from(self);
        let old = sched_of(ptr);
        let reserved = if old.policy == Policy::Deadline { old.dl.params.get() } else { DlParams::default() };
        let wanted = if attr.policy == Policy::Deadline { attr.deadline } else { DlParams::default() };
        if attr.policy == Policy::Deadline && !arch::cpu::online().is_subset_of(old.affinity) {
            return Err(Errno::EPERM);
        }
        if reserved != wanted && !deadline::admit(reserved, wanted, arch::cpu::online().count()) {
            return Err(Errno::EBUSY);
        }
        let (queue, mut rq) = lock_task_rq(self);
        change(&mut rq, ptr, |sched| {
            sched.policy = attr.policy;
            sched.reset_on_fork = attr.reset_on_fork;
            sched.rt_priority = attr.priority;
            sched.rt.priority.set(attr.priority);
            sched.dl.params.set(wanted);
            sched.dl.borrow(None);
            sched.dl.deadline.set(0);
            sched.dl.throttled.set(false);
            if matches!(attr.policy, Policy::Normal | Policy::Batch) {
                sched.nice = attr.nice.clamp(-20, 19);
            }
            sched.class = attr.policy.class();
            crate::pi::publish_rank(self, sched);
        });
        rq.publish(&queue.hints);
        Ok(())
    }

    /// The nice value.
    pub fn nice(&self) -> i8 {
        self.sched_attr().nice
    }

    /// Changes the nice value (clamped to -20..=19).
    pub fn set_nice(&self, nice: i8) {
        let _pi = self.pi_lock.lock();
        let (queue, mut rq) = lock_task_rq(self);
        change(&mut rq, TaskPtr::from(self), |sched| {
            sched.nice = nice.clamp(-20, 19);
            self.io.publish_default(sched.policy, sched.nice);
        });
        rq.publish(&queue.hints);
    }

    /// The priority of `/proc/PID/stat`, by which it runs at the moment: 20 + nice, or -1 - real-time priority, or -101
    /// for deadline tasks. What it inherits counts.
    pub fn proc_priority(&self) -> i32 {
        let _pi = self.pi_lock.lock();
        let (_queue, _rq) = lock_task_rq(self);
        let sched = sched_of(TaskPtr::from(self));
        match sched.class {
            Class::Deadline => -101,
            Class::Realtime => -1 - i32::from(sched.rt.priority.get()),
            _ => 20 + i32::from(sched.nice),
        }
    }

    /// Where the task stands in queues that are ordered by their waiters' own importance (futexes): 1 deadline, 2 to 101
    /// real-time, 102 all others.
    #[inline]
    pub fn queue_rank(&self) -> u8 {
        self.queue_rank.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// The CPUs it may run on.
    pub fn affinity(&self) -> CpuMask {
        let _pi = self.pi_lock.lock();
        sched_of(TaskPtr::from(self)).affinity
    }

    /// Restricts the task to `cpus`. When the running task calls this for itself, it is on one of them
    /// when the call returns.
    ///
    /// # Errors
    /// `EINVAL` if none of them is there or the kernel forbids it, `EBUSY` for a deadline task that
    /// would lose CPUs.
    pub fn set_affinity(&self, cpus: CpuMask) -> Result<()> {
        if cpus.and(arch::cpu::online()).is_empty() || self.flags().contains(TaskFlags::NO_SETAFFINITY) {
            return Err(Errno::EINVAL);
        }
        {
            let _pi = self.pi_lock.lock();
            let ptr = TaskPtr::from(self);
            if sched_of(ptr).policy == Policy::Deadline && !arch::cpu::online().is_subset_of(cpus) {
                return Err(Errno::EBUSY);
            }
            {
                let (_queue, _rq) = lock_task_rq(self);
                sched_mut(ptr).affinity = cpus;
            }
            crate::platform::task_changed(self);
        }
        crate::cond_resched();
        Ok(())
    }

    /// The time slice of `sched_rr_get_interval(2)`, nanoseconds: 0 for FIFO.
    pub fn rr_interval_ns(&self) -> u64 {
        let _pi = self.pi_lock.lock();
        let (_queue, _rq) = lock_task_rq(self);
        let ptr = TaskPtr::from(self);
        match sched_of(ptr).policy {
            Policy::RoundRobin => {
                crate::class::realtime::RR_SLICE_NS.load(core::sync::atomic::Ordering::Relaxed)
            }
            Policy::Fifo | Policy::Deadline => 0,
            _ => fair::rr_interval(ptr),
        }
    }

    /// Moves the task to a group (`None`: the root). Returns the old one.
    pub fn set_group(&self, group: Option<GroupRef>) -> Option<GroupRef> {
        let _pi = self.pi_lock.lock();
        let (queue, mut rq) = lock_task_rq(self);
        let mut old = None;
        let ptr = TaskPtr::from(self);
        change(&mut rq, ptr, |sched| old = core::mem::replace(&mut sched.group, group));
        rq.publish(&queue.hints);
        old
    }
}

/// Binds a task that does not run yet.
pub(crate) fn bind(task: &Task, cpus: CpuMask) {
    let _pi = task.pi_lock.lock();
    sched_mut(TaskPtr::from(task)).affinity = cpus;
}

/// Changes scheduling parameters: takes the task off its queue and out of the CPU, if it is there, and puts
/// it back under the new ones.
pub(crate) fn change(rq: &mut Rq, task: TaskPtr, f: impl FnOnce(&mut Sched)) {
    rq.clock = rq.clock.max(crate::time::raw_ns());
    // SAFETY: the caller's task is alive.
    let queued = unsafe { task.as_ref() }.on_rq.load(core::sync::atomic::Ordering::Relaxed)
        == crate::task::on_rq::QUEUED;
    let running = rq.curr == task;
    let class = sched_of(task).class;
    if queued {
        class.dequeue(rq, task, Dequeue::Save);
    }
    if running {
        class.put_prev(rq, task);
    }
    f(sched_mut(task));
    fair::update_weight(task, rq.clock);
    rq.adopt_here(task);
    let class = sched_of(task).class;
    if queued {
        class.enqueue(rq, task, Enqueue::Restore);
    }
    if running {
        class.set_next(rq, task);
        rq.resched_current();
    } else if queued && rq.preempted_by(task) {
        rq.resched_current();
    }
}

impl TaskGroup {
    /// A group below `parent` (`None`: the root).
    ///
    /// # Errors
    /// `ENOMEM`.
    #[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
    pub fn new(parent: Option<&GroupRef>) -> Result<GroupRef> {
        let _irqs_off = IrqGuard::new();
        let cpus = arch::cpu::possible().iter().last().map_or(1, |cpu| cpu.index() + 1);
        Self::with_roots(parent, cpus, |cpu: CpuId| match crate::rq::try_of(cpu) {
            Some(queue) => queue.fair_root(),
            // A CPU that never comes up: a queue that nobody looks at.
            None => alloc::boxed::Box::leak(alloc::boxed::Box::new(fair::CfsRq::new())),
        })
    }
}
