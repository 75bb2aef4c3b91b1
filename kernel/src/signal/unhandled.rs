//! The line in the log that tells of a program which a fault is about to kill, and the sysctl that switches it:
//! `debug.exception-trace` (`Documentation/admin-guide/sysctl/` of Linux; on by default on x86 only).
//!
//! What it says is the architecture's: [`arch::unhandled`].
//!
//! Programs cannot make it anything but an ordinary line of the log, nor many of them: the file name is cut where a
//! control character stands, and the lines are counted.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, Ordering};

use arch::trap::{Exception, TrapFrame, Victim, Weight};

use super::Signal;
use super::action::{SIG_DFL, SIG_IGN};
use crate::printk::ratelimit::RateLimit;
use crate::process::{CurrentThread, current};

/// `debug.exception-trace`.
pub static EXCEPTION_TRACE: AtomicI32 = AtomicI32::new(arch::uapi::EXCEPTION_TRACE);

static LIMIT: RateLimit = RateLimit::new();

/// Tells of an access to memory that is not there, if nobody handles its signal.
pub fn page_fault(frame: &TrapFrame, signal: Signal, addr: usize, error_code: u64) {
    if wanted(signal) {
        with_victim(frame, |victim| arch::unhandled::page_fault(victim, frame, addr, error_code, &mut write));
    }
}

/// Tells of another exception, if nobody handles its signal.
pub fn exception(frame: &TrapFrame, signal: Signal, exception: &Exception) {
    if arch::unhandled::tells(exception) && wanted(signal) {
        with_victim(frame, |victim| arch::unhandled::exception(victim, frame, exception, &mut write));
    }
}

fn write(weight: Weight, line: fmt::Arguments<'_>) {
    match weight {
        Weight::Info => log::info!("{line}"),
        Weight::Warning => log::warn!("{line}"),
    }
}

fn with_victim(frame: &TrapFrame, tell: impl FnOnce(&Victim<'_>)) {
    let me = current();
    tell(&Victim {
        name: &me.task().comm(),
        tid: me.global_tid(),
        place: &Place { me: &me, ip: frame.ip() },
        context: &Context(&me),
    });
}

/// `CPU: N UID: N PID: N Comm: NAME Not tainted RELEASE VERSION`
struct Context<'a>(&'a CurrentThread);

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (me, cpu) = (self.0, arch::cpu::current().0);
        let uid = me.with_cred(|cred| cred.uid.0);
        write!(f, "CPU: {cpu} UID: {uid} PID: {} Comm: {} ", me.global_tid(), me.task().comm())?;
        match crate::oops::TAINTED.load(Ordering::Relaxed) {
            0 => write!(f, "Not tainted")?,
            bits => write!(f, "Tainted: {bits:#x}")?,
        }
        write!(f, " {} {}", crate::version::RELEASE, crate::version::VERSION)
    }
}

/// Whether `signal` of the running thread is to be told of: nobody handles it and no debugger sees it.
fn wanted(signal: Signal) -> bool {
    if EXCEPTION_TRACE.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let me = current();
    if me.process.pid.global() != 1 {
        let handler = me.process.sig.lock().sighand.get(signal).handler;
        if (handler != SIG_DFL && handler != SIG_IGN) || me.trace.is_traced() || me.task().has_fatal_signal()
        {
            return false;
        }
    }
    LIMIT.allows()
}

/// The file that is mapped at an address: ` in NAME[OFFSET,START+SIZE]`, or nothing.
struct Place<'a> {
    me: &'a CurrentThread,
    ip: usize,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mm) = self.me.mm() else { return Ok(()) };
        let (mut name, mut place) = (LastName::default(), None);
        mm.for_each_area(self.ip, &mut |area| {
            let range = area.range();
            if range.contains(&self.ip) && area.kind() == mm::query::AreaKind::File {
                // A name that does not fit is shown as far as it does.
                let _ = area.write_name(&mut name);
                place = Some((self.ip - range.start + area.offset() as usize, range));
            }
            false
        });
        match place {
            Some((offset, range)) => {
                write!(f, " in {}[{offset:x},{:x}+{:x}]", name.text(), range.start, range.end - range.start)
            }
            None => Ok(()),
        }
    }
}

/// Keeps what is written after the last slash.
struct LastName {
    bytes: [u8; 64],
    len: usize,
}

impl Default for LastName {
    fn default() -> Self {
        Self { bytes: [0; 64], len: 0 }
    }
}

impl LastName {
    fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or(&[]);
        let end = bytes.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(bytes.len());
        core::str::from_utf8(bytes.get(..end).unwrap_or(&[])).unwrap_or("")
    }
}

impl Write for LastName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if byte == b'/' {
                self.len = 0;
            } else if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_names() {
        let mut name = LastName::default();
        name.write_str("/usr/lib/libc").unwrap();
        name.write_str(".so.6 (deleted)").unwrap();
        assert_eq!(name.text(), "libc.so.6");
        name.write_str("/").unwrap();
        name.write_str(&"x".repeat(100)).unwrap();
        assert_eq!(name.text().len(), 64);
    }
}
