//! PCI devices and what is on them: `/sys/devices/pci0000:00`, `/sys/bus/pci`, `/sys/bus/virtio`, `/proc/bus/pci`.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use abi::cap::Cap;
use abi::{Errno, Result};
use arch::cpu;
use drivers::pci::config::Width;
use drivers::pci::{self, Bar, BarKind, Device, regs};
use drivers::virtio::{self, device::Place};
use kernfs::{Context, Entry, Node, Show, Text, next_ino};
use mm::IovIter;
use mm::fallible::{try_arc, try_box};
use vfs::file::{File, FileImpl, OpenFile};
use vfs::file_ops::{FileOps, IoFlags, Whence};

use super::device::add_uevent;
use super::{add_constant, add_file, directory, print};
use crate::procfs::numbers::{write_list, write_mask};

/// What everybody may read of configuration space.
const PUBLIC: u64 = 64;
/// Kinds of resources, as `resource` shows them (Linux's `include/linux/ioport.h`).
mod flag {
    pub const IO: u64 = 0x100;
    pub const MEMORY: u64 = 0x200;
    pub const PREFETCH: u64 = 0x2000;
    pub const READ_ONLY: u64 = 0x4000;
    pub const SIZE_ALIGN: u64 = 0x4_0000;
    pub const WIDE: u64 = 0x10_0000;
}
/// Lines of `resource`: BARs, ROM, and what virtual functions would have; a bridge has four more.
const RESOURCES: usize = 13;

/// Configuration space as a file.
struct ConfigFile(Arc<Device>);

/// An access as wide as position and length allow.
fn width(pos: u64, left: usize) -> Width {
    match (pos % 4, left) {
        (0, 4..) => Width::Double,
        (0 | 2, 2..) => Width::Word,
        _ => Width::Byte,
    }
}

impl FileOps for ConfigFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        let whole = u64::from(self.0.host().config_size());
        let size = if file.cred().capable(Cap::SysAdmin) { whole } else { PUBLIC };
        let mut total = 0;
        while *pos < size && iter.count() > 0 {
            let width = width(*pos, iter.count().min((size - *pos) as usize));
            let bytes = self.0.config_read(*pos as u16, width).to_le_bytes();
            let count = iter.copy_to_iter(bytes.get(..width.bytes().into()).unwrap_or_default());
            if count == 0 {
                return if total == 0 { Err(Errno::EFAULT) } else { Ok(total) };
            }
            total += count;
            *pos += count as u64;
        }
        Ok(total)
    }

    fn write_iter(&self, file: &File, iter: &mut IovIter<'_>, pos: &mut u64, _: IoFlags) -> Result<usize> {
        if !file.cred().capable(Cap::SysAdmin) {
            return Err(Errno::EPERM);
        }
        let size = u64::from(self.0.host().config_size());
        let mut total = 0;
        while *pos < size && iter.count() > 0 {
            let width = width(*pos, iter.count().min((size - *pos) as usize));
            let mut bytes = iter.read_to_vec(width.bytes().into())?;
            if bytes.len() < usize::from(width.bytes()) {
                return if total == 0 { Err(Errno::EFAULT) } else { Ok(total) };
            }
            let value = bytes.drain(..).rev().fold(0, |value, byte| value << 8 | u32::from(byte));
            self.0.config_write(*pos as u16, width, value);
            total += usize::from(width.bytes());
            *pos += u64::from(width.bytes());
        }
        Ok(total)
    }

    fn llseek(&self, file: &File, offset: i64, whence: Whence) -> Result<u64> {
        vfs::rw::generic_llseek(file, offset, whence)
    }
}

/// Registers as a file: neither read nor written; they cannot be mapped yet.
struct ResourceFile;

impl FileOps for ResourceFile {
    fn read_iter(&self, _: &File, _: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        Err(Errno::EIO)
    }

