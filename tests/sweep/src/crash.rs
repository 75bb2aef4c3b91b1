//! Breaks the kernel on purpose (debugfs `provoke-crash`) and sees that only the task that did it is gone.

use crate::sys;
use std::path::Path;

const DIRECT: &str = "/sys/kernel/debug/provoke-crash/DIRECT";

fn number(path: &str) -> u64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX)
}

/// The signal that ends a child which writes `what`; `None` if it lives on.
fn provoke(what: &str) -> Option<i32> {
    let child = sys::fork();
    if child == 0 {
        let code = i32::from(std::fs::write(DIRECT, what).is_err());
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    while !sys::try_wait(child, &mut status) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    sys::signal_of(status)
}

/// All but the end of the machine; then that.
pub fn run() -> ! {
    let mut failures = 0;
    let mut check = |what: &str, right: bool| {
        println!("crash: {what}: {}", if right { "ok" } else { "FAIL" });
        failures += usize::from(!right);
    };
    check("there is provoke-crash", Path::new(DIRECT).exists());
    check("an unknown crash is an error", std::fs::write(DIRECT, "NONE").is_err());
    check("nothing has happened", number("/proc/sys/kernel/tainted") == 0);
    check("a warning kills nobody", provoke("WARNING").is_none());
    check("it is counted", number("/sys/kernel/warn_count") == 1);
    check("and remembered", number("/proc/sys/kernel/tainted") == 1 << 9);
    for (count, what) in (1..).zip(["BUG", "EXCEPTION", "BUG"]) {
        check(&format!("{what} kills who did it"), provoke(what) == Some(libc::SIGKILL));
        check("it is counted", number("/sys/kernel/oops_count") == count);
    }
    check("and remembered", number("/proc/sys/kernel/tainted") == 1 << 9 | 1 << 7);
    // A loop in the kernel does not hold up others.
    let looping = sys::fork();
    if looping == 0 {
        let _ = std::fs::write(DIRECT, "LOOP");
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    check("a loop in the kernel can be preempted", provoke("WARNING").is_none());
    println!("crash: end, {failures} failures");
    let last = if std::env::var("sweep_crash").is_ok_and(|text| text == "oops") {
        let _ = std::fs::write("/proc/sys/kernel/panic_on_oops", "1");
        "BUG"
    } else {
        "PANIC"
    };
    provoke(last);
    println!("crash: the machine lives");
    sys::power_off()
}
