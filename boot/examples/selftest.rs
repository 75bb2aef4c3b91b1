//! A kernel that only tests `arch` and `boot`, on the machine itself: it boots like the real one, on all CPUs, and exercises
//! traps, timer interrupts, IPIs, user mode, system calls and user copies. Prints `selftest: ok` and powers off (or, where
//! there is no way to do that, tells QEMU's `isa-debug-exit`).
//!
//! For arm64 see `selftest/aarch64.rs`. On x86: `cargo build -p boot --example selftest --target x86_64-unknown-none`, then
//! `qemu-system-x86_64 -M q35 -cpu max -smp 4 -serial stdio -display none -kernel …/examples/selftest`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(missing_docs)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "selftest/x86_64.rs"]
mod bare;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
#[path = "selftest/aarch64.rs"]
mod bare;
