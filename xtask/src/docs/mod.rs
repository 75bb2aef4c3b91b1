//! `cargo xtask docs`: the generated parts of the documentation, and its links.
//!
//! Generated from the source: `docs/src/syscalls.md`, and the counts between two marks in the README. All calls there
//! are in `lib/abi/src/nr.rs`. A call is *absent* unless some function in `kernel/` carries its `#[syscall(NAME)]`;
//! *partial* if the function's documentation says what is missing (`/// Missing: …`) or no guest test makes the call;
//! otherwise *complete*. Checked: every relative link in the README and in `docs/` leads to a file, and every page is
//! in `SUMMARY.md`.

mod coverage;

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
    let counts = [count(&calls, 0), count(&calls, 1)];
    let mut findings = Vec::new();

    let readme = root.join("README.md");
    let text = read(&readme)?;
    let counted = between(&text, &format!("x86_64 {}; arm64 {}", counts[0], counts[1]))
        .with_context(|| format!("README.md lacks {COUNT_BEGIN}"))?;
    update(args, &readme, &text, &counted, &mut findings)?;
    let list = root.join("docs/src/syscalls.md");
    let old = std::fs::read_to_string(&list).unwrap_or_default();
    update(args, &list, &old, &page(&calls, &counts), &mut findings)?;

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
    println!("docs: {} pages, {} found", pages.len(), findings.len());
    println!("system calls: x86_64 {}; arm64 {}", counts[0], counts[1]);
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A system call of Linux.
struct Call {
    name: String,
    /// Numbers on x86_64 and in the generic table, `-` where there is none.
    numbers: [String; 2],
    /// Where and how it is declared.
    declared: Option<Declared>,
    /// Guest tests that make it, those that are most about it first.
    tests: Vec<String>,
}

/// Numbers that Linux 6.12 keeps, but whose calls answer `ENOSYS` on these architectures.
const UNIMPLEMENTED: [&str; 18] = [
    "_sysctl",
    "afs_syscall",
    "create_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "get_kernel_syms",
    "get_thread_area",
    "getpmsg",
    "lookup_dcookie",
    "nfsservctl",
    "putpmsg",
    "query_module",
    "security",
    "set_thread_area",
    "tuxcall",
    "uselib",
    "uretprobe",
    "vserver",
];

/// Calls that a Linux without some part of it does not have either, and that part: what is out of Karst's scope.
const NOT_CONFIGURED: [(&str, &str); 11] = [
    ("acct", "CONFIG_BSD_PROCESS_ACCT"),
    ("bpf", "CONFIG_BPF_SYSCALL"),
    ("delete_module", "CONFIG_MODULES"),
    ("finit_module", "CONFIG_MODULES"),
    ("init_module", "CONFIG_MODULES"),
    ("kexec_file_load", "CONFIG_KEXEC_FILE"),
    ("kexec_load", "CONFIG_KEXEC"),
    ("modify_ldt", "CONFIG_MODIFY_LDT_SYSCALL"),
    ("perf_event_open", "CONFIG_PERF_EVENTS"),
    ("swapoff", "CONFIG_SWAP"),
    ("swapon", "CONFIG_SWAP"),
];

/// A function that carries `#[syscall(NAME)]`.
#[derive(Clone)]
struct Declared {
    file: String,
    /// What its documentation says is missing.
    missing: Option<String>,
}

impl Call {
    fn state(&self) -> &'static str {
        match &self.declared {
            None if UNIMPLEMENTED.contains(&self.name.as_str()) => "unimplemented by Linux too",
            None => "absent",
            Some(declared) if declared.missing.is_some() || self.tests.is_empty() => "partial",
            Some(_) => "complete",
        }
    }
}

/// How many calls an architecture (0 x86_64, 1 arm64) has in each state, in words.
fn count(calls: &[Call], arch: usize) -> String {
    let exists = |call: &&Call| call.numbers[arch] != "-" && !UNIMPLEMENTED.contains(&call.name.as_str());
    let here: Vec<&Call> = calls.iter().filter(exists).collect();
    let of = |state: &str| here.iter().filter(|call| call.state() == state).count();
    let (complete, partial, absent) = (of("complete"), of("partial"), of("absent"));
    format!("{complete} complete, {partial} partial, {absent} absent of {}", here.len())
}

