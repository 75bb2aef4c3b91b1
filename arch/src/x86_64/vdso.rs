//! The vDSO image and its data page.
//!
//! The image is an ELF shared object of one page, laid out by hand below: header, program headers, dynamic section, symbols
//! with version `LINUX_2.6`, and the code. Right in front of it lies the data page, twice. Its sequence count is odd during an
//! update; readers try again.
//!
//! In a time namespace (time_namespaces(7)) the second of the two is the namespace's own page: its count is always odd, and
//! where the data page has offsets of clocks it has what the namespace adds. Whoever finds an odd count looks whether it is
//! such a page, and if so reads the first page and adds. Outside of namespaces this costs nothing.
//!
//! Reference: vdso(7); System V ABI, chapter 5; the gABI's symbol versioning.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::Release, fence};

use crate::addr::{PAGE_SIZE, PhysAddr, VirtAddr, virt_to_phys};

/// Pages of data in front of the image.
pub const VVAR_PAGES: usize = 2;

/// Offset of the `rt_sigreturn` trampoline in the image: on x86 the C library brings its own.
pub const SIGRETURN_OFFSET: Option<usize> = None;

/// Clocks that have an entry in [`Data::offset`]: `CLOCK_TAI` is the last.
const CLOCKS: usize = 12;

/// The data page.
#[repr(C, align(4096))]
struct Data {
    sequence: AtomicU32,
    /// `mult` of the cycle counter; 0: use the system call.
    mult: AtomicU32,
    shift: AtomicU32,
    coarse_res_ns: AtomicU32,
    base: AtomicU64,
    /// The same of the raw clock, which nobody corrects.
    raw_base: AtomicU64,
    raw_mult: AtomicU32,
    raw_shift: AtomicU32,
    /// What to add to the nanoseconds since `base`, by clock.
    offset: [AtomicU64; CLOCKS],
    /// Seconds and nanoseconds of CLOCK_REALTIME_COARSE, then of CLOCK_MONOTONIC_COARSE.
    coarse: [AtomicU64; 4],
    minutes_west: AtomicU32,
    dst_time: AtomicU32,
    /// Not 0: this is the page of a time namespace.
    namespace: AtomicU64,
}

static DATA: Data = Data {
    sequence: AtomicU32::new(0),
    mult: AtomicU32::new(0),
    shift: AtomicU32::new(0),
    coarse_res_ns: AtomicU32::new(0),
    base: AtomicU64::new(0),
    raw_base: AtomicU64::new(0),
    raw_mult: AtomicU32::new(0),
    raw_shift: AtomicU32::new(0),
    offset: [const { AtomicU64::new(0) }; CLOCKS],
    coarse: [const { AtomicU64::new(0) }; 4],
    minutes_west: AtomicU32::new(0),
    dst_time: AtomicU32::new(0),
    namespace: AtomicU64::new(0),
};

/// What the data page says; refreshed by the timekeeper, at most at every tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct VdsoTime {
    /// CLOCK_REALTIME = monotonic + this, ns.
    pub wall_offset_ns: u64,
    /// CLOCK_BOOTTIME = monotonic + this, ns.
    pub boot_offset_ns: u64,
    /// CLOCK_TAI - CLOCK_REALTIME, s.
    pub tai_offset_s: i32,
    /// CLOCK_MONOTONIC at the last tick, ns: for the coarse clocks.
    pub coarse_ns: u64,
    /// Resolution of the coarse clocks, ns.
    pub coarse_res_ns: u32,
    /// CLOCK_MONOTONIC = now_ns + this, ns.
    pub mono_offset_ns: i64,
    /// `(base, mult, shift)` of the cycle counter; a `mult` of 0 sends programs to the system call.
    pub clock: (u64, u32, u32),
    /// The same of CLOCK_MONOTONIC_RAW.
    pub raw_clock: (u64, u32, u32),
    /// `tz_minuteswest`, `tz_dsttime` for gettimeofday.
    pub timezone: (i32, i32),
}

/// The ELF shared object, a whole number of pages. Mapped read-execute into every process, right after [`VVAR_PAGES`]
/// pages of data.
pub fn image() -> &'static [u8] {
    unsafe extern "C" {
        static vdso_start: u8;
        static vdso_end: u8;
    }
    let (start, end) = (&raw const vdso_start, &raw const vdso_end);
    // SAFETY: the symbols enclose constant data.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The words of the page of a time namespace that are not 0: where they stand in the page, and what they are.
