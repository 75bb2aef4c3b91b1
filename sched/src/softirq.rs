//! Deferred work of interrupts, per CPU: expired coarse timers, RCU callbacks, small functions.
//!
//! Each CPU has a thread `ksoftirqd/N` bound to it (as on Linux with threaded softirqs): what runs there
//! is preemptible and may take any spin lock. The tick wakes it when something is due.

use core::sync::atomic::{AtomicU64, Ordering};

use arch::cpu::{CpuId, MAX_CPUS};

#[cfg(target_os = "none")]
mod threads;
#[cfg(target_os = "none")]
pub(crate) use threads::{run_on, start_threads, wake, wake_if_needed};

/// A kind of deferred work, as `/proc/softirqs` has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum Kind {
    High,
    Timer,
    NetTx,
    NetRx,
    Block,
    IrqPoll,
    Tasklet,
    Sched,
    HrTimer,
    Rcu,
}

impl Kind {
    /// All, with their names, in Linux's order.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::High, "HI"),
        (Self::Timer, "TIMER"),
        (Self::NetTx, "NET_TX"),
        (Self::NetRx, "NET_RX"),
        (Self::Block, "BLOCK"),
        (Self::IrqPoll, "IRQ_POLL"),
        (Self::Tasklet, "TASKLET"),
        (Self::Sched, "SCHED"),
        (Self::HrTimer, "HRTIMER"),
        (Self::Rcu, "RCU"),
    ];
}

static COUNTS: [[AtomicU64; Kind::ALL.len()]; MAX_CPUS] =
    [const { [const { AtomicU64::new(0) }; Kind::ALL.len()] }; MAX_CPUS];

/// Counts work of a kind on `cpu`, for those who do such work elsewhere.
pub fn count(cpu: CpuId, kind: Kind) {
    COUNTS[cpu.index()][kind as usize].fetch_add(1, Ordering::Relaxed);
}

/// How often work of a kind was done on `cpu`.
pub fn done(cpu: CpuId, kind: Kind) -> u64 {
    COUNTS[cpu.index()][kind as usize].load(Ordering::Relaxed)
}
