//! arm64: Image header, entry, page tables.
//!
//! | file | what |
//! |---|---|
//! | `head` | Image header and entry assembly |
//! | `early` | identity map, KASLR, relocation, mapping of the image |
//! | `devicetree` | the machine, from the tree |
//! | here | memory map, direct map, device window, hand-over |
//!
//! ACPI is not read: firmware that passes no device tree will need the UEFI stub for which the header has room.

mod devicetree;
mod early;
mod head;

use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};

use arch::addr::{self, PAGE_SIZE, PhysAddr};
use arch::cpu::{CpuMask, MAX_CPUS};
use arch::layout::{DEVICE_MAP, DEVICE_MAP_SIZE, DIRECT_MAP, DIRECT_MAP_SIZE};
use arch::native::map_step;
use arch::paging::{ENTRIES, Prot, PteCell};

use self::devicetree::Machine;
use crate::fdt::{self, Fdt};
use crate::info::{BootInfo, MemoryKind, Numa, PhysRange};
use crate::memblock;

/// The longest command line, as Linux's COMMAND_LINE_SIZE.
const CMDLINE_MAX: usize = 2048;
/// A device tree is at most this long.
const DTB_MAX: usize = 2 << 20;

/// What outlives boot.
struct Statics {
    machine: Machine,
    cmdline: [u8; CMDLINE_MAX],
    image_free: [PhysRange; 1],
    seed: [u8; 64],
    info: Option<BootInfo>,
}

struct StaticsCell(UnsafeCell<Statics>);

// SAFETY: written by the boot CPU before there are others, only read afterwards.
unsafe impl Sync for StaticsCell {}

static STATICS: StaticsCell = StaticsCell(UnsafeCell::new(Statics {
    machine: Machine::new(),
    cmdline: [0; CMDLINE_MAX],
    image_free: [PhysRange::new(0, 0)],
    seed: [0; 64],
    info: None,
}));

unsafe extern "C" {
    static _image_start: u8;
    static _image_end: u8;
    static arch_kernel_root: [PteCell; ENTRIES];
}

/// The boot CPU arrives here at the image's final address, on the boot stack; TTBR0 still holds the identity map.
/// `dtb`: physical; `offset`: virtual - physical of the image; `entry_el`: 1 or 2.
#[unsafe(no_mangle)]
extern "C" fn boot_main(dtb: usize, offset: usize, entry_el: usize) -> ! {
    // SAFETY: once, single-threaded.
    let statics = unsafe { &mut *STATICS.0.get() };
    let image_virt = (&raw const _image_start).addr()..(&raw const _image_end).addr();
    let image = PhysRange::new(image_virt.start.wrapping_sub(offset) as u64, image_virt.len() as u64);
    addr::set_image(image_virt.clone(), image.start);
    addr::set_direct_map_offset(DIRECT_MAP);
    map_devices();

    let tree = identity_tree(dtb);
    let machine = &mut statics.machine;
    if let Some(tree) = &tree {
        machine.read(tree, mpidr());
        let chosen = tree.find("/chosen");
        copy(&mut statics.cmdline, chosen.and_then(|c| c.property("bootargs")).unwrap_or(&[]));
        copy(&mut statics.seed, chosen.and_then(|c| c.property("rng-seed")).unwrap_or(&[]));
    }
    machine.platform.booted_at_el2 = entry_el == 2;
    arch::native::set_platform(machine.platform.clone());
    let cmdline = text(&statics.cmdline);
    early_console(cmdline);

    let dtb = tree.map(|t| PhysRange::new(dtb as u64, t.len() as u64));
    reserve(machine, image, dtb);
    limit_memory(cmdline, machine, image, dtb);
    map_memory();
    release_identity_map();

    let rest = early::pool_rest();
    let rest = PhysRange::new(rest.start.wrapping_sub(offset) as u64, rest.len() as u64);
    statics.image_free = [rest];

    let cpus = machine.cpus.as_slice();
    arch::cpu::set_possible(CpuMask::first_n(cpu_limit(cmdline).min(cpus.len())));
    init_per_cpu();
    arch::native::init_boot();

    let seed_len = statics.seed.iter().rposition(|b| *b != 0).map_or(0, |n| n + 1);
    let numa = Numa { ranges: machine.numa_ranges.as_slice(), ..machine.numa };
    crate::enter_kernel(statics.info.insert(BootInfo {
        memory: machine.memory.as_slice(),
        image,
        image_free: &statics.image_free,
        initrd: machine.initrd,
        cmdline,
        rsdp: None,
        dtb: dtb.map(|r| r.start),
        numa,
        cpus,
        slide: image_virt.start - arch::layout::KIMAGE_LINK_BASE,
        seed: &statics.seed[..seed_len],
    }))
}

