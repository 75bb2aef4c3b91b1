//! The guests that produce the numbers.

use crate::arch::Arch;
use crate::qemu::Machine;
use crate::session::Waited;
use crate::ui::Step;
use crate::{initramfs, paths};
use anyhow::{Result, bail};
use std::path::Path;
use std::time::Duration;

/// Rows with their values: instructions, or KiB for memory.
pub type Numbers = Vec<(String, f64)>;

/// The row of the instructions up to the first one of init.
pub const BOOT: &str = "boot_to_init";
/// Rows in KiB begin with this.
pub const MEMORY: &str = "memory_";

/// Makes Linux a fair match. Karst passes words that it does not know on to init.
const FAIR: &str = "mitigations=off init_on_alloc=0 init_on_free=0 apparmor=0 selinux=0 audit=0";
/// The memory of every machine here.
const MEMORY_KIB: f64 = 256.0 * 1024.0;
const LIMIT: Duration = Duration::from_secs(900);

fn machine(arch: Arch, kernel: &Path, cpus: u32) -> Machine {
    let mut machine = Machine::new(arch, kernel).append(FAIR);
    machine.smp = cpus.to_string();
    machine.memory = "256M".into();
    if arch == Arch::X86_64 {
        machine.cpu = "max,-erms,-fsrm".into();
    }
    machine
}

/// Boots `archive` on `cpus` CPUs and returns what the program in it prints; `rows` selects, empty for all.
pub fn rows(arch: Arch, name: &str, kernel: &Path, archive: &Path, rows: &str, cpus: u32) -> Result<Numbers> {
    let step = Step::new(format!("measure {name} on {arch}, {cpus} CPU"));
    let machine = machine(arch, kernel, cpus)
        .initrd(archive)
        .append("quiet loglevel=1")
        .append(&format!("bench_rows={rows}"))
        .args(["-icount", "shift=0,sleep=off", "-seed", "42"])
        .args(["-rtc", "base=2024-01-01T00:00:00,clock=vm"]);
    let mut session = machine.start(LIMIT)?;
    let waited = session.wait_for("\nend", LIMIT);
    let log = paths::output(arch)?.join(format!("bench-{}-{cpus}.log", name.to_lowercase()));
    std::fs::write(&log, &session.log)?;
    if waited != Waited::Found {
        bail!("the benchmark did not come to its end on {name} (log: {})", log.display());
    }
    step.finish("done");
    let mut numbers = Numbers::new();
    for line in session.text().lines() {
        let line = line.trim();
        if let Some(value) = line.strip_prefix("init ").filter(|_| cpus == 1) {
            numbers.extend(parse(&format!("{BOOT} {value}")));
        } else if let Some(row) = line.strip_prefix("row ") {
            numbers.extend(parse(row));
        }
    }
    Ok(numbers)
}

/// Boots the default system and returns the memory in use when its shell waits.
pub fn memory(arch: Arch, name: &str, kernel: &Path) -> Result<Numbers> {
    let step = Step::new(format!("memory of {name} on {arch}"));
    let machine = machine(arch, kernel, 1).initrd(initramfs::shell(arch)?).append("quiet loglevel=1");
    let limit = Duration::from_secs(180);
    let mut session = machine.start(limit)?;
    let asked = session.wait_for("# ", limit) == Waited::Found;
    // The end marker is put together by the shell, so that the echo of the line is not it.
    session.send("free; cat /proc/meminfo; echo all''done\n")?;
    if !asked || session.wait_for("alldone", limit) != Waited::Found {
        bail!("no shell on {name}:\n{}", session.text());
    }
    step.finish("done");
    let text = session.text();
    let field = |line: &str, index: usize| -> Option<f64> {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|text| text.strip_prefix(line)?.split_whitespace().nth(index)?.parse().ok())
    };
    let mut numbers = Numbers::new();
    if let Some(available) = field("MemAvailable:", 0) {
        numbers.push((format!("{MEMORY}not_available"), MEMORY_KIB - available));
    }
    if let Some(used) = field("Mem:", 1) {
        numbers.push((format!("{MEMORY}free_used"), used));
    }
    Ok(numbers)
}

/// Reads lines of a row's name and its value.
pub fn parse(text: &str) -> Numbers {
    let row = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}
