//! The PCI host bridge and the virtio devices that the device tree names.

use alloc::vec::Vec;

use super::native::{PciHost, platform};
use crate::intc::{IrqNumber, Trigger};
use crate::mmio::ioremap;
use crate::pci::{Config, HostBridge, VirtioMmio};

/// Configuration space of a bus.
const BUS: u64 = 1 << 20;

/// See [`crate::pci::host_bridges`].
pub fn host_bridges() -> Vec<HostBridge> {
    platform().pci.iter().filter_map(bridge).collect()
}

fn bridge(host: &PciHost) -> Option<HostBridge> {
    let (first, last) = host.buses;
    let count = (u64::from(last.checked_sub(first)?) + 1).min(host.ecam_len / BUS);
    let last = first + count.checked_sub(1)? as u8;
    Some(HostBridge {
        index: 0,
        segment: host.segment,
        first_bus: first,
        last_bus: last,
        config: Config::Memory(host.ecam),
        windows: host.windows.iter().copied().flatten().collect(),
        assigned: false,
    })
}

/// See [`crate::pci::msi_requester`].
pub fn msi_requester(_bridge: usize, requester: u16) -> u32 {
    let requester = u32::from(requester);
    let (first, to, len) = platform().pci.map_or((0, 0, 0), |host| host.msi_map);
    match requester.checked_sub(first) {
        Some(offset) if offset < len => to.wrapping_add(offset),
        _ => requester,
    }
}

/// See [`crate::pci::line`].
pub fn line(_bridge: usize, device: u8, pin: u8, _line: u8) -> Option<(IrqNumber, Trigger)> {
    let host = platform().pci.as_ref()?;
    let (unit_mask, pin_mask) = host.line_mask;
    let unit = u32::from(device) << 11 & unit_mask;
    let pin = u32::from(pin) & pin_mask;
    let line = host.lines.iter().flatten().find(|line| line.unit & unit_mask == unit && line.pin == pin)?;
    Some((line.irq, line.trigger))
}

/// See [`crate::pci::virtio_mmio`].
pub fn virtio_mmio() -> Vec<VirtioMmio> {
    let map = |device: &super::native::VirtioMmio| {
        let registers = ioremap(device.base, usize::try_from(device.len).ok()?)?;
        Some(VirtioMmio { registers, irq: device.irq, trigger: device.trigger })
    };
    platform().virtio_mmio.iter().flatten().filter_map(map).collect()
}
