//! `flock(2)`: one lock per open file on the whole inode.

use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use sched::wait::Wait;

use super::{LockContext, LockKind, file_owner};
use crate::file::{File, FileMode};
use mm::fallible::TryVec;

/// A flock lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlockEntry {
    pub(super) file: u64,
    pub(super) kind: LockKind,
    pub(super) pid: i32,
}

/// What to do when the lock is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfBusy {
    /// Fail with `EAGAIN`.
    Fail,
    /// Wait; a signal ends it with `EINTR` (which restarts).
    Wait,
}

/// Takes (`Some`) or gives back (`None`) the lock of `file`. Changing the kind is not atomic: the old
/// lock goes first, as on Linux.
pub fn flock(file: &File, kind: Option<LockKind>, busy: IfBusy, pid: i32) -> Result<()> {
    let locks = file.inode().locks_or_new()?;
    let id = file_owner(file);
    let Some(kind) = kind else {
        locks.unlock(id);
        return Ok(());
    };
    if !file.mode().intersects(FileMode::READ | FileMode::WRITE) {
        return Err(Errno::EBADF);
    }
    {
        let state = locks.state.lock();
        if state.flock.iter().any(|l| l.file == id && l.kind == kind) {
            return Ok(());
        }
    }
    locks.unlock(id);
    file.has_locks.store(true, Ordering::Release);
    let entry = FlockEntry { file: id, kind, pid };
    match busy {
        IfBusy::Fail => locks.try_flock(entry).unwrap_or(Err(Errno::EAGAIN)),
        IfBusy::Wait => {
            if let Some(done) = locks.try_flock(entry) {
                return done;
            }
            locks.state.lock().note(|state| &mut state.waiting_flock, entry);
            let taken = locks.released.wait(Wait::INTERRUPTIBLE, || locks.try_flock(entry));
            locks.state.lock().waiting_flock.retain(|waiting| *waiting != entry);
            taken.map_err(|_| Errno::ERESTARTSYS)?
        }
    }
}

impl LockContext {
    fn unlock(&self, id: u64) {
        let held = {
            let mut state = self.state.lock();
            let before = state.flock.len();
            state.flock.retain(|l| l.file != id);
            before != state.flock.len()
        };
        if held {
            self.released.wake_all();
        }
    }

    /// `None` when somebody else holds it.
    fn try_flock(&self, entry: FlockEntry) -> Option<Result<()>> {
        let mut state = self.state.lock();
        let conflict = state
            .flock
            .iter()
            .any(|l| l.file != entry.file && (l.kind == LockKind::Write || entry.kind == LockKind::Write));
        if conflict {
            return None;
        }
        if state.flock.try_reserve(1).is_err() {
            return Some(Err(Errno::ENOLCK));
        }
        state.flock.push_reserved(entry);
        Some(Ok(()))
    }
}
