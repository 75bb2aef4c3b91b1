//! Interrupts of a device: MSI-X, else one MSI, else its line.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use arch::cpu::CpuMask;
use arch::intc::{IrqNumber, Message, MsiVector, Trigger};
use arch::mmio::MmioRegion;
use arch::sync::SpinLock;
use mm::fallible::{TryVec, try_arc, try_format, try_into_boxed_slice, try_with_capacity};

use super::config::Width;
use super::device::Device;
use super::regs;
use crate::irq::{self, Handler, Source};

/// How the device tells of something.
enum Kind {
    /// By messages from a table.
    MsiX { capability: u16, table: MmioRegion },
    /// By one message.
    Msi { capability: u16 },
    /// By its line.
    Line { irq: IrqNumber, trigger: Trigger },
}

struct Slot {
    vector: Option<MsiVector>,
    /// Whether somebody handles it.
    requested: SpinLock<bool>,
}

/// The interrupts of a device, numbered from 0. When this is dropped they are given back, after the last handler has
/// returned: so not in a handler.
pub struct Vectors {
    device: Arc<Device>,
    kind: Kind,
    slots: Box<[Slot]>,
    name: Arc<String>,
}

impl Device {
    /// Interrupts for the device: at most `max`, and at least `min`. The CPUs of each are asked for by its number; the one with the
    /// fewest interrupts is chosen. More than one are always MSI-X.
    ///
    /// # Errors
    /// `ENOSPC`: fewer than `min` can be had; `EINVAL`, `ENOMEM`.
    pub fn alloc_vectors(
        self: &Arc<Self>,
        min: usize,
        max: usize,
        cpus: impl Fn(usize) -> CpuMask,
    ) -> Result<Vectors> {
        if min == 0 || max < min {
            return Err(Errno::EINVAL);
        }
        if let Some(vectors) = self.msix(min, max, &cpus)? {
            return Ok(vectors);
        }
        if min > 1 {
            return Err(Errno::ENOSPC);
        }
        if let Some(vectors) = self.msi(&cpus)? {
            return Ok(vectors);
        }
        self.line()
    }

    fn requester(&self) -> u32 {
        arch::pci::msi_requester(self.host().index, self.address().requester())
    }

    fn msix(
        self: &Arc<Self>,
        min: usize,
        max: usize,
        cpus: &dyn Fn(usize) -> CpuMask,
    ) -> Result<Option<Vectors>> {
        let Some(capability) = self.capability(regs::CAP_MSIX, None) else { return Ok(None) };
        let control = self.config16(capability + regs::MSIX_CONTROL);
        let size = usize::from(control & regs::MSIX_SIZE) + 1;
        let count = max.min(size);
        let place = self.config32(capability + regs::MSIX_TABLE);
        if count < min || self.is_gone() {
            return Ok(None);
        }
        let table =
            self.map_part(place as usize & 7, u64::from(place & !7), (size * regs::MSIX_ENTRY) as u64)?;
        let mut slots = try_with_capacity(count)?;
        for index in 0..count {
            let vector = MsiVector::new(self.requester(), index as u32, size as u32, cpus(index));
            let Some(vector) = vector else { break };
            slots.extend([Slot { vector: Some(vector), requested: SpinLock::new(false) }]);
        }
        if slots.len() < min {
            return Ok(None);
        }
        // Everything is masked while the table is filled in.
        let write =
            |value: u16| self.config_write(capability + regs::MSIX_CONTROL, Width::Word, value.into());
        write(control | regs::MSIX_ENABLE | regs::MSIX_MASK_ALL);
        self.command(regs::COMMAND_NO_LINE, true);
        for entry in 0..size {
            table.write32(entry * regs::MSIX_ENTRY + regs::MSIX_ENTRY_CONTROL, 1);
        }
        for (index, slot) in slots.iter().enumerate() {
            if let Some(vector) = &slot.vector {
                write_entry(&table, index, vector.message());
            }
        }
        write(control & !regs::MSIX_MASK_ALL | regs::MSIX_ENABLE);
        let kind = Kind::MsiX { capability, table };
        self.vectors(kind, try_into_boxed_slice(slots)?, "PCI-MSIX").map(Some)
    }

    fn msi(self: &Arc<Self>, cpus: &dyn Fn(usize) -> CpuMask) -> Result<Option<Vectors>> {
        let Some(capability) = self.capability(regs::CAP_MSI, None) else { return Ok(None) };
        let Some(vector) = MsiVector::new(self.requester(), 0, 1, cpus(0)) else { return Ok(None) };
        let message = vector.message();
        let mut slots = try_with_capacity(1)?;
        slots.extend([Slot { vector: Some(vector), requested: SpinLock::new(false) }]);
        if !self.write_msi(capability, message) {
            return Ok(None);
        }
        self.command(regs::COMMAND_NO_LINE, true);
        let control = self.config16(capability + regs::MSI_CONTROL) & !regs::MSI_USED;
        let on = u32::from(control | regs::MSI_ENABLE);
        self.config_write(capability + regs::MSI_CONTROL, Width::Word, on);
        self.vectors(Kind::Msi { capability }, try_into_boxed_slice(slots)?, "PCI-MSI").map(Some)
    }

    /// False: the device cannot write there.
    fn write_msi(&self, capability: u16, message: Message) -> bool {
        let wide = self.config16(capability + regs::MSI_CONTROL) & regs::MSI_WIDE != 0;
        let (low, high) = (message.address as u32, (message.address >> 32) as u32);
        if (high != 0 && !wide) || message.data > 0xffff {
            return false;
        }
        let mut at = capability + regs::MSI_ADDRESS;
        self.config_write(at, Width::Double, low);
        at += 4;
        if wide {
            self.config_write(at, Width::Double, high);
            at += 4;
        }
        self.config_write(at, Width::Word, message.data);
        true
    }

