//! x86_64: PVH entry, relocation, the memory map, the final page tables.
//!
//! [`head`] → [`stage1`] (linked address: chooses where to go) → [`head::relocate`] → [`stage2`] (final address: everything
//! else) → the kernel.

mod head;
mod memory;
mod params;
mod pvh;
mod start_info;
mod topology;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arch::addr::PhysAddr;
use arch::cpu::CpuId;
use arch::native::{IMAGE_ROOM, features, init, insn, platform};
use sync::Once;

use crate::info::{BootInfo, PhysRange};
use crate::memblock;

const STEP: usize = 2 << 20;

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static boot_stack_top: u8;
    static boot_pd_high: [AtomicU64; 512];
}

/// Bytes of the image in memory.
fn image_size() -> usize {
    (&raw const __image_end).addr() - (&raw const __image_start).addr()
}

/// Where the image lies physically.
fn image() -> PhysRange {
    PhysRange::new(head::LOAD as u64, image_size() as u64)
}

/// Chooses a slide and moves there. Nothing done here may leave pointers behind: they would point to the old place.
extern "C" fn stage1(start_info_at: u64) -> ! {
    let pages = image_size().div_ceil(STEP);
    let slide = if start_info::cmdline_has(start_info_at, "nokaslr") { 0 } else { random_slide(pages) };
    let first = head::LOAD / STEP;
    // SAFETY: the boot page directory is ours alone.
    let directory = unsafe { &boot_pd_high };
    if slide != 0 {
        for i in first..first + pages {
            directory[i + slide / STEP].store((i * STEP) as u64 | 0x83, Relaxed);
        }
    }
    // SAFETY: mapped above, the old mapping too.
    unsafe { head::relocate(start_info_at, slide) }
}

/// A slide beyond the image itself (so that old and new mappings do not overlap) within the room for it.
fn random_slide(pages: usize) -> usize {
    let (low, high) = (pages, IMAGE_ROOM / STEP - pages - head::LOAD / STEP);
    features::detect_early();
    let random = arch::random::hw_seed()
        .unwrap_or_else(|| insn::rdtsc().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    (low + (random % (high - low) as u64) as usize) * STEP
}

/// Everything else, at the final address.
extern "C" fn stage2(start_info_at: u64) -> ! {
    // SAFETY: right after entry, as it says.
    unsafe { init::early((&raw const boot_stack_top).addr()) };
    // SAFETY: the loader's records are in identity-mapped memory that nothing has touched.
    let start = unsafe { start_info::read(start_info_at) };
    let Some(start) = start else { fail("no PVH start info") };
    params::early(start.cmdline);

    memory::init_memblock(&start);
    // Firmware's tables are read while memory is still mapped at its own address.
    // SAFETY: as below.
    let rsdp = (start.rsdp != 0)
        .then_some(start.rsdp)
        .or_else(|| arch::acpi::scan(unsafe { start_info::firmware(0xe_0000, 0x2_0000) }?, 0xe_0000));
    // SAFETY: nobody writes to the firmware's tables.
    let platform = platform::init(rsdp, &|at, len| unsafe { start_info::firmware(at, len) });
    let topology = topology::init(platform, start.cmdline);
    if memory::build_tables().is_err() {
        fail("no memory for page tables");
    }
    // SAFETY: the tables map the image where it runs, W^X, and all RAM; the boot stack is part of the image.
    unsafe { memory::switch_tables() };

    // SAFETY: one CPU, interrupts off. Memory comes from memblock and is never freed.
    let percpu = unsafe {
        arch::percpu::init(|_, layout| {
            let at = memblock::with(|m| m.alloc(layout.size() as u64, layout.align() as u64))?;
            core::ptr::NonNull::new(arch::addr::phys_to_virt(at))
        })
    };
    if percpu.is_err() {
        fail("no memory for per-CPU data");
    }
    // SAFETY: the boot CPU, on its own per-CPU data and the kernel's tables; the platform is known.
    unsafe {
        init::cpu(CpuId::BOOT, arch::cpu::node_of(CpuId::BOOT));
        init::devices();
    }

    static INFO: Once<BootInfo> = Once::new();
    let info = INFO.call_once(|| BootInfo {
        memory: start.memory,
        image: image(),
        image_free: memory::image_free(),
        initrd: start.initrd,
        cmdline: start.cmdline,
        rsdp: rsdp.map(PhysAddr),
        dtb: None,
        numa: topology.numa,
        cpus: topology.cpus,
        slide: arch::native::slide(),
        seed: &[],
    });
    crate::enter_kernel(info)
}

/// There is no kernel to report it to.
fn fail(why: &str) -> ! {
    arch::earlycon::enable(true);
    arch::earlycon::print(format_args!("Boot failed: {why}\n"));
    arch::cpu::halt()
}
