//! User namespaces: user_namespaces(7).

use crate::process::nsproxy::next_inum;
use abi::cap::CapSet;
use abi::{Errno, Result};
use arch::sync::SpinLock;
use core::sync::atomic::{AtomicBool, Ordering};
use mm::fallible::try_arc;
use vfs::cred::{Credentials, IdMap, UserNamespace};

/// Deepest nesting.
const MAX_LEVEL: u32 = 32;

/// Puts `cred` into a new user namespace that its effective user owns, with every capability in it.
///
/// # Errors
/// `EPERM`: the ids have no name in the present namespace; `ENOSPC`: nested too deep.
pub fn enter_new(cred: &mut Credentials) -> Result<()> {
    let parent = cred.user_ns.clone();
    if parent.level >= MAX_LEVEL {
        return Err(Errno::ENOSPC);
    }
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
        setgroups_denied: AtomicBool::new(parent.setgroups_denied.load(Ordering::Acquire)),
        parent: Some(parent),
    })?;
    cred.securebits = 0;
    cred.cap_inheritable = CapSet::EMPTY;
    cred.cap_permitted = CapSet::FULL;
    cred.cap_effective = CapSet::FULL;
    cred.cap_bset = CapSet::FULL;
    cred.cap_ambient = CapSet::EMPTY;
    Ok(())
}

/// Whether `setgroups` means anything in `ns`: not before its groups have names.
pub fn may_setgroups(ns: &UserNamespace) -> bool {
    ns.is_initial() || !ns.setgroups_denied.load(Ordering::Acquire) && !ns.gid_map.lock().extents().is_empty()
}
