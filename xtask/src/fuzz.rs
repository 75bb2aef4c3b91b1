//! `cargo xtask fuzz`: random system calls in a guest, until time is up or the kernel breaks.
//!
//! The program is `tests/fuzz`; what it prints names the seed of each program it starts, so that
//! `--seed N --programs 1` runs one again.

use crate::arch::Arch;
use crate::build::{self, Profile};
use crate::cpio::Archive;
use crate::qemu::Machine;
use crate::session::Waited;
use crate::{debian, initramfs, paths, setup, ui};
use anyhow::Result;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// Fuzz Debian's Linux 6.12 instead of Karst
    #[arg(long)]
    oracle: bool,
    /// Build without debug assertions, lock validator and allocator checks
    #[arg(long)]
    release: bool,
    /// Seed of the first program
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long programs are started, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many programs at most
    #[arg(long, default_value_t = u64::MAX)]
    programs: u64,
    /// How many programs at a time
    #[arg(long, default_value_t = 4)]
    workers: u64,
    /// User id of the programs; 0 is root
    #[arg(long, default_value_t = 0)]
    user: u32,
    /// Only calls whose name contains this
    #[arg(long, default_value = "")]
    calls: String,
    /// Number of CPUs
    #[arg(long, default_value = "4")]
    smp: String,
}

/// What a run of the fuzzer is told.
pub struct Run {
    /// Seed of the first program.
    pub seed: u64,
    /// How long programs are started.
    pub seconds: u64,
    /// How many programs at most.
    pub programs: u64,
    /// How many at a time.
    pub workers: u64,
    /// User id of the programs.
    pub user: u32,
    /// Part of the names of the calls to make.
    pub calls: String,
}

impl Default for Run {
    fn default() -> Self {
        Self { seed: 1, seconds: 60, programs: u64::MAX, workers: 4, user: 0, calls: String::new() }
    }
}

/// What a kernel prints when something is wrong with it.
pub const COMPLAINTS: &[&str] = &[
    "panicked",
    "Kernel panic",
    "Oops",
    "BUG:",
    "lock order",
    "sleeping in",
    "SLUB:",
    "cannot be killed",
    "soft lockup",
    "blocked for more than",
    "detected stalls on CPUs",
    "WARNING:",
];

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    setup::qemu(args.arch)?;
    let kernel = if args.oracle {
        debian::linux(args.arch)?
    } else {
        build::kernel(args.arch, Profile::from_debug_flag(!args.release))?.image
    };
    let run = Run {
        seed: args.seed,
        seconds: args.seconds,
        programs: args.programs,
        workers: args.workers,
        user: args.user,
        calls: args.calls.clone(),
    };
    let mut machine = Machine::new(args.arch, &kernel);
    machine.smp.clone_from(&args.smp);
    match fuzz(machine, &run)? {
        Ok(summary) => {
            ui::note(&summary);
            println!("1 passed, 0 failed");
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            println!("FAIL fuzz: {why}\n0 passed, 1 failed");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Boots `machine` with the fuzzer: its closing line, or what went wrong.
pub fn fuzz(machine: Machine, run: &Run) -> Result<Result<String, String>> {
    let arch = machine.arch;
    let program = build::guest(arch, "guest-fuzz")?;
    let initrd = initramfs::write(arch, "fuzz.cpio", &archive(&std::fs::read(program)?))?;
    let Run { seed, seconds, programs, workers, user, calls } = run;
    let mut machine = machine.initrd(initrd).append("loglevel=4").append(&format!(
        "fuzz_seed={seed} fuzz_seconds={seconds} fuzz_programs={programs} fuzz_workers={workers} fuzz_user={user} fuzz_calls={calls}"
    ));
    machine.memory = "1G".into();
    let limit = Duration::from_secs(seconds + 180);
    let monitor = paths::output(arch)?.join("fuzz.monitor");
    machine = machine.args(["-monitor".into(), format!("unix:{},server=on,wait=off", monitor.display())]);
    let mut session = machine.start(limit + Duration::from_secs(20))?;
    let ended = session.wait_for("fuzz: end, ", limit) == Waited::Found
        && session.wait_for("\n", limit) == Waited::Found;
    let mut text = session.text();
    if !ended {
        // Where its processors are: all there is to know of a guest that says nothing more.
        match registers(&monitor) {
            Ok(registers) => text.push_str(&registers),
            Err(error) => ui::note(&format!("no registers of the guest: {error}")),
        }
    }
    let log = paths::output(arch)?.join("fuzz.log");
    std::fs::write(&log, &text)?;
    session.finish_within(Duration::from_secs(20))?;
    Ok(judge(&text, ended, &log))
}

/// What QEMU says of the registers of all processors, twice.
fn registers(monitor: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(monitor)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut answer = Vec::new();
    for _ in 0..2 {
        stream.write_all(b"info registers -a\n")?;
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut part) {
            answer.extend_from_slice(&part[..count]);
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn judge(text: &str, ended: bool, log: &Path) -> Result<String, String> {
    // A program's own runtime may have something to say as well, if it got hold of the console.
    let of_kernel = |line: &&str| !line.starts_with("thread '");
    let complaint =
        text.lines().filter(of_kernel).find(|line| COMPLAINTS.iter().any(|word| line.contains(word)));
    let summary = text.lines().rev().find(|line| line.contains("KiB available before"));
    match (complaint, summary) {
        (Some(line), _) => Err(format!("{} (log: {})", line.trim(), log.display())),
        (None, Some(summary)) if ended => Ok(summary.trim().trim_start_matches("fuzz: ").to_string()),
        _ => {
            let last: Vec<&str> = text.lines().rev().take(10).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            Err(format!("the guest stopped (log: {})\n{}", log.display(), last.join("\n")))
        }
    }
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
