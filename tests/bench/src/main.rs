//! Counts what kernel operations cost in guest instructions.
//!
//! Runs as /init of a guest on one CPU, or on two or four for [`scaling`], under `-icount shift=0,sleep=off`, prints
//! `init <instructions since the machine started>`, then `row <name> <instructions per operation>`
//! for each row, `end`, and powers off. The variable `bench_rows` (a kernel command line word)
//! names the rows to run. Nothing here knows which kernel it runs on.

mod asynchronous;
mod files;
mod ipc;
mod measure;
mod memory;
mod messages;
mod process;
mod scaling;
mod seccomp;
mod sys;

use measure::Rows;
use sys::{call, must};

/// The argument with which the program does nothing but end.
const EXIT: &str = "--exit";

fn main() {
    let start = sys::now();
    if std::env::args().nth(1).as_deref() == Some(EXIT) {
        return;
    }
    println!("init {}", measure::since_start(start).as_nanos());
    let path = c"/tmp";
    // The archive may have the directory already.
    call!(SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), 0o777);
    must!(SYS_mount, c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, 0);
    let rows = Rows::new(&std::env::var("bench_rows").unwrap_or_default());
    // On several CPUs it is about what they cost each other.
    match std::thread::available_parallelism().map_or(1, |count| count.get() as u32) {
        1 => alone(&rows),
        cpus => scaling::run(&rows, cpus),
    }
    println!("end");
    if std::process::id() == 1 {
        let (one, two) = (libc::LINUX_REBOOT_MAGIC1 as u32, libc::LINUX_REBOOT_MAGIC2 as u32);
        call!(SYS_reboot, one, two, libc::LINUX_REBOOT_CMD_POWER_OFF as u32, 0);
    }
}

/// The rows of one CPU.
fn alone(rows: &Rows) {
    rows.each("null", || {
        call!(SYS_getppid);
    });
    seccomp::run(rows);
    files::run(rows);
    asynchronous::run(rows);
    ipc::run(rows);
    messages::run(rows);
    process::run(rows);
    memory::run(rows);
}
