//! Debug registers: hardware breakpoints and watchpoints that a tracer sets in a thread.
//!
//! DR0 to DR3 hold addresses, DR7 says which are on and for what, DR6 what has happened (Intel SDM, volume 3,
//! "Debug registers"). The processor's registers are the thread's while one of its breakpoints is on, and DR7 is 0
//! otherwise; the switch looks at one flag of either thread.

use abi::Errno;

use super::insn;
use crate::layout::TASK_SIZE;

/// DR6: single step.
pub(super) const DR6_STEP: u64 = 1 << 14;
/// DR6: the four breakpoints.
pub(super) const DR6_TRAPS: u64 = 0xf;
/// DR6: bits that read as ones; tracers see them, the thread's copy has them inverted.
const DR6_RESERVED: u64 = 0xffff_0ff0;
/// DR7: exact breakpoints, which Linux sets too, and the bit that is always one.
const DR7_FIXED: u64 = 0x700;

/// What a tracer has put into a thread's debug registers.
#[derive(Clone, Copy, Default)]
pub struct DebugRegs {
    addr: [u64; 4],
    /// What happened, in positive polarity.
    status: u64,
    /// As the tracer wrote it.
    control: u64,
    /// Some breakpoint is on.
    pub(super) active: bool,
}

/// Breakpoint `n` of a DR7 value: (on, kind, length code).
fn slot(control: u64, n: usize) -> (bool, u64, u64) {
    let bits = control >> (16 + n * 4);
    (control >> (n * 2) & 3 != 0, bits & 3, bits >> 2 & 3)
}

/// Whether breakpoint (`kind`, `len`) may be at `addr`.
fn is_valid(addr: u64, kind: u64, len: u64) -> bool {
    let bytes = [1, 2, 8, 4].get(len as usize).copied().unwrap_or(1);
    match kind {
        // An instruction has no length.
        0 => len == 0 && addr < TASK_SIZE as u64,
        // Ports are not for user programs.
        2 => false,
        _ => addr.is_multiple_of(bytes) && addr < TASK_SIZE as u64 - bytes + 1,
    }
}

impl DebugRegs {
    /// Nothing on.
    pub const fn new() -> Self {
        Self { addr: [0; 4], status: 0, control: 0, active: false }
    }

    /// Register `index` as a tracer sees it.
    pub fn get(&self, index: usize) -> u64 {
        match index {
            0..=3 => self.addr.get(index).copied().unwrap_or(0),
            6 => self.status ^ DR6_RESERVED,
            7 => self.control,
            _ => 0,
        }
    }

    /// Sets register `index` of a thread that does not run.
    ///
    /// # Errors
    /// `EIO`: there is no such register. `EINVAL`: an address in the kernel, a bad alignment, a port.
    pub fn set(&mut self, index: usize, value: u64) -> Result<(), Errno> {
        match index {
            0..=3 => {
                if value >= TASK_SIZE as u64 {
                    return Err(Errno::EINVAL);
                }
                let (on, kind, len) = slot(self.control, index);
                if on && !is_valid(value, kind, len) {
                    return Err(Errno::EINVAL);
                }
                if let Some(addr) = self.addr.get_mut(index) {
                    *addr = value;
                }
            }
            6 => self.status = value ^ DR6_RESERVED,
            7 => {
                for (n, addr) in self.addr.iter().enumerate() {
                    let (on, kind, len) = slot(value, n);
                    if on && !is_valid(*addr, kind, len) {
                        return Err(Errno::EINVAL);
                    }
                }
                self.control = value;
                self.active = value & 0xff != 0;
            }
            _ => return Err(Errno::EIO),
        }
        Ok(())
    }

    /// Notes what a debug exception said; whether it was the breakpoint of an instruction.
    pub(super) fn note(&mut self, status: u64) -> bool {
        let mut traps = status & DR6_TRAPS;
        for n in 0..4 {
            // The processor reports matches of breakpoints that are off, too.
            if !slot(self.control, n).0 {
                traps &= !(1 << n);
            }
        }
        self.status = self.status & !(DR6_TRAPS | DR6_STEP) | status & DR6_STEP | traps;
        (0..4).any(|n| traps >> n & 1 != 0 && slot(self.control, n).1 == 0)
    }

    /// What the processor's DR7 is to be.
    fn hardware_control(&self) -> u64 {
        let mut control = DR7_FIXED;
        for n in 0..4 {
            let (on, kind, len) = slot(self.control, n);
            if on {
                control |= 2 << (n * 2) | (kind | len << 2) << (16 + n * 4);
            }
        }
        control
    }

    /// Makes the processor's registers those of the thread that runs next. Interrupts off.
    #[cold]
    pub(super) fn load(&self) {
        // SAFETY: addresses are user addresses and privileges are checked by the processor: what happens in the kernel
        // is passed over by `exception::trap_paranoid`.
        unsafe {
            insn::write_dr7(0);
            if self.active {
                insn::write_dr0(self.addr[0]);
                insn::write_dr1(self.addr[1]);
                insn::write_dr2(self.addr[2]);
                insn::write_dr3(self.addr[3]);
                insn::write_dr7(self.hardware_control());
            }
        }
    }
}
