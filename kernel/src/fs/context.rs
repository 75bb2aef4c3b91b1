//! Who calls a file system call, and where its names start.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result, raw};
use mm::user::UserStr;
use vfs::cred::Credentials;
use vfs::file::File;
use vfs::mount::MountNamespace;
use vfs::namei::At;
use vfs::path::{FsStruct, LookupContext};

use crate::process::current;
use crate::syscall::Fd;

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
pub fn at<R>(dirfd: Fd, name: &[u8], f: impl FnOnce(&LookupContext<'_>, At<'_>) -> Result<R>) -> Result<R> {
    let caller = Caller::current()?;
    if dirfd.0 == raw::AT_FDCWD || name.first() == Some(&b'/') {
        return f(&caller.ctx(), At::Cwd);
    }
    let file = file_raw(dirfd)?;
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
pub fn file(fd: Fd) -> Result<Arc<File>> {
    current().files().ok_or(Errno::EBADF)?.get(fd.0)
}

/// As [`file`], `O_PATH` files included.
///
/// # Errors
/// `EBADF`.
pub fn file_raw(fd: Fd) -> Result<Arc<File>> {
    current().files().ok_or(Errno::EBADF)?.get_raw(fd.0)
}
