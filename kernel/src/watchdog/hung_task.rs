//! `khungtaskd`: tasks that have slept for long so that no signal wakes them, and without a turn on a CPU.
//! `/proc/sys/kernel/hung_task_*`.
//!
//! The thread looks at every task once in `hung_task_check_interval_secs` (or the timeout, if that is shorter or the interval is 0). A
//! task is counted from the first look that finds its number of context switches unchanged.

use super::number;
use crate::oops::{TAINTED, die};
use crate::process::{Process, Thread, init_pid_ns};
use abi::Result;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use sched::time::monotonic_ns;
use sched::{Deadline, State, Task};
use sync::Once;

const NSEC: u64 = 1_000_000_000;

/// After how many seconds a task is reported; 0 never.
pub static TIMEOUT: AtomicU64 = AtomicU64::new(120);
/// How often to look, in seconds; 0: as often as the timeout says.
pub static INTERVAL: AtomicU64 = AtomicU64::new(0);
/// How many tasks to look at.
pub static CHECK_COUNT: AtomicU32 = AtomicU32::new(4_194_304);
/// How many more reports there may be; -1 for any number.
pub static WARNINGS: AtomicI32 = AtomicI32::new(10);
/// A report is a panic.
pub static PANIC: AtomicBool = AtomicBool::new(false);

static THREAD: Once<Arc<Task>> = Once::new();

/// Starts the thread.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn start() -> Result<()> {
    let task = sched::kthread::spawn("khungtaskd", run)?;
    THREAD.call_once(|| task);
    Ok(())
}

/// A number was changed: the thread reckons anew.
pub(super) fn changed() {
    if let Some(task) = THREAD.get() {
        sched::wake_up(task);
    }
}

fn run() {
    let mut last = monotonic_ns();
    loop {
        let timeout = TIMEOUT.load(Ordering::Relaxed);
        let interval = match INTERVAL.load(Ordering::Relaxed) {
            0 => timeout,
            interval => interval.min(timeout),
        };
        if timeout == 0 {
            sched::sleep_until(Deadline::after_ns(u64::MAX / 4), State::IDLE);
            last = monotonic_ns();
            continue;
        }
        let due = last.saturating_add(interval.saturating_mul(NSEC));
        let now = monotonic_ns();
        if now < due {
            sched::sleep_until(Deadline::after_ns((due - now).min(u64::MAX / 4)), State::IDLE);
            continue;
        }
        check_all(timeout);
        last = monotonic_ns();
    }
}

/// Looks at the tasks.
fn check_all(timeout: u64) {
    // After an oops some sleep for ever, and why is known.
    if TAINTED.load(Ordering::Relaxed) & crate::oops::taint::DIE != 0 {
        return;
    }
    let mut left = CHECK_COUNT.load(Ordering::Relaxed);
    for process in init_pid_ns().processes() {
        let mut hung: [Option<Arc<Task>>; 8] = [const { None }; 8];
        let mut free = hung.iter_mut();
        process.sig.lock().for_each(|task, thread| {
            if left > 0 {
                left -= 1;
                if is_hung(task, thread, timeout)
                    && let Some(slot) = free.next()
                {
                    *slot = Some(task.clone());
                }
            }
        });
        for task in hung.iter().flatten() {
            report(&process, task, timeout);
        }
        if left == 0 {
            return;
        }
        sched::cond_resched();
    }
}

/// Whether a task has slept for the timeout.
fn is_hung(task: &Task, thread: &Thread, timeout: u64) -> bool {
    let state = task.state();
    let asleep = state.contains(State::UNINTERRUPTIBLE) && !state.intersects(State::WAKEKILL | State::NOLOAD);
    if !asleep {
        return false;
    }
    let (voluntary, involuntary) = task.context_switches();
    let switches = voluntary + involuntary;
    let (last, since) = &thread.last_switches;
    let now = monotonic_ns();
    if last.swap(switches, Ordering::Relaxed) != switches {
        since.store(now, Ordering::Relaxed);
        return false;
    }
    now.saturating_sub(since.load(Ordering::Relaxed)) >= timeout.saturating_mul(NSEC)
}

/// Takes one of the reports that there may be.
fn may_report() -> bool {
    let take = |left: i32| match left {
        0 => None,
        -1 => Some(-1),
        left => Some(left - 1),
    };
    WARNINGS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
}

/// Who a task is and, while it sleeps, where.
#[cold]
pub fn show(process: &Process, task: &Task) {
    let parent = process.parent().map_or(0, |parent| parent.id());
    log::error!(
        "task:{} state:{} pid:{} tgid:{} ppid:{parent}",
        task.comm(),
        task.state().letter(),
        number(task),
        process.id()
    );
    log::error!("Call Trace:");
    let mut addresses = [0; sched::asleep::DEPTH];
    let count = task.while_asleep(|asleep| asleep.backtrace(&mut addresses)).unwrap_or(0);
    for address in addresses.iter().take(count) {
        log::error!(" {}", arch::symbols::At(*address));
    }
}

#[cold]
fn report(process: &Process, task: &Task, timeout: u64) {
    let fatal = PANIC.load(Ordering::Relaxed);
    if may_report() || fatal {
        let (comm, tid) = (task.comm(), number(task));
        log::error!("INFO: task {comm}:{tid} blocked for more than {timeout} seconds.");
        log::error!("      Tainted: {:#x} {}", TAINTED.load(Ordering::Relaxed), crate::version::RELEASE);
        log::error!("\"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.");
        show(process, task);
    }
    if fatal {
        die(format_args!("hung_task: blocked tasks"), None);
    }
}
