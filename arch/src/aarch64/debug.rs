//! Debugging of user mode: single steps, breakpoint and watchpoint registers.
//!
//! PSTATE.SS in a thread's frame asks for one step ([`crate::trap::TrapFrame::set_single_step`]); it acts only while
//! MDSCR_EL1.SS of the CPU is set, and then traps at once wherever PSTATE.SS is clear. So MDSCR_EL1.SS belongs to the
//! thread: set on its way out to user mode, cleared by the step exception and whenever the thread is switched out.
//!
//! Breakpoints and watchpoints (Arm ARM, "Self-hosted debug") are for EL0 only. The CPU's registers are the thread's while
//! one of its breakpoints is on, and MDSCR_EL1.MDE is clear otherwise; the switch looks at one flag of either thread.

use alloc::vec::Vec;

use abi::Errno;

use super::sysreg::{isb, read_sysreg, write_sysreg};
use crate::layout::TASK_SIZE;

const SS: u64 = 1;
/// Breakpoints and watchpoints work.
const MDE: u64 = 1 << 15;

/// The most registers of a kind.
const MAX: usize = 16;
/// Bytes of `struct user_hwdebug_state`: two words, then sixteen times address, control and padding.
pub(super) const SET_SIZE: usize = 8 + MAX * ENTRY;
const ENTRY: usize = 16;

/// Control: the register is on.
const ENABLED: u32 = 1;
/// Control: for EL0.
const EL0: u32 = 2 << 1;

/// Switches software step on this CPU on or off. Interrupts off.
pub(super) fn set_stepping(on: bool) {
    let mdscr = read_sysreg!("mdscr_el1");
    write_sysreg!("mdscr_el1", if on { mdscr | SS } else { mdscr & !SS });
    isb();
}

/// Lets debug exceptions through: the lock is set at reset.
pub(super) fn init_cpu() {
    write_sysreg!("oslar_el1", 0_u64);
    isb();
}

/// Which registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Of instruction fetches.
    Breakpoint,
    /// Of loads and stores.
    Watchpoint,
}

/// How many registers of a kind this CPU has.
fn count(kind: Kind) -> usize {
    let features = read_sysreg!("id_aa64dfr0_el1");
    let shift = if kind == Kind::Breakpoint { 12 } else { 20 };
    (features >> shift & 0xf) as usize + 1
}

/// A pair of registers.
#[derive(Clone, Copy, Default)]
pub struct Entry {
    addr: u64,
    control: u32,
}

/// What a tracer has put into a thread's breakpoint and watchpoint registers.
pub(super) struct DebugRegs {
    /// Breakpoints, then watchpoints; empty until a tracer sets some.
    entries: Vec<Entry>,
    /// Some register is on.
    pub(super) active: bool,
}

