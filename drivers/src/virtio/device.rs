//! A virtio device: agreement on features, its queues, and its end (chapter 3 of the specification).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use arch::cpu::CpuMask;
use arch::sync::SpinLock;
use mm::fallible::{TryVec, try_arc, try_format, try_to_vec};
use sched::mutex::Mutex;

use super::queue::{Queue, Shape};
use super::transport::{Callbacks, Transport, status};
use super::{Bound, DRIVERS, Driver, Features};
use crate::pci;

/// Where a device is.
#[derive(Clone)]
pub enum Place {
    /// On PCI.
    Pci(Arc<pci::Device>),
    /// At an address.
    Mmio(u64),
}

/// A queue that a driver wants.
#[derive(Clone, Copy, Debug)]
pub struct QueueSpec<'a> {
    /// Its name in `/proc/interrupts`.
    pub name: &'a str,
    /// The most pieces of a request.
    pub pieces: u16,
    /// The most requests at a time.
    pub tokens: u16,
}

/// Rings with more places than this are not used as large.
const MAX_SIZE: u16 = 1024;
/// How long a device may take for its reset.
const RESET_MS: u64 = 5000;

/// A device.
pub struct Device {
    index: u32,
    name: String,
    id: u32,
    vendor: u32,
    place: Place,
    transport: Box<dyn Transport>,
    features: AtomicU64,
    /// Memory that the device may write, until it has been reset.
    queues: SpinLock<Vec<Arc<Queue>>>,
    driver: Mutex<Option<(&'static Driver, Box<dyn Bound>)>>,
}

static DEVICES: SpinLock<Vec<Arc<Device>>> = SpinLock::new(Vec::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// All devices.
///
/// # Errors
/// `ENOMEM`.
pub fn devices() -> Result<Vec<Arc<Device>>> {
    Ok(try_to_vec(&DEVICES.lock())?)
}

/// The CPUs that use queue `queue` of `queues`: as the block layer gives them out.
pub fn cpus_of_queue(queue: usize, queues: usize) -> CpuMask {
    let mut mask = CpuMask::EMPTY;
    for cpu in arch::cpu::possible().iter().filter(|cpu| cpu.index() % queues.max(1) == queue) {
        mask.set(cpu);
    }
    if mask.and(arch::cpu::online()).is_empty() { CpuMask::ALL } else { mask }
}

impl Device {
    /// A device was found: it gets a name, and a driver if there is one. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`; `ENODEV`: it cannot be reset.
    pub(super) fn register(
        transport: Box<dyn Transport>,
        id: u32,
        vendor: u32,
        place: Place,
    ) -> Result<Arc<Self>> {
        let index = NEXT.fetch_add(1, Ordering::Relaxed);
        let device = try_arc(Self {
            index,
            name: try_format(format_args!("virtio{index}"))?,
            id,
            vendor,
            place,
            transport,
            features: AtomicU64::new(0),
            queues: SpinLock::new(Vec::new()),
            driver: Mutex::new(None),
        })?;
        if !device.reset() {
            return Err(Errno::ENODEV);
        }
        device.add_status(status::ACKNOWLEDGE);
        DEVICES.lock().try_push(device.clone())?;
        device.bind();
        Ok(device)
    }

    fn bind(self: &Arc<Self>) {
        let Some(driver) = DRIVERS.iter().copied().find(|driver| driver.id == self.id) else { return };
        let mut slot = self.driver.lock();
        self.add_status(status::DRIVER);
        match (driver.probe)(self) {
            Ok(bound) => *slot = Some((driver, bound)),
            Err(error) => {
                log::warn!("{} {}: probe failed with error {}", driver.name, self.name, -error.code());
                self.stop();
                self.add_status(status::FAILED);
            }
        }
    }

    /// The device is going or gone. May sleep.
    pub(super) fn unregister(&self) {
        let bound = self.driver.lock().take();
        if let Some((_, bound)) = bound {
            bound.remove();
        }
        self.stop();
        let mut devices = DEVICES.lock();
        let at = devices.iter().position(|device| core::ptr::eq(&**device, self));
        let gone = at.map(|at| devices.swap_remove(at));
        drop(devices);
        drop(gone);
    }

    /// Its number among all.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// `virtio0`
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of device.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Who made it.
    pub fn vendor(&self) -> u32 {
        self.vendor
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its directory below `/sys/devices`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn path(&self) -> Result<String> {
        Ok(match &self.place {
            Place::Pci(device) => try_format(format_args!("{}/{}", device.path()?, self.name))?,
            Place::Mmio(base) => try_format(format_args!("platform/{base:x}.virtio_mmio/{}", self.name))?,
        })
    }

    /// What was agreed on.
    pub fn features(&self) -> u64 {
        self.features.load(Ordering::Relaxed)
    }

    /// Whether something was agreed on.
    pub fn has(&self, feature: u64) -> bool {
        self.features() & feature == feature
    }

    /// What it says of itself.
    pub fn status(&self) -> u8 {
        self.transport.status()
    }

    /// The name of its driver.
    pub fn driver_name(&self) -> Option<&'static str> {
        self.driver.lock().as_ref().map(|(driver, _)| driver.name)
    }

    /// Whether nothing answers any more.
    pub fn is_gone(&self) -> bool {
        self.transport.is_gone()
    }

    fn add_status(&self, bits: u8) {
        self.transport.set_status(self.transport.status() | bits);
    }

    /// Reads configuration that belongs together; `None`: not there, or it never stays the same.
    pub fn config<T>(&self, read: impl Fn(&dyn Transport) -> Option<T>) -> Option<T> {
        for _ in 0..8 {
            let before = self.transport.generation();
            let value = read(&*self.transport);
            if self.transport.generation() == before {
                return value;
            }
        }
        None
    }

    /// Writes a byte of configuration.
    pub fn set_config8(&self, offset: usize, value: u8) {
        self.transport.set_config8(offset, value);
    }

    /// Agrees with the device on what both can of `wanted` and what this module does for all kinds of devices.
    ///
    /// # Errors
    /// `ENODEV`: it is older than the specification, or does not take less than it offers.
    pub fn negotiate(&self, wanted: u64) -> Result<u64> {
        let common = Features::VERSION_1
            | Features::INDIRECT_DESC
            | Features::EVENT_IDX
            | Features::RING_PACKED
            | Features::ORDER_PLATFORM;
        let offered = self.transport.features();
        let features = offered & (wanted | common.bits());
        if features & Features::VERSION_1.bits() == 0 {
            log::warn!("{}: the device has no VERSION_1", self.name);
            return Err(Errno::ENODEV);
        }
        self.transport.set_features(features);
        self.add_status(status::FEATURES_OK);
        if self.transport.status() & status::FEATURES_OK == 0 {
            log::warn!("{}: the device refuses features {features:#x} of {offered:#x}", self.name);
            return Err(Errno::ENODEV);
        }
        self.features.store(features, Ordering::Relaxed);
        Ok(features)
    }

    /// Memory for its queues from the first on, of which the device knows nothing yet.
    ///
    /// # Errors
    /// `ENODEV`: it has no such queue; `EINVAL`: one too small; `ENOMEM`.
    pub fn make_queues(&self, specs: &[QueueSpec<'_>]) -> Result<Vec<Arc<Queue>>> {
        let features = Features::from_bits_truncate(self.features());
        let mut queues = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let index = index as u16;
            let most = self.transport.queue_size(index);
            if most == 0 {
                return Err(Errno::ENODEV);
            }
            // Without tables a request takes several places.
            let wanted = if features.contains(Features::INDIRECT_DESC) {
                u32::from(spec.tokens)
            } else {
                u32::from(spec.tokens) * u32::from(spec.pieces)
            };
            let limit = u32::from(most.min(MAX_SIZE));
            let mut size = wanted.clamp(1, limit) as u16;
            if !features.contains(Features::RING_PACKED) {
                // Split rings are powers of two; the device's own size may be none.
                size = size
                    .checked_next_power_of_two()
                    .filter(|size| u32::from(*size) <= limit)
                    .unwrap_or(1 << limit.ilog2());
            }
            let shape = Shape { size, pieces: spec.pieces, tokens: spec.tokens };
            queues.try_push(try_arc(Queue::new(index, shape, features)?)?)?;
        }
        Ok(queues)
    }

    /// Gives the queues to the device and lets it begin.
    ///
    /// # Errors
    /// `ENOSPC`: no interrupts; `ENODEV`: it does not take the queues; `ENOMEM`.
    pub fn start(&self, queues: &[Arc<Queue>], names: &[&str], callbacks: Callbacks) -> Result<()> {
        self.queues.lock().try_extend(queues.iter().cloned())?;
        self.transport.connect(&self.name, names, callbacks)?;
        for queue in queues {
            let notify = self.transport.set_queue(queue.index(), queue.size(), queue.place())?;
            queue.set_notify(notify);
        }
        self.add_status(status::DRIVER_OK);
        Ok(())
    }

    /// Has it forget everything; whether it has. May sleep.
    fn reset(&self) -> bool {
        self.transport.set_status(0);
        for waited in 0..RESET_MS {
            if self.transport.status() == 0 {
                return true;
            }
            if self.transport.is_gone() {
                // What is not there writes nowhere.
                return true;
            }
            if waited > 0 {
                sched::sleep_ns(1_000_000);
            }
        }
        log::error!("{}: the device does not reset", self.name);
        false
    }

    /// It does nothing any more, and no callback runs. May sleep.
    pub fn stop(&self) {
        let reset = self.reset();
        self.transport.disconnect();
        let queues = core::mem::take(&mut *self.queues.lock());
        if !reset {
            // It may still write there.
            core::mem::forget(queues);
        }
    }
}
