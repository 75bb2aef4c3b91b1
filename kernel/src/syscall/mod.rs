//! System calls: how they are declared, decoded and dispatched.
//!
//! A call is one typed function with `#[macros::syscall(name)]`, in the file of its subsystem. The
//! attribute makes a [`Syscall`] constant beside it, the file lists its constants in a
//! `SYSCALLS` slice, and [`table`] joins those slices at compile time into one array indexed by the
//! number that the architecture's ABI gives the call. A number that nobody declared answers
//! `ENOSYS`.
//!
//! Argument types say how a register is read ([`SyscallArg`]): narrow integers take the low bits,
//! as the C prototypes do, so `int fd` ignores the upper half of its register.

use core::fmt;

use abi::nr::Nr;
use abi::{Errno, Result};
use arch::thread::ThreadFlags;
use arch::trap::TrapFrame;

mod args;
pub mod table;
pub mod user_dispatch;
mod work;

pub use args::{Fd, Ptr};

/// Runs a call: reads its arguments from the frame and returns the result register.
pub type Enter = fn(&mut TrapFrame) -> isize;

/// One declared system call.
#[derive(Clone, Copy)]
pub struct Syscall {
    /// Its name and numbers.
    pub nr: Nr,
    /// Decodes, runs, encodes.
    pub enter: Enter,
    /// Prints the decoded arguments.
    pub trace: fn(&[usize; 6], &mut dyn fmt::Write) -> fmt::Result,
}

/// A type that an argument register can be read as.
pub trait SyscallArg: Sized {
    /// The value in `register`. Never fails: range checks belong to the call, which knows their order.
    fn from_reg(register: usize) -> Self;

    /// Prints the argument for the trace.
    fn trace(register: usize, out: &mut dyn fmt::Write) -> fmt::Result;
}

/// A type that a call can return.
pub trait SyscallReturn {
    /// The value of the result register: `-errno` for an error.
    fn into_return(self) -> isize;
}

/// A success value that fits the result register.
pub trait SyscallValue {
    /// The register's value.
    fn into_register(self) -> isize;
}

macro_rules! values {
    ($($ty:ty),*) => {
        $(impl SyscallValue for $ty {
            #[inline]
            fn into_register(self) -> isize {
                self as isize
            }
        })*
    };
}

values!(i32, u32, i64, u64, isize, usize);

impl SyscallValue for () {
    #[inline]
    fn into_register(self) -> isize {
        0
    }
}

impl SyscallValue for Fd {
    #[inline]
    fn into_register(self) -> isize {
        self.0 as isize
    }
}

impl<T: SyscallValue> SyscallReturn for Result<T> {
    #[inline]
    fn into_return(self) -> isize {
        match self {
            Ok(value) => value.into_register(),
            Err(errno) => errno.to_return(),
        }
    }
}

/// Runs the call that `frame` asks for and puts the result into its result register.
#[inline]
pub fn dispatch(frame: &mut TrapFrame) {
    if arch::thread::current_ref().flags().contains(ThreadFlags::SYSCALL_WORK) {
        return work::dispatch(frame);
    }
    // The number is an int: the upper half of its register does not count.
    let result = match table::ENTRIES.get(frame.syscall_nr() as u32 as usize) {
        Some(enter) => enter(frame),
        None => Errno::ENOSYS.to_return(),
    };
    frame.set_return(result);
}
