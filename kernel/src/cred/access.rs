//! Whether one thread may look into another: the check of `ptrace(2)`, "Ptrace access mode checking".

use crate::process::{Thread, current};
use abi::cap::Cap;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use vfs::security::{self, Reach};

/// Which of the caller's ids and capabilities count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Creds {
    /// The real ids, and what it may permit itself: for system calls that name a process (`PTRACE_MODE_REALCREDS`).
    Real,
    /// Those for file access, and what is in effect: for `/proc` (`PTRACE_MODE_FSCREDS`).
    FileSystem,
}

/// Whether `me` may look into `target` or change it.
///
/// # Errors
/// `EPERM`.
pub fn check(me: &Thread, target: &Thread, creds: Creds) -> Result<()> {
    check_with(me, target, creds, Cap::SysPtrace)
}

/// As [`check`] for a system call; `cap` is the capability that does without equal ids.
///
/// # Errors
/// `EPERM`.
pub fn may_inspect(me: &Thread, target: &Thread, cap: Cap) -> Result<()> {
    check_with(me, target, Creds::Real, cap)
}

fn check_with(me: &Thread, target: &Thread, creds: Creds, cap: Cap) -> Result<()> {
    if Arc::ptr_eq(&me.process, &target.process) {
        return Ok(());
    }
    let (mine, theirs) = (me.cred(), target.cred());
    let (uid, gid, caps) = match creds {
        Creds::Real => (mine.uid, mine.gid, mine.cap_permitted),
        Creds::FileSystem => (mine.fsuid, mine.fsgid, mine.cap_effective),
    };
    let same = [theirs.euid, theirs.suid, theirs.uid].iter().all(|u| *u == uid)
        && [theirs.egid, theirs.sgid, theirs.gid].iter().all(|g| *g == gid);
    let capable = mine.ns_capable(&theirs.user_ns, cap);
    let dumpable = target.process.dumpable.load(Ordering::Relaxed) == 1;
    let within = Arc::ptr_eq(&mine.user_ns, &theirs.user_ns) && caps.contains(theirs.cap_permitted);
    if !(capable || same && dumpable && within) {
        return Err(Errno::EPERM);
    }
    security::check_reach(&mine, theirs.domain.as_ref(), Reach::Inspect)
}

/// The memory of `target`, if the running thread may look into it; none of a thread that has none. An exec in the middle
/// does not slip another program's memory in: that is undumpable before it is there.
///
/// # Errors
/// `EPERM`.
pub fn memory(target: &Thread, creds: Creds) -> Result<Option<Arc<AddressSpace>>> {
    let space = target.mm();
    check(&current(), target, creds)?;
    Ok(space)
}
