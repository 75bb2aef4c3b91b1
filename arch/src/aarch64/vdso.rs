//! The vDSO image and its data page.
//!
//! The image is a complete ELF shared object of one page, laid out below by hand: header, program headers, dynamic
//! section, symbols with the version `LINUX_2.6.39`, and the functions. All addresses in it are distances from its
//! start, which the assembler knows. The data page ([`Vvar`]) is mapped right in front of it, twice.
//!
//! Reading a clock: sequence count even, cycles to nanoseconds, offset of the clock, count unchanged. A `mult` of 0 or
//! an unknown clock ends in the system call. See `vdso(7)`.
//!
//! In a time namespace (`time_namespaces(7)`) the second of the two data pages is the namespace's own: its count is always
//! odd, and where the data page has offsets of clocks it has what the namespace adds. Whoever finds an odd count looks
//! whether it is such a page, and if so reads the first page and adds. Outside of namespaces this costs nothing.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering, fence};

use crate::addr::{PAGE_SIZE, PhysAddr, VirtAddr, virt_to_phys};

/// Pages of data in front of the image.
pub const VVAR_PAGES: usize = 2;

/// Offset of the `rt_sigreturn` trampoline in the image (arm64), if there is one.
pub const SIGRETURN_OFFSET: Option<usize> = Some(CODE_OFFSET + 4);

/// Where the functions begin in the image.
const CODE_OFFSET: usize = 0x400;

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

/// The data page. Offsets that the functions add are complete: from `now_ns` to the clock.
#[repr(C, align(4096))]
struct Vvar {
    sequence: AtomicU32,
    coarse_res: AtomicU32,
    base: AtomicU64,
    mult: AtomicU32,
    shift: AtomicU32,
    monotonic: AtomicI64,
    realtime: AtomicI64,
    boottime: AtomicI64,
    tai: AtomicI64,
    coarse_monotonic: AtomicU64,
    coarse_realtime: AtomicU64,
    minutes_west: AtomicI32,
    dst_time: AtomicI32,
    /// Not 0: this is the page of a time namespace.
    namespace: AtomicU64,
    /// As `base`, `mult` and `shift`, of the raw clock, which nobody corrects.
    raw_base: AtomicU64,
    raw_mult: AtomicU32,
    raw_shift: AtomicU32,
}

const _: () = assert!(size_of::<Vvar>() == PAGE_SIZE);

static VVAR: Vvar = Vvar {
    sequence: AtomicU32::new(0),
    coarse_res: AtomicU32::new(0),
    base: AtomicU64::new(0),
    mult: AtomicU32::new(0),
    shift: AtomicU32::new(0),
    monotonic: AtomicI64::new(0),
    realtime: AtomicI64::new(0),
    boottime: AtomicI64::new(0),
    tai: AtomicI64::new(0),
    coarse_monotonic: AtomicU64::new(0),
    coarse_realtime: AtomicU64::new(0),
    minutes_west: AtomicI32::new(0),
    dst_time: AtomicI32::new(0),
    namespace: AtomicU64::new(0),
    raw_base: AtomicU64::new(0),
    raw_mult: AtomicU32::new(0),
    raw_shift: AtomicU32::new(0),
};

/// Where the functions find what is added to the raw clock: nothing, so a word of the page that stays zero.
const RAW_OFFSET: usize = size_of::<Vvar>() - 8;

/// The hash of the System V ABI, for version names.
const fn elf_hash(name: &[u8]) -> u32 {
    let (mut h, mut i) = (0u32, 0);
    while i < name.len() {
        h = (h << 4).wrapping_add(name[i] as u32);
        let g = h & 0xf000_0000;
        h = (h ^ g >> 24) & !g;
        i += 1;
    }
    h
}

