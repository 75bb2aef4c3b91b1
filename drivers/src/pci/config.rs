//! Configuration space: 256 bytes of each function by ports, 4 KiB by memory.

use alloc::boxed::Box;
use alloc::vec::Vec;

use arch::addr::PhysAddr;
use arch::ioport::PortRegion;
use arch::mmio::{self, MmioRegion};
use arch::pci::{Config, HostBridge, Window};
use arch::sync::SpinLockIrq;
use mm::fallible::{try_box, try_into_boxed_slice, try_with_capacity};
use sync::Once;

use super::Address;

/// How wide an access is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// A byte.
    Byte,
    /// Two.
    Word,
    /// Four.
    Double,
}

impl Width {
    /// Bytes.
    pub fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Double => 4,
        }
    }

    /// All ones: what is read where nothing answers.
    pub fn ones(self) -> u32 {
        u32::MAX >> (32 - 8 * self.bytes())
    }
}

/// Reaches configuration space. `offset` is a multiple of the width, below [`Access::size`].
pub trait Access: Send + Sync {
    /// Bytes of each function.
    fn size(&self) -> u16;
    /// Reads.
    fn read(&self, bus: u8, devfn: u8, offset: u16, width: Width) -> u32;
    /// Writes.
    fn write(&self, bus: u8, devfn: u8, offset: u16, width: Width, value: u32);
}

/// A host bridge.
pub struct Host {
    /// Its number among all.
    pub index: usize,
    /// The segment.
    pub segment: u16,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
    /// What devices can be given.
    pub windows: Vec<Window>,
    /// Whether firmware has given addresses to devices.
    pub assigned: bool,
    access: Box<dyn Access>,
}

impl Host {
    /// A bridge that the architecture knows of.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(bridge: HostBridge) -> abi::Result<Self> {
        let HostBridge { index, segment, first_bus, last_bus, config, windows, assigned } = bridge;
        let access: Box<dyn Access> = match config {
            Config::Memory(base) => try_box(Ecam::new(base, first_bus, last_bus)?)?,
            Config::Ports(ports) => try_box(Ports(SpinLockIrq::new(ports)))?,
        };
        Ok(Self { index, segment, first_bus, last_bus, windows, assigned, access })
    }

    /// One whose configuration space is something else: for tests.
    #[cfg(test)]
    pub fn with_access(access: Box<dyn Access>, windows: Vec<Window>, assigned: bool) -> Self {
        Self { index: 0, segment: 0, first_bus: 0, last_bus: 255, windows, assigned, access }
    }

    /// Bytes of configuration space of each function.
    pub fn config_size(&self) -> u16 {
        self.access.size()
    }

    /// Reads; all ones beyond the end, or where nothing answers.
    pub fn read(&self, address: Address, offset: u16, width: Width) -> u32 {
        if self.reaches(address, offset, width) {
            self.access.read(address.bus, address.devfn, offset, width)
        } else {
            width.ones()
        }
    }

    /// Writes; nothing happens beyond the end.
    pub fn write(&self, address: Address, offset: u16, width: Width, value: u32) {
        if self.reaches(address, offset, width) {
            self.access.write(address.bus, address.devfn, offset, width, value);
        }
    }

    fn reaches(&self, address: Address, offset: u16, width: Width) -> bool {
        (self.first_bus..=self.last_bus).contains(&address.bus)
            && offset < self.access.size()
            && offset.is_multiple_of(width.bytes())
    }
}

/// Bytes of a bus.
const BUS: usize = 1 << 20;

/// Configuration space in memory (PCI Express, 7.2.2); a bus is mapped when it is first looked at.
struct Ecam {
    base: PhysAddr,
    first_bus: u8,
    buses: Box<[Once<Option<MmioRegion>>]>,
}

impl Ecam {
    fn new(base: PhysAddr, first_bus: u8, last_bus: u8) -> abi::Result<Self> {
        let count = usize::from(last_bus.saturating_sub(first_bus)) + 1;
        let mut buses = try_with_capacity(count)?;
        buses.extend((0..count).map(|_| Once::new()));
        Ok(Self { base, first_bus, buses: try_into_boxed_slice(buses)? })
    }

    fn bus(&self, bus: u8) -> Option<&MmioRegion> {
        let index = usize::from(bus.checked_sub(self.first_bus)?);
        let map = || mmio::ioremap(PhysAddr(self.base.0.checked_add((index * BUS) as u64)?), BUS);
        self.buses.get(index)?.call_once(map).as_ref()
    }
}

impl Access for Ecam {
    fn size(&self) -> u16 {
        4096
    }

    fn read(&self, bus: u8, devfn: u8, offset: u16, width: Width) -> u32 {
        let Some(registers) = self.bus(bus) else { return width.ones() };
        let at = usize::from(devfn) << 12 | usize::from(offset);
        match width {
            Width::Byte => registers.read8(at).into(),
            Width::Word => registers.read16(at).into(),
            Width::Double => registers.read32(at),
        }
    }

    fn write(&self, bus: u8, devfn: u8, offset: u16, width: Width, value: u32) {
        let Some(registers) = self.bus(bus) else { return };
        let at = usize::from(devfn) << 12 | usize::from(offset);
        match width {
            Width::Byte => registers.write8(at, value as u8),
            Width::Word => registers.write16(at, value as u16),
            Width::Double => registers.write32(at, value),
        }
    }
}

/// Configuration mechanism 1: an address port and a data port.
struct Ports(SpinLockIrq<PortRegion>);

impl Ports {
    fn select(ports: &PortRegion, bus: u8, devfn: u8, offset: u16) -> u16 {
        let address = 1 << 31 | u32::from(bus) << 16 | u32::from(devfn) << 8 | u32::from(offset & 0xfc);
        ports.write32(0, address);
        4 + (offset & 3)
    }
}

impl Access for Ports {
    fn size(&self) -> u16 {
        256
    }

    fn read(&self, bus: u8, devfn: u8, offset: u16, width: Width) -> u32 {
        let ports = self.0.lock();
        let port = Self::select(&ports, bus, devfn, offset);
        match width {
            Width::Byte => ports.read8(port).into(),
            Width::Word => ports.read16(port).into(),
            Width::Double => ports.read32(port),
        }
    }

    fn write(&self, bus: u8, devfn: u8, offset: u16, width: Width, value: u32) {
        let ports = self.0.lock();
        let port = Self::select(&ports, bus, devfn, offset);
        match width {
            Width::Byte => ports.write8(port, value as u8),
            Width::Word => ports.write16(port, value as u16),
            Width::Double => ports.write32(port, value),
        }
    }
}
