//! `/sys/kernel`, and the directories that are there whether anything is in them or not.

use alloc::string::String;

use super::device::add_uevent;
use super::{add_constant, directory};

/// Directories that others mount on, fill, or expect to be empty.
const DIRECTORIES: [&str; 17] = [
    "block",
    "bus",
    "class",
    "dev",
    "devices",
    "firmware",
    "fs/cgroup",
    "hypervisor",
    "kernel/cgroup",
    "kernel/debug",
    "kernel/mm/hugepages",
    "kernel/security",
    "kernel/tracing",
    "module",
    "power",
    "class/block",
    "class/net",
];

/// Buses, each with the directories every bus has.
const BUSES: [&str; 5] = ["cpu", "node", "memory", "platform", "pci"];

/// The counter that clocks follow. There is one to choose from; the name of another is passed over, as on Linux.
fn clocksource() {
    const LONGEST: usize = 31;
    let name = arch::time::clocksource_name();
    let dir = directory("devices/system/clocksource/clocksource0");
    add_uevent(&dir, String::new());
    super::add_file(&dir, "available_clocksource", move |out| super::print(out, format_args!("{name} \n")));
    let show = move |out: &mut kernfs::Text| super::print(out, format_args!("{name}\n"));
    super::add_writable(&dir, "current_clocksource", show, |data| {
        let text = data.strip_suffix(b"\n").unwrap_or(data);
        if text.is_empty() || text.len() > LONGEST { Err(abi::Errno::EINVAL) } else { Ok(()) }
    });
}

/// Declares the files.
#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
pub(super) fn init() {
    DIRECTORIES.iter().for_each(|path| drop(directory(path)));
    for bus in BUSES {
        let dir = directory(&alloc::format!("bus/{bus}"));
        dir.mkdir_mode("devices", 0o755);
        dir.mkdir_mode("drivers", 0o755);
    }
    let platform = directory("devices/platform");
    add_uevent(&platform, String::new());
    clocksource();
    let kernel = directory("kernel");
    add_constant(&kernel, "uevent_seqnum", "0");
    add_constant(&kernel, "fscaps", "1");
    add_constant(&kernel, "address_bits", "64");
    add_constant(&kernel, "cpu_byteorder", "little");
    add_constant(&kernel, "kexec_loaded", "0");
    add_constant(&kernel, "kexec_crash_loaded", "0");
    add_constant(&kernel, "rcu_expedited", "0");
    add_constant(&kernel, "rcu_normal", "0");
    super::add_file(&kernel, "warn_count", |out| {
        super::print(
            out,
            format_args!("{}\n", crate::oops::WARNINGS.load(core::sync::atomic::Ordering::Relaxed)),
        )
    });
    super::add_file(&kernel, "oops_count", |out| {
        super::print(
            out,
            format_args!("{}\n", crate::oops::COUNT.load(core::sync::atomic::Ordering::Relaxed)),
        )
    });
}
