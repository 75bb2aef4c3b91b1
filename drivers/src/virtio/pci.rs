//! virtio on PCI (4.1): registers in memory, found through capabilities of the vendor.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::{Errno, Result};
use arch::cpu::CpuMask;
use arch::mmio::MmioRegion;
use mm::fallible::{try_arc, try_box, try_format};
use sched::mutex::Mutex;

use super::device::{Device, Place as Bus};
use super::queue::Place;
use super::transport::{Callbacks, Notify, Transport, Width};
use crate::pci::{self, Id, Vectors, regs};

/// The driver on the PCI side.
pub static DRIVER: pci::Driver = pci::Driver { name: "virtio-pci", ids: &[ID], probe };

const VENDOR: u16 = 0x1af4;
const ID: Id = Id { vendor: Some(VENDOR), device: None, class: (0, 0) };
/// Device numbers: those up to here are of transitional devices, which tell their kind by the subsystem.
const TRANSITIONAL: core::ops::RangeInclusive<u16> = 0x1000..=0x103f;
const MODERN: core::ops::RangeInclusive<u16> = 0x1040..=0x107f;

/// Kinds of structures (4.1.4).
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

/// Registers of the common structure (4.1.4.3).
mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub const DRIVER_FEATURE: usize = 0x0c;
    pub const CONFIG_VECTOR: usize = 0x10;
    pub const STATUS: usize = 0x14;
    pub const GENERATION: usize = 0x15;
    pub const QUEUE_SELECT: usize = 0x16;
    pub const QUEUE_SIZE: usize = 0x18;
    pub const QUEUE_VECTOR: usize = 0x1a;
    pub const QUEUE_ENABLE: usize = 0x1c;
    pub const QUEUE_NOTIFY_OFFSET: usize = 0x1e;
    pub const QUEUE_DESCRIPTORS: usize = 0x20;
    pub const QUEUE_DRIVER: usize = 0x28;
    pub const QUEUE_DEVICE: usize = 0x30;
    pub const LEN: usize = 0x38;
}

/// No message.
const NO_VECTOR: u16 = 0xffff;

struct Pci {
    device: Arc<pci::Device>,
    common: MmioRegion,
    isr: Arc<MmioRegion>,
    config: Option<MmioRegion>,
    notify: Arc<MmioRegion>,
    multiplier: u32,
    /// Held while registers that belong together are written.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    vectors: Option<Vectors>,
    /// The first vector of queues, and whether each queue has its own.
    per_queue: bool,
}

/// A structure: BAR, offset, length, and where its capability is.
struct Structure {
    bar: usize,
    offset: u64,
    len: u64,
    capability: u16,
}

fn structure(device: &pci::Device, kind: u8) -> Option<Structure> {
    let mut at = None;
    loop {
        let capability = device.capability(regs::CAP_VENDOR, at)?;
        at = Some(capability);
        let bar = usize::from(device.config8(capability + 4));
        let len = device.config32(capability + 12);
        // The first that can be reached counts.
        if device.config8(capability + 3) == kind && bar < 6 && len > 0 {
            let offset = u64::from(device.config32(capability + 8));
            return Some(Structure { bar, offset, len: len.into(), capability });
        }
    }
}

fn map(device: &pci::Device, kind: u8, least: usize) -> Result<(MmioRegion, Structure)> {
    let structure = structure(device, kind).ok_or(Errno::ENODEV)?;
    if structure.len < least as u64 || structure.offset % 4 != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((device.map_part(structure.bar, structure.offset, structure.len)?, structure))
}

fn probe(device: &Arc<pci::Device>) -> Result<Box<dyn pci::Bound>> {
    let identity = device.identity();
    let kind = match identity.device {
        number if TRANSITIONAL.contains(&number) => identity.subsystem,
        number if MODERN.contains(&number) => number - 0x1040,
        _ => return Err(Errno::ENODEV),
    };
    device.enable()?;
    let made = (|| {
        let (common, _) = map(device, COMMON, common::LEN)?;
        let (isr, _) = map(device, ISR, 1)?;
        let (notify, place) = map(device, NOTIFY, 2)?;
        let config = match structure(device, DEVICE) {
            Some(_) => Some(map(device, DEVICE, 1)?.0),
            None => None,
        };
        let multiplier = device.config32(place.capability + 16);
        let transport = Pci {
            device: device.clone(),
            common,
            isr: try_arc(isr)?,
            config,
            notify: try_arc(notify)?,
            multiplier,
            state: Mutex::new(State::default()),
        };
        device.set_master(true);
        let bus = Bus::Pci(device.clone());
        let vendor = identity.subsystem_vendor.into();
        Device::register(try_box(transport)?, kind.into(), vendor, bus)
    })();
    match made {
        Ok(made) => Ok(try_box(Here { device: device.clone(), virtio: made })?),
        Err(error) => {
            device.disable();
            Err(error)
        }
    }
}

/// A PCI device that is a virtio device.
struct Here {
    device: Arc<pci::Device>,
    virtio: Arc<Device>,
}

impl pci::Bound for Here {
    fn remove(&self) {
        self.virtio.unregister();
        self.device.disable();
    }
}

impl Pci {
    fn config(&self, offset: usize, size: usize) -> Option<&MmioRegion> {
        let config = self.config.as_ref()?;
        let fits = offset.is_multiple_of(size) && offset.checked_add(size)? <= config.len();
        fits.then_some(config)
    }

