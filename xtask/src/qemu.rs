//! QEMU: the description of a virtual machine and its command line.

use crate::arch::Arch;
use crate::session::Session;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

/// What a disk is attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// A virtio disk.
    #[default]
    Virtio,
    /// A disk of a virtio SCSI host.
    Scsi,
    /// An NVMe controller of its own.
    Nvme,
    /// A disk of an AHCI controller.
    Ahci,
}

/// A disk image and how it is attached: `FILE[,if=virtio|scsi|nvme|ahci][,MORE]`, MORE being options of QEMU's device.
#[derive(Clone, Debug)]
pub struct Drive {
    /// The image, raw.
    pub file: PathBuf,
    /// What it is attached to.
    pub bus: Bus,
    /// Further options of the device, each with a comma in front.
    pub options: String,
}

impl FromStr for Drive {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut words = text.split(',');
        let mut drive = Self {
            file: words.next().unwrap_or_default().into(),
            bus: Bus::default(),
            options: String::new(),
        };
        for word in words {
            match word {
                "if=virtio" => drive.bus = Bus::Virtio,
                "if=scsi" => drive.bus = Bus::Scsi,
                "if=nvme" => drive.bus = Bus::Nvme,
                "if=ahci" => drive.bus = Bus::Ahci,
                _ if word.starts_with("if=") => return Err(format!("{word}: virtio, scsi, nvme or ahci")),
                _ => drive.options.extend([",", word]),
            }
        }
        Ok(drive)
    }
}

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
    /// What the disks so far are attached to.
    pub disks: Vec<Bus>,
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
            disks: Vec::new(),
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

    /// Attaches a disk.
    pub fn drive(mut self, drive: &Drive) -> Self {
        let (index, of_kind) = (self.disks.len(), self.disks.iter().filter(|bus| **bus == drive.bus).count());
        let first = of_kind == 0;
        let id = format!("disk{index}");
        let options = &drive.options;
        let host = match drive.bus {
            Bus::Scsi if first => Some("virtio-scsi-pci,id=scsi".to_string()),
            Bus::Ahci if first => Some("ich9-ahci,id=ahci".to_string()),
            _ => None,
        };
        let device = match drive.bus {
            Bus::Virtio => format!("virtio-blk-pci,drive={id}{options}"),
            Bus::Scsi => format!("scsi-hd,bus=scsi.0,drive={id}{options}"),
            Bus::Nvme if options.contains("serial=") => format!("nvme,drive={id}{options}"),
            Bus::Nvme => format!("nvme,drive={id},serial={id}{options}"),
            Bus::Ahci => format!("ide-hd,bus=ahci.{of_kind},drive={id}{options}"),
        };
        self.disks.push(drive.bus);
        let file = drive.file.display();
        let image = format!("if=none,id={id},format=raw,file={file},discard=unmap");
        let host = host.into_iter().flat_map(|host| ["-device".to_string(), host]);
        self.args(
            ["-drive".to_string(), image].into_iter().chain(host).chain(["-device".to_string(), device]),
        )
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
