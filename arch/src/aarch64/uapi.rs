//! The UAPI of this architecture.

pub use abi::generic::*;

/// The number of a system call here; `None` if this architecture has not got it.
#[inline]
pub const fn syscall_nr(nr: abi::nr::Nr) -> Option<u16> {
    nr.generic
}

/// `uname -m`.
pub const MACHINE: &str = "aarch64";