    fn write_iter(&self, _: &File, _: &mut IovIter<'_>, _: &mut u64, _: IoFlags) -> Result<usize> {
        Err(Errno::EIO)
    }
}

#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
fn config_node(device: &Arc<Device>) -> Node {
    let device = device.clone();
    Node::Custom(Arc::new(move |_: &Context<'_>, _: &mut OpenFile<'_>| {
        Ok(FileImpl::Owned(try_box(ConfigFile(device.clone()))?))
    }))
}

/// A file that can be written: how it is shown and what a number does.
struct Number<S, T> {
    show: S,
    store: T,
}

impl<S, T> Show for Number<S, T>
where
    S: Fn(&mut Text) -> Result<()> + Send + Sync,
    T: Fn(u64) -> Result<()> + Send + Sync,
{
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        (self.show)(out)
    }

    fn store(&self, cx: &Context<'_>, data: &[u8]) -> Result<()> {
        if !cx.cred.capable(Cap::SysAdmin) {
            return Err(Errno::EPERM);
        }
        let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim();
        (self.store)(text.parse().map_err(|_| Errno::EINVAL)?)
    }
}

fn flags_of(bar: &Bar) -> u64 {
    match bar.kind {
        BarKind::None => 0,
        BarKind::Io => flag::IO | flag::SIZE_ALIGN | 1,
        BarKind::Memory { wide, prefetchable } => {
            let wide = if wide { flag::WIDE | 4 } else { 0 };
            let prefetchable = if prefetchable { flag::PREFETCH | 8 } else { 0 };
            flag::MEMORY | flag::SIZE_ALIGN | wide | prefetchable
        }
        BarKind::Rom => flag::MEMORY | flag::PREFETCH | flag::READ_ONLY | flag::SIZE_ALIGN,
    }
}

/// What a bridge lets through: first, last, flags of ports, memory, prefetchable memory.
fn bridge_windows(device: &Device) -> [(u64, u64, u64); 3] {
    let io = u64::from(device.config16(regs::IO_BASE));
    let io_upper = u64::from(device.config32(regs::IO_BASE_UPPER));
    let memory = u64::from(device.config32(regs::MEMORY_BASE));
    let prefetch = u64::from(device.config32(regs::PREFETCH_BASE));
    let base = |value: u64| (value & 0xfff0) << 16;
    let limit = |value: u64| value & 0xfff0_0000 | 0xf_ffff;
    let high = |register| u64::from(device.config32(register)) << 32;
    let wide = prefetch & 0xf == 1;
    let (prefetch_base, prefetch_limit) = if wide {
        (base(prefetch) | high(regs::PREFETCH_BASE_UPPER), limit(prefetch) | high(regs::PREFETCH_LIMIT_UPPER))
    } else {
        (base(prefetch), limit(prefetch))
    };
    let windows = [
        (
            (io & 0xf0) << 8 | (io_upper & 0xffff) << 16,
            (io >> 8 & 0xf0) << 8 | 0xfff | io_upper >> 16 << 16,
            flag::IO | io & 0xf,
        ),
        (base(memory), limit(memory), flag::MEMORY),
        (
            prefetch_base,
            prefetch_limit,
            flag::MEMORY | flag::PREFETCH | if wide { flag::WIDE | 1 } else { 0 },
        ),
    ];
    windows.map(|(first, last, flags)| if first > last { (0, 0, 0) } else { (first, last, flags) })
}

fn resources(device: &Device, out: &mut Text) -> Result<()> {
    let mut lines = [(0, 0, 0); RESOURCES + 4];
    for (line, bar) in lines.iter_mut().zip(device.bars()).filter(|(_, bar)| bar.start != 0) {
        *line = (bar.start, bar.last(), flags_of(bar));
    }
    let mut count = RESOURCES;
    if device.bridge().is_some() {
        count += 4;
        for (line, window) in lines.iter_mut().skip(RESOURCES).zip(bridge_windows(device)) {
            *line = window;
        }
    }
    for (first, last, flags) in lines.into_iter().take(count) {
        print(out, format_args!("{first:#018x} {last:#018x} {flags:#018x}\n"))?;
    }
    Ok(())
}

