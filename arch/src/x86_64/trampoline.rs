//! Starting the other CPUs: INIT, STARTUP, and the code they begin with in real mode.
//!
//! The code is position independent and copied to a page below 1 MiB that boot set aside ([`set_page`]); after it in the
//! same page come its parameters. It needs page tables that map that page at its own address: a root of its own, which
//! shares the kernel's half and maps the first 2 MiB besides. From there it jumps into the image, loads the kernel's
//! tables and goes on in [`secondary`].

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::platform::platform;
use super::thread::{SP_OFFSET, Thread};
use super::{apic, init, paging, percpu, thread};
use crate::addr::{PAGE_SIZE, PhysAddr, phys_to_virt};
use crate::cpu::{self, CpuId};
use crate::sync::SpinLock;
use crate::time;

/// Pages that boot sets aside below 1 MiB: code and three tables.
pub const PAGES: usize = 4;

/// Where they are; 0: nowhere.
static PAGE: AtomicU64 = AtomicU64::new(0);
/// One CPU starts at a time.
static STARTING: SpinLock<()> = SpinLock::new(());

/// How long a CPU may take to report, ns.
const PATIENCE_NS: u64 = 10_000_000_000;

/// What the code in the page finds behind it.
#[repr(C)]
struct Parameters {
    cr3: u64,
    entry: u64,
    stack: u64,
    gs: u64,
    cpu: u64,
    kernel_cr3: u64,
}

global_asm!(
    ".pushsection .rodata.trampoline, \"a\", @progbits",
    ".p2align 4",
    ".globl trampoline_start, trampoline_end",
    // Places are fixed, so that addresses are sums of the page and a constant: 32-bit code at 0x60, 64-bit code at 0xa0,
    // GDT 0xc0, its pointer 0xe0, far pointers 0xe8 and 0xf0, parameters 0x100.
    ".code16",
    "trampoline_start:",
    "cli",
    "mov ax, cs",
    "mov ds, ax",
    // ebp: the page's address.
    "xor ebp, ebp",
    "mov bp, ax",
    "shl ebp, 4",
    "lea eax, [ebp + 0xc0]",
    "mov dword ptr [0xe2], eax",
    "data32 lgdt [0xe0]",
    "lea eax, [ebp + 0x60]",
    "mov dword ptr [0xe8], eax",
    "lea eax, [ebp + 0xa0]",
    "mov dword ptr [0xf0], eax",
    "mov eax, cr0",
    "or eax, 1",
    "mov cr0, eax",
    // jmp far [0xe8], 32-bit operand
    ".byte 0x66, 0xff, 0x2e, 0xe8, 0x00",
    ".org 0x60",
    ".code32",
    "mov eax, 0x10",
    "mov ds, eax",
    "mov ss, eax",
    "mov eax, cr4",
    "or eax, 0x20",
    "mov cr4, eax",
    "mov eax, [ebp + 0x100]",
    "mov cr3, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    "mov eax, 0x80010001",
    "mov cr0, eax",
    // jmp far [ebp + 0xf0]
    ".byte 0xff, 0xad, 0xf0, 0x00, 0x00, 0x00",
    ".org 0xa0",
    ".code64",
    "mov ebp, ebp",
    "lea rbx, [rbp + 0x100]",
    "mov rsp, [rbx + 16]",
    "jmp [rbx + 8]",
    ".org 0xc0",
    ".quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff",
    ".word 31, 0, 0",
    ".org 0xe8",
    ".long 0",
    ".word 8",
    ".org 0xf0",
    ".long 0",
    ".word 24",
    ".org 0x100",
    "trampoline_end:",
    ".popsection",
    // The first code in the image: rbx points to the parameters, in the page.
    ".pushsection .text.entry, \"ax\", @progbits",
    ".globl secondary_entry",
    "secondary_entry:",
    "mov rdx, [rbx + 24]",
    "mov edi, [rbx + 32]",
    "mov rax, [rbx + 40]",
    "mov cr3, rax",
    "xor eax, eax",
    "mov ds, eax",
    "mov es, eax",
    "mov fs, eax",
    "mov gs, eax",
    "mov rax, rdx",
    "shr rdx, 32",
    "mov ecx, 0xc0000101",
    "wrmsr",
    "xor ebp, ebp",
    "call {secondary}",
    // The idle thread's saved context: as a switch to it would do.
    "mov rsp, [rax + {SP}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".popsection",
    secondary = sym secondary,
    SP = const SP_OFFSET,
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
    static secondary_entry: u8;
}

