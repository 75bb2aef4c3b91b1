//! Every lock that is held or waited for: `proc_locks(5)`, and the `lock:` lines of `proc_pid_fdinfo(5)`.
//!
//! Inodes that were ever locked are remembered weakly. The list forgets those that are gone when it has grown to twice
//! of what was left the last time, so remembering costs nothing on average and a list of the dead stays short.
//!
//! Lock: the list's spin lock, before `LockContext::state`.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use abi::{Errno, Result};
use arch::sync::SpinLock;

use super::posix::{Owner, PosixLock};
use super::{LockContext, LockKind, file_owner};
use crate::file::File;
use crate::inode::Inode;
use mm::fallible::{TryVec, try_to_vec};

/// The list is not looked through before it has this many entries.
const FEW: usize = 64;

struct Registry {
    inodes: Vec<Weak<Inode>>,
    /// Length at which the dead are thrown out.
    limit: usize,
}

static REGISTRY: SpinLock<Registry> = SpinLock::new(Registry { inodes: Vec::new(), limit: FEW });

/// Remembers an inode that is about to be locked for the first time. Without memory its locks work but are not shown.
pub(crate) fn remember(inode: &Arc<Inode>) {
    let mut registry = REGISTRY.lock();
    if registry.inodes.len() >= registry.limit {
        registry.inodes.retain(|inode| inode.strong_count() > 0);
        registry.limit = (registry.inodes.len() * 2).max(FEW);
    }
    if registry.inodes.try_reserve(1).is_ok() {
        registry.inodes.push_reserved(Arc::downgrade(inode));
    }
}

/// A `flock(2)` lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlockInfo {
    pub(crate) kind: LockKind,
    pub(crate) pid: i32,
    pub(crate) file: u64,
}

/// A lease.
#[derive(Clone, Copy, Debug)]
struct LeaseInfo {
    target: Option<LockKind>,
    breaking: bool,
    pid: i32,
    file: u64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Flock(FlockInfo),
    Posix(PosixLock),
    Lease(LeaseInfo),
}

/// A lock, or a request that waits for one.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    what: What,
    /// It waits for the last lock before it that does not.
    pub waits: bool,
}

impl Shown {
    /// The process that took it, in the initial pid namespace; -1 for locks of open files.
    pub fn pid(&self) -> i32 {
        match self.what {
            What::Flock(lock) => lock.pid,
            What::Posix(lock) => lock.pid,
            What::Lease(lease) => lease.pid,
        }
    }

    /// Whether it belongs to `file`, opened by a process whose table is `owner`.
    fn belongs_to(&self, file: u64, owner: Owner) -> bool {
        match self.what {
            What::Flock(lock) => lock.file == file,
            What::Lease(lease) => lease.file == file,
            What::Posix(lock) => lock.owner == owner || lock.owner == Owner::File(file),
        }
    }

    /// Writes the line behind the number; `pid` is how the reader sees [`Self::pid`].
    pub fn write(&self, inode: &Inode, pid: i32, out: &mut dyn fmt::Write) -> fmt::Result {
        let (class, kind) = match self.what {
            What::Flock(lock) => ("FLOCK  ADVISORY ", Some(lock.kind)),
            What::Posix(lock) if matches!(lock.owner, Owner::File(_)) => {
                ("OFDLCK ADVISORY ", Some(lock.kind))
            }
            What::Posix(lock) => ("POSIX  ADVISORY ", Some(lock.kind)),
            What::Lease(lease) if lease.breaking => ("LEASE  BREAKING ", lease.target),
            What::Lease(lease) => ("LEASE  ACTIVE   ", lease.target),
        };
        let kind = match kind {
            Some(LockKind::Write) => "WRITE",
            Some(LockKind::Read) => "READ",
            None => "UNLCK",
        };
        let dev = inode.sb().dev();
        write!(out, "{class} {kind} {pid} {:02x}:{:02x}:{} ", dev.major, dev.minor, inode.ino())?;
        match self.what {
            What::Posix(lock) if lock.end != i64::MAX as u64 => writeln!(out, "{} {}", lock.start, lock.end),
            What::Posix(lock) => writeln!(out, "{} EOF", lock.start),
            What::Flock(_) | What::Lease(_) => writeln!(out, "0 EOF"),
        }
    }
}

impl LockContext {
    /// What is held, each followed by what waits for it.
    fn shown(&self) -> Result<Vec<Shown>> {
        let mut list = Vec::new();
        let state = self.state.lock();
        let room =
            state.posix.len() + state.flock.len() + state.waiting_posix.len() + state.waiting_flock.len();
        let room = room + state.leases.len();
        list.try_reserve(room).map_err(|_| Errno::ENOMEM)?;
        for (index, held) in state.posix.iter().enumerate() {
            list.push_reserved(Shown { what: What::Posix(*held), waits: false });
            // A request waits for the first lock that is in its way.
            let first = |wanted: &&PosixLock| {
                state.posix.iter().position(|lock| lock.conflicts(wanted)) == Some(index)
            };
            let waiting = state.waiting_posix.iter().filter(first);
            let left = room - list.len();
            list.try_extend(waiting.take(left).map(|lock| Shown { what: What::Posix(*lock), waits: true }))?;
        }
        for (index, held) in state.flock.iter().enumerate() {
            let info = FlockInfo { kind: held.kind, pid: held.pid, file: held.file };
            list.push_reserved(Shown { what: What::Flock(info), waits: false });
            if index == 0 {
                let waiting = state.waiting_flock.iter().take(room - list.len());
                list.try_extend(waiting.map(|lock| {
                    let info = FlockInfo { kind: lock.kind, pid: lock.pid, file: lock.file };
                    Shown { what: What::Flock(info), waits: true }
                }))?;
            }
        }
        list.extend(state.leases.iter().take(room - list.len()).map(|lease| {
            let (target, breaking) = (lease.target(), lease.is_breaking());
            let info = LeaseInfo { target, breaking, pid: lease.pid, file: lease.file };
            Shown { what: What::Lease(info), waits: false }
        }));
        Ok(list)
    }
}

/// Calls `f` with every lock there is.
///
/// # Errors
/// `ENOMEM`.
pub fn for_each(f: &mut dyn FnMut(&Inode, &Shown)) -> Result<()> {
    let inodes = try_to_vec(&REGISTRY.lock().inodes)?;
    for inode in inodes.iter().filter_map(Weak::upgrade) {
        let Some(locks) = inode.locks() else { continue };
        for shown in locks.shown()? {
            f(&inode, &shown);
        }
    }
    Ok(())
}

/// Calls `f` with the locks that `file` holds, record locks of `owner` (its process) included.
///
/// # Errors
/// `ENOMEM`.
pub fn for_each_of(file: &File, owner: super::PosixOwner, f: &mut dyn FnMut(&Inode, &Shown)) -> Result<()> {
    let Some(locks) = file.inode().locks() else { return Ok(()) };
    let id = file_owner(file);
    for shown in locks.shown()?.iter().filter(|shown| !shown.waits) {
        if shown.belongs_to(id, Owner::Process(owner)) {
            f(file.inode(), shown);
        }
    }
    Ok(())
}
