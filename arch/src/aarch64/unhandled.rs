//! The lines of the log about programs that faults kill.
//!
//! ```text
//! comm[pid]: unhandled exception: CLASS, ESR SYNDROME, what it was in FILE[OFFSET,START+SIZE]
//! where and under which kernel it ran; registers
//! ```

use core::fmt;

use super::esr;
use crate::trap::{Exception, ExceptionKind, LogLines, TrapFrame, Victim, Weight};

/// Whether a fault on a page that cannot be had (`SIGBUS`) is told of.
pub const TELLS_BUS_ERRORS: bool = true;

/// An access to memory that is not there.
pub fn page_fault(
    victim: &Victim<'_>,
    frame: &TrapFrame,
    _addr: usize,
    _error_code: u64,
    line: LogLines<'_>,
) {
    let syndrome = crate::thread::current_ref().fault_esr;
    report(victim, frame, syndrome, esr::fault_name(syndrome), line);
}

fn name_of(exception: &Exception) -> Option<(&'static str, u64)> {
    Some(match exception.kind {
        ExceptionKind::IllegalInstruction => ("undefined instruction", 0),
        ExceptionKind::Breakpoint | ExceptionKind::Debug => ("User debug trap", 0),
        ExceptionKind::Alignment if esr::is_abort(exception.error_code) => {
            (esr::fault_name(exception.error_code), exception.error_code)
        }
        ExceptionKind::Alignment => ("SP/PC alignment exception", exception.error_code),
        ExceptionKind::HardwareError => (esr::fault_name(exception.error_code), exception.error_code),
        _ => return None,
    })
}

/// Whether [`exception`] tells of it.
pub fn tells(exception: &Exception) -> bool {
    name_of(exception).is_some()
}

/// Another exception.
pub fn exception(victim: &Victim<'_>, frame: &TrapFrame, exception: &Exception, line: LogLines<'_>) {
    if let Some((what, syndrome)) = name_of(exception) {
        report(victim, frame, syndrome, what, line);
    }
}

fn report(victim: &Victim<'_>, frame: &TrapFrame, syndrome: u64, what: &str, line: LogLines<'_>) {
    let Victim { name, tid, place, context } = victim;
    let class = Class(syndrome);
    line(Weight::Info, format_args!("{name}[{tid}]: unhandled exception: {class}{what}{place}"));
    line(Weight::Warning, format_args!("{context}"));
    let flags = frame.pstate;
    line(Weight::Warning, format_args!("pstate: {flags:08x} ({})", Flags(flags)));
    line(Weight::Warning, format_args!("pc : {:016x}", frame.ip()));
    let x = &frame.regs;
    line(Weight::Warning, format_args!("lr : {:016x}", x.get(30).copied().unwrap_or(0)));
    line(Weight::Warning, format_args!("sp : {:016x}", frame.sp()));
    // Two in the first line, three in the others.
    let mut last = 29;
    loop {
        let first = last - last % 3;
        line(Weight::Warning, format_args!("{}", Registers { x, first, last }));
        match first.checked_sub(1) {
            Some(next) => last = next,
            None => return,
        }
    }
}

/// `CLASS, ESR SYNDROME, `, or nothing without a syndrome.
struct Class(u64);

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            syndrome => write!(f, "{}, ESR {syndrome:#018x}, ", esr::class_name(syndrome)),
        }
    }
}

/// Registers of one line, from the last to the first.
struct Registers<'a> {
    x: &'a [u64],
    first: usize,
    last: usize,
}

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for n in (self.first..=self.last).rev() {
            let blank = if n == self.last { "" } else { " " };
            write!(f, "{blank}x{n:<2}: {:016x}", self.x.get(n).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}

/// The processor's flags: `Nzcv daif -PAN -UAO -TCO -DIT +SSBS BTYPE=--`.
struct Flags(u64);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |bit: u32| self.0 >> bit & 1 != 0;
        for (bit, on, off) in [
            (31, "N", "n"),
            (30, "Z", "z"),
            (29, "C", "c"),
            (28, "V", "v"),
            (9, " D", " d"),
            (8, "A", "a"),
            (7, "I", "i"),
            (6, "F", "f"),
        ] {
            f.write_str(if set(bit) { on } else { off })?;
        }
        for (bit, name) in [(22, "PAN"), (23, "UAO"), (25, "TCO"), (24, "DIT"), (12, "SSBS")] {
            write!(f, " {}{name}", if set(bit) { '+' } else { '-' })?;
        }
        let branch = match self.0 >> 10 & 3 {
            1 => "jc",
            2 => "-c",
            3 => "j-",
            _ => "--",
        };
        write!(f, " BTYPE={branch}")
    }
}
