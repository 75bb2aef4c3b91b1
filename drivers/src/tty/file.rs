//! Terminals as files: what `open(2)` of a terminal returns.

use alloc::sync::Arc;

use abi::poll::PollEvents;
use abi::raw_sys::ioctl as request;
use abi::{Errno, Result};
use mm::IovIter;
use mm::user::UserPtr;
use vfs::file::File;
use vfs::file_ops::{FileOps, IoFlags, Whence};
use vfs::poll::PollTable;

use super::core::{Opening, Tty};
use super::ioctl;
use super::pty::Pty;

fn nonblock(file: &File, flags: IoFlags) -> bool {
    file.nonblock() || flags.contains(IoFlags::NOWAIT)
}

/// An open terminal: a serial line, or the slave of a pseudo terminal.
pub struct TtyFile {
    tty: Arc<Tty>,
    opening: Opening,
}

impl TtyFile {
    /// Opens `tty`; with `acquire` it becomes the controlling terminal of a session that has none.
    ///
    /// # Errors
    /// `EBUSY` while somebody holds it exclusively.
    pub fn open(tty: Arc<Tty>, acquire: bool) -> Result<Self> {
        let opening = tty.open()?;
        if acquire {
            tty.acquire_on_open();
        }
        Ok(Self { tty, opening })
    }

    /// Opens `tty` as the console: hang-ups do not end the file.
    ///
    /// # Errors
    /// As [`TtyFile::open`].
    pub fn open_console(tty: Arc<Tty>) -> Result<Self> {
        tty.open()?;
        Ok(Self { tty, opening: Opening::CONSOLE })
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }
}

impl FileOps for TtyFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        self.tty.read(iter, nonblock(file, flags), self.opening)
    }

    fn write_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        self.tty.write(iter, nonblock(file, flags), self.opening)
    }

    fn llseek(&self, _: &File, _: i64, _: Whence) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        if self.tty.is_dead(self.opening) {
            return Err(if cmd == request::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
        }
        ioctl::common(&self.tty, cmd, arg).unwrap_or(Err(Errno::ENOTTY))
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(self.tty.readers());
        table.wait(self.tty.writers());
        self.tty.poll(self.opening)
    }

    fn release(&self, _: &File) {
        self.tty.close();
    }
}

/// What keeps the slave's name in a devpts instance; dropping it removes the name.
pub trait SlaveName: Send + Sync {
    /// Opens the slave without a path (`TIOCGPTPEER`); returns the new descriptor.
    fn open_peer(&self, flags: u32) -> Result<i32>;
}

/// The open master of a pseudo terminal.
pub struct MasterFile {
    pty: Arc<Pty>,
    slave: Arc<Tty>,
    name: Arc<dyn SlaveName>,
}

impl MasterFile {
    /// The master of `pty`.
    pub fn new(pty: Arc<Pty>, slave: Arc<Tty>, name: Arc<dyn SlaveName>) -> Self {
        Self { pty, slave, name }
    }
}

impl FileOps for MasterFile {
    fn read_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        self.pty.read(iter, nonblock(file, flags))
    }

    fn write_iter(&self, file: &File, iter: &mut IovIter<'_>, _: &mut u64, flags: IoFlags) -> Result<usize> {
        self.pty.write(iter, nonblock(file, flags))
    }

    fn llseek(&self, _: &File, _: i64, _: Whence) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    fn ioctl(&self, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        let flag = || UserPtr::<i32>::new(arg).read().map(|value| value != 0);
        let put = |value: i32| UserPtr::<i32>::new(arg).write(&value).map(|()| 0);
        match cmd {
            request::TIOCGPTN => {
                UserPtr::<u32>::new(arg).write(&self.slave.index())?;
                Ok(0)
            }
            request::TIOCSPTLCK => {
                self.pty.set_locked(flag()?);
                Ok(0)
            }
            request::TIOCGPTLCK => put(i32::from(self.pty.is_locked())),
            request::TIOCPKT => {
                self.pty.set_packet_mode(flag()?);
                Ok(0)
            }
            request::TIOCGPKT => put(i32::from(self.pty.is_packet_mode())),
            request::TIOCGPTPEER => self.name.open_peer(arg as u32).map(|fd| fd as isize),
            request::TIOCSIG => self.signal(arg),
            request::TIOCINQ => put(self.pty.readable_bytes() as i32),
            request::TIOCOUTQ => put(0),
            // The master may ask for and set the slave's group without being in its session.
            request::TIOCGPGRP => put(self.slave.foreground().map_or(0, |group| group.number())),
            request::TIOCGSID => put(self.slave.session().ok_or(Errno::ENOTTY)?.number()),
            request::TIOCSCTTY | request::TIOCNOTTY => Err(Errno::ENOTTY),
            _ => ioctl::common(&self.slave, cmd, arg).unwrap_or(Err(Errno::ENOTTY)),
        }
    }

    fn poll(&self, _: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(self.pty.readers());
        table.wait(self.pty.writers());
        self.pty.poll()
    }

    fn show_fdinfo(&self, _: &File, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        writeln!(out, "tty-index:\t{}", self.slave.index())
    }

    fn release(&self, _: &File) {
        self.pty.master_closed();
    }
}

impl MasterFile {
    /// `TIOCSIG`: the master sends one of the keyboard's signals.
    fn signal(&self, signo: usize) -> Result<isize> {
        const KEYBOARD: [usize; 3] = [2, 3, 20];
        if !KEYBOARD.contains(&signo) {
            return Err(Errno::EINVAL);
        }
        if let Some(group) = self.slave.foreground() {
            group.signal(signo as i32);
        }
        Ok(0)
    }
}