/// The tree, through the identity map.
fn identity_tree(dtb: usize) -> Option<Fdt<'static>> {
    if dtb == 0 || !dtb.is_multiple_of(8) {
        return None;
    }
    let at: *const u8 = ptr::with_exposed_provenance(dtb);
    // SAFETY: the identity map covers 2 MiB from here on; nobody writes there.
    unsafe {
        let len = fdt::total_size(core::slice::from_raw_parts(at, 40))?;
        Fdt::new(core::slice::from_raw_parts(at, len.min(DTB_MAX)))
    }
}

/// Copies as much as fits, leaving a NUL at the end.
fn copy(to: &mut [u8], from: &[u8]) {
    let n = from.len().min(to.len() - 1);
    to[..n].copy_from_slice(&from[..n]);
}

/// Up to the first NUL or the first byte that is not UTF-8.
fn text(bytes: &[u8]) -> &str {
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    match core::str::from_utf8(&bytes[..len]) {
        Ok(s) => s,
        Err(e) => core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or(""),
    }
}

/// `earlycon` and `earlycon=`.
fn early_console(cmdline: &str) {
    for word in cmdline.split(' ') {
        if word == "earlycon" || word.starts_with("earlycon=") {
            let spec = word.strip_prefix("earlycon=");
            if arch::earlycon::setup(spec) {
                arch::earlycon::enable(true);
            }
        }
    }
}

/// How many CPUs are possible at all: `nr_cpus=`, `nosmp`.
fn cpu_limit(cmdline: &str) -> usize {
    let mut limit = MAX_CPUS;
    for word in cmdline.split(' ') {
        if word == "nosmp" {
            limit = 1;
        } else if let Some(n) = word.strip_prefix("nr_cpus=").and_then(|n| n.parse::<usize>().ok()) {
            limit = limit.min(n.max(1));
        }
    }
    limit
}

fn mpidr() -> u64 {
    let mpidr: u64;
    // SAFETY: reads an ID register.
    unsafe {
        core::arch::asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags))
    };
    mpidr
}

/// Tells memblock what there is and what is taken. A list that overflows loses memory, never invents any: what is
/// reserved goes in first.
fn reserve(machine: &Machine, image: PhysRange, dtb: Option<PhysRange>) {
    memblock::with(|m| {
        let taken =
            machine.memory.as_slice().iter().filter(|r| r.kind != MemoryKind::Usable).map(|r| r.range);
        let all = taken.chain([image]).chain(machine.initrd).chain(dtb);
        for range in all {
            let _ = m.reserve(range);
        }
        for region in machine.memory.as_slice().iter().filter(|r| r.kind == MemoryKind::Usable) {
            let end = PhysAddr(DIRECT_MAP_SIZE as u64).min(region.range.end);
            let _ = m.add_memory(PhysRange { start: region.range.start, end });
        }
    });
}

/// `mem=`: as much memory as that, from the bottom; what was loaded further up stays mapped.
fn limit_memory(cmdline: &str, machine: &Machine, image: PhysRange, dtb: Option<PhysRange>) {
    let Some(mut left) = cmdline.split(' ').rev().find_map(|w| size(w.strip_prefix("mem=")?)) else {
        return;
    };
    memblock::with(|m| {
        let mut limit = None;
        for range in m.memory() {
            if range.len() >= left {
                limit = Some(range.start + left);
                break;
            }
            left -= range.len();
        }
        let Some(limit) = limit else { return };
        let _ =
            m.remove_memory(PhysRange { start: limit.align_up(PAGE_SIZE as u64), end: PhysAddr(u64::MAX) });
        for range in [image].into_iter().chain(machine.initrd).chain(dtb) {
            let start = range.start.align_down(PAGE_SIZE as u64);
            let _ = m.add_memory(PhysRange { start, end: range.end.align_up(PAGE_SIZE as u64) });
        }
    });
}

/// A size with a suffix K, M or G, as Linux's `memparse` reads it.
fn size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].bytes().next() {
        None => 0,
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        Some(_) => return None,
    };
    number.checked_shl(shift).filter(|n| *n != 0)
}

