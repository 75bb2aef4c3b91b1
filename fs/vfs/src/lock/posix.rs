//! Record locks: `fcntl(F_SETLK)` and `fcntl(F_OFD_SETLK)`.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::fs::Flock;
use abi::{Errno, Result, raw};
use arch::sync::SpinLock;
use sched::wait::Wait;

use super::flock::IfBusy;
use super::{LockContext, LockKind, PosixOwner, file_owner};
use crate::file::{File, FileMode};
use mm::fallible::TryVec;

/// Whom a record lock belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A descriptor table: a POSIX lock.
    Process(PosixOwner),
    /// An open file: an OFD lock.
    File(u64),
}

/// A range that is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PosixLock {
    /// Whose it is.
    pub owner: Owner,
    /// Shared or exclusive.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte; `i64::MAX` for "to the end, however far".
    pub end: u64,
    /// Process that took it, in the initial namespace; -1 for OFD locks.
    pub pid: i32,
}

const END: u64 = i64::MAX as u64;

impl PosixLock {
    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    pub(super) fn conflicts(&self, other: &Self) -> bool {
        self.owner != other.owner
            && self.overlaps(other)
            && (self.kind == LockKind::Write || other.kind == LockKind::Write)
    }
}

/// Who waits for whom: (waiter, holder). Small; searched by [`would_deadlock`].
static WAITING: SpinLock<Vec<(Owner, Owner)>> = SpinLock::new(Vec::new());

/// Whether `waiter` waiting for `holder` closes a circle.
fn would_deadlock(graph: &[(Owner, Owner)], waiter: Owner, holder: Owner) -> bool {
    let mut at = holder;
    for _ in 0..=graph.len() {
        if at == waiter {
            return true;
        }
        match graph.iter().find(|edge| edge.0 == at) {
            Some(edge) => at = edge.1,
            None => return false,
        }
    }
    false
}

/// Replaces what `owner` holds in `start..=end` by `kind` (nothing for `None`): splits and joins.
/// `locks` is sorted by start.
pub fn apply(locks: &mut Vec<PosixLock>, new: PosixLock, kind: Option<LockKind>) -> Result<()> {
    // At most one lock more than before on each side.
    locks.try_reserve(2).map_err(|_| Errno::ENOLCK)?;
    let mut kept = Vec::new();
    kept.try_reserve(locks.len() + 2).map_err(|_| Errno::ENOLCK)?;
    let mut joined = PosixLock { kind: kind.unwrap_or(new.kind), ..new };
    for old in locks.drain(..) {
        if old.owner != new.owner {
            kept.push_reserved(old);
            continue;
        }
        let same = kind == Some(old.kind);
        let touches = old.overlaps(&new)
            || same
                && (old.end.checked_add(1) == Some(new.start) || new.end.checked_add(1) == Some(old.start));
        if !touches {
            kept.push_reserved(old);
        } else if same {
            joined.start = joined.start.min(old.start);
            joined.end = joined.end.max(old.end);
        } else {
            if old.start < new.start {
                kept.push_reserved(PosixLock { end: new.start - 1, ..old });
            }
            if old.end > new.end {
                kept.push_reserved(PosixLock { start: new.end + 1, ..old });
            }
        }
    }
    if kind.is_some() {
        kept.push_reserved(joined);
    }
    kept.sort_by_key(|lock| lock.start);
    *locks = kept;
    Ok(())
}

