//! Credentials: changing who acts. credentials(7), capabilities(7).
//!
//! [`vfs::Credentials`] are immutable; a change prepares a copy, alters it and commits it to the running thread
//! ([`commit`]). Only a thread changes its own credentials, so preparing needs no lock. Each thread has its own: POSIX
//! wants them equal in a process, which the C library arranges by signalling its threads.

pub mod access;
pub mod caps;
pub mod commit;
pub mod exec;
pub mod groups;
pub mod ids;
pub mod prctl;

use crate::process::{CurrentThread, Resource};
use abi::cap::Cap;
use abi::{Errno, Result};

/// execve fails where a setuid program had dropped into a user who is over `RLIMIT_NPROC`: the check that `setuid`
/// itself must not fail by.
///
/// # Errors
/// `EAGAIN`.
pub fn check_nproc_at_exec(me: &CurrentThread) -> Result<()> {
    if !me.has(crate::process::thread::flags::NPROC_EXCEEDED) {
        return Ok(());
    }
    let count = me.charge.lock().as_ref().map_or(0, |c| c.count());
    let over = count > me.process.limits.cur(Resource::Nproc);
    me.clear(crate::process::thread::flags::NPROC_EXCEEDED);
    let spared = me.with_cred(|c| c.uid.0 == 0 || c.capable(Cap::SysResource) || c.capable(Cap::SysAdmin));
    if over && !spared { Err(Errno::EAGAIN) } else { Ok(()) }
}
