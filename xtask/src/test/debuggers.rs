//! Debian's strace and gdb, with their libraries: a script whose output must equal Linux's.
//!
//! `tests/qemu/debuggers-ARCH.expected` is what Linux 6.12 printed: `--oracle --bless` records it, `--oracle` checks that
//! it still does. The program that gdb looks into is compiled here; without a compiler the part is a visible skip.

use super::{Context, Report, busybox, languages};
use crate::arch::Arch;
use crate::cpio::Archive;
use crate::{debian, initramfs, paths, proc, run, setup};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(400);

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
    add_programs(arch, &mut archive)?;
    let base = initramfs::write(arch, "debuggers.cpio", &archive.finish())?;
    let command = "/bin/busybox --install -s; sh /test/debuggers.sh 2>&1";
    let initrd = initramfs::exec(arch, &base, command)?;
    let mut machine = context.machine().initrd(initrd).append(initramfs::exec_append());
    machine.memory = "1G".into();

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

/// The packages that `roots` depend on, those among them that hold libraries.
fn closure(arch: Arch, roots: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("apt-cache");
    command.args(["depends", "--recurse", "--important", "--no-pre-depends"]);
    command.args(roots.iter().map(|root| format!("{root}:{}", arch.debian())));
    let output = proc::run_quiet(&mut command)?;
    let text = String::from_utf8_lossy(&output);
    let mut names: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with([' ', '<', '|']))
        .map(|line| line.split(':').next().unwrap_or(line).to_string())
        .filter(|name| name.starts_with("lib") || name.starts_with("zlib"))
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Adds strace and gdb, and every library they ask for.
fn add_programs(arch: Arch, archive: &mut Archive) -> Result<()> {
    setup::program("readelf", "binutils")?;
    let roots = ["strace", "gdb-minimal"];
    setup::apt_architecture(arch)?;
    let mut libraries: BTreeMap<String, PathBuf> = BTreeMap::new();
    for package in closure(arch, &roots)? {
        // What is not needed in the end need not be there.
        if let Ok(folder) = debian::fetch(arch, &package) {
            collect_libraries(arch, &folder, &mut libraries)?;
        }
    }
    let mut wanted = vec!["libthread_db.so.1".to_string(), "libgcc_s.so.1".to_string()];
    for (root, path) in roots.iter().zip(["usr/bin/strace", "usr/bin/gdb"]) {
        let file = debian::fetch(arch, root)?.join(path);
        archive.file(path, 0o755, &std::fs::read(&file)?);
        wanted.extend(needed(&file)?);
    }
    let (linker, folder) = languages::library_places(arch);
    let mut done = std::collections::BTreeSet::new();
    let mut parts = String::new();
    for part in folder.split('/') {
        parts = if parts.is_empty() { part.to_string() } else { format!("{parts}/{part}") };
        archive.directory(&parts, 0o755);
    }
    while let Some(name) = wanted.pop() {
        if !done.insert(name.clone()) {
            continue;
        }
        let Some(file) = libraries.get(&name) else { bail!("no package has {name}") };
        wanted.extend(needed(file)?);
        let place = if linker.ends_with(&name) { linker.to_string() } else { format!("{folder}/{name}") };
        if let Some((parent, _)) = place.rsplit_once('/') {
            archive.directory(parent, 0o755);
        }
        archive.file(&place, 0o755, &std::fs::read(file)?);
    }
    Ok(())
}

/// Notes the shared libraries of a package by their names.
fn collect_libraries(arch: Arch, root: &Path, into: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let (_, folder) = languages::library_places(arch);
    for place in [root.join(folder), root.join("usr").join(folder)] {
        let Ok(entries) = std::fs::read_dir(&place) else { continue };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Links are followed: the name is what programs ask for.
            if name.contains(".so") && entry.path().is_file() {
                into.insert(name, entry.path());
            }
        }
    }
    Ok(())
}

/// The libraries that `file` asks for.
fn needed(file: &Path) -> Result<Vec<String>> {
    let output = proc::run_quiet(Command::new("readelf").arg("-d").arg(file))
        .with_context(|| format!("readelf {}", file.display()))?;
    let text = String::from_utf8_lossy(&output);
    let name = |line: &str| Some(line.split_once('[')?.1.split_once(']')?.0.to_string());
    Ok(text.lines().filter(|line| line.contains("(NEEDED)")).filter_map(name).collect())
}
