//! Leases: `fcntl(F_SETLEASE)`. Who holds one hears (by `SIGIO`, or what `F_SETSIG` chose) that somebody wants the file in a way
//! that does not go with it, and that somebody waits: until the holder gives way, or `/proc/sys/fs/lease-break-time` is over.
//!
//! A file without leases costs an open one flag test. The state is [`super::LockContext`]'s; who waits does so in its queue.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use abi::{Errno, Result, raw};
use mm::fallible::TryVec;
use sched::hrtimer::Deadline;
use sched::state::WaitError;
use sched::time::monotonic_ns;
use sched::wait::Wait;

use super::{LockContext, LockKind, file_owner};
use crate::fasync::{Band, OwnerCell};
use crate::file::{File, FileMode};
use crate::inode::Inode;

/// `/proc/sys/fs/lease-break-time`, in seconds.
pub static BREAK_TIME: AtomicU32 = AtomicU32::new(45);
/// `/proc/sys/fs/leases-enable`.
pub static ENABLED: AtomicU32 = AtomicU32::new(1);

/// What the holder was asked to do, and until when (nanoseconds of the monotonic clock; never for `None`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaking {
    Not,
    /// To be content with reading.
    Downgrade(Option<u64>),
    /// To give it up.
    Unlock(Option<u64>),
}

/// A lease.
pub(super) struct Lease {
    pub(super) file: u64,
    kind: LockKind,
    breaking: Breaking,
    owner: Arc<OwnerCell>,
    fd: i32,
    pub(super) pid: i32,
}

impl Lease {
    /// What it is, or will be when the holder has given way.
    pub(super) fn target(&self) -> Option<LockKind> {
        match self.breaking {
            Breaking::Unlock(_) => None,
            Breaking::Downgrade(_) => Some(LockKind::Read),
            Breaking::Not => Some(self.kind),
        }
    }

    pub(super) fn is_breaking(&self) -> bool {
        self.breaking != Breaking::Not
    }

    /// Whether it is in the way of somebody who opens the file for `wanted`.
    fn conflicts(&self, wanted: LockKind) -> bool {
        self.kind == LockKind::Write || wanted == LockKind::Write
    }
}

/// What became of a wish to have the file.
enum Step {
    /// Nothing is in the way.
    Free,
    /// Somebody is, until then.
    Busy(Option<u64>),
}

/// `F_SETLEASE`; `kind` is `F_RDLCK`, `F_WRLCK` or `F_UNLCK`. The caller has made sure of the rights and of an owner.
///
/// # Errors
/// `EAGAIN`: the file is open in a way that does not go with it, or others have leases; for `F_UNLCK`, there is none.
/// `EINVAL`: leases are switched off; `ENOLCK`.
pub fn setlease(file: &File, fd: i32, kind: Option<LockKind>, pid: i32) -> Result<()> {
    let inode = file.inode();
    let id = file_owner(file);
    let Some(kind) = kind else {
        let given_up = inode.locks().is_some_and(|locks| locks.drop_lease(id));
        return if given_up { Ok(()) } else { Err(Errno::EAGAIN) };
    };
    check_opens(file, kind)?;
    let locks = inode.locks_or_new()?;
    let owner = file.owner_cell().map_err(|_| Errno::ENOLCK)?;
    locks.expire();
    {
        let mut state = locks.state.lock();
        let others = || state.leases.iter().filter(|lease| lease.file != id);
        let refused = match kind {
            LockKind::Write => others().next().is_some(),
            LockKind::Read => others().any(|lease| matches!(lease.breaking, Breaking::Unlock(_))),
        };
        if refused {
            return Err(Errno::EAGAIN);
        }
        if let Some(mine) = state.leases.iter_mut().find(|lease| lease.file == id) {
            mine.kind = kind;
            mine.breaking = match (kind, mine.breaking) {
                (LockKind::Read, Breaking::Downgrade(_)) => Breaking::Not,
                (_, breaking) => breaking,
            };
        } else {
            if ENABLED.load(Ordering::Relaxed) == 0 {
                return Err(Errno::EINVAL);
            }
            state.leases.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
            state.leases.push_reserved(Lease { file: id, kind, breaking: Breaking::Not, owner, fd, pid });
            locks.has_leases.store(true, Ordering::Release);
            file.has_locks.store(true, Ordering::Release);
        }
    }
    // Pairs with the fence in `break_lease`: an open that did not see the lease is seen here.
    fence(Ordering::SeqCst);
    if let Err(error) = check_opens(file, kind) {
        locks.drop_lease(id);
        return Err(error);
    }
    locks.released.wake_all();
    Ok(())
}