    fn line(self: &Arc<Self>) -> Result<Vectors> {
        let pin = self.config8(regs::INTERRUPT_PIN);
        let line = self.config8(regs::INTERRUPT_LINE);
        // Bridges turn the pins of what is behind them by its number.
        let (mut at, mut root_pin) = (self.clone(), pin);
        while let Some(parent) = at.parent().cloned() {
            if (1..=4).contains(&root_pin) {
                root_pin = (root_pin - 1 + at.address().device()) % 4 + 1;
            }
            at = parent;
        }
        if !(1..=4).contains(&root_pin) {
            return Err(Errno::ENOSPC);
        }
        let (irq, trigger) =
            arch::pci::line(self.host().index, at.address().device(), root_pin, line).ok_or(Errno::ENOSPC)?;
        self.command(regs::COMMAND_NO_LINE, false);
        let mut slots = try_with_capacity(1)?;
        slots.extend([Slot { vector: None, requested: SpinLock::new(false) }]);
        self.vectors(Kind::Line { irq, trigger }, try_into_boxed_slice(slots)?, "")
    }

    fn vectors(self: &Arc<Self>, kind: Kind, slots: Box<[Slot]>, name: &str) -> Result<Vectors> {
        let name = try_arc(try_format(format_args!("{name}-{}", self.address()))?)?;
        // From here on dropping it switches the device's messages off.
        let vectors = Vectors { device: self.clone(), kind, slots, name };
        let mut numbers = Vec::new();
        for slot in &vectors.slots {
            if let Some(vector) = &slot.vector {
                numbers.try_push(vector.irq().0)?;
            }
        }
        self.note_irqs(&numbers, matches!(vectors.kind, Kind::MsiX { .. }))?;
        Ok(vectors)
    }
}

fn write_entry(table: &MmioRegion, index: usize, message: Message) {
    let at = index * regs::MSIX_ENTRY;
    table.write32(at + regs::MSIX_ENTRY_CONTROL, 1);
    table.write32(at, message.address as u32);
    table.write32(at + 4, (message.address >> 32) as u32);
    table.write32(at + regs::MSIX_ENTRY_DATA, message.data);
    table.write32(at + regs::MSIX_ENTRY_CONTROL, 0);
}

impl Vectors {
    /// How many there are, at least 1.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether they are MSI-X: each has a number that the device knows.
    pub fn is_msix(&self) -> bool {
        matches!(self.kind, Kind::MsiX { .. })
    }

    /// Whether it is a line, on which the device has to be told that it was heard.
    pub fn is_line(&self) -> bool {
        matches!(self.kind, Kind::Line { .. })
    }

    /// The interrupt number of one.
    pub fn irq(&self, index: usize) -> Option<IrqNumber> {
        let slot = self.slots.get(index)?;
        match (&slot.vector, &self.kind) {
            (Some(vector), _) => Some(vector.irq()),
            (None, Kind::Line { irq, .. }) => Some(*irq),
            (None, _) => None,
        }
    }

    /// Has `handler` called, in hard interrupt context, for each interrupt `index`. `name` is what `/proc/interrupts` shows.
    ///
    /// # Errors
    /// `EINVAL`: there is no such interrupt; `EBUSY`: it has a handler; `ENOMEM`.
    pub fn request(&self, index: usize, name: &str, handler: Handler) -> Result<()> {
        let irq = self.irq(index).ok_or(Errno::EINVAL)?;
        let source = match self.kind {
            Kind::Line { trigger, .. } => Source::Line(trigger),
            _ => Source::Message { device: self.name.clone(), index: index as u16 },
        };
        irq::request_from(irq, source, name, handler)?;
        if let Some(slot) = self.slots.get(index) {
            *slot.requested.lock() = true;
        }
        Ok(())
    }

    /// Moves one to a CPU of `cpus`; false if that is not possible.
    pub fn set_affinity(&self, index: usize, cpus: CpuMask) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        match (&slot.vector, &self.kind) {
            (Some(vector), kind) => {
                // One at a time.
                let _moving = slot.requested.lock();
                if !vector.set_affinity(cpus) {
                    return false;
                }
                match kind {
                    Kind::MsiX { table, .. } => write_entry(table, index, vector.message()),
                    Kind::Msi { capability } => drop(self.device.write_msi(*capability, vector.message())),
                    Kind::Line { .. } => {}
                }
                true
            }
            (None, Kind::Line { irq, .. }) => arch::intc::set_affinity(*irq, cpus),
            (None, _) => false,
        }
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        let device = &self.device;
        match &self.kind {
            Kind::MsiX { capability, table } => {
                for index in 0..self.slots.len() {
                    table.write32(index * regs::MSIX_ENTRY + regs::MSIX_ENTRY_CONTROL, 1);
                }
                let control = device.config16(capability + regs::MSIX_CONTROL) & !regs::MSIX_ENABLE;
                device.config_write(capability + regs::MSIX_CONTROL, Width::Word, control.into());
            }
            Kind::Msi { capability } => {
                let control = device.config16(capability + regs::MSI_CONTROL) & !regs::MSI_ENABLE;
                device.config_write(capability + regs::MSI_CONTROL, Width::Word, control.into());
            }
            Kind::Line { .. } => device.command(regs::COMMAND_NO_LINE, true),
        }
        for index in 0..self.slots.len() {
            if *self.slots[index].requested.lock()
                && let Some(irq) = self.irq(index)
            {
                irq::free(irq);
            }
        }
        drop(core::mem::take(&mut *device.irqs.lock()));
    }
}
