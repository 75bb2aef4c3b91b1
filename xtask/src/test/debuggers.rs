//! Debian's strace and gdb, with their libraries: a script whose output must equal Linux's.
//!
//! `tests/qemu/debuggers-ARCH.expected` is what Linux 6.12 printed: `--oracle --bless` records it, `--oracle` checks that
//! it still does. The program that gdb looks into is compiled here; without a compiler the part is a visible skip.

use super::{Context, Report, busybox, languages};
use crate::arch::Arch;
use crate::{initramfs, paths, proc, programs, run, setup};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(900);

/// Runs the script.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let name = format!("{} debuggers", context.label());
    if !context.wants(&name) {
        return Ok(());
    }
    let arch = context.arch;
    let expected = paths::root().join(format!("tests/qemu/debuggers-{arch}.expected"));
    if !context.bless && !expected.is_file() {
        report.skip(&name, "nothing was recorded yet: --oracle --bless does");
        return Ok(());
    }
    let program = match compile(arch) {
        Ok(program) => program,
        Err(why) => {
            report.skip(&name, format!("{why:#}").lines().next().unwrap_or_default());
            return Ok(());
        }
    };
    let folder = paths::root().join("tests/qemu");
    let mut archive = initramfs::busybox_root(arch)?;
    archive.directory("test", 0o755);
    archive.file("test/debuggers.sh", 0o644, &std::fs::read(folder.join("debuggers.sh"))?);
    archive.file("test/debuggee", 0o755, &std::fs::read(&program)?);
    archive.file("test/debuggee.c", 0o644, &std::fs::read(source())?);
    // gdb opens the first by name; the second is what cancels a thread.
    let also = ["libthread_db.so.1", "libgcc_s.so.1"];
    programs::add(arch, &mut archive, &["strace", "gdb-minimal"], &also)?;
    let base = initramfs::write(arch, "debuggers.cpio", &archive.finish())?;
    let command = "/bin/busybox --install -s; sh /test/debuggers.sh 2>&1";
    let initrd = initramfs::exec(arch, &base, command)?;
    let mut machine = context.machine().initrd(initrd).append(initramfs::exec_append());
    machine.memory = "1G".into();
    if arch == Arch::Aarch64 {
        // gdb knows the debug registers of Armv8.2 and 8.4, and takes those of later processors for none.
        machine.cpu = "neoverse-n1".into();
    }

    let mut output = Vec::new();
    let status = run::capture(&machine, LIMIT, &mut output)?;
    let kept = paths::output(arch)?.join(context.file_name("debuggers.out"));
    std::fs::write(&kept, &output)?;
    if status != Some(0) {
        report.fail(&name, &format!("did not end well ({status:?}); output: {}", kept.display()));
        return Ok(());
    }
    busybox::compare(context, report, &name, &output, expected)
}

fn source() -> PathBuf {
    paths::root().join("tests/programs/debuggee.c")
}

/// Compiles the program with debug information whose paths are those of the guest.
fn compile(arch: Arch) -> Result<PathBuf> {
    let gcc = languages::glibc_compiler(arch);
    setup::program(gcc.program, gcc.package)?;
    setup::file(gcc.library, gcc.library_package)?;
    let output = paths::directory(paths::output(arch)?.join("programs"))?.join("debuggee");
    let folder = paths::root().join("tests/programs");
    let mut command = Command::new(gcc.program);
    command.args(["-g", "-O0", "-Wall", "-pthread"]);
    command.arg(format!("-ffile-prefix-map={}=/test", folder.display()));
    command.arg("-o").arg(&output).arg(source());
    proc::run_quiet(&mut command)?;
    Ok(output)
}
