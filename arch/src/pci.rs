//! PCI host bridges that the machine is known to have, and virtio devices without a bus, for their drivers to probe.
//!
//! The architecture says where they are and what firmware tells of them; it does not touch them.

use alloc::vec::Vec;

use crate::addr::PhysAddr;
use crate::intc::{IrqNumber, Trigger};
use crate::ioport::PortRegion;
use crate::mmio::MmioRegion;

/// How configuration space is reached.
#[derive(Debug)]
pub enum Config {
    /// 4 KiB of memory for each function, 1 MiB for each bus, beginning here with the bridge's first bus.
    Memory(PhysAddr),
    /// An address and a data port; the first 256 bytes of each function only.
    Ports(PortRegion),
}

/// Which kind of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// I/O ports.
    Io,
    /// Memory that 32 bits reach.
    Memory32,
    /// Memory.
    Memory64,
}

/// A range of addresses that devices behind a bridge can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Their kind.
    pub space: Space,
    /// Reading has no side effects.
    pub prefetchable: bool,
    /// First address as devices have it.
    pub bus: u64,
    /// The same as the CPU reaches it.
    pub cpu: u64,
    /// Bytes.
    pub len: u64,
}

/// A host bridge.
#[derive(Debug)]
pub struct HostBridge {
    /// Its number among all.
    pub index: usize,
    /// The segment (`0000` of `0000:00:02.0`).
    pub segment: u16,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
    /// Configuration space.
    pub config: Config,
    /// What devices can be given; empty where firmware has done so and does not say from what.
    pub windows: Vec<Window>,
    /// Whether firmware has given addresses to the devices.
    pub assigned: bool,
}

/// The bridges.
pub fn host_bridges() -> Vec<HostBridge> {
    crate::imp::pci::host_bridges()
}

/// The id by which messages of a device are told from those of others, from its requester id (bus, device, function).
pub fn msi_requester(bridge: usize, requester: u16) -> u32 {
    crate::imp::pci::msi_requester(bridge, requester)
}

/// Where interrupt pin `pin` (1 to 4) of a device of the root bus arrives. `line`: what firmware wrote into the device's
/// interrupt line register.
pub fn line(bridge: usize, device: u8, pin: u8, line: u8) -> Option<(IrqNumber, Trigger)> {
    crate::imp::pci::line(bridge, device, pin, line)
}

/// Registers of a virtio device without a bus.
#[derive(Debug)]
pub struct VirtioMmio {
    /// The registers.
    pub registers: MmioRegion,
    /// Its interrupt.
    pub irq: IrqNumber,
    /// How that triggers.
    pub trigger: Trigger,
}

/// Places where there may be virtio devices.
pub fn virtio_mmio() -> Vec<VirtioMmio> {
    crate::imp::pci::virtio_mmio()
}
