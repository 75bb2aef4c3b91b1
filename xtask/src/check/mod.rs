//! `cargo xtask check`: everything about the source that can be decided without running it.
//!
//! - formatting (`cargo fmt --check`) and clippy with warnings denied, for each target;
//! - [`layers`]: a crate depends only on rows below its own (docs/, "Folders and layers");
//! - [`source`]: unsafe code only where it is allowed, `cfg(target_arch)` only in `arch/` and
//!   `boot/`, no unfinished code.

mod layers;
mod lexer;
mod source;

use crate::arch::Arch;
use crate::ui::Step;
use crate::{proc, setup, ui};
use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};
use std::process::{Command, ExitCode};

/// Options of `cargo xtask check`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture whose kernel and guest programs are checked [default: all]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Only the rules on the source text and on dependencies: no fmt, no clippy
    #[arg(long)]
    quick: bool,
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    let metadata = MetadataCommand::new()
        .current_dir(crate::paths::root())
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let mut findings = Vec::new();
    rule("layers", layers::check(&metadata), &mut findings);
    rule("source rules", source::check(&metadata)?, &mut findings);
    if !args.quick {
        compiled(args, &metadata, &mut findings)?;
    }
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("check: clean");
        return Ok(ExitCode::SUCCESS);
    }
    println!("check: {} found", findings.len());
    Ok(ExitCode::FAILURE)
}

fn rule(name: &str, found: Vec<String>, findings: &mut Vec<String>) {
    ui::note(&format!("{name}: {}", if found.is_empty() { "ok" } else { "FAIL" }));
    findings.extend(found);
}

/// The checks that cargo makes: formatting and clippy.
fn compiled(args: &Args, metadata: &Metadata, findings: &mut Vec<String>) -> Result<()> {
    for package in metadata.workspace_packages() {
        for name in package.features.keys() {
            // Features multiply what would have to be checked; there are none so far.
            ui::note(&format!("note: feature {name} of {} is not checked", package.name));
        }
    }
    step("cargo fmt", proc::cargo().args(["fmt", "--all", "--check"]), findings);
    step("clippy, build machine", &mut clippy(&["--all-targets"]), findings);
    let arches = args.arch.map_or_else(|| Arch::ALL.to_vec(), |arch| vec![arch]);
    for arch in arches {
        let target = arch.kernel_target();
        setup::rust_target(target)?;
        let name = format!("clippy, {target}");
        step(&name, &mut clippy(&["-p", "kernel", "--target", target]), findings);
        let target = arch.guest_target();
        setup::rust_target(target)?;
        let name = format!("clippy, {target}");
        let guests = ["-p", "guest-tests", "-p", "guest-bench", "--target", target];
        step(&name, &mut clippy(&guests), findings);
    }
    Ok(())
}

/// `cargo clippy` with warnings denied.
fn clippy(args: &[&str]) -> Command {
    let mut command = proc::cargo();
    command.args(["clippy", "--quiet"]).args(args).args(["--", "-D", "warnings"]);
    command
}

fn step(name: &str, command: &mut Command, findings: &mut Vec<String>) {
    let step = Step::new(name);
    match proc::run_quiet(command) {
        Ok(_) => step.finish("ok"),
        Err(error) => {
            step.finish("FAIL");
            findings.push(format!("{name}: {error:#}"));
        }
    }
}
