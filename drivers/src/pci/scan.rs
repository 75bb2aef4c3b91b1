//! Which devices there are: each bus is looked at, and the buses behind bridges.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mm::fallible::{TryVec, try_arc};

use super::config::{Host, Width};
use super::device::{Bar, BarKind, Bridge, Device, Identity};
use super::{Address, assign, regs};

/// Bridges behind bridges that are followed.
const MAX_DEPTH: usize = 8;

/// A function that was found, before it is a [`Device`].
pub(super) struct Found {
    pub address: Address,
    pub identity: Identity,
    pub bars: [Bar; Device::BARS],
    /// The bridge that it is behind, by its place in the list.
    pub parent: Option<usize>,
    pub bridge: Option<Bridge>,
    pub hotplug: bool,
}

struct Scan<'a> {
    host: &'a Host,
    found: Vec<Found>,
    /// Buses that were looked at: nonsense of bridges is not followed in circles.
    seen: [bool; 256],
    /// The last bus that has a number.
    last_bus: u8,
}

/// All devices behind `host`.
pub(super) fn scan(host: &Arc<Host>) -> abi::Result<Vec<Arc<Device>>> {
    let mut scan = Scan { host, found: Vec::new(), seen: [false; 256], last_bus: host.first_bus };
    scan.bus(host.first_bus, None, 0)?;
    let mut found = scan.found;
    if !host.assigned {
        assign::assign(host, &mut found)?;
    }
    let mut devices: Vec<Arc<Device>> = Vec::new();
    for found in found {
        let parent = found.parent.and_then(|index| devices.get(index).cloned());
        devices.try_push(try_arc(Device::new(host.clone(), found, parent))?)?;
    }
    Ok(devices)
}

impl Scan<'_> {
    fn bus(&mut self, bus: u8, parent: Option<usize>, depth: usize) -> abi::Result<()> {
        if core::mem::replace(&mut self.seen[usize::from(bus)], true) {
            return Ok(());
        }
        let first = self.found.len();
        for device in 0..32u8 {
            let mut functions = 1;
            let mut function = 0;
            while function < functions {
                let address = Address { segment: self.host.segment, bus, devfn: device << 3 | function };
                if let Some(header) = self.function(address, parent)? {
                    if function == 0 && header & 0x80 != 0 {
                        functions = 8;
                    }
                } else if function == 0 {
                    break;
                }
                function += 1;
            }
        }
        for index in first..self.found.len() {
            if self.found[index].bridge.is_some() && depth < MAX_DEPTH {
                self.behind(index, depth)?;
            }
        }
        Ok(())
    }

    /// Adds a function if there is one; its header type.
    fn function(&mut self, address: Address, parent: Option<usize>) -> abi::Result<Option<u8>> {
        let host = self.host;
        let ids = host.read(address, regs::VENDOR, Width::Double);
        // All ones: nothing; the others: what some boards answer for nothing.
        if matches!(ids, 0xffff_ffff | 0 | 0x0000_ffff | 0xffff_0000) {
            return Ok(None);
        }
        let header = host.read(address, regs::HEADER_TYPE, Width::Byte) as u8;
        let class = host.read(address, regs::REVISION, Width::Double);
        let kind = header & 0x7f;
        let subsystem = match kind {
            regs::HEADER_DEVICE => host.read(address, regs::SUBSYSTEM_VENDOR, Width::Double),
            _ => 0,
        };
        let identity = Identity {
            vendor: ids as u16,
            device: (ids >> 16) as u16,
            class: class >> 8,
            revision: class as u8,
            subsystem_vendor: subsystem as u16,
            subsystem: (subsystem >> 16) as u16,
            header: kind,
        };
        let bridge = (kind == regs::HEADER_BRIDGE).then(|| Bridge {
            secondary: host.read(address, regs::SECONDARY_BUS, Width::Byte) as u8,
            subordinate: host.read(address, regs::SUBORDINATE_BUS, Width::Byte) as u8,
        });
        let bars = read_bars(host, address, kind);
        let hotplug = bridge.is_some() && has_hotplug(host, address);
        self.found.try_push(Found { address, identity, bars, parent, bridge, hotplug })?;
        Ok(Some(header))
    }

    /// Looks behind a bridge, after giving its bus a number if nobody has.
    fn behind(&mut self, index: usize, depth: usize) -> abi::Result<()> {
        let (host, address) = (self.host, self.found[index].address);
        let Some(bridge) = self.found[index].bridge else { return Ok(()) };
        if host.assigned {
            if bridge.secondary > address.bus && bridge.subordinate >= bridge.secondary {
                self.bus(bridge.secondary, Some(index), depth + 1)?;
            }
            return Ok(());
        }
        let Some(bus) = self.last_bus.checked_add(1).filter(|bus| *bus <= host.last_bus) else {
            return Ok(());
        };
        self.last_bus = bus;
        let byte = |register, value: u8| host.write(address, register, Width::Byte, value.into());
        byte(regs::PRIMARY_BUS, address.bus);
        byte(regs::SECONDARY_BUS, bus);
        // Everything beyond, while it is looked at.
        byte(regs::SUBORDINATE_BUS, host.last_bus);
        self.bus(bus, Some(index), depth + 1)?;
        byte(regs::SUBORDINATE_BUS, self.last_bus);
        self.found[index].bridge = Some(Bridge { secondary: bus, subordinate: self.last_bus });
        Ok(())
    }
}

