//! Everything that knows the processor.
//!
//! The common modules at this level hold the types and the vocabulary (addresses, CPU masks, faults, the
//! [`trap::TrapHandler`] trait); each of them re-exports its other half from the folder of the architecture
//! that is being built:
//!
//! | folder | when |
//! |---|---|
//! | `x86_64/`  | `target_os = "none"`, x86_64 |
//! | `aarch64/` | `target_os = "none"`, arm64 |
//! | `host/`    | anything else: the same API over the threads of the build machine, for `cargo test` |
//!
//! All three folders export the same names from files of the same names, so nothing above this crate needs
//! `cfg(target_arch)`. What the kernel does on a trap is injected once at boot: [`trap::set_handler`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64/mod.rs"]
mod imp;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
#[path = "aarch64/mod.rs"]
mod imp;

#[cfg(not(target_os = "none"))]
#[path = "host/mod.rs"]
mod imp;

pub mod acpi;
pub mod addr;
pub mod asid;
pub mod cache;
pub mod cpu;
pub mod earlycon;
pub mod intc;
pub mod ioport;
pub mod irq;
pub mod irqstat;
pub mod mmio;
pub mod paging;
pub mod pci;
pub mod percpu;
pub mod pkey;
pub mod preempt;
pub mod ptrace;
pub mod resource;
pub mod rtc;
pub mod serial;
pub mod signal;
pub mod smp;
pub mod symbols;
pub mod sync;
pub mod thread;
pub mod time;
pub mod trap;

pub use imp::{backtrace, elf, fpu, layout, ldt, power, random, tlb, uaccess, uapi, unhandled, vdso};

/// What only one architecture has (port I/O, PSCI, …): for `boot`, and for drivers that exist on that architecture alone.
#[cfg(target_os = "none")]
pub use imp::native;

/// The virtual machine behind the host architecture.
#[cfg(not(target_os = "none"))]
pub use imp::hosted;

/// Parts of `aarch64` that are pure computation, tested on the build machine.
#[cfg(all(test, not(target_os = "none")))]
#[allow(dead_code, reason = "only the tests use them here")]
#[path = "aarch64"]
mod aarch64_pure {
    mod asid_alloc;
    mod cpufeature;
    mod esr;
    mod pte;
}

/// Parts of `x86_64` that are pure computation, tested on the build machine.
#[cfg(all(test, not(target_os = "none")))]
#[allow(dead_code, reason = "only the tests use them here")]
#[path = "x86_64"]
mod x86_64_pure {
    mod date;
    mod mptable;
    mod pte;
    mod segment;
}
