//! The I/O APICs: redirection entries, one per interrupt pin.
//!
//! Lock: each I/O APIC has one (interrupts off), because registers are reached through an index.

use sync::Once;

use super::platform::Platform;
use crate::addr::PhysAddr;
use crate::mmio::MmioRegion;
use crate::sync::SpinLockIrq;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const ACTIVE_LOW: u64 = 1 << 13;
const VERSION: u8 = 1;
const ENTRIES: u8 = 0x10;

/// How a pin is to be wired.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The vector it raises.
    pub vector: u8,
    /// The APIC id it goes to.
    pub apic_id: u32,
    /// Level triggered.
    pub level: bool,
    /// Active low.
    pub active_low: bool,
    /// Masked.
    pub masked: bool,
}

struct IoApic {
    registers: SpinLockIrq<MmioRegion>,
    gsi_base: u32,
    pins: u32,
}

static IOAPICS: [Once<IoApic>; 8] = [const { Once::new() }; 8];

fn read(registers: &MmioRegion, register: u8) -> u32 {
    registers.write32(0, u32::from(register));
    registers.read32(0x10)
}

fn write(registers: &MmioRegion, register: u8, value: u32) {
    registers.write32(0, u32::from(register));
    registers.write32(0x10, value);
}

/// Maps the I/O APICs and masks every pin.
pub fn init(platform: &Platform) {
    for (slot, info) in IOAPICS.iter().zip(&platform.ioapics[..platform.ioapic_count]) {
        let Some(registers) = super::mmio::ioremap(PhysAddr(u64::from(info.address)), 0x20) else { continue };
        let version = read(&registers, VERSION);
        if version == u32::MAX {
            continue;
        }
        let pins = (version >> 16 & 0xff) + 1;
        for pin in 0..pins.min(120) as u8 {
            write(&registers, ENTRIES + 2 * pin, MASKED as u32);
        }
        slot.call_once(|| IoApic { registers: SpinLockIrq::new(registers), gsi_base: info.gsi_base, pins });
    }
}

/// One more than the highest interrupt of all I/O APICs.
pub fn gsi_end() -> u32 {
    IOAPICS.iter().filter_map(Once::get).map(|a| a.gsi_base + a.pins).max().unwrap_or(0)
}

/// Wires a pin; false if there is no such pin.
pub fn route(gsi: u32, route: Route) -> bool {
    let Some(apic) =
        IOAPICS.iter().filter_map(Once::get).find(|a| gsi >= a.gsi_base && gsi - a.gsi_base < a.pins)
    else {
        return false;
    };
    let pin = ENTRIES + 2 * (gsi - apic.gsi_base) as u8;
    let mut entry = u64::from(route.vector) | u64::from(route.apic_id & 0xff) << 56;
    for (on, bit) in [(route.level, LEVEL), (route.active_low, ACTIVE_LOW), (route.masked, MASKED)] {
        if on {
            entry |= bit;
        }
    }
    let registers = apic.registers.lock();
    // Masked while the halves do not match.
    write(&registers, pin, MASKED as u32);
    write(&registers, pin + 1, (entry >> 32) as u32);
    write(&registers, pin, entry as u32);
    true
}
