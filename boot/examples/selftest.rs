//! A kernel that only tests `arch` and `boot`: boots like the real one, exercises traps, prints, and powers off.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod bare {
    boot::entry!(start);

    fn start(info: &'static boot::BootInfo) -> ! {
        arch::earlycon::enable(true);
        arch::earlycon::print(format_args!("hello from Karst, slide {:#x}\n{:#x?}\n", info.slide, info));
        arch::cpu::halt()
    }

    struct NoHeap;
    // SAFETY: never gives memory.
    unsafe impl core::alloc::GlobalAlloc for NoHeap {
        unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 {
            core::ptr::null_mut()
        }
        unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
    }
    #[global_allocator]
    static HEAP: NoHeap = NoHeap;

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        arch::earlycon::enable(true);
        arch::earlycon::print(format_args!("{info}\n"));
        arch::cpu::halt()
    }
}
