//! Debian's own binaries for the guest: busybox-static and Linux 6.12, unmodified.
//!
//! Packages are downloaded with `apt-get download` and unpacked with `dpkg -x` below
//! `target/debian/`; nothing is installed on the build machine.

use crate::arch::Arch;
use crate::ui::Step;
use crate::{image, paths, proc, setup};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of busybox-static of `arch`, fetched if need be.
pub fn busybox(arch: Arch) -> Result<PathBuf> {
    let dir = fetch(arch, "busybox-static")?;
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| dir.join(path))
        .find(|path| path.is_file())
        .context("no busybox in Debian's busybox-static")
}

/// Unpacks Debian package `package` of `arch` and returns the directory it was unpacked into.
pub fn fetch(arch: Arch, package: &str) -> Result<PathBuf> {
    fetch_all(arch, &[package.to_string()])?;
    directory(arch, package)
}

/// Where Debian package `package` of `arch` is unpacked.
pub fn directory(arch: Arch, package: &str) -> Result<PathBuf> {
    Ok(paths::downloads()?.join(format!("{package}_{}", arch.debian())))
}

/// Unpacks `packages` of `arch`, those that are not there yet. One download for all: apt takes long to start.
pub fn fetch_all(arch: Arch, packages: &[String]) -> Result<()> {
    let mut missing = Vec::new();
    for package in packages {
        if !directory(arch, package)?.join(".complete").is_file() {
            missing.push(package.as_str());
        }
    }
    let Some(first) = missing.first() else { return Ok(()) };
    let common = of_all_architectures(&missing);
    let full: Vec<String> = missing
        .iter()
        .map(|name| match common.contains(*name) {
            true => name.to_string(),
            false => format!("{name}:{}", arch.debian()),
        })
        .collect();
    if proc::find("apt-get").is_none() || proc::find("dpkg").is_none() {
        let places = directory(arch, first)?;
        bail!(
            "put Debian's {} unpacked into {} and its like (and an empty file .complete)",
            full.join(", "),
            places.display()
        );
    }
    setup::apt_architecture(arch)?;
    let what = if full.len() == 1 { full.join("") } else { format!("{} packages", full.len()) };
    let step = Step::new(format!("download {what}"));
    let work = paths::downloads()?.join(format!(".{first}_{}", arch.debian()));
    if work.is_dir() {
        std::fs::remove_dir_all(&work)?;
    }
    let work = paths::directory(work)?;
    if download(&work, &full).is_err() {
        setup::apt_update()?;
        download(&work, &full)?;
    }
    let files: Vec<PathBuf> =
        std::fs::read_dir(&work)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    for package in missing {
        let prefix = format!("{package}_");
        let deb = files
            .iter()
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
            .with_context(|| format!("apt-get download {package} left no package"))?;
        let dir = paths::directory(directory(arch, package)?)?;
        proc::run_quiet(Command::new("dpkg").arg("-x").arg(deb).arg(&dir))?;
        std::fs::write(dir.join(".complete"), "")?;
    }
    std::fs::remove_dir_all(&work)?;
    step.finish("done");
    Ok(())
}

/// Those of `packages` that are the same for all architectures: apt does not know them by the name of one.
fn of_all_architectures(packages: &[&str]) -> BTreeSet<String> {
    let text = Command::new("apt-cache").args(["show", "--no-all-versions"]).args(packages).output();
    let text = text.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut found = BTreeSet::new();
    for stanza in text.split("\n\n") {
        let field = |name| stanza.lines().find_map(|line| line.strip_prefix(name));
        if let (Some(package), Some("all")) = (field("Package: "), field("Architecture: ")) {
            found.insert(package.to_string());
        }
    }
    found
}

fn download(work: &Path, names: &[String]) -> Result<Vec<u8>> {
    proc::run_quiet(Command::new("apt-get").current_dir(work).args(["download", "-qq"]).args(names))
}