/// All calls, in the order of `nr.rs`.
fn calls(root: &Path) -> Result<Vec<Call>> {
    let mut declared = BTreeMap::new();
    for path in files(&root.join("kernel/src"), "rs")? {
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let mut documentation = Vec::new();
        for line in read(&path)?.lines().map(str::trim_start) {
            if let Some(text) = line.strip_prefix("///") {
                documentation.push(text.trim().to_string());
                continue;
            }
            let attribute = line.starts_with("#[");
            let name = line.split_once("syscall(").and_then(|(_, rest)| rest.split_once([')', ',']));
            if attribute && let Some((name, _)) = name {
                let missing = missing(&documentation);
                declared.insert(name.to_string(), Declared { file: shown.clone(), missing });
            }
            if !attribute {
                documentation.clear();
            }
        }
    }
    let table = read(&root.join("lib/abi/src/nr.rs"))?;
    let row = |line: &str| {
        let words: Vec<&str> = line.trim().strip_suffix(';')?.split_whitespace().collect();
        let [_, name, x86, generic] = words[..] else { return None };
        Some((name.strip_prefix('"')?.strip_suffix('"')?.to_string(), [x86.to_string(), generic.to_string()]))
    };
    let rows: Vec<(String, [String; 2])> = table.lines().filter_map(row).collect();
    let is_call = |name: &str| rows.iter().any(|(known, _)| known == name);
    let mut tests = coverage::tests_by_call(&root.join("tests/guest/src"), is_call)?;
    Ok(rows
        .into_iter()
        .map(|(name, numbers)| Call {
            declared: declared.get(&name).cloned(),
            tests: tests.remove(&name).unwrap_or_default(),
            name,
            numbers,
        })
        .collect())
}

/// The paragraph of a documentation that begins with `Missing:`.
fn missing(documentation: &[String]) -> Option<String> {
    let start = documentation.iter().position(|line| line.starts_with("Missing: "))?;
    let paragraph: Vec<&str> =
        documentation[start..].iter().take_while(|line| !line.is_empty()).map(String::as_str).collect();
    paragraph.join(" ").strip_prefix("Missing: ").map(str::to_string)
}

/// Tests of a call that the page names.
const SHOWN_TESTS: usize = 2;

/// The page with all calls.
fn page(calls: &[Call], counts: &[String; 2]) -> String {
    let mut text = format!(
        "# System calls\n\nMade by `cargo xtask docs` from the source: the calls of Linux 6.12's tables. Absent ones answer \
         `ENOSYS`. A call is partial if its function says what is missing, or if no guest test makes it.\n\n\
         - x86_64: {}\n- arm64: {}\n\n\
         | call | x86_64 | arm64 | state | declared in | tests |\n|---|---|---|---|---|---|\n",
        counts[0], counts[1]
    );
    for call in calls {
        let [x86, generic] = &call.numbers;
        let missing = call.declared.as_ref().and_then(|declared| declared.missing.as_ref());
        let without = NOT_CONFIGURED.iter().find(|(name, _)| *name == call.name);
        let state = match (missing, without) {
            (Some(missing), _) => format!("partial: {missing}"),
            (None, Some((_, option))) if call.declared.is_none() => {
                format!("absent: as Linux without `{option}`")
            }
            _ => call.state().to_string(),
        };
        let file = call
            .declared
            .as_ref()
            .map_or(String::new(), |Declared { file, .. }| format!("[{file}](../../{file})"));
        let mut tests: Vec<String> =
            call.tests.iter().take(SHOWN_TESTS).map(|test| format!("`{test}`")).collect();
        if call.tests.len() > SHOWN_TESTS {
            tests.push(format!("{} more", call.tests.len() - SHOWN_TESTS));
        }
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {x86} | {generic} | {state} | {file} | {} |",
            call.name,
            tests.join(", ")
        );
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
