//! NVMe over PCI Express: *NVM Express Base Specification* 2.0, *NVM Command Set Specification* 1.0, *NVMe over PCIe Transport* 1.0.
//!
//! A controller has a pair of queues for each CPU, if it can, and an interrupt for each. Its namespaces are disks, which share
//! the queues: a command's number says of which namespace it is, and which of its requests.
//!
//! | file | what it owns |
//! |---|---|
//! | [`regs`] | registers and numbers of the specification |
//! | [`pair`] | the rings of a pair of queues |
//! | [`admin`] | commands to the controller itself |
//! | [`identify`] | what it says of itself |
//! | [`namespace`] | a namespace: requests to commands |
//!
//! # When a command is not answered
//!
//! First the ring is looked at: an interrupt may be lost. Then the controller is switched off, which has it forget all commands, and on again;
//! what it had is tried again, five times at most. If it does not come back, all requests end with [`block::Status::Offline`].
//!
//! Locks: [`Controller::resetting`] (sleeps) → that of admin commands → those of pairs, leaves.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::{Errno, Result};
use arch::cpu::{self, CpuMask};
use block::Queue;
use block::disk::{Disk, Numbers, Removal, Spec};
use mm::fallible::{try_arc, try_box, try_into_boxed_slice, try_with_capacity};
use mm::try_format;
use sched::mutex::Mutex;
use sched::rcu;
use sync::RcuPtr;

use crate::pci::{self, Bound, Device, Id, Vectors};

mod admin;
mod identify;
mod namespace;
mod pair;
mod regs;
#[cfg(test)]
mod tests;

use admin::Admin;
use namespace::Namespace;
use pair::Pair;
use regs::Registers;

/// Mass storage, non-volatile memory, NVM Express I/O controller.
const CLASS: u32 = 0x01_08_02;
/// Namespaces that a controller can have here.
const NAMESPACES: usize = 16;
/// Entries of a pair of queues.
const ENTRIES: u32 = 1024;
/// Milliseconds.
const TIMEOUT_MS: u32 = 30_000;

/// The driver.
pub static DRIVER: pci::Driver = pci::Driver { name: "nvme", ids: &[Id::class(CLASS)], probe };

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace in use.
struct Attached {
    namespace: Arc<Namespace>,
    queue: Arc<Queue>,
    disk: Arc<Disk>,
}

/// A controller. See the module text.
pub struct Controller {
    index: u32,
    device: Arc<Device>,
    registers: Arc<Registers>,
    first: Arc<First>,
    identity: identify::Controller,
    pairs: Box<[Pair]>,
    /// Whether there is an interrupt for each pair, after that for admin commands.
    own_interrupts: bool,
    attached: [RcuPtr<Attached>; NAMESPACES],
    /// It does not come back.
    dead: AtomicBool,
    /// Counts resets, one at a time.
    resetting: Mutex<u32>,
}

/// The CPUs whose requests go to hardware queue `hw` of `queues`.
fn cpus_of(hw: usize, queues: usize) -> CpuMask {
    let mut mask = CpuMask::EMPTY;
    cpu::online().iter().filter(|cpu| cpu.index() % queues.max(1) == hw).for_each(|cpu| mask.set(cpu));
    mask
}

fn probe(device: &Arc<Device>) -> Result<Box<dyn Bound>> {
    device.enable()?;
    let result = set_up(device);
    if result.is_err() {
        device.disable();
    }
    result
}

fn set_up(device: &Arc<Device>) -> Result<Box<dyn Bound>> {
    let registers = try_arc(Registers::new(device.map_bar(0)?)?)?;
    registers.disable()?;
    device.set_master(true);
    let first = try_arc(First { admin: try_arc(Admin::new(registers.clone())?)?, others: RcuPtr::empty() })?;
    let result = bring_up(device, &registers, &first);
    if result.is_err() {
        rcu::retire(first.others.replace(None));
        // It forgets the memory that it was told of. If it does not, that is kept.
        if registers.disable().is_err() {
            core::mem::forget(first);
        }
        device.set_master(false);
    }
    let attachment = result?;
    let controller = attachment.controller.clone();
    let (major, minor) = registers.version();
    log::info!(
        "nvme{}: {}, {} queues, version {major}.{minor}",
        controller.index,
        controller.identity.model,
        controller.pairs.len()
    );
    // Without any namespace it is still a controller.
    let list = controller.first.admin.identify(regs::admin::CNS_ACTIVE_NAMESPACES, 0);
    let ids = list.and_then(|page| identify::namespaces(&page)).unwrap_or_default();
    for nsid in ids {
        if let Err(error) = controller.attach(nsid) {
            log::warn!("nvme{}: namespace {nsid} cannot be used: error {}", controller.index, -error.code());
        }
    }
    Ok(attachment)
}

