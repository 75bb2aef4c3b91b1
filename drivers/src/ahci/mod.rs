//! SATA disks behind an AHCI controller: *Serial ATA AHCI* 1.3.1.
//!
//! | file | what it owns |
//! |---|---|
//! | [`regs`] | registers and structures in memory |
//! | [`ata`] | commands, and what a disk says of itself |
//! | [`slots`] | the memory of a port |
//! | [`port`] | a port with a disk: requests, errors |
//!
//! The ports are looked at in the background, as a disk may take seconds to answer. Packet devices (CD-ROM), port multipliers and
//! disks that come later are not supported.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};
use arch::cpu;
use arch::mmio::MmioRegion;
use block::Queue;
use block::disk::{Disk, Removal, Spec};
use mm::fallible::{TryVec, try_arc, try_box};
use mm::try_format;
use sched::rcu;
use sched::workqueue::Work;

use crate::pci::{self, Bound, Device, Id, Vectors};
use crate::{probe, sd};

mod ata;
mod port;
mod regs;
mod slots;

use port::{Attached, Port};
use regs::hba;

/// Mass storage, SATA controller, AHCI.
const CLASS: u32 = 0x01_06_01;
/// The BAR with the registers.
const BAR: usize = 5;
/// Milliseconds that a reset may take.
const RESET_MS: u64 = 1000;
/// Milliseconds.
const TIMEOUT_MS: u32 = 30_000;

/// The driver.
pub static DRIVER: pci::Driver = pci::Driver { name: "ahci", ids: &[Id::class(CLASS)], probe: probe_device };

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port, and the work of looking after it when a command failed.
struct Place {
    port: Arc<Port>,
    number: usize,
    recovery: Work,
}

/// A controller.
struct Controller {
    device: Arc<Device>,
    registers: Arc<MmioRegion>,
    index: u32,
    slots: u32,
    ports: Vec<Place>,
}

struct Attachment {
    controller: Arc<Controller>,
    /// Given back when the controller is silent.
    _vectors: Vectors,
}

fn probe_device(device: &Arc<Device>) -> Result<Box<dyn Bound>> {
    device.enable()?;
    let result = set_up(device);
    if result.is_err() {
        device.set_master(false);
        device.disable();
    }
    result
}

fn set_up(device: &Arc<Device>) -> Result<Box<dyn Bound>> {
    let registers = try_arc(device.map_bar(BAR)?)?;
    reset(&registers)?;
    let cap = registers.read32(hba::CAP);
    if cap & hba::CAP_64_BIT == 0 {
        log::warn!("ahci: a controller that reaches only 4 GiB of memory is not supported");
        return Err(Errno::ENODEV);
    }
    let index = NEXT.fetch_add(1, Ordering::Relaxed);
    let implemented = registers.read32(hba::PI);
    let mut ports = Vec::new();
    for number in (0..regs::PORTS).filter(|number| implemented & 1 << number != 0) {
        if regs::port_at(number + 1) > registers.len() {
            break;
        }
        let queuing = cap & hba::CAP_QUEUING != 0;
        let port = try_arc(Port::new(registers.clone(), number, index, queuing)?)?;
        let of = port.clone();
        ports.try_push(Place { port, number, recovery: Work::new(move || of.recover(None))? })?;
    }
    let slots = hba::slots(cap);
    let controller =
        try_arc(Controller { device: device.clone(), registers: registers.clone(), index, slots, ports })?;
    let vectors = device.alloc_vectors(1, 1, |_| cpu::online())?;
    let name = try_format(format_args!("ahci[{}]", device.address()))?;
    let of = controller.clone();
    vectors.request(0, &name, try_box(move || of.interrupt())?)?;
    device.set_master(true);
    registers.write32(hba::IS, u32::MAX);
    registers.write32(hba::GHC, hba::GHC_AHCI | hba::GHC_INTERRUPTS);
    let of = controller.clone();
    probe::in_background("ahci-probe", move || of.find_disks())?;
    Ok(try_box(Attachment { controller, _vectors: vectors })?)
}

/// Resets the controller. May sleep.
fn reset(registers: &MmioRegion) -> Result<()> {
    if registers.len() < regs::port_at(1) {
        return Err(Errno::EINVAL);
    }
    registers.write32(hba::GHC, hba::GHC_AHCI);
    registers.write32(hba::GHC, hba::GHC_AHCI | hba::GHC_RESET);
    let deadline = sched::time::monotonic_ns() + RESET_MS * 1_000_000;
    loop {
        match registers.read32(hba::GHC) {
            u32::MAX => return Err(Errno::ENODEV),
            value if value & hba::GHC_RESET == 0 => break,
            _ if sched::time::monotonic_ns() > deadline => return Err(Errno::ETIMEDOUT),
            _ => sched::sleep_ns(100_000),
        }
    }
    registers.write32(hba::GHC, hba::GHC_AHCI);
    Ok(())
}

impl Controller {
    /// Hard interrupt context.
    fn interrupt(&self) {
        let status = self.registers.read32(hba::IS);
        if status == 0 || status == u32::MAX {
            return;
        }
        for place in self.ports.iter().filter(|place| status & 1 << place.number != 0) {
            if place.port.interrupt() {
                sched::workqueue::system().queue_work(&place.recovery);
            }
        }
        self.registers.write32(hba::IS, status);
    }

    fn find_disks(&self) {
        for place in &self.ports {
            let found = place.port.find().and_then(|identity| match identity {
                Some(identity) => self.attach(&place.port, identity),
                None => Ok(()),
            });
            if let Err(error) = found {
                log::warn!("ahci{}.{}: error {}", self.index, place.number, -error.code());
            }
        }
    }

    fn attach(&self, port: &Arc<Port>, identity: &ata::Identity) -> Result<()> {
        let shape = block::Shape { queues: 1, depth: port.depth(self.slots), timeout_ms: TIMEOUT_MS };
        let queue = Queue::new(port.clone(), shape, Port::limits(identity))?;
        let index = sd::Index::new()?;
        let spec = Spec {
            name: index.name()?,
            numbers: index.numbers(),
            parent: None,
            removable: false,
            partitions: true,
            ops: port.clone(),
        };
        let disk = Disk::new(spec, queue.clone())?;
        disk.set_capacity(identity.sectors << (identity.shift - block::bio::SECTOR_SHIFT));
        log::info!(
            "{}: {} {}, {} sectors, {} commands at a time",
            disk.name(),
            identity.model,
            identity.firmware,
            identity.sectors,
            shape.depth
        );
        let attached = try_arc(Attached { queue, disk: disk.clone(), _index: index })?;
        rcu::retire(port.attached.replace(Some(attached)));
        port.go();
        disk.add()
    }
}

impl Bound for Attachment {
    fn remove(&self) {
        let controller = &self.controller;
        let how = if controller.device.is_gone() { Removal::Surprise } else { Removal::Orderly };
        for place in &controller.ports {
            let attached = place.port.attached.load_arc(&rcu::read_lock());
            if let Some(attached) = attached {
                if how == Removal::Surprise {
                    place.port.give_up(&attached.queue);
                }
                attached.disk.remove(how);
            }
            if place.port.shut_down().is_err() {
                // Its memory may still be written to.
                core::mem::forget(place.port.clone());
            }
            rcu::retire(place.port.attached.replace(None));
        }
        controller.device.set_master(false);
        controller.device.disable();
    }
}
