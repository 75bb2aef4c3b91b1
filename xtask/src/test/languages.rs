//! Programs of other compilers: C with musl and glibc, static, static-PIE and dynamic; Go.
//!
//! The sources are in `tests/programs`. They are compiled here, with what the build machine has or
//! apt can install; a compiler that cannot be had is a visible skip. (A Rust program with a hundred
//! threads is among the guest tests.)

use super::{Context, Report};
use crate::arch::Arch;
use crate::{debian, initramfs, paths, proc, programs, run, setup};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(240);

/// A program built one way.
struct Program {
    name: &'static str,
    /// What it prints at the end.
    answer: &'static str,
    path: PathBuf,
}

/// Runs the programs.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    if !context.wants(&format!("{} languages", context.label())) && !context.filter.is_empty() {
        return Ok(());
    }
    let built = build(context, report)?;
    let mut archive = initramfs::busybox_root(context.arch)?;
    archive.directory("test", 0o755);
    let mut command = String::from("/bin/busybox --install -s; cd /test\n");
    for program in &built {
        let file = program.name.replace(' ', "-");
        archive.file(&format!("test/{file}"), 0o755, &std::fs::read(&program.path)?);
        command.push_str(&format!("echo '== {}'; ./{file} 2>&1; echo \"status $?\"\n", program.name));
    }
    for (path, library) in shared_libraries(context.arch)? {
        if let Some((folder, _)) = path.rsplit_once('/') {
            archive.directory(folder, 0o755);
        }
        archive.file(&path, 0o755, &library);
    }
    let base = initramfs::write(context.arch, "languages.cpio", &archive.finish())?;
    let initrd = initramfs::exec(context.arch, &base, &command)?;
    let machine = context.machine().initrd(initrd).append(initramfs::exec_append());
    let mut output = Vec::new();
    run::capture(&machine, LIMIT, &mut output)?;
    let text = String::from_utf8_lossy(&output).into_owned();
    for program in &built {
        let name = format!("{} {}", context.label(), program.name);
        let section = text.split("== ").find(|part| part.starts_with(&format!("{}\n", program.name)));
        let expected = format!("{}\n{}\nstatus 0\n", program.name, program.answer);
        match section {
            Some(section) if section == expected => report.pass(&name),
            Some(section) => report.fail(&name, section),
            None => report.fail(&name, "was not reached"),
        }
    }
    Ok(())
}

/// Compiles the programs.
fn build(context: &Context, report: &mut Report) -> Result<Vec<Program>> {
    let arch = context.arch;
    let sources = paths::root().join("tests/programs");
    let folder = paths::directory(paths::output(arch)?.join("programs"))?;
    let mut programs = Vec::new();
    let mut add = |name: &'static str, answer, report: &mut Report, make: &dyn Fn(&Path) -> Result<()>| {
        let path = folder.join(name.replace(' ', "-"));
        match make(&path) {
            Ok(()) => programs.push(Program { name, answer, path }),
            Err(why) => {
                let why = format!("{why:#}");
                let first = why.lines().next().unwrap_or_default();
                report.skip(&format!("{} {name}", context.label()), first);
            }
        }
    };
    let gcc = glibc_compiler(arch);
    let source = sources.join("libc.c");
    let glibc = |flags: &[&str], output: &Path| -> Result<()> {
        setup::program(gcc.program, gcc.package)?;
        setup::file(gcc.library, gcc.library_package)?;
        let mut command = Command::new(gcc.program);
        command.args(["-O2", "-Wall", "-pthread"]).args(flags).arg("-o").arg(output);
        proc::run_quiet(command.arg(&source).arg("-lm"))?;
        Ok(())
    };
    add("c musl static", "libc: ok", report, &|out| musl(arch, &gcc, &source, out));
    add("c glibc static", "libc: ok", report, &|out| glibc(&["-static"], out));
    add("c glibc static-pie", "libc: ok", report, &|out| glibc(&["-static-pie", "-fPIE"], out));
    add("c glibc dynamic", "libc: ok", report, &|out| glibc(&[], out));
    add("go goroutines", "go: ok", report, &|out| {
        setup::program("go", "golang-go")?;
        let mut command = Command::new("go");
        command.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(out);
        command.arg(sources.join("goroutines.go"));
        command.env("GOARCH", arch.go()).env("GOOS", "linux").env("CGO_ENABLED", "0");
        command.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local");
        command.env("GOCACHE", paths::target().join("go-cache"));
        proc::run_quiet(&mut command)?;
        Ok(())
    });
    Ok(programs)
}

