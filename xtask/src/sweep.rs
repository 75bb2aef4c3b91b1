//! `cargo xtask sweep`: each allocation of many workloads fails once.
//!
//! The program is `tests/sweep`; the kernel is built with debug assertions, which is where failures can be injected. What goes wrong is
//! printed with the workload and the number of the allocation: `--only WORKLOAD --from N` goes there at once.

use crate::arch::Arch;
use crate::build::{self, Profile};
use crate::cpio::Archive;
use crate::fuzz::COMPLAINTS;
use crate::qemu::Machine;
use crate::session::Waited;
use crate::{initramfs, paths, setup, ui};
use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `cargo xtask sweep`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// Only workloads whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Number of the first allocation that fails
    #[arg(long, default_value_t = 1)]
    from: u32,
    /// Break the kernel on purpose instead, and see that it copes
    #[arg(long)]
    crash: bool,
    /// Number of CPUs
    #[arg(long, default_value = "2")]
    smp: String,
    /// Seconds until the guest is given up
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    setup::qemu(args.arch)?;
    let kernel = build::kernel(args.arch, Profile::from_debug_flag(true))?.image;
    let program = build::guest(args.arch, "guest-sweep")?;
    let initrd = initramfs::write(args.arch, "sweep.cpio", &archive(&std::fs::read(program)?))?;
    if args.crash {
        return crash(args, &kernel, &initrd);
    }
    let words = format!("sweep_only={} sweep_from={}", args.only, args.from);
    let mut machine = Machine::new(args.arch, &kernel).initrd(initrd).append("loglevel=4").append(&words);
    machine.smp.clone_from(&args.smp);
    machine.memory = "512M".into();
    let limit = Duration::from_secs(args.seconds);
    let mut session = machine.start(limit)?;
    let ended = session.wait_for("sweep: end, ", limit) == Waited::Found
        && session.wait_for("\n", limit) == Waited::Found;
    let text = session.text();
    let log = paths::output(args.arch)?.join("sweep.log");
    std::fs::write(&log, &text)?;
    session.finish_within(Duration::from_secs(20))?;
    Ok(match judge(&text, ended, &log) {
        Ok(summary) => {
            ui::note(&summary);
            println!("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAIL sweep: {why}\n0 passed, 1 failed");
            ExitCode::FAILURE
        }
    })
}

/// Two boots: what a broken kernel survives, and what it does not.
fn crash(args: &Args, kernel: &Path, initrd: &Path) -> Result<ExitCode> {
    let ends = [
        ("panic", "Kernel panic - not syncing: dumptest"),
        ("oops", "Kernel panic - not syncing: Fatal exception"),
    ];
    let mut failed = 0;
    for (word, last) in ends {
        let words = format!("loglevel=4 panic=-1 kmemleak=on sweep_crash={word}");
        let mut machine = Machine::new(args.arch, kernel).initrd(initrd.to_path_buf()).append(&words);
        machine.smp.clone_from(&args.smp);
        let limit = Duration::from_secs(300);
        let mut session = machine.start(limit)?;
        let found = session.wait_for(last, limit) == Waited::Found;
        let text = session.text();
        let log = paths::output(args.arch)?.join("crash.log");
        std::fs::write(&log, &text)?;
        session.finish_within(Duration::from_secs(20))?;
        let lived = text.lines().any(|line| line.trim() == "crash: end, 0 failures");
        if !found || !lived {
            failed += 1;
            let lines: Vec<&str> =
                text.lines().filter(|line| line.contains("FAIL") || line.contains("lives")).collect();
            println!("FAIL crash, {word} (log: {})\n{}", log.display(), lines.join("\n"));
        }
    }
    println!("{} passed, {failed} failed", ends.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(text: &str, ended: bool, log: &Path) -> Result<String, String> {
    let log = log.display();
    if let Some(line) = text.lines().find(|line| {
        // A program that has no memory to start may say so.
        !line.starts_with("thread '") && COMPLAINTS.iter().any(|word| line.contains(word))
    }) {
        return Err(format!("{} (log: {log})", line.trim()));
    }
    let wrong: Vec<&str> =
        text.lines().filter(|line| line.contains("sweep: ") && is_complaint(line)).collect();
    match text.lines().rev().find(|line| line.contains("sweep: end, ")) {
        Some(end) if ended && end.trim().ends_with(" 0 failures") => Ok(end.trim().to_string()),
        Some(_) if ended => Err(format!("log: {log}\n{}", wrong.join("\n"))),
        _ => {
            let last: Vec<&str> = text.lines().rev().take(10).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            Err(format!("the guest stopped (log: {log})\n{}", last.join("\n")))
        }
    }
}

fn is_complaint(line: &str) -> bool {
    [" n=", " lost", "without failures", "debug"].iter().any(|word| line.contains(word))
}

fn archive(program: &[u8]) -> Vec<u8> {
    let mut archive = Archive::new();
    for path in ["dev", "proc", "sys", "tmp"] {
        archive.directory(path, 0o755);
    }
    archive.char_device("dev/console", 0o600, 5, 1);
    archive.file("init", 0o755, program);
    archive.finish()
}
