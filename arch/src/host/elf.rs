//! What an ELF file must say to run here.

/// `e_machine`.
pub const MACHINE: u16 = 0;
/// `AT_PLATFORM`.
pub const PLATFORM: &str = "host";