/// Whether the ways in which the file is open go with a lease.
fn check_opens(file: &File, kind: LockKind) -> Result<()> {
    let inode = file.inode();
    let fits = match kind {
        LockKind::Read => !inode.has_writers(),
        LockKind::Write => {
            let writes = file.mode().contains(FileMode::WRITE);
            let reads = !writes && file.mode().contains(FileMode::READ);
            inode.only_opens(i64::from(writes), u32::from(reads))
        }
    };
    if fits { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// `F_GETLEASE`: `F_RDLCK`, `F_WRLCK` or `F_UNLCK`; of a lease that is being broken, what it has to become.
pub fn getlease(file: &File) -> u32 {
    let Some(locks) = file.inode().locks() else { return raw::F_UNLCK };
    let id = file_owner(file);
    locks.expire();
    let found = locks.state.lock().leases.iter().find(|lease| lease.file == id).and_then(Lease::target);
    match found {
        Some(LockKind::Read) => raw::F_RDLCK,
        Some(LockKind::Write) => raw::F_WRLCK,
        None => raw::F_UNLCK,
    }
}

/// Somebody opens the file with `flags`, or truncates it: breaks the leases that do not go with that, and waits.
///
/// # Errors
/// `EWOULDBLOCK` with `O_NONBLOCK`; `ERESTARTSYS`.
#[inline]
pub fn break_lease(inode: &Inode, flags: u32) -> Result<()> {
    let Some(locks) = inode.locks() else { return Ok(()) };
    fence(Ordering::SeqCst);
    if locks.has_leases.load(Ordering::Acquire) { break_slowly(locks, flags) } else { Ok(()) }
}

#[cold]
fn break_slowly(locks: &LockContext, flags: u32) -> Result<()> {
    let wanted = if flags & raw::O_ACCMODE == raw::O_RDONLY { LockKind::Read } else { LockKind::Write };
    loop {
        let until = match locks.ask(wanted) {
            Step::Free => return Ok(()),
            Step::Busy(_) if flags & raw::O_NONBLOCK != 0 => return Err(Errno::EWOULDBLOCK),
            Step::Busy(until) => until,
        };
        let how =
            Wait::INTERRUPTIBLE.until(until.map(|ns| Deadline::after_ns(ns.saturating_sub(monotonic_ns()))));
        let free = || (!locks.in_the_way(wanted)).then_some(());
        match locks.released.wait(how, free) {
            Ok(()) => return Ok(()),
            // Time is up: the next look takes the lease away.
            Err(WaitError::TimedOut) => {}
            Err(_) => return Err(Errno::ERESTARTSYS),
        }
    }
}

impl LockContext {
    fn in_the_way(&self, wanted: LockKind) -> bool {
        self.state.lock().leases.iter().any(|lease| lease.conflicts(wanted))
    }

    /// Takes away what its holder was given enough time to give up; whether that was anything.
    fn expire(&self) -> bool {
        let mut any = false;
        loop {
            // What it refers to is dropped with the lock released.
            let gone = {
                let mut state = self.state.lock();
                let now = monotonic_ns();
                let over = |until: Option<u64>| until.is_some_and(|until| until <= now);
                for lease in &mut state.leases {
                    if let Breaking::Downgrade(until) = lease.breaking
                        && over(until)
                    {
                        lease.kind = LockKind::Read;
                        lease.breaking = Breaking::Not;
                    }
                }
                let given_up =
                    |lease: &Lease| matches!(lease.breaking, Breaking::Unlock(until) if over(until));
                let at = state.leases.iter().position(given_up);
                at.map(|at| state.leases.swap_remove(at))
            };
            if gone.is_none() {
                return any;
            }
            any = true;
        }
    }

    /// Asks one holder in the way of `wanted` to give way, who was not asked before; who that is.
    fn ask_one(&self, wanted: LockKind, until: Option<u64>) -> Option<(Arc<OwnerCell>, i32)> {
        let mut state = self.state.lock();
        let unasked = |lease: &&mut Lease| match (wanted, lease.breaking) {
            (LockKind::Write, Breaking::Unlock(_))
            | (LockKind::Read, Breaking::Downgrade(_) | Breaking::Unlock(_)) => false,
            _ => lease.conflicts(wanted),
        };
        let lease = state.leases.iter_mut().find(unasked)?;
        lease.breaking = match wanted {
            LockKind::Write => Breaking::Unlock(until),
            LockKind::Read => Breaking::Downgrade(until),
        };
        Some((lease.owner.clone(), lease.fd))
    }

    /// Tells the holders in the way of `wanted` to give way, each once.
    fn ask(&self, wanted: LockKind) -> Step {
        let seconds = u64::from(BREAK_TIME.load(Ordering::Relaxed));
        let until = (seconds > 0).then(|| monotonic_ns().saturating_add(seconds * 1_000_000_000));
        let expired = self.expire();
        while let Some((owner, fd)) = self.ask_one(wanted, until) {
            owner.signal(fd, Band::Msg);
        }
        let step = {
            let state = self.state.lock();
            self.has_leases.store(!state.leases.is_empty(), Ordering::Release);
            let first = state.leases.iter().find(|lease| lease.conflicts(wanted));
            first.map_or(Step::Free, |lease| {
                Step::Busy(match lease.breaking {
                    Breaking::Not => None,
                    Breaking::Downgrade(until) | Breaking::Unlock(until) => until,
                })
            })
        };
        if expired {
            self.released.wake_all();
        }
        step
    }

    /// The lease of an open file ends; whether there was one.
    pub(super) fn drop_lease(&self, file: u64) -> bool {
        let gone = {
            let mut state = self.state.lock();
            let at = state.leases.iter().position(|lease| lease.file == file);
            let gone = at.map(|at| state.leases.swap_remove(at));
            self.has_leases.store(!state.leases.is_empty(), Ordering::Release);
            gone
        };
        if let Some(lease) = &gone {
            // As on Linux, who was to be signalled is forgotten with it.
            lease.owner.update(|owner| {
                owner.target = None;
                owner.signal = 0;
            });
            self.released.wake_all();
        }
        gone.is_some()
    }
}
