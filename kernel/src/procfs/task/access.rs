//! Who may look into a process: `ptrace(2)`, "Ptrace access mode checking", with file system credentials.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::cap::Cap;
use abi::{Errno, Result};

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
    let me = current();
    if Arc::ptr_eq(&me.process, &target.process) {
        return Ok(());
    }
    let (mine, theirs) = (me.cred(), target.cred());
    let capable = mine.ns_capable(&theirs.user_ns, Cap::SysPtrace);
    if capable {
        return Ok(());
    }
    let same_user = [theirs.euid, theirs.suid, theirs.uid].iter().all(|uid| *uid == mine.fsuid);
    let same_group = [theirs.egid, theirs.sgid, theirs.gid].iter().all(|gid| *gid == mine.fsgid);
    let dumpable = target.process.dumpable.load(Ordering::Relaxed) == 1;
    let within =
        Arc::ptr_eq(&mine.user_ns, &theirs.user_ns) && mine.cap_effective.contains(theirs.cap_permitted);
    if same_user && same_group && dumpable && within { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether the running thread may look into `target`, for files that show zeros otherwise.
pub(super) fn permitted(target: &Thread) -> bool {
    check(target, Mode::Read).is_ok()
}
