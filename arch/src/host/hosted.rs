//! The virtual machine behind the host architecture: CPUs made of threads.
//!
//! Every OS thread is a kernel thread of its own and belongs to one of 64 virtual CPUs. Switching
//! preemption or interrupts off *occupies* the virtual CPU: one thread at a time. Per-CPU data under
//! such a guard is therefore as exclusive as on a machine, an RCU grace period is one pass through
//! all CPUs ([`pass_through`]), and the timer "interrupts" a CPU by occupying it.

use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, Once, OnceLock};
use std::time::{Duration, Instant};

use crate::cpu::{CpuId, CpuMask, MAX_CPUS};
use crate::preempt::HARDIRQ_OFFSET;
use crate::thread::Thread;

pub use super::memory::{ARENA_BASE, ARENA_SIZE, arena};
pub use super::paging::kernel_mapping;
pub use super::uaccess::{UserMemory, faults_disabled, set_user_memory};

const NO_CPU: u32 = u32::MAX;

// No destructors: usable as long as the thread runs, also while others are being destroyed.
thread_local! {
    static CPU: Cell<u32> = const { Cell::new(NO_CPU) };
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static IRQS_OFF: Cell<bool> = const { Cell::new(false) };
    static FOLDED: Cell<bool> = const { Cell::new(false) };
    static CURRENT: Cell<Option<NonNull<Thread>>> = const { Cell::new(None) };
    static RETURN_CPU: ReturnCpu = const { ReturnCpu };
}

static OCCUPIED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// CPUs that have a thread.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static NEXT: AtomicU64 = AtomicU64::new(0);

struct ReturnCpu;

impl Drop for ReturnCpu {
    fn drop(&mut self) {
        let cpu = CPU.get();
        if cpu != NO_CPU {
            TAKEN.fetch_and(!(1 << cpu), Ordering::Relaxed);
        }
    }
}

/// The virtual CPU of this thread.
pub fn cpu() -> CpuId {
    let cpu = CPU.get();
    if cpu == NO_CPU { assign() } else { CpuId(cpu) }
}

#[cold]
fn assign() -> CpuId {
    let free = TAKEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
        (taken != u64::MAX).then(|| taken | 1 << taken.trailing_ones())
    });
    let cpu = match free {
        Ok(taken) => taken.trailing_ones(),
        // More threads than CPUs: they share.
        Err(_) => (NEXT.fetch_add(1, Ordering::Relaxed) % MAX_CPUS as u64) as u32,
    };
    CPU.set(cpu);
    if free.is_ok() {
        let _ = RETURN_CPU.try_with(|_| ());
    }
    CpuId(cpu)
}

