//! `ptrace(2)`: requests, options, events and structures, by their names in `linux/ptrace.h` without the prefix.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Requests.
#[allow(missing_docs)]
pub mod request {
    pub const TRACEME: u32 = 0;
    pub const PEEKTEXT: u32 = 1;
    pub const PEEKDATA: u32 = 2;
    pub const PEEKUSR: u32 = 3;
    pub const POKETEXT: u32 = 4;
    pub const POKEDATA: u32 = 5;
    pub const POKEUSR: u32 = 6;
    pub const CONT: u32 = 7;
    pub const KILL: u32 = 8;
    pub const SINGLESTEP: u32 = 9;
    pub const ATTACH: u32 = 16;
    pub const DETACH: u32 = 17;
    pub const SYSCALL: u32 = 24;
    pub const SYSEMU: u32 = 31;
    pub const SYSEMU_SINGLESTEP: u32 = 32;
    pub const SETOPTIONS: u32 = 0x4200;
    pub const GETEVENTMSG: u32 = 0x4201;
    pub const GETSIGINFO: u32 = 0x4202;
    pub const SETSIGINFO: u32 = 0x4203;
    pub const GETREGSET: u32 = 0x4204;
    pub const SETREGSET: u32 = 0x4205;
    pub const SEIZE: u32 = 0x4206;
    pub const INTERRUPT: u32 = 0x4207;
    pub const LISTEN: u32 = 0x4208;
    pub const PEEKSIGINFO: u32 = 0x4209;
    pub const GETSIGMASK: u32 = 0x420a;
    pub const SETSIGMASK: u32 = 0x420b;
    pub const GET_SYSCALL_INFO: u32 = 0x420e;
    pub const GET_RSEQ_CONFIGURATION: u32 = 0x420f;
}

/// Options. That of an event is the bit with the event's number.
#[allow(missing_docs)]
pub mod option {
    pub const TRACESYSGOOD: u32 = 1;
    pub const EXITKILL: u32 = 1 << 20;
    pub const SUSPEND_SECCOMP: u32 = 1 << 21;
    /// All that there are.
    pub const MASK: u32 = 0xff | EXITKILL | SUSPEND_SECCOMP;
}

/// Events.
#[allow(missing_docs)]
pub mod event {
    pub const FORK: u32 = 1;
    pub const VFORK: u32 = 2;
    pub const CLONE: u32 = 3;
    pub const EXEC: u32 = 4;
    pub const VFORK_DONE: u32 = 5;
    pub const EXIT: u32 = 6;
    pub const SECCOMP: u32 = 7;
    pub const STOP: u32 = 128;
}

/// The message of a stop at a system call's entry.
pub const EVENTMSG_SYSCALL_ENTRY: u64 = 1;
/// The message of a stop at a system call's exit.
pub const EVENTMSG_SYSCALL_EXIT: u64 = 2;

/// `ptrace_peeksiginfo_args`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PeeksiginfoArgs {
    /// Index of the first signal.
    pub off: u64,
    /// [`PEEKSIGINFO_SHARED`] or 0.
    pub flags: u32,
    /// How many.
    pub nr: i32,
}

/// Look into the queue of the process, not that of the thread.
pub const PEEKSIGINFO_SHARED: u32 = 1;

/// `ptrace_syscall_info` with the union as bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SyscallInfo {
    /// `PTRACE_SYSCALL_INFO_*`.
    pub op: u8,
    /// Padding, zero.
    pub pad: [u8; 3],
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Program counter.
    pub instruction_pointer: u64,
    /// Stack pointer.
    pub stack_pointer: u64,
    /// Entry and seccomp: number and six arguments; exit: result and whether it is an error.
    pub words: [u64; 7],
    /// Seccomp: the filter's data.
    pub ret_data: u64,
}

/// `ptrace_rseq_configuration`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RseqConfiguration {
    /// Where the thread registered its area.
    pub pointer: u64,
    /// Its length.
    pub size: u32,
    /// The signature before abort handlers.
    pub signature: u32,
    /// Of the registration: 0.
    pub flags: u32,
    /// Padding, zero.
    pub pad: u32,
}
