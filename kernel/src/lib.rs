//! The kernel proper: processes, system calls, and the place where implementations meet traits.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod syscall;
