//! `cargo xtask test`: host tests, then the guest's, on Karst or (`--oracle`) on Linux 6.12.
//!
//! Parts, each a module with one `run` function that records its results in a [`Report`]:
//! [`guest`] (system call families), [`matrix`] (machines and initramfs kinds), [`busybox`]
//! (a script over the applets, compared with what Linux printed), [`shell`] (an interactive
//! session through a pseudo-terminal), [`languages`] (programs of other compilers), [`java`], [`debian`] (bash, util-linux,
//! procps, rt-tests and others, compared likewise), [`debuggers`] (strace and gdb), [`disk`] (file systems on disks),
//! [`fuzz`] (random calls), [`stress`] (stress-ng).

mod busybox;
mod debian;
mod debuggers;
mod disk;
mod fuzz;
mod guest;
mod java;
mod languages;
mod matrix;
mod report;
mod shell;
mod stress;

use crate::arch::Arch;
use crate::build::{self, Profile};
use crate::qemu::Machine;
use crate::{proc, setup, ui};
use anyhow::Result;
use clap::ValueEnum;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture [default: all]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Run on Debian's Linux 6.12 instead of Karst: shows that the tests are right
    #[arg(long)]
    oracle: bool,
    /// With --oracle: record what Linux prints as the expected output
    #[arg(long, requires = "oracle")]
    bless: bool,
    /// Build with debug assertions
    #[arg(long)]
    debug: bool,
    /// Run only these parts [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Run only tests whose name contains this
    #[arg(long, default_value = "")]
    filter: String,
    /// Run a part that failed once more; what fails only the first time is reported as flaky
    #[arg(long)]
    retry: bool,
    /// Show the console of each guest
    #[arg(long, short)]
    verbose: bool,
}

/// A part of the test suite.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Part {
    /// cargo test on the build machine
    Host,
    /// System call families, in the guest
    Guest,
    /// Machines, memory sizes, CPU counts, kinds of initramfs
    Matrix,
    /// A script over more than 100 busybox applets
    Busybox,
    /// Line editing and job control through a pseudo-terminal
    Shell,
    /// Static programs from C, Rust and Go compilers
    Languages,
    /// Debian's Java virtual machine
    Java,
    /// A script over Debian's everyday programs
    Debian,
    /// Debian's strace and gdb
    Debuggers,
    /// File systems on disks: what Linux wrote
    Disk,
    /// Random system calls, with debug checks
    Fuzz,
    /// stress-ng: only when asked for
    Stress,
}

/// How a part that boots a guest is run.
type RunPart = fn(&Context, &mut Report) -> Result<()>;

/// What the parts that boot a guest need to know.
pub struct Context {
    /// Architecture of the guest.
    pub arch: Arch,
    /// Kernel to boot.
    pub kernel: PathBuf,
    /// Whether it has debug assertions.
    pub debug: bool,
    /// Whether that is Linux.
    pub oracle: bool,
    /// Record expected output instead of comparing.
    pub bless: bool,
    /// Part of the name of the tests to run.
    pub filter: String,
    /// Show consoles.
    pub verbose: bool,
}

impl Context {
    /// A machine with the kernel under test.
    pub fn machine(&self) -> Machine {
        let machine = Machine::new(self.arch, &self.kernel);
        // On a busy host Linux may see the timer too late and give up.
        if self.oracle { machine.append("no_timer_check") } else { machine }
    }

    /// Whether the test `name` was asked for.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// The name of an output file, different for Linux.
    pub fn file_name(&self, name: &str) -> String {
        if self.oracle { format!("linux-{name}") } else { name.to_string() }
    }

    /// `x86_64` or `aarch64`, with `linux` if that is what runs.
    pub fn label(&self) -> String {
        if self.oracle { format!("{} linux", self.arch) } else { self.arch.to_string() }
    }
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    // What takes too long for every day runs only by its name.
    let everyday = |part: Part| args.only.is_empty() && part != Part::Stress;
    let wanted = |part: Part| everyday(part) || args.only.contains(&part);
    let mut report = Report::new();
    if wanted(Part::Host) && !args.oracle && args.filter.is_empty() {
        host(&mut report);
    }
    let arches = args.arch.map_or_else(|| Arch::ALL.to_vec(), |arch| vec![arch]);
    let guest_parts = args.only.is_empty() || args.only.iter().any(|part| *part != Part::Host);
    for arch in arches {
        if !guest_parts {
            break;
        }
        setup::qemu(arch)?;
        let kernel = if args.oracle {
            crate::debian::linux(arch)?
        } else {
            build::kernel(arch, Profile::from_debug_flag(args.debug))?.image
        };
        let context = Context {
            arch,
            debug: args.debug && !args.oracle,
            kernel,
            oracle: args.oracle,
            bless: args.bless,
            filter: args.filter.clone(),
            verbose: args.verbose,
        };
        let parts: [(Part, RunPart); 11] = [
            (Part::Guest, guest::run),
            (Part::Matrix, matrix::run),
            (Part::Busybox, busybox::run),
            (Part::Shell, shell::run),
            (Part::Languages, languages::run),
            (Part::Java, java::run),
            (Part::Debian, debian::run),
            (Part::Debuggers, debuggers::run),
            (Part::Disk, disk::run),
            (Part::Fuzz, fuzz::run),
            (Part::Stress, stress::run),
        ];
        for (part, run) in parts {
            if wanted(part) {
                let name = format!("{part:?} tests, {}", context.label());
                ui::note(&format!("== {name}"));
                let attempt = || {
                    let mut results = Report::new();
                    if let Err(error) = run(&context, &mut results) {
                        results.fail(&name, &format!("{error:#}"));
                    }
                    results
                };
                let first = attempt();
                if args.retry && first.has_failures() {
                    ui::note(&format!("== {name}, once more"));
                    report.absorb(attempt(), Some(first));
                } else {
                    report.absorb(first, None);
                }
            }
        }
    }
    Ok(report.finish())
}

/// `cargo test` of the crates that run on the build machine.
fn host(report: &mut Report) {
    ui::note("== host tests");
    let mut cargo = proc::cargo();
    cargo.args(["test", "--quiet", "--no-fail-fast"]);
    let output = cargo.stderr(std::process::Stdio::inherit()).output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let count = |word: &str| -> usize {
                text.lines()
                    .filter(|line| line.starts_with("test result:"))
                    .filter_map(|line| {
                        let before = line.split(word).next()?;
                        before.split_whitespace().last()?.parse::<usize>().ok()
                    })
                    .sum()
            };
            let (passed, failed) = (count(" passed"), count(" failed"));
            report.add(passed, failed);
            if !output.status.success() {
                println!("{text}");
                if failed == 0 {
                    report.fail("host tests", "cargo test failed");
                }
            }
            println!("host tests: {passed} passed, {failed} failed");
        }
        Err(error) => report.fail("host tests", &error.to_string()),
    }
}
