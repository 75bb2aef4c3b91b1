//! The Linux user-space interface: numbers, structure layouts and error codes.
//!
//! Owns no behaviour and no state. Constants come from the `linux-raw-sys` crate, which is
//! generated from Linux's UAPI headers and is re-exported as [`raw`]. Structures that cross the
//! user boundary are defined here with the `zerocopy` traits, so that bytes become values only
//! where every bit pattern is valid; their layouts follow the same headers and the man pages
//! named beside them.
//!
//! What differs between architectures is in [`x86_64`] and [`generic`] (arm64); `arch::uapi`
//! re-exports the set that the kernel was built for.
#![no_std]
#![forbid(unsafe_code)]

pub mod aio;
pub mod cap;
pub mod creds;
mod errno;
pub mod fanotify;
pub mod fs;
pub mod generic;
pub mod io_uring;
pub mod ipc;
pub mod mempolicy;
pub mod nr;
pub mod pagemap;
pub mod poll;
pub mod process;
pub mod ptrace;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod system;
pub mod time;
pub mod tty;
pub mod uffd;
pub mod x86_64;

pub use errno::{Errno, Result};
pub use linux_raw_sys as raw_sys;
/// Linux's constants, by their names in the UAPI headers.
pub use linux_raw_sys::general as raw;
