//! Debian's stress-ng: every stressor of some classes by itself for 5 seconds, with its own checks.
//!
//! `tests/qemu/stress-ARCH.expected` says for each stressor how it ended on Linux 6.12 (`--oracle --bless` records it;
//! with a filter, only those).
//! What passes there must pass on Karst. A guest that dies is started again with the next stressor. All of them take
//! about 40 minutes, so this part runs only when it is asked for: `cargo xtask test --only stress`; `--filter NAME` runs
//! those whose names contain NAME (or one of several, separated by commas).

use super::{Context, Report};
use crate::{initramfs, paths, programs, run};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// For a list, and per stressor.
const LIMIT: Duration = Duration::from_secs(100);

/// Runs the stressors.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let arch = context.arch;
    let script = std::fs::read(paths::root().join("tests/qemu/stress.sh"))?;
    let mut archive = initramfs::busybox_root(arch)?;
    archive.directory("test", 0o755).file("test/stress.sh", 0o644, &script);
    programs::add(arch, &mut archive, &["stress-ng"], &["libgcc_s.so.1"])?;
    let base = initramfs::write(arch, "stress.cpio", &archive.finish())?;
    let path = paths::root().join(format!("tests/qemu/stress-{arch}.expected"));
    let mut expected = if path.is_file() { read(&path)? } else { BTreeMap::new() };
    let mut names: Vec<String> = if expected.is_empty() {
        let (text, _) = boot(context, &base, &[])?;
        text.lines().filter_map(|line| Some(line.strip_prefix("@list ")?.to_string())).collect()
    } else {
        expected.keys().cloned().collect()
    };
    let filters: Vec<&str> = context.filter.split(',').collect();
    names.retain(|name| filters.iter().any(|part| name.contains(part)));
    if names.is_empty() {
        bail!("there is no such stressor");
    }
    let mut log = String::new();
    let mut seen = BTreeMap::new();
    while !names.is_empty() {
        let (text, finished) = boot(context, &base, &names)?;
        let before = names.len();
        note(&text, &mut seen);
        log.push_str(&text);
        if let Some(name) = text.lines().rev().find_map(|line| line.strip_prefix("@start ")) {
            // Started and no result: the guest died of it.
            seen.entry(name.to_string()).or_insert_with(|| "ends-the-guest".to_string());
        }
        names.retain(|name| !seen.contains_key(name));
        if !finished && names.len() == before {
            bail!("the guest does not start");
        }
    }
    let kept = paths::output(arch)?.join(context.file_name("stress.out"));
    std::fs::write(&kept, log)?;
    if context.bless {
        expected.extend(seen.clone());
        let text: String = expected.iter().map(|(name, result)| format!("{name} {result}\n")).collect();
        paths::write_if_changed(&path, text.as_bytes())?;
    }
    for (name, result) in &seen {
        let title = format!("{} stress-ng {name}", context.label());
        let linux = expected.get(name).map_or("", String::as_str);
        if result == "passed" || result == linux || context.bless {
            report.pass(&title);
        } else if linux == "passed" {
            report.fail(&title, &format!("{result}; passed on Linux (output: {})", kept.display()));
        } else {
            // Neither kernel passes: no verdict.
            report.skip(&title, &format!("{result}; on Linux {linux}"));
        }
    }
    Ok(())
}

/// Boots a guest for `names` (none: for the list); what it printed, and whether it got to the end.
fn boot(context: &Context, base: &std::path::Path, names: &[String]) -> Result<(String, bool)> {
    let command = format!("/bin/busybox --install -s; sh /test/stress.sh {} 2>&1", names.join(" "));
    let initrd = initramfs::exec(context.arch, base, &command)?;
    let mut machine = context.machine().initrd(initrd).append(initramfs::exec_append());
    machine.memory = "2G".into();
    let mut output = Vec::new();
    let limit = LIMIT * (names.len() as u32 + 1);
    let status = if context.verbose {
        run::capture(&machine, limit, &mut Tee(&mut output))?
    } else {
        run::capture(&machine, limit, &mut output)?
    };
    Ok((String::from_utf8_lossy(&output).into_owned(), status == Some(0)))
}

/// Notes the results in `text`.
fn note(text: &str, seen: &mut BTreeMap<String, String>) {
    for line in text.lines().filter_map(|line| line.strip_prefix("@@ ")) {
        let mut words = line.split(' ');
        if let (Some(name), Some(result)) = (words.next(), words.next()) {
            seen.insert(name.to_string(), result.to_string());
        }
    }
}

/// The results of Linux.
fn read(path: &PathBuf) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: --oracle --bless records it", path.display()))?;
    let pair = |line: &str| line.split_once(' ').map(|(name, result)| (name.to_string(), result.to_string()));
    Ok(text.lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect())
}

/// Keeps what is written, and shows it.
struct Tee<'a>(&'a mut Vec<u8>);

impl std::io::Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        std::io::stdout().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush()
    }
}
