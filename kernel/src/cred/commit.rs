//! Making new credentials the thread's own.

use crate::process::limits::Resource;
use crate::process::thread::flags;
use crate::process::user::{ThreadCharge, UserCounts};
use crate::process::{CurrentThread, Thread};
use abi::cap::CapSet;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::fallible::try_arc;
use vfs::cred::Credentials;

/// Credentials for a child: shared, or its own in a new user namespace.
///
/// # Errors
/// `EPERM`, `ENOSPC` from making a user namespace.
pub fn copy_for_child(me: &Thread, new_user_ns: bool) -> Result<Arc<Credentials>> {
    let cred = me.cred();
    if !new_user_ns {
        return Ok(cred);
    }
    let mut new = Credentials::clone(&cred);
    crate::namespaces::user::enter_new(&mut new)?;
    Ok(try_arc(new)?)
}

/// Whether `new` may do no more than `old` could have allowed itself: its capabilities are among the old ones, or
/// hold in a user namespace below that the old user owns.
fn within(old: &Credentials, new: &Credentials) -> bool {
    if Arc::ptr_eq(&old.user_ns, &new.user_ns) {
        return old.cap_permitted.contains(new.cap_permitted);
    }
    let mut ns = &new.user_ns;
    while let Some(parent) = &ns.parent {
        if Arc::ptr_eq(parent, &old.user_ns) && ns.owner == old.euid {
            return true;
        }
        ns = parent;
    }
    false
}

/// Publishes `new` as the credentials of the running thread.
///
/// # Errors
/// `EAGAIN`, as Linux has it for a lack of memory here; nothing has changed.
pub fn commit(me: &CurrentThread, new: Credentials) -> Result<()> {
    let old = me.cred();
    let charge = match old.uid == new.uid {
        true => None,
        false => Some(ThreadCharge::new(UserCounts::of(new.uid).map_err(|_| Errno::EAGAIN)?)),
    };
    let new = try_arc(new)?;
    let ids_changed = old.euid != new.euid
        || old.egid != new.egid
        || old.fsuid != new.fsuid
        || old.fsgid != new.fsgid
        || !within(&old, &new);
    if ids_changed {
        // A core or a debugger would show what the old identity was trusted with.
        let dumpable = crate::coredump::SUID_DUMPABLE.load(Ordering::Relaxed);
        me.process.dumpable.store(dumpable, Ordering::Relaxed);
        me.pdeath_signal.store(0, Ordering::Relaxed);
    }
    if let Some(charge) = charge {
        if charge.count() > me.process.limits.cur(Resource::Nproc) && new.uid.0 != 0 {
            me.set(flags::NPROC_EXCEEDED);
        } else {
            me.clear(flags::NPROC_EXCEEDED);
        }
        let before = me.charge.lock().replace(charge);
        drop(before);
    }
    if old.fsuid != new.fsuid || old.fsgid != new.fsgid {
        crate::keys::slots::fs_ids_changed(me, new.fsuid.0, new.fsgid.0);
    }
    drop(me.cred.replace(Some(new)));
    Ok(())
}

/// What changing user ids does to capabilities: capabilities(7), "Effect of user ID changes".
pub fn fix_capabilities(old: &Credentials, new: &mut Credentials) {
    use vfs::cred::securebits::{KEEP_CAPS, NO_SETUID_FIXUP};
    if old.securebits & NO_SETUID_FIXUP != 0 {
        return;
    }
    let root = new.user_ns.make_uid(0);
    let is_root = |uid| Some(uid) == root;
    let had_root = is_root(old.uid) || is_root(old.euid) || is_root(old.suid);
    let has_root = is_root(new.uid) || is_root(new.euid) || is_root(new.suid);
    if had_root && !has_root {
        if old.securebits & KEEP_CAPS == 0 {
            new.cap_permitted = CapSet::EMPTY;
            new.cap_effective = CapSet::EMPTY;
        }
        new.cap_ambient = CapSet::EMPTY;
    }
    if is_root(old.euid) && !is_root(new.euid) {
        new.cap_effective = CapSet::EMPTY;
    } else if !is_root(old.euid) && is_root(new.euid) {
        new.cap_effective = new.cap_permitted;
    }
}

/// The capabilities that only concern files (`CAP_FS_SET`).
const FILE_CAPS: CapSet = CapSet(1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9 | 1 << 27 | 1 << 32);

/// What `setfsuid` does to capabilities.
pub fn fix_file_capabilities(old: &Credentials, new: &mut Credentials) {
    if old.securebits & vfs::cred::securebits::NO_SETUID_FIXUP != 0 {
        return;
    }
    let root = new.user_ns.make_uid(0);
    if Some(old.fsuid) == root && Some(new.fsuid) != root {
        new.cap_effective = CapSet(new.cap_effective.0 & !FILE_CAPS.0);
    } else if Some(old.fsuid) != root && Some(new.fsuid) == root {
        new.cap_effective = CapSet(new.cap_effective.0 | new.cap_permitted.0 & FILE_CAPS.0);
    }
}

/// `EPERM` as a value, for the many checks that end in it.
pub fn permit(allowed: bool) -> Result<()> {
    if allowed { Ok(()) } else { Err(Errno::EPERM) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::creds::{Gid, Uid};

    #[test]
    fn leaving_root_drops_everything() {
        let old = Credentials::root();
        let mut new = old.clone();
        (new.uid, new.euid, new.suid) = (Uid(1000), Uid(1000), Uid(1000));
        fix_capabilities(&old, &mut new);
        assert_eq!((new.cap_permitted, new.cap_effective), (CapSet::EMPTY, CapSet::EMPTY));
    }

    #[test]
    fn changing_only_the_effective_id_keeps_permitted() {
        let old = Credentials::root();
        let mut new = old.clone();
        new.euid = Uid(1000);
        fix_capabilities(&old, &mut new);
        assert_eq!((new.cap_permitted, new.cap_effective), (CapSet::FULL, CapSet::EMPTY));
        let back = new.clone();
        new.euid = Uid(0);
        fix_capabilities(&back, &mut new);
        assert_eq!(new.cap_effective, CapSet::FULL);
    }

    #[test]
    fn keepcaps_and_ordinary_users() {
        let mut old = Credentials::root();
        old.securebits = vfs::cred::securebits::KEEP_CAPS;
        let mut new = old.clone();
        (new.uid, new.euid, new.suid) = (Uid(1), Uid(1), Uid(1));
        fix_capabilities(&old, &mut new);
        assert_eq!((new.cap_permitted, new.cap_effective), (CapSet::FULL, CapSet::EMPTY));
        let user = Credentials::user(Uid(5), Gid(5), &[]);
        let mut same = user.clone();
        same.euid = Uid(6);
        fix_capabilities(&user, &mut same);
        assert_eq!(same.cap_permitted, CapSet::EMPTY);
    }
}
