//! From the boot loader to `kernel::start`: boot protocols in, one [`BootInfo`] out.
//!
//! Owned here: image headers and entry code, the first page tables, relocation (KASLR), the direct map, the early
//! allocator ([`memblock`]). Not owned here: the processor's tables and controllers (`arch`), anything after
//! [`entry!`]'s function has been called.
//!
//! The order is the same everywhere: entry assembly (no stack, no MMU or identity map) → relocation → memory map into
//! memblock → final page tables → `arch` boot CPU initialisation → the kernel, on the boot stack, interrupts off.
#![cfg_attr(target_os = "none", no_std)]

pub mod fdt;
pub mod info;
pub mod memblock;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64/mod.rs"]
mod imp;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
#[path = "aarch64/mod.rs"]
mod imp;

#[cfg(all(test, not(target_os = "none")))]
#[path = "x86_64/pvh.rs"]
mod pvh;

pub use info::{BootInfo, CpuInfo, MemoryKind, MemoryRegion, Numa, NumaRange, PhysRange};

/// Names the function that boot hands over to: `boot::entry!(start_kernel);` where
/// `fn start_kernel(info: &'static boot::BootInfo) -> !`.
///
/// Defines one symbol. The crate that uses it may not `forbid(unsafe_code)` (the attribute counts as such): it is the
/// binary's few lines, while the kernel proper is a library that does forbid it.
#[macro_export]
macro_rules! entry {
    ($start:path) => {
        // SAFETY: the only definition of this symbol in the image; boot declares it with the same signature.
        #[unsafe(no_mangle)]
        extern "Rust" fn karst_start(info: &'static $crate::BootInfo) -> ! {
            let start: fn(&'static $crate::BootInfo) -> ! = $start;
            start(info)
        }
    };
}

/// Calls the function named by [`entry!`].
#[cfg(target_os = "none")]
#[allow(dead_code)]
fn enter_kernel(info: &'static BootInfo) -> ! {
    unsafe extern "Rust" {
        safe fn karst_start(info: &'static BootInfo) -> !;
    }
    karst_start(info)
}
