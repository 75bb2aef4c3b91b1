//! CPU time accounting.

use core::sync::atomic::{AtomicU64, Ordering};

/// Times of one task, in nanoseconds.
#[derive(Debug)]
pub(crate) struct TaskTimes {
    /// Time on a CPU, exactly, up to the last switch or tick.
    pub sum_exec: AtomicU64,
    /// Ticks that interrupted user mode, in nanoseconds.
    pub user_ticks: AtomicU64,
    /// Ticks that interrupted the kernel, in nanoseconds.
    pub system_ticks: AtomicU64,
    /// When it started, on the monotonic clock.
    pub start: AtomicU64,
}

impl TaskTimes {
    pub const fn new() -> Self {
        Self {
            sum_exec: AtomicU64::new(0),
            user_ticks: AtomicU64::new(0),
            system_ticks: AtomicU64::new(0),
            start: AtomicU64::new(0),
        }
    }
}

impl crate::Task {
    /// Ticks that found it in user mode and in the kernel, in nanoseconds: a sample of how [`Self::exec_runtime_ns`] divides.
    pub fn tick_times(&self) -> (u64, u64) {
        (self.times.user_ticks.load(Ordering::Relaxed), self.times.system_ticks.load(Ordering::Relaxed))
    }

    /// Nanoseconds on a CPU so far (`CLOCK_THREAD_CPUTIME_ID`); exact for the running task.
    pub fn exec_runtime_ns(&self) -> u64 {
        crate::platform::update_exec(self);
        self.times.sum_exec.load(Ordering::Relaxed)
    }

    /// When the task was made, on the monotonic clock.
    pub fn start_ns(&self) -> u64 {
        self.times.start.load(Ordering::Relaxed)
    }
}

/// What a CPU spends its time on, as the columns of `/proc/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum CpuState {
    /// User mode, nice 0 or less.
    User,
    /// User mode, positive nice.
    Nice,
    /// The kernel.
    System,
    /// Nothing.
    Idle,
    /// Nothing, while a task here waits for a disk.
    IoWait,
    /// Interrupt handlers.
    Irq,
    /// Deferred work of interrupts.
    SoftIrq,
    /// Taken away by a hypervisor.
    Steal,
}

/// Nanoseconds that a CPU spent in each [`CpuState`].
#[derive(Debug)]
pub struct CpuTimes {
    ns: [AtomicU64; 8],
    /// When the idle period that lasts began; 0: the CPU is busy.
    idle_since: AtomicU64,
}

impl CpuTimes {
    const fn new() -> Self {
        Self { ns: [const { AtomicU64::new(0) }; 8], idle_since: AtomicU64::new(0) }
    }

    /// Adds to a state.
    pub fn add(&self, state: CpuState, ns: u64) {
        self.ns[state as usize].fetch_add(ns, Ordering::Relaxed);
    }

    /// Nanoseconds in a state, with the idle period that lasts.
    pub fn get(&self, state: CpuState) -> u64 {
        let ns = self.ns[state as usize].load(Ordering::Relaxed);
        match (state, self.idle_since.load(Ordering::Relaxed)) {
            (CpuState::Idle, since) if since != 0 => ns + crate::time::raw_ns().saturating_sub(since),
            _ => ns,
        }
    }

    /// The CPU goes idle at `now`, raw time.
    pub(crate) fn idle_begins(&self, now: u64) {
        self.idle_since.store(now.max(1), Ordering::Relaxed);
    }

    /// The CPU is busy again at `now`.
    pub(crate) fn idle_ends(&self, now: u64) {
        let since = self.idle_since.swap(0, Ordering::Relaxed);
        self.add(CpuState::Idle, now.saturating_sub(since));
    }
}

/// By CPU.
pub static CPU_TIMES: [CpuTimes; arch::cpu::MAX_CPUS] = [const { CpuTimes::new() }; arch::cpu::MAX_CPUS];

/// Context switches since boot, on all CPUs.
pub fn total_switches() -> u64 {
    let mut total = 0;
    for cpu in arch::cpu::online().iter() {
        if let Some(queue) = crate::rq::try_of(cpu) {
            let _irqs_off = arch::irq::IrqGuard::new();
            total += queue.lock.lock().nr_switches;
        }
    }
    total
}