#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
fn modalias(device: &Device) -> String {
    let id = device.identity();
    format!(
        "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
        id.vendor,
        id.device,
        id.subsystem_vendor,
        id.subsystem,
        id.class >> 16,
        id.class >> 8 & 0xff,
        id.class & 0xff
    )
}

/// The number of the interrupt line; 0: none.
fn line_of(device: &Device) -> u32 {
    let pin = device.config8(regs::INTERRUPT_PIN);
    let line = device.config8(regs::INTERRUPT_LINE);
    let found = arch::pci::line(device.host().index, device.address().device(), pin, line);
    found.map_or(0, |(irq, _)| irq.0)
}

/// As many `../` as lead from a directory below `devices` to the root.
fn up(path: &str) -> String {
    "../".repeat(path.split('/').count() + 1)
}

#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "only while the system comes up")]
fn add_pci(device: &Arc<Device>) -> Result<()> {
    let path = device.path()?;
    let dir = directory(&format!("devices/{path}"));
    let (name, id) = (format!("{}", device.address()), *device.identity());
    let hex = |name, value: u16| add_constant(&dir, name, format!("{value:#06x}"));
    hex("vendor", id.vendor);
    hex("device", id.device);
    hex("subsystem_vendor", id.subsystem_vendor);
    hex("subsystem_device", id.subsystem);
    add_constant(&dir, "class", format!("{:#08x}", id.class));
    add_constant(&dir, "revision", format!("{:#04x}", id.revision));
    add_constant(&dir, "modalias", modalias(device));
    add_constant(&dir, "irq", format!("{}", line_of(device)));
    add_constant(&dir, "numa_node", "-1");
    add_constant(&dir, "broken_parity_status", "0");
    add_constant(&dir, "msi_bus", "1");
    add_constant(&dir, "ari_enabled", "0");
    add_constant(&dir, "d3cold_allowed", "1");
    add_constant(&dir, "dma_mask_bits", if device.driver_name().is_some() { "64" } else { "32" });
    add_constant(&dir, "consistent_dma_mask_bits", if device.driver_name().is_some() { "64" } else { "32" });
    add_constant(&dir, "driver_override", "(null)");
    let managed = device.capability(1, None).is_some();
    let of = device.clone();
    add_file(&dir, "power_state", move |out| {
        let state = if managed && of.enabled() > 0 { "D0" } else { "unknown" };
        print(out, format_args!("{state}\n"))
    });
    add_file(&dir, "local_cpus", |out| {
        write_mask(out, cpu::online(), cpu::possible()).map_err(|_| Errno::ENOMEM)?;
        print(out, format_args!("\n"))
    });
    add_file(&dir, "local_cpulist", |out| {
        write_list(out, cpu::online()).map_err(|_| Errno::ENOMEM)?;
        print(out, format_args!("\n"))
    });
    let of = device.clone();
    add_file(&dir, "resource", move |out| resources(&of, out));
    let size = u64::from(device.host().config_size());
    dir.add_entry("config", Entry::new(config_node(device), next_ino(), 0o644).sized(size));
    for (index, bar) in device.bars().iter().enumerate().take(6).filter(|(_, bar)| bar.start != 0) {
        let open = |_: &Context<'_>, _: &mut OpenFile<'_>| Ok(FileImpl::Static(&ResourceFile));
        let entry = Entry::new(Node::Custom(Arc::new(open)), next_ino(), 0o600).sized(bar.len);
        dir.add_entry(&format!("resource{index}"), entry);
    }
    let (shown, set) = (device.clone(), device.clone());
    let enable = Number {
        show: move |out: &mut Text| print(out, format_args!("{}\n", shown.enabled())),
        store: move |value| match value {
            0 if set.enabled() == 0 => Err(Errno::EIO),
            0 => {
                set.disable();
                Ok(())
            }
            _ => set.enable(),
        },
    };
    dir.add_entry("enable", Entry::new(Node::Text(try_arc(enable)?), next_ino(), 0o644).sized(4096));
    let mut event = String::new();
    if let Some(driver) = device.driver_name() {
        event = format!("DRIVER={driver}\n");
        dir.add_link("driver", &format!("{}bus/pci/drivers/{driver}", up(&path)));
        let home = directory(&format!("bus/pci/drivers/{driver}"));
        home.add_link(&name, &format!("../../../../devices/{path}"));
    }
    event += &format!(
        "PCI_CLASS={:X}\nPCI_ID={:04X}:{:04X}\nPCI_SUBSYS_ID={:04X}:{:04X}\nPCI_SLOT_NAME={name}\nMODALIAS={}\n",
        id.class,
        id.vendor,
        id.device,
        id.subsystem_vendor,
        id.subsystem,
        modalias(device)
    );
    add_uevent(&dir, event);
    dir.add_link("subsystem", &format!("{}bus/pci", up(&path)));
    dir.mkdir_mode("power", 0o755);
    if let Some(bridge) = device.bridge() {
        add_constant(&dir, "secondary_bus_number", format!("{}", bridge.secondary));
        add_constant(&dir, "subordinate_bus_number", format!("{}", bridge.subordinate));
        let bus = format!("{:04x}:{:02x}", device.address().segment, bridge.secondary);
        add_bus(&format!("{path}/pci_bus/{bus}"), &bus);
    }
    let (irqs, msix) = device.message_irqs()?;
    if !irqs.is_empty() {
        let messages = dir.mkdir_mode("msi_irqs", 0o755);
        for irq in irqs {
            add_constant(&messages, &format!("{irq}"), if msix { "msix" } else { "msi" });
        }
    }
    directory("bus/pci/devices").add_link(&name, &format!("../../../devices/{path}"));
    Ok(())
}

