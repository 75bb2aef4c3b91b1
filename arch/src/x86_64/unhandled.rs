//! The lines of the log about programs that faults kill.
//!
//! ```text
//! comm[pid]: segfault at ADDRESS ip IP sp SP error CODE in FILE[OFFSET,START+SIZE] likely on CPU N (core N, socket 0)
//! Code: the bytes around IP
//! ```

use core::fmt;

use super::uaccess::copy_from_user;
use crate::trap::{Exception, ExceptionKind, LogLines, TrapFrame, Victim, Weight};

/// Whether a fault on a page that cannot be had (`SIGBUS`) is told of.
pub const TELLS_BUS_ERRORS: bool = false;

/// Bytes of code shown before the instruction, and with it.
const BEFORE: usize = 42;
const SHOWN: usize = 64;

/// An access to memory that is not there.
pub fn page_fault(victim: &Victim<'_>, frame: &TrapFrame, addr: usize, error_code: u64, line: LogLines<'_>) {
    let Victim { name, tid, place, .. } = victim;
    let (ip, sp) = (frame.ip(), frame.sp());
    let cpu = crate::cpu::current().0;
    line(
        Weight::Info,
        format_args!(
            "{name}[{tid}]: segfault at {addr:x} ip {ip:016x} sp {sp:016x} error {error_code:x}{place} likely on CPU {cpu} (core {cpu}, socket 0)"
        ),
    );
    let mut code = [0; SHOWN];
    let start = ip.wrapping_sub(BEFORE);
    match copy_from_user(&mut code, start) {
        Ok(()) => line(Weight::Info, format_args!("Code: {}", Bytes(&code))),
        Err(_) => line(Weight::Info, format_args!("Code: Unable to access opcode bytes at {start:#x}.")),
    }
}

fn name_of(exception: &Exception) -> Option<&'static str> {
    Some(match exception.kind {
        ExceptionKind::Divide => "trap divide error",
        ExceptionKind::Breakpoint => "trap int3",
        ExceptionKind::Overflow => "trap overflow",
        ExceptionKind::Bounds => "trap bounds",
        ExceptionKind::IllegalInstruction => "trap invalid opcode",
        ExceptionKind::Protection => "general protection fault",
        ExceptionKind::Stack => "trap stack segment",
        ExceptionKind::Alignment => "trap alignment check",
        _ => return None,
    })
}

/// Whether [`exception`] tells of it.
pub fn tells(exception: &Exception) -> bool {
    name_of(exception).is_some()
}

/// Another exception.
pub fn exception(victim: &Victim<'_>, frame: &TrapFrame, exception: &Exception, line: LogLines<'_>) {
    let Some(what) = name_of(exception) else { return };
    let Victim { name, tid, place, .. } = victim;
    let (ip, sp, code) = (frame.ip(), frame.sp(), exception.error_code);
    line(Weight::Info, format_args!("traps: {name}[{tid}] {what} ip:{ip:x} sp:{sp:x} error:{code:x}{place}"));
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