/// A frame for a table before all memory is mapped: from the pool, then from memory mapped already.
fn table(mapped: PhysRange) -> Option<PhysAddr> {
    if let Some(frame) = early::pool_take() {
        return Some(addr::virt_to_phys(addr::VirtAddr(frame.addr())));
    }
    let frame = memblock::with(|m| m.alloc_in(PAGE_SIZE as u64, PAGE_SIZE as u64, mapped))?;
    // SAFETY: free memory that the direct map reaches.
    unsafe { addr::phys_to_virt(frame).write_bytes(0, PAGE_SIZE) };
    Some(frame)
}

/// Maps a range of the kernel's half. Tables come from the pool or from `mapped`.
fn map(va: usize, pa: PhysAddr, len: usize, prot: Prot, mapped: PhysRange) -> bool {
    let pool = early::pool_range();
    let mut done = 0;
    while done < len {
        let mut alloc = || table(mapped);
        let mut access = |pa: PhysAddr| {
            // Tables of the pool are reached through the image: the direct map may not be there yet.
            pool(pa).unwrap_or_else(|| addr::phys_to_virt(pa).cast_const()).cast::<PteCell>()
        };
        // SAFETY: the kernel's root; boot is single-threaded, and nothing else is mapped in these windows.
        match unsafe {
            map_step(&raw const arch_kernel_root, va, pa, len, done, prot, &mut alloc, &mut access)
        } {
            Ok(step) => done += step,
            Err(_) => return false,
        }
    }
    true
}

/// The window of device registers. Blocks of 1 GiB: three tables of the pool.
fn map_devices() {
    map(DEVICE_MAP, PhysAddr(0), DEVICE_MAP_SIZE, Prot::KERNEL_DEVICE, PhysRange::new(0, 0));
}

/// The direct map of all RAM: code and constants of the image read-only there, too.
fn map_memory() {
    let mut mapped = PhysRange::new(0, 0);
    for i in 0.. {
        let Some(range) = memblock::with(|m| m.memory().get(i).copied()) else { break };
        map_ram(range, mapped);
        if range.len() > mapped.len() {
            mapped = range;
        }
    }
    // SAFETY: barriers: the new entries are used from here on.
    unsafe { core::arch::asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

fn map_ram(range: PhysRange, mapped: PhysRange) {
    let text = arch::layout::kernel_text();
    let rodata = arch::layout::rodata();
    let phys = |va: usize| addr::virt_to_phys(addr::VirtAddr(va));
    let constant = PhysRange { start: phys(text.start), end: phys(rodata.end) };
    let parts = [
        (PhysRange { start: range.start, end: range.end.min(constant.start) }, Prot::KERNEL_RW),
        (
            PhysRange { start: range.start.max(constant.start), end: range.end.min(constant.end) },
            Prot::KERNEL_RO,
        ),
        (PhysRange { start: range.start.max(constant.end), end: range.end }, Prot::KERNEL_RW),
    ];
    for (part, prot) in parts {
        let va = DIRECT_MAP + part.start.0 as usize;
        if !part.is_empty() && !map(va, part.start, part.len() as usize, prot, mapped) {
            // Memory that cannot be mapped is not there.
            let _ = memblock::with(|m| m.remove_memory(part));
        }
    }
}

/// The identity map goes out of TTBR0; its tables stay for the secondaries.
fn release_identity_map() {
    unsafe extern "C" {
        static arch_reserved_root: [PteCell; ENTRIES];
    }
    let root = addr::virt_to_phys(addr::VirtAddr((&raw const arch_reserved_root).addr())).0;
    // SAFETY: nothing uses low addresses any more: the device tree was read.
    unsafe {
        core::arch::asm!(
            "msr ttbr0_el1, {}", "isb", "tlbi vmalle1", "dsb nsh", "isb",
            in(reg) root, options(nostack, preserves_flags)
        )
    };
}

/// Copies of the per-CPU variables, each in memory of the CPU's node where there is some.
fn init_per_cpu() {
    let alloc = |_cpu, layout: core::alloc::Layout| {
        let size = layout.size().next_multiple_of(PAGE_SIZE) as u64;
        let at = memblock::with(|m| m.alloc(size, PAGE_SIZE as u64))?;
        NonNull::new(addr::phys_to_virt(at))
    };
    // SAFETY: once, on the boot CPU, interrupts off, no other CPU runs.
    if unsafe { arch::percpu::init(alloc) }.is_err() {
        arch::earlycon::enable(true);
        arch::earlycon::print(format_args!("no memory for per-CPU data\n"));
        arch::cpu::halt();
    }
}