#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
fn add_bus(path: &str, name: &str) {
    let dir = directory(&format!("devices/{path}"));
    add_uevent(&dir, String::new());
    add_file(&dir, "cpuaffinity", |out| {
        write_mask(out, cpu::online(), cpu::possible()).map_err(|_| Errno::ENOMEM)?;
        print(out, format_args!("\n"))
    });
    add_file(&dir, "cpulistaffinity", |out| {
        write_list(out, cpu::online()).map_err(|_| Errno::ENOMEM)?;
        print(out, format_args!("\n"))
    });
    dir.add_link("subsystem", &format!("{}class/pci_bus", up(path)));
    directory("class/pci_bus").add_link(name, &format!("../../devices/{path}"));
}

#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
fn add_virtio(device: &Arc<virtio::Device>) -> Result<()> {
    let path = device.path()?;
    let dir = directory(&format!("devices/{path}"));
    if let Place::Mmio(base) = device.place() {
        let parent = directory(&format!("devices/platform/{base:x}.virtio_mmio"));
        add_uevent(&parent, String::from("DRIVER=virtio-mmio\n"));
        parent.add_link("subsystem", "../../../bus/platform");
        directory("bus/platform/devices").add_link(
            &format!("{base:x}.virtio_mmio"),
            &format!("../../../devices/platform/{base:x}.virtio_mmio"),
        );
    }
    add_constant(&dir, "device", format!("{:#06x}", device.id()));
    add_constant(&dir, "vendor", format!("{:#06x}", device.vendor()));
    let of = device.clone();
    add_file(&dir, "status", move |out| print(out, format_args!("{:#010x}\n", of.status())));
    let of = device.clone();
    add_file(&dir, "features", move |out| {
        let features = of.features();
        (0..64).try_for_each(|bit| print(out, format_args!("{}", features >> bit & 1)))?;
        print(out, format_args!("\n"))
    });
    let alias = format!("virtio:d{:08X}v{:08X}", device.id(), device.vendor());
    add_constant(&dir, "modalias", alias.clone());
    let mut event = String::new();
    if let Some(driver) = device.driver_name() {
        event = format!("DRIVER={driver}\n");
        dir.add_link("driver", &format!("{}bus/virtio/drivers/{driver}", up(&path)));
        let home = directory(&format!("bus/virtio/drivers/{driver}"));
        home.add_link(device.name(), &format!("../../../../devices/{path}"));
    }
    add_uevent(&dir, event + &format!("MODALIAS={alias}\n"));
    dir.add_link("subsystem", &format!("{}bus/virtio", up(&path)));
    dir.mkdir_mode("power", 0o755);
    directory("bus/virtio/devices").add_link(device.name(), &format!("../../../devices/{path}"));
    Ok(())
}

