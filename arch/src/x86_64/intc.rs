//! Interrupts: vectors, lines, dispatch.
//!
//! Interrupt number = global system interrupt; its vector is `FIRST + number` on every CPU. Numbers beyond the I/O APICs'
//! pins are for messages, which have a vector of one CPU each ([`super::msi`]).
//!
//! Lock: [`LINES`] (interrupts off) → the I/O APIC's own.

use super::ioapic::{self, Route};
use super::platform::platform;
use super::trap::TrapFrame;
use super::{apic, msi, pio, smp};
use core::fmt;

pub(crate) use super::msi::{msi_alloc, msi_free, msi_message, msi_set_affinity};
use crate::addr::PhysAddr;
use crate::cpu::{CpuId, CpuMask};
use crate::intc::{IrqNumber, Trigger};
use crate::irqstat::{Kind, count};
use crate::smp::Ipi;
use crate::sync::SpinLockIrq;
use crate::trap::handler;

/// Vector of interrupt 0.
pub(super) const FIRST: u32 = 0x30;
/// Lines that can have a vector; the rest is for messages.
const COUNT: usize = 0xa0 - FIRST as usize;

#[derive(Clone, Copy)]
struct Line {
    enabled: bool,
    level: bool,
    active_low: bool,
    cpu: CpuId,
}

static LINES: SpinLockIrq<[Line; COUNT]> =
    SpinLockIrq::new([Line { enabled: false, level: false, active_low: false, cpu: CpuId::BOOT }; COUNT]);

/// Silences the legacy controllers, finds the I/O APICs. Boot CPU.
pub fn init() {
    // The two 8259: moved off the exceptions' vectors (spurious interrupts), then masked.
    for (port, value) in [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ] {
        // SAFETY: the interrupt controllers' ports; without the chips the writes go nowhere.
        unsafe { pio::outb(port, value) };
    }
    let platform = platform();
    ioapic::init(platform);
    let mut lines = LINES.lock();
    // PCI lines are level triggered and active low; ISA lines are edges, but for the overrides.
    for line in lines.iter_mut().skip(16) {
        (line.level, line.active_low) = (true, true);
    }
    for isa in &platform.isa {
        if let Some(line) = lines.get_mut(isa.gsi as usize) {
            (line.level, line.active_low) = (isa.level, isa.active_low);
        }
    }
    drop(lines);
    msi::init(line_end());
}

/// One more than the last line.
fn line_end() -> u32 {
    ioapic::gsi_end().max(24).min(COUNT as u32)
}

/// One more than the highest interrupt number.
pub fn nr_irqs() -> u32 {
    line_end() + msi::COUNT as u32
}

fn change(irq: IrqNumber, f: impl FnOnce(&mut Line)) -> bool {
    let mut lines = LINES.lock();
    let Some(line) = lines.get_mut(irq.0 as usize) else { return false };
    f(line);
    let route = Route {
        vector: (FIRST + irq.0) as u8,
        apic_id: platform().apic_ids[line.cpu.index()],
        level: line.level,
        active_low: line.active_low,
        masked: !line.enabled,
    };
    ioapic::route(irq.0, route)
}

/// Unmasks a line.
pub fn enable(irq: IrqNumber) {
    change(irq, |line| line.enabled = true);
}

/// Masks a line.
pub fn disable(irq: IrqNumber) {
    change(irq, |line| line.enabled = false);
}

/// Sets how a line triggers; before it is enabled.
pub fn set_trigger(irq: IrqNumber, trigger: Trigger) {
    change(irq, |line| {
        line.level = matches!(trigger, Trigger::LevelHigh | Trigger::LevelLow);
        line.active_low = matches!(trigger, Trigger::EdgeFalling | Trigger::LevelLow);
    });
}

/// Sets which CPUs may take it; returns false if the controller cannot.
pub fn set_affinity(irq: IrqNumber, cpus: CpuMask) -> bool {
    // I/O APICs without interrupt remapping reach the first 255 APIC ids.
    let reachable = cpus.and(crate::cpu::online()).iter().find(|c| platform().apic_ids[c.index()] < 255);
    reachable.is_some_and(|cpu| change(irq, |line| line.cpu = cpu))
}

/// The CPU that it goes to.
pub fn effective_affinity(irq: IrqNumber) -> Option<CpuId> {
    msi::cpu_of(irq).or_else(|| LINES.lock().get(irq.0 as usize).map(|line| line.cpu))
}

/// What `/proc/interrupts` puts before the name of a device's messages.
pub fn msi_chip() -> &'static str {
    ""
}

/// The local APICs have no tables in memory.
pub fn set_table_memory(_alloc: fn(usize) -> Option<PhysAddr>) {}

/// Name of the controller and line for `/proc/interrupts`, e.g. `IO-APIC   4-edge`.
pub fn describe(irq: IrqNumber, w: &mut dyn fmt::Write) -> fmt::Result {
    let level = LINES.lock().get(irq.0 as usize).is_some_and(|l| l.level);
    write!(w, " IO-APIC {:>3}-{:<8}", irq.0, if level { "fasteoi" } else { "edge" })
}

/// The same for a message, given its device's name and its number.
pub fn describe_message(message: fmt::Arguments<'_>, w: &mut dyn fmt::Write) -> fmt::Result {
    write!(w, "{message}-{:<8}", "edge")
}

/// The interrupt number of an ISA line.
pub fn irq_for_legacy(isa: u8) -> Option<IrqNumber> {
    platform().isa.get(usize::from(isa)).map(|line| IrqNumber(line.gsi))
}

/// There is no device tree on x86.
pub fn irq_from_dt(_cells: &[u32]) -> Option<(IrqNumber, Trigger)> {
    None
}

/// A vector above the exceptions, interrupts off, in hard interrupt context.
pub(super) fn dispatch(frame: &mut TrapFrame) {
    let vector = frame.vector as u8;
    match vector {
        apic::TIMER => {
            apic::eoi();
            count(Kind::Timer);
            if let Some(h) = handler() {
                h.timer(frame);
            }
        }
        apic::RESCHEDULE => {
            apic::eoi();
            count(Kind::Reschedule);
            crate::preempt::fold_need_resched();
            if let Some(h) = handler() {
                h.ipi(Ipi::Reschedule);
            }
        }
        apic::CALL => {
            apic::eoi();
            count(Kind::Call);
            smp::run_calls();
        }
        apic::WORK => {
            apic::eoi();
            count(Kind::Work);
            if let Some(h) = handler() {
                h.ipi(Ipi::Work);
            }
        }
        apic::STOP => smp::stopped(),
        apic::SPURIOUS => count(Kind::Spurious),
        apic::ERROR => {
            count(Kind::Error);
            log::error!("APIC error {:#x}", apic::error_status());
            apic::eoi();
        }
        _ => {
            let line = u32::from(vector).wrapping_sub(FIRST);
            let irq = if line < line_end() { Some(IrqNumber(line)) } else { msi::irq_of(line) };
            match (irq, handler()) {
                (Some(irq), Some(h)) => h.irq(irq),
                _ => count(Kind::Spurious),
            }
            apic::eoi();
        }
    }
}
