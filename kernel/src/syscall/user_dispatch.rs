//! `PR_SET_SYSCALL_USER_DISPATCH`: system calls from outside a range of code become `SIGSYS`, as long as a byte of the
//! program says so. It is how a program emulates another system's calls; the calls that its own code makes go through.
//!
//! PR_SET_SYSCALL_USER_DISPATCH(2const). A child does not inherit it, and exec ends it.

use crate::process::current;
use crate::signal::force::{self, Mode};
use crate::signal::{Siginfo, Signal};
use abi::raw_sys::prctl as pr;
use abi::{Errno, Result};
use arch::thread::ThreadFlags;
use arch::trap::TrapFrame;
use mm::user::UserPtr;

/// The selector lets calls through.
const ALLOW: u8 = 0;
/// It stops them.
const BLOCK: u8 = 1;
/// `si_code`
const SYS_USER_DISPATCH: i32 = 2;

/// What a thread chose.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserDispatch {
    offset: usize,
    len: usize,
    /// Where the selector is; 0: all calls are stopped.
    selector: usize,
}

/// The call.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn set(mode: usize, offset: usize, len: usize, selector: usize) -> Result<()> {
    if !arch::uapi::HAS_USER_DISPATCH {
        return Err(Errno::EINVAL);
    }
    let on = match u32::try_from(mode).map_err(|_| Errno::EINVAL)? {
        pr::PR_SYS_DISPATCH_OFF if offset | len | selector != 0 => return Err(Errno::EINVAL),
        pr::PR_SYS_DISPATCH_OFF => false,
        pr::PR_SYS_DISPATCH_ON if offset != 0 && offset.wrapping_add(len) <= offset => {
            return Err(Errno::EINVAL);
        }
        pr::PR_SYS_DISPATCH_ON => true,
        _ => return Err(Errno::EINVAL),
    };
    if selector >= arch::layout::TASK_SIZE {
        return Err(Errno::EFAULT);
    }
    *current().user_dispatch.lock() = UserDispatch { offset, len, selector };
    let flags = arch::thread::current_ref().flags();
    if on {
        flags.set(ThreadFlags::USER_DISPATCH);
    } else {
        flags.clear(ThreadFlags::USER_DISPATCH);
    }
    Ok(())
}

/// Another program: calls go through again.
pub fn exec() {
    arch::thread::current_ref().flags().clear(ThreadFlags::USER_DISPATCH);
}

/// Before a call of a thread that chose it; whether the call is made.
pub(super) fn enter(frame: &mut TrapFrame) -> bool {
    let UserDispatch { offset, len, selector } = *current().user_dispatch.lock();
    if frame.ip().wrapping_sub(offset) < len {
        return true;
    }
    if selector != 0 {
        match UserPtr::<u8>::new(selector).read() {
            Ok(ALLOW) => return true,
            Ok(BLOCK) => {}
            Ok(_) => {
                force::fatal(Signal::SIGSYS);
                return false;
            }
            Err(_) => {
                force::fatal(Signal::SIGSEGV);
                return false;
            }
        }
    }
    let info = Siginfo::from_syscall(
        SYS_USER_DISPATCH,
        frame.ip(),
        frame.syscall_nr() as i32,
        arch::uapi::AUDIT_ARCH,
    );
    // The handler sees the call as it was made.
    frame.rollback_syscall();
    force::bad_syscall(info, Mode::Catchable);
    false
}
