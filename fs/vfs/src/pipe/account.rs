//! How many buffers the pipes of each user have: `/proc/sys/fs/pipe-user-pages-soft` and `-hard`, `pipe(7)`.
//!
//! Beyond the soft limit the pipes of a user without privilege are small, beyond the hard one there are none. A limit of 0 is none.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use abi::cap::Cap;
use abi::{Errno, Result};
use arch::addr::PAGE_SIZE;
use arch::sync::SpinLock;
use mm::fallible::SortedMap;

use super::{PIPE_DEF_BUFFERS, PIPE_MAX_SIZE};
use crate::cred::Credentials;

/// `/proc/sys/fs/pipe-user-pages-soft`
pub static SOFT_LIMIT: AtomicUsize = AtomicUsize::new(16 * 1024);
/// `/proc/sys/fs/pipe-user-pages-hard`
pub static HARD_LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Buffers of a new pipe beyond the soft limit.
const MIN_BUFFERS: usize = 2;

/// Buffers by user id.
static USED: SpinLock<SortedMap<u32, usize>> = SpinLock::new(SortedMap::new());

/// The buffers of one pipe on its user's account.
pub(super) struct Charge {
    uid: u32,
    slots: AtomicU32,
}

fn beyond(limit: &AtomicUsize, buffers: usize) -> bool {
    let limit = limit.load(Ordering::Relaxed);
    limit != 0 && buffers > limit
}

fn is_limited(cred: &Credentials) -> bool {
    !cred.capable(Cap::SysResource) && !cred.capable(Cap::SysAdmin)
}

/// Takes `before` off the account of `uid` and puts `after` on it; what there is then.
fn account(uid: u32, before: usize, after: usize) -> Result<usize> {
    let mut used = USED.lock();
    let sum = used.get(&uid).copied().unwrap_or(0).saturating_sub(before).saturating_add(after);
    if sum == 0 {
        used.remove(&uid);
    } else if let Some(place) = used.get_mut(&uid) {
        *place = sum;
    } else {
        used.try_insert(uid, sum)?;
    }
    Ok(sum)
}

impl Charge {
    /// A new pipe: its charge, and how many buffers it gets.
    ///
    /// # Errors
    /// `ENFILE`: beyond the hard limit. `ENOMEM`.
    pub(super) fn new(cred: &Credentials) -> Result<(Self, usize)> {
        let uid = cred.uid.0;
        let most = PIPE_MAX_SIZE.load(Ordering::Relaxed) as usize / PAGE_SIZE;
        let mut slots = PIPE_DEF_BUFFERS;
        if slots > most && !cred.capable(Cap::SysResource) {
            slots = most.max(1);
        }
        let mut used = account(uid, 0, slots)?;
        if beyond(&SOFT_LIMIT, used) && is_limited(cred) {
            used = account(uid, slots, MIN_BUFFERS)?;
            slots = MIN_BUFFERS;
        }
        // Dropped, it takes the buffers off again.
        let charge = Self { uid, slots: AtomicU32::new(slots as u32) };
        if beyond(&HARD_LIMIT, used) && is_limited(cred) { Err(Errno::ENFILE) } else { Ok((charge, slots)) }
    }

    /// The pipe gets `slots` buffers, if what is returned is kept.
    ///
    /// # Errors
    /// `EPERM`: more than a limit allows.
    pub(super) fn change(&self, slots: usize, cred: &Credentials) -> Result<Change<'_>> {
        let before = self.slots.load(Ordering::Relaxed) as usize;
        let used = account(self.uid, before, slots)?;
        self.slots.store(slots as u32, Ordering::Relaxed);
        let change = Change { charge: self, before };
        let too_many = beyond(&HARD_LIMIT, used) || beyond(&SOFT_LIMIT, used);
        if slots > before && too_many && is_limited(cred) { Err(Errno::EPERM) } else { Ok(change) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // Nothing is inserted.
        let _ = account(self.uid, self.slots.load(Ordering::Relaxed) as usize, 0);
    }
}

/// A changed charge; dropped, it is as before.
pub(super) struct Change<'a> {
    charge: &'a Charge,
    before: usize,
}

impl Change<'_> {
    pub(super) fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let now = self.charge.slots.swap(self.before as u32, Ordering::Relaxed) as usize;
        // The user has an entry: this pipe's.
        let _ = account(self.charge.uid, now, self.before);
    }
}
