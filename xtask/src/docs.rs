//! `cargo xtask docs`: the generated parts of the documentation, and its links.
//!
//! Generated from the source: `docs/src/syscalls.md`, and the count between two marks in the README. A call is
//! *declared* if some function in `kernel/` carries its `#[syscall(NAME)]`; all calls there are in
//! `lib/abi/src/nr.rs`. Checked: every relative link in the README and in `docs/` leads to a file, and every page is in
//! `SUMMARY.md`.

use crate::paths;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const COUNT_BEGIN: &str = "<!-- syscalls -->";
const COUNT_END: &str = "<!-- /syscalls -->";

/// Options of `cargo xtask docs`.
#[derive(clap::Args)]
pub struct Args {
    /// Change nothing, fail if a generated part is out of date
    #[arg(long)]
    check: bool,
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    let root = paths::root();
    let calls = calls(&root)?;
    let declared = calls.iter().filter(|call| call.file.is_some()).count();
    let mut findings = Vec::new();

    let readme = root.join("README.md");
    let text = read(&readme)?;
    let counted = between(&text, &format!("{declared} of {}", calls.len()))
        .with_context(|| format!("README.md lacks {COUNT_BEGIN}"))?;
    update(args, &readme, &text, &counted, &mut findings)?;
    let list = root.join("docs/src/syscalls.md");
    let old = std::fs::read_to_string(&list).unwrap_or_default();
    update(args, &list, &old, &page(&calls, declared), &mut findings)?;

    let mut pages = files(&root.join("docs/src"), "md")?;
    let summary = read(&root.join("docs/src/SUMMARY.md"))?;
    for page in &pages {
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        if name != "SUMMARY.md" && !summary.contains(&format!("({name})")) {
            findings.push(format!("docs/src/SUMMARY.md: {name} is missing"));
        }
    }
    pages.push(readme);
    for page in &pages {
        broken_links(&root, page, &mut findings)?;
    }
    for finding in &findings {
        println!("{finding}");
    }
    println!(
        "docs: {} pages, {declared} of {} system calls, {} found",
        pages.len(),
        calls.len(),
        findings.len()
    );
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A system call of Linux.
struct Call {
    name: String,
    /// Numbers on x86_64 and in the generic table, `-` where there is none.
    numbers: [String; 2],
    /// The file that declares it.
    file: Option<String>,
}

/// All calls, in the order of `nr.rs`.
fn calls(root: &Path) -> Result<Vec<Call>> {
    let mut declared = BTreeMap::new();
    for path in files(&root.join("kernel/src"), "rs")? {
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        for line in read(&path)?.lines().filter(|line| line.trim_start().starts_with("#[")) {
            let name = line.split_once("syscall(").and_then(|(_, rest)| rest.split_once(')'));
            if let Some((name, _)) = name {
                declared.insert(name.to_string(), shown.clone());
            }
        }
    }
    let table = read(&root.join("lib/abi/src/nr.rs"))?;
    let row = |line: &str| {
        let words: Vec<&str> = line.trim().strip_suffix(';')?.split_whitespace().collect();
        let [_, name, x86, generic] = words[..] else { return None };
        let name = name.strip_prefix('"')?.strip_suffix('"')?.to_string();
        let file = declared.get(&name).cloned();
        Some(Call { name, numbers: [x86.to_string(), generic.to_string()], file })
    };
    Ok(table.lines().filter_map(row).collect())
}

/// The page with all calls.
fn page(calls: &[Call], declared: usize) -> String {
    let mut text = format!(
        "# System calls\n\nMade by `cargo xtask docs` from the source. {declared} of the {} calls of Linux 6.12's tables \
         are declared; the others answer `ENOSYS`.\n\n| call | x86_64 | arm64 | declared in |\n|---|---|---|---|\n",
        calls.len()
    );
    for call in calls {
        let [x86, generic] = &call.numbers;
        let file = call.file.as_ref().map_or(String::new(), |file| format!("[{file}](../../{file})"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "| `{}` | {x86} | {generic} | {file} |", call.name);
    }
    text
}

/// `text` with `count` between the marks.
fn between(text: &str, count: &str) -> Option<String> {
    let (before, rest) = text.split_once(COUNT_BEGIN)?;
    let (_, after) = rest.split_once(COUNT_END)?;
    Some(format!("{before}{COUNT_BEGIN}{count}{COUNT_END}{after}"))
}

fn update(args: &Args, path: &Path, old: &str, new: &str, findings: &mut Vec<String>) -> Result<()> {
    if args.check && old != new {
        findings.push(format!("{}: out of date, run `cargo xtask docs`", path.display()));
        return Ok(());
    }
    paths::write_if_changed(path, if args.check { old } else { new }.as_bytes())
}

/// Relative links of a page that lead nowhere.
fn broken_links(root: &Path, page: &Path, findings: &mut Vec<String>) -> Result<()> {
    let folder = page.parent().unwrap_or(root);
    let mut fenced = false;
    for (number, line) in read(page)?.lines().enumerate() {
        fenced ^= line.starts_with("```");
        if fenced {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                let shown = page.strip_prefix(root).unwrap_or(page).display();
                findings.push(format!("{shown}:{}: {target} does not exist", number + 1));
            }
        }
    }
    Ok(())
}

/// All files below `folder` with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
