//! Debian's programs in an initramfs: the files of packages, unmodified, and every library they ask for.
//!
//! A package is unpacked, not installed: its scripts do not run, so there are no alternatives and no caches. What no
//! program reads (manuals, translations, headers) is left out.

use crate::arch::Arch;
use crate::cpio::Archive;
use crate::{debian, proc, setup};
use anyhow::{Context as _, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the dynamic linker is in the guest, and the folder of the libraries.
pub fn library_places(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::X86_64 => ("lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu"),
        Arch::Aarch64 => ("lib/ld-linux-aarch64.so.1", "lib/aarch64-linux-gnu"),
    }
}

/// What of a package is not copied.
const LEFT_OUT: [&str; 4] = ["usr/share", "usr/include", "usr/lib/valgrind", "usr/src"];

/// Adds the programs of `packages`, and every library that these and the libraries named in `also` ask for.
pub fn add(arch: Arch, archive: &mut Archive, packages: &[&str], also: &[&str]) -> Result<()> {
    setup::program("readelf", "binutils")?;
    setup::apt_architecture(arch)?;
    let mut files = Files { archive, folders: BTreeSet::new(), programs: Vec::new(), names: BTreeSet::new() };
    let packages: Vec<String> = packages.iter().map(|name| name.to_string()).collect();
    debian::fetch_all(arch, &packages)?;
    for package in &packages {
        files.copy(&debian::directory(arch, package)?, Path::new(""))?;
    }
    let (linker, folder) = library_places(arch);
    let mut wanted: BTreeSet<String> = needed(&files.programs)?;
    wanted.extend(also.iter().map(|name| name.to_string()));
    // One step of dependencies at a time, for as long as a library is missing: what no program asks for is not fetched.
    let (mut known, mut step, mut libraries) = (BTreeSet::new(), packages, BTreeMap::new());
    loop {
        while let Some(name) =
            wanted.iter().find(|name| files.names.contains(*name) || libraries.contains_key(*name)).cloned()
        {
            wanted.remove(&name);
            let Some(file) = libraries.get(&name).filter(|_| !files.names.contains(&name)) else { continue };
            wanted.extend(needed(std::slice::from_ref(file))?);
            let place = if linker.ends_with(&name) { linker.to_string() } else { format!("{folder}/{name}") };
            files.folder(Path::new(&place).parent().unwrap_or(Path::new("")));
            files.archive.file(&place, 0o755, &std::fs::read(file)?);
            files.names.insert(name);
        }
        let Some(name) = wanted.first() else { return Ok(()) };
        step = dependencies(arch, &step, &mut known)?;
        if step.is_empty() {
            bail!("no package has {name}");
        }
        debian::fetch_all(arch, &step)?;
        for package in &step {
            collect_libraries(arch, &debian::directory(arch, package)?, &mut libraries)?;
        }
    }
}

/// The archive and what is known of it.
struct Files<'a> {
    archive: &'a mut Archive,
    /// Folders that are there.
    folders: BTreeSet<PathBuf>,
    /// Executables and libraries, where they are on this machine.
    programs: Vec<PathBuf>,
    /// Names of files that are there.
    names: BTreeSet<String>,
}

impl Files<'_> {
    /// Copies what is below `path` of the unpacked package `root`.
    fn copy(&mut self, root: &Path, path: &Path) -> Result<()> {
        let folder = root.join(path);
        let mut entries: Vec<_> = std::fs::read_dir(&folder)
            .with_context(|| format!("read {}", folder.display()))?
            .collect::<std::io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (kind, below) = (entry.file_type()?, path.join(entry.file_name()));
            let name = below.to_string_lossy().into_owned();
            if name == ".complete" || LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            if kind.is_dir() {
                self.folder(&below);
                self.copy(root, &below)?;
                continue;
            }
            self.names.insert(entry.file_name().to_string_lossy().into_owned());
            if kind.is_symlink() {
                let target = std::fs::read_link(entry.path())?;
                self.archive.symlink(&name, &target.to_string_lossy());
            } else if kind.is_file() {
                let (data, mode) = (std::fs::read(entry.path())?, entry.metadata()?.permissions().mode());
                self.archive.file(&name, mode & 0o7777, &data);
                if data.starts_with(b"\x7fELF") {
                    self.programs.push(entry.path());
                }
            } else if !kind.is_fifo() {
                bail!("{} is a special file", entry.path().display());
            }
        }
        Ok(())
    }

    /// Makes the folder `path`.
    fn folder(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || self.folders.contains(path) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.folders.insert(path.to_path_buf());
        // The temporary and the home folder keep the modes that they have.
        if path != Path::new("tmp") && path != Path::new("root") {
            self.archive.directory(&path.to_string_lossy(), 0o755);
        }
    }
}

/// The packages of libraries that `packages` depend on directly and that are not `known` yet.
fn dependencies(arch: Arch, packages: &[String], known: &mut BTreeSet<String>) -> Result<Vec<String>> {
    let mut command = Command::new("apt-cache");
    command.args(["depends", "--important"]);
    command.args(packages.iter().map(|name| format!("{name}:{}", arch.debian())));
    let output = proc::run_quiet(&mut command)?;
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output).lines() {
        let Some((kind, name)) = line.trim().trim_start_matches('|').split_once("Depends: ") else {
            continue;
        };
        let name = name.split(':').next().unwrap_or(name);
        let library = name.starts_with("lib") || name.starts_with("zlib");
        if (kind.is_empty() || kind == "Pre") && library && known.insert(name.to_string()) {
            found.push(name.to_string());
        }
    }
    Ok(found)
}

/// Notes the shared libraries of a package by their names.
fn collect_libraries(arch: Arch, root: &Path, into: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let (_, folder) = library_places(arch);
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

/// The libraries that `files` ask for.
fn needed(files: &[PathBuf]) -> Result<BTreeSet<String>> {
    if files.is_empty() {
        return Ok(BTreeSet::new());
    }
    let output = proc::run_quiet(Command::new("readelf").arg("-d").args(files)).context("readelf -d")?;
    let text = String::from_utf8_lossy(&output);
    let name = |line: &str| Some(line.split_once('[')?.1.split_once(']')?.0.to_string());
    Ok(text.lines().filter(|line| line.contains("(NEEDED)")).filter_map(name).collect())
}
