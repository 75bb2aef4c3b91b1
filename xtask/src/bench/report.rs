//! What is printed and kept of the numbers.

use super::guest::{BOOT, MEMORY, Numbers};
use crate::arch::Arch;
use crate::{paths, proc};
use anyhow::Result;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

/// The table: row, Karst, Linux, ratio.
pub fn table(karst: &Numbers, linux: &Numbers) -> String {
    let mut text = format!("{:<22}{:>14}{:>14}{:>8}\n", "instructions", "Karst", "Linux", "ratio");
    for (row, ours) in karst {
        // Writing to a string cannot fail.
        let _ = match find(linux, row) {
            Some(theirs) => {
                let (ours_text, theirs_text) = (show(row, *ours), show(row, theirs));
                writeln!(text, "{row:<22}{ours_text:>14}{theirs_text:>14}{:>8.2}", ours / theirs)
            }
            None => writeln!(text, "{row:<22}{:>14}{:>14}", show(row, *ours), "-"),
        };
    }
    text
}

fn find(numbers: &Numbers, row: &str) -> Option<f64> {
    numbers.iter().find(|(name, _)| name == row).map(|(_, value)| *value)
}

fn show(row: &str, value: f64) -> String {
    if row.starts_with(MEMORY) {
        format!("{value:.0} KiB")
    } else if row == BOOT {
        format!("{:.1} M", value / 1e6)
    } else {
        format!("{value:.0}")
    }
}

/// Appends the numbers to the history: date, revision, architecture, row, Karst, Linux.
pub fn record(arch: Arch, karst: &Numbers, linux: &Numbers) -> Result<()> {
    let git = |arguments: &[&str]| -> Result<String> {
        let output = proc::run_quiet(Command::new("git").current_dir(paths::root()).args(arguments))?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    };
    let date = git(&["show", "-s", "--format=%cs", "HEAD"])?;
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    let path = paths::root().join("docs/src/bench-history.tsv");
    let fresh = !path.exists();
    let mut file = std::fs::File::options().append(true).create(true).open(path)?;
    if fresh {
        writeln!(file, "date\trevision\tarch\trow\tkarst\tlinux")?;
    }
    for (row, ours) in karst {
        let theirs = find(linux, row).map_or_else(|| "-".into(), |value| value.to_string());
        writeln!(file, "{date}\t{revision}\t{arch}\t{row}\t{ours}\t{theirs}")?;
    }
    Ok(())
}
