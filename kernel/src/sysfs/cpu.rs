//! `/sys/devices/system/cpu`: which CPUs there are and how they sit together. Every CPU is a core of its own in one
//! package: what the machine says about threads and packages is not looked at.

use alloc::format;
use alloc::string::String;

use abi::{Errno, Result};
use arch::cache::{self, Kind};
use arch::cpu::{self, CpuId, CpuMask, MAX_CPUS};
use kernfs::{StaticDir, Text};

use super::device::add_uevent;
use super::{add_constant, add_file, directory, print};
use crate::procfs::numbers::{write_list, write_mask};

fn list(out: &mut Text, set: CpuMask) -> Result<()> {
    write_list(out, set).map_err(|_| Errno::ENOMEM)?;
    out.push(b"\n");
    Ok(())
}

/// Adds a set of CPUs twice: as a mask, and as a list under another name.
#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
fn add_set(dir: &StaticDir, name: &str, set: fn(CpuId) -> CpuMask, cpu: CpuId) {
    add_file(dir, name, move |out| {
        write_mask(out, set(cpu), cpu::possible()).map_err(|_| Errno::ENOMEM)?;
        out.push(b"\n");
        Ok(())
    });
    add_file(dir, &format!("{name}_list"), move |out| list(out, set(cpu)));
}

fn one(cpu: CpuId) -> CpuMask {
    CpuMask::of(cpu)
}

fn all(_: CpuId) -> CpuMask {
    cpu::online()
}

#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
fn add_cpu(top: &StaticDir, cpu: CpuId) {
    let dir = top.mkdir_mode(&format!("cpu{}", cpu.0), 0o755);
    add_uevent(&dir, String::new());
    dir.add_link("subsystem", "../../../../bus/cpu");
    let node = arch::cpu::node_of(cpu);
    dir.add_link(&format!("node{node}"), &format!("../../node/node{node}"));
    dir.mkdir_mode("power", 0o755);
    let topology = dir.mkdir_mode("topology", 0o755);
    add_constant(&topology, "core_id", format!("{}", cpu.0));
    add_constant(&topology, "physical_package_id", "0");
    add_constant(&topology, "die_id", "0");
    add_constant(&topology, "cluster_id", "-1");
    for (name, set) in [
        ("core_cpus", one as fn(CpuId) -> CpuMask),
        ("thread_siblings", one),
        ("cluster_cpus", one),
        ("core_siblings", all),
        ("package_cpus", all),
        ("die_cpus", all),
    ] {
        add_set(&topology, name, set, cpu);
    }
    add_caches(&dir, cpu);
    directory("bus/cpu/devices")
        .add_link(&format!("cpu{}", cpu.0), &format!("../../../devices/system/cpu/cpu{}", cpu.0));
}

/// The caches of a CPU, as far as it describes them.
#[expect(clippy::disallowed_macros, reason = "only while the system comes up")]
fn add_caches(cpu_dir: &StaticDir, cpu: CpuId) {
    let mut top = None;
    for index in 0..16 {
        let Some(cache) = cache::of(cpu, index) else { return };
        let dir = top.get_or_insert_with(|| {
            let dir = cpu_dir.mkdir_mode("cache", 0o755);
            add_uevent(&dir, String::new());
            dir.mkdir_mode("power", 0o755);
            dir
        });
        let dir = dir.mkdir_mode(&format!("index{index}"), 0o755);
        add_uevent(&dir, String::new());
        dir.mkdir_mode("power", 0o755);
        let kind = match cache.kind {
            Kind::Data => "Data",
            Kind::Instruction => "Instruction",
            Kind::Unified => "Unified",
        };
        add_constant(&dir, "type", kind);
        for (name, value) in [
            ("level", u32::from(cache.level)),
            ("coherency_line_size", cache.line),
            ("physical_line_partition", cache.partitions),
            ("ways_of_associativity", cache.ways),
            ("number_of_sets", cache.sets),
            ("id", cache.id),
        ] {
            add_constant(&dir, name, format!("{value}"));
        }
        add_constant(&dir, "size", format!("{}K", cache.size() / 1024));
        add_file(&dir, "shared_cpu_list", move |out| list(out, cache.shared));
        add_file(&dir, "shared_cpu_map", move |out| {
            write_mask(out, cache.shared, cpu::possible()).map_err(|_| Errno::ENOMEM)?;
            out.push(b"\n");
            Ok(())
        });
    }
}

/// Declares the files.
pub(super) fn init() {
    let dir = directory("devices/system/cpu");
    add_file(&dir, "online", |out| list(out, cpu::online()));
    add_file(&dir, "enabled", |out| list(out, cpu::possible()));
    add_file(&dir, "possible", |out| list(out, cpu::possible()));
    add_file(&dir, "present", |out| list(out, cpu::possible()));
    add_file(&dir, "offline", |out| list(out, cpu::possible().without(cpu::online())));
    add_file(&dir, "isolated", |out| list(out, CpuMask::EMPTY));
    add_file(&dir, "kernel_max", |out| print(out, format_args!("{}\n", MAX_CPUS - 1)));
    add_uevent(&dir, String::new());
    dir.mkdir_mode("power", 0o755);
    let smt = dir.mkdir_mode("smt", 0o755);
    add_constant(&smt, "active", "0");
    add_constant(&smt, "control", "notsupported");
    cpu::possible().iter().for_each(|cpu| add_cpu(&dir, cpu));
}
