//! Debian's everyday programs: a script whose output must equal Linux's.
//!
//! `tests/qemu/debian-ARCH.expected` is what Linux 6.12 printed: `--oracle --bless` records it, `--oracle` checks that it
//! still does.

use super::{Context, Report, busybox};
use crate::{debian, initramfs, paths, programs, run};
use anyhow::Result;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(900);

const PACKAGES: [&str; 16] = [
    "bash",
    "bsdextrautils",
    "bsdutils",
    "coreutils",
    "diffutils",
    "grep",
    "htop",
    "mount",
    "ncurses-base",
    "numactl",
    "procps",
    "rt-tests",
    "sed",
    "strace",
    "util-linux",
    "util-linux-extra",
];

/// Runs the script.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let name = format!("{} debian script", context.label());
    if !context.wants(&name) {
        return Ok(());
    }
    let arch = context.arch;
    let folder = paths::root().join("tests/qemu");
    let expected = folder.join(format!("debian-{arch}.expected"));
    if !context.bless && !expected.is_file() {
        report.skip(&name, "nothing was recorded yet: --oracle --bless does");
        return Ok(());
    }
    let mut archive = initramfs::busybox_root(arch)?;
    archive.directory("test", 0o755).directory("mnt", 0o755);
    archive.file("test/debian.sh", 0o644, &std::fs::read(folder.join("debian.sh"))?);
    programs::add(arch, &mut archive, &PACKAGES, &["libgcc_s.so.1"])?;
    if context.oracle {
        initramfs::add_modules(&mut archive, &debian::modules(arch)?);
    }
    let base = initramfs::write(arch, "debian.cpio", &archive.finish())?;
    let command = "bash /test/debian.sh 2>&1";
    let initrd = initramfs::exec(arch, &base, command)?;
    let mut machine = context.machine().initrd(initrd).append(initramfs::exec_append());
    machine.memory = "1G".into();

    let mut output = Vec::new();
    let status = run::capture(&machine, LIMIT, &mut output)?;
    let kept = paths::output(arch)?.join(context.file_name("debian.out"));
    std::fs::write(&kept, &output)?;
    if status != Some(0) {
        report.fail(&name, &format!("did not end well ({status:?}); output: {}", kept.display()));
        return Ok(());
    }
    busybox::compare(context, report, &name, &output, expected)
}