/// Debian's Linux 6.12 for `arch` as it is packaged: a bzImage or an arm64 Image.
pub fn vmlinuz(arch: Arch) -> Result<PathBuf> {
    let kept = paths::downloads()?.join(format!("vmlinuz-{arch}"));
    if kept.is_file() {
        return Ok(kept);
    }
    setup::apt_architecture(arch)?;
    let dir = fetch(arch, &dependency(arch, meta(arch))?)?;
    let vmlinuz = std::fs::read_dir(dir.join("boot"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz")))
        .with_context(|| format!("no kernel in {}", dir.display()))?;
    std::fs::copy(vmlinuz, &kept)?;
    Ok(kept)
}

/// Modules of Debian's Linux 6.12 that tests need there, in the order in which they are loaded. Karst has all of it built in.
const MODULES: [&str; 20] = [
    "crc32c_generic",
    "crc16",
    "mbcache",
    "jbd2",
    "ext4",
    "overlay",
    "loop",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "scsi_common",
    "scsi_mod",
    "virtio_scsi",
    "nvme-core",
    "nvme",
    "libata",
    "libahci",
    "ahci",
    "sd_mod",
];

/// Those of [`MODULES`] that are not built into Debian's kernel of `arch`: names and contents.
pub fn modules(arch: Arch) -> Result<Vec<(String, Vec<u8>)>> {
    let dir = fetch(arch, &dependency(arch, meta(arch))?)?;
    let base =
        ["lib/modules", "usr/lib/modules"].iter().map(|path| dir.join(path)).find(|path| path.is_dir());
    let base = base.with_context(|| format!("no modules in {}", dir.display()))?;
    let release = std::fs::read_dir(&base)?.next().context("no modules of any release")??.path();
    let builtin = std::fs::read_to_string(release.join("modules.builtin"))?;
    let mut files = Vec::new();
    list_files(&release, &mut files)?;
    let stem = |name: &str| name.split(".ko").next().unwrap_or(name).replace('-', "_");
    let mut found = Vec::new();
    for wanted in MODULES {
        let wanted = stem(wanted);
        let is_wanted = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.contains(".ko") && stem(&name) == wanted
            })
        };
        match files.iter().find(is_wanted) {
            Some(path) if path.extension().is_some_and(|end| end == "xz") => {
                setup::program("xz", "xz-utils")?;
                found.push((wanted, proc::filter(Command::new("xz").arg("-dc"), &std::fs::read(path)?)?));
            }
            Some(path) => found.push((wanted, std::fs::read(path)?)),
            None if builtin.lines().any(|line| stem(line.rsplit('/').next().unwrap_or(line)) == wanted) => {}
            None => bail!("Debian's kernel has no module {wanted}"),
        }
    }
    Ok(found)
}

fn list_files(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), into)?;
        } else {
            into.push(entry.path());
        }
    }
    Ok(())
}

/// The package that depends on the newest Linux 6.12.
fn meta(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "linux-image-6.12-cloud-amd64",
        Arch::Aarch64 => "linux-image-6.12-arm64",
    }
}

/// The image of Debian's Linux 6.12 for `arch`, ready for QEMU's `-kernel`.
///
/// On x86_64 that is the ELF file inside the bzImage: booted through its PVH note, as Karst is,
/// Linux starts without decompressing itself.
pub fn linux(arch: Arch) -> Result<PathBuf> {
    let vmlinuz = vmlinuz(arch)?;
    if arch == Arch::Aarch64 {
        return Ok(vmlinuz);
    }
    let image = paths::downloads()?.join(format!("vmlinux-{arch}"));
    if !image.is_file() {
        let bytes = std::fs::read(&vmlinuz)?;
        std::fs::write(&image, decompress(image::bzimage_payload(&bytes)?)?)?;
    }
    Ok(image)
}

/// The kernel package that the meta package `meta` depends on.
fn dependency(arch: Arch, meta: &str) -> Result<String> {
    let query = || -> Result<String> {
        let name = format!("{meta}:{}", arch.debian());
        let output = proc::run_quiet(Command::new("apt-cache").args(["depends", &name]))?;
        let text = String::from_utf8_lossy(&output);
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
            .with_context(|| format!("{name} depends on no kernel"))?;
        let version = line.split(':').next().unwrap_or(line);
        Ok(format!("linux-image-{version}"))
    };
    query().or_else(|_| {
        setup::apt_update()?;
        query()
    })
}

/// Decompresses what a bzImage carries, by the magic number of its format.
fn decompress(payload: &[u8]) -> Result<Vec<u8>> {
    let (program, package) = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", "zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => ("xz", "xz-utils"),
        [0x1f, 0x8b, ..] => ("gzip", "gzip"),
        [0x02, 0x21, 0x4c, 0x18, ..] => ("lz4", "lz4"),
        _ => bail!("the bzImage payload has an unknown compression"),
    };
    setup::program(program, package)?;
    // The last four bytes of the payload are its unpacked size; decompressors call that garbage
    // after the end, so their status is not asked but their output is checked.
    let body = &payload[..payload.len() - if program == "gzip" { 0 } else { 4 }];
    let output = proc::filter(Command::new(program).arg("-dc"), body)?;
    if !output.starts_with(b"\x7fELF") {
        bail!("the bzImage payload is not an ELF file");
    }
    Ok(output)
}
