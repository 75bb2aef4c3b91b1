//! Message interrupts: a vector of one CPU's local APIC each.
//!
//! A device raises one by a write to the address of that APIC with the vector as data (Intel SDM volume 3, "Message Signalled
//! Interrupts"). A table per CPU says which interrupt a vector is; the vectors that lines use are not in it.
//!
//! When an interrupt moves, its vector on the old CPU stays its own until it moves again or ends: what the device had sent
//! before it was told arrives there.
//!
//! Lock: [`MESSAGES`] (interrupts off), a leaf.

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};

use super::apic;
use super::intc::FIRST;
use super::platform::platform;
use crate::cpu::{CpuId, CpuMask};
use crate::intc::{IrqNumber, Message, least_loaded};
use crate::sync::SpinLockIrq;

/// How many there can be.
pub(super) const COUNT: usize = 512;
/// Vectors from [`FIRST`] to the first of the local APIC's own.
const VECTORS: usize = apic::TIMER as usize - FIRST as usize;

crate::per_cpu! {
    /// Interrupt number plus one by vector.
    static TABLE: [AtomicU16; VECTORS] = [const { AtomicU16::new(0) }; VECTORS];
}

/// A vector (from [`FIRST`]) on a CPU.
#[derive(Clone, Copy)]
struct Target {
    cpu: CpuId,
    slot: u16,
}

#[derive(Clone, Copy)]
struct Entry {
    target: Option<Target>,
    /// Where it was before.
    old: Option<Target>,
}

static MESSAGES: SpinLockIrq<[Entry; COUNT]> =
    SpinLockIrq::new([const { Entry { target: None, old: None } }; COUNT]);
/// The interrupt number of the first message.
static BASE: AtomicU32 = AtomicU32::new(u32::MAX);

/// Numbers begin at `base`, as the vectors do that are free for messages.
pub(super) fn init(base: u32) {
    BASE.store(base, Relaxed);
}

/// The interrupt of a vector of this CPU. Interrupts off.
#[inline]
pub(super) fn irq_of(slot: u32) -> Option<IrqNumber> {
    // SAFETY: interrupts are off, so that this CPU's copy stays ours; it lives for ever.
    let table = unsafe { &*TABLE.current_raw() };
    let number = table.get(slot as usize)?.load(Relaxed);
    number.checked_sub(1).map(|irq| IrqNumber(irq.into()))
}

fn index_of(irq: IrqNumber) -> Option<usize> {
    irq.0.checked_sub(BASE.load(Relaxed)).map(|index| index as usize).filter(|index| *index < COUNT)
}

/// The CPU that a message goes to.
pub(super) fn cpu_of(irq: IrqNumber) -> Option<CpuId> {
    MESSAGES.lock()[index_of(irq)?].target.map(|target| target.cpu)
}

/// How many vectors a CPU has in use.
fn load(cpu: CpuId) -> u32 {
    TABLE.on(cpu).iter().filter(|slot| slot.load(Relaxed) != 0).count() as u32
}

/// A free vector on one of `cpus`. Under the lock.
fn take(irq: IrqNumber, cpus: CpuMask) -> Option<Target> {
    let base = BASE.load(Relaxed) as usize;
    let mut left = cpus;
    while let Some(cpu) = least_loaded(left, load) {
        left.clear(cpu);
        // Without interrupt remapping a message has eight bits for the APIC id, all of them set being all CPUs.
        if platform().apic_ids[cpu.index()] >= 255 {
            continue;
        }
        let table = TABLE.on(cpu);
        if let Some(slot) = (base..VECTORS).find(|slot| table[*slot].load(Relaxed) == 0) {
            table[slot].store(irq.0 as u16 + 1, Relaxed);
            return Some(Target { cpu, slot: slot as u16 });
        }
    }
    None
}

fn release(target: Option<Target>) {
    if let Some(Target { cpu, slot }) = target {
        TABLE.on(cpu)[usize::from(slot)].store(0, Relaxed);
    }
}

/// See [`crate::intc::MsiVector::new`].
pub(crate) fn msi_alloc(_requester: u32, _event: u32, _events: u32, cpus: CpuMask) -> Option<IrqNumber> {
    let base = BASE.load(Relaxed);
    if base == u32::MAX {
        return None;
    }
    let mut messages = MESSAGES.lock();
    let index = messages.iter().position(|entry| entry.target.is_none())?;
    let irq = IrqNumber(base + index as u32);
    messages[index] = Entry { target: Some(take(irq, cpus)?), old: None };
    Some(irq)
}

/// See [`crate::intc::MsiVector::message`].
pub(crate) fn msi_message(irq: IrqNumber) -> Message {
    let target = index_of(irq).and_then(|index| MESSAGES.lock()[index].target);
    let (id, vector) = match target {
        Some(Target { cpu, slot }) => (platform().apic_ids[cpu.index()], FIRST + u32::from(slot)),
        None => (0, u32::from(apic::SPURIOUS)),
    };
    // Physical destination, fixed delivery, edge.
    Message { address: 0xfee0_0000 | u64::from(id & 0xff) << 12, data: vector }
}

/// See [`crate::intc::MsiVector::set_affinity`].
pub(crate) fn msi_set_affinity(irq: IrqNumber, cpus: CpuMask) -> bool {
    let Some(index) = index_of(irq) else { return false };
    let mut messages = MESSAGES.lock();
    let entry = messages[index];
    match entry.target {
        None => false,
        Some(now) if cpus.contains(now.cpu) => true,
        Some(now) => {
            // A vector that it still has there is taken again.
            let back = entry.old.filter(|old| cpus.contains(old.cpu));
            let Some(new) = back.or_else(|| take(irq, cpus)) else { return false };
            if back.is_none() {
                release(entry.old);
            }
            messages[index] = Entry { target: Some(new), old: Some(now) };
            true
        }
    }
}

/// See [`crate::intc::MsiVector`].
pub(crate) fn msi_free(irq: IrqNumber) {
    if let Some(index) = index_of(irq) {
        let mut messages = MESSAGES.lock();
        let entry = &mut messages[index];
        release(entry.target.take());
        release(entry.old.take());
    }
}