    /// Sets a vector and looks whether the device took it.
    fn set_vector(&self, register: usize, vector: u16) -> Result<()> {
        self.common.write16(register, vector);
        if self.common.read16(register) == vector { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// One interrupt for each queue and one for the configuration; else one for all queues; else one for everything.
    fn vectors(&self, queues: usize) -> Result<(Vectors, bool)> {
        // A queue's interrupt belongs where its requests come from.
        let cpus = |index: usize| match index.checked_sub(1) {
            Some(queue) => super::device::cpus_of_queue(queue, queues),
            None => CpuMask::ALL,
        };
        if let Ok(vectors) = self.device.alloc_vectors(queues + 1, queues + 1, cpus)
            && vectors.is_msix()
        {
            return Ok((vectors, true));
        }
        self.device.alloc_vectors(1, 2, |_| CpuMask::ALL).map(|vectors| (vectors, false))
    }
}

impl Transport for Pci {
    fn features(&self) -> u64 {
        let _state = self.state.lock();
        let half = |select| {
            self.common.write32(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read32(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn set_features(&self, features: u64) {
        let _state = self.state.lock();
        for select in 0..2 {
            self.common.write32(common::DRIVER_FEATURE_SELECT, select);
            self.common.write32(common::DRIVER_FEATURE, (features >> (32 * select)) as u32);
        }
    }

    fn status(&self) -> u8 {
        self.common.read8(common::STATUS)
    }

    fn set_status(&self, status: u8) {
        self.common.write8(common::STATUS, status);
    }

    fn generation(&self) -> u32 {
        self.common.read8(common::GENERATION).into()
    }

    fn config8(&self, offset: usize) -> Option<u8> {
        Some(self.config(offset, 1)?.read8(offset))
    }

    fn config16(&self, offset: usize) -> Option<u16> {
        Some(self.config(offset, 2)?.read16(offset))
    }

    fn config32(&self, offset: usize) -> Option<u32> {
        Some(self.config(offset, 4)?.read32(offset))
    }

    fn set_config8(&self, offset: usize, value: u8) {
        if let Some(config) = self.config(offset, 1) {
            config.write8(offset, value);
        }
    }

    fn queue_size(&self, index: u16) -> u16 {
        let _state = self.state.lock();
        self.common.write16(common::QUEUE_SELECT, index);
        match self.common.read16(common::QUEUE_SIZE) {
            0xffff => 0,
            size => size,
        }
    }

    fn set_queue(&self, index: u16, size: u16, place: Place) -> Result<Notify> {
        let state = self.state.lock();
        let common = &self.common;
        common.write16(common::QUEUE_SELECT, index);
        if common.read16(common::QUEUE_ENABLE) != 0 {
            return Err(Errno::ENODEV);
        }
        common.write16(common::QUEUE_SIZE, size);
        for (register, address) in [
            (common::QUEUE_DESCRIPTORS, place.descriptors),
            (common::QUEUE_DRIVER, place.driver),
            (common::QUEUE_DEVICE, place.device),
        ] {
            common.write32(register, address as u32);
            common.write32(register + 4, (address >> 32) as u32);
        }
        if let Some(vectors) = state.vectors.as_ref().filter(|vectors| vectors.is_msix()) {
            let last = vectors.len() as u16 - 1;
            let vector = if state.per_queue { (index + 1).min(last) } else { last };
            self.set_vector(common::QUEUE_VECTOR, vector)?;
        }
        let offset = u64::from(common.read16(common::QUEUE_NOTIFY_OFFSET)) * u64::from(self.multiplier);
        let notify = Notify::register(&self.notify, offset as usize, Width::Half)?;
        common.write16(common::QUEUE_ENABLE, 1);
        Ok(notify)
    }

    fn connect(&self, device: &str, names: &[&str], callbacks: Callbacks) -> Result<()> {
        let mut state = self.state.lock();
        let Callbacks { config, queue } = callbacks;
        let queues = names.len();
        let (vectors, per_queue) = self.vectors(queues)?;
        if !vectors.is_msix() {
            // One for everything; reading says what it is about, and that it was heard.
            let isr = self.isr.clone();
            let all = move || {
                let what = isr.read8(0);
                if what & 2 != 0 {
                    config();
                }
                if what & 1 != 0 {
                    (0..queues).for_each(|index| queue(index));
                }
            };
            vectors.request(0, device, try_box(all)?)?;
        } else if vectors.len() == 1 {
            let all = move || {
                config();
                (0..queues).for_each(|index| queue(index));
            };
            vectors.request(0, device, try_box(all)?)?;
        } else {
            let name = try_format(format_args!("{device}-config"))?;
            vectors.request(0, &name, config)?;
            if per_queue {
                for (index, name) in names.iter().enumerate() {
                    let queue = queue.clone();
                    let name = try_format(format_args!("{device}-{name}"))?;
                    vectors.request(index + 1, &name, try_box(move || queue(index))?)?;
                }
            } else {
                let name = try_format(format_args!("{device}-virtqueues"))?;
                let all = move || (0..queues).for_each(|index| queue(index));
                vectors.request(1, &name, try_box(all)?)?;
            }
        }
        if vectors.is_msix() {
            self.set_vector(common::CONFIG_VECTOR, 0)?;
        }
        *state = State { vectors: Some(vectors), per_queue };
        Ok(())
    }

    fn disconnect(&self) {
        let vectors = {
            let mut state = self.state.lock();
            if state.vectors.as_ref().is_some_and(Vectors::is_msix) {
                self.common.write16(common::CONFIG_VECTOR, NO_VECTOR);
            }
            state.vectors.take()
        };
        drop(vectors);
    }

    fn set_affinity(&self, queue: usize, cpus: CpuMask) -> bool {
        let state = self.state.lock();
        state.per_queue && state.vectors.as_ref().is_some_and(|vectors| vectors.set_affinity(queue + 1, cpus))
    }

    fn is_gone(&self) -> bool {
        self.device.is_gone()
    }
}
