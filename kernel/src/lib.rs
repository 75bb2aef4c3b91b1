//! The kernel proper: processes, system calls, and the place where implementations meet traits.
//!
//! - [`process`], [`fork`], [`exec`], [`exit`], [`wait`], [`pidfd`]: processes and their lives;
//! - [`signal`], [`futex`], [`time`]: how they are interrupted, synchronised and timed;
//! - [`cred`], [`namespaces`], [`seccomp`], [`landlock`], [`keys`]: who acts, what it sees, and which calls it may make;
//! - [`memory`], [`fs`], [`misc`]: system calls over `mm`, `vfs` and the machine; [`ipc`]: System V IPC, message queues;
//! - [`io_uring`], [`aio`]: asynchronous system calls, asynchronous I/O;
//! - [`userfaultfd`]: page faults that a program resolves;
//! - [`procfs`], [`sysfs`], [`dev`], [`net`]: the kernel as files, character devices of its own, sockets;
//! - [`init`]: how the machine is put together; [`job`]: terminals meet processes;
//! - [`syscall`], [`traps`], [`oops`]: the ways into the kernel, and what happens when it breaks.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acct;
pub mod aio;
pub mod coredump;
pub mod cred;
pub mod debugfs;
pub mod dev;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod fs;
pub mod futex;
pub mod init;
pub mod io_uring;
pub mod ipc;
pub mod job;
pub mod keys;
pub mod landlock;
pub mod memory;
pub mod misc;
pub mod namespaces;
pub mod net;
pub mod oops;
pub mod params;
pub mod pidfd;
pub mod printk;
pub mod process;
pub mod procfs;
pub mod ptrace;
pub mod pty;
pub mod seccomp;
pub mod signal;
pub mod syscall;
pub mod sysfs;
pub mod sysrq;
pub mod time;
pub mod traps;
pub mod tty_hooks;
pub mod userfaultfd;
pub mod version;
pub mod wait;
pub mod watchdog;
