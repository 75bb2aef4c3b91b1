//! The boot matrix: numbers of CPUs, machines, memory sizes, NUMA, kinds of initramfs, boot
//! parameters, and boots that must end in a clear message.

use super::{Context, Report};
use crate::arch::Arch;
use crate::compress::{Compression, compress};
use crate::cpio::Archive;
use crate::initramfs;
use crate::qemu::Machine;
use crate::run;
use anyhow::Result;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// What a boot must show.
enum Expect {
    /// This command prints exactly this.
    Prints(&'static str, String),
    /// The console shows one of these texts, and the machine ends by itself.
    Says(&'static [&'static str]),
}

/// How the initramfs is packed.
#[derive(Clone, Copy)]
enum Pack {
    /// One plain archive after the other.
    Plain,
    /// All of it compressed.
    All(Compression),
    /// The first part compressed, the second plain, zeros between.
    Mixed(Compression, Compression),
    /// These bytes instead of an archive.
    Raw(&'static [u8]),
    /// A gzip stream that breaks off.
    Truncated,
    /// An archive without init.
    NoInit,
    /// An init that ends at once.
    InitEnds,
    /// An init that is no program.
    InitBad,
}

struct Case {
    name: String,
    machine: Machine,
    pack: Pack,
    expect: Expect,
}

/// Runs the matrix.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    for case in cases(context) {
        let name = format!("{} boot {}", context.label(), case.name);
        if context.wants(&name) {
            let outcome = boot(context, &case);
            report.outcome(&name, outcome.unwrap_or_else(|error| Err(format!("{error:#}"))));
        }
    }
    Ok(())
}

fn cases(context: &Context) -> Vec<Case> {
    let base = || context.machine();
    let mut cases = Vec::new();
    let mut add = |name: &str, machine: Machine, pack: Pack, expect: Expect| {
        cases.push(Case { name: name.to_string(), machine, pack, expect });
    };
    let alive = || Expect::Prints("echo alive; nproc", "alive\n4\n".into());

    for cpus in [1, 2, 4, 8] {
        let machine = Machine { smp: cpus.to_string(), ..base() };
        let name = format!("{cpus} CPUs");
        add(&name, machine, Pack::Plain, Expect::Prints("nproc", format!("{cpus}\n")));
    }
    for memory in ["32M", "48M", "64M", "128M", "3G", "5G", "16G"] {
        // Linux needs about 80 MiB.
        if context.oracle && matches!(memory, "32M" | "48M" | "64M") {
            continue;
        }
        let machine = Machine { memory: memory.into(), ..base() };
        add(&format!("{memory} of memory"), machine, Pack::Plain, alive());
    }
    let numa = base().args(super::guest::TWO_NODES);
    let nodes = "cd /sys/devices/system/node; cat online node1/cpulist node0/distance; grep -c MemTotal node1/meminfo";
    add("two NUMA nodes", numa, Pack::Plain, Expect::Prints(nodes, "0-1\n2-3\n10 21\n1\n".into()));
    add_machines(context, &mut add);

    use Compression::{Gzip, Lz4, Xz, Zstd};
    for compression in [Gzip, Zstd, Xz, Lz4] {
        add(&format!("{compression:?} initramfs"), base(), Pack::All(compression), alive());
    }
    add("initramfs of two compressed archives", base(), Pack::Mixed(Gzip, Xz), alive());
    add("initramfs zstd then lz4", base(), Pack::Mixed(Zstd, Lz4), alive());

    let panics = || Expect::Says(&["Kernel panic - not syncing"]);
    add("truncated initramfs", base(), Pack::Truncated, panics());
    add("initramfs of garbage", base(), Pack::Raw(b"this is no archive of any kind at all"), panics());
    add("empty archive", base(), Pack::NoInit, panics());
    add("init ends", base(), Pack::InitEnds, Expect::Says(&["Attempted to kill init!"]));
    add("init is no program", base(), Pack::InitBad, panics());
    let missing = base().append("rdinit=/missing");
    add("rdinit is missing", missing, Pack::InitEnds, panics());

    add_parameters(&base, &mut add);
    cases
}

/// The machines and CPUs of the architecture.
fn add_machines(context: &Context, add: &mut impl FnMut(&str, Machine, Pack, Expect)) {
    let base = || context.machine();
    let alive = || Expect::Prints("echo alive; nproc", "alive\n4\n".into());
    let on = |name: &str| Machine { machine: name.into(), ..base() };
    let with_cpu = |name: &str| Machine { cpu: name.into(), ..base() };
    match context.arch {
        Arch::X86_64 => {
            // Linux cannot be relied on there: on a loaded build machine its calibration against
            // the PIT fails, and it finds one CPU only where there is no ACPI.
            if !context.oracle {
                add("machine microvm", on("microvm"), Pack::Plain, alive());
                let qboot = on("microvm,acpi=off").append("reboot=t");
                add("machine microvm without ACPI", qboot, Pack::Plain, alive());
            }
            add("machine pc", on("pc"), Pack::Plain, alive());
            for cpu in ["qemu64", "Nehalem", "EPYC", "Skylake-Server", "max,la57=off"] {
                add(&format!("CPU {cpu}"), with_cpu(cpu), Pack::Plain, alive());
            }
            let iommu = base().args(["-device", "intel-iommu,intremap=on,eim=on"]);
            add("x2APIC through an IOMMU", iommu, Pack::Plain, alive());
        }
        Arch::Aarch64 => {
            let gicv2 = Machine { smp: "4".into(), ..on("virt,gic-version=2") };
            add("machine virt with GICv2", gicv2, Pack::Plain, alive());
            add(
                "machine virt entered at EL2",
                on("virt,gic-version=3,virtualization=on"),
                Pack::Plain,
                alive(),
            );
            add("machine virt with MTE", on("virt,gic-version=3,mte=on"), Pack::Plain, alive());
            for cpu in ["cortex-a53", "cortex-a72", "neoverse-n1"] {
                add(&format!("CPU {cpu}"), with_cpu(cpu), Pack::Plain, alive());
            }
        }
    }
}