pub fn namespace_words(monotonic_ns: i64, boottime_ns: i64) -> [(usize, u64); 6] {
    let clock = |id: u32| offset_of!(Data, offset) + id as usize * size_of::<u64>();
    let (monotonic, boottime) = (monotonic_ns as u64, boottime_ns as u64);
    [
        (offset_of!(Data, sequence), 1),
        (offset_of!(Data, namespace), 1),
        (clock(abi::raw::CLOCK_MONOTONIC), monotonic),
        (clock(abi::raw::CLOCK_MONOTONIC_RAW), monotonic),
        (clock(abi::raw::CLOCK_MONOTONIC_COARSE), monotonic),
        (clock(abi::raw::CLOCK_BOOTTIME), boottime),
    ]
}

/// The data page (kernel memory, mapped read-only into processes).
pub fn vvar_page() -> PhysAddr {
    virt_to_phys(VirtAddr((&raw const DATA).addr()))
}

/// Updates the data page under its sequence count. One caller at a time.
pub fn update(time: &VdsoTime) {
    let sequence = DATA.sequence.load(Relaxed);
    DATA.sequence.store(sequence.wrapping_add(1), Relaxed);
    fence(Release);
    let mono = time.mono_offset_ns as u64;
    let real = mono.wrapping_add(time.wall_offset_ns);
    let tai = (i64::from(time.tai_offset_s) * 1_000_000_000) as u64;
    let clocks = [
        (abi::raw::CLOCK_REALTIME, real),
        (abi::raw::CLOCK_MONOTONIC, mono),
        (abi::raw::CLOCK_MONOTONIC_RAW, 0),
        (abi::raw::CLOCK_BOOTTIME, mono.wrapping_add(time.boot_offset_ns)),
        (abi::raw::CLOCK_TAI, real.wrapping_add(tai)),
    ];
    for (clock, offset) in clocks {
        if let Some(cell) = DATA.offset.get(clock as usize) {
            cell.store(offset, Relaxed);
        }
    }
    let coarse_real = time.coarse_ns.wrapping_add(time.wall_offset_ns);
    let values = [coarse_real, time.coarse_ns].map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    for (cell, value) in DATA.coarse.iter().zip(values.as_flattened()) {
        cell.store(*value, Relaxed);
    }
    DATA.coarse_res_ns.store(time.coarse_res_ns, Relaxed);
    DATA.base.store(time.clock.0, Relaxed);
    DATA.mult.store(time.clock.1, Relaxed);
    DATA.shift.store(time.clock.2, Relaxed);
    DATA.raw_base.store(time.raw_clock.0, Relaxed);
    DATA.raw_mult.store(time.raw_clock.1, Relaxed);
    DATA.raw_shift.store(time.raw_clock.2, Relaxed);
    DATA.minutes_west.store(time.timezone.0 as u32, Relaxed);
    DATA.dst_time.store(time.timezone.1 as u32, Relaxed);
    // Release: a reader that sees this number sees all of the above.
    DATA.sequence.store(sequence.wrapping_add(2), Release);
}

