//! The system calls about a process's own signals: sigaction(2), sigprocmask(2), sigaltstack(2), sigpending(2),
//! sigreturn(2).

use super::action::{SIG_DFL, SIG_IGN};
use super::deliver::{self, set_blocked};
use super::send::flush_all;
use super::set::{SigSet, Signal};
use crate::process::thread::AltStack;
use crate::process::{CurrentThread, current};
use crate::syscall::Syscall;
use abi::signal::{Sigaction, StackT};
use abi::{Errno, Result, raw};
use arch::trap::TrapFrame;
use mm::user::UserPtr;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] =
    &[RT_SIGACTION, RT_SIGPROCMASK, RT_SIGPENDING, RT_SIGRETURN, SIGALTSTACK, RESTART_SYSCALL];

/// The size that every call passes for a signal set.
const SET_SIZE: usize = 8;

/// Checks the size argument of the `rt_` calls.
///
/// # Errors
/// `EINVAL` unless it is that of the kernel's set.
pub fn check_set_size(size: usize) -> Result<()> {
    if size == SET_SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The `SA_*` flags the kernel knows; others are cleared, so that programs can probe (`SA_UNSUPPORTED`).
const KNOWN_FLAGS: u64 = (raw::SA_NOCLDSTOP
    | raw::SA_NOCLDWAIT
    | raw::SA_SIGINFO
    | raw::SA_ONSTACK
    | raw::SA_RESTART
    | raw::SA_NODEFER
    | raw::SA_RESETHAND
    | raw::SA_EXPOSE_TAGBITS
    | SA_RESTORER) as u64;

const SA_RESTORER: u32 = 0x0400_0000;

#[macros::syscall(rt_sigaction)]
fn sys_rt_sigaction(
    signum: i32,
    act: UserPtr<Sigaction>,
    oldact: UserPtr<Sigaction>,
    size: usize,
) -> Result<()> {
    check_set_size(size)?;
    let new = act.read_opt()?;
    let signal = Signal::from_user(signum)?;
    if new.is_some() && SigSet::UNBLOCKABLE.has(signal) {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let old = {
        let mut state = me.process.sig.lock();
        match new {
            None => state.sighand.get(signal),
            Some(mut action) => {
                action.flags &= KNOWN_FLAGS;
                action.mask = SigSet(action.mask).blockable().0;
                let old = state.sighand.set(signal, action);
                // POSIX: a pending signal that becomes ignored is discarded.
                let ignored = action.handler == SIG_IGN
                    || action.handler == SIG_DFL && SigSet::DEFAULT_IGNORED.has(signal);
                if ignored {
                    flush_all(&mut state, signal.bit());
                }
                old
            }
        }
    };
    oldact.write_opt(&old)
}

#[macros::syscall(rt_sigprocmask)]
fn sys_rt_sigprocmask(how: i32, set: UserPtr<u64>, oldset: UserPtr<u64>, size: usize) -> Result<()> {
    check_set_size(size)?;
    let me = current();
    let old = me.blocked();
    if let Some(new) = set.read_opt()? {
        let new = SigSet(new).blockable();
        let mask = match how as u32 {
            raw::SIG_BLOCK => old.union(new),
            raw::SIG_UNBLOCK => old.minus(new),
            raw::SIG_SETMASK => new,
            _ => return Err(Errno::EINVAL),
        };
        set_blocked(&me, mask);
    }
    oldset.write_opt(&old.0)
}

#[macros::syscall(rt_sigpending)]
fn sys_rt_sigpending(set: UserPtr<u8>, size: usize) -> Result<()> {
    if size > SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let me = current();
    let pending = {
        let state = me.process.sig.lock();
        let own = me.signals.pending.lock().set();
        own.union(state.shared.set()).and(me.blocked())
    };
    let bytes = pending.0.to_ne_bytes();
    set.slice(size).copy_from(bytes.get(..size).unwrap_or_default())
}

#[macros::syscall(rt_sigreturn)]
fn sys_rt_sigreturn(frame: &mut TrapFrame) -> Result<isize> {
    Ok(deliver::sigreturn(frame))
}

#[macros::syscall(sigaltstack)]
fn sys_sigaltstack(frame: &mut TrapFrame, ss: UserPtr<StackT>, old_ss: UserPtr<StackT>) -> Result<()> {
    let me = current();
    let new = ss.read_opt()?;
    let old = shown(&me.signals.altstack.lock(), frame.sp());
    if let Some(new) = new {
        set_altstack(
            &me,
            frame.sp(),
            &arch::signal::AltStack { sp: new.sp, flags: new.flags, size: new.size },
        )?;
    }
    old_ss.write_opt(&old)
}

fn shown(alt: &AltStack, sp: usize) -> StackT {
    let state = if alt.size == 0 {
        raw::SS_DISABLE as i32
    } else if alt.contains(sp) {
        raw::SS_ONSTACK as i32
    } else {
        0
    };
    StackT { sp: alt.sp, flags: state | alt.flags, pad: 0, size: alt.size }
}

/// The smallest alternate stack: it must hold a frame.
const MINSIGSTKSZ: usize = 2048;

/// Sets the alternate stack; `sp` is where the user's stack pointer is.
///
/// # Errors
/// `EPERM` while it is in use, `EINVAL` for bad flags, `ENOMEM` if it is too small.
pub fn set_altstack(me: &CurrentThread, sp: usize, new: &arch::signal::AltStack) -> Result<()> {
    let mut alt = me.signals.altstack.lock();
    if alt.contains(sp) {
        return Err(Errno::EPERM);
    }
    let auto = raw::SS_AUTODISARM as i32;
    let mode = new.flags & !auto;
    if mode == raw::SS_DISABLE as i32 {
        *alt = AltStack { sp: 0, size: 0, flags: new.flags & auto };
    } else if mode == 0 || mode == raw::SS_ONSTACK as i32 {
        if new.size < MINSIGSTKSZ {
            return Err(Errno::ENOMEM);
        }
        *alt = AltStack { sp: new.sp, size: new.size, flags: new.flags & auto };
    } else {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

#[macros::syscall(restart_syscall)]
fn sys_restart_syscall() -> Result<isize> {
    crate::misc::restart::resume()
}
