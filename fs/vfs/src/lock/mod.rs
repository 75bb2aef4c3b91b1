//! File locks: `flock(2)`, POSIX record locks and open file description locks of `fcntl(2)`, and leases ([`lease`]).
//!
//! Each inode that was ever locked has a [`LockContext`]. POSIX locks belong to a descriptor table,
//! OFD locks to an open file, flock locks to an open file. The lists are sorted by owner-independent
//! start; one owner's locks never overlap and neighbours of the same kind are joined.
//!
//! Waiting: a POSIX waiter first checks for a deadlock (the graph of who waits for whom, [`posix`]).
//! Lock order: the list of locked inodes ([`show`]), `LockContext::state`, the wait graph.

pub mod flock;
pub mod lease;
pub mod posix;
pub mod show;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;
use mm::fallible::TryVec;

use arch::sync::SpinLock;
use sched::wait::WaitQueue;

use crate::file::File;
use flock::FlockEntry;
use lease::Lease;
use posix::PosixLock;

/// Whom POSIX locks belong to: a descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PosixOwner(pub u64);

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `F_RDLCK`, `LOCK_SH`.
    Read,
    /// `F_WRLCK`, `LOCK_EX`.
    Write,
}

#[derive(Default)]
struct State {
    posix: Vec<PosixLock>,
    flock: Vec<FlockEntry>,
    /// Requests that wait, for those who look.
    waiting_posix: Vec<PosixLock>,
    waiting_flock: Vec<FlockEntry>,
    leases: Vec<Lease>,
}

impl State {
    /// Adds a request that begins to wait; without memory it waits unseen.
    fn note<T>(&mut self, list: impl FnOnce(&mut Self) -> &mut Vec<T>, waiting: T) {
        let list = list(self);
        if list.try_reserve(1).is_ok() {
            list.push_reserved(waiting);
        }
    }
}

/// The locks of one inode.
pub struct LockContext {
    state: SpinLock<State>,
    /// Woken when a lock goes.
    released: WaitQueue,
    /// There are leases.
    has_leases: AtomicBool,
}

/// The address of an open file, as an owner.
pub(crate) fn file_owner(file: &File) -> u64 {
    core::ptr::from_ref(file) as usize as u64
}

impl LockContext {
    pub(crate) fn new() -> Self {
        Self {
            state: SpinLock::new(State::default()),
            released: WaitQueue::new(),
            has_leases: AtomicBool::new(false),
        }
    }

    /// A descriptor was closed: all POSIX locks of its table on this inode go.
    pub fn release_posix(&self, owner: PosixOwner) {
        let before = {
            let mut state = self.state.lock();
            let before = state.posix.len();
            state.posix.retain(|lock| lock.owner != posix::Owner::Process(owner));
            before != state.posix.len()
        };
        if before {
            self.released.wake_all();
        }
    }

    /// An open file is gone: its flock and OFD locks go.
    pub(crate) fn release_file(&self, file: &File) {
        let id = file_owner(file);
        self.drop_lease(id);
        {
            let mut state = self.state.lock();
            state.posix.retain(|lock| lock.owner != posix::Owner::File(id));
            state.flock.retain(|lock| lock.file != id);
        }
        self.released.wake_all();
    }
}
