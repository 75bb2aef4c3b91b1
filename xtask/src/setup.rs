//! Getting what the machine lacks: Rust targets through rustup, programs through apt.
//!
//! Every function is a no-op when the thing is there. apt is used only as root and only on a
//! Debian system; otherwise the caller gets one line that says what to install.

use crate::arch::Arch;
use crate::proc;
use crate::ui::Step;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// Makes sure that the Rust target `triple` is installed.
pub fn rust_target(triple: &str) -> Result<()> {
    let sysroot = proc::run_quiet(Command::new("rustc").args(["--print", "sysroot"]))?;
    let sysroot = String::from_utf8_lossy(&sysroot).trim().to_string();
    if Path::new(&sysroot).join("lib/rustlib").join(triple).join("lib").is_dir() {
        return Ok(());
    }
    if proc::find("rustup").is_none() {
        bail!("Rust target {triple} is missing: run `rustup target add {triple}`");
    }
    let step = Step::new(format!("rustup target add {triple}"));
    proc::run_quiet(Command::new("rustup").args(["target", "add", triple]))?;
    step.finish("installed");
    Ok(())
}

/// Makes sure that QEMU for `arch` is installed.
pub fn qemu(arch: Arch) -> Result<()> {
    if proc::find(arch.qemu()).is_some() {
        return Ok(());
    }
    // Debian 12: QEMU 10 is in bookworm-backports, and where a backports qemu-utils is already
    // installed the older qemu-system packages do not install beside it.
    if debian_codename().as_deref() == Some("bookworm") && may_install() {
        enable_backports()?;
        return apt_install(&["-t", "bookworm-backports", arch.qemu_package()], arch.qemu());
    }
    apt_install(&[arch.qemu_package()], arch.qemu())
}

/// Makes sure that `program` is there, from Debian's `packages` (separated by spaces).
pub fn program(program: &str, packages: &str) -> Result<()> {
    if proc::find(program).is_some() {
        return Ok(());
    }
    apt_install(&packages.split(' ').collect::<Vec<_>>(), program)
}

/// Makes sure that the file `path` of Debian's `package` is there.
pub fn file(path: &str, package: &str) -> Result<()> {
    if Path::new(path).exists() {
        return Ok(());
    }
    apt_install(&[package], path)
}

/// Makes apt know the packages of `arch`.
pub fn apt_architecture(arch: Arch) -> Result<()> {
    let list = proc::run_quiet(Command::new("dpkg").arg("--print-architecture"))?;
    let foreign = proc::run_quiet(Command::new("dpkg").arg("--print-foreign-architectures"))?;
    let known = [list, foreign].concat();
    if String::from_utf8_lossy(&known).lines().any(|line| line == arch.debian()) {
        return Ok(());
    }
    if !is_root() {
        let name = arch.debian();
        bail!("run as root: dpkg --add-architecture {name} && apt-get update");
    }
    proc::run_quiet(Command::new("dpkg").args(["--add-architecture", arch.debian()]))?;
    apt_update()
}

/// `apt-get update`, when we may.
pub fn apt_update() -> Result<()> {
    if !is_root() {
        bail!("run as root: apt-get update");
    }
    let step = Step::new("apt-get update");
    proc::run_quiet(Command::new("apt-get").args(["update", "-qq"]))?;
    step.finish("done");
    Ok(())
}

fn apt_install(packages: &[&str], program: &str) -> Result<()> {
    if !may_install() {
        let hint = packages.join(" ");
        bail!("{program} is missing: install it (Debian: apt-get install {hint})");
    }
    let step = Step::new(format!("apt-get install {}", packages.join(" ")));
    let install = || {
        proc::run_quiet(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["install", "-y", "-qq", "--no-install-recommends"])
                .args(packages),
        )
    };
    if install().is_err() {
        apt_update()?;
        install().with_context(|| format!("{program} is missing"))?;
    }
    step.finish("installed");
    Ok(())
}

fn enable_backports() -> Result<()> {
    let policy = proc::run_quiet(Command::new("apt-cache").arg("policy"))?;
    if String::from_utf8_lossy(&policy).contains("bookworm-backports") {
        return Ok(());
    }
    // The mirror and keyring of the suite that is already trusted.
    let sources = std::fs::read_to_string("/etc/apt/sources.list.d/debian.sources");
    let uri = sources
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("URIs:"))?;
            Some(line.trim_start_matches("URIs:").trim().to_string())
        })
        .context(
            "no mirror in /etc/apt/sources.list.d/debian.sources: add bookworm-backports to apt by hand",
        )?;
    let line = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {uri} bookworm-backports main\n"
    );
    std::fs::write("/etc/apt/sources.list.d/bookworm-backports.list", line)
        .context("add bookworm-backports to apt's sources")?;
    apt_update()
}

fn may_install() -> bool {
    is_root() && proc::find("apt-get").is_some()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn debian_codename() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find(|line| line.starts_with("VERSION_CODENAME="))?;
    Some(line.trim_start_matches("VERSION_CODENAME=").trim_matches('"').to_string())
}
