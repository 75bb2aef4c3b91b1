//! prctl(2): settings of the running thread and its process.

use super::commit::{commit, permit};
use crate::process::thread::flags;
use crate::process::{CurrentThread, current};
use crate::signal::Signal;
use crate::syscall::Syscall;
use abi::cap::{CAP_LAST_CAP, Cap, CapSet};
use abi::raw_sys::prctl as pr;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use mm::AddressSpace;
use mm::fallible::{TryVec, try_to_vec};
use mm::space::mm_flags;
use mm::user::{UserPtr, UserSlice};
use vfs::cred::Credentials;
use vfs::cred::securebits;

/// The calls of this file.
pub const SYSCALLS: &[Syscall] = &[PRCTL];

/// As Linux without `CONFIG_SCHED_CORE`, `CONFIG_KSM` and `CONFIG_PERF_EVENTS`: what is about them is `EINVAL`.
#[macros::syscall(prctl)]
fn sys_prctl(option: i32, arg2: usize, arg3: usize, arg4: usize, arg5: usize) -> Result<isize> {
    let me = current();
    let rest_zero = arg3 | arg4 | arg5 == 0;
    let all_zero = arg2 == 0 && rest_zero;
    match option as u32 {
        pr::PR_SET_PDEATHSIG => {
            if arg2 != 0 {
                Signal::from_user(i32::try_from(arg2).map_err(|_| Errno::EINVAL)?)?;
            }
            me.pdeath_signal.store(arg2 as i32, Ordering::Relaxed);
            Ok(0)
        }
        pr::PR_GET_PDEATHSIG => {
            UserPtr::<i32>::new(arg2).write(&me.pdeath_signal.load(Ordering::Relaxed))?;
            Ok(0)
        }
        pr::PR_GET_DUMPABLE => Ok(me.process.dumpable.load(Ordering::Relaxed).into()),
        pr::PR_SET_DUMPABLE => {
            // 2 ("by root only") can be set by the sysctl alone.
            let value = u8::try_from(arg2).ok().filter(|v| *v <= 1).ok_or(Errno::EINVAL)?;
            me.process.dumpable.store(value, Ordering::Relaxed);
            Ok(0)
        }
        pr::PR_SET_NAME => set_name(&me, arg2),
        pr::PR_GET_NAME => {
            UserSlice::<u8>::new(arg2, 16).copy_from(me.task().comm().padded())?;
            Ok(0)
        }
        pr::PR_GET_KEEPCAPS => Ok(me.with_cred(|c| c.securebits & securebits::KEEP_CAPS != 0).into()),
        pr::PR_SET_KEEPCAPS => set_keepcaps(&me, arg2),
        pr::PR_GET_SECUREBITS => Ok(me.with_cred(|c| c.securebits) as isize),
        pr::PR_SET_SECUREBITS => set_securebits(&me, arg2),
        pr::PR_CAPBSET_READ => {
            let cap = check_cap(arg2)?;
            Ok(me.with_cred(|c| c.cap_bset.0 >> cap & 1) as isize)
        }
        pr::PR_CAPBSET_DROP => drop_bound(&me, arg2),
        pr::PR_CAP_AMBIENT => ambient(&me, arg2, arg3, arg4 | arg5 == 0),
        pr::PR_SET_NO_NEW_PRIVS if arg2 == 1 && rest_zero => {
            me.set(flags::NO_NEW_PRIVS);
            Ok(0)
        }
        pr::PR_GET_NO_NEW_PRIVS if all_zero => Ok(me.has(flags::NO_NEW_PRIVS).into()),
        pr::PR_SET_CHILD_SUBREAPER => {
            set_subreaper(&me, arg2 != 0)?;
            Ok(0)
        }
        pr::PR_GET_CHILD_SUBREAPER => {
            let value = i32::from(me.process.is_subreaper.load(Ordering::Relaxed));
            UserPtr::<i32>::new(arg2).write(&value)?;
            Ok(0)
        }
        pr::PR_SET_TIMERSLACK => {
            let default = me.default_timer_slack_ns.load(Ordering::Relaxed);
            let slack = if arg2 as isize <= 0 { default } else { arg2 as u64 };
            me.timer_slack_ns.store(slack, Ordering::Relaxed);
            Ok(0)
        }
        pr::PR_GET_TIMERSLACK => Ok(me.timer_slack_ns.load(Ordering::Relaxed) as isize),
        pr::PR_GET_TIMING => Ok(0),
        pr::PR_SET_TIMING => {
            if arg2 == 0 {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        pr::PR_SET_THP_DISABLE if rest_zero => {
            if arg2 != 0 {
                me.set(flags::THP_DISABLE)
            } else {
                me.clear(flags::THP_DISABLE)
            }
            Ok(0)
        }
        pr::PR_GET_THP_DISABLE if all_zero => Ok(me.has(flags::THP_DISABLE).into()),
        pr::PR_GET_TID_ADDRESS => {
            UserPtr::<usize>::new(arg2).write(&me.clear_child_tid.load(Ordering::Relaxed))?;
            Ok(0)
        }
        pr::PR_MCE_KILL if arg4 | arg5 == 0 => mce_kill(&me, arg2, arg3),
        pr::PR_MCE_KILL_GET if all_zero => {
            Ok(if me.has(flags::MCE_EARLY) { pr::PR_MCE_KILL_EARLY } else { pr::PR_MCE_KILL_DEFAULT }
                as isize)
        }
        pr::PR_SET_VMA => crate::memory::set_vma_name(arg2, arg3, arg4, arg5).map(|()| 0),
        pr::PR_SET_IO_FLUSHER if rest_zero => {
            permit(me.with_cred(|c| c.capable(Cap::SysResource)))?;
            match arg2 {
                0 => me.clear(flags::IO_FLUSHER),
                1 => me.set(flags::IO_FLUSHER),
                _ => return Err(Errno::EINVAL),
            }
            Ok(0)
        }
        pr::PR_GET_IO_FLUSHER if all_zero => {
            permit(me.with_cred(|c| c.capable(Cap::SysResource)))?;
            Ok(me.has(flags::IO_FLUSHER).into())
        }
        pr::PR_SET_MM => crate::memory::layout::set(arg2, arg3, arg4, arg5).map(|()| 0),
        pr::PR_GET_AUXV if arg4 | arg5 == 0 => {
            crate::memory::auxv::get(&*crate::memory::space()?, arg2, arg3).map(|size| size as isize)
        }
        pr::PR_SET_MDWE if rest_zero => set_mdwe(arg2),
        pr::PR_GET_MDWE if all_zero => Ok(mdwe_of(&*crate::memory::space()?) as isize),
        pr::PR_GET_TSC => {
            let faults = sched::current().with_thread(|thread| thread.tsc_faults());
            let mode = if faults { pr::PR_TSC_SIGSEGV } else { pr::PR_TSC_ENABLE };
            UserPtr::<u32>::new(arg2).write(&mode)?;
            Ok(0)
        }
        pr::PR_SET_TSC => {
            let faults = match u32::try_from(arg2) {
                Ok(pr::PR_TSC_ENABLE) => false,
                Ok(pr::PR_TSC_SIGSEGV) => true,
                _ => return Err(Errno::EINVAL),
            };
            sched::current().with_thread(|thread| thread.set_tsc_faults(faults));
            Ok(0)
        }
        pr::PR_GET_SPECULATION_CTRL if rest_zero => crate::misc::speculation::get(arg2),
        pr::PR_SET_SPECULATION_CTRL if arg4 | arg5 == 0 => crate::misc::speculation::set(arg2, arg3),
        pr::PR_SET_SYSCALL_USER_DISPATCH => {
            crate::syscall::user_dispatch::set(arg2, arg3, arg4, arg5).map(|()| 0)
        }
        pr::PR_GET_SECCOMP => Ok(me.seccomp.mode().into()),
        pr::PR_SET_SECCOMP => crate::seccomp::syscalls::prctl_set(arg2, arg3),
        _ => Err(Errno::EINVAL),
    }
}

fn check_cap(number: usize) -> Result<u32> {
    u32::try_from(number).ok().filter(|n| *n <= CAP_LAST_CAP).ok_or(Errno::EINVAL)
}

fn set_name(me: &CurrentThread, addr: usize) -> Result<isize> {
    let mut name = [0u8; 16];
    let len = arch::uaccess::strncpy_from_user(&mut name[..15], addr).map_err(|_| Errno::EFAULT)?;
    me.task().set_comm(name.get(..len).unwrap_or_default());
    Ok(0)
}

fn update(me: &CurrentThread, change: impl FnOnce(&mut Credentials)) -> Result<()> {
    let mut new = Credentials::clone(&me.cred());
    change(&mut new);
    commit(me, new)
}

/// The lock bit above a securebit.
const fn locked(bit: u32) -> u32 {
    bit << 1
}

fn set_keepcaps(me: &CurrentThread, value: usize) -> Result<isize> {
    let bit = securebits::KEEP_CAPS;
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    permit(me.with_cred(|c| c.securebits & locked(bit) == 0))?;
    update(me, |c| c.securebits = c.securebits & !bit | if value == 1 { bit } else { 0 })?;
    Ok(0)
}

fn set_securebits(me: &CurrentThread, bits: usize) -> Result<isize> {
    let bits = u32::try_from(bits).map_err(|_| Errno::EPERM)?;
    let old = me.cred();
    let (plain, locks) = (0x55, 0xaa);
    let old_locks = old.securebits & locks;
    let fits = bits & !securebits::ALL == 0
        // Locked bits stay, and locks stay locked.
        && (old_locks >> 1 & (old.securebits ^ bits) & plain) == 0
        && old_locks & !bits == 0;
    permit(fits && old.ns_capable(&old.user_ns, Cap::Setpcap))?;
    update(me, |c| c.securebits = bits)?;
    Ok(0)
}

fn drop_bound(me: &CurrentThread, cap: usize) -> Result<isize> {
    let old = me.cred();
    permit(old.ns_capable(&old.user_ns, Cap::Setpcap))?;
    let cap = check_cap(cap)?;
    update(me, |c| c.cap_bset = CapSet(c.cap_bset.0 & !(1 << cap)))?;
    Ok(0)
}

fn ambient(me: &CurrentThread, command: usize, cap: usize, rest_zero: bool) -> Result<isize> {
    if !rest_zero {
        return Err(Errno::EINVAL);
    }
    if command == pr::PR_CAP_AMBIENT_CLEAR_ALL as usize {
        if cap != 0 {
            return Err(Errno::EINVAL);
        }
        update(me, |c| c.cap_ambient = CapSet::EMPTY)?;
        return Ok(0);
    }
    let bit = 1u64 << check_cap(cap)?;
    let old = me.cred();
    match command as u32 {
        pr::PR_CAP_AMBIENT_IS_SET => Ok((old.cap_ambient.0 & bit != 0).into()),
        pr::PR_CAP_AMBIENT_RAISE => {
            permit(
                old.cap_permitted.0 & old.cap_inheritable.0 & bit != 0
                    && old.securebits & securebits::NO_CAP_AMBIENT_RAISE == 0,
            )?;
            update(me, |c| c.cap_ambient.0 |= bit)?;
            Ok(0)
        }
        pr::PR_CAP_AMBIENT_LOWER => {
            update(me, |c| c.cap_ambient.0 &= !bit)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn set_subreaper(me: &CurrentThread, on: bool) -> Result<()> {
    if !on {
        me.process.is_subreaper.store(false, Ordering::Relaxed);
        return Ok(());
    }
    // Every descendant looks for a subreaper from now on.
    let _tree = crate::process::tree::lock();
    let mut todo = try_to_vec(&me.process.children.lock())?;
    while let Some(process) = todo.pop() {
        if !process.has_subreaper.swap(true, Ordering::Relaxed) {
            todo.try_extend_from_slice(&process.children.lock())?;
        }
    }
    me.process.is_subreaper.store(true, Ordering::Relaxed);
    Ok(())
}

const MDWE_BITS: u32 = pr::PR_MDWE_REFUSE_EXEC_GAIN | pr::PR_MDWE_NO_INHERIT;

/// `PR_SET_MDWE`: memory that can be written is not executed from now on. There is no way back.
fn set_mdwe(bits: usize) -> Result<isize> {
    let bits = u32::try_from(bits).ok().filter(|bits| bits & !MDWE_BITS == 0).ok_or(Errno::EINVAL)?;
    if bits == pr::PR_MDWE_NO_INHERIT {
        return Err(Errno::EINVAL);
    }
    let space = crate::memory::space()?;
    let old = mdwe_of(&space);
    permit(old == 0 || old == bits)?;
    let flag = |bit: u32, flag: u32| if bits & bit != 0 { flag } else { 0 };
    space.add_flags(
        flag(pr::PR_MDWE_REFUSE_EXEC_GAIN, mm_flags::DENY_WRITE_EXEC)
            | flag(pr::PR_MDWE_NO_INHERIT, mm_flags::DENY_NOT_INHERITED),
    );
    Ok(0)
}

fn mdwe_of(space: &AddressSpace) -> u32 {
    let flags = space.flags();
    let bit = |flag: u32, bit: u32| if flags & flag != 0 { bit } else { 0 };
    bit(mm_flags::DENY_WRITE_EXEC, pr::PR_MDWE_REFUSE_EXEC_GAIN)
        | bit(mm_flags::DENY_NOT_INHERITED, pr::PR_MDWE_NO_INHERIT)
}

fn mce_kill(me: &CurrentThread, command: usize, value: usize) -> Result<isize> {
    match (command as u32, value as u32) {
        (pr::PR_MCE_KILL_CLEAR, 0)
        | (pr::PR_MCE_KILL_SET, pr::PR_MCE_KILL_DEFAULT | pr::PR_MCE_KILL_LATE) => {
            me.clear(flags::MCE_EARLY);
        }
        (pr::PR_MCE_KILL_SET, pr::PR_MCE_KILL_EARLY) => me.set(flags::MCE_EARLY),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
