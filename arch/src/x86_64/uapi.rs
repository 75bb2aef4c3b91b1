//! The UAPI of this architecture.

pub use abi::x86_64::*;

/// The number of a system call here; `None` if this architecture has not got it.
#[inline]
pub const fn syscall_nr(nr: abi::nr::Nr) -> Option<u16> {
    nr.x86_64
}
