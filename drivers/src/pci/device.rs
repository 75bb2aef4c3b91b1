//! A device: what it is, its registers, its capabilities.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::{Errno, Result};
use arch::addr::PhysAddr;
use arch::mmio::{self, MmioRegion};
use arch::sync::SpinLock;
use mm::fallible::{TryVec, try_format, try_to_vec};
use sched::mutex::Mutex;

use super::config::{Host, Width};
use super::driver::{Bound, Driver};
use super::scan::Found;
use super::{Address, regs};

/// What a device says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Who made it.
    pub vendor: u16,
    /// What the vendor calls it.
    pub device: u16,
    /// Class, subclass and programming interface.
    pub class: u32,
    /// Its version.
    pub revision: u8,
    /// Who made the board; 0 for bridges.
    pub subsystem_vendor: u16,
    /// What that vendor calls it.
    pub subsystem: u16,
    /// Layout of its configuration space.
    pub header: u8,
}

/// The kind of a range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    /// There is none.
    None,
    /// I/O ports.
    Io,
    /// Registers or memory.
    Memory {
        /// Its address has 64 bits, and takes the next BAR as well.
        wide: bool,
        /// Reading has no side effects.
        prefetchable: bool,
    },
    /// The expansion ROM.
    Rom,
}

/// A range of addresses at which a device answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Of which kind.
    pub kind: BarKind,
    /// Where, as the CPU reaches it; 0: nowhere.
    pub start: u64,
    /// Bytes, a power of two.
    pub len: u64,
}

impl Bar {
    pub(super) const NONE: Self = Self { kind: BarKind::None, start: 0, len: 0 };

    /// The last address; that before the first for none.
    pub fn last(&self) -> u64 {
        self.start.wrapping_add(self.len).wrapping_sub(1)
    }

    fn is_memory(&self) -> bool {
        matches!(self.kind, BarKind::Memory { .. })
    }
}

/// The buses behind a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bridge {
    /// The next.
    pub secondary: u8,
    /// The last.
    pub subordinate: u8,
}

/// A function of a device.
pub struct Device {
    host: Arc<Host>,
    address: Address,
    identity: Identity,
    bars: [Bar; Self::BARS],
    parent: Option<Arc<Device>>,
    bridge: Option<Bridge>,
    /// How often it was switched on.
    enabled: AtomicU32,
    /// Somebody told drivers to leave it alone, or it is gone.
    gone: AtomicBool,
    /// Interrupts that its driver has, for `msi_irqs`: numbers, and whether of MSI-X.
    pub(super) irqs: SpinLock<Irqs>,
    pub(super) driver: Mutex<Option<(&'static Driver, alloc::boxed::Box<dyn Bound>)>>,
}

/// Message interrupts of a device.
#[derive(Default)]
pub(super) struct Irqs {
    pub numbers: Vec<u32>,
    pub msix: bool,
}

impl Device {
    /// Six BARs and the ROM.
    pub const BARS: usize = 7;
    /// The place of the ROM among them.
    pub const ROM: usize = 6;

    pub(super) fn new(host: Arc<Host>, found: Found, parent: Option<Arc<Device>>) -> Self {
        let Found { address, identity, bars, bridge, .. } = found;
        Self {
            host,
            address,
            identity,
            bars,
            parent,
            bridge,
            enabled: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            irqs: SpinLock::new(Irqs::default()),
            driver: Mutex::new(None),
        }
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its host bridge.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The bridge that it is behind; `None` on the root bus.
    pub fn parent(&self) -> Option<&Arc<Device>> {
        self.parent.as_ref()
    }

    /// The buses behind it, if it is a bridge.
    pub fn bridge(&self) -> Option<Bridge> {
        self.bridge
    }

    /// Its ranges of addresses; the last is the ROM.
    pub fn bars(&self) -> &[Bar; Self::BARS] {
        &self.bars
    }

    /// Its directory below `/sys/devices`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn path(&self) -> Result<String> {
        // From the root bus down.
        let mut chain: Vec<&Self> = Vec::new();
        let mut at = Some(self);
        while let Some(device) = at {
            chain.try_push(device)?;
            at = device.parent.as_deref();
        }
        let mut path =
            try_format(format_args!("pci{:04x}:{:02x}", self.address.segment, self.host.first_bus))?;
        for device in chain.iter().rev() {
            path = try_format(format_args!("{path}/{}", device.address))?;
        }
        Ok(path)
    }

    /// The name of its driver.
    pub fn driver_name(&self) -> Option<&'static str> {
        self.driver.lock().as_ref().map(|(driver, _)| driver.name)
    }

