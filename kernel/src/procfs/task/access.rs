//! Who may look into a process: [`crate::cred::access`] with file system credentials.

use abi::{Errno, Result};

use crate::cred::access::{self, Creds};
use crate::process::{Thread, current};

/// What is wanted of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// To read its state (`PTRACE_MODE_READ_FSCREDS`).
    Read,
    /// To change it (`PTRACE_MODE_ATTACH_FSCREDS`).
    Attach,
}

/// Whether the running thread may look into `target`.
///
/// # Errors
/// `EACCES`.
pub(super) fn check(target: &Thread, _mode: Mode) -> Result<()> {
    access::check(&current(), target, Creds::FileSystem).map_err(|_| Errno::EACCES)
}

/// Whether the running thread may look into `target`, for files that show zeros otherwise.
pub(super) fn permitted(target: &Thread) -> bool {
    check(target, Mode::Read).is_ok()
}