/// A C compiler with glibc, and what it takes to have it.
pub struct Compiler {
    /// Its name.
    pub program: &'static str,
    /// The package that has it.
    pub package: &'static str,
    /// A file of the C library for programs to link with, and the package that has it.
    pub library: &'static str,
    /// See `library`.
    pub library_package: &'static str,
}

/// The compiler for `arch`.
pub fn glibc_compiler(arch: Arch) -> Compiler {
    let (program, package, library, library_package) = match arch {
        Arch::X86_64 if Arch::host() == Some(arch) => {
            ("gcc", "gcc", "/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev")
        }
        Arch::Aarch64 if Arch::host() == Some(arch) => {
            ("gcc", "gcc", "/usr/lib/aarch64-linux-gnu/libc.a", "libc6-dev")
        }
        Arch::X86_64 => (
            "x86_64-linux-gnu-gcc",
            "gcc-x86-64-linux-gnu",
            "/usr/x86_64-linux-gnu/lib/libc.a",
            "libc6-dev-amd64-cross",
        ),
        Arch::Aarch64 => (
            "aarch64-linux-gnu-gcc",
            "gcc-aarch64-linux-gnu",
            "/usr/aarch64-linux-gnu/lib/libc.a",
            "libc6-dev-arm64-cross",
        ),
    };
    Compiler { program, package, library, library_package }
}

/// Compiles a static program with musl: Debian's `musl-dev` of the guest's architecture, unpacked, under the glibc
/// compiler. (Its `musl-gcc` is for the build machine's own architecture only.)
fn musl(arch: Arch, gcc: &Compiler, source: &Path, output: &Path) -> Result<()> {
    setup::program(gcc.program, gcc.package)?;
    let (root, name) = (debian::fetch(arch, "musl-dev")?, arch.name());
    let library = root.join(format!("usr/lib/{name}-linux-musl"));
    let part = |file: &str| library.join(file);
    let mut command = Command::new(gcc.program);
    command.args(["-O2", "-Wall", "-nostdinc", "-nostdlib", "-static", "-no-pie", "-isystem"]);
    command.arg(root.join(format!("usr/include/{name}-linux-musl"))).arg("-o").arg(output);
    command.args([part("crt1.o"), part("crti.o")]).arg(source).arg(part("libc.a"));
    command.args(["-lgcc", "-lgcc_eh"]).args([part("libc.a"), part("crtn.o")]);
    proc::run_quiet(&mut command)?;
    Ok(())
}

/// The dynamic linker and the C library of Debian, as paths in the guest with their contents.
fn shared_libraries(arch: Arch) -> Result<Vec<(String, Vec<u8>)>> {
    let package = debian::fetch(arch, "libc6")?;
    let (linker, folder) = programs::library_places(arch);
    let read = |path: &str| {
        let file = package.join(path);
        std::fs::read(&file).with_context(|| format!("read {}", file.display()))
    };
    let real_linker = linker.rsplit('/').next().unwrap_or(linker);
    let linker_bytes = read(linker).or_else(|_| read(&format!("{folder}/{real_linker}")))?;
    let mut files = vec![(linker.to_string(), linker_bytes)];
    for name in ["libc.so.6", "libm.so.6"] {
        files.push((format!("{folder}/{name}"), read(&format!("{folder}/{name}"))?));
    }
    // pthread_cancel loads the unwinder.
    let unwinder = format!("{folder}/libgcc_s.so.1");
    let bytes = std::fs::read(debian::fetch(arch, "libgcc-s1")?.join(&unwinder))?;
    files.push((unwinder, bytes));
    Ok(files)
}
