//! Whether one thread may look into another: the check of `ptrace(2)`, "Ptrace access mode checking".

use crate::process::Thread;
use abi::cap::Cap;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use vfs::security::{self, Reach};

/// Whether `me` may read the state of `target` (`/proc/<pid>/maps`, `process_vm_readv`, `get_robust_list`).
///
/// # Errors
/// `EPERM`.
pub fn may_inspect(me: &Thread, target: &Thread, cap: Cap) -> Result<()> {
    if Arc::ptr_eq(&me.process, &target.process) {
        return Ok(());
    }
    let (mine, theirs) = (me.cred(), target.cred());
    let same = mine.uid == theirs.euid
        && mine.uid == theirs.suid
        && mine.uid == theirs.uid
        && mine.gid == theirs.egid
        && mine.gid == theirs.sgid
        && mine.gid == theirs.gid;
    let capable = mine.ns_capable(&theirs.user_ns, cap);
    if !same && !capable {
        return Err(Errno::EPERM);
    }
    if target.process.dumpable.load(Ordering::Relaxed) != 1 && !capable {
        return Err(Errno::EPERM);
    }
    let within =
        Arc::ptr_eq(&mine.user_ns, &theirs.user_ns) && mine.cap_permitted.contains(theirs.cap_permitted);
    if !within && !capable {
        return Err(Errno::EPERM);
    }
    security::check_reach(&mine, theirs.domain.as_ref(), Reach::Inspect)
}
