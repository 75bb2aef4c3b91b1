//! PCI: PCI Local Bus Specification 3.0, PCI Express Base Specification 5.0.
//!
//! [`init`] finds the host bridges, lists what is behind them, gives addresses to devices that firmware gave none, and lets each
//! driver of [`driver::DRIVERS`] have the devices it knows.
//!
//! # Writing a driver
//!
//! ```ignore
//! pub static DRIVER: Driver = Driver { name: "nvme", ids: &[Id::class(0x01_08_02)], probe };
//!
//! fn probe(device: &Arc<Device>) -> Result<Box<dyn Bound>> {
//!     device.enable()?;                              // registers can be reached
//!     let registers = device.map_bar(0)?;            // MmioRegion: accesses are checked against its length
//!     device.set_master(true);                       // it may reach memory
//!     let vectors = device.alloc_vectors(1, queues, |index| spread(index))?;
//!     vectors.request(0, "nvme0q0", try_box(move || …)?)?;
//!     …
//! }
//! ```
//!
//! and its name in [`driver::DRIVERS`]. What `probe` returns is kept while the device is the driver's; [`Bound::remove`] ends that.
//! Memory for the device is `mm::dma`'s. Reads of a device that was pulled out answer all ones: a driver takes nothing
//! that it reads for granted.
//!
//! | file | what it owns |
//! |---|---|
//! | [`config`] | configuration space, by memory or ports |
//! | [`regs`] | numbers of the specifications |
//! | [`scan`] | which devices there are |
//! | [`assign`] | addresses for those that have none |
//! | [`device`] | a device: identity, registers, capabilities |
//! | [`msi`] | its interrupts |
//! | [`driver`] | which driver has it |
//!
//! Locks: the list of devices and a device's irqs are leaves; a device's `driver` sleeps, and is held while drivers probe and
//! remove. The configuration ports have one of their own (interrupts off), a leaf.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use arch::sync::SpinLock;
use mm::fallible::{TryVec, try_arc, try_to_vec};
use sync::Once;

mod assign;
pub mod config;
pub mod device;
pub mod driver;
pub mod msi;
pub mod regs;
mod scan;
#[cfg(test)]
mod tests;

pub use device::{Bar, BarKind, Device};
pub use driver::{Bound, Driver, Id};
pub use msi::Vectors;

/// Where a function is: `0000:00:02.0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    /// The segment: a configuration space of its own.
    pub segment: u16,
    /// The bus.
    pub bus: u8,
    /// Device (0 to 31) and function (0 to 7), in five and three bits.
    pub devfn: u8,
}

impl Address {
    /// 0 to 31.
    pub fn device(self) -> u8 {
        self.devfn >> 3
    }

    /// 0 to 7.
    pub fn function(self) -> u8 {
        self.devfn & 7
    }

    /// Bus, device and function as messages of the device carry them.
    pub fn requester(self) -> u16 {
        u16::from(self.bus) << 8 | u16::from(self.devfn)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.segment, self.bus, self.device(), self.function())
    }
}

static DEVICES: SpinLock<Vec<Arc<Device>>> = SpinLock::new(Vec::new());

/// All devices, bridges before what is behind them.
///
/// # Errors
/// `ENOMEM`.
pub fn devices() -> abi::Result<Vec<Arc<Device>>> {
    Ok(try_to_vec(&DEVICES.lock())?)
}

/// Whether there is ordinary memory from a physical address to another.
type IsMemory = fn(u64, u64) -> bool;

static IS_MEMORY: Once<IsMemory> = Once::new();

fn is_memory(first: u64, last: u64) -> bool {
    IS_MEMORY.get().is_some_and(|ask| ask(first, last))
}

/// Finds the devices and binds drivers. Once, while the system comes up; may sleep. `is_memory`: whether firmware says that there
/// is ordinary memory between two physical addresses, where no device can be.
///
/// # Errors
/// `ENOMEM`.
pub fn init(is_memory: IsMemory) -> abi::Result<()> {
    IS_MEMORY.call_once(|| is_memory);
    for bridge in arch::pci::host_bridges() {
        let host = try_arc(config::Host::new(bridge)?)?;
        let found = scan::scan(&host)?;
        log::info!(
            "PCI host bridge to bus {:04x}:{:02x}: {} devices",
            host.segment,
            host.first_bus,
            found.len()
        );
        DEVICES.lock().try_extend(found)?;
    }
    for device in devices()? {
        let device::Identity { vendor, device: id, class, header, .. } = device.identity();
        log::info!("pci {}: [{vendor:04x}:{id:04x}] type {header:02x} class {class:#08x}", device.address());
        driver::bind(&device);
    }
    Ok(())
}
