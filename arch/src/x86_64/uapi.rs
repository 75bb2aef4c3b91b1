//! The UAPI of this architecture.

pub use abi::x86_64::*;

/// The number of a system call here; `None` if this architecture has not got it.
#[inline]
pub const fn syscall_nr(nr: abi::nr::Nr) -> Option<u16> {
    nr.x86_64
}

/// `debug.exception-trace` after boot: whether the log tells of programs that faults kill.
pub const EXCEPTION_TRACE: i32 = 1;

/// Which of the last two arguments of `clone(2)` is the child's id address and which the TLS: `(child_tid, tls)`.
#[inline]
pub const fn clone_args(arg3: usize, arg4: usize) -> (usize, usize) {
    (arg3, arg4)
}

/// Whether Linux 6.12 has `PR_SET_SYSCALL_USER_DISPATCH` here.
pub const HAS_USER_DISPATCH: bool = true;
/// How seccomp and audit name the system call convention: `linux/audit.h`.
pub const AUDIT_ARCH: u32 = abi::seccomp::c::AUDIT_ARCH_X86_64;

/// Whether C's `char` has no sign: old file systems have hashes that depend on it.
pub const CHAR_IS_UNSIGNED: bool = false;
