//! The running CPU and what it can do.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::cpufeature::{self, IdRegs};
use super::{alternative, native, thread};
use crate::cpu::{CpuId, MAX_CPUS};
use sync::Once;

use super::sysreg::read_sysreg;

static ID_REGS: Once<IdRegs> = Once::new();
static HWCAP: AtomicU64 = AtomicU64::new(0);
static HWCAP2: AtomicU64 = AtomicU64::new(0);
/// MIDR_EL1 of each CPU, for `/proc/cpuinfo`.
static MIDR: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// The CPU this code runs on (at this moment, unless preemption is off).
#[inline(always)]
pub fn current() -> CpuId {
    // SAFETY: the running thread is live; the field changes only while it does not run. Volatile, since the thread may
    // move between two calls.
    CpuId(unsafe { (&raw const (*thread::current().as_ptr()).cpu).read_volatile() })
}

/// Makes an atomic read-modify-write before it a full barrier: what follows, plain loads too, comes after it.
#[inline(always)]
pub fn barrier_after_atomic() {
    // The store half of a pair of exclusives may be seen after a load that follows it.
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// A pause in a spin loop: a hint for whoever shares the processor (another hardware thread, an emulator), and a barrier that takes
/// a while where the hint does nothing.
#[inline]
pub fn relax() {
    // SAFETY: a hint, without effect on registers or memory.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
    core::hint::spin_loop();
}

/// Sleeps until an interrupt is pending. Called with interrupts off, returns with interrupts off; a pending interrupt
/// is taken inside or as soon as they are enabled.
pub fn wait_for_interrupt_irqs_off() {
    // SAFETY: WFI wakes up for a pending interrupt even while it is masked.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    crate::irq::local_disable();
    loop {
        wait_for_interrupt_irqs_off();
    }
}

/// The ID registers of this CPU, in the order of [`cpufeature::Reg`].
fn read_id_regs() -> IdRegs {
    IdRegs([
        read_sysreg!("id_aa64pfr0_el1"),
        read_sysreg!("id_aa64pfr1_el1"),
        read_sysreg!("id_aa64isar0_el1"),
        read_sysreg!("id_aa64isar1_el1"),
        read_sysreg!("S3_0_C0_C6_2"),
        read_sysreg!("id_aa64mmfr0_el1"),
        read_sysreg!("id_aa64mmfr1_el1"),
        read_sysreg!("S3_0_C0_C7_2"),
    ])
}

/// Records what the boot CPU can do.
pub(super) fn init_boot() {
    let id = *ID_REGS.call_once(read_id_regs);
    let (hwcap, hwcap2) = cpufeature::hwcaps(&id);
    HWCAP.store(hwcap, Relaxed);
    HWCAP2.store(hwcap2, Relaxed);
    init_cpu();
}

/// Records this CPU.
pub(super) fn init_cpu() {
    MIDR[current().index()].store(read_sysreg!("midr_el1") as u32, Relaxed);
}

/// Whether this secondary can do what the boot CPU can, as far as the kernel relies on it.
pub(super) fn check_secondary() -> bool {
    let (hwcap, hwcap2) = cpufeature::hwcaps(&read_id_regs());
    HWCAP.fetch_and(hwcap, Relaxed);
    HWCAP2.fetch_and(hwcap2, Relaxed);
    let boot = id_regs();
    let pan = boot.0[cpufeature::Reg::Mmfr1 as usize] >> 20 & 0xf != 0;
    let mops = boot.0[cpufeature::Reg::Isar2 as usize] >> 16 & 0xf != 0;
    let needed = u32::from(pan) << alternative::PAN | u32::from(mops) << alternative::MOPS;
    alternative::features() & needed == needed
}

/// The ID registers of the boot CPU.
pub(super) fn id_regs() -> &'static IdRegs {
    ID_REGS.call_once(read_id_regs)
}

/// The entry of `/proc/cpuinfo` for a CPU, in the format of Linux.
pub fn write_cpuinfo(w: &mut dyn fmt::Write, cpu: CpuId) -> fmt::Result {
    let midr = MIDR[cpu.index()].load(Relaxed);
    // Loops per jiffy come from the timer's frequency; one BogoMIPS is half a million loops per second.
    let hz = crate::time::clock_hz();
    writeln!(w, "processor\t: {cpu}")?;
    writeln!(w, "BogoMIPS\t: {}.{:02}", hz / 500_000, hz / 5_000 % 100)?;
    write!(w, "Features\t:")?;
    for name in cpufeature::names(hwcap() as u64, hwcap2() as u64) {
        write!(w, " {name}")?;
    }
    writeln!(w)?;
    writeln!(w, "CPU implementer\t: 0x{:02x}", midr >> 24)?;
    writeln!(w, "CPU architecture: 8")?;
    writeln!(w, "CPU variant\t: 0x{:x}", midr >> 20 & 0xf)?;
    writeln!(w, "CPU part\t: 0x{:03x}", midr >> 4 & 0xfff)?;
    writeln!(w, "CPU revision\t: {}", midr & 0xf)?;
    writeln!(w)
}

/// `AT_HWCAP`.
pub fn hwcap() -> usize {
    HWCAP.load(Relaxed) as usize
}

/// `AT_HWCAP2`.
pub fn hwcap2() -> usize {
    HWCAP2.load(Relaxed) as usize
}

/// `AT_MINSIGSTKSZ`: the signal frame and its frame record, rounded up as Linux does.
pub fn min_sigstack_size() -> usize {
    super::signal::MIN_SIGSTACK_SIZE
}

/// The NUMA node of a CPU.
pub fn node_of(cpu: CpuId) -> u32 {
    native::platform().cpus.get(cpu.index()).map_or(0, |c| c.node)
}