fn bring_up(device: &Arc<Device>, registers: &Arc<Registers>, first: &Arc<First>) -> Result<Box<Attachment>> {
    let admin = &first.admin;
    let index = NEXT.fetch_add(1, Ordering::Relaxed);
    let wanted = cpu::online().count().min(registers.max_queues().saturating_sub(1)).max(1);
    let vectors = device.alloc_vectors(1, wanted + 1, |vector| match vector {
        0 => cpu::online(),
        vector => cpus_of(vector - 1, wanted),
    })?;
    {
        let first = first.clone();
        let name = try_format(format_args!("nvme{index}q0"))?;
        vectors.request(0, &name, try_box(move || first.interrupt())?)?;
    }
    // Only now: a controller may use no interrupt that was not there when its queue began.
    start_admin(registers, admin)?;
    let identity = {
        let page = admin.identify(regs::admin::CNS_CONTROLLER, 0)?;
        identify::Controller::parse(&identify::Page(&page), regs::PAGE_SHIFT)?
    };
    // A pair for each interrupt that is left; one that shares the only one otherwise.
    let queues = wanted.min(vectors.len() - 1).max(1);
    let queues = admin.set_queues(queues as u16)?;
    let entries = registers.capabilities().max_entries().min(ENTRIES) as u16;
    let mut pairs = try_with_capacity(queues.into())?;
    for id in 1..=queues {
        pairs.extend([Pair::new(id, entries, registers.clone())?]);
    }
    let own_interrupts = vectors.len() > 1;
    let controller = try_arc(Controller {
        index,
        device: device.clone(),
        registers: registers.clone(),
        first: first.clone(),
        identity,
        pairs: try_into_boxed_slice(pairs)?,
        own_interrupts,
        attached: [const { RcuPtr::empty() }; NAMESPACES],
        dead: AtomicBool::new(false),
        resetting: Mutex::new(0),
    })?;
    if own_interrupts {
        for hw in 0..controller.pairs.len() {
            let name = try_format(format_args!("nvme{index}q{}", hw + 1))?;
            let of = controller.clone();
            let handler = move || {
                of.reap(hw);
            };
            vectors.request(1 + hw, &name, try_box(handler)?)?;
        }
    } else {
        rcu::retire(first.others.replace(Some(controller.clone())));
    }
    let made = controller.create_queues();
    if made.is_err() && registers.disable().is_err() {
        // It may still write to the queues.
        core::mem::forget(controller.clone());
    }
    made?;
    Ok(try_box(Attachment { controller, _vectors: vectors })?)
}

/// What the first interrupt is for.
struct First {
    admin: Arc<Admin>,
    /// All pairs of queues, if there is no other interrupt.
    others: RcuPtr<Controller>,
}

impl First {
    fn interrupt(&self) {
        self.admin.interrupt();
        let guard = rcu::read_lock();
        if let Some(controller) = self.others.load(&guard) {
            for hw in 0..controller.pairs.len() {
                controller.reap(hw);
            }
        }
    }
}

/// A controller in the hands of this driver.
struct Attachment {
    controller: Arc<Controller>,
    /// Given back, and their handlers with them, when the controller is silent.
    _vectors: Vectors,
}

/// Switches the controller on, with nothing but the queue for admin commands.
fn start_admin(registers: &Registers, admin: &Admin) -> Result<()> {
    admin.pair.rewind();
    registers.enable(admin.pair.entries(), admin.pair.commands_at(), admin.pair.completions_at())?;
    admin.pair.open(true);
    Ok(())
}

impl Controller {
    /// Its pairs of queues, by hardware queue.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// What it says of itself.
    pub fn identity(&self) -> &identify::Controller {
        &self.identity
    }

