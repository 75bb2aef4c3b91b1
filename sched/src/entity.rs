//! What the scheduling classes keep for a task.

use arch::cpu::CpuMask;

use crate::class::deadline::DlEntity;
use crate::class::fair::FairEntity;
use crate::class::realtime::RtEntity;
use crate::class::{Class, Policy};
use crate::group::GroupRef;

/// The highest real-time priority of a user.
pub const MAX_RT_PRIORITY: u8 = 99;

/// The scheduler's part of a task, protected by the lock of its run queue (and `pi_lock` for changes
/// of policy, priority, affinity and group).
#[derive(Debug)]
pub(crate) struct Sched {
    /// What the user asked for.
    pub policy: Policy,
    /// Who schedules it; differs from the policy's class only while a priority is inherited.
    pub class: Class,
    /// -20 to 19.
    pub nice: i8,
    /// 1 to 99 for real-time policies, else 0: what the user asked for.
    pub rt_priority: u8,
    /// Children start as ordinary tasks.
    pub reset_on_fork: bool,
    /// Where it may run.
    pub affinity: CpuMask,
    /// When the running period being accounted began, on the run queue's clock.
    pub exec_start: core::cell::Cell<u64>,
    /// The task group; `None`: the root.
    pub group: Option<GroupRef>,
    pub fair: FairEntity,
    pub rt: RtEntity,
    pub dl: DlEntity,
}

impl Default for Sched {
    fn default() -> Self {
        Self {
            policy: Policy::Normal,
            class: Class::Fair,
            nice: 0,
            rt_priority: 0,
            reset_on_fork: false,
            affinity: CpuMask::ALL,
            exec_start: core::cell::Cell::new(0),
            group: None,
            fair: FairEntity::new(),
            rt: RtEntity::new(),
            dl: DlEntity::new(),
        }
    }
}

impl Sched {
    /// An idle task's.
    pub fn idle() -> Self {
        Self { class: Class::Idle, ..Self::default() }
    }
}
