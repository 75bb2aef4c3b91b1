//! The first instructions of every CPU: leave EL2, set up the MMU's control registers, enter the kernel's half.
//!
//! `boot` owns the entry point of the boot CPU and calls the routines here; secondaries enter at
//! `arch_secondary_entry`. All of `.idmap.text` runs with the MMU off or through the identity map in TTBR0, so it
//! touches symbols only PC-relatively and uses no stack.
//!
//! If the CPU arrives at EL2, a stub of vectors stays there: `hvc` with x0 = 0 and x1 = physical address installs
//! other EL2 vectors, which is how a hypervisor can take EL2 over later.
//!
//! Register conventions: `arch_init_el` clobbers x0–x3 and returns the exception level of entry in x0;
//! `arch_cpu_setup` clobbers x0–x4 and returns in x0 the value to put into SCTLR_EL1 to switch the MMU on.

use core::arch::global_asm;

/// SCTLR_EL1 with the MMU off: the RES1 bits of ARMv8.0 (LSMAOE, nTLSMD, nTWE, nTWI, EOS/EIS as RES1), SPAN clear.
const SCTLR_MMU_OFF: u64 = (1 << 29) | (1 << 28) | (1 << 22) | (1 << 20) | (1 << 11);

/// SCTLR_EL1 of the running kernel.
///
/// M, C, I: MMU and caches. SA, SA0: stack alignment. SED: no SETEND. DZE, UCT, UCI, nTWI, nTWE: user mode may use
/// DC ZVA, read CTR_EL0, do cache maintenance by address, WFI and WFE. SPAN clear: taking an exception sets PAN.
const SCTLR_MMU_ON: u64 = SCTLR_MMU_OFF
    | 1
    | (1 << 2)
    | (1 << 3)
    | (1 << 4)
    | (1 << 8)
    | (1 << 12)
    | (1 << 14)
    | (1 << 15)
    | (1 << 16)
    | (1 << 18)
    | (1 << 26);

/// Memory attributes by index, see `paging::MemAttr`: normal, non-cacheable, device nGnRnE, device nGnRE.
const MAIR: u64 = 0xff | (0x44 << 8) | (0x04 << 24);

/// 48-bit addresses in both halves, 4 KiB granule, write-back inner-shareable walks, TBI for user addresses.
const TCR: u64 = 16
    | (16 << 16)
    | (0b01 << 8)
    | (0b01 << 10)
    | (0b11 << 12)
    | (0b01 << 24)
    | (0b01 << 26)
    | (0b11 << 28)
    | (0b10 << 30)
    | (1 << 37);

