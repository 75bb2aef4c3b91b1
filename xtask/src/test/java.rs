//! Debian's Java virtual machine, with its default collector and with the serial one.
//!
//! `tests/programs/Hello.java` is compiled here; what the build machine lacks and apt cannot install is a visible skip.
//! The packages are not installed but unpacked, so there is no archive of preloaded classes: the virtual machine starts
//! from nothing, and compiles with its quick compiler only, which is what an emulated processor has time for.

use super::{Context, Report};
use crate::{initramfs, paths, proc, programs, run, setup};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

/// The ways to run, and the options of each.
const WAYS: [(&str, &str); 2] = [("java", ""), ("java serial", "-XX:+UseSerialGC")];

/// What the program prints.
const ANSWER: &str = "hello\njava: ok\nstatus 0\n";

/// Runs the program both ways.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    if !context.wants(&format!("{} java", context.label())) {
        return Ok(());
    }
    let arch = context.arch;
    let mut archive = initramfs::busybox_root(arch)?;
    archive.directory("test", 0o755);
    let packages = ["openjdk-17-jre-headless"];
    let prepared = compile().and_then(|classes| {
        for class in ["Hello.class", "Hello$Point.class"] {
            archive.file(&format!("test/{class}"), 0o644, &std::fs::read(classes.join(class))?);
        }
        programs::add(arch, &mut archive, &packages, &["libgcc_s.so.1"])
    });
    if let Err(why) = prepared {
        let why = format!("{why:#}");
        report.skip(&format!("{} java", context.label()), why.lines().next().unwrap_or_default());
        return Ok(());
    }
    let mut command = String::from("/bin/busybox --install -s\n");
    for (title, options) in WAYS {
        command.push_str(&format!(
            "echo '== {title}'; /usr/lib/jvm/java-17-openjdk-{}/bin/java -Xmx64m -XX:TieredStopAtLevel=1 {options} \
             -cp /test Hello 2>&1; echo \"status $?\"\n",
            arch.debian()
        ));
    }
    let base = initramfs::write(arch, "java.cpio", &archive.finish())?;
    let initrd = initramfs::exec(arch, &base, &command)?;
    let mut machine = context.machine().initrd(initrd).append(initramfs::exec_append());
    machine.memory = "1G".into();
    let mut output = Vec::new();
    run::capture(&machine, LIMIT, &mut output)?;
    let text = String::from_utf8_lossy(&output).into_owned();
    for (title, _) in WAYS {
        let name = format!("{} {title}", context.label());
        match text.split("== ").find_map(|part| part.strip_prefix(&format!("{title}\n"))) {
            Some(ANSWER) => report.pass(&name),
            Some(section) => report.fail(&name, section),
            None => report.fail(&name, "was not reached"),
        }
    }
    Ok(())
}

/// Compiles the program; where its classes are.
fn compile() -> Result<PathBuf> {
    setup::program("javac", "openjdk-17-jdk-headless")?;
    let folder = paths::directory(paths::target().join("karst").join("java"))?;
    let mut command = Command::new("javac");
    command.args(["--release", "17", "-d"]).arg(&folder);
    proc::run_quiet(command.arg(paths::root().join("tests/programs/Hello.java")))?;
    Ok(folder)
}
