//! A script over more than a hundred busybox applets, compared byte for byte with Linux.
//!
//! `tests/qemu/busybox.expected` is what Linux 6.12 printed: `--oracle --bless` records it,
//! `--oracle` checks that it still does.

use super::{Context, Report};
use crate::{initramfs, paths, run};
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Runs the script.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let name = format!("{} busybox script", context.label());
    if !context.wants(&name) {
        return Ok(());
    }
    let folder = paths::root().join("tests/qemu");
    let script = std::fs::read(folder.join("busybox.sh")).context("tests/qemu/busybox.sh")?;
    let mut archive = initramfs::busybox_root(context.arch)?;
    archive.directory("test", 0o755).file("test/busybox.sh", 0o644, &script);
    let base = initramfs::write(context.arch, "busybox.cpio", &archive.finish())?;
    let command = "/bin/busybox --install -s; sh /test/busybox.sh 2>&1";
    let initrd = initramfs::exec(context.arch, &base, command)?;
    let machine = context.machine().initrd(initrd).append(initramfs::exec_append());

    let mut output = Vec::new();
    let status = run::capture(&machine, LIMIT, &mut output)?;
    let kept = paths::output(context.arch)?.join(context.file_name("busybox.out"));
    std::fs::write(&kept, &output)?;
    if status != Some(0) {
        report.fail(&name, &format!("did not end well ({status:?}); output: {}", kept.display()));
        return Ok(());
    }
    compare(context, report, &name, &output, folder.join("busybox.expected"))
}

/// Compares `output` with the recorded one, or records it.
pub fn compare(
    context: &Context,
    report: &mut Report,
    name: &str,
    output: &[u8],
    path: PathBuf,
) -> Result<()> {
    if context.bless {
        paths::write_if_changed(&path, output)?;
        report.pass(&format!("{name} (recorded)"));
        return Ok(());
    }
    let expected = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    if output == expected {
        report.pass(name);
        return Ok(());
    }
    let (got, expected) = (String::from_utf8_lossy(output), String::from_utf8_lossy(&expected));
    report.fail(name, &format!("output differs\n{}", difference(&expected, &got)));
    Ok(())
}

/// The first lines that differ, per section (a section begins with `== `).
fn difference(expected: &str, got: &str) -> String {
    let mut text = String::new();
    let (expected, got) = (sections(expected), sections(got));
    let mut shown = 0;
    for (index, (title, wanted)) in expected.iter().enumerate() {
        let seen = got.get(index).filter(|(name, _)| name == title);
        let Some((_, seen)) = seen.or_else(|| got.iter().find(|(name, _)| name == title)) else {
            text.push_str(&format!("  {title}\n    is missing\n"));
            continue;
        };
        let lines = wanted.len().max(seen.len());
        let Some(at) = (0..lines).find(|&line| wanted.get(line) != seen.get(line)) else { continue };
        if shown == 8 {
            text.push_str("  (more)\n");
            break;
        }
        shown += 1;
        let line = |lines: &[&str]| lines.get(at).copied().unwrap_or("(end)").to_string();
        text.push_str(&format!("  {title}\n    expected: {}\n    got:      {}\n", line(wanted), line(seen)));
    }
    text
}

/// The titles and lines of the sections of `text`.
fn sections(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections = vec![("", Vec::new())];
    for line in text.lines() {
        if line.starts_with("== ") {
            sections.push((line, Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line);
        }
    }
    sections
}
