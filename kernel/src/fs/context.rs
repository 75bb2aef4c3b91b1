//! Who calls a file system call, and where its names start.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use abi::{Errno, Result, raw};
use mm::user::UserStr;
use vfs::cred::Credentials;
use vfs::file::File;
use vfs::mount::MountNamespace;
use vfs::namei::At;
use vfs::path::{FsStruct, LookupContext};

use crate::process::{Resource, current};
use crate::syscall::SyscallArg;
use vfs::fdtable::{Fd, FdFlags, FdTable};

/// The calling thread's credentials, directories and mounts, held for the time of a call.
pub struct Caller {
    cred: Arc<Credentials>,
    fs: Arc<FsStruct>,
    ns: Arc<MountNamespace>,
}

impl Caller {
    /// The calling thread.
    ///
    /// # Errors
    /// `ESRCH` for a thread that is exiting and has given these up.
    pub fn current() -> Result<Self> {
        let thread = current();
        Ok(Self {
            cred: thread.cred(),
            fs: thread.fs().ok_or(Errno::ESRCH)?,
            ns: thread.nsproxy().ok_or(Errno::ESRCH)?.mnt.clone(),
        })
    }

    /// What path walks want to know.
    pub fn ctx(&self) -> LookupContext<'_> {
        LookupContext { cred: &self.cred, fs: &self.fs, ns: &self.ns }
    }

    /// The credentials.
    pub fn cred(&self) -> &Arc<Credentials> {
        &self.cred
    }

    /// Root, working directory, umask.
    pub fn fs(&self) -> &Arc<FsStruct> {
        &self.fs
    }
}

/// Calls `f` with the caller's context and the starting point that `dirfd` names.
///
/// The descriptor is looked up only if the name needs it: an absolute name ignores a bad one.
pub fn at<R>(
    dirfd: DirFd,
    name: &[u8],
    f: impl FnOnce(&LookupContext<'_>, At<'_>) -> Result<R>,
) -> Result<R> {
    let absolute = name.first() == Some(&b'/');
    at_dir(if absolute { DirFd::CWD } else { dirfd }, f)
}

/// Calls `f` with the caller's context and the starting point `dirfd`, whatever the name.
pub fn at_dir<R>(dirfd: DirFd, f: impl FnOnce(&LookupContext<'_>, At<'_>) -> Result<R>) -> Result<R> {
    let caller = Caller::current()?;
    if dirfd == DirFd::CWD {
        return f(&caller.ctx(), At::Cwd);
    }
    let file = file_raw(Fd::from_raw(dirfd.0)?)?;
    f(&caller.ctx(), At::File(&file))
}

/// Reads a path name of the user.
///
/// # Errors
/// `EFAULT`, and `ENAMETOOLONG` beyond `PATH_MAX`.
pub fn path(name: UserStr) -> Result<Vec<u8>> {
    name.read_path()
}

/// The open file behind a descriptor.
///
/// # Errors
/// `EBADF`, also for a file opened with `O_PATH`.
#[inline]
pub fn file(fd: Fd) -> Result<Arc<File>> {
    with_files(|files| files.get(fd))?
}

/// As [`file`], `O_PATH` files included.
///
/// # Errors
/// `EBADF`.
pub fn file_raw(fd: Fd) -> Result<Arc<File>> {
    with_files(|files| files.get_raw(fd))?
}

/// Looks into the caller's descriptor table, without a reference of its own. `f` runs with preemption off.
#[inline(always)]
fn with_files<R>(f: impl FnOnce(&FdTable) -> R) -> Result<R> {
    let guard = sched::rcu::read_lock();
    current().files.load(&guard).map(f).ok_or(Errno::EBADF)
}

/// The caller's descriptor table.
///
/// # Errors
/// `EBADF` for a thread that is exiting.
#[inline]
pub fn files() -> Result<Arc<FdTable>> {
    current().files().ok_or(Errno::EBADF)
}

/// The caller's limit on descriptors.
pub fn nofile() -> u64 {
    current().process.limits.cur(Resource::Nofile)
}

/// Gives a new file the lowest free descriptor.
///
/// # Errors
/// `EMFILE`, `ENOMEM`.
pub fn install(file: Arc<File>, cloexec: bool) -> Result<Fd> {
    files()?.install(file, nofile(), fd_flags(cloexec))
}

/// Descriptor flags from a call's `*_CLOEXEC`.
pub fn fd_flags(cloexec: bool) -> FdFlags {
    if cloexec { FdFlags::CLOEXEC } else { FdFlags::empty() }
}

/// Where a system call names the directory that relative names start at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirFd(pub i32);

impl DirFd {
    /// The working directory.
    pub const CWD: Self = Self(raw::AT_FDCWD);
}

impl SyscallArg for DirFd {
    #[inline]
    fn from_reg(register: usize) -> Self {
        Self(register as i32)
    }

    fn trace(register: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        match register as i32 {
            raw::AT_FDCWD => out.write_str("AT_FDCWD"),
            fd => write!(out, "{fd}"),
        }
    }
}