    /// Whether it does not come back.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn create_queues(&self) -> Result<()> {
        for (hw, pair) in self.pairs.iter().enumerate() {
            pair.rewind();
            self.first.admin.create(pair, if self.own_interrupts { hw as u16 + 1 } else { 0 })?;
            pair.open(true);
        }
        Ok(())
    }

    /// Makes a namespace a disk.
    fn attach(self: &Arc<Self>, nsid: u32) -> Result<()> {
        let identity = {
            let page = self.first.admin.identify(regs::admin::CNS_NAMESPACE, nsid)?;
            identify::Namespace::parse(&identify::Page(&page))?
        };
        let slot = self.attached.iter().position(RcuPtr::is_none).ok_or(Errno::ENOSPC)?;
        let entries = self.pairs.iter().map(|pair| u32::from(pair.entries()) - 1).min().unwrap_or(1);
        // All namespaces together never have more commands than a ring holds.
        let depth = if slot == 0 { entries / 2 } else { entries / 2 / (NAMESPACES as u32 - 1) };
        let depth = depth.clamp(1, namespace::MAX_DEPTH);
        let namespace = try_arc(Namespace::new(self.clone(), nsid, slot as u16, depth, identity)?)?;
        let shape =
            block::Shape { queues: self.pairs.len(), depth: namespace.depth(), timeout_ms: TIMEOUT_MS };
        let queue = Queue::new(namespace.clone(), shape, namespace.limits())?;
        let spec = Spec {
            name: try_format(format_args!("nvme{}n{nsid}", self.index))?,
            numbers: Numbers::Extended,
            parent: None,
            removable: false,
            partitions: true,
            ops: namespace.clone(),
        };
        let disk = Disk::new(spec, queue.clone())?;
        disk.set_capacity(namespace.sectors());
        let attached = try_arc(Attached { namespace, queue, disk: disk.clone() })?;
        if let Some(place) = self.attached.get(slot) {
            rcu::retire(place.replace(Some(attached)));
        }
        disk.add().inspect_err(|_| self.detach(slot))
    }

    fn detach(&self, slot: usize) {
        if let Some(place) = self.attached.get(slot) {
            rcu::retire(place.replace(None));
        }
    }

    /// Takes what is over from hardware queue `hw`; how many that were. Any context.
    pub fn reap(&self, hw: usize) -> usize {
        let mut count = 0;
        self.reap_each(hw, |_| count += 1);
        count
    }

    fn reap_each(&self, hw: usize, mut seen: impl FnMut(u16)) {
        let Some(pair) = self.pairs.get(hw) else { return };
        pair.reap(|completion| {
            seen(completion.id);
            let (slot, tag) = namespace::of_command(completion.id);
            let guard = rcu::read_lock();
            if let Some(of) = self.attached.get(slot).and_then(|place| place.load(&guard)) {
                of.namespace.completed(&of.queue, hw, tag, &completion);
            }
        });
    }

    /// A command was not answered in time. May sleep.
    fn timed_out(&self, hw: usize, command: u16) {
        let before = *self.resetting.lock();
        let mut answered = false;
        self.reap_each(hw, |id| answered |= id == command);
        let name = self.index;
        if answered {
            log::warn!("nvme{name}: I/O {command:#x} of queue {} was over, but no interrupt came", hw + 1);
            return;
        }
        log::warn!("nvme{name}: I/O {command:#x} of queue {} timed out, resetting the controller", hw + 1);
        self.reset(before);
    }

    /// Switches the controller off and on again, if nobody did since the reset number `before`.
    fn reset(&self, before: u32) {
        let mut resets = self.resetting.lock();
        if *resets != before || self.is_dead() {
            return;
        }
        *resets = resets.wrapping_add(1);
        self.pairs.iter().for_each(|pair| pair.open(false));
        self.first.admin.pair.open(false);
        let off = self.registers.disable();
        if off.is_ok() {
            // What it had, it has forgotten.
            self.for_each_attached(|of| of.namespace.lost(&of.queue, None));
        }
        let result = off
            .and_then(|()| start_admin(&self.registers, &self.first.admin))
            .and_then(|()| self.first.admin.set_queues(self.pairs.len() as u16))
            .and_then(|queues| {
                if usize::from(queues) < self.pairs.len() { Err(Errno::ENODEV) } else { self.create_queues() }
            });
        match result {
            Ok(()) => self.for_each_attached(|of| (0..self.pairs.len()).for_each(|hw| of.queue.kick(hw))),
            Err(error) => {
                log::error!("nvme{}: does not come back: error {}", self.index, -error.code());
                self.give_up();
            }
        }
    }

    /// Nothing goes any more: all requests end.
    fn give_up(&self) {
        self.dead.store(true, Ordering::Release);
        self.pairs.iter().for_each(|pair| pair.open(false));
        self.first.admin.pair.open(false);
        self.device.set_master(false);
        self.for_each_attached(|of| {
            of.namespace.lost(&of.queue, Some(block::Status::Offline));
            (0..self.pairs.len()).for_each(|hw| of.queue.kick(hw));
        });
    }

    fn for_each_attached(&self, f: impl Fn(&Attached)) {
        for place in &self.attached {
            let attached = place.load_arc(&rcu::read_lock());
            if let Some(attached) = attached {
                f(&attached);
            }
        }
    }
}

impl Bound for Attachment {
    fn remove(&self) {
        let controller = &self.controller;
        let gone = controller.device.is_gone() || controller.registers.is_gone();
        if gone {
            controller.give_up();
        }
        let how = if gone { Removal::Surprise } else { Removal::Orderly };
        controller.for_each_attached(|of| of.disk.remove(how));
        (0..NAMESPACES).for_each(|slot| controller.detach(slot));
        if !gone {
            controller.pairs.iter().for_each(|pair| pair.open(false));
            if controller.registers.shut_down().and_then(|()| controller.registers.disable()).is_err() {
                log::warn!("nvme{}: does not stop", controller.index);
            }
        }
        controller.device.set_master(false);
        controller.device.disable();
        rcu::retire(controller.first.others.replace(None));
    }
}
