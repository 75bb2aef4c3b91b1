//! Who gets the signals of a file: `F_SETOWN`, `F_SETOWN_EX`, `F_SETSIG` of `fcntl(2)`.

use alloc::sync::Arc;

use abi::fs::FOwnerEx;
use abi::{Errno, Result, raw};
use mm::user::UserPtr;
use vfs::fasync::FileOwner;
use vfs::file::File;

use crate::process::{Pid, current};

// `asm-generic/sockios.h`.
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;
const FIOGETOWN: u32 = 0x8903;
const SIOCGPGRP: u32 = 0x8904;

/// Shows real and effective user of who set the owner; for checkpoints.
pub const F_GETOWNER_UIDS: u32 = 17;

/// The commands of this file.
pub fn fcntl(file: &Arc<File>, cmd: u32, arg: usize) -> Result<isize> {
    let now = || file.owner().unwrap_or_default();
    match cmd {
        raw::F_GETOWN => {
            let owner = now();
            let number = number(&owner) as isize;
            return Ok(if owner.kind == raw::F_OWNER_PGRP { -number } else { number });
        }
        // A positive number is a process, a negative one a group.
        raw::F_SETOWN => match arg as i32 {
            i32::MIN => return Err(Errno::EINVAL),
            pid @ 0.. => set(file, raw::F_OWNER_PID, pid)?,
            group => set(file, raw::F_OWNER_PGRP, -group)?,
        },
        raw::F_GETOWN_EX => {
            let owner = now();
            let shown = FOwnerEx { type_: owner.kind as i32, pid: number(&owner) };
            UserPtr::<FOwnerEx>::new(arg).write(&shown)?;
        }
        raw::F_SETOWN_EX => {
            let wanted = UserPtr::<FOwnerEx>::new(arg).read()?;
            set(file, wanted.type_ as u32, wanted.pid)?;
        }
        raw::F_GETSIG => return Ok(now().signal as isize),
        raw::F_SETSIG => {
            let signal = arg as i32;
            if !(0..=64).contains(&signal) {
                return Err(Errno::EINVAL);
            }
            file.owner_cell()?.update(|owner| owner.signal = signal);
        }
        F_GETOWNER_UIDS => {
            let owner = now();
            let ids = current().with_cred(|cred| {
                [owner.uid, owner.euid].map(|uid| cred.user_ns.from_uid(abi::creds::Uid(uid)))
            });
            UserPtr::<[u32; 2]>::new(arg).write(&ids)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// The requests of `ioctl(2)` that sockets have for the same (`socket(7)`); `None` for another.
pub fn ioctl(file: &Arc<File>, cmd: u32, arg: usize) -> Option<Result<isize>> {
    match cmd {
        FIOSETOWN | SIOCSPGRP => {
            let pid = UserPtr::<i32>::new(arg).read();
            Some(pid.and_then(|pid| fcntl(file, raw::F_SETOWN, pid as usize)))
        }
        FIOGETOWN | SIOCGPGRP => {
            let pid = fcntl(file, raw::F_GETOWN, 0);
            Some(pid.and_then(|pid| UserPtr::<i32>::new(arg).write(&(pid as i32))).map(|()| 0))
        }
        _ => None,
    }
}

/// The owner's number in the caller's namespace; 0 if it is none, gone or not visible.
fn number(owner: &FileOwner) -> i32 {
    let Some(pid) = owner.target.clone().and_then(|target| target.downcast::<Pid>().ok()) else { return 0 };
    let exists = match owner.kind {
        raw::F_OWNER_TID => pid.task().is_some(),
        raw::F_OWNER_PGRP => !pid.group().is_empty(),
        _ => pid.process().is_some(),
    };
    if exists { pid.nr_in(&current().pid_ns()) } else { 0 }
}

fn set(file: &Arc<File>, kind: u32, pid: i32) -> Result<()> {
    if !matches!(kind, raw::F_OWNER_TID | raw::F_OWNER_PID | raw::F_OWNER_PGRP) {
        return Err(Errno::EINVAL);
    }
    let target = match pid {
        0 => None,
        _ => Some(current().pid_ns().find(pid).ok_or(Errno::ESRCH)?),
    };
    assign(file, kind, target)
}

/// Makes the calling process the owner, if there is none: leases and `F_NOTIFY` do so.
///
/// # Errors
/// `ENOMEM`.
pub fn assign_if_none(file: &Arc<File>) -> Result<()> {
    if file.owner().is_none_or(|owner| owner.target.is_none()) {
        assign(file, raw::F_OWNER_PID, Some(current().process.pid.clone()))?;
    }
    Ok(())
}

/// Makes `target` the owner, on behalf of the caller.
///
/// # Errors
/// `ENOMEM`.
pub fn assign(file: &Arc<File>, kind: u32, target: Option<Arc<Pid>>) -> Result<()> {
    let (uid, euid) = current().with_cred(|cred| (cred.uid.0, cred.euid.0));
    file.owner_cell()?.update(|owner| {
        owner.kind = kind;
        owner.target = target.map(|pid| pid as Arc<dyn core::any::Any + Send + Sync>);
        owner.uid = uid;
        owner.euid = euid;
    });
    Ok(())
}
