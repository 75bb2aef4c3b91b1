//! Exception syndromes: what ESR_EL1 says.

use self::signals::*;

/// Signal numbers and codes that exceptions become.
#[allow(missing_docs, reason = "names of signal(7) and sigaction(2)")]
pub mod signals {
    pub const SIGILL: i32 = 4;
    pub const SIGTRAP: i32 = 5;
    pub const SIGBUS: i32 = 7;
    pub const SIGFPE: i32 = 8;
    pub const SIGSEGV: i32 = 11;
    pub const SI_KERNEL: i32 = 0x80;
    pub const ILL_ILLOPC: i32 = 1;
    pub const ILL_ILLOPN: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_OBJERR: i32 = 3;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const TRAP_HWBKPT: i32 = 4;
    pub const FPE_FLTDIV: i32 = 3;
    pub const FPE_FLTOVF: i32 = 4;
    pub const FPE_FLTUND: i32 = 5;
    pub const FPE_FLTRES: i32 = 6;
    pub const FPE_FLTINV: i32 = 7;
    pub const FPE_FLTUNK: i32 = 14;
}

/// Details of an instruction or data abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abort {
    /// Fault status code.
    pub status: u8,
    /// A store (cache maintenance counts as a load).
    pub write: bool,
}

impl Abort {
    /// Translation, access flag or permission fault.
    pub fn is_page_fault(self) -> bool {
        matches!(self.status, 0b00_0100..=0b00_1111)
    }

    /// The translation exists: access flag or permission fault.
    pub fn is_present(self) -> bool {
        matches!(self.status, 0b00_1000..=0b00_1111)
    }

    /// Misaligned access to device memory, or of an exclusive or atomic instruction.
    pub fn is_alignment(self) -> bool {
        self.status == 0b10_0001
    }
}

/// Why the exception was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Undefined instruction, or a disabled one.
    Unknown,
    /// System call.
    Svc,
    /// A trapped system register access or cache operation.
    SystemRegister,
    /// Instruction fetch.
    InstructionAbort(Abort),
    /// Load or store.
    DataAbort(Abort),
    /// PC not a multiple of 4.
    PcAlignment,
    /// SP not a multiple of 16 when used.
    SpAlignment,
    /// Trapped floating point exception.
    FloatingPoint,
    /// `brk`.
    Breakpoint,
    /// Software step.
    SingleStep,
    /// Breakpoint register.
    HardwareBreakpoint,
    /// Watchpoint register.
    Watchpoint,
    /// Pointer authentication failure (FPAC).
    PointerAuthentication,
    /// Branch target.
    BranchTarget,
    /// Memory copy instructions of another CPU's format (MOPS).
    MemoryCopy,
    /// A disabled extension (SVE, SME) or anything else.
    Other(u8),
}

/// Decodes a syndrome.
pub fn decode(esr: u64) -> Cause {
    let abort = Abort { status: (esr & 0x3f) as u8, write: esr & (1 << 6) != 0 && esr & (1 << 8) == 0 };
    match (esr >> 26) as u8 & 0x3f {
        0x00 => Cause::Unknown,
        0x0d => Cause::BranchTarget,
        0x15 => Cause::Svc,
        0x18 => Cause::SystemRegister,
        0x1c => Cause::PointerAuthentication,
        0x20 | 0x21 => Cause::InstructionAbort(Abort { write: false, ..abort }),
        0x22 => Cause::PcAlignment,
        0x24 | 0x25 => Cause::DataAbort(abort),
        0x26 => Cause::SpAlignment,
        0x27 => Cause::MemoryCopy,
        0x2c => Cause::FloatingPoint,
        0x30 | 0x31 => Cause::HardwareBreakpoint,
        0x32 | 0x33 => Cause::SingleStep,
        0x34 | 0x35 => Cause::Watchpoint,
        0x3c => Cause::Breakpoint,
        other => Cause::Other(other),
    }
}

