//! What happens when the kernel itself is broken: warnings, oopses and panics. `Documentation/admin-guide/sysctl/kernel.rst`.
//!
//! A trap in kernel mode, or a check of the kernel's own that fails (a Rust panic: Linux's `BUG`), is an *oops*: in a system call it kills
//! the task that made it and lets the others live, unless `panic_on_oops` is set, there were too many, or the task
//! cannot be killed: interrupt handlers, kernel threads, init. Then it is a *panic*, the end of the machine. A task that oopses on its
//! way out stays where it is.

use crate::traps::can_kill_current;
use arch::trap::Oops;
use core::fmt::Arguments;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// `oops=panic`, `/proc/sys/kernel/panic_on_oops`.
pub static PANIC_ON_OOPS: AtomicI32 = AtomicI32::new(0);
/// `panic_on_warn`, `/proc/sys/kernel/panic_on_warn`.
pub static PANIC_ON_WARN: AtomicBool = AtomicBool::new(false);
/// `/proc/sys/kernel/oops_limit`: the oops that is a panic; 0 for none.
pub static OOPS_LIMIT: AtomicU32 = AtomicU32::new(10_000);
/// `/proc/sys/kernel/warn_limit`: the warning that is a panic; 0 for none.
pub static WARN_LIMIT: AtomicU32 = AtomicU32::new(0);
/// `panic=`: seconds until the reboot after a panic; 0 never, negative at once.
pub static PANIC_TIMEOUT: AtomicI32 = AtomicI32::new(0);
/// Oopses since boot: `/sys/kernel/oops_count`.
pub static COUNT: AtomicU32 = AtomicU32::new(0);
/// Warnings since boot: `/sys/kernel/warn_count`.
pub static WARNINGS: AtomicU32 = AtomicU32::new(0);
/// `/proc/sys/kernel/tainted`: what has happened that makes the kernel less trustworthy; bits of [`taint`].
pub static TAINTED: AtomicU64 = AtomicU64::new(0);

/// Bits of [`TAINTED`] (`Documentation/admin-guide/tainted-kernels.rst`).
pub mod taint {
    /// D: the kernel has died before.
    pub const DIE: u64 = 1 << 7;
    /// W: a warning.
    pub const WARN: u64 = 1 << 9;
    /// L: a soft lockup.
    pub const SOFTLOCKUP: u64 = 1 << 14;
}

/// A CPU that is reporting an oops; one that begins meanwhile on the same CPU is about the reporting.
static REPORTING: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;

/// A trap in kernel mode: the end of the thread, or of the machine.
pub fn handle(oops: &Oops<'_>) -> ! {
    let count = begin(format_args!("Oops: {}", oops.reason));
    oops.report(|line| log::error!("{line}"));
    finish(count)
}

/// The binary's panic handler.
pub fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if arch::irq::in_interrupt() || !can_kill_current() {
        die(format_args!("{}", info.message()), info.location());
    }
    let count = begin(format_args!("kernel BUG: {}", info.message()));
    if let Some(place) = info.location() {
        log::error!("at {}:{}", place.file(), place.line());
    }
    here();
    finish(count)
}

fn begin(what: Arguments<'_>) -> u32 {
    let here = arch::cpu::current().0;
    if REPORTING.swap(here, Ordering::SeqCst) == here {
        die(format_args!("an oops while one is reported: {what}"), None);
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    log::error!("{what} [#{count}]");
    TAINTED.fetch_or(taint::DIE, Ordering::Relaxed);
    count
}

/// Kills the thread, if that is enough.
fn finish(count: u32) -> ! {
    let limit = OOPS_LIMIT.load(Ordering::Relaxed);
    if arch::irq::in_interrupt() {
        die(format_args!("Fatal exception in interrupt"), None);
    }
    if PANIC_ON_OOPS.load(Ordering::Relaxed) != 0 || !can_kill_current() {
        die(format_args!("Fatal exception"), None);
    }
    if limit != 0 && count >= limit {
        die(format_args!("Oopsed too often (kernel.oops_limit is {limit})"), None);
    }
    REPORTING.store(NOBODY, Ordering::SeqCst);
    // Locks that the code held stay locked: whoever needs them waits for ever, the others go on.
    arch::irq::local_enable();
    while arch::preempt::count() > 0 {
        arch::preempt::enable_no_resched();
    }
    if crate::process::with_current(|me| me.has(crate::process::thread::flags::EXITING)).unwrap_or(false) {
        never_return();
    }
    crate::exit::exit(crate::signal::Signal::SIGKILL.number())
}

/// The thread has oopsed on its way out: another try would end the same way. It sleeps for ever with what it still has.
fn never_return() -> ! {
    log::error!("Fixing recursive fault but reboot is needed!");
    loop {
        sched::set_current_state(sched::State::UNINTERRUPTIBLE);
        sched::schedule();
    }
}

/// Says that something is wrong that need not stop anybody: a line, and how it came to that.
#[track_caller]
pub fn warn(what: Arguments<'_>) {
    let place = Location::caller();
    let count = WARNINGS.fetch_add(1, Ordering::Relaxed) + 1;
    log::warn!("------------[ cut here ]------------");
    log::warn!("{what}");
    log::warn!("WARNING: at {}:{}", place.file(), place.line());
    here();
    TAINTED.fetch_or(taint::WARN, Ordering::Relaxed);
    let limit = WARN_LIMIT.load(Ordering::Relaxed);
    if PANIC_ON_WARN.load(Ordering::Relaxed) {
        die(format_args!("panic_on_warn set ..."), Some(place));
    }
    if limit != 0 && count >= limit {
        die(format_args!("Warned too often (kernel.warn_limit is {limit})"), None);
    }
}

/// Who runs, and how it came here.
pub(crate) fn here() {
    log::error!("CPU: {} Comm: {}", arch::cpu::current().0, sched::current().comm());
    log::error!("Call Trace:");
    arch::backtrace::frames(arch::backtrace::frame_pointer(), |ip| {
        log::error!(" {}", arch::symbols::At(ip));
        true
    });
}

/// The end of the machine.
pub fn die(message: Arguments<'_>, place: Option<&Location<'_>>) -> ! {
    static ONCE: AtomicBool = AtomicBool::new(false);
    arch::irq::local_disable();
    if ONCE.swap(true, Ordering::SeqCst) {
        // Panicking while panicking: nothing is to be trusted any more.
        arch::cpu::halt();
    }
    crate::printk::show_everything();
    log::error!("Kernel panic - not syncing: {message}");
    if let Some(place) = place {
        log::error!("at {}:{}", place.file(), place.line());
    }
    log::error!("CPU: {} Comm: {}", arch::cpu::current().0, sched::current().comm());
    after_panic()
}

/// What the panic handler does after it has printed the message: stop, or reboot in time.
pub fn after_panic() -> ! {
    arch::irq::local_disable();
    arch::smp::stop_others();
    let timeout = PANIC_TIMEOUT.load(Ordering::Relaxed);
    if timeout != 0 {
        let seconds = u64::try_from(timeout).unwrap_or(0);
        arch::time::delay_ns(seconds.saturating_mul(1_000_000_000));
        arch::power::reboot(arch::power::Mode::Auto);
    }
    log::error!("---[ end Kernel panic ]---");
    arch::cpu::halt()
}
