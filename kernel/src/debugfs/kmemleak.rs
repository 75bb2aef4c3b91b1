//! `kmemleak`: memory that nobody can reach any more. `Documentation/dev-tools/kmemleak.rst`. How it is found is [`mm::kmemleak`]'s.
//!
//! Reading shows what is suspected. Writing: `scan` searches now; `scan=on`, `scan=SECONDS` and `scan=off` set the thread that searches
//! every so often, which does not run unless it is asked to; `clear` forgets what is suspected; `dump=ADDRESS` logs what is known of a block;
//! `off` ends it all. With `kmemleak=on` on the command line only.

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use alloc::sync::Arc;
use kernfs::{Attr, StaticDir, Text, attr};
use mm::kmemleak::{self, Object};
use sched::mutex::Mutex;
use sched::{Deadline, State, Task};

/// Seconds between two searches of the thread, as on Linux.
const SCAN_SECONDS: u64 = 600;
/// What of a block is shown.
const DUMP_BYTES: usize = 32;

/// Seconds between two searches; 0 for none.
static PERIOD: AtomicU64 = AtomicU64::new(0);
static THREAD: Mutex<Option<Arc<Task>>> = Mutex::new(None);

fn io(result: core::fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

fn show(out: &mut Text) -> Result<()> {
    if !kmemleak::is_on() {
        return Err(Errno::EPERM);
    }
    let mut result = Ok(());
    kmemleak::for_each_suspect(|object| {
        result = io(describe(object, out));
        result.is_ok()
    });
    result
}

/// The name before the first NUL.
fn name_of(object: &Object) -> &str {
    let name = object.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    core::str::from_utf8(name).unwrap_or("?")
}

fn describe(object: &Object, out: &mut dyn Write) -> core::fmt::Result {
    writeln!(out, "unreferenced object {:#x} (size {}):", object.addr, object.size)?;
    writeln!(out, "  comm \"{}\", pid {}, jiffies {}", name_of(object), object.pid, object.jiffies)?;
    let shown = DUMP_BYTES.min(object.size as usize);
    writeln!(out, "  hex dump (first {shown} bytes):")?;
    let mut bytes = [0_u8; DUMP_BYTES];
    for (to, word) in bytes.chunks_exact_mut(8).zip(object.words()) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    for line in bytes.get(..shown).unwrap_or_default().chunks(16) {
        out.write_str("    ")?;
        line.iter().try_for_each(|byte| write!(out, "{byte:02x} "))?;
        out.write_str(" ")?;
        for byte in line {
            out.write_char(if byte.is_ascii_graphic() { char::from(*byte) } else { '.' })?;
        }
        out.write_char('\n')?;
    }
    writeln!(out, "  backtrace (crc {:x}):", object.crc)?;
    for address in object.trace.iter().take_while(|address| **address != 0) {
        writeln!(out, "    [<{address:#x}>] {}", arch::symbols::At(*address))?;
    }
    Ok(())
}

/// Writes lines into the log.
struct Log;

impl Write for Log {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.lines().filter(|line| !line.trim().is_empty()).for_each(|line| log::info!("kmemleak: {line}"));
        Ok(())
    }
}

fn dump(text: &str) -> Result<()> {
    let digits = text.strip_prefix("0x").ok_or(Errno::EINVAL)?;
    let addr = usize::from_str_radix(digits, 16).map_err(|_| Errno::EINVAL)?;
    let Some(object) = kmemleak::holding(addr) else {
        log::info!("kmemleak: Unknown object at {addr:#x}");
        return Err(Errno::EINVAL);
    };
    let mut text = Text::new();
    io(describe(&object, &mut text))?;
    io(Log.write_str(core::str::from_utf8(text.as_bytes()).unwrap_or_default()))
}

fn store(data: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim_end_matches(['\n', '\0']);
    if !kmemleak::is_on() {
        return if text == "clear" { Ok(()) } else { Err(Errno::EPERM) };
    }
    match text {
        "off" => {
            set_period(0)?;
            kmemleak::switch_off();
        }
        "scan" => drop(kmemleak::scan().ok_or(Errno::ENOMEM)?),
        "clear" => kmemleak::clear(),
        "scan=on" => set_period(SCAN_SECONDS)?,
        "scan=off" => set_period(0)?,
        // Stacks are always searched.
        "stack=on" => {}
        _ => match text.split_once('=') {
            Some(("scan", seconds)) => set_period(seconds.parse().map_err(|_| Errno::EINVAL)?)?,
            Some(("dump", addr)) => dump(addr)?,
            _ => return Err(Errno::EINVAL),
        },
    }
    Ok(())
}

fn set_period(seconds: u64) -> Result<()> {
    let mut thread = THREAD.lock();
    PERIOD.store(seconds, Ordering::Relaxed);
    match &*thread {
        Some(task) => drop(sched::wake_up(task)),
        None if seconds > 0 => *thread = Some(sched::kthread::spawn("kmemleak", run)?),
        None => {}
    }
    Ok(())
}

/// Searches every so often, for ever.
fn run() {
    loop {
        let period = PERIOD.load(Ordering::Relaxed);
        let ns =
            if period == 0 { u64::MAX / 4 } else { period.saturating_mul(1_000_000_000).min(u64::MAX / 4) };
        let left = sched::sleep_until(Deadline::after_ns(ns), State::IDLE);
        if left == 0 && period != 0 && kmemleak::is_on() {
            // Without memory it is tried the next time.
            let _ = kmemleak::scan();
        }
    }
}

static FILES: &[Attr] = &[attr("kmemleak", show).writable(store).mode(0o644)];

pub(super) fn init(top: &StaticDir) {
    top.add_attrs(FILES);
}
