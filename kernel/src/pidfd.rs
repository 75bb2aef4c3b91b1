//! Descriptors that stand for processes: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), `CLONE_PIDFD`.
//!
//! A pidfd holds the [`Pid`] object, so it can never mean another process than the one it was made for. It is readable
//! for `poll` when the process has exited. `waitid(P_PIDFD)` takes one.

use crate::cred::access::may_inspect;
use crate::fs::context::{file_raw, install};
use crate::process::{Pid, State, Thread, current};
use crate::signal::Siginfo;
use crate::signal::kill::{self, Source, given_info, signal_or_probe};
use crate::syscall::{Fd, Syscall};
use abi::cap::Cap;
use abi::poll::PollEvents;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use mm::fallible::try_arc;
use mm::user::UserPtr;
use vfs::fdtable::{Fd as VfsFd, FdTable};
use vfs::file::{File, FileImpl};
use vfs::file_ops::FileOps;
use vfs::poll::PollTable;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[PIDFD_OPEN, PIDFD_SEND_SIGNAL, PIDFD_GETFD];

/// `PIDFD_NONBLOCK`.
const PIDFD_NONBLOCK: u32 = raw::O_NONBLOCK;
/// `PIDFD_THREAD`.
const PIDFD_THREAD: u32 = raw::O_EXCL;

/// The object behind the descriptor.
pub struct PidFile {
    pid: Arc<Pid>,
    /// Stands for one thread, not for its process.
    thread: bool,
}

impl PidFile {
    /// What it stands for.
    pub fn pid(&self) -> &Arc<Pid> {
        &self.pid
    }

    fn has_exited(&self) -> bool {
        if self.thread {
            self.pid.task().is_none()
        } else {
            self.pid.process().is_none_or(|p| p.state() != State::Alive)
        }
    }
}

impl FileOps for PidFile {
    fn show_fdinfo(&self, _: &File, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let ns = current().pid_ns();
        let alive = self.pid.process().is_some() || self.pid.task().is_some();
        let number = if alive { self.pid.nr_in(&ns) } else { -1 };
        write!(out, "Pid:\t{number}\nNSpid:\t{number}")?;
        if number > 0 {
            // Its numbers further in come behind.
            self.pid.numbers_from(&ns).skip(1).try_for_each(|inner| write!(out, "\t{inner}"))?;
        }
        writeln!(out)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.wait(&self.pid.exit_wait);
        if self.pid.process().is_none() && self.pid.task().is_none() {
            PollEvents::IN | PollEvents::RDNORM | PollEvents::HUP
        } else if self.has_exited() {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }
}

fn make(pid: &Arc<Pid>, thread: bool, nonblock: bool) -> Result<Arc<File>> {
    let flags = raw::O_RDWR | if nonblock { raw::O_NONBLOCK } else { 0 };
    let object = try_arc(PidFile { pid: pid.clone(), thread })?;
    vfs::anon::anon_file(&current().cred(), "[pidfd]", FileImpl::Shared(object), flags)
}

/// A file that stands for the process `pid`.
///
/// # Errors
/// `ESRCH`: it was reaped.
pub fn for_process(pid: &Arc<Pid>) -> Result<Arc<File>> {
    pid.process().ok_or(Errno::ESRCH)?;
    make(pid, false, false)
}

/// A descriptor that was chosen for a child before it is visible.
pub struct Reserved {
    files: Arc<FdTable>,
    fd: Option<VfsFd>,
}

impl Reserved {
    /// The child exists: the descriptor stays.
    pub fn install(mut self) {
        self.fd = None;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            // It was there a moment ago; if another thread closed it, so be it.
            let _ = self.files.close(fd);
        }
    }
}

/// Makes the descriptor of `CLONE_PIDFD` and stores its number at `addr`.
///
/// # Errors
/// `EMFILE`, `ENOMEM`, `EFAULT`.
pub fn reserve(pid: &Arc<Pid>, thread: bool, addr: usize) -> Result<Reserved> {
    let files = current().files().ok_or(Errno::EBADF)?;
    let fd = install(make(pid, thread, false)?, true)?;
    let reserved = Reserved { files, fd: Some(fd) };
    UserPtr::<i32>::new(addr).write(&fd.raw())?;
    Ok(reserved)
}

/// What a pidfd stands for, and whether it is non-blocking.
///
/// # Errors
/// `EBADF`: not a pidfd.
pub fn pid_of(fd: i32) -> Result<(Arc<Pid>, bool)> {
    let file = file_raw(VfsFd::from_raw(fd)?)?;
    let pidfd = file.private::<PidFile>().ok_or(Errno::EBADF)?;
    Ok((pidfd.pid.clone(), file.nonblock()))
}

#[macros::syscall(pidfd_open)]
fn sys_pidfd_open(pid: i32, flags: u32) -> Result<Fd> {
    if flags & !(PIDFD_NONBLOCK | PIDFD_THREAD) != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let thread = flags & PIDFD_THREAD != 0;
    let found = current().pid_ns().find(pid).ok_or(Errno::ESRCH)?;
    if thread && found.task().is_none() {
        return Err(Errno::ESRCH);
    }
    if !thread && found.process().is_none() {
        // The id of a thread that leads no process.
        return Err(Errno::EINVAL);
    }
    let file = make(&found, thread, flags & PIDFD_NONBLOCK != 0)?;
    Ok(Fd(install(file, true)?.raw()))
}

#[macros::syscall(pidfd_send_signal)]
fn sys_pidfd_send_signal(pidfd: Fd, sig: i32, info: UserPtr<Siginfo>, flags: u32) -> Result<()> {
    /// `PIDFD_SIGNAL_*`: thread, process, process group.
    const KNOWN: u32 = 7;
    if flags & !KNOWN != 0 || flags.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let file = crate::fs::context::file(VfsFd::from_raw(pidfd.0)?)?;
    // A descriptor of /proc/PID does as well.
    let (pid, of_thread) = match file.private::<PidFile>() {
        Some(object) => (object.pid.clone(), object.thread),
        None => (crate::procfs::process_of(&file).ok_or(Errno::EBADF)?, false),
    };
    let me = current();
    // A process outside of the caller's namespace cannot be signalled through one.
    if pid.nr_in(&me.pid_ns()) == 0 {
        return Err(Errno::EINVAL);
    }
    let to_self = Arc::ptr_eq(&pid, &me.process.pid);
    let given = info.non_null().map(|i| given_info(i, sig, to_self)).transpose()?;
    let source = given.as_ref().map_or(Source::Kill, Source::Given);
    let signal = signal_or_probe(sig)?;
    let by_thread = flags == 1 || flags == 0 && of_thread;
    if flags == 4 {
        kill::group(&pid, signal, source)
    } else if by_thread {
        kill::thread(&pid.task().ok_or(Errno::ESRCH)?, signal, source)
    } else {
        kill::process(&pid.process().ok_or(Errno::ESRCH)?, signal, source)
    }
}

#[macros::syscall(pidfd_getfd)]
fn sys_pidfd_getfd(pidfd: Fd, targetfd: i32, flags: u32) -> Result<Fd> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (pid, _) = pid_of(pidfd.0)?;
    let process = pid.process().ok_or(Errno::ESRCH)?;
    let task = process.any_task().ok_or(Errno::ESRCH)?;
    let thread = task.data::<Thread>().ok_or(Errno::ESRCH)?;
    may_inspect(&current(), thread, Cap::SysPtrace)?;
    let files = thread.files().ok_or(Errno::ESRCH)?;
    let file = files.get_raw(VfsFd::from_raw(targetfd)?)?;
    Ok(Fd(install(file, true)?.raw()))
}
