//! The smallest kernel: boots, prints what boot found, and powers off.
//!
//! `cargo build -p boot --example hello --target aarch64-unknown-none-softfloat`, flattened by objcopy, then
//! `qemu-system-aarch64 -M virt -cpu max -kernel IMAGE -append earlycon`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(missing_docs)]

#[cfg(target_os = "none")]
mod bare {
    extern crate alloc;

    use core::alloc::{GlobalAlloc, Layout};
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use arch::earlycon;
    use boot::BootInfo;

    macro_rules! println {
        ($($arg:tt)*) => { earlycon::print(format_args!("{}\n", format_args!($($arg)*))) };
    }

    boot::entry!(start);

    /// Gives out and never takes back.
    struct Bump;
    const HEAP: usize = 1 << 20;
    static mut MEMORY: [u8; HEAP] = [0; HEAP];
    static USED: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: ranges given out never overlap.
    unsafe impl GlobalAlloc for Bump {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let base = (&raw mut MEMORY).cast::<u8>();
            let at = USED.fetch_add(layout.size() + layout.align(), Relaxed);
            if at + layout.size() + layout.align() > HEAP {
                return core::ptr::null_mut();
            }
            let pad = base.wrapping_add(at).align_offset(layout.align());
            base.wrapping_add(at + pad)
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    #[global_allocator]
    static ALLOCATOR: Bump = Bump;

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        println!("{info}");
        arch::power::poweroff();
        arch::cpu::halt()
    }

    fn start(info: &'static BootInfo) -> ! {
        earlycon::setup(None);
        earlycon::enable(true);
        println!("hello, {:?} cmdline \"{}\" slide {:#x}", info.image, info.cmdline, info.slide);
        println!("memory {:x?}", info.memory);
        println!("cpus {:?} nodes {} {:?}", info.cpus, info.numa.nodes, info.numa.ranges);
        println!("initrd {:x?} dtb {:x?} free {:x?}", info.initrd, info.dtb, info.image_free);
        println!("clock {} Hz, epoch {} ns", arch::time::clock_hz(), arch::time::boot_epoch_ns());
        arch::power::poweroff();
        arch::cpu::halt()
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
