//! The order in which a CPU is brought up.
//!
//! Boot CPU: [`early`] on the boot loader's mapping (traps work from here on) → boot builds the final tables →
//! [`load_kernel_tables`] → per-CPU copies → [`cpu`] → interrupt controllers and clocks.
//! Others: the trampoline → [`cpu`].

use super::{
    apic, desc, entry, features, fpu, insn, intc, msr, paging, percpu, pkey, platform, smap, thread, time,
};
use crate::cpu::CpuId;

/// First steps on the boot CPU: features, descriptor tables, exceptions. `stack_top` is the end of the boot stack.
///
/// # Safety
/// Once, right after entry: `gs` base 0, interrupts off, the image mapped writable at its final place.
pub unsafe fn early(stack_top: usize) {
    features::detect();
    // SAFETY: the caller's promise.
    unsafe {
        thread::set_boot_current(stack_top);
        if features::has_smap() {
            smap::patch();
        }
        desc::init_idt();
        desc::load(CpuId::BOOT, 0);
    }
}

/// Goes over to the kernel's own page tables.
///
/// # Safety
/// They map the running code, its stack and all that is in use at the same addresses as before.
pub unsafe fn load_kernel_tables() {
    // SAFETY: the caller's promise; the MSRs exist on every x86_64 CPU.
    unsafe {
        insn::wrmsr(msr::PAT, paging::PAT);
        insn::wrmsr(msr::EFER, insn::rdmsr(msr::EFER) | msr::EFER_NX);
        insn::write_cr3(paging::kernel_root().0);
        insn::write_cr0(insn::read_cr0() | msr::CR0_WP);
        if features::has_pge() {
            insn::write_cr4(insn::read_cr4() | msr::CR4_PGE);
        }
    }
}

/// Interrupt controllers and clocks. Boot CPU, after [`cpu`].
///
/// # Safety
/// Once, interrupts off; [`super::platform::init`] was called.
pub unsafe fn devices() {
    apic::init(platform::platform().lapic);
    // SAFETY: the boot CPU, once.
    unsafe { apic::init_cpu(true) };
    intc::init();
    time::init();
}

/// Everything a CPU needs to run kernel and user code: descriptor tables, protection bits, FPU, system calls. `gs` leads
/// to the CPU's own copy of the per-CPU data.
///
/// # Safety
/// Once per CPU, on that CPU, interrupts off, on the kernel's page tables; the current thread is set.
pub unsafe fn cpu(cpu: CpuId, node: u32) {
    // SAFETY: the caller's promise; each bit and MSR below exists where its feature was found.
    unsafe {
        percpu::set_number(cpu.0);
        desc::load(cpu, node);
        desc::set_kernel_stack(thread::current().as_ref().stack_top().0);
        let mut cr4 = insn::read_cr4();
        for (has, bit) in [
            (features::has_smep(), msr::CR4_SMEP),
            (features::has_smap(), msr::CR4_SMAP),
            (features::has_umip(), msr::CR4_UMIP),
            (features::has_fsgsbase(), msr::CR4_FSGSBASE),
            (features::has_pcid(), msr::CR4_PCIDE),
        ] {
            if has {
                cr4 |= bit;
            }
        }
        insn::write_cr4(cr4);
        fpu::init_cpu();
        pkey::init_cpu();
        insn::wrmsr(msr::EFER, insn::rdmsr(msr::EFER) | msr::EFER_SCE | msr::EFER_NX);
        insn::wrmsr(msr::STAR, u64::from(desc::USER32_CS) << 48 | u64::from(desc::KERNEL_CS) << 32);
        insn::wrmsr(msr::LSTAR, entry::syscall_address() as u64);
        insn::wrmsr(msr::CSTAR, entry::syscall32_address() as u64);
        // Everything that could disturb the kernel is off on entry.
        insn::wrmsr(
            msr::SFMASK,
            msr::FLAG_CF
                | msr::FLAG_PF
                | msr::FLAG_AF
                | msr::FLAG_ZF
                | msr::FLAG_SF
                | msr::FLAG_TF
                | msr::FLAG_IF
                | msr::FLAG_DF
                | msr::FLAG_OF
                | msr::FLAG_IOPL
                | msr::FLAG_NT
                | msr::FLAG_RF
                | msr::FLAG_AC
                | msr::FLAG_ID,
        );
        insn::wrmsr(msr::SYSENTER_CS, 0);
        if features::has_rdtscp() || features::has_rdpid() {
            insn::wrmsr(msr::TSC_AUX, u64::from(node) << 12 | cpu.index() as u64);
        }
    }
}
