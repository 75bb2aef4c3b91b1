//! seccomp(2), and `PR_SET_SECCOMP` of prctl(2).

use super::action::ACTIONS;
use super::install::{set_filter, set_strict};
use crate::syscall::Syscall;
use abi::seccomp::{SeccompData, SeccompNotif, SeccompNotifResp, SeccompNotifSizes, c};
use abi::{Errno, Result};
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[SECCOMP];

#[macros::syscall(seccomp)]
fn sys_seccomp(operation: u32, flags: u32, args: usize) -> Result<isize> {
    match operation {
        c::SECCOMP_SET_MODE_STRICT if flags == 0 && args == 0 => set_strict(),
        c::SECCOMP_SET_MODE_FILTER => set_filter(flags, args),
        c::SECCOMP_GET_ACTION_AVAIL if flags == 0 => {
            let action = UserPtr::<u32>::new(args).read()?;
            let known = ACTIONS.iter().any(|(known, _)| *known == action);
            if known { Ok(0) } else { Err(Errno::EOPNOTSUPP) }
        }
        c::SECCOMP_GET_NOTIF_SIZES if flags == 0 => {
            let sizes = SeccompNotifSizes {
                notif: size_of::<SeccompNotif>() as u16,
                resp: size_of::<SeccompNotifResp>() as u16,
                data: size_of::<SeccompData>() as u16,
            };
            UserPtr::new(args).write(&sizes)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `PR_SET_SECCOMP`.
///
/// # Errors
/// `EINVAL` for a mode that is none, and those of seccomp(2).
pub fn prctl_set(mode: usize, args: usize) -> Result<isize> {
    match mode {
        m if m == usize::from(c::SECCOMP_MODE_STRICT) => set_strict(),
        m if m == usize::from(c::SECCOMP_MODE_FILTER) => set_filter(0, args),
        _ => Err(Errno::EINVAL),
    }
}
