//! Descriptor tables: GDT, TSS and IDT.
//!
//! The selectors are those of Linux: programs see `cs = 0x33`, `ss = 0x2b` in signal frames and ptrace, and `lsl` of
//! `0x7b` gives CPU and node numbers to the vDSO.

use core::arch::asm;
use core::cell::UnsafeCell;

use super::entry;
use crate::cpu::CpuId;
use crate::percpu::PerCpu;

/// Kernel code.
pub const KERNEL_CS: u16 = 0x10;
/// Kernel data; also the base that `syscall` derives its stack segment from.
pub const KERNEL_DS: u16 = 0x18;
/// 32-bit user code: the base that `sysret` derives the others from.
pub const USER32_CS: u16 = 0x23;
/// User data.
pub const USER_DS: u16 = 0x2b;
/// User code.
pub const USER_CS: u16 = 0x33;
const TSS_SELECTOR: u16 = 0x40;
const LDT_SELECTOR: u16 = 0x50;
const GDT_ENTRIES: usize = 16;
/// Index of the segment whose limit encodes CPU and node.
const CPUNODE: usize = 15;

/// Stacks of the interrupt stack table.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Ist {
    Nmi = 1,
    DoubleFault = 2,
    Debug = 3,
    MachineCheck = 4,
}

/// Bytes of the map of all I/O ports.
pub(super) const PORT_MAP_BYTES: usize = 65536 / 8;

/// The task state segment: in long mode its stack pointers matter, and the map of ports that user mode may use.
#[repr(C, packed(4))]
pub(super) struct Tss {
    _reserved0: u32,
    /// Stack for traps from user mode, and for system calls: top of the running thread's kernel stack.
    rsp: [u64; 3],
    _reserved1: u64,
    ist: [u64; 7],
    _reserved2: u64,
    _reserved3: u16,
    /// Where the map begins; beyond the segment's limit there is none, and no port is allowed.
    iomap_base: u16,
    /// A bit per port, set if it is forbidden, and a byte more that the processor reads along.
    ports: [u8; PORT_MAP_BYTES + 1],
}

const NO_PORTS: u16 = size_of::<Tss>() as u16;

/// Offset of `rsp[0]` in the TSS.
pub(super) const TSS_RSP0: usize = 4;

const IST_SMALL: usize = 4096;
const IST_LARGE: usize = 8192;

/// Memory for a stack.
#[repr(C, align(16))]
pub(super) struct Stack<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: only the processor writes to it, on the CPU that owns it.
unsafe impl<const N: usize> Sync for Stack<N> {}

impl<const N: usize> Stack<N> {
    pub(super) const fn new() -> Self {
        Self(UnsafeCell::new([0; N]))
    }

    /// One past the end.
    pub(super) fn top(&self) -> usize {
        self.0.get().addr() + N
    }
}

crate::per_cpu! {
    pub(super) static TSS: UnsafeCell<Tss> = UnsafeCell::new(Tss {
        _reserved0: 0, rsp: [0; 3], _reserved1: 0, ist: [0; 7], _reserved2: 0, _reserved3: 0,
        iomap_base: NO_PORTS, ports: [0xff; PORT_MAP_BYTES + 1],
    });
    static GDT: UnsafeCell<[u64; GDT_ENTRIES]> = UnsafeCell::new([0; GDT_ENTRIES]);
    static NMI_STACK: Stack<IST_LARGE> = Stack::new();
    static DEBUG_STACK: Stack<IST_SMALL> = Stack::new();
    static DOUBLE_FAULT_STACK: Stack<IST_LARGE> = Stack::new();
    static MACHINE_CHECK_STACK: Stack<IST_LARGE> = Stack::new();
}

/// An interrupt gate.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

impl Gate {
    const fn none() -> Self {
        Self { low: 0, high: 0 }
    }

    fn new(handler: usize, ist: u8, dpl: u8) -> Self {
        let handler = handler as u64;
        let attributes = 0x8e00 | u64::from(dpl) << 13 | u64::from(ist);
        Self {
            low: handler & 0xffff
                | u64::from(KERNEL_CS) << 16
                | attributes << 32
                | (handler >> 16 & 0xffff) << 48,
            high: handler >> 32,
        }
    }
}

struct Idt(UnsafeCell<[Gate; 256]>);

// SAFETY: written by the boot CPU before there are others, then only read by the processors.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([Gate::none(); 256]));

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

const fn code_segment(dpl: u64) -> u64 {
    0x00af_9b00_0000_ffff | dpl << 45
}

const fn data_segment(dpl: u64) -> u64 {
    0x00cf_9300_0000_ffff | dpl << 45
}

const fn code32_segment(dpl: u64) -> u64 {
    0x00cf_9b00_0000_ffff | dpl << 45
}

/// Fills the IDT; the boot CPU, once per mapping of the image.
///
/// # Safety
/// No other CPU is running.
pub(super) unsafe fn init_idt() {
    // SAFETY: nobody else uses the table, as the caller promises.
    let idt = unsafe { &mut *IDT.0.get() };
    for (vector, gate) in idt.iter_mut().enumerate() {
        let (ist, dpl) = match vector {
            1 => (Ist::Debug as u8, 0),
            2 => (Ist::Nmi as u8, 0),
            3 | 4 => (0, 3),
            8 => (Ist::DoubleFault as u8, 0),
            18 => (Ist::MachineCheck as u8, 0),
            _ => (0, 0),
        };
        *gate = Gate::new(entry::stub(vector), ist, dpl);
    }
}

