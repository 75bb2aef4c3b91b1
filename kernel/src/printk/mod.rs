//! The kernel log: `dmesg(1)`, `/dev/kmsg`, `syslog(2)`, and what of it reaches the consoles.
//!
//! Every `log::info!` in any crate ends here. A record goes into the ring at once, under a lock
//! that interrupt handlers may take; records at or below the console log level are then written to
//! the consoles by whoever holds the console lock, so that writers never wait for a slow serial
//! line that another CPU is feeding.
//!
//! Levels are those of `syslog(2)`: 0 is an emergency, 7 is debugging.

use abi::Result;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use alloc::sync::Arc;
use alloc::vec::Vec;

use arch::sync::SpinLockIrq;
use drivers::console::Console;
use sched::wait::WaitQueue;

pub mod ratelimit;
pub mod ring;

use mm::fallible::{TryVec, try_with_capacity};
use ring::{Cursor, Header, Priority, Ring};

/// Bytes of log that are kept.
pub const LOG_BYTES: usize = 64 * 1024;
/// The level that messages without one get (`printk` column 2 of `/proc/sys/kernel/printk`).
pub const DEFAULT_MESSAGE_LEVEL: u8 = 4;
/// Text of one record that readers see at most.
pub const LONGEST: usize = Ring::<LOG_BYTES>::LONGEST;

static LOG: SpinLockIrq<Ring<LOG_BYTES>> = SpinLockIrq::new(Ring::new());
static READERS: WaitQueue = WaitQueue::new();
static CONSOLES: SpinLockIrq<Consoles> = SpinLockIrq::new(Consoles::new());
static PENDING: AtomicBool = AtomicBool::new(false);
static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(7);

struct Consoles {
    list: Vec<Arc<dyn Console>>,
    cursor: Option<Cursor>,
    early: bool,
}

impl Consoles {
    const fn new() -> Self {
        Self { list: Vec::new(), cursor: None, early: false }
    }

    fn emit(&self, bytes: &[u8]) {
        if self.early {
            arch::earlycon::put_bytes(bytes);
        }
        for console in &self.list {
            console.write(bytes);
        }
    }
}

/// Messages with a level below this one reach the consoles (`loglevel=`, `dmesg -n`).
pub fn console_level() -> u8 {
    CONSOLE_LEVEL.load(Ordering::Relaxed)
}

/// Sets the level from which on messages stay off the consoles.
pub fn set_console_level(level: u8) {
    CONSOLE_LEVEL.store(level, Ordering::Relaxed);
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, entry: &log::Record<'_>) {
        let level = match entry.level() {
            log::Level::Error => 3,
            log::Level::Warn => 4,
            log::Level::Info => 6,
            log::Level::Debug | log::Level::Trace => 7,
        };
        let mut line = Line::<LONGEST>::new();
        // `write_str` of a line cannot fail.
        let _ = line.write_fmt(*entry.args());
        record(Priority::kernel(level), line.as_bytes());
    }

    fn flush(&self) {}
}

/// Becomes the destination of the `log` macros.
pub fn init() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}

/// A panic: everything is shown from now on, on the boot console if there is no other.
pub fn show_everything() {
    set_console_level(15);
    if let Some(mut consoles) = CONSOLES.try_lock()
        && consoles.list.is_empty()
        && arch::earlycon::setup(None)
    {
        consoles.early = true;
    }
}

/// Shows the log on the boot console until a real one comes (`earlycon`).
pub fn enable_early_console() {
    CONSOLES.lock().early = true;
}

/// Adds a console, which gets everything logged so far unless the boot console showed it already.
pub fn register_console(console: Arc<dyn Console>) {
    let mut consoles = CONSOLES.lock();
    let shown = core::mem::take(&mut consoles.early);
    if consoles.list.try_reserve(1).is_err() {
        return;
    }
    if !shown && consoles.list.is_empty() {
        consoles.cursor = None;
    }
    consoles.list.push_reserved(console);
    drop(consoles);
    flush();
}

/// The consoles, the one behind `/dev/console` first.
///
/// # Errors
/// `ENOMEM`.
pub fn consoles() -> Result<Vec<Arc<dyn Console>>> {
    let preferred = drivers::tty::devices::console().map(|tty| tty.name());
    // More than this there never are; the list is copied under a lock that keeps interrupts off.
    let mut list = try_with_capacity(16)?;
    list.try_extend(CONSOLES.lock().list.iter().rev().take(16).cloned())?;
    list.sort_by_key(|console| preferred.as_deref() != Some(console.name()));
    Ok(list)
}

/// Appends a record and shows it on the consoles.
pub fn record(priority: Priority, text: &[u8]) {
    LOG.lock().push(priority, sched::time::monotonic_ns(), text);
    PENDING.store(true, Ordering::Release);
    flush();
    if READERS.has_waiters() && arch::irq::enabled() && arch::preempt::count() == 0 {
        READERS.wake_all();
    }
}

/// Writes what the consoles have not shown yet, unless another CPU is doing so.
pub fn flush() {
    // Whoever finds the lock taken leaves its record to the holder, who looks again after unlocking.
    while PENDING.load(Ordering::Acquire) {
        let Some(mut consoles) = CONSOLES.try_lock() else { return };
        PENDING.store(false, Ordering::Relaxed);
        if consoles.list.is_empty() && !consoles.early {
            return;
        }
        let mut cursor = consoles.cursor.unwrap_or_else(|| LOG.lock().oldest());
        let mut text = [0; LONGEST];
        loop {
            let Some(header) = LOG.lock().read(&mut cursor, &mut text) else { break };
            consoles.cursor = Some(cursor);
            if header.priority.level() >= console_level() {
                continue;
            }
            consoles.emit(Line::prefix(&header).as_bytes());
            consoles.emit(text.get(..header.len).unwrap_or_default());
            consoles.emit(b"\n");
        }
        consoles.cursor = Some(cursor);
    }
}

/// The place of the oldest record that is kept.
pub fn oldest() -> Cursor {
    LOG.lock().oldest()
}

/// The place after the newest record.
pub fn newest() -> Cursor {
    LOG.lock().end()
}

/// How many records a reader at `cursor` has missed.
pub fn lost(cursor: Cursor) -> u64 {
    LOG.lock().lost(cursor)
}

/// Reads the next record; see [`Ring::read`].
pub fn read(cursor: &mut Cursor, text: &mut [u8]) -> Option<Header> {
    LOG.lock().read(cursor, text)
}

/// Looks at the next record without moving on.
pub fn peek(cursor: &mut Cursor) -> Option<Header> {
    LOG.lock().peek(cursor)
}

/// Where readers wait for new records.
pub fn readers() -> &'static WaitQueue {
    &READERS
}

/// A line under construction on the stack; what does not fit is cut off.
struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Line<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Line<64> {
    /// The `[    1.234567] ` in front of a record.
    fn prefix(header: &Header) -> Self {
        let mut line = Self::new();
        let micros = header.time_ns / 1000;
        // `write_str` below cannot fail.
        let _ = write!(line, "[{:5}.{:06}] ", micros / 1_000_000, micros % 1_000_000);
        line
    }
}

impl<const N: usize> Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (slot, &byte) in self.bytes[self.len..].iter_mut().zip(text.as_bytes()) {
            *slot = byte;
            self.len += 1;
        }
        Ok(())
    }
}
