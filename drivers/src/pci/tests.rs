//! A machine of bridges and devices in memory.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use arch::pci::{Space, Window};

use super::config::{Access, Host, Width};
use super::{BarKind, Device, Id, regs, scan};

/// A function: its configuration space, and which bits of each register can be written.
#[derive(Clone)]
struct Function {
    space: [u8; 256],
    writable: [u8; 256],
    bridge: bool,
}

impl Function {
    fn new(vendor: u16, device: u16, class: u32) -> Self {
        let mut function = Self { space: [0; 256], writable: [0; 256], bridge: false };
        function.put(regs::VENDOR, &(u32::from(device) << 16 | u32::from(vendor)).to_le_bytes());
        function.put(regs::REVISION, &(class << 8 | 3).to_le_bytes());
        function.writable[4..6].fill(0xff);
        function.writable[0x3c] = 0xff;
        function
    }

    fn bridge() -> Self {
        let mut function = Self::new(0x1b36, 0x000c, 0x06_04_00);
        function.bridge = true;
        function.put(regs::HEADER_TYPE, &[1]);
        function.writable[0x18..0x1b].fill(0xff);
        function.writable[0x1c..0x1e].fill(0xf0);
        function.writable[0x20..0x28].fill(0xff);
        function.writable[0x28..0x34].fill(0xff);
        function
    }

    fn put(&mut self, at: u16, bytes: &[u8]) {
        self.space[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
    }

    fn bar(mut self, index: u16, len: u64, flags: u32) -> Self {
        let at = regs::BAR0 + 4 * index;
        self.put(at, &flags.to_le_bytes());
        let mask = !(len - 1);
        let low = if flags & 1 != 0 { mask as u32 & !3 } else { mask as u32 & !15 };
        self.writable[usize::from(at)..][..4].copy_from_slice(&low.to_le_bytes());
        if flags & 6 == 4 {
            self.writable[usize::from(at) + 4..][..4].copy_from_slice(&((mask >> 32) as u32).to_le_bytes());
        }
        self
    }

    fn capability(mut self, at: u16, id: u8, next: u8, body: &[u8]) -> Self {
        self.put(regs::STATUS, &[0x10]);
        self.put(at, &[id, next]);
        self.put(at + 2, body);
        self
    }

    fn first_capability(mut self, at: u8) -> Self {
        self.put(regs::CAPABILITIES, &[at]);
        self
    }
}

/// Functions by the bus that they are on: the root, or behind the bridge at a place of the root.
type Functions = BTreeMap<(Vec<u8>, u8), Function>;

#[derive(Clone, Default)]
struct Machine(Arc<Mutex<Functions>>);

impl Machine {
    fn add(&self, path: &[u8], devfn: u8, function: Function) {
        self.0.lock().unwrap().insert((path.to_vec(), devfn), function);
    }

    /// The path of bridges to a bus.
    fn path(map: &Functions, bus: u8) -> Option<Vec<u8>> {
        let mut path = Vec::new();
        let mut at = 0;
        while at != bus {
            let next = map.iter().find(|((of, _), function)| {
                let (secondary, subordinate) = (function.space[0x19], function.space[0x1a]);
                *of == path && function.bridge && secondary > at && (secondary..=subordinate).contains(&bus)
            })?;
            at = next.1.space[0x19];
            path.push(next.0.1);
        }
        Some(path)
    }
}

impl Access for Machine {
    fn size(&self) -> u16 {
        256
    }

