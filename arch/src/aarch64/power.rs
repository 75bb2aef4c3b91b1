//! Off, reboot, halt: through PSCI.

use super::native::platform;

/// How to reboot (`reboot=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// What the firmware describes, then all else.
    #[default]
    Auto,
    /// Keyboard controller.
    Keyboard,
    /// Triple fault.
    TripleFault,
    /// ACPI reset register.
    Acpi,
}

/// Resets the machine. All modes are PSCI SYSTEM_RESET here.
pub fn reboot(_mode: Mode) -> ! {
    let _ = psci::system_reset();
    crate::cpu::halt()
}

/// Switches the machine off; returns if it cannot.
pub fn poweroff() {
    let _ = psci::system_off();
}

/// Power State Coordination Interface (Arm DEN 0022).
pub mod psci {
    use core::arch::asm;

    use super::platform;
    use crate::addr::PhysAddr;
    use crate::native::Conduit;

    const CPU_ON: u64 = 0xc400_0003;
    const SYSTEM_OFF: u64 = 0x8400_0008;
    const SYSTEM_RESET: u64 = 0x8400_0009;

    /// The firmware's refusal, or -1 without PSCI.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PsciError(pub i64);

    fn call(function: u64, args: [u64; 3]) -> Result<(), PsciError> {
        let result: u64;
        macro_rules! call {
            ($insn:literal) => {
                // SAFETY: a call of the firmware by the SMC calling convention, which preserves all but x0–x17.
                unsafe {
                    asm!(
                        $insn,
                        inout("x0") function => result,
                        inout("x1") args[0] => _,
                        inout("x2") args[1] => _,
                        inout("x3") args[2] => _,
                        out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
                        out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
                        out("x16") _, out("x17") _,
                        options(nostack)
                    )
                }
            };
        }
        match platform().psci {
            None => return Err(PsciError(-1)),
            Some(Conduit::Hvc) => call!("hvc #0"),
            Some(Conduit::Smc) => call!("smc #0"),
        }
        match result as i32 {
            0 => Ok(()),
            error => Err(PsciError(i64::from(error))),
        }
    }

    /// Starts a CPU at a physical address, with the MMU off.
    pub fn cpu_on(mpidr: u64, entry: PhysAddr) -> Result<(), PsciError> {
        call(CPU_ON, [mpidr, entry.0, 0])
    }

    /// Powers the machine off; returns only if that failed.
    pub fn system_off() -> Result<(), PsciError> {
        call(SYSTEM_OFF, [0; 3])
    }

    /// Resets the machine; returns only if that failed.
    pub fn system_reset() -> Result<(), PsciError> {
        call(SYSTEM_RESET, [0; 3])
    }
}