impl DebugRegs {
    /// Nothing on.
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), active: false }
    }

    fn entries(&self, kind: Kind) -> &[Entry] {
        let first = if kind == Kind::Breakpoint { 0 } else { MAX };
        self.entries.get(first..first + MAX).unwrap_or_default()
    }

    /// Fills a `struct user_hwdebug_state`.
    pub(super) fn read(&self, kind: Kind, out: &mut [u8]) {
        let version = (read_sysreg!("id_aa64dfr0_el1") & 0xf) as u32;
        let info = version << 8 | count(kind) as u32;
        out.fill(0);
        if let Some(to) = out.get_mut(..4) {
            to.copy_from_slice(&info.to_ne_bytes());
        }
        let places = out.get_mut(8..).unwrap_or_default().chunks_exact_mut(ENTRY);
        for (place, entry) in places.zip(self.entries(kind)) {
            place[..8].copy_from_slice(&entry.addr.to_ne_bytes());
            place[8..12].copy_from_slice(&entry.control.to_ne_bytes());
        }
    }

    /// Takes a whole `struct user_hwdebug_state` over, or nothing of it.
    ///
    /// # Errors
    /// `EINVAL`: an address of the kernel, a kind of access or length that is none. `ENOSPC`: the CPU has fewer registers.
    pub(super) fn write(&mut self, kind: Kind, data: &[u8], room: &mut Vec<Entry>) -> Result<(), Errno> {
        let mut new = [Entry::default(); MAX];
        let count = count(kind);
        let places = data.get(8..).unwrap_or_default().chunks_exact(ENTRY);
        for (n, (place, entry)) in places.zip(&mut new).enumerate() {
            let addr = place.first_chunk::<8>().map_or(0, |w| u64::from_ne_bytes(*w));
            let control = place[8..].first_chunk::<4>().map_or(0, |w| u32::from_ne_bytes(*w));
            *entry = check(kind, addr, control)?;
            if n >= count && (addr != 0 || control != 0) {
                return Err(Errno::ENOSPC);
            }
        }
        if self.entries.is_empty() {
            self.entries = core::mem::take(room);
        }
        let first = if kind == Kind::Breakpoint { 0 } else { MAX };
        self.entries.get_mut(first..first + MAX).ok_or(Errno::ENOMEM)?.copy_from_slice(&new);
        self.active = self.entries.iter().any(|e| e.control & ENABLED != 0);
        Ok(())
    }

    /// Makes the CPU's registers those of the thread that runs next. Interrupts off.
    #[cold]
    pub(super) fn load(&self) {
        let mdscr = read_sysreg!("mdscr_el1");
        if !self.active {
            write_sysreg!("mdscr_el1", mdscr & !MDE);
            isb();
            return;
        }
        for (n, entry) in self.entries(Kind::Breakpoint).iter().enumerate().take(count(Kind::Breakpoint)) {
            let (addr, control) = hardware(Kind::Breakpoint, entry);
            write_breakpoint(n, addr, control);
        }
        for (n, entry) in self.entries(Kind::Watchpoint).iter().enumerate().take(count(Kind::Watchpoint)) {
            let (addr, control) = hardware(Kind::Watchpoint, entry);
            write_watchpoint(n, addr, control);
        }
        write_sysreg!("mdscr_el1", mdscr | MDE);
        isb();
    }
}

/// Memory for the registers of one thread, in no use yet.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn room() -> Result<Vec<Entry>, Errno> {
    let mut room = Vec::new();
    room.try_reserve_exact(2 * MAX).map_err(|_| Errno::ENOMEM)?;
    room.resize(2 * MAX, Entry::default());
    Ok(room)
}

/// The bytes that a control word selects.
fn length(control: u32) -> u32 {
    control >> 5 & 0xff
}

fn check(kind: Kind, addr: u64, control: u32) -> Result<Entry, Errno> {
    if control & ENABLED == 0 {
        return Ok(Entry { addr, control: control & 0x1ff9 });
    }
    let access = control >> 3 & 3;
    let run = length(control);
    // A run of bytes without gaps.
    let low = run.trailing_zeros();
    let good_run = run != 0 && ((run >> low) + 1).is_power_of_two();
    let good_kind = match kind {
        Kind::Breakpoint => access == 0,
        Kind::Watchpoint => access != 0,
    };
    if !good_run || !good_kind || addr >= TASK_SIZE as u64 {
        return Err(Errno::EINVAL);
    }
    Ok(Entry { addr, control: control & 0x1ff9 | EL0 })
}

/// What the CPU's pair of registers is to be. An address in the middle of its unit moves the run of bytes.
fn hardware(kind: Kind, entry: &Entry) -> (u64, u64) {
    if entry.control & ENABLED == 0 {
        return (0, 0);
    }
    match kind {
        Kind::Breakpoint => (entry.addr & !3, u64::from(0xf << 5 | EL0 | ENABLED)),
        Kind::Watchpoint => {
            let run = length(entry.control) << (entry.addr & 7) & 0xff;
            (entry.addr & !7, u64::from(run << 5 | entry.control & 0x18 | EL0 | ENABLED))
        }
    }
}

/// Writes one of sixteen registers, whose number is part of the instruction.
macro_rules! by_number {
    ($n:expr, $value:expr, $prefix:literal, [$($i:literal)*]) => {
        match $n {
            // SAFETY: the register exists (`count`), and only configures debug exceptions of EL0.
            $($i => unsafe {
                core::arch::asm!(
                    concat!("msr ", $prefix, $i, "_el1, {}"),
                    in(reg) $value,
                    options(nostack, preserves_flags)
                );
            },)*
            _ => {}
        }
    };
}

fn write_breakpoint(n: usize, addr: u64, control: u64) {
    by_number!(n, addr, "dbgbvr", [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15]);
    by_number!(n, control, "dbgbcr", [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15]);
}

fn write_watchpoint(n: usize, addr: u64, control: u64) {
    by_number!(n, addr, "dbgwvr", [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15]);
    by_number!(n, control, "dbgwcr", [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15]);
}
