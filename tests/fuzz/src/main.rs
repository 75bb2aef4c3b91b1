//! Makes random system calls, to find what a program can do to the kernel.
//!
//! Runs as /init of a guest. A *program* is a seed: its processes, threads, calls and arguments follow from it, so
//! that one seed repeats what one program tried (the interleaving of its threads excepted). [`supervise`] runs
//! programs side by side, each in pid, mount, ipc and uts namespaces of its own, kills those that do not end, and notices those
//! that cannot be killed. [`program`] is what runs inside; [`table`] says what the calls take; [`args`] makes it;
//! [`recipe`] makes calls that belong together.
//!
//! Words of the kernel command line: `fuzz_seed`, `fuzz_seconds`, `fuzz_programs` (at most), `fuzz_workers` (side by
//! side), `fuzz_user` (run as this user; 0 is root), `fuzz_calls` (only calls whose name contains this).
//!
//! Nothing here knows which kernel it runs on.

mod args;
mod program;
mod recipe;
mod rng;
mod supervise;
mod table;

use std::time::Duration;

fn main() {
    let number = |name: &str, default: u64| -> u64 {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let settings = supervise::Settings {
        seed: number("fuzz_seed", 1),
        time: Duration::from_secs(number("fuzz_seconds", 20)),
        programs: number("fuzz_programs", u64::MAX),
        workers: number("fuzz_workers", 4) as usize,
        user: number("fuzz_user", 0) as u32,
        calls: std::env::var("fuzz_calls").unwrap_or_default(),
    };
    supervise::mount_system();
    let failures = supervise::run(&settings);
    println!("fuzz: end, {failures} failures");
    if std::process::id() == 1 {
        // SAFETY: no memory is involved.
        unsafe { libc::reboot(libc::RB_POWER_OFF) };
    }
    std::process::exit(i32::from(failures > 0));
}
