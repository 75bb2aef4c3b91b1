//! The interrupt controller: GICv2 or GICv3.
//!
//! INTIDs 0–15 are IPIs ([`crate::smp::Ipi`]), 16–31 belong to each CPU (the timer), 32 and up are device lines, and from 8192 on
//! messages; those are known by smaller numbers ([`FIRST_MESSAGE`]). All have the same priority; interrupts do not nest.

use core::fmt::Write;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed};

use super::native::{self, Gic, MsiController};
use super::trap::TrapFrame;
use super::{gicv2, gicv2m, gicv3, its, smp, time};
use crate::addr::PhysAddr;
use crate::cpu::{CpuId, CpuMask};
use crate::intc::{IrqNumber, Message, Trigger, least_loaded};
use crate::irqstat::{Kind, count};
use crate::trap::handler;

/// First INTID of shared lines.
const SPI: u32 = 32;
/// One more than the last INTID of shared lines.
const SPI_END: u32 = 1020;

/// First INTID of LPIs.
pub(super) const FIRST_LPI: u32 = 8192;
/// How many of them are used.
pub(super) const LPIS: usize = 1024;
/// The interrupt number of the first LPI.
const FIRST_MESSAGE: u32 = 1024;

const NONE: u8 = 0;
const V2: u8 = 2;
const V3: u8 = 3;
static VERSION: AtomicU8 = AtomicU8::new(NONE);
/// Level-triggered lines, a bit each.
static LEVEL: [AtomicU64; 16] = [const { AtomicU64::new(u64::MAX) }; 16];
/// The CPU of each line.
static TARGETS: [AtomicU8; SPI_END as usize] = [const { AtomicU8::new(0) }; SPI_END as usize];
static TABLE_MEMORY: AtomicUsize = AtomicUsize::new(0);

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
        let message = intid.checked_sub(FIRST_LPI).map(|index| FIRST_MESSAGE + index);
        handler.irq(IrqNumber(message.unwrap_or(intid)));
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

fn lines() -> u32 {
    dispatch!(gicv2::lines(), gicv3::lines(), SPI).min(SPI_END)
}

/// One more than the highest interrupt number.
pub fn nr_irqs() -> u32 {
    match native::platform().msi {
        Some(MsiController::Its(_)) => FIRST_MESSAGE + LPIS as u32,
        _ => lines(),
    }
}

/// The LPI of a number, from the first.
fn lpi(irq: IrqNumber) -> Option<u32> {
    irq.0.checked_sub(FIRST_MESSAGE).filter(|index| (*index as usize) < LPIS)
}

/// Unmasks a line.
pub fn enable(irq: IrqNumber) {
    if let Some(index) = lpi(irq) {
        its::set_enabled(index, true);
    } else if irq.0 < lines() {
        dispatch!(gicv2::set_enabled(irq.0, true), gicv3::set_enabled(irq.0, true), ());
    }
}

/// Masks a line.
pub fn disable(irq: IrqNumber) {
    if let Some(index) = lpi(irq) {
        its::set_enabled(index, false);
    } else if irq.0 < lines() {
        dispatch!(gicv2::set_enabled(irq.0, false), gicv3::set_enabled(irq.0, false), ());
    }
}

/// Sets how a line triggers; before it is enabled.
pub fn set_trigger(irq: IrqNumber, trigger: Trigger) {
    if irq.0 < 16 || irq.0 >= lines() {
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
    if irq.0 < SPI || irq.0 >= lines() {
        return false;
    }
    let Some(cpu) = cpus.and(crate::cpu::online()).first() else { return false };
    let moved = dispatch!(gicv2::set_target(irq.0, cpu), gicv3::set_target(irq.0, cpu), false);
    if moved && let Some(target) = TARGETS.get(irq.0 as usize) {
        target.store(cpu.0 as u8, Relaxed);
    }
    moved
}

/// The CPU that it goes to.
pub fn effective_affinity(irq: IrqNumber) -> Option<CpuId> {
    match lpi(irq) {
        Some(index) => its::cpu_of(index),
        None => TARGETS.get(irq.0 as usize).map(|cpu| CpuId(cpu.load(Relaxed).into())),
    }
}

/// What `/proc/interrupts` puts before the name of a device's messages; nothing without messages.
pub fn msi_chip() -> &'static str {
    match native::platform().msi {
        Some(MsiController::Its(_)) => "ITS-",
        Some(MsiController::V2m(_)) => "GICv2m-",
        None => "",
    }
}