    /// The numbers of its message interrupts, and whether they are MSI-X.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn message_irqs(&self) -> Result<(Vec<u32>, bool)> {
        let irqs = self.irqs.lock();
        Ok((try_to_vec(&irqs.numbers)?, irqs.msix))
    }

    /// Reads configuration space; all ones beyond its end, or if the device is gone.
    pub fn config_read(&self, offset: u16, width: Width) -> u32 {
        self.host.read(self.address, offset, width)
    }

    /// Writes configuration space.
    pub fn config_write(&self, offset: u16, width: Width, value: u32) {
        self.host.write(self.address, offset, width, value);
    }

    /// Reads a byte of configuration space.
    pub fn config8(&self, offset: u16) -> u8 {
        self.config_read(offset, Width::Byte) as u8
    }

    /// Reads 16 bits of configuration space.
    pub fn config16(&self, offset: u16) -> u16 {
        self.config_read(offset, Width::Word) as u16
    }

    /// Reads 32 bits of configuration space.
    pub fn config32(&self, offset: u16) -> u32 {
        self.config_read(offset, Width::Double)
    }

    /// Sets bits of the command register, or clears them.
    pub(super) fn command(&self, bits: u16, on: bool) {
        let old = self.config16(regs::COMMAND);
        let new = if on { old | bits } else { old & !bits };
        if new != old {
            self.config_write(regs::COMMAND, Width::Word, new.into());
        }
    }

    /// The first capability of a kind; the next after `after`.
    pub fn capability(&self, id: u8, after: Option<u16>) -> Option<u16> {
        capability_at(&self.host, self.address, id, after)
    }

    /// Has it answer at its addresses; as often as [`Self::disable`].
    ///
    /// # Errors
    /// `EINVAL`: a range of addresses that it needs has no place.
    pub fn enable(&self) -> Result<()> {
        if self.bars.iter().any(|bar| bar.is_memory() && bar.start == 0) {
            return Err(Errno::EINVAL);
        }
        if self.enabled.fetch_add(1, Ordering::AcqRel) == 0 {
            let mut bits = 0;
            for bar in &self.bars {
                match bar.kind {
                    BarKind::Memory { .. } => bits |= regs::COMMAND_MEMORY,
                    BarKind::Io if bar.start != 0 => bits |= regs::COMMAND_IO,
                    _ => {}
                }
            }
            self.command(bits, true);
        }
        Ok(())
    }

    /// It may fall silent.
    pub fn disable(&self) {
        let less = |count: u32| count.checked_sub(1);
        if self.enabled.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) == Ok(1) {
            self.set_master(false);
        }
    }

    /// How often it was switched on.
    pub fn enabled(&self) -> u32 {
        self.enabled.load(Ordering::Acquire)
    }

    /// Lets it reach memory, or not.
    pub fn set_master(&self, on: bool) {
        self.command(regs::COMMAND_MASTER, on);
    }

    /// Whether it has answered that it is gone, or was taken away.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.config16(regs::VENDOR) != self.identity.vendor
    }

    /// The registers behind a BAR, all of them.
    ///
    /// # Errors
    /// As [`Self::map_part`].
    pub fn map_bar(&self, bar: usize) -> Result<MmioRegion> {
        let len = self.bars.get(bar).ok_or(Errno::EINVAL)?.len;
        self.map_part(bar, 0, len)
    }

    /// `len` bytes of registers from `offset` of a BAR.
    ///
    /// # Errors
    /// `EINVAL`: not a BAR of memory, or not within it; `EBUSY`: it lies in what is ordinary memory; `ENOMEM`.
    pub fn map_part(&self, bar: usize, offset: u64, len: u64) -> Result<MmioRegion> {
        let bar = self.bars.get(bar).filter(|bar| bar.is_memory() && bar.start != 0).ok_or(Errno::EINVAL)?;
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
        if len == 0 || end > bar.len {
            return Err(Errno::EINVAL);
        }
        // Neither firmware nor a device can have us write to what is somebody's memory.
        if super::is_memory(bar.start, bar.last()) {
            return Err(Errno::EBUSY);
        }
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        mmio::ioremap(PhysAddr(bar.start + offset), len).ok_or(Errno::ENOMEM)
    }

    /// Notes which interrupts its driver has.
    pub(super) fn note_irqs(&self, numbers: &[u32], msix: bool) -> Result<()> {
        let mut fresh = Vec::new();
        fresh.try_extend_from_slice(numbers)?;
        let old = core::mem::replace(&mut *self.irqs.lock(), Irqs { numbers: fresh, msix });
        drop(old);
        Ok(())
    }
}

/// Walks the list of capabilities: at most as many as there is room for.
pub(super) fn capability_at(host: &Host, address: Address, id: u8, after: Option<u16>) -> Option<u16> {
    let byte = |offset| host.read(address, offset, Width::Byte) as u8;
    if host.read(address, regs::STATUS, Width::Word) as u16 & regs::STATUS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = match after {
        Some(after) => byte(after + 1),
        None => byte(regs::CAPABILITIES),
    };
    for _ in 0..48 {
        let here = u16::from(at & !3);
        if here < 0x40 {
            return None;
        }
        match byte(here) {
            found if found == id => return Some(here),
            0xff => return None,
            _ => at = byte(here + 1),
        }
    }
    None
}
