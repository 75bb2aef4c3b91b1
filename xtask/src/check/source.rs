//! Rules on the source text: unsafe code, architecture conditions, unfinished code, lints.

use super::{layers, lexer};
use anyhow::{Context, Result};
use cargo_metadata::camino::{Utf8Path, Utf8PathBuf};
use cargo_metadata::{Metadata, Package};

/// Directories whose crates make up the trusted base: the only ones that may hold `unsafe`.
const TRUSTED: [&str; 6] = ["arch", "boot", "lib/sync", "lib/collections", "sched", "mm"];

/// Folders where the architecture may be asked for; programs and tools are built for one too.
const KNOWS_CPU: [&str; 4] = ["arch", "boot", "tests", "xtask"];

/// Folders of programs that are no part of the kernel.
const PROGRAMS: [&str; 2] = ["tests", "xtask"];

/// Words that mark unfinished code. Split, so that this file does not find itself.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("XX", "X:"),
];

/// What breaks the rules.
pub fn check(metadata: &Metadata) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        check_package(&metadata.workspace_root, package, &mut findings)?;
    }
    Ok(findings)
}

fn check_package(root: &Utf8Path, package: &Package, findings: &mut Vec<String>) -> Result<()> {
    let Some(directory) = package.manifest_path.parent() else {
        return Ok(());
    };
    let relative = directory.strip_prefix(root).unwrap_or(directory);
    let folder = layers::folder(root, &package.manifest_path).unwrap_or_default();
    let program = PROGRAMS.contains(&folder);
    let trusted = program || TRUSTED.iter().any(|path| relative == Utf8Path::new(path));

    let manifest = read(&package.manifest_path)?;
    if !manifest.contains("[lints]\nworkspace = true") {
        findings.push(format!("{relative}/Cargo.toml: does not take the workspace's lints"));
    }
    if !trusted {
        for target in package.targets.iter().filter(|t| t.is_lib() || t.is_bin()) {
            let text = read(&target.src_path)?;
            // The kernel's binary exports the entry symbol, an attribute that counts as unsafe; it has no code.
            if !text.contains("#![forbid(unsafe_code)]") && !target.src_path.ends_with("kernel/src/main.rs") {
                let path = target.src_path.strip_prefix(root).unwrap_or(&target.src_path);
                findings.push(format!("{path}:1: lacks #![forbid(unsafe_code)]"));
            }
        }
    }
    for path in rust_files(directory)? {
        let text = read(&path)?;
        let code = lexer::code_only(&text);
        let shown = path.strip_prefix(root).unwrap_or(&path);
        for (number, (line, code)) in text.lines().zip(code.lines()).enumerate() {
            let mut found = |what: &str| findings.push(format!("{shown}:{}: {what}", number + 1));
            if !trusted && lexer::has_word(code, "unsafe") {
                found("unsafe code outside of the trusted base");
            }
            if !KNOWS_CPU.contains(&folder) && lexer::has_word(code, "target_arch") {
                found("target_arch outside of arch/ and boot/");
            }
            if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
                found(&format!("unfinished code ({word})"));
            }
        }
    }
    Ok(())
}

/// All Rust files of a package, except those of packages nested in it.
fn rust_files(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(current) = pending.pop() {
        for entry in current.read_dir_utf8().with_context(|| format!("read {current}"))? {
            let path = entry?.into_path();
            if path.is_dir() {
                let skipped = path.join("Cargo.toml").is_file() || path.file_name() == Some("target");
                if !skipped {
                    pending.push(path);
                }
            } else if path.extension() == Some("rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Utf8Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {path}"))
}