    fn read(&self, bus: u8, devfn: u8, offset: u16, width: Width) -> u32 {
        let map = self.0.lock().unwrap();
        let function = Self::path(&map, bus).and_then(|path| map.get(&(path, devfn)));
        let Some(function) = function else { return width.ones() };
        let bytes = &function.space[usize::from(offset)..][..usize::from(width.bytes())];
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    fn write(&self, bus: u8, devfn: u8, offset: u16, width: Width, value: u32) {
        let mut map = self.0.lock().unwrap();
        let Some(path) = Self::path(&map, bus) else { return };
        let Some(function) = map.get_mut(&(path, devfn)) else { return };
        for (index, byte) in value.to_le_bytes().into_iter().take(usize::from(width.bytes())).enumerate() {
            let at = usize::from(offset) + index;
            let mask = function.writable[at];
            function.space[at] = function.space[at] & !mask | byte & mask;
        }
    }
}

const MEMORY32: Window = Window {
    space: Space::Memory32,
    prefetchable: false,
    bus: 0x1000_0000,
    cpu: 0x1000_0000,
    len: 0x2eff_0000,
};
const MEMORY64: Window = Window {
    space: Space::Memory64,
    prefetchable: false,
    bus: 0x80_0000_0000,
    cpu: 0x80_0000_0000,
    len: 1 << 39,
};
const IO: Window = Window { space: Space::Io, prefetchable: false, bus: 0, cpu: 0x3eff_0000, len: 0x1_0000 };

fn devices(machine: &Machine, windows: &[Window]) -> Vec<Arc<Device>> {
    mm::testing::init();
    let host = Host::with_access(Box::new(machine.clone()), windows.to_vec(), windows.is_empty());
    scan::scan(&Arc::new(host)).unwrap()
}

fn virtio() -> Function {
    Function::new(0x1af4, 0x1042, 0x01_00_00).bar(1, 0x1000, 0).bar(4, 0x4000, 0xc)
}

#[test]
fn everything_behind_bridges_gets_addresses_that_the_bridges_let_through() {
    let machine = Machine::default();
    machine.add(&[], 0, Function::new(0x1b36, 8, 0x06_00_00));
    machine.add(&[], 8, virtio().bar(0, 0x80, 1));
    machine.add(&[], 16, Function::bridge());
    machine.add(&[16], 0, virtio());
    machine.add(&[16], 8, Function::bridge());
    machine.add(&[16, 8], 0, virtio().bar(0, 0x20_0000, 0));
    let devices = devices(&machine, &[IO, MEMORY32, MEMORY64]);
    let names: Vec<_> = devices.iter().map(|device| std::format!("{}", device.address())).collect();
    assert_eq!(
        names,
        ["0000:00:00.0", "0000:00:01.0", "0000:00:02.0", "0000:01:00.0", "0000:01:01.0", "0000:02:00.0"]
    );
    let mut ranges = Vec::new();
    for device in &devices {
        for bar in device.bars().iter().filter(|bar| bar.len > 0) {
            assert!(bar.start.is_multiple_of(bar.len) && bar.start != 0, "{bar:x?}");
            let window = match bar.kind {
                BarKind::Io => IO,
                BarKind::Memory { wide: true, .. } => MEMORY64,
                _ => MEMORY32,
            };
            assert!(bar.start >= window.cpu && bar.last() < window.cpu + window.len, "{bar:x?}");
            ranges.push((bar.start, bar.last()));
            // All bridges above let it through.
            let mut at = device.parent();
            while let Some(bridge) = at {
                let (register, upper) = match bar.kind {
                    BarKind::Memory { wide: true, .. } => (regs::PREFETCH_BASE, true),
                    _ => (regs::MEMORY_BASE, false),
                };
                let value = u64::from(bridge.config32(register));
                let (mut base, mut limit) = ((value & 0xfff0) << 16, value & 0xfff0_0000 | 0xf_ffff);
                if upper {
                    base |= u64::from(bridge.config32(regs::PREFETCH_BASE_UPPER)) << 32;
                    limit |= u64::from(bridge.config32(regs::PREFETCH_LIMIT_UPPER)) << 32;
                }
                assert!(base <= bar.start && bar.last() <= limit, "{bar:x?} {base:x} {limit:x}");
                at = bridge.parent();
            }
        }
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:x?}");
    assert_eq!(ranges.len(), 8);
    // The registers of the device say so, too.
    assert_eq!(u64::from(devices[1].config32(regs::BAR0 + 4)), devices[1].bars()[1].start);
}

#[test]
fn what_does_not_fit_has_no_address_and_cannot_be_enabled() {
    let machine = Machine::default();
    machine.add(&[], 8, virtio().bar(0, 0x1000_0000, 0));
    machine.add(&[], 16, virtio());
    let small = Window { len: 0x10_0000, ..MEMORY32 };
    let devices = devices(&machine, &[small, MEMORY64]);
    assert_eq!(devices[0].bars()[0].start, 0);
    assert_eq!(devices[0].enable(), Err(abi::Errno::EINVAL));
    assert_ne!(devices[1].bars()[1].start, 0);
    devices[1].enable().unwrap();
    assert_eq!(devices[1].config16(regs::COMMAND) & 7, regs::COMMAND_MEMORY);
    assert_eq!(devices[1].map_part(1, 0x800, 0x801).unwrap_err(), abi::Errno::EINVAL);
    assert_eq!(devices[1].map_part(0, 0, 1).unwrap_err(), abi::Errno::EINVAL);
}

#[test]
fn addresses_of_firmware_stay() {
    let machine = Machine::default();
    let mut function = virtio();
    function.put(regs::BAR0 + 4, &0xfebd_1000u32.to_le_bytes());
    function.put(regs::BAR0 + 16, &0xfe00_000cu32.to_le_bytes());
    machine.add(&[], 16, function);
    let devices = devices(&machine, &[]);
    assert_eq!((devices[0].bars()[1].start, devices[0].bars()[4].start), (0xfebd_1000, 0xfe00_0000));
    assert_eq!(devices[0].config32(regs::BAR0 + 16), 0xfe00_000c);
}

#[test]
fn lists_of_capabilities_end() {
    let machine = Machine::default();
    let two = virtio()
        .first_capability(0x40)
        .capability(0x40, regs::CAP_VENDOR, 0x50, &[])
        .capability(0x50, regs::CAP_MSIX, 0x60, &[])
        .capability(0x60, regs::CAP_VENDOR, 0, &[]);
    machine.add(&[], 0, two);
    machine.add(&[], 8, virtio().first_capability(0x40).capability(0x40, 1, 0x40, &[]));
    machine.add(&[], 16, virtio().first_capability(0xff).capability(0xfc, 0xff, 0xff, &[]));
    let devices = devices(&machine, &[]);
    let vendor = devices[0].capability(regs::CAP_VENDOR, None);
    assert_eq!(vendor, Some(0x40));
    assert_eq!(devices[0].capability(regs::CAP_VENDOR, vendor), Some(0x60));
    assert_eq!(devices[0].capability(regs::CAP_VENDOR, Some(0x60)), None);
    assert_eq!(devices[0].capability(regs::CAP_MSIX, None), Some(0x50));
    for device in &devices[1..] {
        assert_eq!(device.capability(regs::CAP_MSIX, None), None);
    }
}

#[test]
fn bridges_that_lead_in_a_circle_are_not_followed() {
    let machine = Machine::default();
    let mut bridge = Function::bridge();
    bridge.put(regs::SECONDARY_BUS, &[1, 255]);
    machine.add(&[], 0, bridge.clone());
    // Back to itself.
    bridge.put(regs::SECONDARY_BUS, &[1, 255]);
    machine.add(&[0], 0, bridge);
    assert_eq!(devices(&machine, &[]).len(), 2);
}

#[test]
fn ids_match_by_device_or_class() {
    let machine = Machine::default();
    machine.add(&[], 0, virtio());
    let devices = devices(&machine, &[]);
    let identity = devices[0].identity();
    assert!(Id::device(0x1af4, 0x1042).matches(identity));
    assert!(Id::class(0x01_00_00).matches(identity));
    assert!(!Id::device(0x1af4, 0x1041).matches(identity));
    assert!(!Id::class(0x01_08_02).matches(identity));
}
