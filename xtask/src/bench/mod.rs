//! `cargo xtask bench`: Karst and Debian's Linux 6.12 side by side, counted in guest instructions.
//!
//! Both kernels boot the same archive on the same machine: one CPU, 256 MiB, `-icount shift=0`,
//! under which one nanosecond of virtual time is one instruction and a run repeats within 1 %. Two
//! more boots, on two and four CPUs, count what all CPUs spend together.
//! QEMU counts every byte of a `rep` string instruction, so the CPU does not offer the fast
//! ones; Linux runs without the hardening that Karst does not have.

mod guest;
mod report;

use crate::arch::Arch;
use crate::build::{self, Profile};
use crate::{cpio, debian, initramfs, paths, setup};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture to measure
    #[arg(long, value_enum, default_value = "x86_64")]
    arch: Arch,
    /// Rows to measure, separated by commas [default: all]
    #[arg(long, default_value = "")]
    rows: String,
    /// Add Karst's numbers to docs/src/bench-history.tsv
    #[arg(long)]
    record: bool,
    /// Measure Linux again although its numbers are known
    #[arg(long)]
    fresh: bool,
    /// Measure this image instead of building one
    #[arg(long)]
    kernel: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    let arch = args.arch;
    setup::qemu(arch)?;
    let program = std::fs::read(build::guest(arch, "guest-bench")?)?;
    let archive = archive(arch, &program)?;
    let kernel = match &args.kernel {
        Some(path) => path.clone(),
        None => build::kernel(arch, Profile::Release)?.image,
    };
    let linux = linux(args, &program, &archive)?;
    let karst = measure(args, "Karst", &kernel, &archive)?;
    print!("{}", report::table(&karst, &linux));
    if args.record {
        report::record(arch, &karst, &linux)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The archive both kernels boot: the program and a console.
fn archive(arch: Arch, program: &[u8]) -> Result<PathBuf> {
    let mut archive = cpio::Archive::new();
    archive.directory("dev", 0o755).directory("tmp", 0o1777);
    archive.char_device("dev/console", 0o600, 5, 1).char_device("dev/null", 0o666, 1, 3);
    archive.char_device("dev/zero", 0o666, 1, 5).file("init", 0o755, program);
    initramfs::write(arch, "bench.cpio", &archive.finish())
}

/// All numbers of one kernel, in the order of the program. Memory is only measured with all rows.
fn measure(args: &Args, name: &str, kernel: &Path, archive: &Path) -> Result<guest::Numbers> {
    let mut numbers = guest::Numbers::new();
    let chosen: Vec<&str> = args.rows.split(',').filter(|row| !row.is_empty()).collect();
    for cpus in [1, 2, 4] {
        // Rows of several CPUs end with their number.
        let here = |row: &&str| match row.strip_prefix("scale_") {
            Some(row) => row.ends_with(&format!("_{cpus}")),
            None => cpus == 1,
        };
        if chosen.is_empty() || chosen.iter().any(here) {
            numbers.extend(guest::rows(args.arch, name, kernel, archive, &args.rows, cpus)?);
        }
    }
    if args.rows.is_empty() {
        numbers.extend(guest::memory(args.arch, name, kernel)?);
    }
    Ok(numbers)
}

/// Linux's numbers, measured once per kernel, program and selection of rows.
fn linux(args: &Args, program: &[u8], archive: &Path) -> Result<guest::Numbers> {
    let kernel = debian::linux(args.arch)?;
    let image = std::fs::read(&kernel).with_context(|| format!("read {}", kernel.display()))?;
    let key = hash(&[&image, program, args.rows.as_bytes()]);
    let cache = paths::output(args.arch)?.join(format!("bench-linux-{key:016x}.tsv"));
    if !args.fresh
        && let Ok(text) = std::fs::read_to_string(&cache)
    {
        return Ok(guest::parse(&text));
    }
    let numbers = measure(args, "Linux", &kernel, archive)?;
    let text: String = numbers.iter().map(|(row, value)| format!("{row} {value}\n")).collect();
    std::fs::write(&cache, text)?;
    Ok(numbers)
}

/// FNV-1a over `parts`: tells versions of files apart, nothing more.
fn hash(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
