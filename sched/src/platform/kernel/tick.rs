//! The periodic tick, and doing without it when idle.
//!
//! A busy CPU takes [`HZ`](crate::time::HZ) ticks a second, from a timer of its own. The tick keeps the
//! wall clock and the load average going (whichever CPU comes first), samples user and system time,
//! accounts the running task, balances load and pushes RCU on. An idle CPU stops its tick and sleeps
//! until its next timer.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::cpu::{CpuId, MAX_CPUS};
use sync::Once;

use super::machine;
use super::wake::with_this_rq;
use crate::class::TaskPtr;
use crate::cputime::{CPU_TIMES, CpuState};
use crate::hrtimer::{Deadline, HrTimer, Restart};
use crate::time::{self, Clock, TICK_NS};

struct PerCpuTimers {
    tick: HrTimer,
    deadline: HrTimer,
    /// Whether the interrupted code was user mode, for the tick inside this interrupt.
    from_user: AtomicBool,
}

static TIMERS: [Once<PerCpuTimers>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
/// When time was last kept, so that one CPU does it per tick.
static LAST_KEPT: AtomicU64 = AtomicU64::new(0);

/// Starts the tick of this CPU. Interrupts off.
pub(crate) fn start() {
    let cpu = arch::cpu::current();
    TIMERS[cpu.index()].call_once(|| PerCpuTimers {
        tick: HrTimer::new(|now| {
            tick();
            // Keep the rhythm, but do not catch up on what was missed.
            Restart::At(now - now % TICK_NS + TICK_NS)
        })
        .expect("memory while the CPU comes up"),
        deadline: HrTimer::new(|_| {
            with_this_rq(|queue, rq| {
                rq.dl_next = u64::MAX;
                crate::class::deadline::unthrottle(rq);
                rq.publish(&queue.hints);
            });
            Restart::No
        })
        .expect("memory while the CPU comes up"),
        from_user: AtomicBool::new(false),
    });
    resume();
}

/// This CPU's timer fired. `from_user`: it interrupted user mode.
pub(crate) fn timer_interrupt(from_user: bool) {
    if let Some(timers) = TIMERS[arch::cpu::current().index()].get() {
        timers.from_user.store(from_user, Ordering::Relaxed);
    }
    crate::hrtimer::run_expired();
}

/// Stops this CPU's tick: it goes idle. Keeps it if RCU callbacks wait here, and has it come back for
/// the next coarse timer.
pub(super) fn stop() {
    let cpu = arch::cpu::current();
    let Some(timers) = TIMERS[cpu.index()].get() else { return };
    if crate::rcu::is_waiting(cpu) {
        return;
    }
    match crate::timer::next_expiry(cpu) {
        Some(jiffy) => timers.tick.start(Deadline::at(Clock::Monotonic, jiffy.saturating_mul(TICK_NS))),
        None => drop(timers.tick.try_cancel()),
    }
    crate::hrtimer::reprogram();
}

/// Starts this CPU's tick again.
pub(super) fn resume() {
    if let Some(timers) = TIMERS[arch::cpu::current().index()].get() {
        let now = time::monotonic_ns();
        timers.tick.start(Deadline::at(Clock::Monotonic, now - now % TICK_NS + TICK_NS));
        keep_time(now);
    }
}

/// Starts the deadline class' timer if `cpu` is this one; other CPUs look at their next tick.
pub(super) fn start_dl_timer(cpu: CpuId, at: u64) {
    if cpu == arch::cpu::current()
        && let Some(timers) = TIMERS[cpu.index()].get()
    {
        timers.deadline.start(Deadline::at(Clock::Monotonic, at));
    }
}

fn keep_time(now: u64) {
    let last = LAST_KEPT.load(Ordering::Relaxed);
    if now.wrapping_sub(last) >= TICK_NS / 2
        && LAST_KEPT.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        time::tick();
        crate::loadavg::tick(now);
    }
}

fn tick() {
    let cpu = arch::cpu::current();
    let now = time::monotonic_ns();
    keep_time(now);
    let from_user = TIMERS[cpu.index()].get().is_some_and(|t| t.from_user.load(Ordering::Relaxed));
    super::rcu::note_tick(from_user, now);
    let preemptible =
        arch::preempt::count() & (arch::preempt::PREEMPT_MASK | arch::preempt::SOFTIRQ_MASK) == 0;
    let machine = machine();
    with_this_rq(|queue, rq| {
        let curr: TaskPtr = rq.curr;
        // SAFETY: the running task is alive.
        let task = unsafe { curr.as_ref() };
        let class = rq.current_class();
        let state = if from_user {
            task.times.user_ticks.fetch_add(TICK_NS, Ordering::Relaxed);
            if crate::rq::sched_of(curr).nice > 0 { CpuState::Nice } else { CpuState::User }
        } else if curr == rq.idle {
            CpuState::Idle
        } else {
            task.times.system_ticks.fetch_add(TICK_NS, Ordering::Relaxed);
            CpuState::System
        };
        if state != CpuState::Idle {
            // The idle loop measures its own time.
            CPU_TIMES[cpu.index()].add(state, TICK_NS);
        }
        let free = from_user || preemptible || curr == rq.idle;
        crate::lockup::note(cpu, now, free, rq.nr_switches);
        class.tick(rq, curr);
        crate::class::realtime::tick_others(rq);
        crate::class::deadline::unthrottle(rq);
        if machine.online.count() > 1 {
            crate::softirq::count(cpu, crate::softirq::Kind::Sched);
            if machine.periodic(rq) {
                rq.resched_current();
            }
        }
        rq.publish(&queue.hints);
    });
    crate::softirq::wake_if_needed(cpu);
    if machine.online.count() > 1 {
        kick_idle(cpu);
    }
}

/// If tasks wait here while another CPU idles (without a tick of its own), has that one look for work.
fn kick_idle(here: CpuId) {
    let waiting =
        |cpu| crate::rq::try_of(cpu).map_or(0, |queue| queue.hints.nr_running.load(Ordering::Relaxed));
    if waiting(here) < 2 {
        return;
    }
    for cpu in arch::cpu::online().iter() {
        if cpu != here
            && super::idle::is_idle(cpu)
            && let Some(queue) = crate::rq::try_of(cpu)
            && let Some(rq) = queue.lock.try_lock()
        {
            // SAFETY: the running task is alive while its queue is locked.
            super::resched(cpu, unsafe { rq.curr.as_ref() });
            return;
        }
    }
}
