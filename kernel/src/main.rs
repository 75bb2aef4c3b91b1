//! The kernel image: the entry that boot calls, the heap, and what happens on panic. All else is in the library.
//!
//! This file holds the only attributes above `mm` that count as unsafe: the exported entry symbol of
//! [`boot::entry!`].
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    boot::entry!(kernel::init::start);

    #[global_allocator]
    static HEAP: mm::KernelHeap = mm::KernelHeap;

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        kernel::oops::panic(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("This is a kernel: `cargo xtask run` boots it.");
}
