//! Devices: probing them, their nodes in `/dev`, and which of them is the console.

use abi::fs::DevId;
use abi::{Result, raw};
use boot::BootInfo;
use boot::info::MemoryKind;
use drivers::block::{brd, loopdev, null_blk};
use drivers::console::Console;
use drivers::serial::{self, Found};
use drivers::tty::devices as tty;
use drivers::{mem, rtc, tty::devices::AUX_MAJOR};
use tmpfs::devtmpfs::{create_dir, create_node};

use super::cmdline;
use crate::printk;

const CHAR: u32 = raw::S_IFCHR;

/// Probes devices and makes their nodes.
pub(super) fn init(_: &'static BootInfo) -> Result<()> {
    mem::init()?;
    tty::init()?;
    for (name, mode, minor) in
        [("null", 0o666, mem::NULL), ("zero", 0o666, mem::ZERO), ("full", 0o666, mem::FULL)]
    {
        create_node(name, CHAR | mode, DevId::new(mem::MAJOR, minor))?;
    }
    create_node("tty", CHAR | 0o666, tty::DEV_TTY)?;
    create_node("console", CHAR | 0o600, tty::DEV_CONSOLE)?;
    create_node("ptmx", CHAR | 0o666, DevId::new(AUX_MAJOR, crate::pty::PTMX_MINOR))?;
    crate::pty::init()?;
    if rtc::init()? {
        create_node("rtc0", CHAR | 0o600, DevId::new(rtc::MAJOR, 0))?;
    }
    disks()?;
    create_dir("pts")?;
    create_dir("shm")?;

    let ports = serial::probe()?;
    for port in &ports {
        create_node(&port.name, CHAR | 0o660, port.tty.dev())?;
    }
    choose_consoles(&ports);
    drivers::pci::init(is_memory)?;
    drivers::virtio::mmio::init()
}

/// Whether firmware's map has memory between two physical addresses.
fn is_memory(first: u64, last: u64) -> bool {
    let memory = super::boot_info().map_or(&[][..], |info| info.memory);
    let ordinary = memory.iter().filter(|region| region.kind == MemoryKind::Usable);
    ordinary.into_iter().any(|region| region.range.start.0 <= last && first < region.range.end.0)
}

/// Disks that are no hardware.
fn disks() -> Result<()> {
    blkdev::init();
    loopdev::set_files(|fd| crate::fs::context::file(vfs::fdtable::Fd::from_raw(fd)?));
    create_node("loop-control", CHAR | 0o600, loopdev::init()?)?;
    brd::init()?;
    null_blk::init()
}

/// Shows the log on every port that `console=` names, in their order; the last one is `/dev/console`. Without the
/// parameter the first port is both.
fn choose_consoles(ports: &[Found]) {
    let wanted = cmdline::consoles();
    let mut last = None;
    for name in wanted {
        if let Some(port) = ports.iter().find(|port| port.name == *name) {
            printk::register_console(port.port.clone());
            last = Some(port);
        }
    }
    if last.is_none()
        && let Some(port) = ports.first()
    {
        if wanted.is_empty() {
            printk::register_console(port.port.clone());
        }
        last = Some(port);
    }
    if let Some(port) = last {
        tty::set_console(port.tty.clone());
        log::info!("console [{}] enabled", port.port.name());
    }
}