global_asm!(
    ".pushsection .rodata.vdso, \"a\", @progbits",
    ".p2align 12",
    ".globl vdso_start, vdso_end",
    "vdso_start:",
    "vdso_base:",
    // ELF header: 64-bit, little-endian, System V; a shared object for x86_64; no section headers.
    ".byte 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0",
    ".word 3, 62",
    ".long 1",
    ".quad 0",
    ".quad 64",
    ".quad 0",
    ".long 0",
    ".word 64, 56, 2, 64, 0, 0",
    // PT_LOAD, read and execute: the whole page.
    ".long 1, 5",
    ".quad 0, 0, 0, 4096, 4096, 4096",
    // PT_DYNAMIC.
    ".long 2, 4",
    ".set vdso_dynamic_at, vdso_dynamic - vdso_base",
    ".set vdso_dynamic_size, vdso_dynamic_end - vdso_dynamic",
    ".quad vdso_dynamic_at, vdso_dynamic_at, vdso_dynamic_at, vdso_dynamic_size, vdso_dynamic_size, 8",
    ".p2align 3",
    "vdso_dynamic:",
    ".quad 14, vdso_name_so - vdso_strings",
    ".quad 4, vdso_hash - vdso_base",
    ".quad 5, vdso_strings - vdso_base",
    ".quad 6, vdso_symbols - vdso_base",
    ".quad 10, vdso_strings_end - vdso_strings",
    ".quad 11, 24",
    ".quad 0x6ffffffc, vdso_verdef - vdso_base",
    ".quad 0x6ffffffd, 2",
    ".quad 0x6ffffff0, vdso_versym - vdso_base",
    ".quad 0, 0",
    "vdso_dynamic_end:",
    // One bucket; every symbol is in its chain.
    "vdso_hash:",
    ".long 1, 11, 1",
    ".long 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0",
    ".p2align 3",
    // Functions; binding 1 is global, 2 weak. Section index 1 stands for "defined".
    ".macro vdso_symbol name, binding, function",
    "  .long \\name - vdso_strings",
    "  .byte \\binding << 4 | 2, 0",
    "  .word 1",
    "  .quad \\function - vdso_base, \\function\\()_end - \\function",
    ".endm",
    "vdso_symbols:",
    ".skip 24",
    "vdso_symbol vdso_name_1, 1, vdso_clock_gettime",
    "vdso_symbol vdso_name_2, 1, vdso_gettimeofday",
    "vdso_symbol vdso_name_3, 1, vdso_time",
    "vdso_symbol vdso_name_4, 1, vdso_clock_getres",
    "vdso_symbol vdso_name_5, 1, vdso_getcpu",
    "vdso_symbol vdso_name_1 + 7, 2, vdso_clock_gettime",
    "vdso_symbol vdso_name_2 + 7, 2, vdso_gettimeofday",
    "vdso_symbol vdso_name_3 + 7, 2, vdso_time",
    "vdso_symbol vdso_name_4 + 7, 2, vdso_clock_getres",
    "vdso_symbol vdso_name_5 + 7, 2, vdso_getcpu",
    "vdso_versym:",
    ".word 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2",
    ".p2align 3",
    // Version 1: the object's name. Version 2: LINUX_2.6. Each: version, flags, index, names, hash, name, next.
    "vdso_verdef:",
    ".word 1, 1, 1, 1",
    ".long 0x0deebfa1, 20, 28",
    ".long vdso_name_so - vdso_strings, 0",
    ".word 1, 0, 2, 1",
    ".long 0x03ae75f6, 20, 0",
    ".long vdso_name_version - vdso_strings, 0",
    "vdso_strings:",
    ".byte 0",
    "vdso_name_so: .asciz \"linux-vdso.so.1\"",
    "vdso_name_version: .asciz \"LINUX_2.6\"",
    // The weak aliases are the names without their first seven bytes.
    "vdso_name_1: .asciz \"__vdso_clock_gettime\"",
    "vdso_name_2: .asciz \"__vdso_gettimeofday\"",
    "vdso_name_3: .asciz \"__vdso_time\"",
    "vdso_name_4: .asciz \"__vdso_clock_getres\"",
    "vdso_name_5: .asciz \"__vdso_getcpu\"",
    "vdso_strings_end:",
    // Nanoseconds of clock edi since the epoch or boot into rax, from page \\data; goes to \\odd if that is being changed (3f:
    // waits) and to \\fail if there is no counter.
    ".macro vdso_read_clock data, odd, fail, base={BASE}, mult={MULT}, shift={SHIFT}",
    "2:",
    "  mov r8d, [rip + \\data + {SEQUENCE}]",
    "  test r8d, 1",
    "  jnz \\odd",
    "  mov r9d, [rip + \\data + \\mult]",
    "  test r9d, r9d",
    "  jz \\fail",
    "  lfence",
    "  rdtsc",
    "  shl rdx, 32",
    "  or rax, rdx",
    "  sub rax, [rip + \\data + \\base]",
    "  mul r9",
    "  mov ecx, [rip + \\data + \\shift]",
    "  shrd rax, rdx, cl",
    "  lea rcx, [rip + \\data + {OFFSET}]",
    "  add rax, [rcx + rdi * 8]",
    "  cmp r8d, [rip + \\data + {SEQUENCE}]",
    "  je 4f",
    "3:",
    "  pause",
    "  jmp 2b",
    "4:",
    ".endm",
    // The page that may be a namespace's, and the one that never is.
    ".set vdso_data, vdso_base - 4096",
    ".set vdso_shared, vdso_base - 8192",
    ".p2align 4",
    "vdso_clock_gettime:",
    "cmp edi, {CLOCKS} - 1",
    "ja 6f",
    "mov eax, {PRECISE}",
    "bt eax, edi",
    "jnc 5f",
    "mov edi, edi",
    "cmp edi, {RAW}",
    "je 24f",
    "22:",
    "vdso_read_clock vdso_data, 8f, 6f",
    "9:",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov [rsi], rax",
    "mov [rsi + 8], rdx",
    "xor eax, eax",
    "ret",
    // The coarse clocks: 5 and 6.
    "5:",
    "mov eax, 0x60",
    "bt eax, edi",
    "jnc 6f",
    "lea ecx, [rdi - 5]",
    "shl ecx, 4",
    "lea r9, [rip + vdso_shared + {COARSE}]",
    "7:",
    "mov r8d, [rip + vdso_shared + {SEQUENCE}]",
    "mov rax, [r9 + rcx]",
    "mov rdx, [r9 + rcx + 8]",
    "cmp r8d, [rip + vdso_shared + {SEQUENCE}]",
    "jne 7b",
    "test r8d, 1",
    "jnz 7b",
    "cmp dword ptr [rip + vdso_data + {NAMESPACE}], 0",
    "jne 5f",
    "mov [rsi], rax",
    "mov [rsi + 8], rdx",
    "xor eax, eax",
    "ret",
    "5:",
    "imul rax, rax, 1000000000",
    "add rax, rdx",
    "23:",
    "lea rcx, [rip + vdso_data + {OFFSET}]",
    "mov edi, edi",
    "add rax, [rcx + rdi * 8]",
    "jmp 9b",
    // Odd: being changed, or a namespace's page.
    "8:",
    "pause",
    "cmp dword ptr [rip + vdso_data + {NAMESPACE}], 0",
    "je 22b",
    "vdso_read_clock vdso_shared, 3f, 6f",
    "jmp 23b",
    // The raw clock counts in its own way.
    "24:",
    "vdso_read_clock vdso_shared, 3f, 6f, {RAW_BASE}, {RAW_MULT}, {RAW_SHIFT}",
    "cmp dword ptr [rip + vdso_data + {NAMESPACE}], 0",
    "je 9b",
    "jmp 23b",
    "6:",
    "mov eax, 228",
    "syscall",
    "ret",
    "vdso_clock_gettime_end:",
    ".p2align 4",
    "vdso_gettimeofday:",
    "mov r10, rdi",
    "test rdi, rdi",
    "jz 5f",
    "xor edi, edi",
    // A namespace adds nothing to this clock.
    "vdso_read_clock vdso_shared, 3f, 6f",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov [r10], rax",
    "mov eax, edx",
    "xor edx, edx",
    "mov ecx, 1000",
    "div ecx",
    "mov [r10 + 8], rax",
    "5:",
    "test rsi, rsi",
    "jz 7f",
    "mov rax, [rip + vdso_shared + {TIMEZONE}]",
    "mov [rsi], rax",
    "7:",
    "xor eax, eax",
    "ret",
    "6:",
    "mov rdi, r10",
    "mov eax, 96",
    "syscall",
    "ret",
    "vdso_gettimeofday_end:",
    ".p2align 4",
    "vdso_time:",
    "mov rax, [rip + vdso_shared + {COARSE}]",
    "test rax, rax",
    "jz 6f",
    "test rdi, rdi",
    "jz 5f",
    "mov [rdi], rax",
    "5:",
    "ret",
    "6:",
    "mov eax, 201",
    "syscall",
    "ret",
    "vdso_time_end:",
    ".p2align 4",
    "vdso_clock_getres:",
    "cmp edi, {CLOCKS} - 1",
    "ja 6f",
    "mov edx, 1",
    "mov eax, {PRECISE}",
    "bt eax, edi",
    "jc 5f",
    "mov eax, 0x60",
    "bt eax, edi",
    "jnc 6f",
    "mov edx, [rip + vdso_shared + {COARSE_RES}]",
    "5:",
    "xor eax, eax",
    "test rsi, rsi",
    "jz 7f",
    "mov qword ptr [rsi], rax",
    "mov [rsi + 8], rdx",
    "7:",
    "ret",
    "6:",
    "mov eax, 229",
    "syscall",
    "ret",
    "vdso_clock_getres_end:",
    ".p2align 4",
    // The limit of segment 0x7b: the CPU in 12 bits, the node above.
    "vdso_getcpu:",
    "mov eax, 0x7b",
    "lsl eax, eax",
    "test rdi, rdi",
    "jz 5f",
    "mov edx, eax",
    "and edx, 0xfff",
    "mov [rdi], edx",
    "5:",
    "test rsi, rsi",
    "jz 7f",
    "shr eax, 12",
    "mov [rsi], eax",
    "7:",
    "xor eax, eax",
    "ret",
    "vdso_getcpu_end:",
    ".p2align 12",
    "vdso_end:",
    ".popsection",
    CLOCKS = const CLOCKS,
    // Realtime, monotonic, raw, boottime, TAI.
    PRECISE = const 0x893,
    SEQUENCE = const offset_of!(Data, sequence),
    MULT = const offset_of!(Data, mult),
    SHIFT = const offset_of!(Data, shift),
    BASE = const offset_of!(Data, base),
    RAW = const abi::raw::CLOCK_MONOTONIC_RAW,
    RAW_BASE = const offset_of!(Data, raw_base),
    RAW_MULT = const offset_of!(Data, raw_mult),
    RAW_SHIFT = const offset_of!(Data, raw_shift),
    OFFSET = const offset_of!(Data, offset),
    COARSE = const offset_of!(Data, coarse),
    COARSE_RES = const offset_of!(Data, coarse_res_ns),
    TIMEZONE = const offset_of!(Data, minutes_west),
    NAMESPACE = const offset_of!(Data, namespace),
);

const _: () = assert!(size_of::<Data>() == PAGE_SIZE);
