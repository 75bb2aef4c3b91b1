//! Who inherits what: importance, and how it travels from waiters to owners. All under `CHAINS`.

use core::ptr;
use core::sync::atomic::Ordering;

use super::{Chains, RtMutex, state};
use crate::class::deadline::DlParams;
use crate::class::{Class, Policy, TaskPtr};
use crate::entity::{MAX_RT_PRIORITY, Sched};
use crate::platform::lock_task_rq;
use crate::rq::sched_of;
use crate::task::Task;

/// The longest chain that is followed; longer ones count as deadlocks.
const MAX_CHAIN: usize = 1024;

/// How important a task is; the least value is the most important one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Importance {
    /// As [`crate::rq::rank`]: 1 deadline, 2..=101 real-time, 102 all others, which are equal here.
    rank: u32,
    /// The absolute deadline, for rank 1; else 0.
    deadline: u64,
}

impl Importance {
    /// That of ordinary tasks.
    pub const LEAST: Self = Self { rank: 102, deadline: 0 };

    /// What a task has by its own parameters; `deadline` is its own, if it has one.
    fn own(sched: &Sched, deadline: u64) -> Self {
        match sched.policy {
            Policy::Deadline => Self { rank: 1, deadline },
            Policy::Fifo | Policy::RoundRobin => {
                let index = crate::class::realtime::index_of(sched.rt_priority);
                Self { rank: 2 + index as u32, deadline: 0 }
            }
            _ => Self::LEAST,
        }
    }
}

/// The importance that the parameters of a task give it.
fn own(task: &Task) -> Importance {
    let _pi = task.pi_lock.lock();
    let (_queue, _rq) = lock_task_rq(task);
    let sched = sched_of(TaskPtr::from(task));
    let inherits = state(task).boost.get().is_some();
    let deadline = if inherits { state(task).own_deadline.get() } else { sched.dl.deadline.get() };
    Importance::own(sched, deadline)
}

/// The importance of a task with all that it inherits.
pub(super) fn importance(_chains: &Chains, task: &Task) -> Importance {
    state(task).boost.get().unwrap_or_else(|| own(task))
}

/// What `task` waits for.
fn blocked_on(task: &Task) -> Option<&RtMutex> {
    // SAFETY: `CHAINS` is held, under which the cell changes; a waiter keeps its mutex alive.
    unsafe { (*state(task).blocked_on.get()).as_deref() }
}

/// Whether the chain from `from` (the owner of what it waits for, and so on) comes to `to`.
pub(super) fn leads_to(_chains: &Chains, from: &Task, to: &Task) -> bool {
    let mut at = from;
    for _ in 0..MAX_CHAIN {
        if ptr::eq(at, to) {
            return true;
        }
        let Some(owner) = blocked_on(at).and_then(RtMutex::holder) else { return false };
        at = owner;
    }
    true
}

/// Gives `task` the importance it should have, and goes on to whom it waits for.
pub(super) fn propagate(_chains: &Chains, task: &Task) {
    let mut task = task;
    for _ in 0..MAX_CHAIN {
        let own = own(task);
        let donor = donor(task).filter(|donor| state(donor).key.get() < own);
        inherit(task, donor);
        let key = donor.map_or(own, |donor| state(donor).key.get());
        let Some(mutex) = blocked_on(task) else { return };
        if key == state(task).key.get() {
            return;
        }
        state(task).key.set(key);
        mutex.requeue(task);
        match mutex.holder() {
            Some(owner) => task = owner,
            None => return,
        }
    }
}

/// The most important task that waits for a mutex of `task`.
fn donor(task: &Task) -> Option<&Task> {
    // SAFETY: mutexes on the list have waiters, which keep them alive; `CHAINS` is held.
    let next = |at: *const RtMutex| unsafe { at.as_ref() };
    let first = next(state(task).owned.get());
    core::iter::successors(first, |mutex| next(mutex.next_owned.get()))
        .filter_map(RtMutex::top)
        .min_by_key(|top| state(top).key.get())
}

/// The reservation by which a waiter of rank 1 runs, its own or inherited.
fn reservation(donor: &Task) -> DlParams {
    let _pi = donor.pi_lock.lock();
    let (_queue, _rq) = lock_task_rq(donor);
    sched_of(TaskPtr::from(donor)).dl.effective()
}

/// Makes a task run with the importance of `donor`, or by its own parameters again.
fn inherit(task: &Task, donor: Option<&Task>) {
    let wanted = donor.map(|donor| state(donor).key.get());
    if wanted == state(task).boost.get() {
        return;
    }
    let params = donor.filter(|_| wanted.is_some_and(|w| w.rank == 1)).map(reservation);
    let pi = state(task);
    let _pi = task.pi_lock.lock();
    let (queue, mut rq) = lock_task_rq(task);
    crate::policy::change(&mut rq, TaskPtr::from(task), |sched| {
        if pi.boost.get().is_none() {
            pi.own_deadline.set(sched.dl.deadline.get());
        }
        match wanted {
            None => {
                sched.class = sched.policy.class();
                sched.rt.priority.set(sched.rt_priority);
                sched.dl.borrow(None);
                sched.dl.deadline.set(pi.own_deadline.get());
            }
            Some(Importance { rank: 1, deadline }) => {
                sched.class = Class::Deadline;
                sched.dl.borrow(params);
                sched.dl.deadline.set(deadline);
            }
            Some(Importance { rank, .. }) => {
                sched.class = Class::Realtime;
                let index = rank.saturating_sub(2).min(98) as u8;
                sched.rt.priority.set(MAX_RT_PRIORITY - index);
                sched.dl.borrow(None);
            }
        }
    });
    pi.boost.set(wanted);
    rq.publish(&queue.hints);
}

/// The task's own parameters were changed, and with them what it runs by: what it inherits comes on top again, and
/// whom it waits for hears of it.
pub(crate) fn parameters_changed(chains: &Chains, task: &Task) {
    state(task).boost.set(None);
    propagate(chains, task);
}

/// What `policy` keeps current for [`Task::queue_rank`] and [`Task::io`].
pub(crate) fn publish_rank(task: &Task, sched: &Sched) {
    let rank = Importance::own(sched, 0).rank.min(u32::from(u8::MAX)) as u8;
    task.queue_rank.store(rank, Ordering::Relaxed);
    task.io.publish_default(sched.policy, sched.nice);
}