/// `si_code` of a floating point exception.
pub fn fp_code(esr: u64) -> i32 {
    // Without TFV the exception bits are not valid.
    if esr & (1 << 23) == 0 {
        return FPE_FLTUNK;
    }
    match esr & 0x1f {
        e if e & 1 != 0 => FPE_FLTINV,
        e if e & 2 != 0 => FPE_FLTDIV,
        e if e & 4 != 0 => FPE_FLTOVF,
        e if e & 8 != 0 => FPE_FLTUND,
        e if e & 16 != 0 => FPE_FLTRES,
        _ => FPE_FLTUNK,
    }
}

/// Whether it is an instruction or data abort.
pub fn is_abort(esr: u64) -> bool {
    matches!(decode(esr), Cause::InstructionAbort(_) | Cause::DataAbort(_))
}

/// The class of an exception, as the log names it.
pub fn class_name(esr: u64) -> &'static str {
    match (esr >> 26) as u8 & 0x3f {
        0x00 => "Unknown/Uncategorized",
        0x0d => "BTI",
        0x15 => "SVC (AArch64)",
        0x18 => "MSR/MRS (AArch64)",
        0x1c => "FPAC",
        0x20 => "IABT (lower EL)",
        0x21 => "IABT (current EL)",
        0x22 => "PC Alignment",
        0x24 => "DABT (lower EL)",
        0x25 => "DABT (current EL)",
        0x26 => "SP Alignment",
        0x2c => "FP (AArch64)",
        0x2f => "SError",
        0x3c => "BRK (AArch64)",
        _ => "UNRECOGNIZED EC",
    }
}

/// What went wrong with an access, as the log names it: the status code of an abort.
pub fn fault_name(esr: u64) -> &'static str {
    match esr & 0x3f {
        0b00_0000 => "ttbr address size fault",
        0b00_0001 => "level 1 address size fault",
        0b00_0010 => "level 2 address size fault",
        0b00_0011 => "level 3 address size fault",
        0b00_0100 => "level 0 translation fault",
        0b00_0101 => "level 1 translation fault",
        0b00_0110 => "level 2 translation fault",
        0b00_0111 => "level 3 translation fault",
        0b00_1000 => "level 0 access flag fault",
        0b00_1001 => "level 1 access flag fault",
        0b00_1010 => "level 2 access flag fault",
        0b00_1011 => "level 3 access flag fault",
        0b00_1100 => "level 0 permission fault",
        0b00_1101 => "level 1 permission fault",
        0b00_1110 => "level 2 permission fault",
        0b00_1111 => "level 3 permission fault",
        0b01_0000 => "synchronous external abort",
        0b01_0001 => "synchronous tag check fault",
        0b01_1000 => "synchronous parity or ECC error",
        0b10_0001 => "alignment fault",
        0b11_0000 => "TLB conflict abort",
        0b11_0001 => "Unsupported atomic hardware update fault",
        _ => "unknown",
    }
}

/// An address without its tag byte: bits 63–56 become copies of bit 55.
pub const fn untag(address: u64) -> u64 {
    ((address << 8) as i64 >> 8) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aborts() {
        // Data abort from EL0, write, translation fault level 3.
        let Cause::DataAbort(a) = decode(0x24 << 26 | 1 << 6 | 0b000111) else { panic!() };
        assert!(a.is_page_fault() && !a.is_present() && a.write);
        // Permission fault by DC CIVAC counts as a read.
        let Cause::DataAbort(a) = decode(0x24 << 26 | 1 << 8 | 1 << 6 | 0b001111) else { panic!() };
        assert!(a.is_present() && !a.write);
        let Cause::DataAbort(a) = decode(0x25 << 26 | 0x21) else { panic!() };
        assert!(a.is_alignment() && !a.is_page_fault());
    }

    #[test]
    fn tags() {
        assert_eq!(untag(0xab00_1234_5678_9abc), 0x1234_5678_9abc);
        assert_eq!(untag(0xff80_1234_5678_9abc), 0xff80_1234_5678_9abc);
    }

    #[test]
    fn floating_point() {
        assert_eq!(fp_code(2), FPE_FLTUNK);
        assert_eq!(fp_code(1 << 23 | 2), FPE_FLTDIV);
    }
}