/// Whether a bridge is a port into which devices can be plugged.
fn has_hotplug(host: &Host, address: Address) -> bool {
    let Some(at) = super::device::capability_at(host, address, regs::CAP_EXPRESS, None) else { return false };
    let flags = host.read(address, at + regs::EXPRESS_FLAGS, Width::Word) as u16;
    flags & regs::EXPRESS_FLAGS_SLOT != 0
        && host.read(address, at + regs::EXPRESS_SLOT, Width::Double) & regs::EXPRESS_SLOT_HOTPLUG != 0
}

/// Addresses and sizes. While a size is found out, the device answers nowhere.
fn read_bars(host: &Host, address: Address, kind: u8) -> [Bar; Device::BARS] {
    let mut bars = [Bar::NONE; Device::BARS];
    let (count, rom) = match kind {
        regs::HEADER_DEVICE => (6, regs::ROM),
        regs::HEADER_BRIDGE => (2, regs::BRIDGE_ROM),
        _ => return bars,
    };
    let command = host.read(address, regs::COMMAND, Width::Word);
    let silent = command & !u32::from(regs::COMMAND_IO | regs::COMMAND_MEMORY);
    host.write(address, regs::COMMAND, Width::Word, silent);
    let probe = |register: u16, ones: u32| {
        let value = host.read(address, register, Width::Double);
        host.write(address, register, Width::Double, ones);
        let size = host.read(address, register, Width::Double);
        host.write(address, register, Width::Double, value);
        (value, size)
    };
    let mut index = 0;
    while index < count {
        let register = regs::BAR0 + 4 * index as u16;
        let (value, size) = probe(register, u32::MAX);
        let at = index;
        index += 1;
        if size == 0 || size == u32::MAX {
            continue;
        }
        if value & 1 != 0 {
            let len = u64::from((size & !3 | 0xffff_0000).wrapping_neg());
            bars[at] = Bar { kind: BarKind::Io, start: u64::from(value & !3), len };
            continue;
        }
        let wide = value & 6 == 4 && index < count;
        let (mut start, mut mask) = (u64::from(value & !15), u64::from(size & !15) | u64::MAX << 32);
        if wide {
            let (high, size) = probe(register + 4, u32::MAX);
            start |= u64::from(high) << 32;
            mask = mask & 0xffff_ffff | u64::from(size) << 32;
            index += 1;
        }
        let len = mask.wrapping_neg();
        if len != 0 && len.is_power_of_two() {
            bars[at] = Bar { kind: BarKind::Memory { wide, prefetchable: value & 8 != 0 }, start, len };
        }
    }
    let (value, size) = probe(rom, !1);
    if size != 0 && size != u32::MAX {
        let len = u64::from((size & !0x7ff).wrapping_neg());
        bars[Device::ROM] = Bar { kind: BarKind::Rom, start: u64::from(value & !0x7ff), len };
    }
    host.write(address, regs::COMMAND, Width::Word, command);
    bars
}
