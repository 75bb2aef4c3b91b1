//! The local APIC: x2APIC by MSRs where the CPU has it, else by memory-mapped registers.

use sync::Once;

use super::{features, insn, msr};
use crate::addr::PhysAddr;
use crate::mmio::MmioRegion;

/// Vectors of our own, in falling priority.
pub const SPURIOUS: u8 = 0xff;
/// The APIC reports an error.
pub const ERROR: u8 = 0xfe;
/// `Ipi::Reschedule`.
pub const RESCHEDULE: u8 = 0xfd;
/// `Ipi::Call` and `Ipi::TlbShootdown`.
pub const CALL: u8 = 0xfb;
/// `Ipi::Stop`.
pub const STOP: u8 = 0xf8;
/// `Ipi::Work`.
pub const WORK: u8 = 0xf6;
/// The timer.
pub const TIMER: u8 = 0xec;

/// Registers, by their offset in the memory-mapped page.
const TPR: u32 = 0x80;
const EOI: u32 = 0xb0;
const SVR: u32 = 0xf0;
const ESR: u32 = 0x280;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const MASKED: u32 = 1 << 16;
const MODE_DEADLINE: u32 = 2 << 17;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const PENDING: u32 = 1 << 12;

static REGISTERS: Once<MmioRegion> = Once::new();

#[inline]
fn read(register: u32) -> u32 {
    if features::has_x2apic() {
        // SAFETY: x2APIC mode is on (`init_cpu`); every register used here exists in it.
        return unsafe { insn::rdmsr(msr::X2APIC + (register >> 4)) } as u32;
    }
    REGISTERS.get().map_or(0, |r| r.read32(register as usize))
}

#[inline]
fn write(register: u32, value: u32) {
    if features::has_x2apic() {
        // SAFETY: as for reading.
        unsafe { insn::wrmsr(msr::X2APIC + (register >> 4), u64::from(value)) };
    } else if let Some(r) = REGISTERS.get() {
        r.write32(register as usize, value);
    }
}

/// Maps the registers, if they are needed. Boot CPU.
pub fn init(address: u64) {
    if !features::has_x2apic()
        && let Some(region) = super::mmio::ioremap(PhysAddr(address), 4096)
    {
        REGISTERS.call_once(|| region);
    }
}

/// Switches this CPU's APIC on.
///
/// # Safety
/// Once per CPU, interrupts off, the IDT loaded.
pub unsafe fn init_cpu(boot_cpu: bool) {
    const ENABLE: u64 = 1 << 11;
    const ENABLE_X2APIC: u64 = 1 << 10;
    // SAFETY: the MSR exists wherever there is an APIC; x2APIC only where CPUID shows it.
    unsafe {
        let base = insn::rdmsr(msr::APIC_BASE) | ENABLE;
        insn::wrmsr(msr::APIC_BASE, base);
        if features::has_x2apic() {
            insn::wrmsr(msr::APIC_BASE, base | ENABLE_X2APIC);
        }
    }
    write(TPR, 0);
    write(LVT_TIMER, MASKED);
    write(LVT_LINT0, MASKED);
    // The NMI button is wired to LINT1 of the boot CPU.
    write(LVT_LINT1, DELIVER_NMI | if boot_cpu { 0 } else { MASKED });
    write(LVT_ERROR, u32::from(ERROR));
    write(ESR, 0);
    write(SVR, 0x100 | u32::from(SPURIOUS));
}

/// The interrupt was dealt with.
#[inline]
pub fn eoi() {
    write(EOI, 0);
}

/// The error status, cleared.
pub fn error_status() -> u32 {
    write(ESR, 0);
    read(ESR)
}

fn command(apic_id: u32, low: u32) {
    if features::has_x2apic() {
        // Writes by MSR are not ordered with memory: what the receiver shall see must be out before.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        // SAFETY: x2APIC mode is on.
        unsafe { insn::wrmsr(msr::X2APIC + (ICR_LOW >> 4), u64::from(apic_id) << 32 | u64::from(low)) };
        return;
    }
    // An interrupt in between that sends too would split the two halves.
    let _guard = crate::irq::IrqGuard::new();
    wait_sent();
    write(ICR_HIGH, apic_id << 24);
    write(ICR_LOW, low);
}

fn wait_sent() {
    for _ in 0..1_000_000 {
        if features::has_x2apic() || read(ICR_LOW) & PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Sends a vector.
#[inline]
pub fn send(apic_id: u32, vector: u8) {
    command(apic_id, u32::from(vector) | ASSERT);
}

/// Sends an NMI.
pub fn send_nmi(apic_id: u32) {
    command(apic_id, DELIVER_NMI | ASSERT);
}

/// Resets a CPU into the state in which it waits for [`send_startup`].
pub fn send_init(apic_id: u32) {
    command(apic_id, DELIVER_INIT | ASSERT | LEVEL);
    wait_sent();
    command(apic_id, DELIVER_INIT | LEVEL);
    wait_sent();
}

/// Starts a CPU in real mode at page `page` of memory.
pub fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, DELIVER_STARTUP | ASSERT | u32::from(page));
    wait_sent();
}

/// Timer mode: one-shot by count (divided by 16), or the TSC deadline where the CPU has it.
pub fn init_timer() {
    if features::has_tsc_deadline() {
        write(LVT_TIMER, u32::from(TIMER) | MODE_DEADLINE);
        // The mode must be set before the deadline is written.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    } else {
        write(TIMER_DIVIDE, 3);
        write(LVT_TIMER, u32::from(TIMER));
    }
}

/// Lets the (masked) timer count down from its maximum: for calibration.
pub fn start_timer_count() {
    write(LVT_TIMER, MASKED | u32::from(TIMER));
    write(TIMER_DIVIDE, 3);
    write(TIMER_INITIAL, u32::MAX);
}

/// How far it has counted.
pub fn timer_count() -> u32 {
    u32::MAX - read(TIMER_CURRENT)
}

/// Fires after so many counts; 0: never.
#[inline]
pub fn set_timer_count(count: u32) {
    write(TIMER_INITIAL, count);
}
