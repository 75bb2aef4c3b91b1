//! Which driver has which device.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::Result;

use super::device::{Device, Identity};

/// All drivers; the first that knows a device gets it.
pub const DRIVERS: &[&Driver] = &[&crate::virtio::pci::DRIVER, &crate::nvme::DRIVER, &crate::ahci::DRIVER];

/// A device that a driver knows; `None`: any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Id {
    /// Who made it.
    pub vendor: Option<u16>,
    /// What it is called.
    pub device: Option<u16>,
    /// Class, subclass and programming interface, of which the bits of the mask count.
    pub class: (u32, u32),
}

impl Id {
    /// By vendor and device.
    pub const fn device(vendor: u16, device: u16) -> Self {
        Self { vendor: Some(vendor), device: Some(device), class: (0, 0) }
    }

    /// By class, subclass and programming interface.
    pub const fn class(class: u32) -> Self {
        Self { vendor: None, device: None, class: (class, 0xff_ffff) }
    }

    /// Whether it is this device.
    pub fn matches(&self, identity: &Identity) -> bool {
        let (class, mask) = self.class;
        self.vendor.is_none_or(|vendor| vendor == identity.vendor)
            && self.device.is_none_or(|device| device == identity.device)
            && identity.class & mask == class & mask
    }
}

/// A driver.
pub struct Driver {
    /// Its name, as `/sys/bus/pci/drivers` shows it.
    pub name: &'static str,
    /// What it knows.
    pub ids: &'static [Id],
    /// Takes a device into use; may sleep. What it returns is kept as long as the device is the driver's.
    pub probe: fn(&Arc<Device>) -> Result<Box<dyn Bound>>,
}

/// A device in the hands of its driver.
pub trait Bound: Send + Sync {
    /// The device is to be given up; it may be gone already. Whoever uses it gets errors from now on. May sleep.
    fn remove(&self);
}

/// Lets the drivers that know a device try it, one after the other.
pub(super) fn bind(device: &Arc<Device>) {
    let known = |driver: &&&Driver| driver.ids.iter().any(|id| id.matches(device.identity()));
    for driver in DRIVERS.iter().filter(known) {
        let mut slot = device.driver.lock();
        if slot.is_some() {
            return;
        }
        match (driver.probe)(device) {
            Ok(bound) => {
                *slot = Some((*driver, bound));
                return;
            }
            Err(error) => {
                log::warn!("{} {}: probe failed with error {}", driver.name, device.address(), -error.code());
            }
        }
    }
}

/// Takes a device away from its driver.
pub fn unbind(device: &Device) {
    let bound = device.driver.lock().take();
    if let Some((_, bound)) = bound {
        bound.remove();
    }
}