fn occupy(cpu: CpuId) {
    let mut tries = 0u32;
    while OCCUPIED[cpu.index()]
        .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        tries += 1;
        if tries < 64 {
            core::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

fn leave(cpu: CpuId) {
    OCCUPIED[cpu.index()].store(false, Ordering::Release);
}

fn is_inside() -> bool {
    COUNT.get() != 0 || IRQS_OFF.get()
}

/// The preemption count.
pub fn count() -> u32 {
    COUNT.get()
}

/// Adds to the preemption count.
pub fn count_add(n: u32) {
    if !is_inside() {
        occupy(cpu());
    }
    COUNT.set(COUNT.get() + n);
}

/// Takes from the preemption count; whether it is 0 now and a reschedule is due.
pub fn count_sub(n: u32) -> bool {
    COUNT.set(COUNT.get() - n);
    if n != 0 && !is_inside() {
        leave(cpu());
    }
    COUNT.get() == 0 && FOLDED.get()
}

/// Whether a reschedule of this thread is due (for the preemption count).
pub fn set_folded(on: bool) {
    FOLDED.set(on);
}

/// Whether "interrupts" are off.
pub fn irqs_off() -> bool {
    IRQS_OFF.get()
}

/// Switches "interrupts" off or on; returns whether they were off.
pub fn set_irqs_off(off: bool) -> bool {
    let was = IRQS_OFF.get();
    if off && !is_inside() {
        occupy(cpu());
    }
    IRQS_OFF.set(off);
    if !off && was && !is_inside() {
        leave(cpu());
    }
    was
}

/// The running thread; one is made for an OS thread that has none.
pub fn current() -> NonNull<Thread> {
    CURRENT.get().unwrap_or_else(|| {
        let thread = NonNull::from(Box::leak(Box::new(Thread::new())));
        CURRENT.set(Some(thread));
        thread
    })
}

/// Says which thread this OS thread is; `None`: it has ended.
pub fn set_current(thread: Option<NonNull<Thread>>) {
    CURRENT.set(thread);
}

/// Visits every virtual CPU while it is unoccupied: all sections with preemption off that ran at
/// the call have ended at the return. Must be called with preemption on.
pub fn pass_through() {
    assert!(!is_inside(), "waiting for a grace period with preemption off");
    for cpu in CpuMask::ALL.iter() {
        occupy(cpu);
        leave(cpu);
    }
}

/// Runs `f` as an interrupt on `cpu`.
pub fn interrupt(cpu: CpuId, f: impl FnOnce()) {
    assert!(!is_inside(), "an interrupt comes from outside");
    let own = CPU.replace(cpu.0);
    occupy(cpu);
    IRQS_OFF.set(true);
    COUNT.set(HARDIRQ_OFFSET);
    f();
    COUNT.set(0);
    IRQS_OFF.set(false);
    leave(cpu);
    CPU.set(own);
}

/// Where a sleeping OS thread waits.
#[derive(Debug)]
pub struct Parker {
    token: Mutex<bool>,
    woken: Condvar,
}

impl Parker {
    pub(super) const fn new() -> Self {
        Self { token: Mutex::new(false), woken: Condvar::new() }
    }

    /// Waits for a token and takes it.
    pub fn park(&self) {
        let mut token = self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while !*token {
            token = self.woken.wait(token).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *token = false;
    }

    /// Leaves a token.
    pub fn unpark(&self) {
        *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = true;
        self.woken.notify_one();
    }
}

/// When each virtual CPU's one-shot timer fires, in nanoseconds of `now_ns`.
struct Alarms {
    by_cpu: Mutex<BTreeMap<u32, u64>>,
    changed: Condvar,
}

static ALARMS: Alarms = Alarms { by_cpu: Mutex::new(BTreeMap::new()), changed: Condvar::new() };
static TIMER_HOOK: OnceLock<fn()> = OnceLock::new();

/// Who handles timer "interrupts": called on the virtual CPU whose one-shot timer fired. Without a
/// hook, the registered [`crate::trap::TrapHandler`] is told.
pub fn set_timer_hook(hook: fn()) {
    let _ = TIMER_HOOK.set(hook);
}

pub(super) fn set_alarm(cpu: CpuId, deadline_ns: u64) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        std::thread::Builder::new().name("timer".into()).spawn(run_alarms).expect("a thread for the timer");
    });
    let mut by_cpu = ALARMS.by_cpu.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if deadline_ns == u64::MAX {
        by_cpu.remove(&cpu.0);
    } else {
        by_cpu.insert(cpu.0, deadline_ns);
        ALARMS.changed.notify_one();
    }
}

fn run_alarms() {
    let mut by_cpu = ALARMS.by_cpu.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    loop {
        let now = crate::time::now_ns();
        let first = by_cpu.iter().min_by_key(|(_, at)| **at).map(|(cpu, at)| (*cpu, *at));
        by_cpu = match first {
            Some((cpu, at)) if at <= now => {
                by_cpu.remove(&cpu);
                drop(by_cpu);
                interrupt(CpuId(cpu), fire);
                ALARMS.by_cpu.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
            }
            Some((_, at)) => {
                let wait = ALARMS.changed.wait_timeout(by_cpu, Duration::from_nanos(at - now));
                wait.unwrap_or_else(std::sync::PoisonError::into_inner).0
            }
            None => ALARMS.changed.wait(by_cpu).unwrap_or_else(std::sync::PoisonError::into_inner),
        };
    }
}

fn fire() {
    match TIMER_HOOK.get() {
        Some(hook) => hook(),
        None => {
            if let Some(handler) = crate::trap::handler() {
                handler.timer(&crate::trap::TrapFrame::default());
            }
        }
    }
}

/// Nanoseconds since the first call; starts the clock.
pub(super) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(|| {
        crate::time::set_clock(1_000_000_000, 0);
        Instant::now()
    });
    start.elapsed().as_nanos() as u64
}
