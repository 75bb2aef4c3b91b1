//! Who notices that something does not go on. `Documentation/admin-guide/lockup-watchdogs.rst`, `kernel.rst` and
//! `Documentation/RCU/stallwarn.rst` of the kernel's documentation.
//!
//! | what hangs | seen by | file |
//! |---|---|---|
//! | a CPU that cannot switch tasks (*soft lockup*) | its tick: [`sched::lockup`] | here |
//! | a grace period that does not end (*RCU stall*) | any tick: [`sched::rcu::on_stall`] | here |
//! | a task that sleeps and no signal may wake | a kernel thread, `khungtaskd` | [`hung_task`] |
//! | | the files of `/proc/sys/kernel` | [`sysctl`] |
//!
//! Nothing of it runs on a CPU that idles, but for `khungtaskd` every two minutes.

pub mod hung_task;
pub mod sysctl;

use crate::oops::{TAINTED, die, taint};
use crate::process::Thread;
use abi::{Errno, Result};
use arch::cpu::CpuMask;
use arch::trap::{Oops, TrapFrame};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sched::Task;

/// `/proc/sys/kernel/soft_watchdog`: whether CPUs are watched.
static ENABLED: AtomicBool = AtomicBool::new(true);
/// `/proc/sys/kernel/soft_watchdog`: the same of soft lockups. There is no other kind, so that both have to be on.
static SOFT: AtomicBool = AtomicBool::new(true);
/// `/proc/sys/kernel/watchdog_thresh`: half the time, in seconds, that a CPU may be stuck; 0 for ever.
static THRESH: AtomicU32 = AtomicU32::new(10);
/// `/proc/sys/kernel/softlockup_panic`: a soft lockup is a panic.
pub static SOFTLOCKUP_PANIC: AtomicBool = AtomicBool::new(false);
/// `/proc/sys/kernel/panic_on_rcu_stall`.
pub static PANIC_ON_RCU_STALL: AtomicBool = AtomicBool::new(false);

/// Starts what watches in a thread of its own.
///
/// # Errors
/// `ENOMEM`.
pub fn start() -> Result<()> {
    sched::rcu::on_stall(rcu_stall);
    hung_task::start()
}

/// `nowatchdog`, `nosoftlockup`: CPUs are not watched.
pub fn switch_off() {
    set(&ENABLED, false);
}

/// Whether CPUs are watched.
fn set(switch: &AtomicBool, on: bool) {
    switch.store(on, Ordering::Relaxed);
    apply();
}

/// Whether anything is watched.
fn is_on() -> bool {
    ENABLED.load(Ordering::Relaxed) && SOFT.load(Ordering::Relaxed)
}

/// Sets the threshold.
///
/// # Errors
/// `EINVAL`: above 60.
pub fn set_thresh(seconds: u32) -> Result<()> {
    if seconds > 60 {
        return Err(Errno::EINVAL);
    }
    THRESH.store(seconds, Ordering::Relaxed);
    apply();
    Ok(())
}

/// Tells the ticks.
fn apply() {
    let seconds = if is_on() { 2 * THRESH.load(Ordering::Relaxed) } else { 0 };
    sched::lockup::LIMIT_NS.store(u64::from(seconds) * 1_000_000_000, Ordering::Relaxed);
}

/// The number that messages give of a task; 0 for those without.
pub fn number(task: &Task) -> i32 {
    task.data::<Thread>().map_or(0, Thread::global_tid)
}

/// The timer found that this CPU has not been able to switch tasks for so many nanoseconds. Interrupts off.
#[cold]
pub fn soft_lockup(frame: &TrapFrame, stuck_ns: u64) {
    let task = sched::current();
    log::error!(
        "watchdog: BUG: soft lockup - CPU#{} stuck for {}s! [{}:{}]",
        arch::cpu::current().0,
        stuck_ns / 1_000_000_000,
        task.comm(),
        number(&task)
    );
    let reason = format_args!("soft lockup");
    let seen = Oops { reason, frame: Some(frame), frame_pointer: frame.fp() };
    seen.report(|line| log::error!("{line}"));
    TAINTED.fetch_or(taint::SOFTLOCKUP, Ordering::Relaxed);
    if SOFTLOCKUP_PANIC.load(Ordering::Relaxed) {
        die(format_args!("softlockup: hung tasks"), None);
    }
}

/// `cpus` keep a grace period from ending. Interrupts off.
#[cold]
fn rcu_stall(cpus: CpuMask) {
    let here = arch::cpu::current();
    log::error!("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:");
    for cpu in cpus.iter() {
        log::error!("rcu: \t{}-....", cpu.0);
    }
    let ticks = sched::rcu::STALL_NS.load(Ordering::Relaxed) / sched::time::TICK_NS;
    log::error!("rcu: \t(detected by {}, t={ticks} jiffies)", here.0);
    if PANIC_ON_RCU_STALL.load(Ordering::Relaxed) {
        die(format_args!("RCU Stall"), None);
    }
}