/// See [`crate::intc::MsiVector::new`].
pub(crate) fn msi_alloc(requester: u32, event: u32, events: u32, cpus: CpuMask) -> Option<IrqNumber> {
    match native::platform().msi? {
        MsiController::Its(base) => {
            its::alloc(base, requester, event, events, cpus).map(|index| IrqNumber(FIRST_MESSAGE + index))
        }
        MsiController::V2m(frames) => {
            let cpu = least_loaded(cpus, gicv2m::load)?;
            let irq = IrqNumber(gicv2m::alloc(frames, cpu)?);
            set_trigger(irq, Trigger::EdgeRising);
            set_affinity(irq, CpuMask::of(cpu));
            enable(irq);
            Some(irq)
        }
    }
}

/// See [`crate::intc::MsiVector::message`].
pub(crate) fn msi_message(irq: IrqNumber) -> Message {
    let message = match (native::platform().msi, lpi(irq)) {
        (Some(MsiController::Its(base)), Some(index)) => its::message(base, index),
        (Some(MsiController::V2m(frames)), None) => gicv2m::message(frames, irq.0),
        _ => None,
    };
    message.unwrap_or(Message { address: 0, data: 0 })
}

/// See [`crate::intc::MsiVector::set_affinity`].
pub(crate) fn msi_set_affinity(irq: IrqNumber, cpus: CpuMask) -> bool {
    if let Some(index) = lpi(irq) {
        return its::set_affinity(index, cpus);
    }
    if gicv2m::cpu_of(irq.0).is_some_and(|cpu| cpus.contains(cpu)) {
        return true;
    }
    let Some(cpu) = least_loaded(cpus, gicv2m::load) else { return false };
    let moved = set_affinity(irq, CpuMask::of(cpu));
    if moved {
        gicv2m::moved(irq.0, cpu);
    }
    moved
}

/// See [`crate::intc::MsiVector`].
pub(crate) fn msi_free(irq: IrqNumber) {
    match lpi(irq) {
        Some(index) => its::free(index),
        None => {
            disable(irq);
            gicv2m::free(irq.0);
        }
    }
}

/// Gives the source of memory for tables that the interrupt controller reads: zeroed, contiguous, aligned to its size, which is a
/// power of two of at least a page; never given back.
pub fn set_table_memory(alloc: fn(usize) -> Option<PhysAddr>) {
    TABLE_MEMORY.store(alloc as usize, Ordering::Release);
}

/// Memory for a table.
pub(super) fn table_memory(bytes: usize) -> Option<PhysAddr> {
    let alloc = TABLE_MEMORY.load(Ordering::Acquire);
    if alloc == 0 {
        return None;
    }
    // SAFETY: only `set_table_memory` stores here.
    let alloc: fn(usize) -> Option<PhysAddr> = unsafe { core::mem::transmute(alloc) };
    alloc(bytes)
}

/// Name of the controller and line for `/proc/interrupts`, e.g. `GICv3  33 Level`.
pub fn describe(irq: IrqNumber, w: &mut dyn Write) -> core::fmt::Result {
    let name = dispatch!("GICv2", "GICv3", "none");
    let word = LEVEL.get(irq.0 as usize / 64).map_or(u64::MAX, |w| w.load(Relaxed));
    let trigger = if word >> (irq.0 % 64) & 1 != 0 { "Level" } else { "Edge" };
    write!(w, "{name:>9} {:>3} {trigger:<8}", irq.0)
}

/// The same for a message, given its device's name and its number.
pub fn describe_message(message: core::fmt::Arguments<'_>, w: &mut dyn Write) -> core::fmt::Result {
    write!(w, "{message} {:<8}", "Edge")
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