global_asm!(
    r#"
    .section .rodata.vdso, "a"
    .balign 4096
    .globl  arch_vdso_start
arch_vdso_start:
vdso:
    // Elf64_Ehdr
    .byte   0x7f
    .ascii  "ELF"
    .byte   2, 1, 1, 0                      // 64 bit, little endian, version 1, System V
    .quad   0
    .hword  3, 183                          // ET_DYN, EM_AARCH64
    .long   1
    .quad   vdso_code - vdso                // entry
    .quad   vdso_phdrs - vdso
    .quad   0                               // no sections
    .long   0
    .hword  64, 56, 2, 64, 0, 0
vdso_phdrs:
    .long   1, 5                            // PT_LOAD, R X
    .quad   0, 0, 0, vdso_end - vdso, vdso_end - vdso, 4096
    .long   2, 4                            // PT_DYNAMIC, R
    .quad   vdso_dynamic - vdso, vdso_dynamic - vdso, vdso_dynamic - vdso
    .quad   vdso_dynamic_end - vdso_dynamic, vdso_dynamic_end - vdso_dynamic, 8

    .balign 8
vdso_hash:                                  // one bucket, all symbols in one chain
    .long   1, 6
    .long   1
    .long   0, 2, 3, 4, 5, 0

    .macro  vdso_symbol name, info, shndx, value, size
    .long   \name - vdso_strings
    .byte   \info, 0
    .hword  \shndx
    .quad   \value
    .quad   \size
    .endm
    .balign 8
vdso_symbols:
    .fill   24, 1, 0
    vdso_symbol vdso_n_version, 0x11, 0xfff1, 0, 0  // GLOBAL OBJECT, absolute
    vdso_symbol vdso_n_sigreturn, 0x12, 1, vdso_sigreturn - vdso, 8
    vdso_symbol vdso_n_gettimeofday, 0x12, 1, vdso_gettimeofday - vdso, vdso_clock_getres - vdso_gettimeofday
    vdso_symbol vdso_n_clock_gettime, 0x12, 1, vdso_clock_gettime - vdso, vdso_gettimeofday - vdso_clock_gettime
    vdso_symbol vdso_n_clock_getres, 0x12, 1, vdso_clock_getres - vdso, vdso_code_end - vdso_clock_getres

vdso_strings:
    .byte   0
vdso_n_soname:
    .asciz  "linux-vdso.so.1"
vdso_n_version:
    .asciz  "LINUX_2.6.39"
vdso_n_sigreturn:
    .asciz  "__kernel_rt_sigreturn"
vdso_n_gettimeofday:
    .asciz  "__kernel_gettimeofday"
vdso_n_clock_gettime:
    .asciz  "__kernel_clock_gettime"
vdso_n_clock_getres:
    .asciz  "__kernel_clock_getres"
vdso_strings_end:

    .balign 2
vdso_versions:
    .hword  0, 2, 2, 2, 2, 2

    .balign 8
vdso_version_definitions:
    .hword  1, 1, 1, 1                      // version 1, base, index 1, one name
    .long   {HASH_SONAME}, 20, 28
    .long   vdso_n_soname - vdso_strings, 0
    .hword  1, 0, 2, 1
    .long   {HASH_VERSION}, 20, 0
    .long   vdso_n_version - vdso_strings, 0

    .balign 8
vdso_dynamic:
    .quad   14, vdso_n_soname - vdso_strings        // DT_SONAME
    .quad   4, vdso_hash - vdso                     // DT_HASH
    .quad   5, vdso_strings - vdso                  // DT_STRTAB
    .quad   6, vdso_symbols - vdso                  // DT_SYMTAB
    .quad   10, vdso_strings_end - vdso_strings     // DT_STRSZ
    .quad   11, 24                                  // DT_SYMENT
    .quad   0x6ffffff0, vdso_versions - vdso        // DT_VERSYM
    .quad   0x6ffffffc, vdso_version_definitions - vdso // DT_VERDEF
    .quad   0x6ffffffd, 2                           // DT_VERDEFNUM
    .quad   0, 0
vdso_dynamic_end:

    .org    vdso + {CODE}, 0
vdso_code:
    nop                                     // unwinders look up the return address minus one
vdso_sigreturn:
    mov     x8, #139
    svc     #0

// x12: the data page. Into x11: nanoseconds of the clock whose offset lies at [x12, x10]. To \odd while the page is being
// changed (1b: waits), to \fail without a clock.
    .macro vdso_now odd, fail, base={BASE}, mult={MULT}
1:  ldar    w9, [x12]                       // the sequence count comes first in the page
    tbnz    w9, #0, \odd
    ldp     w13, w14, [x12, #\mult]         // mult, shift
    cbz     w13, \fail
    ldr     x15, [x12, #\base]
    ldr     x16, [x12, x10]
    isb
    mrs     x11, cntvct_el0
    sub     x11, x11, x15
    mul     x17, x11, x13
    umulh   x11, x11, x13
    lsr     x17, x17, x14
    neg     x14, x14
    lsl     x11, x11, x14
    orr     x11, x11, x17
    add     x11, x11, x16
    dmb     ishld
    ldr     w13, [x12]
    cmp     w13, w9
    b.ne    1b
    .endm

// x11 nanoseconds into x11 seconds and x14 nanoseconds
    .macro vdso_split
    mov     x13, #0xca00
    movk    x13, #0x3b9a, lsl #16           // 10^9
    udiv    x14, x11, x13
    msub    x13, x14, x13, x11
    mov     x11, x14
    mov     x14, x13
    .endm

    .balign 32
vdso_clock_gettime:                         // (w0: clock, x1: struct timespec)
    adr     x12, vdso - 4096
    mov     x10, #{REALTIME}
    cbz     w0, 3f
    mov     x10, #{MONOTONIC}
    cmp     w0, #1
    b.eq    3f
    mov     x10, #{BOOTTIME}
    cmp     w0, #7
    b.eq    3f
    mov     x10, #{RAW}
    cmp     w0, #4
    b.eq    5f
    mov     x10, #{TAI}
    cmp     w0, #11
    b.eq    3f
    mov     x10, #{COARSE_REALTIME}
    cmp     w0, #5
    b.eq    2f
    mov     x10, #{COARSE_MONOTONIC}
    cmp     w0, #6
    b.ne    9f
2:  ldar    w9, [x12]
    tbnz    w9, #0, 7f
    ldr     x11, [x12, x10]
    dmb     ishld
    ldr     w13, [x12]
    cmp     w13, w9
    b.ne    2b
    b       4f
3:  vdso_now 8f, 9f
4:  vdso_split
    stp     x11, x14, [x1]
    mov     x0, xzr
    ret
// Odd: being changed, or a namespace's page.
7:  ldr     x7, [x12, #{NAMESPACE}]
    cbz     x7, 2b
    ldr     x7, [x12, x10]
    sub     x12, x12, #4096
6:  ldar    w9, [x12]
    tbnz    w9, #0, 6b
    ldr     x11, [x12, x10]
    dmb     ishld
    ldr     w13, [x12]
    cmp     w13, w9
    b.ne    6b
    add     x11, x11, x7
    b       4b
8:  ldr     x7, [x12, #{NAMESPACE}]
    cbz     x7, 3b
    ldr     x7, [x12, x10]
    sub     x12, x12, #4096
    vdso_now 1b, 9f
    add     x11, x11, x7
    b       4b
// The raw clock counts in its own way. What a namespace adds is 0 in the page of all.
5:  ldr     x7, [x12, x10]
    adr     x12, vdso - 8192
    vdso_now 1b, 9f, {RAW_BASE}, {RAW_MULT}
    add     x11, x11, x7
    b       4b
9:  mov     x8, #113
    svc     #0
    ret

    .balign 32
vdso_gettimeofday:                          // (x0: struct timeval, x1: struct timezone)
    adr     x12, vdso - 8192                // a namespace adds nothing to this clock
    cbz     x0, 5f
    mov     x10, #{REALTIME}
    vdso_now 1b, 9f
    vdso_split
    mov     x13, #1000
    udiv    x14, x14, x13
    stp     x11, x14, [x0]
5:  cbz     x1, 6f
    ldp     w13, w14, [x12, #{TIMEZONE}]
    stp     w13, w14, [x1]
6:  mov     x0, xzr
    ret
9:  mov     x8, #169
    svc     #0
    ret

    .balign 32
vdso_clock_getres:                          // (w0: clock, x1: struct timespec)
    adr     x12, vdso - 8192
    mov     w11, #1
    cmp     w0, #11
    b.hi    9f
    mov     w13, #0x893                     // clocks 0, 1, 4, 7, 11
    lsr     w13, w13, w0
    tbnz    w13, #0, 7f
    sub     w13, w0, #5
    cmp     w13, #1
    b.hi    9f
    ldr     w11, [x12, #{COARSE_RES}]
7:  cbz     x1, 8f
    stp     xzr, x11, [x1]
8:  mov     x0, xzr
    ret
9:  mov     x8, #114
    svc     #0
    ret
vdso_code_end:
    .balign 4096
vdso_end:
    "#,
    HASH_SONAME = const elf_hash(b"linux-vdso.so.1"),
    HASH_VERSION = const elf_hash(b"LINUX_2.6.39"),
    CODE = const CODE_OFFSET,
    MULT = const offset_of!(Vvar, mult),
    BASE = const offset_of!(Vvar, base),
    REALTIME = const offset_of!(Vvar, realtime),
    MONOTONIC = const offset_of!(Vvar, monotonic),
    BOOTTIME = const offset_of!(Vvar, boottime),
    RAW = const RAW_OFFSET,
    RAW_BASE = const offset_of!(Vvar, raw_base),
    RAW_MULT = const offset_of!(Vvar, raw_mult),
    TAI = const offset_of!(Vvar, tai),
    COARSE_REALTIME = const offset_of!(Vvar, coarse_realtime),
    COARSE_MONOTONIC = const offset_of!(Vvar, coarse_monotonic),
    COARSE_RES = const offset_of!(Vvar, coarse_res),
    TIMEZONE = const offset_of!(Vvar, minutes_west),
    NAMESPACE = const offset_of!(Vvar, namespace),
);

const _: () = assert!(elf_hash(b"LINUX_2.6.39") == 123_718_537);
const _: () =
    assert!(offset_of!(Vvar, sequence) == 0 && offset_of!(Vvar, shift) == offset_of!(Vvar, mult) + 4);
const _: () = assert!(offset_of!(Vvar, raw_shift) == offset_of!(Vvar, raw_mult) + 4);

/// The ELF shared object, a whole number of pages. Mapped read-execute into every process, right after [`VVAR_PAGES`]
/// pages of data.
pub fn image() -> &'static [u8] {
    unsafe extern "C" {
        static arch_vdso_start: [u8; PAGE_SIZE];
    }
    // SAFETY: one page of constants, laid out above.
    unsafe { &arch_vdso_start }
}

/// The words of the page of a time namespace that are not 0: where they stand in the page, and what they are.
pub fn namespace_words(monotonic_ns: i64, boottime_ns: i64) -> [(usize, u64); 6] {
    let (monotonic, boottime) = (monotonic_ns as u64, boottime_ns as u64);
    [
        (offset_of!(Vvar, sequence), 1),
        (offset_of!(Vvar, namespace), 1),
        (offset_of!(Vvar, monotonic), monotonic),
        (offset_of!(Vvar, coarse_monotonic), monotonic),
        (offset_of!(Vvar, boottime), boottime),
        (RAW_OFFSET, monotonic),
    ]
}

/// The data page (kernel memory, mapped read-only into processes).
pub fn vvar_page() -> PhysAddr {
    virt_to_phys(VirtAddr((&raw const VVAR).addr()))
}

/// Updates the data page under its sequence count. One caller at a time.
pub fn update(time: &VdsoTime) {
    use Ordering::Relaxed;
    let v = &VVAR;
    let sequence = v.sequence.load(Relaxed);
    v.sequence.store(sequence.wrapping_add(1), Relaxed);
    // The odd count before the data.
    fence(Ordering::Release);
    let wall = time.wall_offset_ns as i64;
    v.base.store(time.clock.0, Relaxed);
    v.mult.store(time.clock.1, Relaxed);
    v.shift.store(time.clock.2, Relaxed);
    v.raw_base.store(time.raw_clock.0, Relaxed);
    v.raw_mult.store(time.raw_clock.1, Relaxed);
    v.raw_shift.store(time.raw_clock.2, Relaxed);
    v.monotonic.store(time.mono_offset_ns, Relaxed);
    v.realtime.store(time.mono_offset_ns.wrapping_add(wall), Relaxed);
    v.boottime.store(time.mono_offset_ns.wrapping_add(time.boot_offset_ns as i64), Relaxed);
    let tai = i64::from(time.tai_offset_s) * 1_000_000_000;
    v.tai.store(time.mono_offset_ns.wrapping_add(wall).wrapping_add(tai), Relaxed);
    v.coarse_monotonic.store(time.coarse_ns, Relaxed);
    v.coarse_realtime.store(time.coarse_ns.wrapping_add(time.wall_offset_ns), Relaxed);
    v.coarse_res.store(time.coarse_res_ns, Relaxed);
    v.minutes_west.store(time.timezone.0, Relaxed);
    v.dst_time.store(time.timezone.1, Relaxed);
    // The data before the even count.
    v.sequence.store(sequence.wrapping_add(2), Ordering::Release);
}
