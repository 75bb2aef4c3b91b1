//! What terminals need to know of processes: sessions, process groups, signals.
//!
//! The process layer sits above this crate and implements these traits; [`set_job_control`] joins
//! the two at boot. Source: `credentials(7)`, `setsid(2)`, `tcsetpgrp(3)`, POSIX "General Terminal Interface".

use alloc::sync::Arc;

use abi::{Errno, Result};
use sync::Once;

use super::core::Tty;

/// A process group, alive or not; the object outlives its number.
pub trait Group: Send + Sync {
    /// Identifies the group for the whole uptime; numbers are reused, this is not.
    fn identity(&self) -> u64;
    /// Its number as the calling process sees it, 0 if it cannot.
    fn number(&self) -> i32;
    /// Sends `signo` to each member, as the kernel.
    fn signal(&self, signo: i32);
    /// Whether no member has a parent in another group of the session.
    fn is_orphaned(&self) -> bool;
    /// The session that the group is part of.
    fn session(&self) -> Arc<dyn Session>;
}

/// A session.
pub trait Session: Send + Sync {
    /// Identifies the session for the whole uptime.
    fn identity(&self) -> u64;
    /// Its number as the calling process sees it, 0 if it cannot.
    fn number(&self) -> i32;
    /// Its controlling terminal.
    fn terminal(&self) -> Option<Arc<Tty>>;
    /// Gives it a controlling terminal, or takes it away.
    fn set_terminal(&self, tty: Option<Arc<Tty>>);
    /// The controlling terminal is dead; `foreground` is told when the leader exits.
    fn terminal_lost(&self, foreground: Option<Arc<dyn Group>>);
    /// Sends `signo` to the session's leader.
    fn signal_leader(&self, signo: i32);
}

/// Questions about the process that calls into a terminal.
pub trait JobControl: Send + Sync {
    /// The calling process's group.
    fn group(&self) -> Arc<dyn Group>;
    /// The calling process's session.
    fn session(&self) -> Arc<dyn Session>;
    /// Whether the calling process leads its session.
    fn is_session_leader(&self) -> bool;
    /// The group that the caller knows by `number`.
    ///
    /// # Errors
    /// `ESRCH` when there is none.
    fn find_group(&self, number: i32) -> Result<Arc<dyn Group>>;
    /// Whether the calling thread blocks or ignores `signo`.
    fn ignores(&self, signo: i32) -> bool;
    /// Whether the caller has `CAP_SYS_ADMIN`.
    fn is_admin(&self) -> bool;
}

static JOB_CONTROL: Once<&'static dyn JobControl> = Once::new();

/// Joins terminals to the process layer. Only the first call counts.
pub fn set_job_control(implementation: &'static dyn JobControl) {
    JOB_CONTROL.call_once(|| implementation);
}

/// The process layer.
///
/// # Errors
/// `EIO` before it has been joined: nobody can call then but the kernel itself.
pub fn job_control() -> Result<&'static dyn JobControl> {
    JOB_CONTROL.get().copied().ok_or(Errno::EIO)
}
