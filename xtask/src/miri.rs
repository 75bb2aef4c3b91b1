//! `cargo xtask miri`: the tests of what is lock-free, under miri.
//!
//! Miri interprets the tests, reports undefined behaviour and data races, and lets loads return
//! any value that the memory model allows, so a missing barrier shows on a machine that would
//! never reorder. The tests themselves repeat less there (`cfg!(miri)`).

use crate::ui::Step;
use crate::{paths, proc, ui};
use anyhow::{Result, bail};
use std::process::{Command, ExitCode};

/// The crates of locks, sequence counters, RCU pointers and the containers read under RCU.
const CRATES: [&str; 2] = ["sync", "collections"];

/// Options of `cargo xtask miri`.
#[derive(clap::Args)]
pub struct Args {
    /// How many schedules to try, each with a seed of its own
    #[arg(long, default_value_t = 4)]
    seeds: u32,
    /// Only tests whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    setup()?;
    for name in CRATES {
        let mut command = Command::new("cargo");
        command
            .current_dir(paths::root())
            // Isolation would keep proptest from its source of random numbers.
            .env(
                "MIRIFLAGS",
                format!("-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-many-seeds=0..{}", args.seeds),
            )
            .env("PROPTEST_CASES", "2")
            .env("CARGO_TARGET_DIR", paths::root().join("target/miri"))
            .args(["+nightly", "miri", "test", "--quiet", "--lib", "-p", name, "--", &args.filter]);
        for variable in
            ["CARGO", "RUSTUP_TOOLCHAIN", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"]
        {
            command.env_remove(variable);
        }
        ui::note(&format!("miri: {name}, {} schedules", args.seeds));
        proc::run(&mut command)?;
    }
    println!("miri: clean");
    Ok(ExitCode::SUCCESS)
}

/// Installs miri for the nightly toolchain, which is all that nightly is used for.
fn setup() -> Result<()> {
    if proc::find("rustup").is_none() {
        bail!("miri comes through rustup: install rustup");
    }
    let installed = |name: &str| {
        let list = Command::new("rustup").args(["component", "list", "--toolchain", "nightly"]).output();
        list.is_ok_and(|list| {
            let text = String::from_utf8_lossy(&list.stdout).into_owned();
            text.lines().any(|line| line.starts_with(name) && line.ends_with("(installed)"))
        })
    };
    if installed("miri") && installed("rust-src") {
        return Ok(());
    }
    let step = Step::new("install miri");
    let toolchain = ["toolchain", "install", "nightly", "--profile", "minimal"];
    if !installed("rustc") {
        proc::run_quiet(Command::new("rustup").args(toolchain))?;
    }
    proc::run_quiet(Command::new("rustup").args([
        "component",
        "add",
        "--toolchain",
        "nightly",
        "miri",
        "rust-src",
    ]))?;
    step.finish("done");
    Ok(())
}
