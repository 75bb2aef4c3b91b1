//! PCI on the PC: configuration space by the MCFG table, else by the ports of configuration mechanism 1 (PCI Local Bus
//! Specification 3.0, 3.2.2.3.2).

use alloc::vec::Vec;

use super::platform::platform;
use crate::addr::PhysAddr;
use crate::intc::{IrqNumber, Trigger, irq_for_legacy};
use crate::ioport::PortRegion;
use crate::pci::{Config, HostBridge, VirtioMmio};

/// Configuration space of a bus.
const BUS: u64 = 1 << 20;
const CONFIG_ADDRESS: u16 = 0xcf8;

/// See [`crate::pci::host_bridges`].
pub fn host_bridges() -> Vec<HostBridge> {
    let platform = platform();
    let mut bridges = Vec::new();
    for (index, window) in platform.ecam.iter().take(platform.ecam_count).enumerate() {
        // The table's address is that of bus 0, whichever the first is.
        let Some(base) = window.base.checked_add(u64::from(window.first_bus) * BUS) else { continue };
        bridges.push(HostBridge {
            index,
            segment: window.segment,
            first_bus: window.first_bus,
            last_bus: window.last_bus,
            config: Config::Memory(PhysAddr(base)),
            windows: Vec::new(),
            assigned: true,
        });
    }
    if bridges.is_empty()
        && let Some(ports) = ports()
    {
        bridges.push(HostBridge {
            index: 0,
            segment: 0,
            first_bus: 0,
            last_bus: 255,
            config: Config::Ports(ports),
            windows: Vec::new(),
            assigned: true,
        });
    }
    bridges
}

/// The ports, if there is something behind them that keeps what is written.
fn ports() -> Option<PortRegion> {
    const ENABLE: u32 = 1 << 31;
    // SAFETY: these ports are a host bridge's or nobody's; devices reach memory only if their drivers tell them to.
    let ports = unsafe { PortRegion::new(CONFIG_ADDRESS, 8) }?;
    let old = ports.read32(0);
    ports.write32(0, ENABLE);
    let kept = ports.read32(0) == ENABLE;
    ports.write32(0, old);
    kept.then_some(ports)
}

/// See [`crate::pci::msi_requester`].
pub fn msi_requester(_bridge: usize, requester: u16) -> u32 {
    requester.into()
}

/// See [`crate::pci::line`]: as firmware wired it to the legacy controllers, which the I/O APIC sees as well.
pub fn line(_bridge: usize, _device: u8, pin: u8, line: u8) -> Option<(IrqNumber, Trigger)> {
    if pin == 0 || !(3..16).contains(&line) {
        return None;
    }
    Some((irq_for_legacy(line)?, Trigger::LevelHigh))
}

/// See [`crate::pci::virtio_mmio`]. Only the command line tells of them.
pub fn virtio_mmio() -> Vec<VirtioMmio> {
    Vec::new()
}
