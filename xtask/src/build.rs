//! `cargo xtask build`: the kernel as an image that the architecture's boot contract describes.
//!
//! x86_64: the ELF file itself, whose PVH note is the entry point, without debug sections.
//! aarch64: the flat `Image` of Linux's `Documentation/arch/arm64/booting.rst`, made from the
//! loadable segments. The unstripped ELF file stays beside it for debuggers.

use crate::arch::Arch;
use crate::ui::Step;
use crate::{image, paths, proc, setup};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `cargo xtask build`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture to build for
    #[arg(long, value_enum, default_value = "x86_64")]
    pub arch: Arch,
    /// Build with debug assertions (lock order, sleeping in atomic context) instead of for speed
    #[arg(long)]
    pub debug: bool,
}

/// How the kernel is compiled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// Optimised; what is measured.
    Release,
    /// With debug assertions.
    Debug,
}

impl Profile {
    /// The profile for a `--debug` flag.
    pub fn from_debug_flag(debug: bool) -> Self {
        if debug { Profile::Debug } else { Profile::Release }
    }

    fn directory(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Debug => "debug",
        }
    }
}

/// A built kernel.
pub struct Kernel {
    /// What a boot loader loads.
    pub image: PathBuf,
    /// The ELF file with symbols and debug information.
    pub elf: PathBuf,
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    let kernel = kernel(args.arch, Profile::from_debug_flag(args.debug))?;
    println!("{}", kernel.image.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the kernel for `arch`.
pub fn kernel(arch: Arch, profile: Profile) -> Result<Kernel> {
    setup::rust_target(arch.kernel_target())?;
    let mut cargo = proc::cargo();
    cargo.args(["build", "--package", "kernel", "--bin", "karst"]);
    cargo.args(["--target", arch.kernel_target()]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    // Cargo shows its own progress on standard error.
    proc::run(cargo.stdout(std::process::Stdio::null()))?;
    let elf = paths::target().join(arch.kernel_target()).join(profile.directory()).join("karst");
    let mut bytes = std::fs::read(&elf).with_context(|| format!("read {}", elf.display()))?;
    image::add_symbols(&mut bytes)?;
    let image = paths::output(arch)?.join(match arch {
        Arch::X86_64 => "karst.elf",
        Arch::Aarch64 => "Image",
    });
    let packed = match arch {
        Arch::X86_64 => image::without_debug(&bytes)?,
        Arch::Aarch64 => image::flat(&bytes)?,
    };
    paths::write_if_changed(&image, &packed)?;
    Ok(Kernel { image, elf })
}

/// Builds a guest program of the workspace, statically linked, and returns its path.
pub fn guest(arch: Arch, package: &str) -> Result<PathBuf> {
    setup::rust_target(arch.guest_target())?;
    let step = Step::new(format!("build {package} for {arch}"));
    let mut cargo = proc::cargo();
    cargo.args(["build", "--quiet", "--profile", "guest", "--package", package]);
    cargo.args(["--target", arch.guest_target()]);
    proc::run(cargo.stdout(std::process::Stdio::null()))?;
    step.finish("done");
    Ok(paths::target().join(arch.guest_target()).join("guest").join(package))
}