/// The range of a `struct flock`, as inclusive bytes.
pub fn range(file: &File, lock: &Flock) -> Result<(u64, u64)> {
    let base = match lock.whence as u32 {
        raw::SEEK_SET => 0,
        raw::SEEK_CUR => file.pos() as i64,
        raw::SEEK_END => file.inode().size() as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(lock.start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let (first, last) = match lock.len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => {
            let first = start.checked_add(len).ok_or(Errno::EINVAL)?;
            if first < 0 {
                return Err(Errno::EINVAL);
            }
            (first, start - 1)
        }
    };
    Ok((first as u64, last as u64))
}

fn kind_of(type_: i16) -> Result<Option<LockKind>> {
    match type_ as u32 {
        raw::F_RDLCK => Ok(Some(LockKind::Read)),
        raw::F_WRLCK => Ok(Some(LockKind::Write)),
        raw::F_UNLCK => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

/// Whom the lock of an `fcntl(2)` command belongs to.
pub fn owner_for(file: &File, table: PosixOwner, ofd: bool) -> Owner {
    if ofd { Owner::File(file_owner(file)) } else { Owner::Process(table) }
}

/// `F_SETLK`, `F_SETLKW`, `F_OFD_SETLK`, `F_OFD_SETLKW`.
pub fn setlk(file: &File, owner: Owner, lock: &Flock, busy: IfBusy, pid: i32) -> Result<()> {
    let kind = kind_of(lock.type_)?;
    if matches!(owner, Owner::File(_)) && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = range(file, lock)?;
    match kind {
        Some(LockKind::Read) if !file.mode().contains(FileMode::READ) => return Err(Errno::EBADF),
        Some(LockKind::Write) if !file.mode().contains(FileMode::WRITE) => return Err(Errno::EBADF),
        _ => {}
    }
    let pid = if matches!(owner, Owner::File(_)) { -1 } else { pid };
    let new = PosixLock { owner, kind: kind.unwrap_or(LockKind::Read), start, end, pid };
    let locks = file.inode().locks_or_new()?;
    file.has_locks.store(true, Ordering::Release);
    let Some(_) = kind else {
        let result = apply(&mut locks.state.lock().posix, new, None);
        locks.released.wake_all();
        return result;
    };
    match locks.try_posix(new) {
        Ok(()) => return Ok(()),
        Err(Errno::EAGAIN) if busy == IfBusy::Wait => {}
        Err(error) => return Err(error),
    }
    locks.state.lock().note(|state| &mut state.waiting_posix, new);
    let result = locks.released.wait(Wait::INTERRUPTIBLE, || match locks.try_posix(new) {
        Err(Errno::EAGAIN) => locks.note_waiting(new).err().map(Err),
        other => Some(other),
    });
    locks.state.lock().waiting_posix.retain(|waiting| *waiting != new);
    WAITING.lock().retain(|edge| edge.0 != owner);
    result.map_err(|_| Errno::ERESTARTSYS)?
}

/// `F_GETLK`, `F_OFD_GETLK`: the first lock that is in the way, or `F_UNLCK`.
pub fn getlk(file: &File, owner: Owner, lock: &mut Flock) -> Result<()> {
    let Some(kind) = kind_of(lock.type_)? else { return Err(Errno::EINVAL) };
    if matches!(owner, Owner::File(_)) && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = range(file, lock)?;
    let probe = PosixLock { owner, kind, start, end, pid: 0 };
    let found = file
        .inode()
        .locks()
        .and_then(|locks| locks.state.lock().posix.iter().find(|l| l.conflicts(&probe)).copied());
    match found {
        None => lock.type_ = raw::F_UNLCK as i16,
        Some(other) => {
            lock.type_ = match other.kind {
                LockKind::Read => raw::F_RDLCK,
                LockKind::Write => raw::F_WRLCK,
            } as i16;
            lock.whence = raw::SEEK_SET as i16;
            lock.start = other.start as i64;
            lock.len = if other.end == END { 0 } else { (other.end - other.start + 1) as i64 };
            lock.pid = other.pid;
        }
    }
    Ok(())
}

impl LockContext {
    fn try_posix(&self, new: PosixLock) -> Result<()> {
        let mut state = self.state.lock();
        if state.posix.iter().any(|lock| lock.conflicts(&new)) {
            return Err(Errno::EAGAIN);
        }
        let downgrade = state.posix.iter().any(|l| l.owner == new.owner && l.overlaps(&new));
        apply(&mut state.posix, new, Some(new.kind))?;
        drop(state);
        if downgrade {
            self.released.wake_all();
        }
        Ok(())
    }

    /// Enters "`new.owner` waits for the holder" into the graph; `EDEADLK` if that closes a circle.
    /// Only POSIX locks take part, as on Linux.
    fn note_waiting(&self, new: PosixLock) -> Result<()> {
        let holder = {
            let state = self.state.lock();
            match state.posix.iter().find(|lock| lock.conflicts(&new)) {
                Some(lock) => lock.owner,
                None => return Ok(()),
            }
        };
        if matches!(new.owner, Owner::File(_)) || matches!(holder, Owner::File(_)) {
            return Ok(());
        }
        let mut graph = WAITING.lock();
        graph.retain(|edge| edge.0 != new.owner);
        if would_deadlock(&graph, new.owner, holder) {
            return Err(Errno::EDEADLK);
        }
        graph.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        graph.push_reserved((new.owner, holder));
        Ok(())
    }
}