/// Loads GDT, TSS and IDT on this CPU. `gs` must lead to this CPU's data already.
///
/// # Safety
/// This CPU's per-CPU data is its own, `cpu` is its number, interrupts are off, [`init_idt`] was called.
pub(super) unsafe fn load(cpu: CpuId, node: u32) {
    let gs = super::percpu::offset();
    let tss = tss();
    let ists = [
        stack_top(&NMI_STACK, gs),
        stack_top(&DOUBLE_FAULT_STACK, gs),
        stack_top(&DEBUG_STACK, gs),
        stack_top(&MACHINE_CHECK_STACK, gs),
    ];
    for (i, top) in ists.into_iter().enumerate() {
        // SAFETY: the TSS and the stacks are this CPU's own. The paranoid entry finds the per-CPU base above its frame.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<usize>(top - 16).write(gs);
            (&raw mut (*tss).ist[i]).write_unaligned(top as u64 - 16);
        }
    }
    let gdt = GDT.current_raw().cast_mut().cast::<u64>();
    let base = tss.addr() as u64;
    let limit = size_of::<Tss>() as u64 - 1;
    let tss_low = limit & 0xffff | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    let cpunode = data_segment(3) & !0x000f_0000_0000_ffff & !(1 << 55)
        | (u64::from(node) << 12 | cpu.index() as u64) & 0xffff
        | (u64::from(node) >> 4 & 0xf) << 48;
    let entries: [(usize, u64); 9] = [
        (1, code32_segment(0)),
        (2, code_segment(0)),
        (3, data_segment(0)),
        (4, code32_segment(3)),
        (5, data_segment(3)),
        (6, code_segment(3)),
        (8, tss_low),
        (9, base >> 32),
        (CPUNODE, cpunode),
    ];
    for (i, value) in entries {
        // SAFETY: this CPU's own table, which it does not use yet.
        unsafe { gdt.add(i).write(value) };
    }
    let gdtr = TablePointer { limit: (GDT_ENTRIES * 8 - 1) as u16, base: gdt.addr() as u64 };
    let idtr = TablePointer { limit: 4095, base: IDT.0.get().addr() as u64 };
    // SAFETY: the tables are complete and live for ever. Loading fs and gs with 0 clears the gs base, so only ds, es and
    // ss are loaded; fs and gs hold the null selector since reset.
    unsafe {
        asm!(
            "lgdt [{gdtr}]",
            "push {cs}",
            "lea {tmp}, [rip + 2f]",
            "push {tmp}",
            "retfq",
            "2:",
            "mov ss, {ds:e}",
            "xor {tmp:e}, {tmp:e}",
            "mov ds, {tmp:e}",
            "mov es, {tmp:e}",
            "lidt [{idtr}]",
            "ltr {tss:x}",
            gdtr = in(reg) &gdtr, idtr = in(reg) &idtr, cs = const KERNEL_CS, ds = in(reg) u32::from(KERNEL_DS),
            tss = in(reg) TSS_SELECTOR, tmp = out(reg) _,
        );
    }
}

/// Loads a local descriptor table of `len` descriptors at `base`; none if that is 0. Interrupts off.
pub(super) fn set_ldt(base: usize, len: usize) {
    let (base, limit) = (base as u64, (len * 8).wrapping_sub(1) as u64);
    let selector = if len == 0 { 0 } else { LDT_SELECTOR };
    let low = limit & 0xffff | (base & 0xff_ffff) << 16 | 0x82 << 40 | (base >> 24 & 0xff) << 56;
    let gdt = GDT.current_raw().cast_mut().cast::<u64>();
    let index = usize::from(LDT_SELECTOR >> 3);
    // SAFETY: this CPU's own table; the entry is read by `lldt` only.
    unsafe {
        gdt.add(index).write(low);
        gdt.add(index + 1).write(base >> 32);
        asm!("lldt {0:x}", in(reg) selector);
    }
}

/// Whether a program can load a data segment register with the global descriptor `index`.
pub(super) fn is_user_data(index: usize) -> bool {
    [USER32_CS, USER_DS, USER_CS].iter().any(|selector| index == usize::from(selector >> 3))
        || index == CPUNODE
}

fn stack_top<const N: usize>(stack: &PerCpu<Stack<N>>, _gs: usize) -> usize {
    // SAFETY: this CPU's copy, which lives for ever.
    unsafe { (*stack.current_raw()).top() }
}

fn tss() -> *mut Tss {
    TSS.current_raw().cast_mut().cast()
}

/// Allows user mode the ports whose bits in `map` are clear; none without a map. Interrupts off.
pub(super) fn set_ports(map: Option<&[u8]>) {
    let tss = tss();
    let base = match map {
        Some(map) => {
            let len = map.len().min(PORT_MAP_BYTES);
            // SAFETY: this CPU's own TSS, and no more than its map holds.
            unsafe {
                core::ptr::copy_nonoverlapping(map.as_ptr(), (&raw mut (*tss).ports).cast::<u8>(), len)
            };
            core::mem::offset_of!(Tss, ports) as u16
        }
        None => NO_PORTS,
    };
    // SAFETY: this CPU's own TSS; the field may lie unaligned.
    unsafe { (&raw mut (*tss).iomap_base).write_unaligned(base) };
}

/// Which stack traps from user mode use.
///
/// # Safety
/// `top` is the end of a valid stack; interrupts or preemption are off.
pub(super) unsafe fn set_kernel_stack(top: usize) {
    // SAFETY: this CPU's own TSS; the field is 4-byte aligned only.
    unsafe { (&raw mut (*tss()).rsp[0]).write_unaligned(top as u64) };
}
