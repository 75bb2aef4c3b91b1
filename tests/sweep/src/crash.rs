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

/// Sets a number of `/proc/sys/kernel`.
fn set(name: &str, value: &str) {
    let _ = std::fs::write(format!("/proc/sys/kernel/{name}"), value);
}

/// Starts a child that writes `what` and is not expected to come back, on the CPU `cpu`.
fn start(what: &str, cpu: usize) -> libc::pid_t {
    let child = sys::fork();
    if child == 0 {
        pin(cpu);
        let code = i32::from(std::fs::write(DIRECT, what).is_err());
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) }
    }
    child
}

/// Keeps the calling process on one CPU.
fn pin(cpu: usize) {
    let bits = 1_u64 << cpu;
    // SAFETY: eight bytes of a set of CPUs.
    unsafe { libc::sched_setaffinity(0, 8, (&raw const bits).cast()) };
}

/// Whether the kernel's log says `text` before so many seconds are over.
fn logged(text: &str, seconds: u64) -> bool {
    /// `SYSLOG_ACTION_READ_ALL`.
    const READ_ALL: i32 = 3;
    let mut log = vec![0_u8; 1 << 20];
    for _ in 0..seconds * 5 {
        // SAFETY: the length is that of the buffer.
        let got = unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), log.len() as i32) };
        let got = log.get(..usize::try_from(got).unwrap_or(0)).unwrap_or_default();
        if String::from_utf8_lossy(got).contains(text) {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    false
}

/// Whether `kmemleak` tells of the blocks that `LEAK` loses, and of nothing once that is cleared.
fn finds_a_leak() -> (bool, bool) {
    const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
    let write = |word: &str| std::fs::write(KMEMLEAK, word).is_ok();
    let read = || std::fs::read_to_string(KMEMLEAK).unwrap_or_default();
    provoke("LEAK");
    // Others first.
    write("scan");
    std::thread::sleep(std::time::Duration::from_secs(6));
    write("scan");
    write("scan");
    let found = read();
    let told = found.contains("unreferenced object 0x")
        && found.contains("(size 256):")
        && found.contains("provoke")
        && found.contains("backtrace (crc ");
    // An old stack may seem to know of one or the other.
    let told = told && (6..=10).contains(&found.matches("unreferenced object").count());
    if !told {
        println!("{found}");
    }
    write("clear");
    write("scan");
    (told, read().is_empty())
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
    let (found, cleared) = finds_a_leak();
    check("lost memory is found", found);
    check("once only", cleared);
    pin(0);
    set("hung_task_timeout_secs", "1");
    let hung = start("HUNG_TASK", 1);
    let message = format!(":{hung} blocked for more than 1 seconds.");
    check("a hung task is reported", logged(&message, 15));
    set("hung_task_timeout_secs", "0");
    check("a warning kills nobody", provoke("WARNING").is_none());
    check("it is counted", number("/sys/kernel/warn_count") == 1);
    check("and remembered", number("/proc/sys/kernel/tainted") == 1 << 9);
    for (count, what) in (1..).zip(["BUG", "EXCEPTION", "BUG"]) {
        check(&format!("{what} kills who did it"), provoke(what) == Some(libc::SIGKILL));
        check("it is counted", number("/sys/kernel/oops_count") == count);
    }
    check("and remembered", number("/proc/sys/kernel/tainted") == 1 << 9 | 1 << 7);
    // Who fails on the way out does not try for ever.
    let before = number("/sys/kernel/oops_count");
    start("EXIT_BUG", 1);
    check("an oops in exit ends there", logged("Fixing recursive fault but reboot is needed!", 10));
    check("and is one", number("/sys/kernel/oops_count") == before + 1);
    // A loop in the kernel does not hold up others.
    let looping = sys::fork();
    if looping == 0 {
        pin(1);
        let _ = std::fs::write(DIRECT, "LOOP");
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    check("a loop in the kernel can be preempted", provoke("WARNING").is_none());
    set("watchdog_thresh", "1");
    let stuck = start("SOFTLOCKUP", 1);
    check("a soft lockup is reported", logged("watchdog: BUG: soft lockup - CPU#1 stuck for ", 20));
    check("with who it is", logged(&format!(":{stuck}]"), 1));
    check("and remembered", number("/proc/sys/kernel/tainted") & 1 << 14 != 0);
    set("watchdog_thresh", "0");
    check(
        "a grace period that does not end is reported",
        logged("rcu: INFO: rcu_preempt detected stalls", 60),
    );
    check("no lock was misused in all this", !logged("lockdep: ", 1));
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
