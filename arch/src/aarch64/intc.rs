//! The interrupt controller: GICv2 or GICv3.
//!
//! INTIDs 0–15 are IPIs ([`crate::smp::Ipi`]), 16–31 belong to each CPU (the timer), 32 and up are device lines. All
//! have the same priority; interrupts do not nest.

use core::fmt::Write;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::native::{self, Gic};
use super::trap::TrapFrame;
use super::{gicv2, gicv3, smp, time};
use crate::cpu::CpuMask;
use crate::intc::{IrqNumber, Trigger};
use crate::irqstat::{Kind, count};
use crate::trap::handler;

/// First INTID of shared lines.
const SPI: u32 = 32;
/// One more than the last INTID of shared lines.
const SPI_END: u32 = 1020;

const NONE: u8 = 0;
const V2: u8 = 2;
const V3: u8 = 3;
static VERSION: AtomicU8 = AtomicU8::new(NONE);
/// Level-triggered lines, a bit each.
static LEVEL: [AtomicU64; 16] = [const { AtomicU64::new(u64::MAX) }; 16];

/// Chosen once at boot: which driver answers.
macro_rules! dispatch {
    ($v2:expr, $v3:expr, $none:expr) => {
        match VERSION.load(Relaxed) {
            V3 => $v3,
            V2 => $v2,
            _ => $none,
        }
    };
}

/// Finds and resets the controller; on the boot CPU, interrupts off.
pub(super) fn init_boot() {
    match native::platform().gic {
        Some(Gic::V2 { dist, cpu }) if gicv2::init(dist, cpu) => VERSION.store(V2, Relaxed),
        Some(Gic::V3 { dist, redist }) if gicv3::init(dist, redist) => VERSION.store(V3, Relaxed),
        _ => {
            log::error!("no interrupt controller that this kernel knows");
            return;
        }
    }
    init_cpu();
}

/// This CPU's part.
pub(super) fn init_cpu() {
    dispatch!(gicv2::init_cpu(), gicv3::init_cpu(), ());
}

/// Takes all pending interrupts.
pub(super) fn handle(frame: &TrapFrame) {
    dispatch!(
        while let Some(ack) = gicv2::acknowledge() {
            one(ack & 0x3ff, frame);
            gicv2::end(ack);
        },
        while let Some(intid) = gicv3::acknowledge() {
            one(intid, frame);
            gicv3::end(intid);
        },
        ()
    );
}

#[inline]
fn one(intid: u32, frame: &TrapFrame) {
    if intid == native::platform().timer_irq {
        time::acknowledge();
        count(Kind::Timer);
        if let Some(handler) = handler() {
            handler.timer(frame);
        }
    } else if intid < 16 {
        smp::handle_ipi(intid);
    } else if let Some(handler) = handler() {
        handler.irq(IrqNumber(intid));
    }
}

/// Sends an IPI.
#[inline]
pub(super) fn send_sgi(mask: CpuMask, sgi: u32) {
    // What the receiver is to see must be visible before the interrupt.
    super::sysreg::dsb_ishst();
    dispatch!(gicv2::send_sgi(mask, sgi), gicv3::send_sgi(mask, sgi), ());
}

/// Unmasks a line of this CPU's own.
pub(super) fn enable_percpu(intid: u32) {
    dispatch!(gicv2::set_enabled(intid, true), gicv3::set_enabled(intid, true), ());
}

/// One more than the highest interrupt number.
pub fn nr_irqs() -> u32 {
    dispatch!(gicv2::lines(), gicv3::lines(), SPI).min(SPI_END)
}

/// Unmasks a line.
pub fn enable(irq: IrqNumber) {
    if irq.0 < nr_irqs() {
        dispatch!(gicv2::set_enabled(irq.0, true), gicv3::set_enabled(irq.0, true), ());
    }
}

/// Masks a line.
pub fn disable(irq: IrqNumber) {
    if irq.0 < nr_irqs() {
        dispatch!(gicv2::set_enabled(irq.0, false), gicv3::set_enabled(irq.0, false), ());
    }
}

/// Sets how a line triggers; before it is enabled.
pub fn set_trigger(irq: IrqNumber, trigger: Trigger) {
    if irq.0 < 16 || irq.0 >= nr_irqs() {
        return;
    }
    let level = matches!(trigger, Trigger::LevelHigh | Trigger::LevelLow);
    if let Some(word) = LEVEL.get(irq.0 as usize / 64) {
        let bit = 1 << (irq.0 % 64);
        if level {
            word.fetch_or(bit, Relaxed)
        } else {
            word.fetch_and(!bit, Relaxed)
        };
    }
    dispatch!(gicv2::set_level(irq.0, level), gicv3::set_level(irq.0, level), ());
}

/// Sets which CPUs may take it; returns false if the controller cannot.
pub fn set_affinity(irq: IrqNumber, cpus: CpuMask) -> bool {
    if irq.0 < SPI || irq.0 >= nr_irqs() {
        return false;
    }
    match cpus.and(crate::cpu::online()).first() {
        Some(cpu) => dispatch!(gicv2::set_target(irq.0, cpu), gicv3::set_target(irq.0, cpu), false),
        None => false,
    }
}

/// Name of the controller and line for `/proc/interrupts`, e.g. `GICv3  33 Level`.
pub fn describe(irq: IrqNumber, w: &mut dyn Write) -> core::fmt::Result {
    let name = dispatch!("GICv2", "GICv3", "none");
    let word = LEVEL.get(irq.0 as usize / 64).map_or(u64::MAX, |w| w.load(Relaxed));
    let trigger = if word >> (irq.0 % 64) & 1 != 0 { "Level" } else { "Edge" };
    write!(w, "{name:>9} {:>3} {trigger:<8}", irq.0)
}

/// The interrupt number of an ISA line (x86); `None` elsewhere.
pub fn irq_for_legacy(_isa: u8) -> Option<IrqNumber> {
    None
}

/// The interrupt number and trigger of a device tree `interrupts` specifier; `None` if it is malformed.
pub fn irq_from_dt(cells: &[u32]) -> Option<(IrqNumber, Trigger)> {
    let &[kind, number, flags, ..] = cells else {
        return None;
    };
    let intid = match kind {
        0 if number < SPI_END - SPI => SPI + number,
        1 if number < 16 => 16 + number,
        _ => return None,
    };
    let trigger = match flags & 0xf {
        1 => Trigger::EdgeRising,
        2 => Trigger::EdgeFalling,
        4 => Trigger::LevelHigh,
        8 => Trigger::LevelLow,
        _ => return None,
    };
    Some((IrqNumber(intid), trigger))
}
