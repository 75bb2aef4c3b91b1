//! How many namespaces there may be: `/proc/sys/user/max_*_namespaces`, namespaces(7).
//!
//! A new namespace counts for its maker in the user namespace that owns it, and for the makers of that one and of those around it
//! in turn, so that nesting gives nobody more than the outermost allows.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};
use arch::sync::SpinLock;
use mm::fallible::SortedMap;

use crate::cred::UserNamespace;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum NsKind {
    User,
    Pid,
    Uts,
    Ipc,
    Net,
    Mnt,
    Cgroup,
    Time,
}

const KINDS: usize = 8;

/// The limits of one user namespace.
#[derive(Debug)]
pub struct NsLimits([AtomicU32; KINDS]);

impl NsLimits {
    /// As many as anybody likes: in a new user namespace.
    pub const fn none() -> Self {
        Self([const { AtomicU32::new(i32::MAX as u32) }; KINDS])
    }

    /// The limit of a kind: `/proc/sys/user/max_*_namespaces`.
    pub fn of(&self, kind: NsKind) -> &AtomicU32 {
        let [user, pid, uts, ipc, net, mnt, cgroup, time] = &self.0;
        match kind {
            NsKind::User => user,
            NsKind::Pid => pid,
            NsKind::Uts => uts,
            NsKind::Ipc => ipc,
            NsKind::Net => net,
            NsKind::Mnt => mnt,
            NsKind::Cgroup => cgroup,
            NsKind::Time => time,
        }
    }

    /// Sets all of them, at boot.
    pub fn set_all(&self, limit: u32) {
        for place in &self.0 {
            place.store(limit, Ordering::Relaxed);
        }
    }
}

/// User namespace, user, kind.
type Key = (u32, u32, NsKind);

static COUNTS: SpinLock<SortedMap<Key, u32>> = SpinLock::new(SortedMap::new());

/// A namespace on its makers' accounts.
#[derive(Debug)]
pub struct NsCharge(Option<(Arc<UserNamespace>, u32, NsKind)>);

impl NsCharge {
    /// Of a namespace that does not count: those of the start, and those that nobody lives in.
    pub const fn none() -> Self {
        Self(None)
    }

    /// One more of `kind`, made by user `uid` and owned by `ns`.
    ///
    /// # Errors
    /// `ENOSPC`: too many. `ENOMEM`.
    pub fn new(ns: &Arc<UserNamespace>, uid: u32, kind: NsKind) -> Result<Self> {
        let mut counts = COUNTS.lock();
        let mut done = 0;
        let mut result = Ok(());
        for (ns, uid) in levels(ns, uid) {
            let key = (ns.ns_inum, uid, kind);
            let count = counts.get(&key).copied().unwrap_or(0);
            if count >= ns.limits.of(kind).load(Ordering::Relaxed) {
                result = Err(Errno::ENOSPC);
                break;
            }
            match counts.get_mut(&key) {
                Some(place) => *place = count + 1,
                None => {
                    if counts.try_insert(key, 1).is_err() {
                        result = Err(Errno::ENOMEM);
                        break;
                    }
                }
            }
            done += 1;
        }
        if result.is_err() {
            take_off(&mut counts, levels(ns, uid).take(done), kind);
        }
        drop(counts);
        result.map(|()| Self(Some((ns.clone(), uid, kind))))
    }
}

/// The accounts that a namespace in `ns` made by `uid` is on.
fn levels(ns: &UserNamespace, uid: u32) -> impl Iterator<Item = (&UserNamespace, u32)> {
    core::iter::successors(Some((ns, uid)), |(ns, _)| Some((&**ns.parent.as_ref()?, ns.owner.0)))
}

fn take_off<'a>(
    counts: &mut SortedMap<Key, u32>,
    accounts: impl Iterator<Item = (&'a UserNamespace, u32)>,
    kind: NsKind,
) {
    for (ns, uid) in accounts {
        let key = (ns.ns_inum, uid, kind);
        match counts.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&key)),
        }
    }
}

impl Drop for NsCharge {
    fn drop(&mut self) {
        if let Some((ns, uid, kind)) = self.0.take() {
            take_off(&mut COUNTS.lock(), levels(&ns, uid), kind);
            drop(ns);
        }
    }
}