/// Boot parameters.
fn add_parameters(base: &impl Fn() -> Machine, add: &mut impl FnMut(&str, Machine, Pack, Expect)) {
    let mut prints = |words: &str, command, expected: &str| {
        let machine = base().append(words);
        add(words, machine, Pack::Plain, Expect::Prints(command, expected.into()));
    };
    prints("maxcpus=1", "nproc; cat /sys/devices/system/cpu/possible", "1\n0-3\n");
    prints("maxcpus=2", "nproc", "2\n");
    prints("nr_cpus=2", "nproc; cat /sys/devices/system/cpu/possible", "2\n0-1\n");
    prints("nosmp", "nproc", "1\n");
    let small = "awk '/MemTotal/ { print ($2 > 100000 && $2 < 262144) }' /proc/meminfo";
    prints("mem=256M", small, "1\n");
    for words in ["preempt=none", "preempt=voluntary", "preempt=full", "nokaslr", "debug"] {
        prints(words, "echo alive; nproc", "alive\n4\n");
    }
    let words = "myvar=value unknownword -- last";
    let command = "tr '\\0' '\\n' < /proc/1/environ | grep myvar; tr '\\0' '\\n' < /proc/1/cmdline | grep -e unknown -e last";
    prints(words, command, "myvar=value\nunknownword\nlast\n");
    prints("ro", "cat /proc/cmdline | grep -c ' ro'", "1\n");
}

fn boot(context: &Context, case: &Case) -> Result<Result<(), String>> {
    let mut machine = case.machine.clone();
    let command = match &case.expect {
        Expect::Prints(command, _) => command,
        Expect::Says(_) => "echo should not run",
    };
    let initrd = pack(context, case.pack, command)?;
    machine.initrd = Some(initramfs::write(context.arch, "matrix.cpio", &initrd)?);
    match &case.expect {
        Expect::Prints(_, expected) => {
            // "debug" is the opposite of quiet, and "--" ends what the kernel reads.
            machine.append = format!("{} {}", initramfs::exec_append(), machine.append);
            let mut output = Vec::new();
            let status = run::capture(&machine, LIMIT, &mut output)?;
            let text = String::from_utf8_lossy(&output).into_owned();
            Ok(match status {
                Some(0) if text == *expected => Ok(()),
                Some(status) => Err(format!(
                    "exit status {status}, printed {text:?}, expected {expected:?}: {}",
                    tail(&run::console_text(&machine)?)
                )),
                None => Err(format!("did not get there: {}", tail(&run::console_text(&machine)?))),
            })
        }
        Expect::Says(texts) => {
            let mut session = machine.start(LIMIT)?;
            if context.verbose {
                session.echo();
            }
            let ended = session.finish()?;
            let log = session.text();
            if !texts.iter().any(|text| log.contains(text)) {
                return Ok(Err(format!("does not say {:?}: {}", texts[0], tail(&log))));
            }
            Ok(ended.map(drop).ok_or_else(|| "the machine did not end".to_string()))
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n    ")
}

/// An initramfs that runs `command`, packed as asked.
fn pack(context: &Context, pack: Pack, command: &str) -> Result<Vec<u8>> {
    let base = || -> Result<Vec<u8>> { Ok(initramfs::busybox_root(context.arch)?.finish()) };
    let overlay = || initramfs::exec_overlay(context.arch, command);
    Ok(match pack {
        Pack::Plain => [base()?, overlay()?].concat(),
        Pack::All(compression) => compress(&[base()?, overlay()?].concat(), compression)?,
        Pack::Mixed(first, second) => {
            let mut bytes = compress(&base()?, first)?;
            bytes.resize(bytes.len().next_multiple_of(512) + 512, 0);
            bytes.extend(compress(&overlay()?, second)?);
            bytes
        }
        Pack::Raw(bytes) => bytes.to_vec(),
        Pack::Truncated => {
            let mut bytes = compress(&base()?, Compression::Gzip)?;
            bytes.truncate(bytes.len() / 2);
            bytes
        }
        Pack::NoInit => base()?,
        Pack::InitEnds => one_file("init", b"#!/bin/sh\nexit 3\n", base()?),
        // Without a shell, which the kernel would fall back to.
        Pack::InitBad => one_file("init", b"\x7fELF and nothing more", Vec::new()),
    })
}

fn one_file(name: &str, content: &[u8], base: Vec<u8>) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.file(name, 0o755, content);
    [base, archive.finish()].concat()
}
