//! File systems on disks: what Linux wrote, Karst finds, on each kind of disk, and `e2fsck` has nothing against it. With `--oracle`
//! Linux does both: that shows that the script is right.

use super::{Context, Report};
use crate::arch::Arch;
use crate::qemu::Machine;
use crate::{debian, initramfs, paths, proc, run, setup};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);
/// Bytes of an image.
const SIZE: u64 = 256 << 20;

/// A way to attach a disk.
struct Kind {
    name: &'static str,
    /// What it is called in the guest.
    device: &'static str,
    /// QEMU's `-device` arguments.
    arguments: &'static [&'static str],
}

const KINDS: [Kind; 4] = [
    Kind { name: "virtio-blk", device: "vda", arguments: &["virtio-blk-pci,drive=disk"] },
    Kind {
        name: "virtio-scsi",
        device: "sda",
        arguments: &["virtio-scsi-pci,id=scsi", "scsi-hd,drive=disk,bus=scsi.0"],
    },
    Kind { name: "nvme", device: "nvme0n1", arguments: &["nvme,serial=karst,drive=disk"] },
    Kind { name: "ahci", device: "sda", arguments: &["ich9-ahci,id=sata", "ide-hd,drive=disk,bus=sata.0"] },
];

/// Who writes, or only looks.
#[derive(Clone, Copy)]
enum Turn {
    Write,
    Check,
}

/// Runs them.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    for program in ["mke2fs", "e2fsck"] {
        setup::program(program, "e2fsprogs")?;
    }
    let script = std::fs::read(paths::root().join("tests/qemu/disk.sh"))?;
    let image = paths::output(context.arch)?.join(context.file_name("disk.img"));
    let mut written = false;
    for kind in &KINDS {
        let name = format!("{} ext4 on {}", context.label(), kind.name);
        if !context.wants(&name) {
            continue;
        }
        let turn = |linux: bool, kind: &Kind, turn: Turn| {
            boot(context, &script, kind, &image, linux, turn)
                .and_then(|()| check(&image))
                .with_context(|| format!("{}'s turn", if linux { "Linux" } else { "Karst" }))
        };
        let mut run = || {
            if !written || context.oracle {
                make(&image)?;
                turn(true, if context.oracle { kind } else { &KINDS[0] }, Turn::Write)?;
                written = true;
            }
            turn(context.oracle, kind, Turn::Check)
        };
        match run() {
            Ok(()) => report.pass(&name),
            Err(error) => report.fail(&name, &format!("{error:#}")),
        }
    }
    Ok(())
}

/// Makes an empty file system.
fn make(image: &Path) -> Result<()> {
    let _ = std::fs::remove_file(image);
    std::fs::File::create(image)?.set_len(SIZE)?;
    proc::run_quiet(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(image))?;
    Ok(())
}

/// Looks whether the file system is sound, and changes nothing.
fn check(image: &Path) -> Result<()> {
    let output = Command::new("e2fsck").args(["-f", "-n"]).arg(image).output()?;
    if output.status.success() {
        return Ok(());
    }
    bail!("e2fsck: {}", String::from_utf8_lossy(&output.stdout));
}

fn kernel(context: &Context, linux: bool) -> Result<PathBuf> {
    if linux { debian::linux(context.arch) } else { Ok(context.kernel.clone()) }
}

fn boot(context: &Context, script: &[u8], kind: &Kind, image: &Path, linux: bool, turn: Turn) -> Result<()> {
    let arch: Arch = context.arch;
    let mut archive = initramfs::busybox_root(arch)?;
    archive.directory("test", 0o755).file("test/disk.sh", 0o644, script);
    if linux {
        initramfs::add_modules(&mut archive, &debian::modules(arch)?);
    }
    let label = if linux { "linux-disk" } else { "disk" };
    let base = initramfs::write(arch, &format!("{label}.cpio"), &archive.finish())?;
    let word = match turn {
        Turn::Write => "write",
        Turn::Check => "check",
    };
    let command = format!("/bin/busybox --install -s; sh /test/disk.sh {word} {} ext4 2>&1", kind.device);
    let initrd = initramfs::exec(arch, &base, &command)?;
    let mut machine = Machine::new(arch, kernel(context, linux)?)
        .initrd(initrd)
        .append(initramfs::exec_append())
        .args(["-drive", &format!("file={},if=none,id=disk,format=raw,cache=writeback", image.display())]);
    if linux {
        machine = machine.append("no_timer_check");
    }
    for argument in kind.arguments {
        machine = machine.args(["-device", argument]);
    }
    let mut output = Vec::new();
    let status = run::capture(&machine, LIMIT, &mut output)?;
    let text = String::from_utf8_lossy(&output);
    let kept = paths::output(arch)?.join(format!("{label}.out"));
    std::fs::write(&kept, &output)?;
    if status != Some(0) || !text.contains(&format!("{word}: done")) {
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        bail!("{word} ended with {status:?}: {}", tail.into_iter().rev().collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}