/// Names the pages for the trampoline: [`PAGES`] contiguous ones below 1 MiB.
pub fn set_page(page: PhysAddr) {
    PAGE.store(page.0, Ordering::Relaxed);
}

/// Makes the trampoline's tables and copies its code. Returns where its parameters go.
///
/// # Safety
/// The pages belong to the trampoline, and no CPU is using them.
unsafe fn prepare(page: PhysAddr) -> *mut Parameters {
    let table = |n: usize| page + (n * PAGE_SIZE) as u64;
    // SAFETY: the caller's promise; low memory is in the direct map.
    unsafe {
        phys_to_virt(page).write_bytes(0, PAGES * PAGE_SIZE);
        let (root, pdpt, directory) = (table(1), table(2), table(3));
        paging::init_user_root(root);
        phys_to_virt(root).cast::<u64>().write(pdpt.0 | 3);
        phys_to_virt(pdpt).cast::<u64>().write(directory.0 | 3);
        phys_to_virt(directory).cast::<u64>().write(0x83);
        let len = (&raw const trampoline_end).addr() - (&raw const trampoline_start).addr();
        core::ptr::copy_nonoverlapping(&raw const trampoline_start, phys_to_virt(page), len);
        phys_to_virt(page + len as u64).cast()
    }
}

/// See [`crate::smp::start_secondary`].
///
/// # Safety
/// As there.
pub unsafe fn start(cpu: CpuId, idle: *mut Thread) -> bool {
    let page = PhysAddr(PAGE.load(Ordering::Relaxed));
    if page.0 == 0 || cpu.index() >= platform().cpus {
        return false;
    }
    let _one = STARTING.lock();
    let apic_id = platform().apic_ids[cpu.index()];
    // SAFETY: the lock keeps others out of the page; the idle thread is the caller's promise.
    unsafe {
        let parameters = prepare(page);
        let gs = crate::percpu::offset_of(cpu);
        thread::set_current_of(cpu, idle);
        parameters.write(Parameters {
            cr3: page.0 + PAGE_SIZE as u64,
            entry: (&raw const secondary_entry).addr() as u64,
            // Below the idle thread's saved context, which is what it ends in.
            stack: (*idle).saved_sp() as u64 & !15,
            gs: gs as u64,
            cpu: u64::from(cpu.0),
            kernel_cr3: paging::kernel_root().0,
        });
    }
    core::sync::atomic::fence(Ordering::SeqCst);
    apic::send_init(apic_id);
    time::delay_ns(10_000);
    for _ in 0..2 {
        apic::send_startup(apic_id, (page.0 >> 12) as u8);
        if wait_online(cpu, 10_000_000) {
            return true;
        }
    }
    wait_online(cpu, PATIENCE_NS)
}

fn wait_online(cpu: CpuId, patience_ns: u64) -> bool {
    let start = time::now_ns();
    while !cpu::online().contains(cpu) {
        if time::now_ns().wrapping_sub(start) > patience_ns {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// A secondary CPU, on its idle thread's stack. Returns the thread for the assembly to enter.
extern "C" fn secondary(cpu: u32) -> *const Thread {
    let cpu = CpuId(cpu);
    // SAFETY: this CPU, once; `gs` leads to its own copy, the current thread was set by `start`.
    unsafe {
        percpu::set_offset(crate::percpu::offset_of(cpu));
        init::load_kernel_tables();
        init::cpu(cpu, cpu::node_of(cpu));
        apic::init_cpu(false);
        apic::init_timer();
    }
    // As every thread finds it when it is switched to.
    crate::preempt::add(crate::preempt::SWITCH_COUNT);
    thread::current().as_ptr()
}
