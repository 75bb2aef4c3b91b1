//! Devices: `/sys/devices/virtual/CLASS/NAME` with links in `/sys/class/CLASS` and `/sys/dev/{char,block}`.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use abi::fs::DevId;
use abi::{Errno, Result};
use drivers::mem;
use drivers::rtc;
use drivers::tty::devices as tty;
use kernfs::StaticDir;

use super::{add_constant, add_file, add_writable, directory, print};

/// A character device to be shown.
pub struct Device<'a> {
    /// Its class: the directory below `/sys/class`.
    pub class: &'a str,
    /// Its name, which is that of its node in `/dev`.
    pub name: &'a str,
    /// Its number.
    pub dev: DevId,
    /// Permissions of its node, if they are not the usual ones.
    pub mode: Option<u32>,
}

/// Whether what is written to a `uevent` file is an action. Nobody can listen for events yet, so announcing the
/// device again is done when it has been checked.
pub(super) fn uevent_store(data: &[u8]) -> Result<()> {
    const ACTIONS: [&[u8]; 8] =
        [b"add", b"remove", b"change", b"move", b"online", b"offline", b"bind", b"unbind"];
    let word = data.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if ACTIONS.contains(&word) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Adds `uevent` with constant lines.
pub(super) fn add_uevent(dir: &StaticDir, text: String) {
    let show = move |out: &mut kernfs::Text| {
        out.push(text.as_bytes());
        Ok(())
    };
    add_writable(dir, "uevent", show, uevent_store);
}

/// Shows a device; returns its directory for files of its own.
#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
pub fn add_device(device: &Device<'_>) -> Arc<StaticDir> {
    let Device { class, name, dev, mode } = device;
    let dir = directory(&format!("devices/virtual/{class}/{name}"));
    let mode = mode.map_or_else(String::new, |mode| format!("DEVMODE=0{mode:o}\n"));
    add_uevent(&dir, format!("MAJOR={}\nMINOR={}\nDEVNAME={name}\n{mode}", dev.major, dev.minor));
    add_constant(&dir, "dev", format!("{}:{}", dev.major, dev.minor));
    dir.add_link("subsystem", &format!("../../../../class/{class}"));
    dir.mkdir_mode("power", 0o755);
    let home = format!("../../devices/virtual/{class}/{name}");
    directory(&format!("class/{class}")).add_link(name, &home);
    directory("dev/char").add_link(&format!("{}:{}", dev.major, dev.minor), &home);
    dir
}

/// The devices that are there from the start.
pub(super) fn init() {
    directory("devices/virtual");
    let memory = [
        ("null", mem::NULL, 0o666),
        ("zero", mem::ZERO, 0o666),
        ("full", mem::FULL, 0o666),
        ("random", 8, 0o666),
        ("urandom", 9, 0o666),
    ];
    for (name, minor, mode) in memory {
        add_device(&Device { class: "mem", name, dev: DevId::new(mem::MAJOR, minor), mode: Some(mode) });
    }
    add_device(&Device { class: "mem", name: "kmsg", dev: DevId::new(mem::MAJOR, 11), mode: Some(0o644) });
    let auxiliary = [
        ("tty", tty::DEV_TTY, Some(0o666)),
        ("console", tty::DEV_CONSOLE, None),
        ("ptmx", DevId::new(tty::AUX_MAJOR, 2), Some(0o666)),
    ];
    for (name, dev, mode) in auxiliary {
        let dir = add_device(&Device { class: "tty", name, dev, mode });
        if name == "console" {
            // The one that `/dev/console` is comes last.
            add_file(&dir, "active", |out| {
                for (index, console) in crate::printk::consoles()?.iter().rev().enumerate() {
                    print(out, format_args!("{}{}", if index > 0 { " " } else { "" }, console.name()))?;
                }
                print(out, format_args!("\n"))
            });
        }
    }
    let control = DevId::new(crate::dev::MISC_MAJOR, drivers::block::loopdev::CONTROL_MINOR);
    add_device(&Device { class: "misc", name: "loop-control", dev: control, mode: None });
    let latency = DevId::new(crate::dev::MISC_MAJOR, crate::dev::LATENCY);
    add_device(&Device { class: "misc", name: "cpu_dma_latency", dev: latency, mode: None });
    clock();
    for terminal in tty::terminals().unwrap_or_default() {
        add_device(&Device { class: "tty", name: &terminal.name(), dev: terminal.dev(), mode: None });
    }
}

/// The real-time clock.
fn clock() {
    let Some(name) = rtc::name() else { return };
    let dir = add_device(&Device { class: "rtc", name: "rtc0", dev: DevId::new(rtc::MAJOR, 0), mode: None });
    add_constant(&dir, "name", name);
    // The wall clock was set from it at boot.
    add_constant(&dir, "hctosys", "1");
    add_constant(&dir, "max_user_freq", "64");
    add_file(&dir, "since_epoch", |out| print(out, format_args!("{}\n", rtc::read()?)));
    add_file(&dir, "date", |out| {
        let date = rtc::Date::of(rtc::read()?);
        print(out, format_args!("{:04}-{:02}-{:02}\n", date.year, date.month, date.day))
    });
    add_file(&dir, "time", |out| {
        let date = rtc::Date::of(rtc::read()?);
        print(out, format_args!("{:02}:{:02}:{:02}\n", date.hour, date.minute, date.second))
    });
}

#[cfg(test)]
mod tests {
    use super::uevent_store;

    #[test]
    fn only_actions_are_taken() {
        assert!(uevent_store(b"add\n").is_ok());
        assert!(uevent_store(b"change 12345678-1234-1234-1234-123456789abc A=1").is_ok());
        assert!(uevent_store(b"explode").is_err());
        assert!(uevent_store(b"").is_err());
    }
}
