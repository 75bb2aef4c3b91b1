//! QEMU: the description of a virtual machine and its command line.

use crate::arch::Arch;
use crate::session::Session;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A virtual machine, described; [`Machine::command`] turns it into a command line.
#[derive(Clone)]
pub struct Machine {
    /// Architecture.
    pub arch: Arch,
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initial RAM file system.
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub append: String,
    /// Number of CPUs, or a whole `-smp` argument.
    pub smp: String,
    /// Memory size as QEMU writes it.
    pub memory: String,
    /// `-M`
    pub machine: String,
    /// `-cpu`
    pub cpu: String,
    /// `-accel`
    pub accel: String,
    /// Further arguments.
    pub extra: Vec<String>,
}

impl Machine {
    /// A machine with the defaults of `cargo xtask run`.
    pub fn new(arch: Arch, kernel: impl Into<PathBuf>) -> Self {
        Machine {
            arch,
            kernel: kernel.into(),
            initrd: None,
            append: format!("console={} panic=-1", arch.console()),
            smp: "4".into(),
            memory: "512M".into(),
            machine: arch.machine().into(),
            cpu: "max".into(),
            accel: "tcg".into(),
            extra: Vec::new(),
        }
    }

    /// Sets the initial RAM file system.
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        self.initrd = Some(path.into());
        self
    }

    /// Adds to the kernel command line.
    pub fn append(mut self, words: &str) -> Self {
        if !words.is_empty() {
            self.append.push(' ');
            self.append.push_str(words);
        }
        self
    }

    /// Adds QEMU arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.extra.extend(args.into_iter().map(Into::into));
        self
    }

    /// The command line, with `serial` as the character device behind the serial console.
    pub fn command(&self, serial: &str) -> Command {
        let mut command = Command::new(self.arch.qemu());
        self.arguments(&mut command, serial);
        command
    }

    /// Starts the machine with its console on pipes. It is killed after `limit` even if nobody
    /// is left to wait for it.
    pub fn start(&self, limit: Duration) -> Result<Session> {
        Session::on_pipes(self.limited("stdio", limit), limit)
    }

    /// Starts the machine with its console on a pseudo-terminal, as a person's terminal has it.
    pub fn start_on_terminal(&self, limit: Duration) -> Result<Session> {
        Session::on_terminal(self.limited("mon:stdio", limit), limit)
    }

    fn limited(&self, serial: &str, limit: Duration) -> Command {
        let seconds = limit.as_secs().max(1).to_string();
        let mut command = Command::new("timeout");
        command.args(["--foreground", "-k", "5", &seconds, self.arch.qemu()]);
        self.arguments(&mut command, serial);
        command
    }

    fn arguments(&self, command: &mut Command, serial: &str) {
        command
            .args(["-accel", &self.accel, "-M", &self.machine, "-cpu", &self.cpu])
            .args(["-smp", &self.smp, "-m", &self.memory])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", serial])
            .arg("-kernel")
            .arg(&self.kernel);
        if let Some(initrd) = &self.initrd {
            command.arg("-initrd").arg(initrd);
        }
        command.args(["-append", &self.append]).args(&self.extra);
    }
}
