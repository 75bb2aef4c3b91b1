//! User namespaces: user_namespaces(7).

use crate::process::current;
use crate::process::nsproxy::next_inum;
use abi::cap::{Cap, CapSet};
use abi::{Errno, Result};
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicBool, Ordering};
use mm::fallible::try_arc;
use vfs::cred::{Credentials, IdMap, UserNamespace};
use vfs::namei::lookup::follow_down;
use vfs::ns_count::{NsCharge, NsKind, NsLimits};

/// Deepest nesting.
const MAX_LEVEL: u32 = 32;

/// Puts `cred` into a new user namespace that its effective user owns, with every capability in it.
///
/// # Errors
/// `EPERM`: the ids have no name in the present namespace, or the thread is confined by `chroot(2)`; `ENOSPC`: nested too deep.
pub fn enter_new(cred: &mut Credentials) -> Result<()> {
    let parent = cred.user_ns.clone();
    // With capabilities of its own it could leave.
    if is_chrooted()? {
        return Err(Errno::EPERM);
    }
    if parent.level >= MAX_LEVEL {
        return Err(Errno::ENOSPC);
    }
    let charge = NsCharge::new(&parent, cred.euid.0, NsKind::User)?;
    if !parent.has_mapping(cred.euid.0, cred.egid.0) {
        return Err(Errno::EPERM);
    }
    cred.user_ns = try_arc(UserNamespace {
        level: parent.level + 1,
        owner: cred.euid,
        group: cred.egid,
        ns_inum: next_inum(),
        uid_map: SpinLock::new(IdMap::default()),
        gid_map: SpinLock::new(IdMap::default()),
        // What was denied outside stays denied inside.
        parent_could_setfcap: cred.cap_effective.has(Cap::Setfcap),
        setgroups_denied: AtomicBool::new(parent.setgroups_denied.load(Ordering::Acquire)),
        limits: NsLimits::none(),
        charge,
        parent: Some(parent),
    })?;
    all_capabilities(cred);
    Ok(())
}

/// Who comes into a user namespace has every capability in it, and nothing of what was said about capabilities outside.
pub fn all_capabilities(cred: &mut Credentials) {
    cred.securebits = 0;
    cred.cap_inheritable = CapSet::EMPTY;
    cred.cap_permitted = CapSet::FULL;
    cred.cap_effective = CapSet::FULL;
    cred.cap_bset = CapSet::FULL;
    cred.cap_ambient = CapSet::EMPTY;
}

/// Whether the running thread's root directory is another one than that of its mount namespace.
fn is_chrooted() -> Result<bool> {
    let me = current();
    let root = me.fs().ok_or(Errno::EINVAL)?.root()?;
    let top = me.nsproxy().ok_or(Errno::EINVAL)?.mnt.root()?.root_path();
    Ok(!follow_down(top).same(&root))
}

/// Whether `setgroups` means anything in `ns`: not before its groups have names.
pub fn may_setgroups(ns: &UserNamespace) -> bool {
    ns.is_initial() || !ns.setgroups_denied.load(Ordering::Acquire) && !ns.gid_map.lock().extents().is_empty()
}
