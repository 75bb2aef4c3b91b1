//! Requests to a system that does not answer any more: `Documentation/admin-guide/sysrq.rst` of Linux.
//!
//! A letter written to `/proc/sysrq-trigger` is a request. Those are here whose mechanism is.

use crate::oops::die;
use crate::process::{Process, init_pid_ns};
use crate::signal::{Signal, send};
use abi::Result;
use alloc::sync::Arc;
use arch::cpu::CpuMask;
use arch::power;
use core::sync::atomic::{AtomicI32, Ordering};
use kernfs::{Attr, Text, attr};
use sched::{State, Task};

/// `kernel.sysrq`: which requests a keyboard may make; 1 all, 0 none, otherwise a mask. What is written to the file is never refused.
static ENABLED: AtomicI32 = AtomicI32::new(DEFAULT);
/// Debian's: no signals to processes, no dumps of memory.
const DEFAULT: i32 = 0x1b6;

pub(crate) const SYSCTLS: &[Attr] = &[attr("sysrq", |out| {
    use core::fmt::Write;
    writeln!(out, "{}", ENABLED.load(Ordering::Relaxed)).map_err(|_| abi::Errno::ENOMEM)
})
.writable(|data| {
    ENABLED.store(crate::procfs::sysctl::parse(data, 0..=i32::MAX)?, Ordering::Relaxed);
    Ok(())
})];

/// `/proc/sysrq-trigger`.
pub(crate) const TRIGGER: Attr =
    attr("sysrq-trigger", |_: &mut Text| Err(abi::Errno::EIO)).writable(store).mode(0o200);

/// The first letter counts; after `_` all do.
fn store(data: &[u8]) -> Result<()> {
    let letters = match data {
        [b'_', letters @ ..] => letters,
        _ => data.get(..1).unwrap_or_default(),
    };
    for letter in letters.iter().filter(|letter| !letter.is_ascii_whitespace()) {
        request(*letter);
    }
    Ok(())
}

/// What a request does.
struct Request {
    letter: u8,
    /// In the list of requests.
    help: &'static str,
    /// Said when it is made.
    says: &'static str,
    run: fn(),
}

const fn row(letter: u8, help: &'static str, says: &'static str, run: fn()) -> Request {
    Request { letter, help, says, run }
}

const REQUESTS: &[Request] = &[
    row(b'b', "reboot(b)", "Resetting", || power::reboot(power::Mode::Auto)),
    row(b'c', "crash(c)", "Trigger a crash", || die(format_args!("sysrq triggered crash"), None)),
    row(b'e', "terminate-all-tasks(e)", "Terminate All Tasks", || signal_all(Signal::SIGTERM)),
    row(b'f', "memory-full-oom-kill(f)", "Manual OOM execution", out_of_memory),
    row(b'i', "kill-all-tasks(i)", "Kill All Tasks", || signal_all(Signal::SIGKILL)),
    row(b'l', "show-backtrace-all-active-cpus(l)", "Show backtrace of all active CPUs", show_cpus),
    row(b'm', "show-memory-usage(m)", "Show Memory", show_memory),
    row(b'o', "poweroff(o)", "Power Off", power::poweroff),
    row(b's', "sync(s)", "Emergency Sync", sync),
    row(b't', "show-task-states(t)", "Show State", || show_tasks(|_| true)),
    row(b'w', "show-blocked-tasks(w)", "Show Blocked State", || show_tasks(is_blocked)),
];

/// Makes a request.
pub fn request(letter: u8) {
    if letter.is_ascii_digit() {
        log::info!("sysrq: Changing Loglevel");
        let level = letter - b'0';
        crate::printk::set_console_level(level.max(1));
        log::info!("Loglevel set to {level}");
        return;
    }
    match REQUESTS.iter().find(|request| request.letter == letter) {
        Some(request) => {
            log::info!("sysrq: {}", request.says);
            (request.run)();
        }
        None => {
            log::info!("sysrq: HELP : loglevel(0-9) {}", Help);
        }
    }
}

struct Help;

impl core::fmt::Display for Help {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        REQUESTS.iter().try_for_each(|request| write!(f, "{} ", request.help))
    }
}

/// Everybody but init and the kernel's own threads.
fn signal_all(signal: Signal) {
    for process in init_pid_ns().processes() {
        let spared = process.unkillable.load(Ordering::Relaxed)
            || process.with_thread(|task, _| task.is_kthread()).unwrap_or(true);
        if spared {
            continue;
        }
        if signal == Signal::SIGKILL {
            send::kill_process(&process);
        } else {
            send::kernel_signal(&process, signal);
        }
    }
}

fn out_of_memory() {
    if !mm::oom::kill_worst() {
        log::info!("OOM request ignored. No task eligible");
    }
}

fn sync() {
    vfs::super_block::sync_all();
    log::info!("Emergency Sync complete");
}

/// What every CPU is doing, one after the other.
fn show_cpus() {
    for cpu in arch::cpu::online().iter() {
        arch::smp::call_on(CpuMask::of(cpu), |_| crate::oops::here(), 0);
    }
}

fn show_memory() {
    let memory = mm::stats::meminfo();
    let kib = |pages: usize| pages * (arch::addr::PAGE_SIZE / 1024);
    log::info!("Mem-Info:");
    log::info!("{} kB total, {} kB free", kib(memory.total), kib(memory.free));
    // A zone is a block of lines.
    let _ = mm::report::zoneinfo(&mut Lines::default());
}

/// Writes to the log, a line at a time.
#[derive(Default)]
struct Lines {
    line: LineBuffer,
}

struct LineBuffer {
    bytes: [u8; 160],
    len: usize,
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self { bytes: [0; 160], len: 0 }
    }
}

impl core::fmt::Write for Lines {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                let text =
                    self.line.bytes.get(..self.line.len).and_then(|text| core::str::from_utf8(text).ok());
                log::info!("{}", text.unwrap_or_default());
                self.line.len = 0;
            } else if let Some(slot) = self.line.bytes.get_mut(self.line.len) {
                *slot = byte;
                self.line.len += 1;
            }
        }
        Ok(())
    }
}

fn is_blocked(task: &Task) -> bool {
    let state = task.state();
    state.contains(State::UNINTERRUPTIBLE) && !state.contains(State::NOLOAD)
}

fn show_tasks(wanted: fn(&Task) -> bool) {
    for process in init_pid_ns().processes() {
        show_threads(&process, wanted);
        sched::cond_resched();
    }
}

fn show_threads(process: &Arc<Process>, wanted: fn(&Task) -> bool) {
    for task in process.threads() {
        if wanted(&task) {
            crate::watchdog::hung_task::show(process, &task);
        }
    }
}
