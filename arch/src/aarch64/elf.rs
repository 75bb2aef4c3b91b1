//! What an ELF file must say to run here.

/// `e_machine`: EM_AARCH64.
pub const MACHINE: u16 = 183;
/// `AT_PLATFORM`.
pub const PLATFORM: &str = "aarch64";
