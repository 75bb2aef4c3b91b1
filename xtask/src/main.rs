//! `cargo xtask`: build, run, test, measure and check Karst.
//!
//! One subcommand per module. What the machine lacks (a Rust target, QEMU, Debian's busybox or
//! kernel packages) is fetched by [`setup`] and [`debian`]; where that is impossible the command
//! ends with one line that says what to install.

mod arch;
mod bench;
mod build;
mod check;
mod compress;
mod cpio;
mod debian;
mod docs;
mod fuzz;
mod image;
mod initramfs;
mod miri;
mod paths;
mod proc;
mod programs;
mod qemu;
mod run;
mod session;
mod setup;
mod sweep;
mod test;
mod ui;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Build, run, test, measure and check Karst.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the bootable kernel image; its path is the last line printed
    Build(build::Args),
    /// Boot the kernel in QEMU, by default into a busybox shell (leave QEMU with Ctrl-A X)
    Run(Box<run::Args>),
    /// Measure Karst and Linux 6.12 side by side, in guest instructions
    Bench(bench::Args),
    /// Check formatting, lints, layers and the unsafe policy
    Check(check::Args),
    /// Bring generated parts of the documentation up to date and check its links
    Docs(docs::Args),
    /// Make random system calls in a guest, on a kernel with debug checks
    Fuzz(fuzz::Args),
    /// Run the tests of lock-free code under miri
    Miri(miri::Args),
    /// Make each allocation of many workloads fail in a guest
    Sweep(sweep::Args),
    /// Run the tests: on the build machine, then in guests
    Test(test::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Build(args) => build::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Docs(args) => docs::main(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Miri(args) => miri::main(&args),
        Command::Sweep(args) => sweep::main(&args),
        Command::Test(args) => test::main(&args),
    };
    outcome.unwrap_or_else(|error| {
        ui::error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}
