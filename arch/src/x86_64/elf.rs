//! What an ELF file must say to run here.

/// `e_machine`: EM_X86_64.
pub const MACHINE: u16 = 62;
/// `AT_PLATFORM`.
pub const PLATFORM: &str = "x86_64";
