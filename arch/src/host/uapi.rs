//! The UAPI of this architecture.

/// The number of a system call here; `None` if this architecture has not got it.
#[inline]
pub const fn syscall_nr(_nr: abi::nr::Nr) -> Option<u16> {
    todo!()
}

/// `uname -m`.
pub const MACHINE: &str = "host";
