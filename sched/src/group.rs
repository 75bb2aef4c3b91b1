//! Task groups: entities of the fair class that hold other entities.
//!
//! A group has, for every CPU, an entity on its parent's queue of that CPU and a queue of its own.
//! Its *shares* (1024 for a group as heavy as a nice-0 task; control group weights convert with
//! [`shares_of_weight`]) are spread over the CPUs in proportion to the load it has on each. Bandwidth
//! limits will hang off the same per-CPU queues.
//!
//! A group is kept alive by its tasks and children. Its tasks must have left it before it goes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Result;
use arch::cpu::CpuId;

use crate::class::fair::{CfsRq, FairEntity};
use crate::heap::try_arc;
use collections::fallible::{TryVec, try_with_capacity};

/// A counted reference to a group.
pub type GroupRef = Arc<TaskGroup>;

/// The shares of a new group.
pub const DEFAULT_SHARES: u64 = 1024;

#[derive(Debug)]
struct OnCpu {
    entity: FairEntity,
    queue: CfsRq,
}

/// A group of tasks that shares CPU time as if it were one.
#[derive(Debug)]
pub struct TaskGroup {
    shares: AtomicU64,
    /// The sum of the loads of the group's queues.
    pub(crate) load_sum: AtomicU64,
    cpus: Box<[OnCpu]>,
    _parent: Option<GroupRef>,
}

// SAFETY: the per-CPU parts are protected by the run queue lock of their CPU.
unsafe impl Send for TaskGroup {}
// SAFETY: as above.
unsafe impl Sync for TaskGroup {}

impl TaskGroup {
    /// A group below `parent` (`None`: the root). `root` gives the root queue of a CPU.
    pub(crate) fn with_roots(
        parent: Option<&GroupRef>,
        cpus: usize,
        root: impl Fn(CpuId) -> &'static CfsRq,
    ) -> Result<GroupRef> {
        let mut parts = try_with_capacity(cpus)?;
        parts.try_extend((0..cpus).map(|_| OnCpu { entity: FairEntity::new(), queue: CfsRq::new() }))?;
        let group = try_arc(Self {
            shares: AtomicU64::new(DEFAULT_SHARES),
            load_sum: AtomicU64::new(0),
            cpus: parts.into_boxed_slice(),
            _parent: parent.cloned(),
        })?;
        for (cpu, part) in group.cpus.iter().enumerate() {
            let cpu = CpuId(cpu as u32);
            match parent {
                Some(parent) => {
                    let above = &parent.cpus[cpu.index()];
                    part.entity.cfs.set(&above.queue);
                    part.entity.parent.set(&above.entity);
                }
                None => part.entity.cfs.set(root(cpu)),
            }
            part.entity.my_q.set(&part.queue);
            part.queue.group.set(Arc::as_ptr(&group));
        }
        Ok(group)
    }

    pub(crate) fn entity(&self, cpu: CpuId) -> &FairEntity {
        &self.cpus[cpu.index().min(self.cpus.len() - 1)].entity
    }

    pub(crate) fn queue(&self, cpu: CpuId) -> &CfsRq {
        &self.cpus[cpu.index().min(self.cpus.len() - 1)].queue
    }

    /// The group's shares.
    pub fn shares(&self) -> u64 {
        self.shares.load(Ordering::Relaxed)
    }

    /// Changes the shares (2 to 2^18); entities follow at their next tick or queueing.
    pub fn set_shares(&self, shares: u64) {
        self.shares.store(shares.clamp(2, 1 << 18), Ordering::Relaxed);
    }

    /// The weight of the entity on a CPU where the group's queue has `load`.
    pub(crate) fn weight_for(&self, load: u64) -> u64 {
        let total = self.load_sum.load(Ordering::Relaxed).max(load).max(1);
        let shares = self.shares();
        (shares * load / total).clamp(2, shares)
    }
}

/// The shares of a control group weight (`cpu.weight`, 1 to 10000, 100 is the default).
pub const fn shares_of_weight(weight: u64) -> u64 {
    let shares = weight * DEFAULT_SHARES / 100;
    if shares < 2 { 2 } else { shares }
}
