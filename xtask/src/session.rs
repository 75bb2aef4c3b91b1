//! A session with a guest through its serial console.

use crate::proc;
use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A running guest whose console we read and write.
pub struct Session {
    child: Child,
    input: Box<dyn Write>,
    chunks: Receiver<Vec<u8>>,
    deadline: Instant,
    /// All that the console has printed so far.
    pub log: Vec<u8>,
    seen: usize,
    taken: usize,
    closed: bool,
    echoing: bool,
    terminal: bool,
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
    /// Starts `command` with its standard input and output on pipes.
    pub fn on_pipes(mut command: Command, limit: Duration) -> Result<Session> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start {}", proc::describe(&command)))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        Ok(Session::new(child, input, output, limit))
    }

    /// Starts `command` on a pseudo-terminal. Its log has no carriage returns: guest and host each
    /// add some.
    pub fn on_terminal(mut command: Command, limit: Duration) -> Result<Session> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = File::options().read(true).write(true).open(name.to_str()?)?;
        let child = command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave)
            .spawn()
            .with_context(|| format!("start {}", proc::describe(&command)))?;
        // The command object holds the slave open: the end of the child would not be noticed.
        drop(command);
        let master = File::from(master);
        let mut session = Session::new(child, master.try_clone()?, master, limit);
        session.terminal = true;
        Ok(session)
    }

    fn new(
        child: Child,
        input: impl Write + 'static,
        mut output: impl Read + Send + 'static,
        limit: Duration,
    ) -> Session {
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Session {
            child,
            input: Box::new(input),
            chunks,
            deadline: Instant::now() + limit,
            log: Vec::new(),
            seen: 0,
            taken: 0,
            closed: false,
            echoing: false,
            terminal: false,
        }
    }

    /// From now on, shows what the console prints on standard error.
    pub fn echo(&mut self) {
        self.echoing = true;
    }

    /// Types `text` on the console.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes())?;
        self.input.flush()?;
        Ok(())
    }

    /// Waits until `text` appears after what earlier waits have found.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Waited {
        let deadline = self.deadline.min(Instant::now() + limit);
        // Where it may begin: what was looked at once is not looked at again, however much the guest prints.
        let mut from = self.seen;
        loop {
            if let Some(at) = find(&self.log[from..], text.as_bytes()) {
                self.seen = from + at + text.len();
                return Waited::Found;
            }
            from = from.max((self.log.len() + 1).saturating_sub(text.len()));
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

    /// As [`Session::finish`], but waits no longer than `limit`.
    pub fn finish_within(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        self.deadline = self.deadline.min(Instant::now() + limit);
        self.finish()
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
        let terminal = self.terminal;
        self.log.extend(chunk.into_iter().filter(|byte| !(terminal && *byte == b'\r')));
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