global_asm!(
    r#"
    .section .idmap.text, "ax"

// Arrive at EL1h with interrupts masked, whatever level we are entered at. Returns the entry EL (1 or 2) in x0.
    .globl arch_init_el
arch_init_el:
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.eq    1f
    ldr     x0, ={sctlr_off}
    msr     sctlr_el1, x0
    isb
    mov     x0, #1
    ret
1:
    // EL2 itself: MMU off, little endian.
    ldr     x0, =0x30c50830
    msr     sctlr_el2, x0
    isb
    // EL1 is AArch64; pointer authentication and allocation tags are not trapped.
    mov     x0, #(1 << 31)
    orr     x0, x0, #(3 << 40)
    orr     x0, x0, #(1 << 56)
    msr     hcr_el2, x0
    isb
    // Counters and timers for EL1, no virtual offset.
    mov     x0, #3
    msr     cnthctl_el2, x0
    msr     cntvoff_el2, xzr
    // Identify ourselves as we are.
    mrs     x0, midr_el1
    msr     vpidr_el2, x0
    mrs     x0, mpidr_el1
    msr     vmpidr_el2, x0
    // No traps of FP, AArch32 coprocessors, or stage 2.
    mov     x0, #0x33ff
    msr     cptr_el2, x0
    msr     hstr_el2, xzr
    msr     vttbr_el2, xzr
    // Debug and PMU: all event counters to EL1.
    mrs     x0, id_aa64dfr0_el1
    ubfx    x1, x0, #8, #4
    mov     x2, xzr
    cbz     x1, 2f
    cmp     x1, #15
    b.eq    2f
    mrs     x2, pmcr_el0
    ubfx    x2, x2, #11, #5
2:  msr     mdcr_el2, x2
    // GIC system registers for EL1.
    mrs     x0, id_aa64pfr0_el1
    ubfx    x0, x0, #24, #4
    cbz     x0, 3f
    mrs     x0, S3_4_C12_C9_5           // ICC_SRE_EL2
    orr     x0, x0, #1                  // SRE
    orr     x0, x0, #(1 << 3)           // Enable
    msr     S3_4_C12_C9_5, x0
    isb
    mrs     x0, S3_4_C12_C9_5
    tbz     x0, #0, 3f
    msr     S3_4_C12_C11_0, xzr         // ICH_HCR_EL2
3:
    // Fine-grained traps off.
    mrs     x0, id_aa64mmfr0_el1
    ubfx    x0, x0, #56, #4
    cbz     x0, 4f
    msr     S3_4_C1_C1_4, xzr           // HFGRTR_EL2
    msr     S3_4_C1_C1_5, xzr           // HFGWTR_EL2
    msr     S3_4_C1_C1_6, xzr           // HFGITR_EL2
    msr     S3_4_C3_C1_4, xzr           // HDFGRTR_EL2
    msr     S3_4_C3_C1_5, xzr           // HDFGWTR_EL2
4:
    // Extended configuration: memory copy instructions work below EL2.
    mrs     x0, id_aa64mmfr1_el1
    ubfx    x0, x0, #40, #4
    cbz     x0, 5f
    mrs     x0, S3_0_C0_C6_2            // ID_AA64ISAR2_EL1
    ubfx    x0, x0, #16, #4             // MOPS
    cmp     x0, #0
    cset    x0, ne
    lsl     x0, x0, #11                 // MSCEn
    msr     S3_4_C1_C2_2, x0            // HCRX_EL2
5:
    adrp    x0, arch_el2_vectors
    add     x0, x0, :lo12:arch_el2_vectors
    msr     vbar_el2, x0
    ldr     x0, ={sctlr_off}
    msr     sctlr_el1, x0
    mov     x0, #0x3c5                  // EL1h, D A I F masked
    msr     spsr_el2, x0
    msr     elr_el2, x30
    mov     x0, #2
    eret

// Per-CPU control registers, everything but SCTLR_EL1 and the TTBRs. Returns SCTLR_EL1 for MMU on in x0.
    .globl arch_cpu_setup
arch_cpu_setup:
    tlbi    vmalle1
    dsb     nsh
    ic      iallu
    mov     x0, #(3 << 20)              // CPACR_EL1.FPEN: FP and SIMD at EL0 and EL1; SVE and SME trap
    msr     cpacr_el1, x0
    mov     x0, #(1 << 12)              // MDSCR_EL1.TDCC
    msr     mdscr_el1, x0
    mrs     x0, id_aa64dfr0_el1
    ubfx    x1, x0, #8, #4
    cbz     x1, 1f
    cmp     x1, #15
    b.eq    1f
    msr     pmuserenr_el0, xzr
1:
    // User mode reads the virtual counter, and gets an event stream of about 10 kHz for WFE.
    mrs     x0, cntfrq_el0
    mov     x1, #10000
    udiv    x0, x0, x1
    clz     x0, x0
    mov     x1, #62
    subs    x0, x1, x0                  // log2 of the divisor, minus one
    csel    x0, x0, xzr, pl
    cmp     x0, #15
    mov     x1, #15
    csel    x0, x0, x1, lt
    lsl     x0, x0, #4
    orr     x0, x0, #(1 << 2)           // EVNTEN
    orr     x0, x0, #(1 << 1)           // EL0VCTEN
    msr     cntkctl_el1, x0

    ldr     x0, ={mair}
    msr     mair_el1, x0
    ldr     x0, ={tcr}
    mrs     x1, id_aa64mmfr0_el1
    and     x2, x1, #0xf                // PARange, at most 48 bits
    cmp     x2, #5
    mov     x3, #5
    csel    x2, x2, x3, lo
    bfi     x0, x2, #32, #3
    ubfx    x2, x1, #4, #4              // ASIDBits
    cmp     x2, #2
    cset    x2, eq
    bfi     x0, x2, #36, #1
    mrs     x1, id_aa64mmfr1_el1
    and     x2, x1, #0xf                // HAFDBS
    cbz     x2, 2f
    orr     x0, x0, #(1 << 39)          // HA
    cmp     x2, #2
    b.lo    2f
    orr     x0, x0, #(1 << 40)          // HD
2:  msr     tcr_el1, x0
    isb

    ldr     x0, ={sctlr_on}
    ubfx    x2, x1, #20, #4             // PAN
    cmp     x2, #3
    b.lo    3f
    orr     x0, x0, #(1 << 57)          // EPAN
3:  mrs     x1, S3_0_C0_C6_2            // ID_AA64ISAR2_EL1
    ubfx    x1, x1, #16, #4
    cbz     x1, 4f
    orr     x0, x0, #(1 << 33)          // MSCEn
4:  ret

// x0: SCTLR_EL1. Switches the MMU on with the identity map in TTBR0 and the kernel's root in TTBR1.
    .globl arch_enable_mmu
arch_enable_mmu:
    adrp    x1, arch_idmap_root
    msr     ttbr0_el1, x1
    adrp    x1, arch_kernel_root
    msr     ttbr1_el1, x1
    isb
    msr     sctlr_el1, x0
    isb
    ic      iallu
    dsb     nsh
    isb
    ret

// Secondaries: PSCI CPU_ON or the spin table brings them here with the MMU off.
    .globl arch_secondary_entry
arch_secondary_entry:
    bl      arch_init_el
    bl      arch_cpu_setup
    bl      arch_enable_mmu
    adrp    x8, arch_image_offset
    ldr     x8, [x8, :lo12:arch_image_offset]
    adrp    x9, arch_secondary_virt
    add     x9, x9, :lo12:arch_secondary_virt
    add     x9, x9, x8
    br      x9

    .ltorg

    .balign 2048
arch_el2_vectors:
    .rept 8
    .balign 128
    b       .
    .endr
    .balign 128
    b       arch_el2_sync               // from a lower level, AArch64
    .rept 7
    .balign 128
    b       .
    .endr
arch_el2_sync:
    cbnz    x0, 1f
    msr     vbar_el2, x1
    isb
    eret
1:  mov     x0, #-1
    eret

    .section .text
arch_secondary_virt:
    adrp    x8, arch_secondary_data
    add     x8, x8, :lo12:arch_secondary_data
    ldp     x0, x1, [x8]                // thread, per-CPU offset
    ldp     x2, x3, [x8, #16]           // stack top, CPU number
    mov     sp, x2
    msr     sp_el0, x0
    msr     tpidr_el1, x1
    adrp    x4, arch_vectors
    add     x4, x4, :lo12:arch_vectors
    msr     vbar_el1, x4
    isb
    mov     x0, x3
    mov     x29, xzr
    mov     x30, xzr
    b       arch_secondary_rust

    .section .bss..page_aligned, "aw", %nobits
    .balign 4096
    .globl arch_idmap_root
arch_idmap_root:
    .skip 4096
    .globl arch_kernel_root
arch_kernel_root:
    .skip 4096
    .globl arch_reserved_root
arch_reserved_root:                     // an empty user half
    .skip 4096

    .section .data
    .balign 8
    .globl arch_image_offset
arch_image_offset:                      // virtual - physical of the image
    .quad   0
    "#,
    sctlr_off = const SCTLR_MMU_OFF,
    sctlr_on = const SCTLR_MMU_ON,
    mair = const MAIR,
    tcr = const TCR,
);
