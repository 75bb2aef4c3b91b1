//! Deferred work of interrupts, per CPU: expired coarse timers, RCU callbacks, small functions.
//!
//! Each CPU has a thread `ksoftirqd/N` bound to it (as on Linux with threaded softirqs): what runs there
//! is preemptible and may take any spin lock. The tick wakes it when something is due.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::cpu::{CpuId, CpuMask, MAX_CPUS};
use arch::sync::SpinLockIrq;
use sync::Once;

use crate::state::State;
use crate::task::{Task, TaskFlags, current};

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

type Function = Box<dyn FnOnce() + Send>;

struct PerCpu {
    functions: SpinLockIrq<Vec<Function>>,
    /// Somebody asked for a run.
    asked: AtomicBool,
    thread: Once<Arc<Task>>,
    /// How often work of each kind was done.
    counts: [AtomicU64; Kind::ALL.len()],
}

static CPUS: [PerCpu; MAX_CPUS] = [const {
    PerCpu {
        functions: SpinLockIrq::new(Vec::new()),
        asked: AtomicBool::new(false),
        thread: Once::new(),
        counts: [const { AtomicU64::new(0) }; Kind::ALL.len()],
    }
}; MAX_CPUS];

/// Counts work of a kind on `cpu`, for those who do such work elsewhere.
pub fn count(cpu: CpuId, kind: Kind) {
    CPUS[cpu.index()].counts[kind as usize].fetch_add(1, Ordering::Relaxed);
}

/// How often work of a kind was done on `cpu`.
pub fn done(cpu: CpuId, kind: Kind) -> u64 {
    CPUS[cpu.index()].counts[kind as usize].load(Ordering::Relaxed)
}

/// Makes the threads of the CPUs that are up. Task context.
#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "only while the system comes up")]
pub(crate) fn start_threads() -> abi::Result<()> {
    for cpu in arch::cpu::online().iter() {
        if CPUS[cpu.index()].thread.is_completed() {
            continue;
        }
        let name = alloc::format!("ksoftirqd/{cpu}");
        let task = crate::kthread::create(&name, Box::new(move || run(cpu)))?;
        task.set_flags(TaskFlags::NO_SETAFFINITY);
        crate::policy::bind(&task, CpuMask::of(cpu));
        let _ = CPUS[cpu.index()].thread.set(task.clone());
        crate::wake_up_new(&task);
    }
    Ok(())
}

/// Makes the thread of `cpu` run soon.
pub(crate) fn wake(cpu: CpuId) {
    let this = &CPUS[cpu.index()];
    this.asked.store(true, Ordering::SeqCst);
    if let Some(task) = this.thread.get() {
        crate::wake_up(task);
    }
}

/// Wakes the thread of `cpu` if there is something to do; whether there was.
pub(crate) fn wake_if_needed(cpu: CpuId) -> bool {
    let due = crate::timer::has_expired(cpu) || crate::rcu::has_work(cpu);
    if due && CPUS[cpu.index()].thread.is_completed() {
        wake(cpu);
        return true;
    }
    false
}

/// Runs `f` in the thread of `cpu`.
#[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
pub(crate) fn run_on(cpu: CpuId, f: Function) {
    CPUS[cpu.index()].functions.lock().push(f);
    wake(cpu);
}

fn run(cpu: CpuId) {
    let this = &CPUS[cpu.index()];
    let task = current();
    loop {
        this.asked.store(false, Ordering::SeqCst);
        let functions = core::mem::take(&mut *this.functions.lock());
        if !functions.is_empty() {
            count(cpu, Kind::Tasklet);
        }
        for f in functions {
            f();
        }
        if crate::timer::has_expired(cpu) {
            count(cpu, Kind::Timer);
            crate::timer::run_expired(cpu);
        }
        if crate::rcu::has_work(cpu) {
            count(cpu, Kind::Rcu);
        }
        crate::rcu::run_callbacks(cpu);
        task.set_state(State::INTERRUPTIBLE);
        if this.asked.load(Ordering::SeqCst) {
            task.set_running();
            crate::cond_resched();
        } else {
            crate::schedule();
        }
    }
}
