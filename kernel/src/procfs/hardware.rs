//! Devices and who drives them: `/proc/devices`, `/proc/misc`, `/proc/consoles`, `/proc/tty`, `/proc/interrupts`,
//! `/proc/iomem`, `/proc/ioports`.

use core::fmt::{self, Write};

use abi::cap::Cap;
use abi::fs::DevId;
use abi::{Errno, Result};
use alloc::sync::Arc;
use arch::addr::{VirtAddr, virt_to_phys};
use arch::layout;
use arch::resource::Space;
use boot::info::MemoryKind;
use drivers::resource::{self, Resources};
use drivers::tty::devices as tty;
use kernfs::{Attr, Context, Node, Show, Text, attr};
use vfs::chrdev::{CHAR_DEVICES, Numbers};

use super::top;

/// Major number of miscellaneous devices.
const MISC_MAJOR: u32 = 10;

const FILES: &[Attr] = &[
    attr("devices", |out| text(devices(out))),
    attr("misc", |out| text(misc(out))),
    attr("consoles", |out| text(consoles(out))),
    attr("interrupts", |out| text(drivers::irq::show(out))),
];

const TTY_FILES: &[Attr] = &[
    attr("drivers", |out| text(tty_drivers(out))),
    attr("ldiscs", |out| text(writeln!(out, "{:<10} {:2}", "n_tty", 0))),
];

fn text(result: fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

fn devices(out: &mut Text) -> fmt::Result {
    out.push(b"Character devices:\n");
    for (major, name) in CHAR_DEVICES.majors().map_err(|_| fmt::Error)? {
        // Its minors have names of their own.
        let name = if major == MISC_MAJOR { "misc" } else { name };
        writeln!(out, "{major:3} {name}")?;
    }
    out.push(b"\nBlock devices:\n");
    for (major, name) in block::disk::majors().map_err(|_| fmt::Error)? {
        writeln!(out, "{major:3} {name}")?;
    }
    Ok(())
}

fn misc(out: &mut Text) -> fmt::Result {
    CHAR_DEVICES
        .minors(MISC_MAJOR)
        .map_err(|_| fmt::Error)?
        .into_iter()
        .rev()
        .try_for_each(|(minor, name)| writeln!(out, "{minor:3} {name}"))
}

/// What can be said of a console: enabled, preferred, shows what was logged before it came, usable at any time.
fn consoles(out: &mut Text) -> fmt::Result {
    let terminals = tty::terminals().map_err(|_| fmt::Error)?;
    for (index, console) in crate::printk::consoles().map_err(|_| fmt::Error)?.iter().enumerate() {
        write!(out, "{:<20} -W- (E{}  p a)", console.name(), if index == 0 { 'C' } else { ' ' })?;
        let dev = terminals.iter().find(|tty| *tty.name() == *console.name()).map(|tty| tty.dev());
        match dev {
            Some(DevId { major, minor }) => writeln!(out, " {major:4}:{minor}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// Ranges of device numbers that are terminals: name in the registry, driver, node, type.
const TTY_DRIVERS: [(&str, &str, &str, &str); 6] = [
    ("/dev/tty", "/dev/tty", "tty", "system:/dev/tty"),
    ("/dev/console", "/dev/console", "console", "system:console"),
    ("/dev/ptmx", "/dev/ptmx", "ptmx", "system"),
    ("ttyS", "serial", "ttyS", "serial"),
    ("ttyAMA", "ttyAMA", "ttyAMA", "serial"),
    ("pts", "pty_slave", "pts", "pty:slave"),
];

fn tty_drivers(out: &mut Text) -> fmt::Result {
    let ranges = CHAR_DEVICES.ranges().map_err(|_| fmt::Error)?;
    for (registered, driver, node, kind) in TTY_DRIVERS {
        for Numbers { major, first, last, .. } in ranges.iter().filter(|range| range.name == registered) {
            write!(out, "{driver:<20} /dev/{node:<8} {major:3} ")?;
            if first == last {
                writeln!(out, "{first:7} {kind}")?;
            } else {
                writeln!(out, "{first}-{last} {kind}")?;
            }
        }
    }
    Ok(())
}

/// A tree of addresses; only administrators see the numbers.
struct Addresses(&'static Resources);

impl Show for Addresses {
    fn show(&self, cx: &Context<'_>, out: &mut Text) -> Result<()> {
        let admin = cx.cred.capable(Cap::SysAdmin);
        let show = if admin { resource::Show::Addresses } else { resource::Show::Names };
        text(self.0.show(out, show))
    }
}

fn claim(space: &Resources, start: u64, last: u64, name: &str) {
    if let Err(error) = space.claim(start, last, name) {
        log::debug!("{name} at {start:#x}-{last:#x}: {error}");
    }
}

/// Enters what the kernel was told and what it put there itself.
fn claim_memory() {
    if let Some(info) = crate::init::boot_info() {
        for region in info.memory {
            let name = match region.kind {
                MemoryKind::Usable => "System RAM",
                MemoryKind::Reserved => "Reserved",
                MemoryKind::AcpiReclaim => "ACPI Tables",
                MemoryKind::AcpiNvs => "ACPI Non-volatile Storage",
                MemoryKind::Persistent => "Persistent Memory",
            };
            if !region.range.is_empty() {
                claim(&resource::MEMORY, region.range.start.0, region.range.end.0 - 1, name);
            }
        }
    }
    let parts: [(&str, core::ops::Range<usize>); 3] = [
        ("Kernel code", layout::kernel_text()),
        ("Kernel rodata", layout::rodata()),
        ("Kernel data", layout::data()),
    ];
    for (name, range) in parts.into_iter().filter(|(_, range)| !range.is_empty()) {
        let start = virt_to_phys(VirtAddr(range.start)).0;
        claim(&resource::MEMORY, start, start + (range.len() as u64 - 1), name);
    }
    arch::resource::for_each(&mut |used| {
        let space = if used.space == Space::Memory { &resource::MEMORY } else { &resource::PORTS };
        claim(space, used.start, used.last, used.name);
    });
}

/// Declares the files.
#[expect(clippy::disallowed_methods, reason = "only while the system comes up")]
pub(super) fn init() {
    claim_memory();
    top().add_attrs(FILES);
    top().add("iomem", Node::Text(Arc::new(Addresses(&resource::MEMORY))), 0o444);
    top().add("ioports", Node::Text(Arc::new(Addresses(&resource::PORTS))), 0o444);
    let dir = top().mkdir("tty");
    dir.add_attrs(TTY_FILES);
    dir.mkdir_mode("driver", 0o500);
    dir.mkdir("ldisc");
}
