//! The line in the log that tells of a program which a fault is about to kill, and the sysctl that switches it:
//! `debug.exception-trace` (`Documentation/admin-guide/sysctl/` of Linux; on by default on x86 only).
//!
//! ```text
//! comm[pid]: segfault at ADDRESS ip IP sp SP error CODE in FILE[OFFSET,START+SIZE] likely on CPU N (core N, socket 0)
//! Code: the bytes around IP
//! ```
//!
//! Programs cannot make it anything but an ordinary line of the log, nor many of them: the file name is cut where a
//! control character stands, and the lines are counted.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, Ordering};

use arch::trap::{Exception, ExceptionKind, TrapFrame};

use super::Signal;
use super::action::{SIG_DFL, SIG_IGN};
use crate::printk::ratelimit::RateLimit;
use crate::process::{CurrentThread, current};

/// `debug.exception-trace`.
pub static EXCEPTION_TRACE: AtomicI32 = AtomicI32::new(arch::uapi::EXCEPTION_TRACE);

static LIMIT: RateLimit = RateLimit::new();

/// Bytes of code shown before the instruction, and with it.
const BEFORE: usize = 42;
const SHOWN: usize = 64;

/// Tells of an access to memory that is not there, if nobody handles its `SIGSEGV`.
pub fn page_fault(frame: &TrapFrame, addr: usize, error_code: u64) {
    if !wanted(Signal::SIGSEGV) {
        return;
    }
    let (me, ip) = (current(), frame.ip());
    let cpu = arch::cpu::current().0;
    log::info!(
        "{}[{}]: segfault at {addr:x} ip {ip:016x} sp {:016x} error {error_code:x}{} likely on CPU {cpu} (core {cpu}, socket 0)",
        me.task().comm(),
        me.global_tid(),
        frame.sp(),
        Place { me: &me, ip },
    );
    let mut code = [0; SHOWN];
    let start = ip.wrapping_sub(BEFORE);
    match mm::user::copy_from_user(&mut code, start) {
        Ok(()) => log::info!("Code: {}", Bytes(&code)),
        Err(_) => log::info!("Code: Unable to access opcode bytes at {start:#x}."),
    }
}

/// Tells of another exception, if nobody handles its signal.
pub fn exception(frame: &TrapFrame, signal: Signal, exception: &Exception) {
    let name = match exception.kind {
        ExceptionKind::Divide => "trap divide error",
        ExceptionKind::Breakpoint => "trap int3",
        ExceptionKind::Overflow => "trap overflow",
        ExceptionKind::Bounds => "trap bounds",
        ExceptionKind::IllegalInstruction => "trap invalid opcode",
        ExceptionKind::Protection => "general protection fault",
        ExceptionKind::Stack => "trap stack segment",
        ExceptionKind::Alignment => "trap alignment check",
        _ => return,
    };
    if !wanted(signal) {
        return;
    }
    let (me, ip) = (current(), frame.ip());
    log::info!(
        "traps: {}[{}] {name} ip:{ip:x} sp:{:x} error:{:x}{}",
        me.task().comm(),
        me.global_tid(),
        frame.sp(),
        exception.error_code,
        Place { me: &me, ip },
    );
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

/// Code in hexadecimal, the first byte of the instruction in angle brackets.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            match index == BEFORE {
                true => write!(f, "{blank}<{byte:02x}>")?,
                false => write!(f, "{blank}{byte:02x}")?,
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
