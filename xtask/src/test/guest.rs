//! The guest tests: `tests/guest` as init of an initramfs that holds nothing else.
//!
//! On Karst the results are compared with `tests/guest/known-fails.txt` (`ARCH NAME` per line,
//! `*` for every architecture, `~NAME` for a test whose outcome depends on timing): a known failure that passes is a
//! failure too, so that the list
//! stays true. On Linux every test must pass.

use super::{Context, Report};
use crate::cpio::Archive;
use crate::qemu::Machine;
use crate::{build, debian, initramfs, paths};
use anyhow::{Context as _, Result};
use std::collections::HashSet;
use std::time::Duration;

/// Time for all guest tests of one architecture.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs the guest tests.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let program = build::guest(context.arch, "guest-tests")?;
    let modules = if context.oracle { debian::modules(context.arch)? } else { Vec::new() };
    let initrd = initramfs::write(context.arch, "guest.cpio", &archive(&std::fs::read(program)?, &modules))?;
    let mut machine = context.machine().initrd(initrd).append("quiet loglevel=1");
    if context.debug {
        machine = machine.append("kmemleak=on");
    }
    let seen = boot(context, report, machine.clone(), "guest", &context.filter)?;
    for name in known_fails(context)?
        .iter()
        .filter(|name| context.filter.is_empty() && !seen.contains(name.trim_start_matches('~')))
    {
        report.fail(&format!("{} guest {name}", context.label()), "in known-fails.txt but was not run");
    }
    // What is about nodes needs a machine with two.
    if context.filter.is_empty() || context.filter.contains(NUMA) || NUMA.contains(&context.filter) {
        let filter = if context.filter.contains(NUMA) { &context.filter } else { NUMA };
        boot(context, report, machine.args(TWO_NODES), "guest with two nodes", filter)?;
    }
    Ok(())
}

/// The tests of memory policies.
const NUMA: &str = "numa::";

/// Two nodes with half of the memory and two CPUs each.
pub const TWO_NODES: [&str; 10] = [
    "-object",
    "memory-backend-ram,id=m0,size=256M",
    "-object",
    "memory-backend-ram,id=m1,size=256M",
    "-numa",
    "node,nodeid=0,cpus=0-1,memdev=m0",
    "-numa",
    "node,nodeid=1,cpus=2-3,memdev=m1",
    "-numa",
    "dist,src=0,dst=1,val=21",
];

/// Boots one machine, and reports the tests whose names contain `filter` as those of `part`. Returns which there were.
fn boot(
    context: &Context,
    report: &mut Report,
    mut machine: Machine,
    part: &str,
    filter: &str,
) -> Result<HashSet<String>> {
    if !filter.is_empty() {
        machine = machine.append(&format!("guest_filter={filter}"));
    }
    let mut session = machine.start(LIMIT)?;
    if context.verbose {
        session.echo();
    }
    let ended = session.finish()?;
    let text = session.text();
    let log =
        paths::output(context.arch)?.join(context.file_name(&format!("{}.log", part.replace(' ', "-"))));
    std::fs::write(&log, &text)?;

    let known = known_fails(context)?;
    let maybe = |name: &str| known.contains(&format!("~{name}"));
    let mut seen = HashSet::new();
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(name) = line.strip_prefix("ok ") {
            let name = name.split(' ').next().unwrap_or(name);
            seen.insert(name.to_string());
            let full = format!("{} {part} {name}", context.label());
            if maybe(name) {
                report.pass(&full);
            } else if known.contains(name) {
                report.fail(&full, "passes, but is in known-fails.txt: remove it there");
            } else {
                report.pass(&full);
            }
        } else if let Some(rest) = line.strip_prefix("FAIL ") {
            let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
            seen.insert(name.to_string());
            let full = format!("{} {part} {name}", context.label());
            if known.contains(name) || maybe(name) {
                println!("known: {full}: {why}");
            } else {
                report.fail(&full, why);
            }
        }
    }
    // Lost memory, as the harness found it at the end.
    if context.debug && !text.lines().any(|line| line.trim_end() == "searched for lost memory") {
        report.fail(&format!("{} {part} searches for lost memory", context.label()), "it did not");
    }
    let lost: Vec<&str> = text.lines().filter(|line| line.starts_with("kmemleak: ")).collect();
    if !lost.is_empty() {
        report.fail(&format!("{} {part} leaks no memory", context.label()), &lost.join("\n"));
    }
    let complete =
        text.lines().any(|line| line.trim_end().ends_with(" failed") && line.contains(" passed, "));
    let name = format!("{} {part} tests run to the end", context.label());
    match (complete, ended) {
        (true, Some(_)) => report.pass(&name),
        (true, None) => report.fail(&name, "the guest did not power off"),
        (false, _) => {
            let last: Vec<&str> = text.lines().rev().take(25).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            report.fail(&name, &format!("no final line (log: {})\n{}", log.display(), last.join("\n")));
        }
    }
    Ok(seen)
}

/// An initramfs with the test program as init, and nothing else but directories.
/// Modules of the kernel lie in `/lib/modules`, to be loaded in this order.
fn archive(program: &[u8], modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::new();
    for path in ["bin", "dev", "etc", "mnt", "proc", "root", "sys", "tmp"] {
        archive.directory(path, 0o755);
    }
    archive.char_device("dev/console", 0o600, 5, 1);
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/init\n");
    archive.file("init", 0o755, program);
    initramfs::add_modules(&mut archive, modules);
    archive.finish()
}

fn known_fails(context: &Context) -> Result<HashSet<String>> {
    if context.oracle {
        return Ok(HashSet::new());
    }
    let path = paths::root().join("tests/guest/known-fails.txt");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            line.split_whitespace().collect::<Vec<_>>().get(..2).map(|w| (w[0].to_string(), w[1].to_string()))
        })
        .filter(|(arch, _)| arch == "*" || arch == context.arch.name())
        .map(|(_, name)| name)
        .collect())
}
