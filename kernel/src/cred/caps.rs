//! Capabilities: capget(2), capset(2).

use super::commit::{commit, permit};
use crate::process::{Thread, current};
use crate::syscall::Syscall;
use abi::cap::{Cap, CapData, CapHeader, CapSet};
use abi::{Errno, Result};
use mm::user::UserPtr;
use vfs::cred::Credentials;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[CAPGET, CAPSET];

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// Reads the header and says how many words each set has. An unknown version is answered with the preferred one.
fn words(header: UserPtr<CapHeader>, asked: bool) -> Result<Option<(CapHeader, usize)>> {
    let mut head = header.read()?;
    match head.version {
        VERSION_1 => Ok(Some((head, 1))),
        VERSION_2 | VERSION_3 => Ok(Some((head, 2))),
        _ => {
            head.version = VERSION_3;
            header.byte_add::<u32>(0).write(&head.version)?;
            if asked { Ok(None) } else { Err(Errno::EINVAL) }
        }
    }
}

fn split(set: CapSet) -> [u32; 2] {
    [set.0 as u32, (set.0 >> 32) as u32]
}

#[macros::syscall(capget)]
fn sys_capget(header: UserPtr<CapHeader>, data: UserPtr<CapData>) -> Result<()> {
    // A null data pointer is a question for the version.
    let Some((head, count)) = words(header, data.is_null())? else { return Ok(()) };
    if head.pid < 0 {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let cred = if head.pid == 0 || head.pid == me.tid() {
        me.cred()
    } else {
        let task = me.pid_ns().task(head.pid).ok_or(Errno::ESRCH)?;
        task.data::<Thread>().ok_or(Errno::ESRCH)?.cred()
    };
    if data.is_null() {
        return Ok(());
    }
    let (e, p, i) = (split(cred.cap_effective), split(cred.cap_permitted), split(cred.cap_inheritable));
    for word in 0..count {
        let value = CapData { effective: e[word], permitted: p[word], inheritable: i[word] };
        data.add(word).write(&value)?;
    }
    Ok(())
}

#[macros::syscall(capset)]
fn sys_capset(header: UserPtr<CapHeader>, data: UserPtr<CapData>) -> Result<()> {
    let Some((head, count)) = words(header, false)? else { return Ok(()) };
    let me = current();
    permit(head.pid == 0 || head.pid == me.tid())?;
    let mut sets = [0u64; 3];
    for word in 0..count {
        let value = data.add(word).read()?;
        for (set, part) in sets.iter_mut().zip([value.effective, value.permitted, value.inheritable]) {
            *set |= u64::from(part) << (32 * word);
        }
    }
    let [effective, permitted, inheritable] = sets.map(|s| CapSet(s & CapSet::FULL.0));
    let old = me.cred();
    let new = checked(&old, effective, permitted, inheritable)?;
    commit(&me, new)?;
    Ok(())
}

/// The rules of capabilities(7), "Programmatically adjusting capability sets".
fn checked(
    old: &Credentials,
    effective: CapSet,
    permitted: CapSet,
    inheritable: CapSet,
) -> Result<Credentials> {
    let setpcap = old.ns_capable(&old.user_ns, Cap::Setpcap);
    let known = CapSet(old.cap_inheritable.0 | old.cap_permitted.0);
    permit(setpcap || known.contains(inheritable))?;
    permit(CapSet(old.cap_inheritable.0 | old.cap_bset.0).contains(inheritable))?;
    permit(old.cap_permitted.contains(permitted))?;
    permit(permitted.contains(effective))?;
    let mut new = old.clone();
    new.cap_effective = effective;
    new.cap_permitted = permitted;
    new.cap_inheritable = inheritable;
    new.cap_ambient = CapSet(old.cap_ambient.0 & permitted.0 & inheritable.0);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_only_shrink() {
        let mut cred = Credentials::root();
        cred.cap_permitted = CapSet(6);
        cred.cap_effective = CapSet(6);
        assert!(checked(&cred, CapSet(2), CapSet(2), CapSet(0)).is_ok());
        assert!(checked(&cred, CapSet(2), CapSet(10), CapSet(0)).is_err());
        assert!(checked(&cred, CapSet(4), CapSet(2), CapSet(0)).is_err());
        // Without CAP_SETPCAP nothing can become inheritable that is not permitted.
        assert!(checked(&cred, CapSet(2), CapSet(2), CapSet(8)).is_err());
        assert!(checked(&cred, CapSet(2), CapSet(2), CapSet(4)).is_ok());
    }
}
