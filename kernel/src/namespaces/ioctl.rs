//! Requests on the descriptor of a namespace: ioctl_ns(2). Those about mounts are in [`crate::fs::statmount`].

use super::Namespace;
use crate::fs::context::install;
use crate::fs::statmount::mount_namespace_request;
use crate::process::current;
use abi::{Errno, Result};
use mm::user::UserPtr;

/// A descriptor of the user namespace that owns it.
const NS_GET_USERNS: u32 = 0xb701;
/// A descriptor of the namespace around it.
const NS_GET_PARENT: u32 = 0xb702;
/// Its kind, as `CLONE_NEW*`.
const NS_GET_NSTYPE: u32 = 0xb703;
/// The user id that made a user namespace.
const NS_GET_OWNER_UID: u32 = 0xb704;

/// Answers a request.
///
/// # Errors
/// `ENOTTY` for an unknown one; `EPERM`: the namespace asked for is not around or below the caller's; `EINVAL`: this kind has no
/// such thing.
pub(super) fn request(ns: &Namespace, cmd: u32, arg: usize) -> Result<isize> {
    match cmd {
        NS_GET_USERNS => open(owner(ns)?),
        NS_GET_PARENT => open(parent(ns)?),
        NS_GET_NSTYPE => Ok(ns.flag() as isize),
        NS_GET_OWNER_UID => {
            let Namespace::User(user) = ns else { return Err(Errno::EINVAL) };
            let uid = current().with_cred(|cred| cred.user_ns.from_uid(user.owner));
            UserPtr::<u32>::new(arg).write(&uid)?;
            Ok(0)
        }
        _ => mount_namespace_request(ns, cmd, arg),
    }
}

fn open(ns: Namespace) -> Result<isize> {
    install(crate::procfs::open_namespace(ns)?, true).map(|fd| fd.raw() as isize)
}

/// Only what is the caller's own or below it.
fn owner(ns: &Namespace) -> Result<Namespace> {
    let owner = ns.owner().ok_or(Errno::EPERM)?;
    let own = current().with_cred(|cred| cred.user_ns.clone());
    if owner.is_inside(&own) { Ok(Namespace::User(owner.clone())) } else { Err(Errno::EPERM) }
}

fn parent(ns: &Namespace) -> Result<Namespace> {
    match ns {
        Namespace::User(_) => owner(ns),
        Namespace::Pid(pid) => {
            let parent = pid.parent().ok_or(Errno::EPERM)?;
            if !parent.is_inside(&current().pid_ns()) {
                return Err(Errno::EPERM);
            }
            Ok(Namespace::Pid(parent.clone()))
        }
        _ => Err(Errno::EINVAL),
    }
}
