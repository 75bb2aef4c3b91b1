//! The layer rule: a crate depends only on crates of lower rows, or of its own folder.
//!
//! Inside a folder cargo itself refuses cycles. Development dependencies count too, except on
//! crates of other people.

use cargo_metadata::camino::Utf8Path;
use cargo_metadata::{DependencyKind, Metadata};

/// Folders from the bottom row up.
const ROWS: [&str; 11] =
    ["lib", "arch", "boot", "sched", "mm", "block", "fs", "net", "virt", "drivers", "kernel"];

/// Folders that are no part of the kernel and may use whatever they need.
const OUTSIDE: [&str; 2] = ["xtask", "tests"];

/// What breaks the rule.
pub fn check(metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    let root = &metadata.workspace_root;
    for package in metadata.workspace_packages() {
        let Some(folder) = folder(root, &package.manifest_path) else {
            continue;
        };
        if OUTSIDE.contains(&folder) {
            continue;
        }
        let Some(row) = row(folder) else {
            findings.push(format!("{folder}/: not a folder of the layer table"));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(path) = &dependency.path else {
                continue;
            };
            let Some(other) = folder_of(root, path) else {
                continue;
            };
            let allowed = self::row(other).is_some_and(|below| below < row) || other == folder;
            if !allowed && dependency.kind != DependencyKind::Build {
                findings.push(format!(
                    "{}: {} ({folder}/) must not depend on {} ({other}/)",
                    package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path),
                    package.name,
                    dependency.name,
                ));
            }
        }
    }
    findings
}

/// The first component of a manifest's path below the workspace root.
pub fn folder<'a>(root: &Utf8Path, manifest: &'a Utf8Path) -> Option<&'a str> {
    folder_of(root, manifest.parent()?)
}

fn folder_of<'a>(root: &Utf8Path, directory: &'a Utf8Path) -> Option<&'a str> {
    directory.strip_prefix(root).ok()?.components().next().map(|c| c.as_str())
}

fn row(folder: &str) -> Option<usize> {
    ROWS.iter().position(|name| *name == folder)
}
