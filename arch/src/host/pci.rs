//! There is no PCI here.

use alloc::vec::Vec;

use crate::intc::{IrqNumber, Trigger};
use crate::pci::{HostBridge, VirtioMmio};

/// None.
pub fn host_bridges() -> Vec<HostBridge> {
    Vec::new()
}

/// The same.
pub fn msi_requester(_bridge: usize, requester: u16) -> u32 {
    requester.into()
}

/// None.
pub fn line(_bridge: usize, _device: u8, _pin: u8, _line: u8) -> Option<(IrqNumber, Trigger)> {
    None
}

/// None.
pub fn virtio_mmio() -> Vec<VirtioMmio> {
    Vec::new()
}