/// A line of `/proc/bus/pci/devices`: numbers, addresses and sizes, the driver.
fn device_line(device: &Device, out: &mut Text) -> Result<()> {
    let (address, id) = (device.address(), device.identity());
    print(
        out,
        format_args!(
            "{:02x}{:02x}\t{:04x}{:04x}\t{:x}",
            address.bus,
            address.devfn,
            id.vendor,
            id.device,
            line_of(device)
        ),
    )?;
    let placed = |bar: &Bar| bar.start != 0;
    for bar in device.bars() {
        let start = if placed(bar) { bar.start | flags_of(bar) & 0xf } else { 0 };
        print(out, format_args!("\t{start:16x}"))?;
    }
    for bar in device.bars() {
        print(out, format_args!("\t{:16x}", if placed(bar) { bar.len } else { 0 }))?;
    }
    print(out, format_args!("\t{}\n", device.driver_name().unwrap_or_default()))
}

struct DeviceLines;

impl Show for DeviceLines {
    fn show(&self, _: &Context<'_>, out: &mut Text) -> Result<()> {
        pci::devices()?.iter().try_for_each(|device| device_line(device, out))
    }
}

/// `/proc/bus/pci`.
#[expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "only while the system comes up")]
fn add_proc(devices: &[Arc<Device>]) {
    let top = crate::procfs::top().mkdir("bus").mkdir("pci");
    top.add("devices", Node::Text(Arc::new(DeviceLines)), 0o444);
    for device in devices.iter().filter(|device| device.address().segment == 0) {
        let address = device.address();
        let size = u64::from(device.host().config_size());
        let entry = Entry::new(config_node(device), next_ino(), 0o644).sized(size);
        top.mkdir(&format!("{:02x}", address.bus))
            .add_entry(&format!("{:02x}.{:x}", address.device(), address.function()), entry);
    }
}

/// Shows all that was found.
///
/// # Errors
/// `ENOMEM`.
#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
pub(super) fn init() -> Result<()> {
    let devices = pci::devices()?;
    for bus in ["bus/virtio/devices", "bus/virtio/drivers", "class/pci_bus"] {
        directory(bus);
    }
    let mut roots: Option<(u16, u8)> = None;
    for device in &devices {
        let root = (device.address().segment, device.host().first_bus);
        if roots.replace(root) != Some(root) {
            let (segment, bus) = root;
            let path = format!("pci{segment:04x}:{bus:02x}");
            let dir = directory(&format!("devices/{path}"));
            add_uevent(&dir, String::new());
            dir.mkdir_mode("power", 0o755);
            let name = format!("{segment:04x}:{bus:02x}");
            add_bus(&format!("{path}/pci_bus/{name}"), &name);
        }
        add_pci(device)?;
    }
    virtio::device::devices()?.iter().try_for_each(add_virtio)?;
    if !devices.is_empty() {
        add_proc(&devices);
    }
    Ok(())
}
