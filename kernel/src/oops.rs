//! What happens when the kernel itself is broken: oops and panic.
//!
//! An oops in a system call kills the task that made it and lets
//! the others live, unless `panic_on_oops` is set or the task cannot be killed: interrupt
//! handlers, kernel threads, init.

use crate::traps::can_kill_current;
use arch::trap::Oops;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// `oops=panic`, `/proc/sys/kernel/panic_on_oops`.
pub static PANIC_ON_OOPS: AtomicBool = AtomicBool::new(false);
/// `panic=`: seconds until the reboot after a panic; 0 never, negative at once.
pub static PANIC_TIMEOUT: AtomicI32 = AtomicI32::new(0);
/// Oopses since boot (`Tainted: D`).
pub static COUNT: AtomicU32 = AtomicU32::new(0);

/// The end of the thread, or of the machine.
pub fn handle(oops: &Oops<'_>) -> ! {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    log::error!("Oops: {} [#{}]", oops.reason, count + 1);
    oops.report(|line| log::error!("{line}"));
    let hopeless = arch::irq::in_interrupt() || count > 16 || !can_kill_current();
    if PANIC_ON_OOPS.load(Ordering::Relaxed) || hopeless {
        panic!("Fatal exception");
    }
    // Locks that the code held stay locked: whoever needs them waits for ever, the others go on.
    arch::irq::local_enable();
    while arch::preempt::count() > 0 {
        arch::preempt::enable_no_resched();
    }
    crate::exit::exit(crate::signal::Signal::SIGKILL.number())
}

/// The binary's panic handler.
pub fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    static ONCE: AtomicBool = AtomicBool::new(false);
    arch::irq::local_disable();
    if ONCE.swap(true, Ordering::SeqCst) {
        // Panicking while panicking: nothing is to be trusted any more.
        arch::cpu::halt();
    }
    crate::printk::show_everything();
    log::error!("Kernel panic - not syncing: {}", info.message());
    if let Some(place) = info.location() {
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
