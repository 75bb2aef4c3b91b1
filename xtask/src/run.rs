//! `cargo xtask run`: boot the kernel in QEMU, into a shell or for one command.

use crate::arch::Arch;
use crate::build::{self, Profile};
use crate::initramfs::{EXEC_BEGIN, EXEC_END};
use crate::qemu::{Drive, Machine};
use crate::session::{self, Session, Waited};
use crate::{debian, initramfs, paths, proc, setup, ui};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `cargo xtask run`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture to run
    #[arg(long, value_enum, default_value = "x86_64")]
    arch: Arch,
    /// Build with debug assertions
    #[arg(long)]
    debug: bool,
    /// Number of CPUs (or a whole QEMU -smp argument)
    #[arg(long, default_value = "4")]
    smp: String,
    /// Memory, as QEMU's -m takes it
    #[arg(long, short, default_value = "512M")]
    memory: String,
    /// Initial RAM file system [default: one with Debian's busybox-static]
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// Raw disk image to attach (repeatable); MORE are options of QEMU's device
    #[arg(long, value_name = "FILE[,if=virtio|scsi|nvme|ahci][,MORE]")]
    drive: Vec<Drive>,
    /// Words to add to the kernel command line
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Run CMD in the guest, print its output, power off and exit with its status
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Seconds after which a guest of --exec is stopped
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Wait for a debugger and print the command that attaches it
    #[arg(long)]
    gdb: bool,
    /// QEMU machine [default: q35, or virt,gic-version=3]
    #[arg(long)]
    machine: Option<String>,
    /// QEMU CPU model
    #[arg(long, default_value = "max")]
    cpu: String,
    /// QEMU accelerator
    #[arg(long, default_value = "tcg")]
    accel: String,
    /// Boot Debian's Linux 6.12 instead of Karst
    #[arg(long)]
    oracle: bool,
    /// Boot this image instead of building one
    #[arg(long, conflicts_with = "oracle")]
    kernel: Option<PathBuf>,
    /// Further arguments for QEMU, after --
    #[arg(last = true)]
    qemu: Vec<String>,
}

/// Runs the subcommand.
pub fn main(args: &Args) -> Result<ExitCode> {
    setup::qemu(args.arch)?;
    let (kernel, elf) = match &args.kernel {
        Some(path) => (path.clone(), path.clone()),
        None if args.oracle => {
            let path = debian::linux(args.arch)?;
            (path.clone(), path)
        }
        None => {
            let built = build::kernel(args.arch, Profile::from_debug_flag(args.debug))?;
            (built.image, built.elf)
        }
    };
    let initrd = match &args.initrd {
        Some(path) => path.clone(),
        None => initramfs::shell(args.arch)?,
    };
    let mut machine = Machine::new(args.arch, kernel).initrd(initrd).append(&args.append);
    machine.smp.clone_from(&args.smp);
    machine.memory.clone_from(&args.memory);
    machine.cpu.clone_from(&args.cpu);
    machine.accel.clone_from(&args.accel);
    if let Some(name) = &args.machine {
        machine.machine.clone_from(name);
    }
    for drive in &args.drive {
        let file = drive.file.canonicalize().with_context(|| format!("open {}", drive.file.display()))?;
        machine = machine.drive(&Drive { file, ..drive.clone() });
    }
    machine = machine.args(args.qemu.iter().cloned());
    if args.gdb {
        machine = machine.args(["-s", "-S"]);
        ui::note(&format!("waiting for: gdb {} -ex 'target remote localhost:1234'", elf.display()));
    }
    match &args.exec {
        None => interactive(&machine),
        Some(command) => {
            if let Some(base) = machine.initrd.take() {
                machine.initrd = Some(initramfs::exec(args.arch, &base, command)?);
            }
            let machine = machine.append(initramfs::exec_append());
            exec(&machine, Duration::from_secs(args.timeout))
        }
    }
}

/// Hands the terminal to the guest.
fn interactive(machine: &Machine) -> Result<ExitCode> {
    let mut command = machine.command("mon:stdio");
    let status = command.status().with_context(|| format!("start {}", proc::describe(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a machine whose initramfs was made by [`initramfs::exec`] and prints what its command
/// prints, as it comes.
fn exec(machine: &Machine, limit: Duration) -> Result<ExitCode> {
    match capture(machine, limit, &mut std::io::stdout().lock())? {
        Some(status) => Ok(ExitCode::from(status)),
        None => {
            let log = console_log(machine)?;
            let text = console_text(machine)?;
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
            bail!("the guest ended without running the command to its end (log: {})", log.display())
        }
    }
}

/// The last console log of a guest that ran one command.
pub fn console_text(machine: &Machine) -> Result<String> {
    let log = std::fs::read(console_log(machine)?)?;
    Ok(String::from_utf8_lossy(&log).replace("\r\n", "\n"))
}

/// Where the last console log of a guest that ran one command is kept.
fn console_log(machine: &Machine) -> Result<PathBuf> {
    Ok(paths::output(machine.arch)?.join("console.log"))
}

/// Runs a machine whose initramfs was made by [`initramfs::exec`]; writes what its command prints
/// to `out`, and returns its exit status if it got that far.
pub fn capture(machine: &Machine, limit: Duration, out: &mut dyn Write) -> Result<Option<u8>> {
    let mut session = machine.start(limit)?;
    let status = relay(&mut session, limit, out);
    std::fs::write(console_log(machine)?, &session.log)?;
    status
}

/// Copies the command's output to `out`; its exit status, if it got that far.
fn relay(session: &mut Session, limit: Duration, out: &mut dyn Write) -> Result<Option<u8>> {
    if session.wait_for(EXEC_BEGIN, limit) != Waited::Found || session.wait_for("\n", limit) != Waited::Found
    {
        return Ok(None);
    }
    session.take_seen();
    loop {
        let waited = session.wait_for("\n", limit);
        let mut line = session.take_seen();
        if line.ends_with(b"\r\n") {
            line.truncate(line.len() - 2);
            line.push(b'\n');
        }
        // The marker begins a line, or follows output that did not end with a newline.
        if let Some(at) = session::find(&line, EXEC_END.as_bytes()) {
            out.write_all(&line[..at])?;
            out.flush()?;
            let status = String::from_utf8_lossy(&line[at + EXEC_END.len()..]).trim().parse();
            // Not every machine can switch itself off.
            session.finish_within(Duration::from_secs(10))?;
            return Ok(Some(status.unwrap_or(1)));
        }
        out.write_all(&line)?;
        out.flush()?;
        if waited != Waited::Found {
            return Ok(None);
        }
    }
}
