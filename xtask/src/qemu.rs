//! QEMU: the machine description, and sessions with a guest through its serial console.

use crate::arch::Arch;
use crate::proc;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

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
        let mut command = Command::new("timeout");
        command.args(["-k", "5", &limit.as_secs().max(1).to_string(), self.arch.qemu()]);
        self.arguments(&mut command, "stdio");
        Session::start(command, limit)
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

/// A running guest whose console we read and write.
pub struct Session {
    child: Child,
    chunks: Receiver<Vec<u8>>,
    deadline: Instant,
    /// All that the console has printed so far.
    pub log: Vec<u8>,
    seen: usize,
    taken: usize,
    closed: bool,
    echoing: bool,
}

/// How waiting for something on the console ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waited {
    /// The text appeared.
    Found,
    /// QEMU ended first.
    Ended,
    /// Time ran out first.
    TimedOut,
}

impl Session {
    fn start(mut command: Command, limit: Duration) -> Result<Session> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start {}", proc::describe(&command)))?;
        let mut console = child.stdout.take().context("no standard output")?;
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = console.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + limit;
        Ok(Session {
            child,
            chunks,
            deadline,
            log: Vec::new(),
            seen: 0,
            taken: 0,
            closed: false,
            echoing: false,
        })
    }

    /// From now on, shows what the console prints on standard error.
    pub fn echo(&mut self) {
        self.echoing = true;
    }

    /// Types `text` on the console.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("the console is closed")?;
        input.write_all(text.as_bytes())?;
        input.flush()?;
        Ok(())
    }

    /// Waits until `text` appears after what earlier waits have found.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Waited {
        let deadline = self.deadline.min(Instant::now() + limit);
        loop {
            let unseen = &self.log[self.seen..];
            if let Some(at) = find(unseen, text.as_bytes()) {
                self.seen += at + text.len();
                return Waited::Found;
            }
            match self.receive(deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Waited::TimedOut,
                Err(RecvTimeoutError::Disconnected) => {
                    self.closed = true;
                    return Waited::Ended;
                }
            }
        }
    }

    /// Waits for QEMU to end and returns its status; `None` if it had to be killed.
    pub fn finish(&mut self) -> Result<Option<ExitStatus>> {
        loop {
            match self.receive(self.deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.kill();
                    return Ok(None);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    // `timeout` reports an elapsed limit as 124 (or 137 after the second kill).
                    let timed_out = matches!(status.code(), Some(124 | 137));
                    return Ok((!timed_out).then_some(status));
                }
            }
        }
    }

    /// Takes what has been printed since the last call, up to what waits have found; all that is
    /// left when the console has closed.
    pub fn take_seen(&mut self) -> Vec<u8> {
        let end = if self.closed { self.log.len() } else { self.seen };
        let taken = self.log[self.taken..end].to_vec();
        self.taken = end;
        taken
    }

    /// The log as text with line ends as on Unix.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.log).replace("\r\n", "\n")
    }

    fn receive(&mut self, deadline: Instant) -> Result<(), RecvTimeoutError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let chunk = self.chunks.recv_timeout(left)?;
        if self.echoing {
            // A closed standard error is no reason to stop.
            let _ = std::io::stderr().write_all(&chunk);
        }
        self.log.extend_from_slice(&chunk);
        Ok(())
    }

    fn kill(&mut self) {
        // The child is `timeout`, which passes a termination signal on to QEMU.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // It may have ended already; then there is nothing left to do.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// The position of `needle` in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len().max(1)).position(|window| window == needle)
}
