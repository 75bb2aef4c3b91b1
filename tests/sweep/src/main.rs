//! Makes each allocation of the kernel fail, one at a time.
//!
//! Runs as /init of a guest with a kernel that injects failures (`fail-nth`, see `Documentation/fault-injection`). For each workload of
//! [`work`] and for n = 1, 2, 3 … a child process runs the workload with the n-th allocation failing, until the workload ends before it
//! gets that far. Each call must succeed or fail with an error that a lack of memory may have; the kernel must not stop,
//! hang, or lose memory.
//!
//! Words of the kernel command line: `sweep_only` (part of the names of the workloads to run), `sweep_from` (first n); `sweep_crash`: runs
//! [`crash`] instead.

mod crash;
mod sys;
mod work;

use std::time::{Duration, Instant};

/// After this long a child hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// More points than this no workload has.
const MOST: u32 = 4000;
/// Bytes that may be in use after a workload and were not before: caches that have grown.
const SLACK_KIB: i64 = 512;

/// How a child ended.
enum Ended {
    /// The allocation was not reached.
    Beyond,
    /// It was, and the result is a proper one.
    Reached,
    /// Something else.
    Wrong(String),
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("executed") {
        sys::after_exec();
    }
    let only = std::env::var("sweep_only").unwrap_or_default();
    let from = std::env::var("sweep_from").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    sys::mount_system();
    if std::env::var_os("sweep_crash").is_some() {
        crash::run();
    }
    let (mut points, mut workloads, mut failures) = (0, 0, 0);
    if let Err(why) = sys::prepare() {
        println!("sweep: {why}");
        failures = 1;
    } else {
        for workload in work::ALL.iter().filter(|w| w.name.contains(&only)) {
            let (reached, wrong) = sweep(workload, from);
            workloads += 1;
            points += reached;
            failures += wrong;
        }
    }
    println!("sweep: end, {workloads} workloads, {points} injection points, {failures} failures");
    sys::power_off();
}

/// All points of one workload: how many there are, and how many went wrong.
fn sweep(workload: &work::Workload, from: u32) -> (u32, usize) {
    let start = Instant::now();
    // Twice without a failure: caches fill.
    for _ in 0..2 {
        if let Ended::Wrong(why) = run(workload, 0) {
            println!("sweep: {}: without failures: {why}", workload.name);
            return (0, 1);
        }
    }
    let before = sys::in_use_kib();
    let numbers = sys::numbers();
    let (mut reached, mut wrong) = (0, 0);
    for n in from..MOST {
        match run(workload, n) {
            Ended::Beyond => break,
            Ended::Reached => reached += 1,
            Ended::Wrong(why) => {
                println!("sweep: {} n={n}: {why}", workload.name);
                reached += 1;
                wrong += 1;
                if wrong > 10 {
                    break;
                }
            }
        }
    }
    let lost = sys::in_use_kib() - before;
    if lost > SLACK_KIB {
        println!("sweep: {}: {lost} KiB lost", workload.name);
        for ((name, old), (_, new)) in numbers.iter().zip(sys::numbers()) {
            if (new - old).abs() > 100 {
                println!("sweep:    {name} {old} -> {new} KiB");
            }
        }
        wrong += 1;
    }
    println!(
        "sweep: {:<24} {reached:>5} points {:>6} ms {lost:>5} KiB",
        workload.name,
        start.elapsed().as_millis()
    );
    (reached, wrong)
}

/// Runs the workload in a child, with the n-th allocation failing (none for 0).
fn run(workload: &work::Workload, n: u32) -> Ended {
    let report = sys::Report::new();
    let child = sys::fork();
    if child == 0 {
        sys::in_child(workload, n, &report);
    }
    let mut status = 0;
    let start = Instant::now();
    loop {
        match sys::try_wait(child, &mut status) {
            true => break,
            false if start.elapsed() > PATIENCE => {
                sys::show_stuck(child);
                return Ended::Wrong("hangs".into());
            }
            false => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    sys::reap();
    let executed = libc::WIFEXITED(status) && report.is_silent();
    let reached = report.reached() || executed && libc::WEXITSTATUS(status) != sys::BEYOND;
    let ended = if reached || n == 0 { Ended::Reached } else { Ended::Beyond };
    if let Some(signal) = sys::signal_of(status) {
        // Past the point of no return an exec that fails kills.
        return if n != 0 && workload.may_die {
            Ended::Reached
        } else {
            Ended::Wrong(format!("signal {signal}"))
        };
    }
    match report.error() {
        0 => ended,
        error if n != 0 && reached && work::is_for_lack_of_memory(error) => ended,
        error => Ended::Wrong(format!("step {}: error {error}", report.step())),
    }
}
