//! `provoke-crash`: breaks the kernel on purpose, to see that it copes. `Documentation/fault-injection/provoke-crashes.rst`.
//!
//! What is written to `DIRECT` happens in the system call that writes it. Reading lists what there is.

use core::fmt::Write;
use core::sync::atomic::{AtomicI32, Ordering};

use abi::{Errno, Result};
use kernfs::{Attr, StaticDir, Text, attr};

use crate::process::Thread;

/// A way to break the kernel.
struct Crash {
    name: &'static str,
    run: fn(),
}

const CRASHES: &[Crash] = &[
    Crash { name: "PANIC", run: || crate::oops::die(format_args!("dumptest"), None) },
    Crash { name: "BUG", run: || panic!("provoked") },
    Crash { name: "WARNING", run: || crate::oops::warn(format_args!("provoked")) },
    Crash {
        name: "WARNING_MESSAGE",
        run: || crate::oops::warn(format_args!("Warning message trigger count: 1")),
    },
    Crash { name: "EXCEPTION", run: arch::trap::provoke_exception },
    Crash { name: "LOOP", run: spin },
    Crash { name: "SOFTLOCKUP", run: spin_without_preemption },
    Crash { name: "HUNG_TASK", run: hang },
    Crash { name: "LEAK", run: leak },
    Crash { name: "EXIT_BUG", run: break_exit },
];

fn spin() {
    loop {
        arch::cpu::relax();
    }
}

fn spin_without_preemption() {
    arch::preempt::disable();
    spin();
}

/// Sleeps so that nothing wakes it.
fn hang() {
    sched::wait::WaitQueue::new().wait_event(|| false);
}

/// Loses some blocks, for `kmemleak` to find. A search may take what an old stack holds for a pointer to one of them.
fn leak() {
    for _ in 0..10 {
        if let Ok(block) = mm::fallible::try_vec(0_u64, 32) {
            core::mem::forget(block);
        }
    }
}

/// The thread whose exit shall fail.
static BROKEN_EXIT: AtomicI32 = AtomicI32::new(0);

fn break_exit() {
    BROKEN_EXIT.store(crate::process::current().global_tid(), Ordering::Relaxed);
}

/// A thread exits.
pub fn on_exit(me: &Thread) {
    let broken = BROKEN_EXIT.load(Ordering::Relaxed);
    assert!(broken == 0 || broken != me.global_tid(), "provoked");
}

static FILES: &[Attr] = &[attr("DIRECT", show).writable(store)];

fn show(out: &mut Text) -> Result<()> {
    writeln!(out, "Available crash types:").map_err(|_| Errno::ENOMEM)?;
    CRASHES.iter().try_for_each(|crash| writeln!(out, "{}", crash.name)).map_err(|_| Errno::ENOMEM)
}

fn store(data: &[u8]) -> Result<()> {
    let name = data.strip_suffix(b"\n").unwrap_or(data);
    let crash = CRASHES.iter().find(|crash| crash.name.as_bytes() == name).ok_or(Errno::EINVAL)?;
    log::info!("lkdtm: Performing direct entry {}", crash.name);
    (crash.run)();
    Ok(())
}

pub(super) fn init(top: &StaticDir) {
    top.mkdir_mode("provoke-crash", 0o755).add_attrs(FILES);
}
