//! File system calls: thin, one file per family.
//!
//! A call here decodes what the user passed and calls `vfs`, which knows nothing of descriptors in
//! registers or user addresses. Rules of files live there; only the order in which Linux looks at
//! arguments, and what belongs to the process (descriptors, limits), lives here.

pub mod context;
mod dirs;
mod event;
mod fd;
mod ioctl;
mod mount;
mod names;
mod open;
mod pipe;
pub mod poll;
mod rw;
mod stat;
mod xattr;

use crate::syscall::Syscall;

/// Every list of this folder, for the table.
pub const GROUPS: &[&[Syscall]] = &[
    dirs::SYSCALLS,
    event::SYSCALLS,
    fd::SYSCALLS,
    mount::SYSCALLS,
    names::SYSCALLS,
    open::SYSCALLS,
    pipe::SYSCALLS,
    poll::SYSCALLS,
    rw::SYSCALLS,
    stat::SYSCALLS,
    xattr::SYSCALLS,
];
