//! Grace periods by quiescent states.
//!
//! One grace period runs at a time. At its beginning every online CPU owes a quiescent state, except
//! those that idle: a CPU's *watching* counter is even while it idles outside of interrupt handlers. A
//! CPU pays by switching tasks, by a tick from user mode, or by idling (seen by others from the
//! counter). The last one to pay ends the grace period and starts the next if one was asked for.
//!
//! With one CPU online a task that waits for a grace period has it already: it runs, so no read
//! section does.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use arch::cpu::{CpuId, CpuMask, MAX_CPUS};
use arch::irq::IrqGuard;
use arch::sync::SpinLockIrq;
use arch::thread::ThreadFlags;

use crate::completion::Completion;
use crate::rcu::Seq;
use crate::rq;

struct State {
    /// The grace period that runs, or the last one.
    current: u64,
    /// The highest that was asked for.
    wanted: u64,
    /// CPUs that owe a quiescent state to `current`.
    owing: CpuMask,
    /// When `current` began, or was last reported as stalled; 0 before the first tick that saw it.
    seen_ns: u64,
}

static STATE: SpinLockIrq<State> =
    SpinLockIrq::new(State { current: 0, wanted: 0, owing: CpuMask::EMPTY, seen_ns: 0 });
/// The last grace period that is over.
static COMPLETED: AtomicU64 = AtomicU64::new(0);
/// Whether a CPU owes a quiescent state: looked at on every switch.
static OWES: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// Odd while the CPU may be in a read section; even while it idles.
static WATCHING: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(1) }; MAX_CPUS];

/// A switch happens on this CPU. Interrupts off.
#[inline]
pub(super) fn note_switch() {
    let cpu = arch::cpu::current();
    if OWES[cpu.index()].load(Ordering::Relaxed) {
        pay(cpu);
    }
}

/// A tick on this CPU. Interrupts off.
pub(super) fn note_tick(from_user: bool, now: u64) {
    let cpu = arch::cpu::current();
    if from_user && OWES[cpu.index()].load(Ordering::Relaxed) {
        pay(cpu);
    }
    let mut state = STATE.lock();
    collect_idle(&mut state);
    advance(&mut state);
    if !state.owing.is_empty() {
        let stalled = stall(&mut state, now);
        drop(state);
        if let Some(cpus) = stalled {
            crate::rcu::stalled(cpus);
        }
    }
}

/// The CPUs that keep a grace period from ending for too long. Once in that time.
fn stall(state: &mut State, now: u64) -> Option<CpuMask> {
    let limit = crate::rcu::STALL_NS.load(Ordering::Relaxed);
    if state.seen_ns == 0 {
        state.seen_ns = now;
    }
    if limit == 0 || now.saturating_sub(state.seen_ns) < limit {
        return None;
    }
    state.seen_ns = now;
    Some(state.owing)
}

#[cold]
fn pay(cpu: CpuId) {
    let mut state = STATE.lock();
    OWES[cpu.index()].store(false, Ordering::Relaxed);
    state.owing.clear(cpu);
    advance(&mut state);
}

/// Idle CPUs have paid.
fn collect_idle(state: &mut State) {
    for cpu in state.owing.iter() {
        // Pairs with the full barriers in `idle_enter` and `idle_exit`: an even counter means that what
        // the CPU does from now on it does after our grace period began.
        if WATCHING[cpu.index()].load(Ordering::SeqCst) & 1 == 0 {
            state.owing.clear(cpu);
            OWES[cpu.index()].store(false, Ordering::Relaxed);
        }
    }
}

/// Ends the grace period if nobody owes any more, and starts the next if it is wanted.
fn advance(state: &mut State) {
    while state.owing.is_empty() {
        COMPLETED.store(state.current, Ordering::Release);
        if state.wanted <= state.current {
            return;
        }
        state.current += 1;
        state.seen_ns = 0;
        // What writers did before they asked is visible to readers that begin from here on.
        fence(Ordering::SeqCst);
        state.owing = arch::cpu::online();
        for cpu in state.owing.iter() {
            OWES[cpu.index()].store(true, Ordering::Relaxed);
        }
        collect_idle(state);
    }
}

/// This CPU begins to wait for an interrupt in the idle loop. Interrupts off.
pub(super) fn idle_enter(cpu: CpuId) {
    note_switch();
    WATCHING[cpu.index()].fetch_add(1, Ordering::SeqCst);
}

/// It has woken.
pub(super) fn idle_exit(cpu: CpuId) {
    // An interrupt taken inside has done it already; see `irq_enter`.
    if WATCHING[cpu.index()].load(Ordering::Relaxed) & 1 == 0 {
        WATCHING[cpu.index()].fetch_add(1, Ordering::SeqCst);
        // What is read from here on is read while this CPU counts as a reader.
        arch::cpu::barrier_after_atomic();
    }
}

/// An interrupt handler begins: it may use RCU even if it interrupted the idle loop.
#[inline]
pub(crate) fn irq_enter() {
    idle_exit(arch::cpu::current());
}

/// A CPU comes up.
pub(super) fn cpu_starts(cpu: CpuId) {
    WATCHING[cpu.index()].fetch_or(1, Ordering::SeqCst);
    arch::cpu::barrier_after_atomic();
}

/// Callbacks were queued on this CPU: the next tick sees them.
pub(crate) fn callbacks_queued() {}

/// The number of a grace period that begins now or later.
pub(crate) fn request() -> Seq {
    let mut state = STATE.lock();
    let seq = state.current + 1;
    state.wanted = state.wanted.max(seq);
    // A running one may have begun before the caller's update: only the next counts.
    advance(&mut state);
    Seq(seq)
}

/// Whether that grace period is over.
pub(crate) fn is_over(seq: Seq) -> bool {
    COMPLETED.load(Ordering::Acquire) >= seq.0
}

/// Waits for a grace period, and hurries it.
#[expect(clippy::disallowed_methods, reason = "under NoFailScope")]
pub(crate) fn synchronize() {
    if arch::cpu::online().count() == 1 {
        fence(Ordering::SeqCst);
        return;
    }
    let _no_fail = crate::heap::NoFailScope::enter();
    let done = alloc::sync::Arc::new(Completion::new());
    let signal = done.clone();
    crate::rcu::call(alloc::boxed::Box::new(move || signal.complete_all()));
    {
        let _irqs_off = IrqGuard::new();
        let here = arch::cpu::current();
        crate::softirq::wake(here);
        expedite();
    }
    done.wait();
}

/// Makes the CPUs that owe switch tasks soon.
pub(crate) fn expedite() {
    let owing = STATE.lock().owing;
    for cpu in owing.iter() {
        let Some(queue) = rq::try_of(cpu) else { continue };
        let rq = queue.lock.lock();
        // SAFETY: the running task is alive while its queue is locked.
        let task = unsafe { rq.curr.as_ref() };
        if !task.thread_flags().contains(ThreadFlags::NEED_RESCHED) {
            super::resched(cpu, task);
        }
    }
}
