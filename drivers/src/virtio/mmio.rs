//! virtio devices without a bus (4.2): a page of registers and an interrupt.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::{Errno, Result};
use arch::intc::{IrqNumber, Trigger};
use arch::mmio::MmioRegion;
use arch::pci::VirtioMmio;
use mm::fallible::{try_arc, try_box};
use sched::mutex::Mutex;

use super::device::{Device, Place as Bus};
use super::queue::Place;
use super::transport::{Callbacks, Notify, Transport, Width};
use crate::irq;

/// Registers (4.2.2).
mod reg {
    pub const MAGIC: usize = 0x000;
    pub const VERSION: usize = 0x004;
    pub const DEVICE_ID: usize = 0x008;
    pub const VENDOR_ID: usize = 0x00c;
    pub const DEVICE_FEATURES: usize = 0x010;
    pub const DEVICE_FEATURES_SELECT: usize = 0x014;
    pub const DRIVER_FEATURES: usize = 0x020;
    pub const DRIVER_FEATURES_SELECT: usize = 0x024;
    pub const QUEUE_SELECT: usize = 0x030;
    pub const QUEUE_SIZE_MAX: usize = 0x034;
    pub const QUEUE_SIZE: usize = 0x038;
    pub const QUEUE_READY: usize = 0x044;
    pub const QUEUE_NOTIFY: usize = 0x050;
    pub const INTERRUPT_STATUS: usize = 0x060;
    pub const INTERRUPT_ACK: usize = 0x064;
    pub const STATUS: usize = 0x070;
    pub const QUEUE_DESCRIPTORS: usize = 0x080;
    pub const QUEUE_DRIVER: usize = 0x090;
    pub const QUEUE_DEVICE: usize = 0x0a0;
    pub const GENERATION: usize = 0x0fc;
    pub const CONFIG: usize = 0x100;
}

/// `virt`
const MAGIC: u32 = 0x7472_6976;

struct Mmio {
    registers: Arc<MmioRegion>,
    irq: IrqNumber,
    trigger: Trigger,
    /// Whether the interrupt is ours. Held while registers that belong together are written.
    connected: Mutex<bool>,
}

/// Looks at all places where there may be a device.
///
/// # Errors
/// `ENOMEM`.
pub fn init() -> Result<()> {
    for VirtioMmio { registers, irq, trigger } in arch::pci::virtio_mmio() {
        if registers.len() < reg::CONFIG || registers.read32(reg::MAGIC) != MAGIC {
            continue;
        }
        let (version, id) = (registers.read32(reg::VERSION), registers.read32(reg::DEVICE_ID));
        if id == 0 {
            continue;
        }
        let base = registers.phys().0;
        if version != 2 {
            log::warn!("virtio-mmio at {base:#x}: version {version} is not supported");
            continue;
        }
        let vendor = registers.read32(reg::VENDOR_ID);
        let transport = Mmio { registers: try_arc(registers)?, irq, trigger, connected: Mutex::new(false) };
        if let Err(error) = Device::register(try_box(transport)?, id, vendor, Bus::Mmio(base)) {
            log::warn!("virtio-mmio at {base:#x}: {error}");
        }
    }
    Ok(())
}

impl Mmio {
    fn config_fits(&self, offset: usize, size: usize) -> Option<usize> {
        let end = offset.checked_add(size + reg::CONFIG)?;
        (offset.is_multiple_of(size) && end <= self.registers.len()).then_some(reg::CONFIG + offset)
    }
}

impl Transport for Mmio {
    fn features(&self) -> u64 {
        let _held = self.connected.lock();
        let half = |select| {
            self.registers.write32(reg::DEVICE_FEATURES_SELECT, select);
            u64::from(self.registers.read32(reg::DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    fn set_features(&self, features: u64) {
        let _held = self.connected.lock();
        for select in 0..2 {
            self.registers.write32(reg::DRIVER_FEATURES_SELECT, select);
            self.registers.write32(reg::DRIVER_FEATURES, (features >> (32 * select)) as u32);
        }
    }

    fn status(&self) -> u8 {
        self.registers.read32(reg::STATUS) as u8
    }

    fn set_status(&self, status: u8) {
        self.registers.write32(reg::STATUS, status.into());
    }

    fn generation(&self) -> u32 {
        self.registers.read32(reg::GENERATION)
    }

    fn config8(&self, offset: usize) -> Option<u8> {
        self.config_fits(offset, 1).map(|at| self.registers.read8(at))
    }

    fn config16(&self, offset: usize) -> Option<u16> {
        self.config_fits(offset, 2).map(|at| self.registers.read16(at))
    }

    fn config32(&self, offset: usize) -> Option<u32> {
        self.config_fits(offset, 4).map(|at| self.registers.read32(at))
    }

    fn set_config8(&self, offset: usize, value: u8) {
        if let Some(at) = self.config_fits(offset, 1) {
            self.registers.write8(at, value);
        }
    }

    fn queue_size(&self, index: u16) -> u16 {
        let _held = self.connected.lock();
        self.registers.write32(reg::QUEUE_SELECT, index.into());
        u16::try_from(self.registers.read32(reg::QUEUE_SIZE_MAX)).unwrap_or(0)
    }

    fn set_queue(&self, index: u16, size: u16, place: Place) -> Result<Notify> {
        let _held = self.connected.lock();
        let registers = &self.registers;
        registers.write32(reg::QUEUE_SELECT, index.into());
        if registers.read32(reg::QUEUE_READY) != 0 {
            return Err(Errno::ENODEV);
        }
        registers.write32(reg::QUEUE_SIZE, size.into());
        for (register, address) in [
            (reg::QUEUE_DESCRIPTORS, place.descriptors),
            (reg::QUEUE_DRIVER, place.driver),
            (reg::QUEUE_DEVICE, place.device),
        ] {
            registers.write32(register, address as u32);
            registers.write32(register + 4, (address >> 32) as u32);
        }
        registers.write32(reg::QUEUE_READY, 1);
        Notify::register(registers, reg::QUEUE_NOTIFY, Width::Whole)
    }

    fn connect(&self, device: &str, names: &[&str], callbacks: Callbacks) -> Result<()> {
        let mut connected = self.connected.lock();
        let Callbacks { config, queue } = callbacks;
        let (registers, queues) = (self.registers.clone(), names.len());
        let all = move || {
            let what = registers.read32(reg::INTERRUPT_STATUS);
            registers.write32(reg::INTERRUPT_ACK, what);
            if what & 2 != 0 {
                config();
            }
            if what & 1 != 0 {
                (0..queues).for_each(|index| queue(index));
            }
        };
        irq::request(self.irq, self.trigger, device, try_box(all)? as Box<dyn Fn() + Send + Sync>)?;
        *connected = true;
        Ok(())
    }

    fn disconnect(&self) {
        let connected = core::mem::take(&mut *self.connected.lock());
        if connected {
            irq::free(self.irq);
        }
    }
}
